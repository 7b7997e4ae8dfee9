"""How packets travel: `--encap` and `--transport`."""

from pathlib import Path

import pytest

from espudp.cli.tables import carriage
from espudp.ike.encapsulation import Encapsulation
from espudp.ike.narrowing import DYNAMIC, Dynamic
from espudp.manual import parse_manual
from espudp.wire.transport import Mode
from tests.unit.cli.conftest import Program
from tests.unit.test_manual import TEXT

CONNECT = ("connect", "h", "--psk", "correct horse battery staple")
LISTEN = ("listen", "--bind", "203.0.113.7", "--psk-file")
L2TP = Dynamic(17, 1701, 1701)


@pytest.mark.parametrize(
    ("typed", "wish"),
    [
        ([], Encapsulation.AUTO),
        (["--encap", "auto"], Encapsulation.AUTO),
        (["--encap", "Always"], Encapsulation.ALWAYS),
        (["--encap", "never"], Encapsulation.NEVER),
    ],
)
def test_both_commands_say_when_esp_goes_in_udp(
    program: Program, psk_file: str, typed: list[str], wish: Encapsulation
) -> None:
    assert program(*CONNECT, *typed).code == 0
    assert program.connected.config.encap is wish
    program.ran.clear()
    assert program(*LISTEN, psk_file, *typed).code == 0
    assert program.listened.config.encap is wish


def test_the_former_name_still_works_and_is_not_shown(program: Program) -> None:
    program(*CONNECT, "--force-encap")
    assert program.connected.config.encap is Encapsulation.ALWAYS
    assert "--force-encap" not in program("connect", "--help").out
    assert "--encap" in program("connect", "--help").out


@pytest.mark.parametrize(
    ("typed", "wish"), [([], Encapsulation.ALWAYS), (["--encap", "auto"], Encapsulation.AUTO)]
)
def test_a_product_may_want_udp_and_what_is_typed_counts(
    program: Program, typed: list[str], wish: Encapsulation
) -> None:
    program(*CONNECT, "--preset", "strongswan", *typed)
    assert program.connected.config.encap is wish


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        (["--encap", "perhaps"], "--encap: 'perhaps' is not possible"),
        (["--encap", "never", "--force-encap"], "--encap contradicts --force-encap"),
        (["--transport", "--vip", "any"], "--vip contradicts --transport"),
        (
            ["--transport", "--subnet", "10.1.0.0/16[tcp]"],
            "in transport mode they are those of the two hosts",
        ),
        (["--transport", "--subnet", "nonsense/99"], "'nonsense' is no protocol"),
        (["--transport", "--subnet", "udp/99999"], "'99999' is no port"),
    ],
)
def test_mistakes(program: Program, typed: list[str], said: str) -> None:
    outcome = program(*CONNECT, *typed)
    assert (outcome.code, program.ran) == (2, [])
    assert said in " ".join(outcome.err.split())


def test_manual_keys_without_udp(program: Program, tmp_path: Path) -> None:
    file = tmp_path / "keys.toml"
    file.write_text(TEXT)
    file.chmod(0o600)
    for typed, plain in (([], False), (["--encap", "never"], True)):
        program.ran.clear()
        outcome = program("connect", "--manual", str(file), *typed)
        assert (outcome.code, outcome.err) == (0, "")
        assert (program.carried.plain, program.carried.config) == (plain, parse_manual(TEXT))


@pytest.mark.parametrize(
    ("typed", "local", "remote"),
    [
        ([], (DYNAMIC,), (DYNAMIC,)),
        (["--subnet", "udp/1701"], (DYNAMIC,), (L2TP,)),
        (["--subnet", "dynamic[udp/1701]", "--local-subnet", "[udp/1701]"], (L2TP,), (L2TP,)),
        (["--subnet", "tcp", "--subnet", "icmp"], (DYNAMIC,), (Dynamic(6), Dynamic(1))),
        (["--vip", "none", "--local-subnet", "tcp/1000-2000"], (Dynamic(6, 1000, 2000),), (DYNAMIC,)),
    ],
)
def test_transport_mode_of_who_connects(
    program: Program, typed: list[str], local: tuple[Dynamic, ...], remote: tuple[Dynamic, ...]
) -> None:
    outcome = program(*CONNECT, "--transport", *typed)
    assert (outcome.code, outcome.err) == (0, "")
    config = program.connected.config
    assert (config.child.mode, config.request_addresses) == (Mode.TRANSPORT, ())
    assert (config.child.local, config.child.remote) == (local, remote)


def test_transport_mode_of_who_listens(program: Program, psk_file: str) -> None:
    typed = "--subnet", "udp/1701", "--peer-subnet", "udp"
    outcome = program(*LISTEN, psk_file, "--transport", *typed)
    assert (outcome.code, outcome.err) == (0, "")
    config = program.listened.config
    assert (config.child.mode, config.pool, config.split) == (Mode.TRANSPORT, (), ())
    assert (config.child.local, config.child.remote) == ((L2TP,), (Dynamic(17),))
    outcome = program(*LISTEN, psk_file, "--transport", "--pool", "10.0.0.0/24")
    assert outcome.code == 2
    assert "--pool contradicts --transport" in " ".join(outcome.err.split())


def test_one_way_in_among_others_may_be_for_transport_mode(
    program: Program, psk_file: str, tmp_path: Path
) -> None:
    file = tmp_path / "connections.toml"
    file.write_text(
        "[hosts]\npsk-file = 'psk'\ntransport = true\nsubnet = ['udp/1701']\n"
        "[all]\npsk-file = 'psk'\nfrom = ['192.0.2.0/24']\n"
    )
    outcome = program("listen", "--bind", "203.0.113.7", "--connections", str(file))
    assert (outcome.code, outcome.err) == (0, "")
    hosts, others = program.listened.config.pad
    assert hosts.child is not None
    assert (hosts.child.mode, hosts.child.local, hosts.child.remote) == (Mode.TRANSPORT, (L2TP,), (DYNAMIC,))
    assert others.child is None
    file.write_text("[hosts]\npsk-file = 'psk'\nsubnet = 'udp/1701'\n")
    program.ran.clear()
    outcome = program("listen", "--bind", "203.0.113.7", "--connections", str(file), "--transport")
    assert (outcome.code, outcome.err) == (0, "")
    (hosts,) = program.listened.config.pad
    assert hosts.child is not None
    assert (hosts.child.mode, hosts.child.local) == (Mode.TRANSPORT, (L2TP,))


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("192.0.2.1:4500 -> 192.0.2.2:61000", "UDP 4500"),
        ("[2001:db8::1]:4500 -> [2001:db8::2]:4500", "UDP 4500"),
        ("192.0.2.1:500 -> 192.0.2.2:500", "UDP 500, non-IKE marker"),
        ("192.0.2.1 -> 192.0.2.2", "plain ESP"),
        ("2001:db8::1 -> 2001:db8::2", "plain ESP"),
        ("2001:db8::4500 -> 2001:db8::2", "plain ESP"),
        ("::ffff:192.0.2.1 -> 2001:db8::2", "plain ESP"),
    ],
)
def test_status_says_how_esp_travels(path: str, said: str) -> None:
    assert carriage(path, [500]) == said
