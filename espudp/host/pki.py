"""A small CA in a directory, for those who have none.

    ca.pem  ca.key       the CA itself
    crl.pem              what it has revoked
    NAME.pem  NAME.key   what goes to a host or a person; NAME.p12 for a phone
    issued/SERIAL.pem    every certificate that it ever made

What is known of a certificate is in it and in the CRL; there is no other list that could differ from them.
"""

import base64
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum
from pathlib import Path
from typing import Self

from espudp.crypto import bundles, dn, pki
from espudp.crypto.certificate import CertificateError
from espudp.crypto.signatures import load_private_key
from espudp.errors import ConfigError
from espudp.host import keyfiles
from espudp.host.certfiles import load_certificates, load_crls
from espudp.ike.identity import Identity
from espudp.wire.ikev2.constants import IdType

CA_DAYS = 3650
# What Apple's systems take at most of a server's certificate.
ISSUE_DAYS = 825
OCSP_DAYS = 7
# The CRL is made anew long before it ends, whenever the CA is used.
CRL_DAYS = 365

# Clocks that are behind by less take a new certificate at once.
_LEEWAY = timedelta(hours=1)

_PASSWORD_OCTETS = 15
ISSUED = "issued"
_TAKEN = frozenset({"ca", "crl", ISSUED})
_UNFIT_FOR_FILES = re.compile(r"[^A-Za-z0-9@._:-]+")


def default_directory() -> Path:
    """/etc/espudp/pki, or in $ESPUDP_CONFIG_DIR."""
    return Path(os.environ.get(keyfiles.CONFIG_VARIABLE, keyfiles.CONFIG_DIRECTORY)) / "pki"


def facts_in(der: bytes) -> pki.Facts:
    """What a certificate says. Raises ConfigError if it cannot be read."""
    try:
        return pki.facts_of(der)
    except CertificateError as error:
        raise ConfigError(str(error), field="file", remedy=error.remedy) from None


class State(Enum):
    """Of a certificate."""

    VALID = "valid"
    EXPIRED = "expired"
    REVOKED = "revoked"


