"""Garbage at every entry of the data path: nothing raises, and only what is authentic has an effect."""

from hypothesis import given, settings
from hypothesis import strategies as st

from espudp.crypto.suites import EspSuite
from espudp.wire import ip
from espudp.wire.icmp import too_big
from espudp.wire.train import Burst
from espudp.wire.vnet import Frame, VnetHeader
from tests.unit.esp import reference
from tests.unit.esp.peers import (
    CBC_ESN,
    GCM,
    RIGHT_SPI,
    TO_LEFT,
    datagrams,
    events,
    left_keys,
    left_path,
    plain,
    right_path,
    tcp,
    udp,
    udp6,
)

SUITES = st.sampled_from([GCM, CBC_ESN])
SEEDS = st.sampled_from(
    [udp(60), udp6(80), tcp(b"data"), tcp(flags=2, options=b"\x02\x04\x05\xb4"), udp(1500, df=False)]
)


@st.composite
def mutants(draw: st.DrawFn) -> bytes:
    """Real packets with some octets changed, cut or added to; and plain garbage."""
    packet = bytearray(draw(st.one_of(SEEDS, st.binary(max_size=100))))
    for at, value in draw(st.lists(st.tuples(st.integers(0, 79), st.integers(0, 255)), max_size=6)):
        if at < len(packet):
            packet[at] = value
    end = draw(st.one_of(st.none(), st.integers(0, 100)))
    return bytes(packet[:end]) + draw(st.binary(max_size=4))


@given(mutants(), st.integers(0, 70000))
def test_inner_packets(packet: bytes, mtu: int) -> None:
    flow = ip.parse_flow(packet)
    octets = ip.inner_octets(packet, len(packet))
    if flow is None:
        assert too_big(packet, mtu % 65536) is None
    else:
        assert octets == flow.length <= len(packet)
        too_big(packet, mtu % 65536)
    if not octets:
        return
    clamped = ip.clamp_mss(packet, mtu % 65536)
    assert len(clamped) == len(packet)
    if ip.may_fragment(packet):
        pieces = ip.fragment(packet[:octets], mtu)
        header = (packet[0] & 15) * 4
        carried = sum(len(piece) - (piece[0] & 15) * 4 for piece in pieces)
        assert carried == octets - header


@given(SUITES, st.lists(mutants(), max_size=4))
def test_packets_from_the_tun_device(suite: EspSuite, packets: list[bytes]) -> None:
    left = left_path(suite)
    sent = datagrams(left.seal(packets, 0.0))
    assert len(sent) + sum(left.drops.values()) >= len(packets)
    opened = plain(right_path(suite).open(sent, TO_LEFT, 0.0))
    assert all(ip.inner_octets(packet, len(packet)) == len(packet) for packet in opened)


@given(SUITES, st.lists(st.binary(max_size=120), max_size=5), st.booleans())
def test_datagrams(suite: EspSuite, garbage: list[bytes], to_us: bool) -> None:
    right = right_path(suite)
    spi = RIGHT_SPI.to_bytes(4, "big") if to_us else b""
    assert right.open([spi + one for one in garbage], TO_LEFT, 0.0) == []
    assert sum(right.drops.values()) == len(garbage)
    assert right.take_heard() == []
    assert to_us is False or events(right) == []


@settings(max_examples=300)
@given(
    SUITES,
    st.one_of(mutants(), st.binary(max_size=80)),
    st.sampled_from([4, 41, 59, 0, 255]),
    st.integers(0, 255),
)
def test_authentic_plaintexts(suite: EspSuite, start: bytes, next_header: int, padding: int) -> None:
    """What comes out matches the selectors and is a whole packet, whatever the peer sealed."""
    right = right_path(suite)
    block = suite.encr.block_octets
    body = start + bytes(range(1, padding % 16 + 1))
    plaintext = body + bytes(-(len(body) + 2) % block) + bytes([padding % 16, next_header])
    keys = left_keys(suite).keys_out
    datagram = reference.seal(suite, keys, RIGHT_SPI, 1, bytes(suite.encr.iv_octets), plaintext)
    opened = plain(right.open([datagram], TO_LEFT, 0.0))
    assert len(opened) + sum(right.drops.values()) == 1
    for packet in opened:
        flow = ip.parse_flow(packet)
        octets = ip.inner_octets(packet, len(packet))
        assert octets == len(packet)
        assert packet[0] >> 4 == (4 if next_header == 4 else 6)
        assert flow is None or flow.src[:2] in (b"\x0a\x01", b"\xfd\x00")
    assert right.take_heard() == [(1, 0.0)]


