"""Selectors with ports and protocols, as they are typed."""

import pytest

from espudp.cli.selectors import selector, selectors_or_dynamic
from espudp.errors import ConfigError
from espudp.ike.narrowing import DYNAMIC
from tests.unit.cli.conftest import Program

CONNECT = ("connect", "h", "--psk", "correct horse battery staple")


@pytest.mark.parametrize(
    ("typed", "read"),
    [
        ("10.1.0.0/16", "10.1.0.0/16"),
        (" 10.1.2.3/16 ", "10.1.0.0/16"),
        ("10.1.2.3", "10.1.2.3/32"),
        ("10.1.0.5-10.1.0.9", "10.1.0.5-10.1.0.9"),
        ("fd00::1-fd00::f[udp]", "fd00::1-fd00::f[udp/any]"),
        ("10.0.0.0/8[tcp/443]", "10.0.0.0/8[tcp/443]"),
        ("10.0.0.0/8[TCP/https]", "10.0.0.0/8[tcp/443]"),
        ("10.0.0.0/8[udp/1024-2047]", "10.0.0.0/8[udp/1024-2047]"),
        ("10.0.0.0/8[17]", "10.0.0.0/8[udp/any]"),
        ("10.0.0.0/8[/53]", "10.0.0.0/8[any/53]"),
        ("10.0.0.0/8[tcp/opaque]", "10.0.0.0/8[tcp/opaque]"),
        ("10.0.0.0/8[%any/%any]", "10.0.0.0/8"),
        ("10.0.0.0/8[]", "10.0.0.0/8"),
        ("fd00::/8[ipv6-icmp/32768]", "fd00::/8[ipv6-icmp/32768]"),
        ("10.0.0.0/8[gre]", "10.0.0.0/8[47/any]"),
    ],
)
def test_as_people_write_them(typed: str, read: str) -> None:
    assert str(selector(typed, "--subnet")) == read


@pytest.mark.parametrize(
    "typed",
    [
        *(
            "",
            "lan",
            "10.0.0.0/33",
            "10.0.0.9-10.0.0.5",
            "10.0.0.1-fd00::1",
            "10.0.0.1-",
            "10.0.0.0/8[tcp",
            "a[b]c",
        ),
        *("10.0.0.0/8[tcp/443/1]", "10.0.0.0/8[256]", "10.0.0.0/8[nonsense]", "10.0.0.0/8[tcp/65536]"),
        *("10.0.0.0/8[tcp/9-5]", "10.0.0.0/8[tcp/nothing]", "10.0.0.0/8[tcp/-5]", "dynamic[tcp/22]"),
    ],
)
def test_what_is_none(typed: str) -> None:
    with pytest.raises(ConfigError, match="--subnet: ") as caught:
        selector(typed, "--subnet")
    assert "10.1.0.0/16[tcp/443]" in caught.value.remedy


def test_the_virtual_address_with_ports() -> None:
    plain, ssh = selectors_or_dynamic(["dynamic", "dynamic[tcp/ssh]"], "--local-subnet")
    assert plain == DYNAMIC
    assert (str(plain), str(ssh)) == ("dynamic", "dynamic[tcp/22]")


def test_both_sides_of_a_connection(program: Program) -> None:
    outcome = program(
        *CONNECT,
        *("--subnet", "10.1.0.0/16[tcp/443]", "--subnet", "fd00::/8", "--local-subnet", "dynamic[tcp]"),
        "--single-pair",
    )
    assert (outcome.code, outcome.err) == (0, "")
    config = program.connected.config
    assert [str(s) for s in config.child.remote] == ["10.1.0.0/16[tcp/443]", "fd00::/8"]
    assert [str(s) for s in config.child.local] == ["dynamic[tcp/any]"]
    assert config.child.single_pair
    assert config.request_addresses == ("any4", "any6")


def test_of_a_listener(program: Program, psk_file: str) -> None:
    program(
        *("listen", "--bind", "203.0.113.7", "--psk-file", psk_file, "--pool", "10.9.0.0/24"),
        *("--subnet", "10.1.0.0/16[udp/53]", "--peer-subnet", "dynamic[udp]"),
    )
    config = program.listened.config
    assert [str(s) for s in config.child.local] == ["10.9.0.0/24", "10.1.0.0/16[udp/53]"]
    assert [str(s) for s in config.child.remote] == ["dynamic[udp/any]"]
    assert [str(network) for network in config.split] == ["10.9.0.0/24", "10.1.0.0/16"]