@dataclass(frozen=True, slots=True)
class Record:
    """A certificate that the CA has made."""

    facts: pki.Facts
    state: State

    @property
    def serial(self) -> str:
        """In hexadecimal, as people name it."""
        return f"{self.facts.serial:x}"

    def is_called(self, name: str) -> bool:
        """Whether a person means this one: by a name in it, by its common name, or by its serial number."""
        called = {self.serial, self.facts.subject, *self.facts.names}
        return name.lower() in {one.lower() for one in called} or f"CN={name}" == self.facts.subject


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What kind of certificate is wanted."""

    san: Sequence[str] = ()
    """Names beside the first: hosts, e-mail addresses, IP addresses."""

    key_type: str = pki.DEFAULT_KEY
    days: int = ISSUE_DAYS
    renew: bool = False
    """Even if there is one that still holds."""


@dataclass(frozen=True, slots=True)
class Issued:
    """A new certificate, and where it is."""

    record: Record
    certificate: Path
    key: Path


class Authority:
    """The CA in a directory. Its key is read when it signs, and not before."""

    def __init__(self, directory: Path) -> None:
        """Raises ConfigError if there is none."""
        self.directory = directory
        self.certificate_file, self.crl_file = directory / "ca.pem", directory / "crl.pem"
        if not self.certificate_file.exists():
            raise ConfigError(
                f"there is no CA in {directory}", field="dir", remedy="Make one first: espudp pki init"
            )
        self._certificate = load_certificates([self.certificate_file])[0]
        self.facts = facts_in(self._certificate)

    @classmethod
    def make(cls, directory: Path, name: str, key_type: str, days: int, now: datetime) -> Self:
        """A new CA, called by a DN or a common name. Raises ConfigError and HostError."""
        if any((directory / file).exists() for file in ("ca.pem", "ca.key")):
            raise ConfigError(
                f"there is a CA in {directory} already",
                field="dir",
                remedy="Use it (espudp pki issue NAME), or name another directory with --dir.",
            )
        key = pki.new_key(key_type, os.urandom)
        certificate = pki.make_ca(_subject(name), key, _period(now, days), os.urandom)
        keyfiles.write_secret(directory / "ca.key", key.to_pem())
        _write_public(directory / "ca.pem", pki.to_pem(certificate))
        authority = cls(directory)
        authority.write_crl({}, now)
        return authority

    def issue(self, name: str, order: Order, now: datetime) -> Issued:
        """A key and a certificate for a host name, e-mail address, IP address or DN.

        It does not outlive the CA. Raises ConfigError, HostError and CryptoError.
        """
        identities = dict.fromkeys(Identity.parse(text) for text in (name, *order.san))
        names = [(one.type, one.data) for one in identities if one.type != IdType.DER_ASN1_DN]
        stem = self.directory / _file_name(name)
        if not order.renew:
            self._refuse_to_replace(name, now)
        key = pki.new_key(order.key_type, os.urandom)
        period = _period(now, order.days)
        period = pki.Period(period.begin, min(period.end, self.facts.period.end))
        der = pki.issue(self._ca(), _subject(name), names, key, period, os.urandom)
        record = Record(pki.facts_of(der), State.VALID)
        # On record before anybody can have it: what cannot be named cannot be revoked.
        _write_public(self.directory / ISSUED / f"{record.serial}.pem", pki.to_pem(der))
        certificate, key_file = stem.with_name(f"{stem.name}.pem"), stem.with_name(f"{stem.name}.key")
        keyfiles.write_secret(key_file, key.to_pem(), overwrite=True)
        _write_public(certificate, pki.to_pem(der))
        self.keep_crl(now)
        return Issued(record, certificate, key_file)

    def export(self, issued: Issued, password: bytes | None = None) -> tuple[Path, bytes]:
        """The certificate with its key and the CA as PKCS#12, for a phone; where, and the password.

        Without a password a strong one is made. Raises ConfigError and HostError.
        """
        password = password or base64.b32encode(os.urandom(_PASSWORD_OCTETS)).lower()
        own = load_certificates([issued.certificate])
        key = load_private_key(keyfiles.read_secret(issued.key, what="key file"))
        bundle = bundles.Bundle(key, (*own, self._certificate))
        path = issued.certificate.with_suffix(".p12")
        content = bundles.emit_pkcs12(issued.certificate.stem, bundle, password)
        keyfiles.write_secret(path, content, overwrite=True)
        return path, password

    def revoke(self, name: str, now: datetime) -> list[Record]:
        """Put every valid certificate of a name, or the one of a serial number, on the CRL.

        Raises ConfigError if there is none.
        """
        called = [record for record in self.records(now) if record.is_called(name)]
        valid = [record for record in called if record.state is State.VALID]
        if not valid:
            states = ", ".join(f"{record.serial} is {record.state.value}" for record in called)
            raise ConfigError(
                f"there is no valid certificate called '{name}'" + (f": {states}" if states else ""),
                field="name",
                remedy="See what there is: espudp pki show",
            )
        self.write_crl(self.revoked() | {record.facts.serial: now for record in valid}, now)
        return valid

    def answer(self, name: str, days: int, now: datetime) -> list[Path]:
        """An OCSP response for every certificate of a name that has not expired, beside the CA's own files.

        Raises ConfigError if there is none.
        """
        found = [one for one in self.records(now) if one.is_called(name) and one.state is not State.EXPIRED]
        if not found:
            raise ConfigError(
                f"there is no certificate called '{name}'", field="name", remedy="See all: espudp pki show"
            )
        revoked, ca, files = self.revoked(), self._ca(), []
        for record in found:
            (der,) = load_certificates([self.directory / ISSUED / f"{record.serial}.pem"])
            when = revoked.get(record.facts.serial)
            stem = _file_name(name) if len(found) == 1 else record.serial
            files.append(self.directory / f"{stem}.ocsp")
            _write_public(files[-1], pki.make_ocsp_response(ca, der, when, _period(now, days)))
        return files

    def records(self, now: datetime) -> list[Record]:
        """Every certificate that was made, the latest last. Raises ConfigError."""
        files = sorted((self.directory / ISSUED).glob("*.pem"))
        revoked = self.revoked()
        facts = [facts_in(der) for file in files for der in load_certificates([file])]
        facts.sort(key=lambda one: (one.period.begin, one.serial))
        return [Record(one, _state(one, revoked, now)) for one in facts]

    def revoked(self) -> dict[int, datetime]:
        """The serial numbers that are on the CRL. Raises ConfigError."""
        return pki.read_crl(self._crl()).revoked

    def crl_end(self) -> datetime:
        """Until when the CRL holds. Raises ConfigError."""
        return pki.read_crl(self._crl()).period.end

    def keep_crl(self, now: datetime) -> bool:
        """Make the CRL anew in the second half of its time; whether that was done."""
        facts = pki.read_crl(self._crl())
        if now < facts.period.begin + (facts.period.end - facts.period.begin) / 2:
            return False
        self.write_crl(facts.revoked, now)
        return True

    def write_crl(self, revoked: Mapping[int, datetime], now: datetime) -> None:
        """Raises ConfigError and HostError."""
        number = pki.read_crl(self._crl()).number + 1 if self.crl_file.exists() else 1
        crl = pki.make_crl(self._ca(), revoked, number, _period(now, CRL_DAYS))
        _write_public(self.crl_file, pki.to_pem(crl, "X509 CRL"))

    def _crl(self) -> bytes:
        """A CRL that went missing is not made anew: all that was revoked would be good again."""
        return load_crls([self.crl_file])[0]

    def _ca(self) -> pki.Ca:
        key = load_private_key(keyfiles.read_secret(self.directory / "ca.key", what="key of the CA,"))
        return pki.Ca(self._certificate, key)

    def _refuse_to_replace(self, name: str, now: datetime) -> None:
        for record in self.records(now):
            if record.state is State.VALID and record.is_called(name):
                raise ConfigError(
                    f"there is a certificate for {name} that holds until {record.facts.period.end:%Y-%m-%d}",
                    field="name",
                    remedy=f"Make a new one in its place with --renew; or first: espudp pki revoke {name}",
                )


def _state(facts: pki.Facts, revoked: Mapping[int, datetime], now: datetime) -> State:
    if facts.serial in revoked:
        return State.REVOKED
    return State.EXPIRED if now > facts.period.end else State.VALID


def _subject(name: str) -> bytes:
    return dn.parse(name) if dn.looks_like_name(name) else pki.common_name(name)


def _period(now: datetime, days: int) -> pki.Period:
    return pki.Period(now - _LEEWAY, now + timedelta(days=days))


def _file_name(name: str) -> str:
    fit = _UNFIT_FOR_FILES.sub("_", name.removeprefix("CN=")).lstrip(".")
    if not fit or fit in _TAKEN or "*" in name:
        raise ConfigError(
            f"'{name}' makes no name of a file",
            field="name",
            remedy="Choose another, such as gw.example.org.",
        )
    return fit


def _write_public(path: Path, content: bytes) -> None:
    keyfiles.write_secret(path, content, overwrite=True)
    path.chmod(0o644)
