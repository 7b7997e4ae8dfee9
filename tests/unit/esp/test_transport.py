"""Transport mode in the data path: what goes into ESP, what comes out of it, and checksums across NATs."""

from collections.abc import Callable
from ipaddress import ip_address
from typing import Any

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP, IPOption_Timestamp
from scapy.layers.inet6 import (
    ICMPv6DestUnreach,
    ICMPv6EchoRequest,
    ICMPv6PacketTooBig,
    IPv6,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrFragment,
    IPv6ExtHdrHopByHop,
    IPv6ExtHdrRouting,
)
from scapy.layers.ipsec import ESP, SecurityAssociation
from scapy.packet import Packet, Raw

from espudp.crypto.suites import EspSuite
from espudp.esp.datapath import DataPath
from espudp.esp.drops import Drop
from espudp.wire import ip
from espudp.wire.selectors import ALL_PORTS, TrafficSelector
from espudp.wire.train import Burst
from espudp.wire.transport import Transport
from espudp.wire.vnet import GSO_TCPV4, GSO_UDP_L4, NEEDS_CSUM, Frame, VnetHeader
from tests.unit.crypto.seeded import keys_for, seeded_rng
from tests.unit.esp import reference
from tests.unit.esp.peers import (
    CBC,
    ELSEWHERE,
    GCM,
    LEFT_SPI,
    RIGHT_SPI,
    TO_LEFT,
    datagrams,
    left_keys,
    mirrored,
    plain,
)

# RFC 7296 section 2.23.1: client IP1, NAT A with IPN1, NAT B with IPN2, server IP2
IP1, IPN1, IPN2, IP2 = "10.0.0.5", "203.0.113.7", "198.51.100.2", "192.168.1.2"
STAND_IN = "198.18.0.1"
V6_1, V6_N1, V6_N2, V6_2 = "fd00:1::5", "2001:db8:1::7", "2001:db8:2::2", "fd00:2::2"
V6_STAND_IN = "fd65:7370:7564:7000::1"

CLIENT = Transport(IP1, IPN2, IPN1, IP2)
SERVER = Transport(IP2, IPN1, IPN2, IP1)
CLIENT6 = Transport(V6_1, V6_N2, V6_N1, V6_2)
SERVER6 = Transport(V6_2, V6_N1, V6_N2, V6_1)


def host(address: str, protocol: int = 0, ports: tuple[int, int] = ALL_PORTS) -> TrafficSelector:
    one = ip_address(address)
    return TrafficSelector(one, one, protocol, *ports)


def ends(
    client: Transport = CLIENT,
    server: Transport = SERVER,
    suite: EspSuite = GCM,
    *,
    protocol: int = 0,
    port: int | None = None,
    **changes: Any,
) -> tuple[DataPath, DataPath]:
    """Client and server. `port`: the server's."""
    ports = ALL_PORTS if port is None else (port, port)
    keys = left_keys(
        suite,
        local=(host(client.local, protocol),),
        remote=(host(client.shown, protocol, ports),),
        transport=client,
        **changes,
    )
    there = mirrored(
        keys,
        local=(host(server.local, protocol, ports),),
        remote=(host(server.shown, protocol),),
        transport=server,
    )
    paths = DataPath(seeded_rng(1)), DataPath(seeded_rng(2))
    for path, end in zip(paths, (keys, there), strict=True):
        path.install(end, 0.0)
    return paths


def through(sender: DataPath, receiver: DataPath, *packets: Any, tos: int = 0) -> list[bytes]:
    sealed = datagrams(sender.seal([bytes(p) if isinstance(p, Packet) else p for p in packets], 1.0))
    return plain(receiver.open(sealed, TO_LEFT, 1.0, tos))


def between(src: str, dst: str) -> Any:
    return IPv6(src=src, dst=dst) if ":" in src else IP(src=src, dst=dst)


def as_scapy_sums(packet: bytes) -> bytes:
    """The same packet with all checksums made by scapy."""
    parsed = IP(packet) if packet[0] >> 4 == 4 else IPv6(packet)
    layer: Any = parsed
    while layer:
        for field in ("chksum", "cksum"):
            if field in layer.fields:
                delattr(layer, field)
        layer = layer.payload
    return bytes(parsed)


UPPER: dict[str, Callable[[], Any]] = {
    "tcp": lambda: TCP(sport=1234, dport=80, flags="PA", seq=7) / b"odd",
    "syn": lambda: TCP(sport=1234, dport=80, flags="S", options=[("MSS", 1300)]),
    "udp": lambda: UDP(sport=1701, dport=1701) / b"L2TP?",
    "empty udp": lambda: UDP(sport=1701, dport=1701),
}


