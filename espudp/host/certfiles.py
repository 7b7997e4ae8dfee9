"""Files with certificates, keys and CRLs, and what becomes of them: something to prove, someone to trust."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from espudp.crypto import bundles
from espudp.crypto.revocation import Revocation
from espudp.crypto.signatures import PrivateKey, PublicKey, load_private_key
from espudp.crypto.x509 import Trust
from espudp.errors import ConfigError
from espudp.host import keyfiles

MAX_CERTIFICATE_FILE = 4 << 20
MAX_CRL_FILE = 64 << 20

# What a directory given as --ca is searched for.
_SUFFIXES = frozenset({".pem", ".crt", ".cer", ".der", ".p7b"})


@dataclass(frozen=True, slots=True)
class OwnCertificate:
    """What a side proves itself with by certificate."""

    private_key: PrivateKey
    certificates: tuple[bytes, ...]
    """DER, its own first, then those towards the CA."""


def load_own(cert: Path, key: Path | None = None, password_file: Path | None = None) -> OwnCertificate:
    """The certificate file with its key: PEM, DER or PKCS#7 and a key file beside it, or PKCS#12 with both.

    A key in the certificate's own PEM file is found too. Raises ConfigError.
    """
    octets = _read(cert, MAX_CERTIFICATE_FILE, what="certificate")
    password = keyfiles.read_secret(password_file, what="password file").strip() if password_file else None
    if bundles.is_pkcs12(octets):
        keyfiles.read_secret(cert, what="PKCS#12 file")  # has a key in it: nobody else's to read
        with _about(cert):
            bundle = bundles.parse_pkcs12(octets, password)
    else:
        key_octets = keyfiles.read_secret(key or _key_beside(cert, octets), what="key file")
        with _about(key or cert):
            private_key = load_private_key(key_octets, password)
        with _about(cert):
            bundle = bundles.Bundle(private_key, bundles.parse_certificates(octets))
    with _about(cert):
        chain = bundles.own_chain(bundle.private_key, bundle.certificates)
    return OwnCertificate(bundle.private_key, chain)


def load_certificates(paths: Sequence[Path]) -> tuple[bytes, ...]:
    """All certificates of some files, and of the files in some directories, in DER. Raises ConfigError."""
    found = [
        der
        for path in _files(paths)
        for der in _load(path, MAX_CERTIFICATE_FILE, "CA", bundles.parse_certificates)
    ]
    return tuple(dict.fromkeys(found))


def load_crls(paths: Sequence[Path]) -> tuple[bytes, ...]:
    """All CRLs of some files, in DER. Raises ConfigError."""
    return tuple(der for path in paths for der in _load(path, MAX_CRL_FILE, "CRL", bundles.parse_crls))


def load_ocsp_responses(paths: Sequence[Path]) -> tuple[bytes, ...]:
    """OCSP responses in DER, one in each file. Raises ConfigError."""
    what = "OCSP response"
    return tuple(
        der
        for path in paths
        for der in _load(path, MAX_CRL_FILE, what, lambda octets: (bundles.parse_ocsp_response(octets),))
    )


def load_trust(
    ca: Sequence[Path], crl: Sequence[Path] = (), revocation: Revocation = Revocation.IF_GIVEN
) -> Trust:
    """Trust in every certificate of some files. CRLs are read again when they change. Raises ConfigError."""
    return TrustInFiles(load_certificates(ca), tuple(crl), revocation)


class TrustInFiles(Trust):
    """Its CRLs are what is in some files at the time: who is revoked is not let in any more."""

    def __init__(self, anchors: Sequence[bytes], crl_files: tuple[Path, ...], revocation: Revocation) -> None:
        """Raises ConfigError."""
        self._files = crl_files
        self._seen = self._look()
        super().__init__(anchors, crls=load_crls(crl_files), revocation=revocation)

    def verify(
        self,
        chain: Sequence[bytes],
        identity_type: int,
        identity: bytes,
        at: datetime,
        ocsp: Sequence[bytes] = (),
    ) -> PublicKey:
        """As every Trust does it, after a look at the files."""
        self._refresh()
        return super().verify(chain, identity_type, identity, at, ocsp)

    def _refresh(self) -> None:
        seen = self._look()
        if seen == self._seen:
            return
        # Half a file, or none for a moment: then what was known still holds, until its own time is over.
        with suppress(ConfigError):
            self.renew_crls(load_crls(self._files))
            self._seen = seen

    def _look(self) -> tuple[tuple[int, int, int], ...]:
        seen: list[tuple[int, int, int]] = []
        for file in self._files:
            with suppress(OSError):
                status = file.stat()
                seen.append((status.st_ino, status.st_mtime_ns, status.st_size))
        return tuple(seen)


def warnings(own: OwnCertificate | None, trust: Trust | None, at: datetime) -> tuple[str, ...]:
    """What does not hold by the clock here, and will be refused: our own certificates, or CRLs."""
    chain = own.certificates if own else ()
    found = [bundles.trouble_with_time(der, at) for der in chain]
    return (*filter(None, found), *(trust.overdue_crls(at) if trust else ()))


def _key_beside(cert: Path, octets: bytes) -> Path:
    if b"PRIVATE KEY-----" in octets:
        return cert
    raise ConfigError(
        f"there is no private key in {cert}", field="key", remedy="Name the file that has it: --key FILE"
    )


def _files(paths: Sequence[Path]) -> Iterator[Path]:
    for path in paths:
        if not path.is_dir():
            yield path
            continue
        inside = sorted(one for one in path.iterdir() if one.suffix in _SUFFIXES and one.is_file())
        if not inside:
            raise ConfigError(
                f"there is no certificate in the directory {path}",
                field="ca",
                remedy=f"Put it there, in a file named *{', *'.join(sorted(_SUFFIXES))}",
            )
        yield from inside


def _load(
    path: Path, limit: int, what: str, parse: Callable[[bytes], tuple[bytes, ...]]
) -> tuple[bytes, ...]:
    octets = _read(path, limit, what=what)
    with _about(path):
        return parse(octets)


def _read(path: Path, limit: int, *, what: str) -> bytes:
    try:
        with path.open("rb") as file:
            octets = file.read(limit + 1)
    except FileNotFoundError:
        raise ConfigError(
            f"the {what} file {path} does not exist", field=what.lower(), remedy="Check its name."
        ) from None
    except OSError as error:
        raise ConfigError(
            f"the {what} file {path} cannot be read: {error.strerror}",
            field=what.lower(),
            remedy="Run espudp as its owner, or as root.",
        ) from None
    if len(octets) > limit:
        raise ConfigError(
            f"the {what} file {path} has more than {limit >> 20} MB",
            field=what.lower(),
            remedy="Is it the right file?",
        )
    return octets


@contextmanager
def _about(path: Path) -> Iterator[None]:
    """Errors inside say which file they are about."""
    try:
        yield
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}", field=error.field, remedy=error.remedy) from None
