"""Two data paths that hold the two ends of the same SAs, and packets for them."""

import struct
from collections.abc import Iterable
from ipaddress import ip_address
from typing import Any

from espudp.crypto.suites import EspSuite, parse_esp_suite
from espudp.esp.datapath import DataPath, Event
from espudp.esp.sa import ChildKeys, Lifetime
from espudp.wire import ip
from espudp.wire.address import Path, UdpAddress
from espudp.wire.buffer import Buffer
from espudp.wire.selectors import TrafficSelector
from espudp.wire.train import Train
from espudp.wire.vnet import Frame
from tests.unit.crypto.seeded import keys_for, seeded_rng

GCM = parse_esp_suite("aes128gcm16")
GCM_ESN = parse_esp_suite("aes128gcm16-esn")
CBC = parse_esp_suite("aes128-sha256")
CBC_ESN = parse_esp_suite("aes128-sha256-esn")

LEFT_SPI, RIGHT_SPI = 0x0000_1001, 0x0000_2002
LEFT_ADDRESS = UdpAddress("192.0.2.1", 4500)
RIGHT_ADDRESS = UdpAddress("198.51.100.2", 4500)
TO_RIGHT = Path(LEFT_ADDRESS, RIGHT_ADDRESS)
TO_LEFT = Path(RIGHT_ADDRESS, LEFT_ADDRESS)
ELSEWHERE = Path(RIGHT_ADDRESS, UdpAddress("203.0.113.9", 61000))

LEFT = ip_address("10.1.0.1").packed
RIGHT = ip_address("10.2.0.1").packed
LEFT6 = ip_address("fd00:1::1").packed
RIGHT6 = ip_address("fd00:2::1").packed

TCP_HEADER_OCTETS = 20


def selectors(*cidrs: str) -> tuple[TrafficSelector, ...]:
    return tuple(TrafficSelector.from_network(cidr) for cidr in cidrs)


LEFT_NET = selectors("10.1.0.0/16", "fd00:1::/32")
RIGHT_NET = selectors("10.2.0.0/16", "fd00:2::/32")


def left_keys(suite: EspSuite = GCM, **changes: Any) -> ChildKeys:
    """The left end of a child SA."""
    fields: dict[str, Any] = {
        "connection": 1,
        "spi_in": LEFT_SPI,
        "spi_out": RIGHT_SPI,
        "suite": suite,
        "keys_in": keys_for(suite, 10),
        "keys_out": keys_for(suite, 20),
        "local": LEFT_NET,
        "remote": RIGHT_NET,
        "path": TO_RIGHT,
        "lifetime": Lifetime(),
        "follow_peer": True,
        "inner_mtu": 1400,
    }
    return ChildKeys(**(fields | changes))


def mirrored(keys: ChildKeys, **changes: Any) -> ChildKeys:
    """The same child SA, seen from the other end."""
    fields: dict[str, Any] = {
        "connection": keys.connection,
        "spi_in": keys.spi_out,
        "spi_out": keys.spi_in,
        "suite": keys.suite,
        "keys_in": keys.keys_out,
        "keys_out": keys.keys_in,
        "local": keys.remote,
        "remote": keys.local,
        "path": Path(keys.path.remote, keys.path.local),
        "lifetime": keys.lifetime,
        "follow_peer": keys.follow_peer,
        "inner_mtu": keys.inner_mtu,
        "replay_window": keys.replay_window,
        "sent": keys.received,
        "received": keys.sent,
    }
    return ChildKeys(**(fields | changes))


def left_path(suite: EspSuite = GCM, *, seed: int = 1, **changes: Any) -> DataPath:
    path = DataPath(seeded_rng(seed))
    path.install(left_keys(suite, **changes), 0.0)
    return path


def right_path(suite: EspSuite = GCM, *, seed: int = 2, **changes: Any) -> DataPath:
    path = DataPath(seeded_rng(seed))
    path.install(mirrored(left_keys(suite), **changes), 0.0)
    return path


def both(suite: EspSuite = GCM, **changes: Any) -> tuple[DataPath, DataPath]:
    """The left end and the right end; `changes` are of the left one's keys."""
    left, right = DataPath(seeded_rng(1)), DataPath(seeded_rng(2))
    keys = left_keys(suite, **changes)
    left.install(keys, 0.0)
    right.install(mirrored(keys), 0.0)
    return left, right


def datagrams(trains: list[Train]) -> list[bytes]:
    return [datagram for _, train, _ in trains for datagram in train]


def plain(packets: Iterable[Buffer | Frame]) -> list[bytes]:
    """The packets, of which none has work left."""
    whole: list[bytes] = []
    for packet in packets:
        assert not isinstance(packet, Frame)
        whole.append(bytes(packet))
    return whole


def events(path: DataPath) -> list[Event]:
    found: list[Event] = []
    while (event := path.next_event()) is not None:
        found.append(event)
    return found


def udp(
    size: int = 100,
    *,
    src: bytes = LEFT,
    dst: bytes = RIGHT,
    sport: int = 1000,
    dport: int = 2000,
    df: bool = True,
) -> bytes:
    """A UDP packet of `size` octets in all whose payload says how long it is."""
    header = 28 if len(src) == 4 else 48
    payload = bytes((size + n) % 256 for n in range(size - header))
    return ip.build_udp(src, dst, sport, dport, payload, df=df)


def udp6(size: int = 100) -> bytes:
    return udp(size, src=LEFT6, dst=RIGHT6)


def tcp(
    payload: bytes = b"",
    *,
    src: bytes = LEFT,
    dst: bytes = RIGHT,
    flags: int = 0x10,
    options: bytes = b"",
    df: bool = True,
) -> bytes:
    """A TCP segment with a right checksum. `options` fill whole words."""
    offset = (TCP_HEADER_OCTETS + len(options)) // 4
    header = struct.pack("!HHIIBBHHH", 1234, 80, 7, 9, offset << 4, flags, 512, 0, 0) + options
    segment = header + payload
    total = ip.checksum(ip.pseudo_header(src, dst, ip.TCP, len(segment)) + segment)
    segment = segment[:16] + total.to_bytes(2, "big") + segment[18:]
    return ip.build_ip(src, dst, ip.TCP, segment, df=df)


def tcp_checksum_is_right(packet: bytes) -> bool:
    flow = ip.parse_flow(packet)
    if flow is None:
        return False
    header = (packet[0] & 15) * 4 if flow.version == ip.IPV4 else ip.IPV6_HEADER_OCTETS
    segment = packet[header : flow.length]
    return ip.checksum(ip.pseudo_header(flow.src, flow.dst, ip.TCP, len(segment)) + segment) == 0
