"""A small CA: what it makes is believed by those who trust it, until it is revoked."""

import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509 import verification

from espudp.crypto.certificate import CertificateError, Refusal
from espudp.crypto.pki import KEY_TYPES
from espudp.crypto.revocation import Revocation
from espudp.errors import ConfigError
from espudp.host import certfiles, pki
from espudp.host.pki import Authority, Order, State
from espudp.ike.identity import Identity

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
DAY = timedelta(days=1)


@pytest.fixture
def ca(tmp_path: Path) -> Authority:
    return Authority.make(tmp_path / "pki", "O=Example, CN=Root", "p256", pki.CA_DAYS, NOW)


def refusal(ca: Authority, issued: pki.Issued, name: str, at: datetime = NOW) -> Refusal | None:
    """Why somebody who requires everything refuses it; None: it is believed."""
    trust = certfiles.load_trust([ca.certificate_file], [ca.crl_file], Revocation.REQUIRED)
    own, identity = certfiles.load_own(issued.certificate, issued.key), Identity.parse(name)
    try:
        key = trust.verify(own.certificates, identity.type, identity.data, at)
    except CertificateError as error:
        return error.reason
    assert key == own.private_key.public
    return None


@pytest.mark.parametrize(
    ("name", "san"),
    [
        ("gw.example.org", ["192.0.2.1", "2001:db8::1", "other.example.org"]),
        ("me@example.org", []),
        ("192.0.2.1", []),
        ("O=Example, CN=gw", ["gw.example.org"]),
        (f"{'x' * 60}.example.org", []),
    ],
)
def test_what_is_issued_is_believed_in_all_its_names(ca: Authority, name: str, san: list[str]) -> None:
    issued = ca.issue(name, Order(san=san), NOW)
    for one in (name, *san):
        assert refusal(ca, issued, one) is None
    assert refusal(ca, issued, "elsewhere.example.org") is Refusal.NAME
    assert [record.state for record in ca.records(NOW)] == [State.VALID]
    assert all(record.is_called(name) for record in ca.records(NOW))


@pytest.mark.parametrize("key_type", KEY_TYPES[:-1])  # RSA of 4,096 bits takes seconds to make
def test_every_type_of_key(tmp_path: Path, key_type: str) -> None:
    ca = Authority.make(tmp_path / "pki", "Root", key_type, 100, NOW)
    issued = ca.issue("gw.example.org", Order(key_type=key_type), NOW)
    assert refusal(ca, issued, "gw.example.org") is None
    assert issued.record.facts.key.lower().replace("-", "").endswith(key_type.removeprefix("rsa"))


def test_an_unknown_type_of_key(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="'dsa' is no type of key") as error:
        Authority.make(tmp_path / "pki", "Root", "dsa", 100, NOW)
    assert "p256" in error.value.remedy
    assert not (tmp_path / "pki").exists()


def test_the_web_s_verifier_agrees(ca: Authority) -> None:
    """Another implementation, and a stricter one: gateways meet clients that want what browsers want."""
    issued = ca.issue("gw.example.org", Order(), NOW)
    root, leaf = (
        x509.load_pem_x509_certificate(path.read_bytes())
        for path in (ca.certificate_file, issued.certificate)
    )
    builder = verification.PolicyBuilder().store(verification.Store([root])).time(NOW)
    builder.build_server_verifier(x509.DNSName("gw.example.org")).verify(leaf, [])


def test_secrets_are_their_owners_alone(ca: Authority) -> None:
    issued = ca.issue("gw.example.org", Order(), NOW)
    p12, _ = ca.export(issued)
    modes = {path: stat.S_IMODE(path.stat().st_mode) for path in ca.directory.iterdir() if path.is_file()}
    assert {path.name for path, mode in modes.items() if mode == 0o600} == {
        *("ca.key", "gw.example.org.key", p12.name)
    }
    assert {modes[ca.certificate_file], modes[ca.crl_file], modes[issued.certificate]} == {0o644}
    assert stat.S_IMODE(ca.directory.stat().st_mode) == 0o700


def test_pkcs12(ca: Authority, tmp_path: Path) -> None:
    issued = ca.issue("me@example.org", Order(), NOW)
    file, password = ca.export(issued)
    assert len(password) >= 20
    secret = tmp_path / "password"
    secret.write_bytes(password)
    secret.chmod(0o600)
    own = certfiles.load_own(file, None, secret)
    assert own.certificates == certfiles.load_own(issued.certificate, issued.key).certificates
    assert ca.export(issued, b"my own") == (file, b"my own")


def test_revoking(ca: Authority) -> None:
    gw, me = (ca.issue(name, Order(), NOW) for name in ("gw.example.org", "me@example.org"))
    assert [one.serial for one in ca.revoke("me@example.org", NOW + DAY)] == [me.record.serial]
    assert refusal(ca, me, "me@example.org", NOW + DAY) is Refusal.REVOKED
    assert refusal(ca, gw, "gw.example.org", NOW + DAY) is None
    assert ca.revoked() == {me.record.facts.serial: NOW + DAY}
    for name in ("me@example.org", "nobody", me.record.serial):
        with pytest.raises(ConfigError, match=f"no valid certificate called '{name}'"):
            ca.revoke(name, NOW + DAY)
    ca.revoke(gw.record.serial, NOW + 2 * DAY)
    assert ca.revoked() == {me.record.facts.serial: NOW + DAY, gw.record.facts.serial: NOW + 2 * DAY}
    assert {record.state for record in ca.records(NOW)} == {State.REVOKED}