@pytest.mark.parametrize("name", [*UPPER, "icmp"])
@pytest.mark.parametrize("stand_in", [False, True])
def test_both_hosts_get_right_checksums_across_two_nats(name: str, stand_in: bool) -> None:
    server = Transport(IP2, IPN1, IPN2, IP1, STAND_IN if stand_in else "")
    left, right = ends(server=server)
    upper = ICMP(id=7) / b"ping" if name == "icmp" else UPPER[name]()
    there = through(left, right, between(IP1, IPN2) / upper)
    assert [packet[12:20] for packet in there] == [ip_address(server.shown).packed + ip_address(IP2).packed]
    assert there == [as_scapy_sums(there[0])]
    back = through(right, left, between(IP2, server.shown) / upper)
    assert [packet[12:20] for packet in back] == [ip_address(IPN2).packed + ip_address(IP1).packed]
    assert back == [as_scapy_sums(back[0])]
    assert not left.drops
    assert not right.drops


@pytest.mark.parametrize("name", [*UPPER, "icmpv6", "options"])
@pytest.mark.parametrize("stand_in", [False, True])
def test_ipv6_as_well(name: str, stand_in: bool) -> None:
    server = Transport(V6_2, V6_N1, V6_N2, V6_1, V6_STAND_IN if stand_in else "")
    left, right = ends(CLIENT6, server)
    more = {
        "icmpv6": ICMPv6EchoRequest(id=7),
        "options": IPv6ExtHdrDestOpt() / UDP(sport=5, dport=6) / b"data",
    }
    upper = more.get(name) or UPPER[name]()
    there = through(left, right, between(V6_1, V6_N2) / upper)
    assert there == [as_scapy_sums(there[0])]
    assert there[0][8:40] == ip_address(server.shown).packed + ip_address(V6_2).packed
    back = through(right, left, between(V6_2, server.shown) / upper)
    assert back == [as_scapy_sums(back[0])]
    assert back[0][8:40] == ip_address(V6_N2).packed + ip_address(V6_1).packed


ERRORS: dict[str, Any] = {
    "port unreachable": lambda: ICMP(type=3, code=3),
    "too big": lambda: ICMP(type=3, code=4, nexthopmtu=1300),
    "IPv6 port unreachable": lambda: ICMPv6DestUnreach(code=4),
    "IPv6 too big": lambda: ICMPv6PacketTooBig(mtu=1300),
}


@pytest.mark.parametrize("name", ERRORS)
@pytest.mark.parametrize("stand_in", [False, True])
@pytest.mark.parametrize("upper", ["tcp", "udp"])
def test_an_error_quotes_what_its_receiver_has_sent(name: str, stand_in: bool, upper: str) -> None:
    """Nobody would know what an error is about that has the addresses of another host's view."""
    v6 = name.startswith("IPv6")
    there = [V6_2, V6_N1, V6_N2, V6_1, V6_STAND_IN] if v6 else [IP2, IPN1, IPN2, IP1, STAND_IN]
    server = Transport(*there[: 4 + stand_in])
    client = CLIENT6 if v6 else CLIENT
    left, right = ends(client, server)
    for ours, theirs, sender, receiver in ((client, server, left, right), (server, client, right, left)):
        sent = bytes(between(ours.local, ours.shown) / UPPER[upper]())
        (got,) = through(sender, receiver, sent)
        error = between(theirs.local, theirs.shown) / ERRORS[name]() / got[:60]
        (back,) = through(receiver, sender, error)
        header = 40 if v6 else 20
        addresses = slice(8, 40) if v6 else slice(12, 20)
        message, quoted = back[header:], back[header + 8 :]
        pseudo = ip.pseudo_header(back[8:24], back[24:40], ip.ICMPV6, len(message)) if v6 else b""
        assert ip.checksum(pseudo + message) == 0
        assert quoted[addresses] == sent[addresses]
        assert v6 or ip.checksum(quoted[:header]) == 0
        assert quoted[header : header + 4] == sent[header : header + 4]


def test_a_wrong_checksum_stays_wrong_and_none_stays_none() -> None:
    left, right = ends()
    good = bytes(between(IP1, IPN2) / UDP(sport=5, dport=6) / b"data")
    bad = good[:26] + bytes([good[26] ^ 1]) + good[27:]
    none = good[:26] + bytes(2) + good[28:]
    for_bad, for_none = through(left, right, bad, none)
    assert for_bad != as_scapy_sums(for_bad)
    assert for_none[26:28] == bytes(2)


