"""Certificates, keys and CRLs from files: in every form that people have them, and with errors that help."""

from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    pkcs7,
    pkcs12,
)

from espudp.crypto.bundles import Bundle, emit_pkcs12
from espudp.crypto.certificate import CertificateError
from espudp.crypto.revocation import Revocation
from espudp.crypto.signatures import PrivateKey
from espudp.errors import ConfigError
from espudp.host import certfiles
from tests.unit.crypto.certs import NOW, YEAR, Issuer, Key, crl, ocsp_response, root

PASSWORD = b"correct horse"


@pytest.fixture(scope="module")
def ca() -> Issuer:
    return root("CN=Root")


@pytest.fixture(scope="module")
def sub(ca: Issuer) -> Issuer:
    return ca.ca("CN=Sub")


@pytest.fixture(scope="module")
def leaf(sub: Issuer) -> Issuer:
    return sub.issue("CN=gw", "dns:gw.example.org")


def pem(*certificates: Issuer) -> bytes:
    return b"".join(one.certificate.public_bytes(Encoding.PEM) for one in certificates)


def key_pem(key: Key, password: bytes | None = None) -> bytes:
    encryption = BestAvailableEncryption(password) if password else NoEncryption()
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption)


def put(path: Path, octets: bytes, mode: int = 0o644) -> Path:
    path.write_bytes(octets)
    path.chmod(mode)
    return path


def test_a_chain_in_pem_with_a_key_beside_it(tmp_path: Path, ca: Issuer, sub: Issuer, leaf: Issuer) -> None:
    key = put(tmp_path / "key", key_pem(leaf.key), 0o600)
    for order in ((leaf, sub, ca), (ca, sub, leaf), (sub, leaf)):
        own = certfiles.load_own(put(tmp_path / "cert", pem(*order)), key)
        assert own.certificates == (leaf.der, sub.der)  # the CA itself is not sent
        assert own.private_key.public.spki == PrivateKey(leaf.key).public.spki


def test_der_and_pkcs7_and_one_file_with_both(tmp_path: Path, sub: Issuer, leaf: Issuer) -> None:
    key = put(tmp_path / "key", key_pem(leaf.key), 0o600)
    bundle = [sub.certificate, leaf.certificate]
    for octets, chain in (
        (leaf.der, (leaf.der,)),
        (pkcs7.serialize_certificates(bundle, Encoding.PEM), (leaf.der, sub.der)),
        (pkcs7.serialize_certificates(bundle, Encoding.DER), (leaf.der, sub.der)),
    ):
        assert certfiles.load_own(put(tmp_path / "cert", octets), key).certificates == chain
    both = put(tmp_path / "both.pem", pem(leaf) + key_pem(leaf.key), 0o600)
    assert certfiles.load_own(both).certificates == (leaf.der,)
    both.chmod(0o644)
    with pytest.raises(ConfigError, match="accessible to others"):
        certfiles.load_own(both)


def test_a_key_with_a_password(tmp_path: Path, leaf: Issuer) -> None:
    cert = put(tmp_path / "cert", pem(leaf))
    key = put(tmp_path / "key", key_pem(leaf.key, PASSWORD), 0o600)
    right = put(tmp_path / "right", PASSWORD + b"\n", 0o600)
    wrong = put(tmp_path / "wrong", b"battery staple", 0o600)
    assert certfiles.load_own(cert, key, right).certificates == (leaf.der,)
    for password in (None, wrong):
        with pytest.raises(ConfigError) as error:
            certfiles.load_own(cert, key, password)
        assert "battery" not in str(error.value)
        assert error.value.remedy


@pytest.mark.parametrize("aes", [True, False])
def test_pkcs12(tmp_path: Path, ca: Issuer, sub: Issuer, leaf: Issuer, aes: bool) -> None:
    if aes:
        octets = pkcs12.serialize_key_and_certificates(
            b"gw", leaf.key, leaf.certificate, [sub.certificate], BestAvailableEncryption(PASSWORD)
        )
    else:
        octets = emit_pkcs12("gw", Bundle(PrivateKey(leaf.key), (leaf.der, sub.der, ca.der)), PASSWORD)
    file = put(tmp_path / "gw.p12", octets, 0o600)
    password = put(tmp_path / "password", PASSWORD, 0o600)
    assert certfiles.load_own(file, None, password).certificates == (leaf.der, sub.der)
    with pytest.raises(ConfigError, match="without a password") as error:
        certfiles.load_own(file)
    assert "--key-password-file" in error.value.remedy
    file.chmod(0o644)
    with pytest.raises(ConfigError, match="accessible to others"):
        certfiles.load_own(file, None, password)


@pytest.mark.parametrize(
    "key",
    [
        ec.generate_private_key(ec.SECP384R1()),
        rsa.generate_private_key(65537, 2048),
        ed25519.Ed25519PrivateKey.generate(),
    ],
    ids=lambda key: type(key).__name__,
)
def test_every_kind_of_key_goes_into_pkcs12(tmp_path: Path, ca: Issuer, key: Key) -> None:
    one = ca.issue("CN=me", "email:me@example.org", key=key)
    octets = emit_pkcs12("me", Bundle(PrivateKey(key), (one.der, ca.der)), PASSWORD)
    file = put(tmp_path / "me.p12", octets, 0o600)
    own = certfiles.load_own(file, None, put(tmp_path / "password", PASSWORD, 0o600))
    assert own.private_key.public.spki == PrivateKey(key).public.spki


