"""`--preset`: what it changes, and that what is typed counts instead."""

import pytest

from espudp.ike.encapsulation import Encapsulation
from espudp.ike.proposals import DEFAULT_IKE_PROPOSALS, IkeProposal
from espudp.ike.v1.phase1_proposals import to_offer
from espudp.presets import PRESETS
from tests.unit.cli.conftest import Program

CONNECT = ("connect", "gw.example.org", "--psk", "correct horse battery staple")


def version(name: str) -> list[str]:
    return ["--ikev1", "main"] if PRESETS[name].ikev1_only else []


def proposals(name: str) -> tuple[IkeProposal, ...]:
    return tuple(map(IkeProposal.parse, PRESETS[name].ike))


@pytest.mark.parametrize("name", PRESETS)
def test_each_makes_a_connection(program: Program, name: str) -> None:
    outcome = program(
        *(*CONNECT, "--preset", name, "--subnet", "10.1.0.0/16", "--local-subnet", "10.3.0.0/16"),
        *version(name),
    )
    assert (outcome.code, outcome.err) == (0, "")
    config = program.connected.config
    assert config.ike_proposals == proposals(name)
    assert config.encap is Encapsulation.ALWAYS
    assert config.child.single_pair == PRESETS[name].single_pair
    assert (config.request_addresses == ()) == PRESETS[name].site


@pytest.mark.parametrize("name", PRESETS)
def test_each_makes_a_listener(program: Program, psk_file: str, name: str) -> None:
    outcome = program(
        *("listen", "--bind", "203.0.113.7", "--psk-file", psk_file, "--preset", name),
        *("--subnet", "10.1.0.0/16", "--peer-subnet", "10.3.0.0/16"),
        *version(name),
    )
    assert (outcome.code, outcome.err) == (0, "")
    assert program.listened.config.ike_proposals == proposals(name)
    assert (program.listened.routes is not None) == PRESETS[name].any_to_any


def test_what_is_typed_counts(program: Program) -> None:
    program(
        *(*CONNECT, "--preset", "CloudFlare", "--ike-proposal", "aes128gcm16-prfsha256-curve25519"),
        *("--esp-proposal", "aes128gcm16", "--port", "4501", "--ike-port", "501", "--subnet", "10.0.0.0/8"),
    )
    options = program.connected
    assert [str(p) for p in options.config.ike_proposals] == ["aes128gcm16-prfsha256-curve25519"]
    assert [str(p) for p in options.config.child.proposals] == ["aes128gcm16"]
    assert (options.port, options.ike_port) == (4501, 501)


def test_the_exchange_starts_on_port_4500(program: Program) -> None:
    program(*CONNECT, "--preset", "cloudflare", "--subnet", "10.0.0.0/8")
    assert (program.connected.port, program.connected.ike_port) == (4500, None)


def test_negotiated_for_everything_and_routed_for_some(program: Program) -> None:
    outcome = program(*CONNECT, "--preset", "azure", "--subnet", "10.1.0.0/16", "--subnet", "10.2.0.0/16")
    config = program.connected.config
    assert [str(s) for s in (*config.child.local, *config.child.remote)] == ["0.0.0.0/0", "0.0.0.0/0"]
    assert [str(n) for n in program.connected.routes or ()] == ["10.1.0.0/16", "10.2.0.0/16"]
    assert "Azure VPN Gateway: Azure starts with a group of 1024 bits" in outcome.out


def test_a_site_may_nevertheless_give_an_address(program: Program) -> None:
    program(*CONNECT, "--preset", "fortigate")
    assert program.connected.config.request_addresses == ("any4",)


def test_clients_of_several_kinds(program: Program, psk_file: str) -> None:
    program(
        *("listen", "--bind", "203.0.113.7", "--psk-file", psk_file),
        *("--preset", "windows", "--preset", "ios", "--preset", "macos"),
    )
    config = program.listened.config
    assert config.ike_proposals == tuple(dict.fromkeys((*proposals("windows"), *proposals("ios"))))
    assert config.ike_proposals != DEFAULT_IKE_PROPOSALS
    assert program.listened.routes is None


@pytest.mark.parametrize("name", PRESETS)
def test_all_have_something_to_offer_in_aggressive_mode(program: Program, name: str) -> None:
    """With the one group that old gateways have."""
    here = ("--preset", name, "--subnet", "10.1.0.0/16")
    assert program(*CONNECT, *here, "--ikev1", "aggressive").code == 0
    (suite, *_) = to_offer(program.connected.config.ike_proposals, one_group=True)
    assert suite.dh.keyword == "modp2048"


def test_a_product_without_anything_newer(program: Program) -> None:
    outcome = program(*CONNECT, "--preset", "fritzbox", "--ikev1", "aggressive")
    assert "both as --id and as --xauth-user" in " ".join(outcome.out.split())
    for command in (CONNECT, ("listen", "--bind", "203.0.113.7")):
        outcome = program(*command, "--preset", "fritzbox")
        assert outcome.code == 2
        assert "FRITZ!Box speaks IKEv1 alone" in outcome.err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--preset", "netscreen"], "--preset: there is none for 'netscreen'"),
        (["--preset", "aws"], "AWS Site-to-Site VPN negotiates 0.0.0.0/0"),
        (["--preset", "azure", "--subnet", "lan"], "--subnet: 'lan' is not a subnet"),
    ],
)
def test_mistakes(program: Program, arguments: list[str], said: str) -> None:
    outcome = program(*CONNECT, *arguments)
    assert (outcome.code, program.ran) == (2, [])
    assert said in outcome.err


@pytest.mark.parametrize(
    "command", [("connect", "gw.example.org"), ("listen", "--bind", "203.0.113.7")], ids=["connect", "listen"]
)
def test_weak_algorithms_are_told_of_at_the_start(
    command: tuple[str, ...], program: Program, psk_file: str
) -> None:
    """Once, with what is wrong with each of them, whether or not they are agreed on."""
    weak = "--ike-proposal", "3des-sha1-modp1024", "--esp-proposal", "3des-sha1"
    outcome = program(*command, "--psk-file", psk_file, *weak)
    assert outcome.code == 0
    assert outcome.err.count("Weak") == 1
    assert outcome.err.count("3des has blocks of 64 bits") == 1
    assert "modp1024 has a prime so small" in outcome.err
    assert "sha1" not in outcome.err
