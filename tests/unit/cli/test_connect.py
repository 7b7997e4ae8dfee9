"""`espudp connect`: what its options become, and what it refuses."""

from pathlib import Path

import pytest

from espudp.crypto.suites import parse_esp_suite
from espudp.host.options import Report, Severity
from espudp.ike.config import DYNAMIC
from espudp.ike.credentials import Psk, PskOf
from espudp.ike.encapsulation import Encapsulation
from espudp.ike.proposals import DEFAULT_ESP_PROPOSALS, DEFAULT_IKE_PROPOSALS
from tests.unit.cli.conftest import Program

PSK = "correct horse battery staple"


def test_the_defaults(program: Program, psk_file: str) -> None:
    outcome = program("connect", "vpn.example.org", "--psk-file", psk_file)
    assert (outcome.code, outcome.err) == (0, "")
    options = program.connected
    assert (options.host, options.port, options.ike_port, options.retry) == (
        "vpn.example.org",
        4500,
        500,
        True,
    )
    assert (options.bind, options.device, options.name, options.mark, options.mtu) == (
        *(None, "esp%d", None, None, None),
    )
    config = options.config
    assert (config.proof, config.demand) == (Psk(PSK.encode()), PskOf(PSK.encode()))
    assert config.remote_identity is None
    assert config.request_addresses == ("any4",)
    assert config.child.local == (DYNAMIC,)
    assert [str(s) for s in config.child.remote] == ["0.0.0.0/0"]
    assert config.child.replay_window == 1024
    assert (config.ike_proposals, config.child.proposals) == (DEFAULT_IKE_PROPOSALS, DEFAULT_ESP_PROPOSALS)
    assert (config.child.lifetime.soft_seconds, config.child.lifetime.hard_seconds) == (3000, 3600)
    assert (config.timers.ike_lifetime.soft_seconds, config.timers.dpd_interval) == (14400, 30)
    assert config.encap is Encapsulation.AUTO
    assert (config.timers.reauth, config.mobike) == (None, True)


def test_every_option(program: Program) -> None:
    outcome = program(
        *("connect", "203.0.113.7", "--psk", PSK, "--id", "me@example.org", "--remote-id", "@gw.example.org"),
        *("--subnet", "10.1.0.0/16", "--subnet", "10.2.0.0/16", "--local-subnet", "10.3.0.0/16"),
        *("--vip", "10.1.0.77", "--force-encap", "--no-retry"),
        *("--ike-proposal", "aes256-sha256-modp2048", "--ike-proposal", "aes128gcm16-prfsha256-curve25519"),
        *("--esp-proposal", "aes128-sha256-esn", "--replay-window", "64"),
        *(
            "--ike-lifetime",
            "2h",
            "--child-lifetime",
            "30m",
            "--child-bytes",
            "1G",
            "--child-packets",
            "1000",
        ),
        *("--dpd", "0", "--bind", "192.0.2.9", "--dev", "office", "--mtu", "1280", "--mark", "0x40"),
        *("--control-name", "work", "--reauth", "8h", "--no-mobike"),
    )
    assert (outcome.code, outcome.err) == (0, "")
    options = program.connected
    assert (options.bind, options.device, options.name, options.mark, options.mtu) == (
        *("192.0.2.9", "office", "work", 0x40, 1280),
    )
    assert not options.retry
    config = options.config
    assert (str(config.local_identity), str(config.remote_identity)) == ("me@example.org", "gw.example.org")
    assert (config.proof, config.demand) == (Psk(PSK.encode()), PskOf(PSK.encode()))
    assert [str(s) for s in config.child.remote] == ["10.1.0.0/16", "10.2.0.0/16"]
    assert [str(s) for s in config.child.local] == ["dynamic", "10.3.0.0/16"]
    assert config.request_addresses == ("10.1.0.77",)
    assert config.encap is Encapsulation.ALWAYS
    assert [str(p) for p in config.ike_proposals] == [
        "aes256-sha256-prfsha256-modp2048",
        "aes128gcm16-prfsha256-curve25519",
    ]
    assert [str(p) for p in config.child.proposals] == ["aes128-sha256-esn"]
    assert config.child.replay_window == 64
    lifetime = config.child.lifetime
    assert (lifetime.soft_seconds, lifetime.hard_seconds) == (1800, 2160)
    assert (lifetime.soft_bytes, lifetime.soft_packets) == (10**9, 1000)
    assert (lifetime.hard_bytes or 0) > 10**9
    assert (lifetime.hard_packets or 0) > 1000
    assert (config.timers.ike_lifetime.soft_seconds, config.timers.dpd_interval) == (7200, 0)
    assert (config.timers.reauth, config.mobike) == (28800, False)


