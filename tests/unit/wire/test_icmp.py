"""ICMP too big: RFC 1191 section 4, RFC 4443 section 3.2, and when to keep silent."""

import pytest
from scapy.layers import inet, inet6

from espudp.wire import ip
from espudp.wire.icmp import too_big
from tests.unit.esp.peers import LEFT, LEFT6, RIGHT, RIGHT6, udp


@pytest.mark.parametrize("size", [100, 548, 549, 1500, 9000])
def test_icmp_as_scapy_reads_it(size: int) -> None:
    packet = udp(size)
    answer = too_big(packet, 1400)
    assert answer is not None
    assert len(answer) <= 576
    parsed = inet.IP(answer)
    # From where the packet was going, to who sent it.
    assert (parsed.src, parsed.dst, parsed.proto) == ("10.2.0.1", "10.1.0.1", 1)
    icmp = parsed[inet.ICMP]
    assert (icmp.type, icmp.code, icmp.nexthopmtu) == (3, 4, 1400)
    assert answer[28:] == packet[: len(answer) - 28]
    assert len(answer) == min(28 + size, 576)
    assert ip.checksum(answer[:20]) == 0
    assert ip.checksum(answer[20:]) == 0


@pytest.mark.parametrize("size", [100, 1232, 1233, 9000])
def test_icmpv6_as_scapy_reads_it(size: int) -> None:
    packet = udp(size, src=LEFT6, dst=RIGHT6)
    answer = too_big(packet, 1380)
    assert answer is not None
    assert len(answer) == min(48 + size, 1280)
    parsed = inet6.IPv6(answer)
    assert (parsed.src, parsed.dst) == ("fd00:2::1", "fd00:1::1")
    assert parsed[inet6.ICMPv6PacketTooBig].mtu == 1380
    assert answer[48:] == packet[: len(answer) - 48]
    assert ip.checksum(ip.pseudo_header(RIGHT6, LEFT6, ip.ICMPV6, len(answer) - 40) + answer[40:]) == 0


def test_what_trails_the_packet_is_not_quoted() -> None:
    assert too_big(udp(100) + b"trailing", 90) == too_big(udp(100), 90)


def icmp(kind: int, *, src: bytes = LEFT, dst: bytes = RIGHT) -> bytes:
    protocol = ip.ICMP if len(src) == 4 else ip.ICMPV6
    return ip.build_ip(src, dst, protocol, bytes([kind, 0]) + bytes(100))


@pytest.mark.parametrize("kind", [0, 8, 13])
def test_icmp_queries_are_answered(kind: int) -> None:
    assert too_big(icmp(kind), 68) is not None


@pytest.mark.parametrize("kind", [3, 4, 5, 11, 12])
def test_no_icmp_error_about_an_icmp_error(kind: int) -> None:
    assert too_big(icmp(kind), 68) is None


@pytest.mark.parametrize(
    ("kind", "answered"), [(1, False), (4, False), (127, False), (137, False), (128, True)]
)
def test_no_icmpv6_error_about_one(kind: int, answered: bool) -> None:
    assert (too_big(icmp(kind, src=LEFT6, dst=RIGHT6), 68) is not None) is answered


@pytest.mark.parametrize(
    ("src", "dst"),
    [
        ("00000000", "0a020001"),
        ("7f000001", "0a020001"),
        ("e0000001", "0a020001"),
        ("ffffffff", "0a020001"),
        ("0a010001", "e0000001"),
        ("0a010001", "ffffffff"),
        ("00" * 16, "fd" * 16),
        ("00" * 15 + "01", "fd" * 16),
        ("ff02" + "00" * 14, "fd" * 16),
        ("fd" * 16, "ff02" + "00" * 13 + "01"),
    ],
)
def test_silence_where_an_end_is_no_host(src: str, dst: str) -> None:
    assert too_big(udp(100, src=bytes.fromhex(src), dst=bytes.fromhex(dst)), 68) is None


def test_silence_about_fragments_and_what_may_be_cut() -> None:
    later = bytearray(udp(100))
    later[6:8] = b"\x40\x20"
    assert too_big(later, 68) is None
    assert too_big(udp(100, df=False), 68) is None
    hidden = ip.build_ip(LEFT6, RIGHT6, ip.FRAGMENT, bytes([60, 0, 0, 8]) + bytes(60))
    assert too_big(hidden, 68) is None


@pytest.mark.parametrize("packet", [b"", b"\x45", udp(100)[:50], bytes(100)])
def test_silence_about_what_is_no_packet(packet: bytes) -> None:
    assert too_big(packet, 68) is None
