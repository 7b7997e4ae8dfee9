"""The inner packet: flows, checksums, MSS clamping and fragments. scapy is the judge of what is built."""

import struct
from collections.abc import Callable
from typing import Any

import pytest
from scapy.layers import inet, inet6

from espudp.wire import ip
from espudp.wire.ip import ABSENT, OPAQUE
from tests.unit.esp.peers import LEFT, LEFT6, RIGHT, RIGHT6, tcp, tcp_checksum_is_right, udp

SYN = 0x02


def v6(next_header: int, payload: bytes) -> bytes:
    return ip.build_ip(LEFT6, RIGHT6, next_header, payload)


def fragment_header(next_header: int, offset_units: int, more: bool) -> bytes:
    return struct.pack("!BBHI", next_header, 0, offset_units << 3 | more, 7)


def options(next_header: int, octets: int = 8) -> bytes:
    return bytes([next_header, octets // 8 - 1]) + bytes(octets - 2)


PORTS = struct.pack("!HH", 1000, 2000) + bytes(16)


class TestFlow:
    def test_udp_over_ipv4(self) -> None:
        flow = ip.parse_flow(udp(60))
        assert flow == ip.Flow(LEFT, RIGHT, ip.UDP, 1000, 2000, 4, 0, 60)

    def test_udp_over_ipv6(self) -> None:
        packet = ip.build_ip(LEFT6, RIGHT6, ip.UDP, PORTS, tos=0xB9)
        assert ip.parse_flow(packet) == ip.Flow(LEFT6, RIGHT6, ip.UDP, 1000, 2000, 6, 0xB9, 60)

    @pytest.mark.parametrize(
        ("protocol", "sport", "dport"),
        [
            (ip.TCP, 1000, 2000),
            (ip.SCTP, 1000, 2000),
            (ip.DCCP, 1000, 2000),
            (ip.UDP_LITE, 1000, 2000),
            # RFC 4301 section 4.4.1.1: type * 256 + code; the Mobility Header's type is its third octet
            (ip.ICMP, 0x03E8, ABSENT),
            (ip.ICMPV6, 0x03E8, ABSENT),
            (ip.MOBILITY, 0x0700, ABSENT),
            (50, OPAQUE, OPAQUE),
            (47, OPAQUE, OPAQUE),
        ],
    )
    def test_what_stands_for_ports(self, protocol: int, sport: int, dport: int) -> None:
        flow = ip.parse_flow(ip.build_ip(LEFT, RIGHT, protocol, PORTS))
        assert flow is not None
        assert (flow.protocol, flow.sport, flow.dport) == (protocol, sport, dport)

    def test_options_are_passed_over(self) -> None:
        packet = bytearray(ip.build_ip(LEFT, RIGHT, ip.UDP, b"\x01\x01\x01\x00" + PORTS))
        packet[0] = 0x46
        flow = ip.parse_flow(packet)
        assert flow is not None
        assert (flow.sport, flow.dport) == (1000, 2000)

    def test_a_later_fragment_has_no_ports(self) -> None:
        packet = bytearray(udp(60))
        packet[6:8] = (0x2000 | 100).to_bytes(2, "big")
        flow = ip.parse_flow(packet)
        assert flow is not None
        assert (flow.protocol, flow.sport, flow.dport) == (ip.UDP, OPAQUE, OPAQUE)

    def test_a_first_fragment_has(self) -> None:
        packet = bytearray(udp(60))
        packet[6:8] = b"\x20\x00"
        flow = ip.parse_flow(packet)
        assert flow is not None
        assert flow.sport == 1000

    def test_a_tcp_fragment_over_the_flags_is_refused(self) -> None:
        packet = bytearray(tcp(bytes(40)))
        packet[6:8] = b"\x00\x01"
        assert ip.parse_flow(packet) is None

    def test_ports_cut_off_by_the_length_are_opaque(self) -> None:
        flow = ip.parse_flow(ip.build_ip(LEFT, RIGHT, ip.UDP, b"\x01\x02\x03") + b"\x04\x05")
        assert flow is not None
        assert (flow.sport, flow.dport, flow.length) == (OPAQUE, OPAQUE, 23)

    @pytest.mark.parametrize(
        "packet",
        [
            v6(ip.HOP_BY_HOP, options(ip.UDP) + PORTS),
            v6(ip.HOP_BY_HOP, options(ip.DESTINATION_OPTIONS) + options(ip.UDP, 24) + PORTS),
            v6(ip.ROUTING, options(ip.FRAGMENT) + fragment_header(ip.UDP, 0, True) + PORTS),
        ],
    )
    def test_extension_headers_are_looked_behind(self, packet: bytes) -> None:
        flow = ip.parse_flow(packet)
        assert flow is not None
        assert (flow.protocol, flow.sport, flow.dport) == (ip.UDP, 1000, 2000)

    def test_later_ipv6_fragments(self) -> None:
        plain = ip.parse_flow(v6(ip.FRAGMENT, fragment_header(ip.TCP, 5, False) + PORTS))
        assert plain is not None
        assert (plain.protocol, plain.sport) == (ip.TCP, OPAQUE)
        hidden = ip.parse_flow(v6(ip.FRAGMENT, fragment_header(ip.DESTINATION_OPTIONS, 5, False) + PORTS))
        assert hidden is not None
        assert (hidden.protocol, hidden.sport) == (OPAQUE, OPAQUE)

    @pytest.mark.parametrize(
        "packet",
        [
            b"",
            b"\x45",
            bytes(19),
            bytes(20),
            udp(60)[:59],
            b"\x44" + udp(60)[1:],
            b"\x4f" + udp(40)[1:],
            b"\x55" + udp(60)[1:],
            udp(60)[:2] + b"\x00\x13" + udp(60)[4:],
            v6(ip.UDP, PORTS)[:39],
            v6(ip.UDP, PORTS)[:-1],
            v6(ip.HOP_BY_HOP, b"\x11"),
            v6(ip.HOP_BY_HOP, options(ip.HOP_BY_HOP) * ip.MAX_EXTENSION_HEADERS + PORTS),
        ],
    )
    def test_what_is_no_packet(self, packet: bytes) -> None:
        assert ip.parse_flow(packet) is None

    def test_a_header_that_points_past_the_end_hides_the_ports(self) -> None:
        flow = ip.parse_flow(v6(ip.HOP_BY_HOP, bytes([ip.UDP, 200]) + bytes(6) + PORTS))
        assert flow is not None
        assert flow.sport == OPAQUE


@pytest.mark.parametrize(
    ("packet", "available", "expected"),
    [
        (udp(60), 60, 60),
        (udp(60) + bytes(9), 69, 60),
        (udp(60), 59, 0),
        (udp(60, src=LEFT6, dst=RIGHT6), 60, 60),
        (udp(60, src=LEFT6, dst=RIGHT6), 59, 0),
        (b"\x60" + bytes(39), 39, 0),
        (b"\x60" + bytes(39), 40, 40),
        (b"\x45\x00\x00\x13" + bytes(16), 20, 0),
        (b"\x44\x00\x00\x14" + bytes(16), 20, 0),
        (b"\x46\x00\x00\x14" + bytes(16), 20, 0),
        (b"\x75\x00\x00\x14" + bytes(16), 20, 0),
        (b"", 0, 0),
    ],
)
def test_inner_octets(packet: bytes, available: int, expected: int) -> None:
    assert ip.inner_octets(packet, available) == expected


def test_checksum_of_rfc_1071() -> None:
    # RFC 1071 section 3: the words 0001 f203 f4f5 f6f7 sum up to ddf2
    assert ip.checksum(bytes.fromhex("0001f203f4f5f6f7")) == 0xFFFF - 0xDDF2


@pytest.mark.parametrize(
    ("data", "expected"),
    [(b"", 0xFFFF), (bytes(4), 0xFFFF), (b"\xff\xff", 0), (b"\xff\xff" * 3, 0), (b"\x01", 0xFEFF)],
)
def test_checksum_at_its_edges(data: bytes, expected: int) -> None:
    assert ip.checksum(data) == expected


def test_adjusted_checksum_of_rfc_1624() -> None:
    # RFC 1624 section 4: the word 5555 becomes 3285, and DD2F becomes 0000
    assert ip.adjusted_checksum(0xDD2F, 0x5555, 0x3285) == 0x0000


def mss(value: int) -> bytes:
    return struct.pack("!BBH", 2, 4, value)


NOP = b"\x01"
WITH_MSS: list[tuple[bytes, int]] = [
    (mss(1460), 2),
    (NOP + NOP + mss(1460) + b"\x00\x00", 4),
    # At an odd place both halves of the field change sides in the sum.
    (NOP + mss(1460) + NOP * 3, 3),
    (NOP * 3 + b"\x08\x0a" + bytes(8) + mss(1460) + NOP * 3, 15),
]


class TestClampMss:
    @pytest.mark.parametrize("make", [tcp, lambda **kw: tcp(src=LEFT6, dst=RIGHT6, **kw)])
    @pytest.mark.parametrize(("fields", "at"), WITH_MSS)
    @pytest.mark.parametrize("flags", [SYN, SYN | 0x10, SYN | 0xC0])
    def test_a_syn_is_clamped(self, make: Callable[..., bytes], fields: bytes, at: int, flags: int) -> None:
        before = make(flags=flags, options=fields)
        after = bytes(ip.clamp_mss(before, 1300))
        field = len(before) - len(fields) + at
        assert int.from_bytes(after[field : field + 2], "big") == 1300
        assert tcp_checksum_is_right(after)
        changed = {at for at in range(len(before)) if before[at] != after[at]}
        checksum_at = len(before) - len(fields) - 4
        assert changed <= {field, field + 1, checksum_at, checksum_at + 1}

    @pytest.mark.parametrize("value", [536, 1299, 1300])
    def test_it_is_never_raised(self, value: int) -> None:
        packet = tcp(flags=SYN, options=mss(value))
        assert ip.clamp_mss(packet, 1300) is packet

    def test_a_broken_checksum_stays_broken(self) -> None:
        good = tcp(flags=SYN, options=mss(1460))
        bad = good[:36] + bytes([good[36] ^ 0x40]) + good[37:]
        assert not tcp_checksum_is_right(bytes(ip.clamp_mss(bad, 1300)))

    @pytest.mark.parametrize(
        "packet",
        [
            tcp(b"data", options=mss(1460)),
            tcp(flags=SYN),
            tcp(flags=SYN, options=b"\x00" + NOP * 3 + mss(1460)),
            tcp(flags=SYN, options=b"\x03\x00" + mss(1460) + NOP * 2),
            tcp(flags=SYN, options=b"\x03\x01" + mss(1460) + NOP * 2),
            tcp(flags=SYN, options=b"\x02\x03\x05\xb4"),
            tcp(flags=SYN, options=NOP * 4)[:-4] + b"\x02\x04\x05",
            tcp(flags=SYN, options=b"\x03\xff\x02\x04"),
            udp(60),
            ip.build_ip(LEFT, RIGHT, ip.TCP, bytes(10)),
            ip.build_ip(LEFT6, RIGHT6, ip.TCP, bytes(10)),
            ip.build_ip(LEFT6, RIGHT6, 59, b""),
        ],
    )
    def test_all_else_is_left_alone(self, packet: bytes) -> None:
        assert ip.clamp_mss(packet, 100) is packet

    def test_behind_extension_headers(self) -> None:
        plain = tcp(src=LEFT6, dst=RIGHT6, flags=SYN, options=mss(1460))
        packet = v6(ip.DESTINATION_OPTIONS, options(ip.TCP) + plain[40:])
        assert bytes(ip.clamp_mss(packet, 1220)[-2:]) == (1220).to_bytes(2, "big")

    def test_a_later_fragment_is_no_syn(self) -> None:
        packet = bytearray(tcp(flags=SYN, options=mss(1460)))
        packet[7] = 3
        assert ip.clamp_mss(packet, 100) is packet

    def test_a_view_is_clamped_and_left_unchanged(self) -> None:
        packet = tcp(flags=SYN, options=mss(1460))
        view = memoryview(packet)
        assert ip.clamp_mss(view, 1300) == ip.clamp_mss(packet, 1300)
        assert view == packet == tcp(flags=SYN, options=mss(1460))


class TestFragment:
    @pytest.mark.parametrize("size", [577, 1400, 1401, 3000, 65535])
    @pytest.mark.parametrize("mtu", [576, 1400])
    def test_pieces_fit_and_make_the_packet(self, size: int, mtu: int) -> None:
        packet = udp(size, df=False)
        pieces = ip.fragment(packet, mtu)
        assert reassembled(pieces) == packet[20:]
        for piece in pieces:
            assert len(piece) <= mtu
            assert ip.inner_octets(piece, len(piece)) == len(piece)
            assert ip.checksum(piece[:20]) == 0
        more = [bool(piece[6] & 0x20) for piece in pieces]
        assert more == [True] * (len(pieces) - 1) + [False]

    def test_a_fragment_is_cut_further(self) -> None:
        first, *_, last = ip.fragment(udp(3000, df=False), 1500)
        again = ip.fragment(first, 600)
        assert all(piece[6] & 0x20 for piece in again)
        assert reassembled(again) == first[20:]
        assert not ip.fragment(last, 30)[-1][6] & 0x20
        assert reassembled(ip.fragment(last, 68), start=(3000 - 20) // 1480 * 1480) == last[20:]

    def test_copied_options_go_into_every_piece(self) -> None:
        copied, own = b"\x94\x04\x00\x00", b"\x07\x07\x04" + bytes(4) + b"\x01"
        packet = bytearray(ip.build_ip(LEFT, RIGHT, ip.UDP, copied + own + bytes(2000), df=False))
        packet[0] = 0x40 | 8
        pieces = ip.fragment(packet, 600)
        assert pieces[0][:1] == b"\x48"
        assert pieces[0][20:32] == copied + own
        for piece in pieces[1:]:
            assert piece[:1] == b"\x46"
            assert piece[20:24] == copied
            assert ip.checksum(piece[:24]) == 0

    @pytest.mark.parametrize("bad", [b"\x94\x00\x00\x00", b"\x94\x01\x00\x00", b"\x01\x01\x01\x94"])
    def test_options_that_lead_nowhere_end_the_header(self, bad: bytes) -> None:
        packet = bytearray(ip.build_ip(LEFT, RIGHT, ip.UDP, bad + bytes(1000), df=False))
        packet[0] = 0x46
        assert len(ip.fragment(packet, 600)) == 2

    @pytest.mark.parametrize("mtu", [0, 20, 27, 28])
    def test_an_mtu_that_no_network_has_ends(self, mtu: int) -> None:
        assert len(ip.fragment(udp(100, df=False), mtu)) == 10

    def test_who_may_be_cut(self) -> None:
        assert ip.may_fragment(udp(60, df=False))
        assert not ip.may_fragment(udp(60))
        assert not ip.may_fragment(udp(60, src=LEFT6, dst=RIGHT6))


def reassembled(pieces: list[bytes], start: int = 0) -> bytes:
    whole = bytearray()
    for piece in pieces:
        assert int.from_bytes(piece[6:8], "big") & 0x1FFF == (start + len(whole)) // 8
        whole += piece[20:]
    return bytes(whole)


@pytest.mark.parametrize("layer", [inet.IP, inet6.IPv6])
def test_what_is_built_is_what_scapy_builds(layer: Callable[[bytes], Any]) -> None:
    built = udp(77) if layer is inet.IP else udp(78, src=LEFT6, dst=RIGHT6)
    parsed = layer(built)
    assert (parsed[inet.UDP].sport, parsed[inet.UDP].dport) == (1000, 2000)
    # scapy computes what is deleted.
    del parsed[inet.UDP].chksum
    del parsed[inet.UDP].len
    if layer is inet.IP:
        del parsed.chksum
        del parsed.len
    else:
        del parsed.plen
    assert bytes(parsed) == built