@pytest.mark.parametrize(
    ("given", "ports"),
    [
        ([], (4500, 500)),
        (["--port", "4501"], (4501, None)),
        (["--port", "4501", "--ike-port", "501"], (4501, 501)),
        (["--ike-port", "501"], (4500, 501)),
        (["--port", "4500"], (4500, None)),
    ],
)
def test_a_port_alone_is_where_the_exchange_starts(
    program: Program, given: list[str], ports: tuple[int, int | None]
) -> None:
    program("connect", "h", "--psk", PSK, *given)
    assert (program.connected.port, program.connected.ike_port) == ports


@pytest.mark.parametrize(
    ("subnets", "requested"),
    [
        (["10.0.0.0/8"], ("any4",)),
        (["fd00::/8"], ("any6",)),
        (["0.0.0.0/0", "::/0"], ("any4", "any6")),
    ],
)
def test_addresses_are_asked_for_of_the_versions_of_the_subnets(
    program: Program, subnets: list[str], requested: tuple[str, ...]
) -> None:
    program("connect", "h", "--psk", PSK, *(word for subnet in subnets for word in ("--subnet", subnet)))
    assert program.connected.config.request_addresses == requested


@pytest.mark.parametrize(("given", "dscp"), [([], None), (["copy"], None), (["0"], 0), (["46"], 46)])
def test_the_dscp_of_outer_packets(program: Program, given: list[str], dscp: int | None) -> None:
    program("connect", "h", "--psk", PSK, *(word for value in given for word in ("--dscp", value)))
    assert program.connected.dscp == dscp


@pytest.mark.parametrize(("given", "workers"), [([], 1), (["0"], 0), (["64"], 64)])
def test_workers(program: Program, given: list[str], workers: int) -> None:
    program("connect", "h", "--psk", PSK, *(word for value in given for word in ("--workers", value)))
    assert program.connected.workers == workers


@pytest.mark.parametrize(("given", "rehearsal"), [([], True), (["--no-rehearsal"], False)])
def test_the_rehearsal_can_be_left_out(program: Program, given: list[str], rehearsal: bool) -> None:
    program("connect", "h", "--psk", PSK, *given)
    assert program.connected.rehearsal == rehearsal


def test_no_virtual_address(program: Program) -> None:
    program("connect", "h", "--psk", PSK, "--vip", "none", "--local-subnet", "10.3.0.0/16")
    config = program.connected.config
    assert config.request_addresses == ()
    assert [str(s) for s in config.child.local] == ["10.3.0.0/16"]


@pytest.mark.parametrize(
    ("given", "behind"),
    [
        ((), ["0.0.0.0/0"]),
        (("--vip", "any4", "--vip", "any6"), ["0.0.0.0/0", "::/0"]),
        (("--vip", "any6"), ["::/0"]),
        (("--vip", "fd00::7"), ["::/0"]),
        (("--vip", "any6", "--local-subnet", "10.3.0.0/16"), ["0.0.0.0/0", "::/0"]),
        (("--vip", "any6", "--subnet", "10.1.0.0/16"), ["10.1.0.0/16"]),
    ],
)
def test_everything_is_what_our_addresses_reach(
    program: Program, given: tuple[str, ...], behind: list[str]
) -> None:
    program("connect", "h", "--psk", PSK, *given)
    assert [str(s) for s in program.connected.config.child.remote] == behind


def test_the_key_may_come_from_the_environment(program: Program) -> None:
    program("connect", "h", env={"ESPUDP_PSK": "from there"})
    assert program.connected.config.proof == Psk(b"from there")


def test_our_identity_is_stable_and_hides_the_machine_id(program: Program) -> None:
    program("connect", "h", "--psk", PSK)
    program("connect", "h", "--psk", PSK)
    one, other = (options.config.local_identity for options in program.ran)  # type: ignore[attr-defined]
    assert one == other
    machine = Path("/etc/machine-id")
    assert not machine.exists() or machine.read_text().strip()[:8] not in str(one)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "whom to connect to"),
        (["h"], "No pre-shared key is given"),
        (["h", "--psk", PSK, "--psk-file", "psk"], "--psk-file contradicts --psk"),
        (["h", "--psk-file", "nowhere"], "The PSK file nowhere does not exist"),
        (["h", "--psk", ""], "The PSK is empty"),
        (["h", "--psk", PSK, "--subnet", "10.0.0.0/33"], "--subnet: '10.0.0.0/33' is not a subnet"),
        (["h", "--psk", PSK, "--vip", "nonsense"], "--vip: 'nonsense' is not an IP address"),
        (["h", "--psk", PSK, "--vip", "none"], "with --vip none no address of this host"),
        (["h", "--psk", PSK, "--port", "70000"], "--port: 70000 is not a UDP port"),
        (["h", "--psk", PSK, "--esp-proposal", "rot13"], "rot13"),
        (["h", "--psk", PSK, "--esp-proposal", "des-sha1"], "names des, which is not spoken here"),
        (["h", "--psk", PSK, "--ike-proposal", "aes128-sha256"], "Diffie-Hellman"),
        (["h", "--psk", PSK, "--id", "a b"], "a b"),
        (["h", "--psk", PSK, "--dpd", "soon"], "--dpd: 'soon' cannot be read"),
        (["h", "--psk", PSK, "--mark", "x"], "--mark: 'x' is not a mark"),
        (["h", "--psk", PSK, "--dscp", "64"], "--dscp: '64' is no DSCP"),
        (["h", "--psk", PSK, "--workers", "65"], "--workers"),
        (["h", "--psk", PSK, "--replay-window", "31"], "--replay-window: 31 packets"),
        (["h", "--psk", PSK, "--bind", "eth0"], "--bind: 'eth0' is not an IP address"),
        (["h", "--manual", "f.toml"], "HOST contradicts --manual"),
        (["--manual", "f.toml", "--psk", PSK, "--subnet", "::/0"], "--psk and --subnet contradict --manual"),
        (["--manual", "f.toml", "--vip", "none", "--no-retry"], "--vip and --retry contradict --manual"),
        (["h", "--psk", PSK, "--id", ""], "an identity has 1 to"),
        (["--manual", "f.toml"], "The key file f.toml does not exist"),
        (["h", "--nonsense"], "No such option"),
        (["h", "--mtu", "20"], "Invalid value for '--mtu'"),
    ],
)
def test_mistakes_of_usage(program: Program, arguments: list[str], said: str) -> None:
    outcome = program("connect", *arguments)
    assert outcome.code == 2
    assert not program.ran
    assert said.lower() in outcome.err.lower()
    assert PSK not in outcome.err
    assert len(outcome.err.strip().splitlines()) >= 2


