"""`espudp listen`: what its options become, the key it makes, and the line it prints."""

import shlex
import stat
import sys
from pathlib import Path

import pytest

from espudp.cli.main import app
from espudp.host.options import Report
from espudp.ike.config import DYNAMIC
from espudp.ike.pad import PadEntry
from tests.unit.cli.conftest import Program

HERE = ("--bind", "203.0.113.7")


def test_the_defaults(program: Program, psk_file: str) -> None:
    outcome = program("listen", "--psk-file", psk_file)
    assert (outcome.code, outcome.err) == (0, "")
    options = program.listened
    assert (options.port, options.ike_port, options.forward, options.bind) == (4500, 500, True, None)
    config = options.config
    assert config.pad == (PadEntry.of_psk(b"correct horse battery staple"),)
    assert [str(network) for network in config.pool] == ["10.99.0.0/24"]
    assert [str(s) for s in config.child.local] == ["10.99.0.0/24"]
    assert config.child.remote == (DYNAMIC,)
    assert config.dns == ()


def test_every_option(program: Program, psk_file: str) -> None:
    outcome = program(
        *(
            "listen",
            *HERE,
            "--port",
            "4501",
            "--ike-port",
            "0",
            "--pool",
            "10.9.0.0/24",
            "--pool",
            "fd00:9::/64",
        ),
        *(
            "--subnet",
            "10.1.0.0/16",
            "--peer-subnet",
            "10.2.0.0/16",
            "--dns",
            "10.1.0.53",
            "--dns",
            "fd00:9::53",
        ),
        *("--psk-file", psk_file, "--local-id", "@gw.example.org", "--no-forward"),
        *("--ike-proposal", "aes256-sha256-modp2048", "--esp-proposal", "aes128-sha256"),
        *(
            "--child-lifetime",
            "10m",
            "--dpd",
            "5s",
            "--reauth",
            "1h",
            "--dev",
            "vpn0",
            "--control-name",
            "gateway",
        ),
    )
    assert (outcome.code, outcome.err) == (0, "")
    options = program.listened
    assert (options.port, options.ike_port, options.forward) == (4501, None, False)
    assert (options.bind, options.device, options.name) == ("203.0.113.7", "vpn0", "gateway")
    config = options.config
    assert str(config.local_identity) == "gw.example.org"
    assert [str(s) for s in config.child.local] == ["10.9.0.0/24", "fd00:9::/64", "10.1.0.0/16"]
    assert [str(s) for s in config.child.remote] == ["dynamic", "10.2.0.0/16"]
    assert config.dns == ("10.1.0.53", "fd00:9::53")
    assert config.child.lifetime.soft_seconds == 600
    assert (config.timers.dpd_interval, config.timers.reauth, config.mobike) == (5, 3600, True)


def test_without_a_pool(program: Program, psk_file: str) -> None:
    program(
        "listen",
        "--psk-file",
        psk_file,
        "--pool",
        "none",
        "--subnet",
        "10.1.0.0/16",
        "--peer-subnet",
        "10.2.0.0/16",
    )
    config = program.listened.config
    assert config.pool == ()
    assert [str(s) for s in config.child.local] == ["10.1.0.0/16"]


def test_our_identity_is_our_address(program: Program, psk_file: str) -> None:
    program("listen", *HERE, "--psk-file", psk_file)
    assert str(program.listened.config.local_identity) == "203.0.113.7"


def connect_lines(text: str) -> list[list[str]]:
    return [shlex.split(line)[1:] for line in text.splitlines() if line.strip().startswith("espudp connect")]


def test_a_key_is_made_kept_and_the_other_hosts_line_printed(program: Program, tmp_path: Path) -> None:
    program.says = [Report("Listening on 203.0.113.7."), Report("Somebody came.")]
    outcome = program("listen", *HERE)
    path = tmp_path / "etc" / "psk"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    psk = path.read_text().strip()
    assert program.listened.config.pad == (PadEntry.of_psk(psk.encode()),)
    assert psk not in outcome.out + outcome.err  # not a terminal: perhaps a log
    assert connect_lines(outcome.out) == [["connect", "203.0.113.7", "--psk-file", str(path)]]
    lines = outcome.out.splitlines()
    assert lines[0] == "Listening on 203.0.113.7."
    assert lines[-1] == "Somebody came."

    again = program("listen", *HERE)
    assert path.read_text().strip() == psk
    assert connect_lines(again.out) == [["connect", "203.0.113.7", "--psk-file", str(path)]]


