"""Inner checksums in a real run: right in all that leaves, and where one was broken it stays so.

Scapy is the judge, of what goes to the far TUN device and of what is in the ESP between.
"""

import itertools
import os
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass, replace
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest
from scapy.layers.inet import IP, in4_chksum
from scapy.layers.inet6 import IPv6, in6_chksum
from scapy.utils import checksum

from espudp.crypto.suites import parse_esp_suite
from espudp.host.netns import Namespace
from espudp.manual import ManualConfig, ManualPair, emit_manual, generate_pair
from espudp.wire.address import UdpAddress
from espudp.wire.selectors import TrafficSelector
from espudp.wire.vnet import GSO_NONE, Frame
from tests.host.support import Network, Peer, ping, transfer
from tests.host.wiretap import Wiretap, udp_payload
from tests.reference import inner_reference, offload_reference
from tests.unit.esp import reference as esp

pytestmark = [pytest.mark.root, pytest.mark.tun]

# linux/udp.h
UDP_SEGMENT = 103
SERVER, CLIENT = {4: "10.98.0.1", 6: "fd00:98::1"}, {4: "10.98.0.2", 6: "fd00:98::2"}
FAMILY = {4: socket.AF_INET, 6: socket.AF_INET6}
DATA = os.urandom(300_000)


@dataclass
class Tunnel:
    """Manual keys, so that a test can look into the ESP."""

    network: Network
    configs: tuple[ManualConfig, ManualConfig]

    def inner_packets(self, outer: list[Frame]) -> list[bytes]:
        """What is in the ESP of both directions."""
        incoming = {config.spi_in: config for config in self.configs}
        found = []
        for frame in outer:
            payload = udp_payload(frame.packet, 4500) or b""
            size = frame.header.gso_size if frame.header.gso_type != GSO_NONE else len(payload)
            for at in range(0, len(payload), max(size, 1)):
                datagram = payload[at : at + size]
                if (config := incoming.get(int.from_bytes(datagram[:4], "big"))) is not None:
                    number = int.from_bytes(datagram[4:8], "big")
                    plaintext = esp.open_(config.suite, config.keys_in, number, datagram)
                    assert plaintext is not None
                    found.append(plaintext[: inner_reference.inner_length(plaintext)])
        return found


@pytest.fixture(params=["aes128-sha256", "aes128gcm16"])
def tunnel(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Tunnel]:
    pair = ManualPair(
        suite=parse_esp_suite(request.param),
        server=UdpAddress("203.0.113.7", 4500),
        network=ip_network("10.98.0.0/30"),
        server_subnets=(TrafficSelector.from_network(SERVER[6]),),
        client_subnets=(TrafficSelector.from_network(CLIENT[6]),),
        fresh_keys=True,
    )
    server, client = generate_pair(pair, os.urandom)
    with Network.make(tmp_path) as network:
        for namespace, name, config, own in (
            (network.server, "server", server, SERVER),
            (network.client, "client", client, CLIENT),
        ):
            text = emit_manual(replace(config, addresses=tuple(own.values())))
            Peer.start(network, namespace, name, {"mode": "manual", "text": text}).wait_for(
                "Manual keys with"
            )
        assert ping(network.client, SERVER[4], tries=2)
        yield Tunnel(network, (server, client))


# The judge

# Of a header as scapy sees it and what is behind: 0 if the checksum in it is right.
_sum6: Any = in6_chksum  # has no types
SUMS: dict[int, Any] = {
    4: lambda protocol, head, data: in4_chksum(protocol, IP(head), data),
    6: lambda protocol, head, data: _sum6(protocol, IPv6(head), data),
}


def is_right(packet: bytes) -> bool:
    """Every checksum that there is, as scapy sums it up."""
    version, upper = packet[0] >> 4, inner_reference.upper_layer(packet)
    assert upper is not None
    head, data = packet[: upper.at], packet[upper.at :]
    if version == 4 and checksum(head):
        return False
    if upper.protocol == socket.IPPROTO_ICMP:
        return checksum(data) == 0
    return bool(SUMS[version](upper.protocol, packet, data) == 0)


def in_the_end(frames: list[Frame]) -> list[bytes]:
    """Packets as they would leave this host: what is left to be done is done."""
    return [packet for frame in frames for packet in offload_reference.segment(frame)]


# Traffic


def stream(sender: Namespace, receiver: Namespace, version: int, address: str) -> None:
    """DATA over TCP."""
    assert transfer(sender, receiver, address, DATA) == DATA