def test_a_udp_checksum_never_becomes_zero() -> None:
    """RFC 768: 0 says that there is none."""
    left, right = ends()
    (probe,) = through(left, right, between(IP1, IPN2) / UDP(sport=5, dport=6) / bytes(2))
    # The word that makes the sum of all others, between the server's addresses, come to nothing.
    (there,) = through(left, right, between(IP1, IPN2) / UDP(sport=5, dport=6) / probe[26:28])
    assert there[26:28] == b"\xff\xff"
    segment = ip.pseudo_header(there[12:16], there[16:20], ip.UDP, 10) + there[20:]
    assert ip.checksum(segment) == 0


@pytest.mark.parametrize("known", [("", IP1), (IPN2, ""), ("", "")])
def test_checksums_are_made_anew_where_the_peers_addresses_are_unknown(known: tuple[str, str]) -> None:
    left, right = ends(server=Transport(IP2, IPN1, *known))
    for upper in UPPER.values():
        (packet,) = through(left, right, between(IP1, IPN2) / upper())
        assert packet == as_scapy_sums(packet)
    none = UDP(sport=5, dport=6, chksum=0) / b"data"
    (packet,) = through(left, right, between(IP1, IPN2) / none)
    assert packet[26:28] == bytes(2)


def test_scapy_opens_what_we_seal_in_transport_mode() -> None:
    left, _ = ends()
    packet = between(IP1, IPN2) / TCP(sport=1234, dport=80, flags="PA") / b"hello"
    (datagram,) = datagrams(left.seal([bytes(packet)], 1.0))
    opened = scapy_sa(20, RIGHT_SPI).decrypt(IP(bytes(IP(src=IP1, dst=IPN2, proto=50) / Raw(datagram))))
    assert opened.proto == ip.TCP
    assert bytes(opened[TCP]) == bytes(packet)[20:]


def test_we_open_what_scapy_seals_in_transport_mode() -> None:
    left, _ = ends()
    packet = IP(src=IP2, dst=IPN1) / UDP(sport=1701, dport=1701) / b"L2TP"
    sealed = scapy_sa(10, LEFT_SPI).encrypt(IP(bytes(packet)))
    (opened,) = plain(left.open([bytes(sealed[ESP])], TO_LEFT, 1.0))
    assert opened[12:20] == ip_address(IPN2).packed + ip_address(IP1).packed
    assert opened[28:] == b"L2TP"
    assert opened == as_scapy_sums(opened)


def scapy_sa(seed: int, spi: int) -> Any:
    keys: Any = keys_for(GCM, seed)
    association: Any = SecurityAssociation  # which has no type hints
    return association(ESP, spi=spi, seq_num=1, crypt_algo="AES-GCM", crypt_key=keys.encr)


def test_the_one_header_says_which_traffic_class() -> None:
    left, right = ends()
    (train,) = left.seal([bytes(IP(src=IP1, dst=IPN2, tos=0xB9) / UDP(sport=5, dport=6))], 1.0)
    assert train.tos == 0xB9
    (packet,) = plain(right.open(list(train.datagrams), TO_LEFT, 1.0, 0xBB))
    assert packet[1] == 0xBB


def test_an_ipv4_header_loses_its_options() -> None:
    left, right = ends()
    packet = IP(src=IP1, dst=IPN2, options=[IPOption_Timestamp()]) / UDP(sport=5, dport=6) / b"data"
    (there,) = through(left, right, packet)
    assert there[0] == 0x45
    assert there[-4:] == b"data"
    assert there == as_scapy_sums(there)


def test_hop_by_hop_options_are_left_out_and_destination_options_are_not() -> None:
    left, right = ends(CLIENT6, SERVER6)
    inside = IPv6ExtHdrDestOpt() / UDP(sport=5, dport=6) / b"data"
    (there,) = through(left, right, between(V6_1, V6_N2) / IPv6ExtHdrHopByHop() / inside)
    assert there[6] == ip.DESTINATION_OPTIONS
    assert there == as_scapy_sums(there)


ODD = [
    IPv6(src=V6_1, dst=V6_N2) / IPv6ExtHdrDestOpt(nh=44) / IPv6ExtHdrFragment(m=1, nh=17) / Raw(bytes(16)),
    IPv6(src=V6_1, dst=V6_N2) / IPv6ExtHdrRouting(addresses=["2001:db8::9"]) / UDP(sport=5, dport=6),
    IP(src=IP1, dst=IPN2, proto=60) / Raw(bytes(16)),
]