def test_one_name_has_one_certificate_until_it_is_renewed(ca: Authority) -> None:
    old = ca.issue("gw.example.org", Order(), NOW)
    with pytest.raises(ConfigError, match="holds until 2028-09-03") as error:
        ca.issue("gw.example.org", Order(), NOW)
    assert "--renew" in error.value.remedy
    new = ca.issue("gw.example.org", Order(renew=True), NOW + DAY)
    assert new.certificate == old.certificate
    assert refusal(ca, new, "gw.example.org", NOW + DAY) is None
    assert len(ca.records(NOW)) == 2
    assert len(ca.revoke("gw.example.org", NOW + DAY)) == 2  # both: the name is not trusted
    assert ca.issue("gw.example.org", Order(), NOW + DAY).record.state is State.VALID


def test_expired_certificates_give_way(ca: Authority) -> None:
    ca.issue("gw.example.org", Order(days=1), NOW)
    assert [one.state for one in ca.records(NOW + 2 * DAY)] == [State.EXPIRED]
    ca.issue("gw.example.org", Order(), NOW + 2 * DAY)


def test_nothing_outlives_the_ca(tmp_path: Path) -> None:
    ca = Authority.make(tmp_path / "pki", "Root", "p256", 10, NOW)
    issued = ca.issue("gw.example.org", Order(days=100), NOW)
    assert issued.record.facts.period.end == ca.facts.period.end == NOW + 10 * DAY


def test_the_crl_is_kept_up_to_date(ca: Authority) -> None:
    me = ca.issue("me@example.org", Order(), NOW)
    ca.revoke("me@example.org", NOW)
    end = ca.crl_end()
    assert not ca.keep_crl(NOW + 100 * DAY)
    ca.issue("gw.example.org", Order(), NOW + 200 * DAY)
    assert ca.crl_end() == end + 200 * DAY
    assert ca.revoked() == {me.record.facts.serial: NOW}


def test_ocsp_responses(ca: Authority) -> None:
    """For both sides of RFC 4806: in place of a CRL, and no longer than it holds."""
    gw, me = (ca.issue(name, Order(), NOW) for name in ("gw.example.org", "me@example.org"))
    ca.revoke("me@example.org", NOW)
    trust = certfiles.load_trust([ca.certificate_file], (), Revocation.REQUIRED)

    def verdict(issued: pki.Issued, name: str, at: datetime) -> Refusal | None:
        responses = certfiles.load_ocsp_responses(ca.answer(name, 7, NOW))
        own, identity = certfiles.load_own(issued.certificate, issued.key), Identity.parse(name)
        try:
            trust.verify(own.certificates, identity.type, identity.data, at, responses)
        except CertificateError as error:
            return error.reason
        return None

    assert verdict(gw, "gw.example.org", NOW) is None
    assert verdict(gw, "gw.example.org", NOW + 8 * DAY) is Refusal.UNCHECKED
    assert verdict(me, "me@example.org", NOW) is Refusal.REVOKED
    with pytest.raises(ConfigError, match="no certificate called 'nobody'"):
        ca.answer("nobody", 7, NOW)


def test_a_renewed_name_has_a_response_for_each_certificate(ca: Authority) -> None:
    for renew in (False, True):
        ca.issue("gw.example.org", Order(renew=renew), NOW)
    assert len(set(ca.answer("gw.example.org", 7, NOW))) == 2


def test_a_crl_that_went_missing_is_told_of(ca: Authority) -> None:
    ca.crl_file.unlink()
    for use in (lambda: ca.records(NOW), lambda: ca.issue("gw.example.org", Order(), NOW)):
        with pytest.raises(ConfigError, match=r"CRL file .* does not exist"):
            use()
    ca.write_crl({}, NOW)
    assert ca.records(NOW) == []


def test_a_directory_has_one_ca(ca: Authority, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is a CA in"):
        Authority.make(ca.directory, "Root", "p256", 100, NOW)
    with pytest.raises(ConfigError, match="there is no CA in") as error:
        Authority(tmp_path)
    assert error.value.remedy.endswith("espudp pki init")


@pytest.mark.parametrize("name", ["ca", "crl", "issued", "..", "CN=", "two words", "*", ""])
def test_names_that_are_none(ca: Authority, name: str) -> None:
    with pytest.raises(ConfigError):
        ca.issue(name, Order(), NOW)
    assert ca.records(NOW) == []


def test_files_stay_in_the_directory(ca: Authority) -> None:
    issued = ca.issue("../../gw", Order(), NOW)
    assert issued.certificate.parent == ca.directory
    assert refusal(ca, issued, "../../gw") is None


@pytest.mark.parametrize("san", ["keyid:x", "#00ff"])
def test_names_that_no_certificate_has(ca: Authority, san: str) -> None:
    with pytest.raises(ConfigError, match="no place in a certificate"):
        ca.issue("gw.example.org", Order(san=[san]), NOW)
    assert not (ca.directory / "gw.example.org.key").exists()