def test_a_key_that_is_not_the_certificates(tmp_path: Path, leaf: Issuer, ca: Issuer) -> None:
    cert, key = put(tmp_path / "cert", pem(leaf)), put(tmp_path / "key", key_pem(ca.key), 0o600)
    with pytest.raises(ConfigError, match=r"key is not that of the certificate 'CN=gw'"):
        certfiles.load_own(cert, key)
    with pytest.raises(ConfigError, match="no private key in"):
        certfiles.load_own(cert)


@pytest.mark.parametrize(
    "octets", [b"", b"garbage", b"-----BEGIN CERTIFICATE-----\nAAAA\n", b"\x30\x03\x02\x01\x03\x30"]
)
def test_files_that_are_something_else(tmp_path: Path, octets: bytes) -> None:
    file = put(tmp_path / "file", octets, 0o600)
    for load in (certfiles.load_own, lambda path: certfiles.load_certificates([path])):
        with pytest.raises(ConfigError, match="file") as error:
            load(file)
        assert error.value.remedy
    with pytest.raises(ConfigError, match="no CRL in it"):
        certfiles.load_crls([file])


def test_files_that_are_not_there_or_too_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="does not exist"):
        certfiles.load_certificates([tmp_path / "none"])
    monkeypatch.setattr(certfiles, "MAX_CERTIFICATE_FILE", 1 << 20)
    with pytest.raises(ConfigError, match="more than 1 MB"):
        certfiles.load_certificates([put(tmp_path / "long", bytes((1 << 20) + 1))])


def test_trust_from_files_and_directories(tmp_path: Path, ca: Issuer, sub: Issuer, leaf: Issuer) -> None:
    folder = tmp_path / "cas"
    folder.mkdir()
    with pytest.raises(ConfigError, match="no certificate in the directory"):
        certfiles.load_certificates([folder])
    put(folder / "one.pem", pem(ca, root("CN=Other")))
    put(folder / "two.der", sub.der)
    put(folder / "README", b"not a certificate")
    file = put(tmp_path / "ca", pem(ca))
    assert len(certfiles.load_certificates([folder, file])) == 3
    lists = [put(tmp_path / "crl.der", crl(sub, leaf))]
    trust = certfiles.load_trust([folder], lists, Revocation.IF_GIVEN)
    with pytest.raises(CertificateError, match="revoked"):
        trust.verify([leaf.der], 2, b"gw.example.org", NOW)
    certfiles.load_trust([folder], lists, Revocation.OFF).verify([leaf.der], 2, b"gw.example.org", NOW)


def test_several_crls_in_one_pem_file(tmp_path: Path, ca: Issuer, sub: Issuer) -> None:
    lists = [crl(ca), crl(sub)]
    octets = b"\n".join(x509.load_der_x509_crl(der).public_bytes(Encoding.PEM) for der in lists)
    assert certfiles.load_crls([put(tmp_path / "crls", octets)]) == tuple(lists)
    with pytest.raises(ConfigError, match="no CRL in it"):
        certfiles.load_crls([put(tmp_path / "half", octets[: len(octets) // 3])])


def test_what_the_clock_will_refuse(ca: Issuer, leaf: Issuer, tmp_path: Path) -> None:
    own = certfiles.load_own(
        put(tmp_path / "cert", pem(leaf)), put(tmp_path / "key", key_pem(leaf.key), 0o600)
    )
    lists = [put(tmp_path / "crl", crl(ca))]
    trust = certfiles.load_trust([put(tmp_path / "ca", pem(ca))], lists)
    assert certfiles.warnings(own, trust, NOW) == ()
    assert certfiles.warnings(None, None, NOW) == ()
    later = certfiles.warnings(own, trust, NOW + YEAR + timedelta(days=1))
    assert ["expired" in later[0], "renewed" in later[1]] == [True, True]


def test_crls_are_read_again_when_they_change(tmp_path: Path, ca: Issuer) -> None:
    """Who is revoked is not let in any more, and nothing has to be started anew for that."""
    leaf = ca.issue("CN=gw", "dns:gw.example.org")
    file = put(tmp_path / "crl", crl(ca))
    trust = certfiles.load_trust([put(tmp_path / "ca", pem(ca))], [file])
    trust.verify([leaf.der], 2, b"gw.example.org", NOW)
    put(file, crl(ca, leaf)[:-20])  # half of it, so far
    trust.verify([leaf.der], 2, b"gw.example.org", NOW)
    file.unlink()
    trust.verify([leaf.der], 2, b"gw.example.org", NOW)
    put(file, crl(ca, leaf))
    with pytest.raises(CertificateError, match="revoked"):
        trust.verify([leaf.der], 2, b"gw.example.org", NOW)


def test_ocsp_responses_from_files(tmp_path: Path, ca: Issuer) -> None:
    leaf = ca.issue("CN=gw", "dns:gw.example.org")
    octets = ocsp_response(leaf, ca)
    assert certfiles.load_ocsp_responses([put(tmp_path / "ocsp", octets)]) == (octets,)
    for wrong in (b"", b"garbage", octets[:-1], leaf.der, bytes(1 << 16)):
        with pytest.raises(ConfigError, match="not an OCSP response") as error:
            certfiles.load_ocsp_responses([put(tmp_path / "wrong", wrong)])
        assert "espudp pki ocsp" in error.value.remedy


def test_certificates_that_no_peer_would_take(tmp_path: Path, ca: Issuer) -> None:
    for one, said in (
        (
            ca.issue("CN=gw", *(f"dns:host-{number:030}.example.org" for number in range(620))),
            "octets together",
        ),
        (ca.issue(""), "no name"),
    ):
        key = put(tmp_path / "key", key_pem(one.key), 0o600)
        with pytest.raises(ConfigError, match=said):
            certfiles.load_own(put(tmp_path / "cert", pem(one)), key)