@given(
    SUITES,
    st.lists(st.binary(min_size=1, max_size=90), min_size=1, max_size=4),
    st.lists(st.tuples(st.integers(0, 20), st.integers(0, 255)), max_size=12),
    st.integers(1, 20),
)
def test_alike_packets_from_the_tun_device(
    suite: EspSuite, payloads: list[bytes], edits: list[tuple[int, int]], count: int
) -> None:
    """Packets of one length with anything in their headers: together and singly they fare alike."""
    size = max(map(len, payloads))
    packets = []
    for number in range(count):
        payload = payloads[number % len(payloads)]
        packet = bytearray(udp(28 + size))
        packet[28 : 28 + len(payload)] = payload
        for place, value in edits[number % 3 :: 3]:
            packet[place] = value
        packets.append(bytes(packet))
    together, singly = left_path(suite), left_path(suite)
    wire = [datagram for packet in packets for datagram in datagrams(singly.seal([packet], 0.0))]
    trains = together.seal(packets, 0.0)
    assert datagrams(trains) == wire
    assert together.drops == singly.drops
    together, singly = right_path(suite), right_path(suite)
    opened = [packet for train in trains for packet in plain(together.open(train.datagrams, TO_LEFT, 0.0))]
    assert opened == [packet for datagram in wire for packet in plain(singly.open([datagram], TO_LEFT, 0.0))]
    assert together.drops == singly.drops
    assert together.snapshot(0.0) == singly.snapshot(0.0)


@given(SUITES, st.integers(1, 120), st.integers(1, 70), st.binary(max_size=200), st.booleans(), st.data())
def test_bursts(
    suite: EspSuite, width: int, count: int, spare: bytes, to_us: bool, content: st.DataObject
) -> None:
    """Trains of garbage of any size."""
    right = right_path(suite)
    row = content.draw(st.binary(min_size=width, max_size=width))
    if to_us:
        row = (RIGHT_SPI.to_bytes(4, "big") + row)[:width]
    burst = Burst(row * count + spare[: width - 1], width)
    assert right.open(burst, TO_LEFT, 0.0) == []
    assert sum(right.drops.values()) == len(burst)
    assert right.take_heard() == []


OFFSETS = st.one_of(st.sampled_from([0, 6, 16, 20, 40, 52]), st.integers(0, 0xFFFF))
VNET_HEADERS = st.builds(
    VnetHeader,
    flags=st.integers(0, 3),
    gso_type=st.sampled_from([0, 1, 4, 5, 0x80, 0x81, 0x84, 255]),
    hdr_len=OFFSETS,
    gso_size=st.one_of(st.integers(0, 60), st.integers(0, 0xFFFF)),
    csum_start=OFFSETS,
    csum_offset=OFFSETS,
)


@settings(max_examples=300)
@given(SUITES, st.lists(st.tuples(VNET_HEADERS, mutants(), st.integers(1, 10)), max_size=4))
def test_frames_from_the_tun_device(suite: EspSuite, frames: list[tuple[VnetHeader, bytes, int]]) -> None:
    left, right = left_path(suite), right_path(suite)
    given_in = [Frame(header, [packet]) for header, packet, count in frames for _ in range(count)]
    trains = [train.copy() for train in left.seal(given_in, 0.0)]
    assert len(datagrams(trains)) + sum(left.drops.values()) >= len(given_in)
    for train in trains:
        for packet in plain(right.open(train.datagrams, TO_LEFT, 0.0)):
            assert ip.inner_octets(packet, len(packet)) == len(packet)
    assert not right.drops
