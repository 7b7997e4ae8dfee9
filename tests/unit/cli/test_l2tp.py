"""`--l2tp`: what it becomes, what it writes and says, and what it contradicts."""

from pathlib import Path

import pytest

from espudp.host import l2tp
from espudp.host.options import Report
from espudp.ike.config import Mode
from espudp.ike.ikev1_config import Ikev1Policy
from espudp.ike.ikev1_config import Mode as Phase1
from espudp.ike.narrowing import Dynamic
from tests.unit.cli.conftest import Program

UDP = 17
PORT = Dynamic(UDP, 1701, 1701)


@pytest.fixture(autouse=True)
def lacking(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What of L2TP is not installed."""
    programs: list[str] = []
    monkeypatch.setattr(l2tp, "missing", lambda: programs)
    return programs


def test_who_listens(program: Program, psk_file: str, tmp_path: Path) -> None:
    typed = ("listen", "--psk-file", psk_file, "--l2tp", "--l2tp-config", str(tmp_path / "l2tp"))
    outcome = program(*typed, "--pool", "10.9.0.0/24", "--dns", "10.1.0.53")
    assert outcome.code == 0
    options = program.listened
    config = options.config
    assert options.confined_port == 1701
    assert (config.pool, config.dns) == ((), ())
    assert config.child.mode is Mode.TRANSPORT
    assert (config.child.local, config.child.remote) == ((PORT,), (Dynamic(UDP),))
    assert config.ikev1 is not None
    assert config.ikev1.modes == {Phase1.MAIN}
    assert {str(p).split("-")[-1] for p in config.ike_proposals} == {"modp2048", "modp1024"}
    assert "modp1024" in outcome.err  # the one that is weak is told of
    assert "local ip = 10.9.0.1" in (tmp_path / "l2tp" / "xl2tpd.conf").read_text()
    assert "ms-dns 10.1.0.53" in (tmp_path / "l2tp" / "options.xl2tpd").read_text()
    assert f"start `xl2tpd -D -c {tmp_path}/l2tp/xl2tpd.conf -C " in outcome.out
    assert "NAME l2tp PASSWORD *" in outcome.out
    assert "correct horse" not in outcome.out + outcome.err


def test_who_connects(program: Program, psk_file: str, tmp_path: Path) -> None:
    typed = ("connect", "vpn.example.com", "--psk-file", psk_file, "--l2tp", "--l2tp-config", str(tmp_path))
    outcome = program(*typed, "--l2tp-user", "alice")
    assert (outcome.code, outcome.err) == (0, "")
    options = program.connected
    assert options.confined_port == 1701
    assert options.config.request_addresses == ()
    assert options.config.child.mode is Mode.TRANSPORT
    assert (options.config.child.local, options.config.child.remote) == ((PORT,), (PORT,))
    assert options.config.ikev1 is None
    assert "lns = vpn.example.com" in (tmp_path / "xl2tpd.conf").read_text()
    assert "user alice" in (tmp_path / "options.xl2tpd").read_text()
    assert "alice * PASSWORD *" in outcome.out


def test_what_is_not_installed_is_told_of(
    program: Program, psk_file: str, tmp_path: Path, lacking: list[str]
) -> None:
    lacking += ["xl2tpd", "pppd"]
    outcome = program("listen", "--psk-file", psk_file, "--l2tp", "--l2tp-config", str(tmp_path))
    assert outcome.code == 0
    assert "This host has no xl2tpd and no pppd, " in outcome.err
    assert "packages: xl2tpd and ppp." in outcome.err


def test_nothing_is_written_unless_asked_for(program: Program, psk_file: str, tmp_path: Path) -> None:
    for typed in (("listen",), ("connect", "192.0.2.1")):
        outcome = program(*typed, "--psk-file", psk_file, "--l2tp")
        assert outcome.code == 0
        assert "--l2tp-config DIR" in outcome.out
    assert list(tmp_path.iterdir()) == [Path(psk_file)]


def test_what_is_typed_counts(program: Program, psk_file: str) -> None:
    modes, ike, esp = ("--ikev1", "main,aggressive"), "aes256-sha512-ecp384", "aes256gcm16"
    proposals = ("--ike-proposal", ike, "--esp-proposal", esp)
    assert program("listen", "--psk-file", psk_file, "--l2tp", *modes, *proposals).code == 0
    config = program.listened.config
    assert config.ikev1 == Ikev1Policy(modes=frozenset(Phase1))
    assert [str(p) for p in (*config.ike_proposals, *config.child.proposals)] == [
        "aes256-sha512-prfsha512-ecp384",
        esp,
    ]


def test_the_line_for_the_other_host_has_it_too(program: Program) -> None:
    program.says = [Report("Listening.")]
    outcome = program("listen", "--bind", "203.0.113.7", "--l2tp")
    assert "espudp connect 203.0.113.7 --l2tp " in outcome.out


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        (("listen", "--l2tp", "--subnet", "10.0.0.0/8"), "--subnet"),
        (("listen", "--l2tp", "--peer-subnet", "10.0.0.0/8"), "--peer-subnet"),
        (("listen", "--l2tp", "--pool", "fd00::/64"), "of IPv4"),
        (("listen", "--l2tp", "--pool", "10.8.0.0/24", "--pool", "10.9.0.0/24"), "one pool"),
        (("listen", "--l2tp", "--pool", "none", "--peer-subnet", "10.0.0.0/8"), "--peer-subnet"),
        (("listen", "--l2tp-config", "/nowhere"), "without --l2tp"),
        (("connect", "192.0.2.1", "--l2tp", "--subnet", "10.0.0.0/8"), "--subnet"),
        (("connect", "192.0.2.1", "--l2tp", "--vip", "any"), "--vip"),
        (("connect", "192.0.2.1", "--l2tp-user", "alice"), "without --l2tp"),
        (("connect", "192.0.2.1", "--l2tp", "--l2tp-config", "/nowhere"), "--l2tp-user"),
        (("connect", "--l2tp"), "whom to connect to"),
    ],
)
def test_what_contradicts_it(program: Program, psk_file: str, typed: tuple[str, ...], said: str) -> None:
    outcome = program(*typed, "--psk-file", psk_file)
    assert outcome.code == 2
    assert said in outcome.err


def test_files_of_somebody_else_stay(program: Program, psk_file: str, tmp_path: Path) -> None:
    theirs = tmp_path / "xl2tpd.conf"
    theirs.write_text("[global]\n")
    typed = ("listen", "--psk-file", psk_file, "--l2tp", "--l2tp-config", str(tmp_path))
    outcome = program(*typed)
    assert outcome.code == 2
    assert str(theirs) in outcome.err
    assert theirs.read_text() == "[global]\n"
