"""What crosses an interface, seen from outside the program under test, and what is in it."""

import socket
from dataclasses import dataclass

from espudp.host.netns import Namespace
from espudp.wire.vnet import VNET_OCTETS, Frame, VnetHeader

# linux/if_ether.h, linux/if_packet.h, asm-generic/socket.h, linux/if_arp.h
ETH_P_ALL = 3
PACKET_VNET_HDR = 15
SO_RCVBUFFORCE = 33
ARPHRD_ETHER = 1
ETHERNET_OCTETS = 14
IP_TYPES = (b"\x08\x00", b"\x86\xdd")

BUFFER_OCTETS = 64 << 20


class Wiretap:
    """Keeps all that crosses an interface until it is read. Use once."""

    def __init__(self, namespace: Namespace, interface: str, *, offloads: bool = False) -> None:
        """`offloads`: see also what is left to be done for each packet, as `caught` wants."""
        with namespace.inside():
            # Nothing before `bind`, when it would hear all devices.
            self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        self._socket.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, BUFFER_OCTETS)
        if offloads:
            self._socket.setsockopt(263, PACKET_VNET_HDR, 1)
        self._socket.bind((interface, ETH_P_ALL))
        self._socket.setblocking(False)
        self._link_octets = ETHERNET_OCTETS if self._socket.getsockname()[3] == ARPHRD_ETHER else 0

    def frames(self) -> list[bytes]:
        """Each with the header of its link layer."""
        frames: list[bytes] = []
        with self._socket:
            while True:
                try:
                    frames.append(self._socket.recv(VNET_OCTETS + 65535 + ETHERNET_OCTETS))
                except BlockingIOError:
                    return frames

    def packets(self) -> list[bytes]:
        """IP packets, either version, but what the kernels say about multicast whenever they like."""
        link = self._link_octets
        found = [f[link:] for f in self.frames() if not link or f[link - 2 : link] in IP_TYPES]
        return [packet for packet in found if not is_multicast_listener_report(packet)]

    def caught(self) -> list[Frame]:
        """IP packets with what is left to be done for them."""
        found = []
        for octets in self.frames():
            header, frame = VnetHeader.unpack(octets), octets[VNET_OCTETS:]
            link = self._link_octets
            if link and frame[link - 2 : link] not in IP_TYPES:
                continue
            if header.csum_start:
                header = header._replace(csum_start=header.csum_start - link)
            found.append(Frame(header, [frame[link:]]))
        return found


@dataclass(frozen=True)
class Segment:
    """A TCP segment, or many in one super-packet, seen on a wire."""

    source: bytes
    destination: bytes
    ecn: int
    flags: int
    octets: int
    """Of payload."""


def tcp_segment(packet: bytes) -> Segment | None:
    """None for what is not TCP behind a plain IP header."""
    if packet[0] >> 4 == 4:
        at, protocol, ecn = (packet[0] & 15) * 4, packet[9], packet[1] & 3
        source, destination = packet[12:16], packet[16:20]
    else:
        at, protocol, ecn = 40, packet[6], packet[1] >> 4 & 3
        source, destination = packet[8:24], packet[24:40]
    if protocol != socket.IPPROTO_TCP:
        return None
    header = (packet[at + 12] >> 4) * 4
    return Segment(source, destination, ecn, packet[at + 13], len(packet) - at - header)


def is_multicast_listener_report(packet: bytes) -> bool:
    """RFC 3810 section 5.2: ICMPv6 of type 143, behind a hop-by-hop header of 8 octets."""
    is_behind_options = packet[0] >> 4 == 6 and packet[6] == socket.IPPROTO_HOPOPTS
    return is_behind_options and packet[40:41] == bytes([socket.IPPROTO_ICMPV6]) and packet[48:49] == b"\x8f"


def udp_payload(packet: bytes, port: int) -> bytes | None:
    """Of a datagram to or from a port; None for all else."""
    version6 = packet[0] >> 4 == 6
    at = 40 if version6 else (packet[0] & 15) * 4
    ports = packet[at : at + 2], packet[at + 2 : at + 4]
    is_udp = packet[6 if version6 else 9] == socket.IPPROTO_UDP
    return packet[at + 8 :] if is_udp and port.to_bytes(2, "big") in ports else None