def test_on_a_terminal_the_line_has_a_new_key_in_it(
    program: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    program.says = [Report("Listening.")]
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    psk_file = tmp_path / "etc" / "psk"
    app(["listen", *HERE], standalone_mode=False)
    with_key, with_file = connect_lines(capsys.readouterr().out)
    assert with_key == ["connect", "203.0.113.7", "--psk", psk_file.read_text().strip()]
    assert with_file == ["connect", "203.0.113.7", "--psk-file", str(psk_file)]
    app(["listen", *HERE], standalone_mode=False)  # known by now
    assert connect_lines(capsys.readouterr().out) == [with_file]


@pytest.mark.parametrize(
    "given",
    [
        [],
        ["--port", "4501", "--ike-port", "0"],
        ["--port", "4501", "--ike-port", "501"],
        ["--port", "4501", "--ike-port", "4501"],
        ["--port", "500"],
        ["--local-id", "gw.example.org"],
        ["--ike-proposal", "aes256-sha256-modp2048", "--esp-proposal", "aes128-sha256-esn"],
        ["--pool", "10.9.0.0/24", "--pool", "fd00:9::/64", "--subnet", "10.1.0.0/16"],
    ],
)
def test_the_printed_line_fits_the_listener(program: Program, given: list[str]) -> None:
    program.says = [Report("Listening.")]
    (line,) = connect_lines(program("listen", *HERE, *given).out)
    listened = program.listened
    program.ran.clear()
    program.says = []
    assert program(*line).code == 0
    connected = program.connected
    plain = None if listened.ike_port == listened.port else listened.ike_port
    assert (connected.port, connected.ike_port) == (listened.port, plain)
    assert connected.config.proof == listened.config.pad[0].proof
    assert connected.config.remote_identity in (None, listened.config.local_identity)
    assert connected.config.ike_proposals == listened.config.ike_proposals
    assert connected.config.child.proposals == listened.config.child.proposals
    for pool in listened.config.pool:
        assert any(pool.version == selector.version for selector in connected.config.child.remote)  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--pool", "10.0.0.0/33"], "--pool: '10.0.0.0/33' is not a subnet"),
        (["--pool", "none"], "name the networks behind the peers"),
        (["--pool", "10.0.0.0/24", "--pool", "fd00::/64", "--pool", "10.0.0.0/25"], "overlap"),
        (["--pool", "224.0.0.0/24"], "--pool: 224.0.0.0/24 has addresses that no host can take"),
        (["--pool", "::/0"], "no host can take"),
        (["--local-id", ""], "an identity has 1 to"),
        (["--control-name", "../../etc/x"], "--control-name: '../../etc/x' cannot name a process"),
        (["--subnet", "lan"], "--subnet: 'lan' is not a subnet"),
        (["--dns", "one.one"], "--dns: 'one.one' is not an IP address"),
        (["--port", "0"], "--port: 0 is not a UDP port"),
        (["--psk-file", "nowhere"], "The PSK file nowhere does not exist"),
        (["--esp-proposal", "aes128"], "integrity"),
        (["--manual", "f.toml", "--pool", "10.0.0.0/8"], "--pool contradicts --manual"),
        (["--manual", "f.toml", "--port", "4501", "--dpd", "5s"], "--port and --dpd contradict --manual"),
        (["peer"], "unexpected extra argument"),
    ],
)
def test_mistakes_of_usage_make_no_key(
    program: Program, tmp_path: Path, arguments: list[str], said: str
) -> None:
    outcome = program("listen", *HERE, *arguments)
    assert outcome.code == 2
    assert said.lower() in outcome.err.lower()
    assert not program.ran
    assert not (tmp_path / "etc").exists()


def test_manual_keys(program: Program) -> None:
    program("keygen", "--manual", "--server", "203.0.113.7:4600")
    assert program("listen", "--manual", "server.toml").code == 0
    options = program.carried
    assert (options.config.port, options.config.learn_peer, options.forward) == (4600, True, True)


def test_clients_are_sent_elsewhere(program: Program, psk_file: str) -> None:
    there = ("--redirect-to", "gw2.example.org", "--redirect-to", "192.0.2.7", "--redirect-above", "100")
    assert program("listen", "--psk-file", psk_file, *there).code == 0
    config = program.listened.config
    assert (config.redirect_to, config.redirect_above) == (("gw2.example.org", "192.0.2.7"), 100)
    outcome = program("listen", "--psk-file", psk_file, "--redirect-to", "not a host")
    assert outcome.code == 2
    assert "neither an address nor a host name" in outcome.err


@pytest.mark.parametrize(("option", "gives"), [((), True), (("--no-tickets",), False)])
def test_tickets(program: Program, psk_file: str, option: tuple[str, ...], gives: bool) -> None:
    assert program("listen", "--psk-file", psk_file, *option).code == 0
    assert program.listened.config.tickets is gives


def test_clients_are_sent_nowhere(program: Program, psk_file: str) -> None:
    outcome = program("listen", "--psk-file", psk_file, "--redirect-above", "3")
    assert outcome.code == 2
    assert "--redirect-to HOST" in outcome.err
