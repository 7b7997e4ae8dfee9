"""How both sides prove themselves: options of connect and listen, and what becomes of them."""

import shlex
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from espudp.crypto.signatures import PublicKey, load_public_key
from espudp.host.keyfiles import read_public_keys, show_public_key
from espudp.ike.credentials import CertificateOf, NoDemand, NoProof, Psk, PskOf, RawKeyOf, SignKey
from espudp.ike.identity import Identity
from espudp.ike.pad import PadEntry
from tests.unit.cli.conftest import Program
from tests.unit.crypto.certs import Issuer, root

HERE = ("--bind", "203.0.113.7")


def _pem(folder: Path, name: str, who: Issuer) -> Path:
    """A certificate, and its key in NAME.key."""
    (folder / name).write_bytes(who.certificate.public_bytes(Encoding.PEM))
    secret = folder / f"{name}.key"
    secret.write_bytes(who.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    secret.chmod(0o600)
    return secret


@pytest.fixture
def pki(tmp_path: Path) -> Path:
    """ca, gw and me with their keys."""
    ca = root("CN=CA")
    _pem(tmp_path, "ca", ca)
    _pem(tmp_path, "gw", ca.issue("CN=gw", "dns:gw.example.org", "ip:203.0.113.7"))
    _pem(tmp_path, "me", ca.issue("CN=me", "email:me@example.org"))
    return tmp_path


ME, GW, CA = ("--cert", "me", "--key", "me.key"), ("--cert", "gw", "--key", "gw.key"), ("--ca", "ca")


def _public(program: Program, *arguments: str) -> PublicKey:
    (key,) = read_public_keys(program("keygen", *arguments).out.strip())
    return key


# Public keys


def test_keygen_prints_a_public_key(program: Program, tmp_path: Path) -> None:
    first = program("keygen")
    secret = tmp_path / "etc" / "key"
    assert (first.code, len(first.out.splitlines())) == (0, 1)
    assert str(secret) in first.err
    assert secret.stat().st_mode & 0o777 == 0o600
    again = program("keygen")
    assert (again.out, again.err) == (first.out, "")
    assert first.out.strip() not in secret.read_text()
    other = program("keygen", "--key", "other")
    assert other.out != first.out
    assert (tmp_path / "other").exists()


def test_two_hosts_are_joined_by_their_keys(program: Program) -> None:
    """As both of its users type it."""
    server = _public(program, "--key", "server")
    client = _public(program)
    text = show_public_key(client)
    program("listen", *HERE, "--key", "server", "--peer-key", text)
    (entry,) = program.listened.config.pad
    assert entry.demand == RawKeyOf(client)
    assert isinstance(entry.proof, SignKey)
    assert (entry.proof.private_key.public, entry.proof.certificates) == (server, ())
    assert entry.local_identity == Identity.of_key(server.fingerprint)
    program.ran.clear()
    program("connect", "203.0.113.7", "--peer-key", show_public_key(server))
    config = program.connected.config
    assert config.demand == RawKeyOf(server)
    assert isinstance(config.proof, SignKey)
    assert config.proof.private_key.public == client
    assert config.local_identity == Identity.of_key(client.fingerprint)
    assert config.remote_identity is None


def test_listen_says_how_to_connect_by_key(program: Program) -> None:
    from espudp.host.options import Report

    program.says = [Report("Listening")]
    server, client = _public(program), _public(program, "--key", "client")
    outcome = program("listen", *HERE, "--peer-key", show_public_key(client))
    line = outcome.out.splitlines()[-1].strip()
    assert shlex.split(line) == ["espudp", "connect", "203.0.113.7", "--peer-key", show_public_key(server)]


def test_public_keys_in_files(program: Program, tmp_path: Path) -> None:
    one, other = _public(program, "--key", "1"), _public(program, "--key", "2")
    listed = tmp_path / "peers"
    listed.write_text(f"# laptops\n{show_public_key(one)} alice\n\n{show_public_key(other)}\n")
    (tmp_path / "der").write_bytes(one.spki)
    assert read_public_keys("peers") == (one, other)
    assert read_public_keys("der") == (load_public_key(one.spki),)
    program("listen", *HERE, "--key", "1", "--peer-key", "peers", "--peer-key", "der")
    assert [entry.demand for entry in program.listened.config.pad] == [RawKeyOf(k) for k in (one, other, one)]


# Certificates


@pytest.mark.usefixtures("pki")
def test_certificates_on_both_sides(program: Program) -> None:
    program("connect", "gw.example.org", *ME, *CA)
    config = program.connected.config
    assert isinstance(config.proof, SignKey)
    assert isinstance(config.demand, CertificateOf)
    assert len(config.proof.certificates) == 1
    assert str(config.local_identity) == "me@example.org"
    assert str(config.remote_identity) == "gw.example.org"  # not whoever has a certificate
    program.ran.clear()
    program("listen", *HERE, *GW, *CA)
    (entry,) = program.listened.config.pad
    assert isinstance(entry.demand, CertificateOf)
    assert str(entry.local_identity) == "gw.example.org"


@pytest.mark.usefixtures("pki")
def test_who_the_peer_must_be(program: Program) -> None:
    for given, meant in (
        ((), "203.0.113.7"),
        (("--remote-id", "gw.example.org"), "gw.example.org"),
        (("--remote-id", "%any"), None),
    ):
        program.ran.clear()
        program("connect", "203.0.113.7", *ME, *CA, *given)
        assert program.connected.config.remote_identity == (meant and Identity.parse(meant))


@pytest.mark.usefixtures("pki")
def test_our_name_is_one_of_the_certificate(program: Program) -> None:
    program("listen", *HERE, *GW, *CA, "--local-id", "GW.example.org")
    assert str(program.listened.config.pad[0].local_identity) == "gw.example.org"
    outcome = program("connect", "h", *ME, *CA, "--id", "you@example.org")
    assert outcome.code == 2
    assert "not for you@example.org" in outcome.err
    assert "me@example.org" in outcome.err


@pytest.mark.usefixtures("pki")
def test_a_gateway_by_certificate_and_clients_by_psk(program: Program, psk_file: str) -> None:
    key = b"correct horse battery staple"
    program("connect", "gw.example.org", "--psk-file", psk_file, *CA)
    config = program.connected.config
    assert config.proof == Psk(key)
    assert isinstance(config.demand, CertificateOf)
    program.ran.clear()
    program("listen", *HERE, *GW, "--psk-file", psk_file)
    (entry,) = program.listened.config.pad
    assert isinstance(entry.proof, SignKey)
    assert entry.demand == PskOf(key)
    assert str(entry.local_identity) == "gw.example.org"  # what the certificate is for


@pytest.mark.usefixtures("pki")
def test_several_ways_in(program: Program, psk_file: str) -> None:
    peer = show_public_key(_public(program))
    program("listen", *HERE, *GW, *CA, "--psk-file", psk_file, "--peer-key", peer)
    kinds = [type(entry.demand) for entry in program.listened.config.pad]
    assert kinds == [RawKeyOf, CertificateOf, PskOf]
    assert program.listened.config.pad[-1] == PadEntry.of_psk(b"correct horse battery staple")


@pytest.mark.usefixtures("pki")
def test_anonymous_only_when_asked_for(program: Program) -> None:
    program("connect", "gw.example.org", "--anonymous", *CA)
    assert program.connected.config.proof == NoProof()
    assert isinstance(program.connected.config.demand, CertificateOf)
    program.ran.clear()
    program("listen", *HERE, *GW, "--allow-anonymous")
    assert [e.demand for e in program.listened.config.pad] == [NoDemand()]


@pytest.mark.usefixtures("pki")
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["connect", "h", *ME], "not said what the peer is known by"),
        (["connect", "h", *CA], "nothing to prove ourselves with"),
        (["connect", "h", *CA, *ME, "--psk", "x"], "nothing to do beside"),
        (["connect", "h", *CA, *ME, "--anonymous"], "--cert and --key contradict --anonymous"),
        (["connect", "h", *CA, *ME, "--allow-anonymous"], "--ca contradicts --allow-anonymous"),
        (["connect", "h", "--cert", "me", "--ca", "ca"], "no private key in me"),
        (["connect", "h", "--cert", "me", "--key", "gw.key", *CA], "me: "),
        (["connect", "h", "--cert", "nowhere", "--key", "me.key", *CA], "nowhere does not exist"),
        (["connect", "h", *ME, "--ca", "nowhere"], "nowhere does not exist"),
        (["connect", "h", *ME, "--ca", "me.key"], "me.key"),
        (["connect", "h", *ME, *CA, "--revocation", "maybe"], "--revocation: 'maybe'"),
        (["connect", "h", *ME, "--crl", "ca", "--peer-key", "x"], "--crl without --ca"),
        (["connect", "h", "--peer-key", "nonsense"], "neither a public key nor a file"),
        (["connect", "h", "--key", "nowhere", "--psk", "x"], "nowhere does not exist"),
        (["listen", *HERE, *GW], "not said what those who come are known by"),
        (["listen", *HERE, *CA], "nothing to prove ourselves with"),
        (["listen", *HERE, "--allow-anonymous"], "nothing to prove ourselves with"),
    ],
)
def test_mistakes(program: Program, arguments: list[str], said: str) -> None:
    outcome = program(*arguments)
    assert (outcome.code, program.ran) == (2, [])
    assert said in outcome.err
    assert len(outcome.err.splitlines()) >= 2  # and what to do


