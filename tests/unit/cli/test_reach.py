"""Which addresses and names a tunnel is for: `--subnet`, `--vip`, `--dns` and their like."""

import pytest

from tests.unit.cli.conftest import Program

CONNECT = ("connect", "h", "--psk", "correct horse battery staple")


@pytest.mark.parametrize(
    ("arguments", "asked"),
    [
        ([], ("any4",)),
        (["--subnet", "10.0.0.0/8", "--subnet", "fd00::/8"], ("any4", "any6")),
        (["--vip", "any4", "--vip", "any6"], ("any4", "any6")),
        (["--vip", "any", "--vip", "any4", "--vip", "FD00::7"], ("any4", "any4", "fd00::7")),
        (["--vip", "none", "--local-subnet", "10.3.0.0/16"], ()),
    ],
)
def test_addresses_to_ask_for(program: Program, arguments: list[str], asked: tuple[str, ...]) -> None:
    outcome = program(*CONNECT, *arguments)
    assert (outcome.code, outcome.err) == (0, "")
    assert program.connected.config.request_addresses == asked


def test_none_is_no_address_beside_others(program: Program) -> None:
    outcome = program(*CONNECT, "--vip", "none", "--vip", "any")
    assert (outcome.code, program.ran) == (2, [])
    assert "--vip none contradicts the other addresses" in outcome.err


@pytest.mark.parametrize(("given", "used"), [([], True), (["--dns"], True), (["--no-dns"], False)])
def test_the_peers_dns_servers(program: Program, given: list[str], used: bool) -> None:
    program(*CONNECT, *given)
    assert program.connected.dns == used


def test_domains_for_a_peer_that_names_none(program: Program) -> None:
    program(*CONNECT, "--dns-domain", "Corp.Example", "--dns-domain", "lab.test.")
    assert program.connected.dns_domains == ("corp.example", "lab.test")
    assert program(*CONNECT, "--dns-domain", "..").code == 2


def test_split_dns_for_clients(program: Program, psk_file: str) -> None:
    outcome = program(
        *("listen", "--bind", "203.0.113.7", "--psk-file", psk_file, "--subnet", "10.1.0.0/16"),
        *("--dns", "10.1.0.53", "--dns-domain", "Corp.Example.", "--dns-domain", "lab.test"),
    )
    assert (outcome.code, outcome.err) == (0, "")
    config = program.listened.config
    assert config.dns_domains == ("corp.example", "lab.test")
    assert [str(network) for network in config.split] == ["10.99.0.0/24", "10.1.0.0/16"]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--subnet", "0.0.0.0/0"], []),
        (
            ["--subnet", "0.0.0.0/0", "--subnet", "::/0", "--split", "10.0.0.0/8", "--split", "fd00::/8"],
            ["10.0.0.0/8", "fd00::/8"],
        ),
        (["--pool", "none", "--peer-subnet", "10.2.0.0/16", "--subnet", "10.1.0.0/16"], ["10.1.0.0/16"]),
    ],
)
def test_what_clients_are_told_is_behind_us(
    program: Program, psk_file: str, arguments: list[str], told: list[str]
) -> None:
    program("listen", "--bind", "203.0.113.7", "--psk-file", psk_file, *arguments)
    assert [str(network) for network in program.listened.config.split] == told


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--dns-domain", "corp.example"], "--dns-domain without --dns"),
        (["--dns", "10.1.0.53", "--dns-domain", "."], "--dns-domain: '.' is not a domain"),
        (
            ["--dns", "10.1.0.53", "--dns-domain", "büro.example"],
            "--dns-domain: 'büro.example' is not a domain",
        ),
        (["--split", "office"], "--split: 'office' is not a subnet"),
        (["--split", "10.1.0.0/16"], "what is for 10.1.0.0/16 through us, and no tunnel carries it"),
        (["--subnet", "10.1.0.0/16", "--split", "10.0.0.0/8"], "Add --subnet 10.0.0.0/8"),
    ],
)
def test_mistakes(program: Program, psk_file: str, arguments: list[str], said: str) -> None:
    outcome = program("listen", "--bind", "203.0.113.7", "--psk-file", psk_file, *arguments)
    assert (outcome.code, program.ran) == (2, [])
    assert said in outcome.err
