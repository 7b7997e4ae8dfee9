"""Headers of transport mode against their plain reference, for any packet and any addresses."""

from ipaddress import IPv4Address, IPv6Address, ip_address

from hypothesis import given
from hypothesis import strategies as st

from espudp.esp.drops import Drop
from espudp.esp.headers import Headers
from espudp.wire import ip
from espudp.wire.transport import Transport
from tests.reference import transport_reference as reference
from tests.unit.esp.peers import TO_LEFT
from tests.unit.esp.test_transport import ends, seal_by_hand

PROTOCOLS = st.one_of(st.sampled_from([6, 17, 33, 58, 135, 136, 1, 0, 43, 44, 59, 60]), st.integers(0, 255))
PAYLOADS = st.one_of(
    st.binary(max_size=60),
    st.builds(
        lambda a, b, c: a + b + c,
        st.binary(max_size=20),
        st.sampled_from([bytes(2), b"\xff\xff"]),
        st.binary(max_size=8),
    ),
)
OPTIONS = st.builds(
    lambda kind, more: bytes([kind, len(more) // 8]) + bytes(6) + more[: len(more) // 8 * 8],
    st.sampled_from([6, 17, 58, 60, 59, 44]),
    st.binary(max_size=16),
)


@st.composite
def transports(draw: st.DrawFn) -> Transport:
    kind = draw(st.sampled_from([IPv4Address, IPv6Address]))
    largest = (1 << (32 if kind is IPv4Address else 128)) - 1
    numbers = st.one_of(st.integers(0, largest), st.sampled_from([0, largest, 1]))
    address = st.builds(lambda number: str(kind(number)), numbers)
    local, remote, local_there, remote_there = (draw(address) for _ in range(4))
    stand_in = draw(st.one_of(st.just(""), address))
    return Transport(local, remote, local_there, remote_there, stand_in)


def errors(transport: Transport) -> st.SearchStrategy[tuple[int, bytes]]:
    """Of ICMP, about packets between some of the addresses: the protocol, and the message."""
    known = [
        transport.local,
        transport.remote,
        transport.shown,
        transport.local_there,
        transport.remote_there,
    ]
    address = st.sampled_from([ip_address(end).packed for end in known if end])
    kinds = st.sampled_from([0, 1, 2, 3, 4, 5, 8, 11, 12, 127, 128])
    return st.builds(
        lambda kind, src, dst, data, cut: (
            ip.ICMP if len(src) == 4 else ip.ICMPV6,
            (bytes([kind, 0, 0xAB, 0xCD, 0, 0, 0, 0]) + ip.build_ip(src, dst, ip.UDP, data))[:cut],
        ),
        kinds,
        address,
        address,
        st.binary(max_size=20),
        st.integers(1, 60),
    )


@st.composite
def payloads(draw: st.DrawFn) -> bytes:
    return draw(st.one_of(st.just(b""), OPTIONS, st.builds(bytes.__add__, OPTIONS, OPTIONS))) + draw(PAYLOADS)


def header_of(packet: bytes) -> bytes:
    return packet[:20] if packet[0] >> 4 == 4 else packet[:40]


@given(transports(), PROTOCOLS, payloads(), st.integers(0, 255))
def test_what_comes_out(transport: Transport, next_header: int, payload: bytes, tos: int) -> None:
    dressed = Headers(transport).dress(next_header, payload, tos)
    expected = reference.incoming(transport, reference.Carried(next_header, payload))
    if next_header == reference.NONE or expected is None:
        assert dressed is Drop.NEXT_HEADER
        return
    assert not isinstance(dressed, Drop)
    remote, local = ip_address(transport.shown).packed, ip_address(transport.local).packed
    assert dressed == ip.build_ip(remote, local, next_header, expected.payload, tos=tos)


@given(transports(), PROTOCOLS, payloads(), st.binary(max_size=8), st.integers(0, 0xFFFF))
def test_what_goes_in(
    transport: Transport, protocol: int, payload: bytes, options: bytes, fragment: int
) -> None:
    src, dst = ip_address(transport.local).packed, ip_address(transport.shown).packed
    packet = bytearray(ip.build_ip(src, dst, protocol, payload))
    if len(src) == 4:
        options = options[: len(options) // 4 * 4]
        packet[20:20] = options
        packet[0] += len(options) // 4
        packet[6:8] = (fragment & 0xC000 if fragment & 1 else fragment).to_bytes(2)
    headers = Headers(transport)
    expected = reference.outgoing(transport, bytes(packet))
    assert headers.carries(packet) == (expected is not None)
    if expected is not None:
        next_header, body = headers.strip(packet)
        assert (next_header, bytes(body)) == expected


@given(transports(), st.data())
def test_errors_that_come_and_go(transport: Transport, data: st.DataObject) -> None:
    protocol, payload = data.draw(errors(transport))
    remote, local = ip_address(transport.shown).packed, ip_address(transport.local).packed
    dressed = Headers(transport).dress(protocol, payload, 0)
    expected = reference.incoming(transport, reference.Carried(protocol, payload))
    assert expected is not None
    assert dressed == ip.build_ip(remote, local, protocol, expected.payload)
    packet = ip.build_ip(local, remote, protocol, payload)
    next_header, body = Headers(transport).strip(packet)
    assert (next_header, bytes(body)) == reference.outgoing(transport, packet)


@given(transports(), PROTOCOLS, payloads())
def test_two_hosts_see_the_same(transport: Transport, protocol: int, payload: bytes) -> None:
    """What one end takes off, the other puts on, and the checksum is as right or as wrong as before."""
    there = Transport(transport.remote, transport.local, transport.remote, transport.local)
    src, dst = ip_address(transport.local).packed, ip_address(transport.shown).packed
    packet = ip.build_ip(src, dst, protocol, payload)
    headers = Headers(transport)
    if not headers.carries(packet):
        return
    next_header, body = headers.strip(packet)
    arrived = Headers(there).dress(next_header, bytes(body), 0)
    assert not isinstance(arrived, Drop)
    if protocol in (ip.TCP, ip.UDP) and len(payload) >= 18:
        assert _left_over(arrived) == _left_over(packet)


def _left_over(packet: bytes) -> int:
    octets = len(header_of(packet))
    src, dst = (packet[12:16], packet[16:20]) if octets == 20 else (packet[8:24], packet[24:40])
    protocol = packet[9] if octets == 20 else packet[6]
    segment = packet[octets:]
    if protocol == ip.UDP and segment[6:8] == bytes(2):
        return -1
    return ip.checksum(ip.pseudo_header(src, dst, protocol, len(segment)) + segment) % 0xFFFF


@given(PROTOCOLS, payloads(), st.booleans(), st.integers(0, 255))
def test_garbage_by_those_who_have_the_keys(protocol: int, payload: bytes, known: bool, tos: int) -> None:
    """Nothing raises, and what comes out is a packet between the two hosts, or a counted drop."""
    transport = Transport("192.168.1.2", "203.0.113.7", *(("198.51.100.2", "10.0.0.5") if known else ()))
    _, right = ends(server=transport)
    opened = right.open([seal_by_hand(protocol, payload)], TO_LEFT, 1.0, tos)
    assert len(opened) + sum(right.drops.values()) == 1
    for packet in opened:
        assert isinstance(packet, bytes)
        flow = ip.parse_flow(packet)
        assert flow is not None
        assert flow.length == len(packet)
        assert (flow.src, flow.dst) == tuple(ip_address(a).packed for a in ("203.0.113.7", "192.168.1.2"))
