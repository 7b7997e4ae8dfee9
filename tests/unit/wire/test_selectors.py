"""Traffic selectors as values: ranges, protocols, ports, and OPAQUE."""

import pytest

from espudp.errors import WireError
from espudp.wire.selectors import OPAQUE, TrafficSelector

TCP, UDP = 6, 17


def net(cidr: str, protocol: int = 0, first_port: int = 0, last_port: int = 65535) -> TrafficSelector:
    whole = TrafficSelector.from_network(cidr)
    return TrafficSelector(whole.first, whole.last, protocol, first_port, last_port)


def test_from_network_takes_host_bits_and_covers_the_whole_network() -> None:
    selector = TrafficSelector.from_network("10.1.2.3/16")
    assert (str(selector.first), str(selector.last)) == ("10.1.0.0", "10.1.255.255")
    assert selector.version == 4
    assert selector.any_traffic
    assert not selector.is_host
    assert TrafficSelector.from_network("2001:db8::1").is_host
    with pytest.raises(ValueError, match="does not appear"):
        TrafficSelector.from_network("10.1.0.0.0/16")


@pytest.mark.parametrize(
    ("one", "other", "both"),
    [
        (net("10.0.0.0/8"), net("10.1.0.0/16"), net("10.1.0.0/16")),
        (net("10.0.0.0/8"), net("11.0.0.0/8"), None),
        (net("0.0.0.0/0"), net("::/0"), None),
        (net("10.0.0.0/8", TCP), net("10.0.0.0/8"), net("10.0.0.0/8", TCP)),
        (net("10.0.0.0/8", TCP), net("10.0.0.0/8", UDP), None),
        (net("10.0.0.0/8", TCP, 80, 90), net("10.0.0.0/9", TCP, 85, 99), net("10.0.0.0/9", TCP, 85, 90)),
        (net("10.0.0.0/8", TCP, 80, 84), net("10.0.0.0/8", TCP, 85, 99), None),
        # RFC 4301 section 4.4.1.1: ANY includes OPAQUE, a range of ports does not
        (net("10.0.0.0/8", TCP), net("10.1.0.0/16", TCP, *OPAQUE), net("10.1.0.0/16", TCP, *OPAQUE)),
        (net("10.0.0.0/8", TCP, *OPAQUE), net("10.0.0.0/8", TCP, *OPAQUE), net("10.0.0.0/8", TCP, *OPAQUE)),
        (net("10.0.0.0/8", TCP, *OPAQUE), net("10.0.0.0/8", TCP, 80, 80), None),
        (net("10.0.0.0/8", TCP, *OPAQUE), net("10.0.0.0/8", TCP, 0, 0), None),
    ],
)
def test_intersection(one: TrafficSelector, other: TrafficSelector, both: TrafficSelector | None) -> None:
    assert one.intersect(other) == both
    assert other.intersect(one) == both
    assert one.contains(other) == (both == other)


def test_ranges_need_not_be_networks() -> None:
    odd = TrafficSelector.from_octets(bytes([10, 0, 0, 1]), bytes([10, 0, 0, 4]), 0, 0, 65535)
    assert str(odd) == "10.0.0.1-10.0.0.4"
    assert [str(block) for block in odd.networks()] == ["10.0.0.1/32", "10.0.0.2/31", "10.0.0.4/32"]


@pytest.mark.parametrize(
    ("first", "last", "ports", "why"),
    [
        (bytes(4), bytes(16), (0, 65535), "mismatched"),
        (bytes(5), bytes(5), (0, 65535), "mismatched"),
        (b"", b"", (0, 65535), "mismatched"),
        (bytes([10, 0, 0, 2]), bytes([10, 0, 0, 1]), (0, 65535), "backwards"),
        (bytes(4), bytes(4), (81, 80), "ports run backwards"),
        (bytes(4), bytes(4), (65535, 1), "ports run backwards"),
        (bytes(4), bytes(4), (65534, 0), "ports run backwards"),
    ],
)
def test_what_makes_no_sense_is_refused(first: bytes, last: bytes, ports: tuple[int, int], why: str) -> None:
    with pytest.raises(WireError, match=why):
        TrafficSelector.from_octets(first, last, 0, *ports)


@pytest.mark.parametrize(
    ("selector", "text"),
    [
        (net("10.0.0.0/8"), "10.0.0.0/8"),
        (net("10.0.0.1/32"), "10.0.0.1/32"),
        (net("2001:db8::/32", TCP), "2001:db8::/32[tcp/any]"),
        (net("10.0.0.0/8", UDP, 53, 53), "10.0.0.0/8[udp/53]"),
        (net("10.0.0.0/8", 0, 53, 54), "10.0.0.0/8[any/53-54]"),
        (net("10.0.0.0/8", TCP, *OPAQUE), "10.0.0.0/8[tcp/opaque]"),
    ],
)
def test_text(selector: TrafficSelector, text: str) -> None:
    assert str(selector) == text
    assert selector.is_opaque == ("opaque" in text)
