"""`espudp keygen`."""

import shlex
import stat
from pathlib import Path

import pytest

from espudp.manual import parse_manual
from tests.unit.cli.conftest import Program

SERVER = ("--manual", "--server", "203.0.113.7")


def test_a_psk_is_printed(program: Program) -> None:
    one, other = (program("keygen", "--psk").out for _ in range(2))
    assert len(one.strip()) == 43
    assert one != other


def test_a_pair_that_fits_together(program: Program, tmp_path: Path) -> None:
    outcome = program(
        *("keygen", *SERVER, "--suite", "aes128-sha512", "--network", "10.5.0.0/24", "-o", "keys"),
        *("--server-subnet", "10.1.0.0/16", "--client-subnet", "10.2.0.0/16"),
    )
    assert (outcome.code, outcome.err) == (0, "")
    files = [tmp_path / "keys" / name for name in ("server.toml", "client.toml")]
    assert [stat.S_IMODE(file.stat().st_mode) for file in files] == [0o600, 0o600]
    server, client = (parse_manual(file.read_text()) for file in files)
    assert (server.keys_in, server.spi_in) == (client.keys_out, client.spi_out)
    assert (server.keys_out, server.spi_out) == (client.keys_in, client.spi_in)
    assert server.suite.name == "aes128-sha512"
    assert [str(s) for s in server.local] == ["10.5.0.1/32", "10.1.0.0/16"]
    assert [str(s) for s in server.remote] == ["10.5.0.2/32", "10.2.0.0/16"]
    commands = [line.partition("espudp ")[2] for line in outcome.out.splitlines()]
    assert [shlex.split(command)[0] for command in commands] == ["listen", "connect"]
    assert server.keys_in.encr.hex() not in outcome.out


@pytest.mark.parametrize(
    ("text", "peer"),
    [
        ("203.0.113.7", "203.0.113.7:4500"),
        ("203.0.113.7:4600", "203.0.113.7:4600"),
        ("2001:db8::7", "[2001:db8::7]:4500"),
        ("[2001:db8::7]:4600", "[2001:db8::7]:4600"),
    ],
)
def test_where_the_server_is(program: Program, tmp_path: Path, text: str, peer: str) -> None:
    assert program("keygen", "--manual", "--server", text).code == 0
    assert str(parse_manual((tmp_path / "client.toml").read_text()).peer) == peer


def test_files_are_overwritten_only_by_force(program: Program, tmp_path: Path) -> None:
    program("keygen", *SERVER)
    before = (tmp_path / "server.toml").read_text()
    outcome = program("keygen", *SERVER)
    assert outcome.code == 2
    assert "server.toml exists already" in outcome.err
    assert (tmp_path / "server.toml").read_text() == before
    assert program("keygen", *SERVER, "--force").code == 0
    assert (tmp_path / "server.toml").read_text() != before


def test_counter_mode_takes_a_promise(program: Program, tmp_path: Path) -> None:
    outcome = program("keygen", *SERVER, "--suite", "aes128gcm16")
    assert outcome.code == 2
    assert "nonces" in outcome.err
    assert "--fresh-keys" in outcome.err
    assert not (tmp_path / "server.toml").exists()
    assert program("keygen", *SERVER, "--suite", "aes128gcm16", "--fresh-keys").code == 0
    assert parse_manual((tmp_path / "server.toml").read_text()).replay_window == 1024


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--suite", "rot13"], "rot13"),
        (["--network", "10.0.0.0/31"], "no room for two addresses"),
        (["--network", "lan"], "--network: 'lan' is not a subnet"),
        (["--server", "example.org"], "--server: 'example.org' is not an IP address"),
        (["--server", "203.0.113.7:x"], "--server: x is not a UDP port"),
    ],
)
def test_mistakes_of_usage(program: Program, arguments: list[str], said: str) -> None:
    outcome = program("keygen", *SERVER, *arguments)
    assert outcome.code == 2
    assert said in outcome.err