@pytest.mark.parametrize("packet", ODD)
def test_what_transport_mode_has_no_way_for_is_refused_and_counted(packet: Any) -> None:
    left, _ = ends() if packet.version == 4 else ends(CLIENT6, SERVER6)
    whole = bytes(between(*((IP1, IPN2) if packet.version == 4 else (V6_1, V6_N2))) / UDP(sport=5, dport=6))
    sealed = datagrams(left.seal([whole, bytes(packet), whole], 1.0))
    assert len(sealed) == 2
    assert left.drops == {Drop.FRAGMENT: 1}
    assert [sa.drops for sa in left.snapshot(1.0)] == [{}, {"fragment": 1}]


def test_a_fragment_of_one_is_whole() -> None:
    left, right = ends(CLIENT6, SERVER6)
    (there,) = through(left, right, between(V6_1, V6_N2) / IPv6ExtHdrFragment() / UDP(sport=5, dport=6))
    assert there[6] == ip.UDP
    assert there == as_scapy_sums(there)


def seal_by_hand(next_header: int, payload: bytes, *, sequence: int = 1, suite: EspSuite = GCM) -> bytes:
    """As a client does that knows no rules."""
    padding = -(len(payload) + 2) % suite.encr.block_octets
    plaintext = payload + bytes(range(1, padding + 1)) + bytes([padding, next_header])
    iv = bytes(suite.encr.iv_octets)
    return reference.seal(suite, keys_for(suite, 20), RIGHT_SPI, sequence, iv, plaintext)


@pytest.mark.parametrize(
    ("next_header", "reason"),
    [(0, "next header"), (43, "next header"), (44, "next header"), (60, "next header"), (59, "dummy")],
)
def test_headers_that_have_no_place_inside_are_dropped(next_header: int, reason: str) -> None:
    _, right = ends()
    assert not right.open([seal_by_hand(next_header, bytes(24))], TO_LEFT, 1.0)
    assert {drop.value: count for drop, count in right.drops.items()} == {reason: 1}


@pytest.mark.parametrize("octets", range(0, 20))
@pytest.mark.parametrize("protocol", [ip.TCP, ip.UDP, ip.UDP_LITE])
@pytest.mark.parametrize("known", [True, False])
def test_truncated_headers_pass_as_they_are(protocol: int, octets: int, known: bool) -> None:
    _, right = ends(server=SERVER if known else Transport(IP2, IPN1))
    (packet,) = plain(right.open([seal_by_hand(protocol, bytes(octets))], TO_LEFT, 1.0))
    assert len(packet) == 20 + octets
    assert packet[9] == protocol


def test_a_tunnel_inside_of_transport_mode_is_ip_in_ip() -> None:
    _, right = ends()
    inner = bytes(IP(src="1.2.3.4", dst="5.6.7.8") / ICMP())
    (packet,) = plain(right.open([seal_by_hand(4, inner)], TO_LEFT, 1.0))
    assert packet[9] == 4
    assert packet[12:20] == ip_address(IPN1).packed + ip_address(IP2).packed
    assert packet[20:] == inner


def test_selectors_decide_both_ways() -> None:
    left, right = ends(protocol=ip.UDP, port=1701)
    allowed = between(IP1, IPN2) / UDP(sport=40000, dport=1701) / b"yes"
    refused = [
        between(IP1, IPN2) / UDP(sport=1701, dport=1702) / b"no",
        between(IP1, IPN2) / TCP(sport=1701, dport=1701),
        between("10.0.0.6", IPN2) / UDP(sport=1701, dport=1701),
    ]
    assert len(through(left, right, *refused, allowed)) == 1
    assert left.drops == {Drop.NO_POLICY: 3}
    forged = [
        seal_by_hand(ip.UDP, bytes(UDP(sport=1, dport=1702)), sequence=10),
        seal_by_hand(ip.TCP, bytes(TCP(sport=1, dport=1701)), sequence=11),
        seal_by_hand(ip.UDP, b"\0", sequence=12),
    ]
    assert not right.open(forged, TO_LEFT, 1.0)
    assert right.drops == {Drop.SELECTORS: 3}


def test_packets_larger_than_the_path() -> None:
    left, right = ends(inner_mtu=600)
    large = IP(src=IP1, dst=IPN2, flags="DF") / UDP(sport=5, dport=6) / bytes(600)
    assert not left.seal([bytes(large)], 1.0)
    (reply,) = map(bytes, left.take_replies())
    assert IP(reply)[ICMP].nexthopmtu == 600
    # Without Don't Fragment the outer packet is fragmented, since ESP must hold a whole datagram.
    large.flags = 0
    (there,) = through(left, right, large)
    assert len(there) == 628