def datagrams(sender: Namespace, receiver: Namespace, version: int, address: str) -> None:
    """UDP one by one, in runs, and as the kernel segments it for a sender that asks it to."""
    with receiver.inside():
        listening = socket.socket(FAMILY[version], socket.SOCK_DGRAM)
    with sender.inside():
        calling = socket.socket(FAMILY[version], socket.SOCK_DGRAM)
    with listening, calling:
        listening.settimeout(5)
        listening.bind((address, 0))
        calling.connect(listening.getsockname()[:2])
        sent = [DATA[at : at + octets] for at in range(20) for octets in (0, 1, 31, 1000, 1001)]
        for data in sent:
            calling.send(data)
        assert [listening.recv(2000) for _ in sent] == sent
        calling.setsockopt(socket.IPPROTO_UDP, UDP_SEGMENT, 1001)
        calling.send(DATA[:20_500])
        assert b"".join(listening.recv(2000) for _ in range(21)) == DATA[:20_500]


@pytest.mark.parametrize("inside", [4, 6])
def test_every_checksum_is_right(tunnel: Tunnel, inside: int) -> None:
    network = tunnel.network
    outer = Wiretap(network.router, "r0", offloads=True)
    devices = [Wiretap(end, "esp0", offloads=True) for end in (network.client, network.server)]
    ways = [
        (network.client, network.server, SERVER[inside]),
        (network.server, network.client, CLIENT[inside]),
    ]
    for sender, receiver, address in ways:
        stream(sender, receiver, inside, address)
        datagrams(sender, receiver, inside, address)
        assert ping(sender, address, octets=900)
    sealed = tunnel.inner_packets(outer.caught())
    assert sum(map(len, sealed)) > 2 * len(DATA)
    assert [packet for packet in sealed if not is_right(packet)] == []
    for device in devices:
        frames = device.caught()
        assert max(len(frame.packet) for frame in frames) > 20_000
        delivered = in_the_end(frames)
        assert sum(map(len, delivered)) > 2 * len(DATA)
        assert [packet for packet in delivered if not is_right(packet)] == []


# What somebody broke before


def raw_packets(inside: int, protocol: int, faults: set[int]) -> list[bytes]:
    """A flow whose packets could travel together, if it were not for those with a wrong checksum."""
    source, destination = (socket.inet_pton(FAMILY[inside], end[inside]) for end in (CLIENT, SERVER))
    packets = []
    for number in range(20):
        data = DATA[number * 1000 : number * 1000 + 1000]
        if protocol == socket.IPPROTO_TCP:
            segment = struct.pack("!HHIIBBHHH", 40000, 9, 1 + number * 1000, 1, 0x50, 0x10, 512, 0, 0) + data
        else:
            segment = struct.pack("!HHHH", 40000, 9, 8 + len(data), 0) + data
        if inside == 4:
            head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(segment), 1 + number, 0x4000, 64, protocol, 0)
            head += source + destination
            head = inner_reference.put16(head, 10, checksum(head))
        else:
            head = struct.pack("!IHBB", 6 << 28, len(segment), protocol, 64) + source + destination
        field = 16 if protocol == socket.IPPROTO_TCP else 6
        total = SUMS[inside](protocol, head, segment) ^ (0x0400 if number in faults else 0)
        packets.append(head + inner_reference.put16(segment, field, total))
    return packets


def is_of(packet: bytes, inside: int, protocol: int) -> bool:
    """Whether it comes from the client, and with this protocol: not an answer to it."""
    upper = inner_reference.upper_layer(packet)
    source = str(inner_reference.addresses(packet)[0])
    return upper is not None and (source, upper.protocol) == (CLIENT[inside], protocol)


@pytest.mark.parametrize("inside", [4, 6])
def test_a_broken_checksum_stays_broken(tunnel: Tunnel, inside: int) -> None:
    network = tunnel.network
    with network.client.inside():
        raw = socket.socket(FAMILY[inside], socket.SOCK_RAW, socket.IPPROTO_RAW)
    for protocol, faults in itertools.product(
        (socket.IPPROTO_TCP, socket.IPPROTO_UDP), ({7}, set(range(20)), set[int]())
    ):
        packets = raw_packets(inside, protocol, faults)
        outer = Wiretap(network.router, "r0", offloads=True)
        device = Wiretap(network.server, "esp0", offloads=True)
        for packet in packets:
            raw.sendto(packet, (SERVER[inside], 0))
        assert ping(network.client, SERVER[inside])  # whatever was before it has arrived
        for seen in (tunnel.inner_packets(outer.caught()), in_the_end(device.caught())):
            arrived = [packet for packet in seen if is_of(packet, inside, protocol)]
            assert arrived == packets
            assert {number for number, packet in enumerate(arrived) if not is_right(packet)} == faults
    raw.close()
