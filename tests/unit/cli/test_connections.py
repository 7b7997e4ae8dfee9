"""`listen --connections`, and two proofs of one client."""

from pathlib import Path

import pytest

from espudp.cli.connections import read_connections
from espudp.errors import ConfigError
from espudp.host.keyfiles import show_public_key
from espudp.ike.config import DYNAMIC, ChildConfig
from espudp.ike.credentials import CertificateOf, EapClient, EapOf, NoDemand, Psk, PskOf, RawKeyOf, SignKey
from espudp.ike.identity import Identity
from espudp.ike.pad import PadEntry, Pattern
from espudp.wire.selectors import TrafficSelector
from tests.unit.cli.conftest import Program
from tests.unit.cli.test_authentication import _pem, _public
from tests.unit.crypto.certs import root

HERE = ("--bind", "203.0.113.7")
CHILD = ChildConfig(local=(TrafficSelector.from_network("10.99.0.0/24"),), remote=(DYNAMIC,))


def _secret(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o600)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A directory beside the one that is worked in, with files of all kinds."""
    folder = tmp_path / "conf"
    folder.mkdir()
    ca = root("CN=CA")
    _pem(folder, "ca", ca)
    _pem(folder, "gw", ca.issue("CN=gw", "dns:vpn.example.org", "dns:gw.example.org"))
    _pem(tmp_path, "me", ca.issue("CN=me", "email:me@example.org"))
    (tmp_path / "ca").write_bytes((folder / "ca").read_bytes())
    _secret(folder / "psk", "correct horse\n")
    _secret(folder / "users", "alice:secret\n")
    _secret(tmp_path / "password", "secret\n")
    return folder


def _read(folder: Path, text: str) -> tuple[PadEntry, ...]:
    file = folder / "connections.toml"
    file.write_text(text)
    return read_connections(file, CHILD)


def test_several_ways_in(program: Program, folder: Path) -> None:
    key = _public(program, "--key", "peer")
    (folder / "laptops").write_text(f"{show_public_key(key)} laptop\n")
    office, staff, laptops, guests = _read(
        folder,
        """
        [office]
        from = ["192.0.2.0/24", "2001:db8::/32"]
        peers = "*.example.net"
        psk-file = "psk"

        [staff]
        peers = ["*@example.org", "boss@example.com"]
        id = "vpn.example.org"
        cert = "gw"
        key = "gw.key"
        ca = ["ca"]
        revocation = "off"
        subnet = ["10.1.0.0/16"]
        pool = ["10.98.0.0/24"]

        [laptops]
        cert = "gw"
        key = "gw.key"
        peer-key = "laptops"

        [guests]
        cert = "gw"
        key = "gw.key"
        eap-users = "users"
        eap-method = ["mschapv2"]
        """,
    )
    assert office.name == "office"
    assert (office.proof, office.demand) == (Psk(b"correct horse"), PskOf(b"correct horse"))
    assert office.peers == (Pattern.parse("*.example.net"),)
    assert [str(network) for network in office.networks] == ["192.0.2.0/24", "2001:db8::/32"]
    assert office.child is None
    assert isinstance(staff.demand, CertificateOf)
    assert isinstance(staff.proof, SignKey)
    assert str(staff.local_identity) == "vpn.example.org"
    assert len(staff.peers) == 2
    assert staff.child is not None
    assert [str(s) for s in staff.child.local] == ["10.1.0.0/16"]
    assert [str(network) for network in staff.pool] == ["10.98.0.0/24"]
    assert laptops.demand == RawKeyOf(key)
    assert isinstance(guests.demand, EapOf)


def test_beside_the_command_line_or_alone(program: Program, folder: Path, psk_file: str) -> None:
    (folder / "c.toml").write_text("[office]\npeers = 'office.example.org'\npsk-file = 'psk'\n")
    outcome = program("listen", *HERE, "--connections", "conf/c.toml")
    assert (outcome.code, outcome.err) == (0, "")
    assert [entry.name for entry in program.listened.config.pad] == ["office"]
    assert not (folder.parent / "etc").exists()  # no PSK is made for everybody
    program.ran.clear()
    program("listen", *HERE, "--psk-file", psk_file, "--connections", "conf/c.toml")
    assert [entry.name for entry in program.listened.config.pad] == ["", "office"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is empty"),
        ("x", "is not TOML"),
        ("psk-file = 'psk'", "not in a table"),
        ("[a]", "[a]: it is not said what those who come are known by"),
        ("[a]\npsk-file = 'nowhere'", "nowhere does not exist"),
        ("[a]\npsk-file = 3", "psk-file is not a text"),
        ("[a]\npsk-file = ''", "psk-file is empty"),
        ("[a]\npsk-file = 'psk'\npeers = 7", "peers is not a list"),
        ("[a]\npsk-file = 'psk'\npeers = ['a b']", "a b"),
        ("[a]\npsk-file = 'psk'\nfrom = ['office']", "from: 'office' is not a subnet"),
        ("[a]\npsk-file = 'psk'\nsubnet = ['lan']", "subnet: 'lan' is not a subnet"),
        ("[a]\npsk-file = 'psk'\nport = 500", "'port' means nothing here"),
        ("[a]\npsk-file = 'psk'\nikev1 = 'main'", "'ikev1' is the same for all ways in"),
        ("[a]\npsk-file = 'psk'\nmode-config = 'push'", "'mode-config' is the same for all ways in"),
        ("[a]\npsk-file = 'psk'\nconnections = 'c'", "'connections' means nothing here"),
        ("[a]\npsk-file = 'psk'\nanonymous = 'yes'", "neither true nor false"),
        ("[a]\ncert = 'gw'\nkey = 'gw.key'\nca = 'ca'\nid = 'x.example.org'", "not for x.example.org"),
        ("[a]\ncert = 'gw'\nkey = 'gw.key'\nca = 'ca'\nboth-proofs = true", "no second one"),
    ],
)
def test_mistakes(folder: Path, text: str, said: str) -> None:
    with pytest.raises(ConfigError) as error:
        _read(folder, text)
    assert said in str(error.value)
    assert error.value.remedy


def test_a_file_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        read_connections(tmp_path / "nowhere", CHILD)


def test_anonymous_is_a_switch(folder: Path) -> None:
    (entry,) = _read(folder, "[a]\ncert = 'gw'\nkey = 'gw.key'\nallow-anonymous = true")
    assert entry.demand == NoDemand()


# Two proofs (RFC 4739)


@pytest.mark.usefixtures("folder")
def test_two_proofs_of_a_client(program: Program) -> None:
    login = ("--eap-user", "alice", "--eap-password-file", "password")
    program(
        "connect", "gw.example.org", "--cert", "me", "--key", "me.key", "--ca", "ca", *login, "--both-proofs"
    )
    config = program.connected.config
    assert isinstance(config.proof, SignKey)
    ((who, second),) = config.further
    assert isinstance(second, EapClient)
    assert (str(config.local_identity), str(who)) == ("me@example.org", "alice")
    program.ran.clear()
    gateway = ("--cert", "conf/gw", "--key", "conf/gw.key", "--ca", "ca", "--eap-users", "conf/users")
    program("listen", *HERE, *gateway, "--both-proofs")
    (entry,) = program.listened.config.pad
    assert isinstance(entry.demand, CertificateOf)
    assert [type(demand) for demand in entry.further] == [EapOf]


@pytest.mark.usefixtures("folder")
def test_the_second_proof_is_said(program: Program) -> None:
    outcome = program("connect", "h", "--cert", "me", "--key", "me.key", "--ca", "ca", "--both-proofs")
    assert outcome.code == 2
    assert "no second one" in outcome.err
    assert "--eap-user" in outcome.err


def test_names_of_entries_are_for_people() -> None:
    assert PadEntry.of_psk(b"x", Identity.parse("a")).name == ""