def test_a_key_that_others_can_read(program: Program, psk_file: str) -> None:
    Path(psk_file).chmod(0o644)
    outcome = program("connect", "h", "--psk-file", psk_file)
    assert outcome.code == 2
    assert "accessible to others (mode 0644)" in outcome.err
    assert f"chmod 600 {psk_file}\n" in outcome.err


def test_reports_go_where_they_belong(program: Program) -> None:
    program.says = [
        Report("Connected to h: suite s."),
        Report("the cause", Severity.DETAIL),
        Report("Lost.", Severity.WARNING, "wait"),
        Report("Refused.", Severity.ERROR, "ours: a\ntheirs: b"),
    ]
    program.code = 1
    outcome = program("connect", "h", "--psk", PSK)
    assert (outcome.code, outcome.out) == (1, "Connected to h: suite s.\n")
    refused = "espudp: Refused.\n        ours: a\n        theirs: b\n"
    assert outcome.err == f"espudp: Lost.\n        Wait\n{refused}"
    assert program("connect", "h", "--psk", PSK, "-v").out == "Connected to h: suite s.\nthe cause\n"
    assert program("connect", "h", "--psk", PSK, "-q").out == ""


def test_manual_keys(program: Program) -> None:
    assert program("keygen", "--manual", "--server", "203.0.113.7").code == 0
    outcome = program(
        "connect", "--manual", "client.toml", "--dev", "byhand", "--dscp", "8", "--no-rehearsal"
    )
    assert (outcome.code, outcome.err) == (0, "")
    options = program.carried
    assert (options.device, options.forward, options.dscp, options.rehearsal) == ("byhand", False, 8, False)
    assert options.config.suite == parse_esp_suite("aes256-sha256")
    assert str(options.config.peer) == "203.0.113.7:4500"


def test_a_key_file_for_others_to_read_or_of_nonsense(program: Program, tmp_path: Path) -> None:
    file = tmp_path / "k.toml"
    file.write_text("suite = 1")
    file.chmod(0o640)
    outcome = program("connect", "--manual", "k.toml")
    assert outcome.code == 2
    assert "accessible to others" in outcome.err
    file.chmod(0o600)
    assert "suite: must be text" in program("connect", "--manual", "k.toml").err
    file.write_bytes(b"\xff\xfe\x00")
    assert "is not text" in program("connect", "--manual", "k.toml").err


@pytest.mark.parametrize(("option", "follows"), [((), True), (("--no-redirect",), False)])
def test_where_the_peer_sends_us(
    program: Program, psk_file: str, option: tuple[str, ...], follows: bool
) -> None:
    assert program("connect", "vpn.example.org", "--psk-file", psk_file, *option).code == 0
    assert program.connected.config.follow_redirects is follows


@pytest.mark.parametrize(("option", "resumes"), [((), True), (("--no-resume",), False)])
def test_tickets(program: Program, psk_file: str, option: tuple[str, ...], resumes: bool) -> None:
    assert program("connect", "vpn.example.org", "--psk-file", psk_file, *option).code == 0
    assert program.connected.config.resume is resumes


@pytest.mark.parametrize(("option", "childless"), [((), False), (("--childless",), True)])
def test_childless(program: Program, psk_file: str, option: tuple[str, ...], childless: bool) -> None:
    assert program("connect", "vpn.example.org", "--psk-file", psk_file, *option).code == 0
    assert program.connected.config.childless is childless
