"""Which packets selectors let through (RFC 4301 sections 4.4.1.1 and 7)."""

from ipaddress import ip_address

import pytest

from espudp.esp.selectors import SelectorSet, Verdict
from espudp.wire import ip
from espudp.wire.selectors import TrafficSelector
from tests.unit.esp.peers import LEFT, LEFT6, RIGHT, RIGHT6, selectors, tcp, udp

NET = TrafficSelector.from_network("10.1.0.0/16")
RANGE = TrafficSelector(ip_address("10.2.0.1"), ip_address("10.2.0.5"))


def on(cidr: str, protocol: int = 0, first_port: int = 0, last_port: int = 65535) -> TrafficSelector:
    net = TrafficSelector.from_network(cidr)
    return TrafficSelector(net.first, net.last, protocol, first_port, last_port)


def matches(selector_set: SelectorSet, packet: bytes) -> bool:
    flow = ip.parse_flow(packet)
    assert flow is not None
    verdict = selector_set.verdict(ip.addresses_of(packet))
    found = selector_set.matches(flow)
    # What the addresses alone say never contradicts what the whole packet says.
    assert found or verdict is not Verdict.ALL
    assert not found or verdict is not Verdict.NONE
    return found


def later_fragment(packet: bytes) -> bytes:
    return packet[:6] + b"\x00\x40" + packet[8:]


@pytest.mark.parametrize(
    ("src", "dst", "verdict"),
    [
        ("10.1.0.0", "10.2.0.1", Verdict.ALL),
        ("10.1.255.255", "10.2.0.5", Verdict.ALL),
        ("10.2.0.0", "10.2.0.1", Verdict.NONE),
        ("10.0.255.255", "10.2.0.1", Verdict.NONE),
        ("10.1.0.0", "10.2.0.0", Verdict.NONE),
        ("10.1.0.0", "10.2.0.6", Verdict.NONE),
        ("fd00::1", "fd00::2", Verdict.NONE),
        # IPv6 addresses whose first octets are those of the IPv4 ones
        ("a01::", "a02:1::", Verdict.NONE),
    ],
)
def test_addresses(src: str, dst: str, verdict: Verdict) -> None:
    addresses = ip_address(src).packed + ip_address(dst).packed
    assert SelectorSet([NET], [RANGE]).verdict(addresses) is verdict


def test_any_source_with_any_destination() -> None:
    both = SelectorSet(selectors("10.1.0.0/24", "10.9.0.0/24"), selectors("10.2.0.0/24", "10.8.0.0/24"))
    for src in ("10.1.0.1", "10.9.0.1"):
        for dst in ("10.2.0.1", "10.8.0.1"):
            assert matches(both, udp(60, src=ip_address(src).packed, dst=ip_address(dst).packed))


@pytest.mark.parametrize(
    ("destination", "packet", "expected"),
    [
        (on("10.2.0.1/32", ip.UDP), udp(), True),
        (on("10.2.0.1/32", ip.TCP), udp(), False),
        (on("10.2.0.1/32", ip.TCP), tcp(), True),
        (on("10.2.0.1/32", ip.UDP, 2000, 2000), udp(), True),
        (on("10.2.0.1/32", ip.UDP, 2001, 65535), udp(), False),
        (on("10.2.0.1/32", ip.UDP, 0, 1999), udp(), False),
        (on("10.2.0.1/32", 0, 2000, 2000), udp(), True),
        (on("10.2.0.1/32", 0, 80, 80), udp(), False),
        # RFC 4301 section 7: a fragment without ports matches only where ports do not matter
        (on("10.2.0.1/32", ip.UDP), later_fragment(udp()), True),
        (on("10.2.0.1/32", ip.TCP), later_fragment(udp()), False),
        (on("10.2.0.1/32", ip.UDP, 2000, 2000), later_fragment(udp()), False),
        (on("10.2.0.1/32", ip.UDP, 0, 65534), later_fragment(udp()), False),
        # OPAQUE
        (on("10.2.0.1/32", ip.UDP, 65535, 0), later_fragment(udp()), True),
        (on("10.2.0.1/32", ip.UDP, 65535, 0), udp(), False),
        (on("10.2.0.1/32", ip.UDP, 65535, 0), udp(dport=65535), False),
    ],
)
def test_protocol_and_ports(destination: TrafficSelector, packet: bytes, expected: bool) -> None:
    assert matches(SelectorSet([NET], [destination]), packet) is expected


def test_icmp_is_spoken_of_by_its_sender() -> None:
    """RFC 4301 section 4.4.1.3 D: may send echo requests, may not receive them."""
    echo, reply = 8 << 8, 0
    ours = [on("10.1.0.0/16", ip.ICMP, echo, echo + 255)]
    theirs = [on("10.2.0.0/16", ip.ICMP, reply, reply + 255)]
    out, inward = SelectorSet(ours, theirs), SelectorSet(theirs, ours)

    def icmp(kind: int, src: bytes, dst: bytes) -> bytes:
        return ip.build_ip(src, dst, ip.ICMP, bytes([kind, 0]) + bytes(6))

    assert matches(out, icmp(8, LEFT, RIGHT))
    assert not matches(out, icmp(0, LEFT, RIGHT))
    assert matches(inward, icmp(0, RIGHT, LEFT))
    assert not matches(inward, icmp(8, RIGHT, LEFT))


def test_a_hidden_protocol_needs_a_selector_for_all() -> None:
    hidden = ip.build_ip(LEFT6, RIGHT6, ip.FRAGMENT, bytes([60, 0, 0, 8]) + bytes(20))
    assert matches(SelectorSet([on("fd00::/16")], [on("fd00::/16")]), hidden)
    assert not matches(SelectorSet([on("fd00::/16")], [on("fd00::/16", ip.UDP)]), hidden)


def test_nothing_matches_no_selectors() -> None:
    assert not matches(SelectorSet([], []), udp())
    assert not matches(SelectorSet([NET], []), udp())