def test_a_syn_says_what_fits() -> None:
    left, right = ends(inner_mtu=1000)
    (there,) = through(left, right, between(IP1, IPN2) / TCP(flags="S", options=[("MSS", 1460)]))
    assert dict(IP(there)[TCP].options)["MSS"] == 960
    assert there == as_scapy_sums(there)


@pytest.mark.parametrize("suite", [GCM, CBC], ids=lambda suite: suite.name)
def test_super_packets_are_cut_and_completed(suite: EspSuite) -> None:
    left, right = ends(suite=suite)
    payload = bytes(range(256)) * 12
    tcp = bytearray(bytes(IP(src=IP1, dst=IPN2) / TCP(sport=5, dport=6, flags="A") / payload))
    seed = ip.checksum(ip.pseudo_header(bytes(tcp[12:16]), bytes(tcp[16:20]), ip.TCP, len(tcp) - 20)) ^ 0xFFFF
    tcp[36:38] = seed.to_bytes(2, "big")
    frame = Frame(VnetHeader(NEEDS_CSUM, GSO_TCPV4, 40, 1000, 20, 16), [bytes(tcp)])
    packets = through(left, right, frame)
    assert [len(packet) for packet in packets] == [1040, 1040, 1040, 112]
    assert b"".join(packet[40:] for packet in packets) == payload
    assert packets == [as_scapy_sums(packet) for packet in packets]


def test_alike_packets_and_frames_without_checksum_are_the_same_as_one_by_one() -> None:
    (left, right), (left2, right2) = ends(), ends()
    packets = [bytes(IP(src=IP1, dst=IPN2) / UDP(sport=n, dport=6) / bytes(500)) for n in range(40)]
    frames: list[Any] = []
    for packet in packets:
        seed = ip.checksum(ip.pseudo_header(packet[12:16], packet[16:20], ip.UDP, 508)) ^ 0xFFFF
        unsummed = packet[:26] + seed.to_bytes(2, "big") + packet[28:]
        frames.append(Frame(VnetHeader(NEEDS_CSUM, 0, 0, 0, 20, 6), [unsummed]))
    together = through(left, right, *frames)
    assert together == [packet for one in packets for packet in through(left2, right2, one)]
    assert together == [as_scapy_sums(packet) for packet in together]


def test_a_burst_of_datagrams_is_opened_like_single_ones() -> None:
    left, right = ends()
    packets = [bytes(IP(src=IP1, dst=IPN2) / UDP(sport=5, dport=6) / (bytes([n]) * 500)) for n in range(30)]
    sealed = datagrams(left.seal(packets, 1.0))
    burst = Burst(memoryview(b"".join(sealed)), len(sealed[0]))
    opened = plain(right.open(burst, TO_LEFT, 1.0))
    assert [packet[28:] for packet in opened] == [packet[28:] for packet in packets]
    assert opened == [as_scapy_sums(packet) for packet in opened]


def test_udp_super_packets() -> None:
    left, right = ends()
    payload = bytes(range(250)) * 8
    udp = bytearray(bytes(IP(src=IP1, dst=IPN2) / UDP(sport=5, dport=6) / payload))
    seed = ip.checksum(ip.pseudo_header(bytes(udp[12:16]), bytes(udp[16:20]), ip.UDP, len(udp) - 20)) ^ 0xFFFF
    udp[26:28] = seed.to_bytes(2, "big")
    frame = Frame(VnetHeader(NEEDS_CSUM, GSO_UDP_L4, 28, 500, 20, 6), [bytes(udp)])
    packets = through(left, right, frame)
    assert b"".join(packet[28:] for packet in packets) == payload
    assert packets == [as_scapy_sums(packet) for packet in packets]


def test_the_hosts_view_stays_when_the_peers_nat_rebinds() -> None:
    left, right = ends()
    packet = between(IP1, IPN2) / UDP(sport=5, dport=6) / b"data"
    (before,) = through(left, right, packet)
    sealed = datagrams(left.seal([bytes(packet)], 2.0))
    (after,) = plain(right.open(sealed, ELSEWHERE, 2.0))
    assert after == before
    (train,) = right.seal([bytes(between(IP2, IPN1) / UDP(sport=6, dport=5))], 3.0)
    assert train.path == ELSEWHERE