def test_a_raw_key_that_was_never_made(program: Program) -> None:
    outcome = program("connect", "h", "--peer-key", show_public_key(_public(program, "--key", "other")))
    assert outcome.code == 2
    assert "espudp keygen" in outcome.err


def test_no_secret_is_shown(program: Program, psk_file: str) -> None:
    program("connect", "h", "--psk-file", psk_file)
    assert "horse" not in repr(program.connected)


# What is said at the start


@pytest.mark.usefixtures("pki")
def test_what_is_weak_is_said(program: Program) -> None:
    outcome = program("connect", "gw.example.org", *ME, *CA, "--allow-sha1")
    assert "SHA-1" in outcome.err
    outcome = program("listen", *HERE, *GW, "--allow-anonymous")
    assert "anybody may be at the other end" in outcome.err


def test_what_has_expired_is_said(program: Program, tmp_path: Path) -> None:
    ca = root("CN=CA")
    past = datetime(2020, 1, 1, tzinfo=UTC)
    _pem(tmp_path, "ca", ca)
    _pem(tmp_path, "me", ca.issue("CN=me", "email:me@example.org", begin=past, end=past + timedelta(days=1)))
    outcome = program("connect", "gw.example.org", *ME, *CA)
    assert outcome.code == 0
    assert "CN=me" in outcome.err


@pytest.mark.usefixtures("pki")
def test_nothing_is_said_where_all_is_well(program: Program) -> None:
    assert program("connect", "gw.example.org", *ME, *CA).err == ""
