"""Certificate authorities and certificates for both sides, made anew for each run."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa

from tests.interop.peer import secret_file
from tests.interop.swan import ESPUDP_ID, SWAN_ID
from tests.unit.crypto.certs import Issuer, Key, crl, root

PEM = serialization.Encoding.PEM
DAY = timedelta(days=1)

KINDS = ("rsa", "p256", "p384", "p521", "ed25519", "ed448")


def new_key(kind: str) -> Key:
    match kind:
        case "rsa":
            return rsa.generate_private_key(65537, 2048)
        case "ed25519":
            return ed25519.Ed25519PrivateKey.generate()
        case "ed448":
            return ed448.Ed448PrivateKey.generate()
    curves = {"p256": ec.SECP256R1(), "p384": ec.SECP384R1(), "p521": ec.SECP521R1()}
    return ec.generate_private_key(curves[kind])


def key_pem(key: Key) -> str:
    pkcs8 = serialization.PrivateFormat.PKCS8
    return key.private_bytes(PEM, pkcs8, serialization.NoEncryption()).decode()


def public_pem(key: Key) -> str:
    info = serialization.PublicFormat.SubjectPublicKeyInfo
    return key.public_key().public_bytes(PEM, info).decode()


def pem(*issued: Issuer) -> str:
    return "".join(one.certificate.public_bytes(PEM).decode() for one in issued)


@dataclass(frozen=True)
class Authority:
    """A root, authorities below it (the last of which issues), and a certificate for each side."""

    root: Issuer
    between: tuple[Issuer, ...]
    espudp: Issuer
    swan: Issuer

    def crl(self, *revoked: Issuer) -> str:
        """What the issuing authority has revoked."""
        now = datetime.now(UTC)
        issuer = (self.root, *self.between)[-1]
        listed = crl(issuer, *revoked, begin=now - DAY, end=now + DAY)
        return x509.load_der_x509_crl(listed).public_bytes(PEM).decode()

    def arguments(self, folder: Path) -> list[str]:
        """`--cert`, `--key` and `--ca` for espudp, in files of a folder."""
        folder.mkdir(exist_ok=True)
        (folder / "cert.pem").write_text(pem(self.espudp, *reversed(self.between)))
        (folder / "ca.pem").write_text(pem(self.root))
        secret_file(folder / "key.pem", key_pem(self.espudp.key))
        files = {"--cert": "cert.pem", "--key": "key.pem", "--ca": "ca.pem"}
        return [word for option, name in files.items() for word in (option, str(folder / name))]


def authority(
    kind: str = "p256",
    *,
    between: int = 0,
    units: int = 0,
    expired: bool = False,
    espudp: Sequence[str] = (f"dns:{ESPUDP_ID}",),
    swan: Sequence[str] = (f"dns:{SWAN_ID}",),
) -> Authority:
    """All of it with keys of one kind; the names are subjectAltNames, see `certs.general_name`.

    The authorities between the root and the end entities have as many organizational units in their names
    as they are told, each of 64 octets. Told so, strongSwan's certificate has expired.
    """
    now = datetime.now(UTC)
    valid = {"begin": now - DAY, "end": now + 30 * DAY}
    top = root(f"CN=Root of {kind}", new_key(kind), **valid)
    below: list[Issuer] = []
    for number in range(between):
        issuer = (top, *below)[-1]
        unit = "".join(f", OU={unit:064}" for unit in range(units))
        below.append(issuer.ca(f"CN=Authority {number}{unit}", key=new_key(kind), **valid))
    last = (top, *below)[-1]
    ours = last.issue(f"C=CH, O=Interop {kind}, CN={ESPUDP_ID}", *espudp, key=new_key(kind), **valid)
    if expired:
        valid = {"begin": now - 30 * DAY, "end": now - DAY}
    theirs = last.issue(f"C=CH, O=Interop {kind}, CN={SWAN_ID}", *swan, key=new_key(kind), **valid)
    return Authority(top, tuple(below), ours, theirs)


@cache
def of_kind(kind: str) -> Authority:
    """The same one each time."""
    return authority(kind)
