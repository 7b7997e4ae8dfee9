"""What all sockets have in common that outer packets pass: which address, which traffic class, how much room.

A wildcard socket learns with IP_PKTINFO which of our addresses a packet came to, and says in the same way
from which one to send; so `Path.local` is a true address, and a host with several answers from the right one.
"""

import socket
import struct
from collections import Counter
from collections.abc import Iterable
from typing import Literal, Protocol

from espudp.wire.address import Path
from espudp.wire.train import Train

# linux/in.h, in6.h, asm-generic/socket.h; names that Python's socket module lacks before 3.14.
IP_TOS, IP_PKTINFO, IP_MTU_DISCOVER, IP_RECVTOS, IP_MTU = 1, 8, 10, 13, 14
IPV6_MTU_DISCOVER, IPV6_MTU = 23, 24
PMTUDISC_WANT = 1
SO_SNDBUFFORCE, SO_RCVBUFFORCE = 32, 33

MAX_DATAGRAM_OCTETS = 65535

# One path's worth of bursts: 64 KB trains arrive faster than a busy interpreter comes round.
BUFFER_OCTETS = 4 << 20

# Errors that are taken off a socket before others have their turn.
ERRORS_AT_ONCE = 64

# Remembered addresses, so that a path is one object however often it is met.
PATHS_MAX = 1 << 14

# struct in_pktinfo: interface, our address, the header's destination; struct in6_pktinfo: address, interface
_PKTINFO = struct.Struct("=i4s4s")
_PKTINFO6 = struct.Struct("=16si")
_INT = struct.Struct("=i")
# The packet's addresses and its traffic class.
ANCILLARY_OCTETS = socket.CMSG_SPACE(_PKTINFO6.size) + socket.CMSG_SPACE(_INT.size)

_TRAFFIC_CLASS = {4: (socket.IPPROTO_IP, IP_TOS), 6: (socket.IPPROTO_IPV6, socket.IPV6_TCLASS)}

SocketAddress = tuple[str, int] | tuple[str, int, int, int]
Ancillary = list[tuple[int, int, bytes]]
Route = tuple[Ancillary, SocketAddress]
"""How a socket is told from where, with which traffic class and whither."""


class OuterSocket(Protocol):
    """A non-blocking socket of one IP version that carries IKE, ESP or both."""

    version: Literal[4, 6]
    port: int
    """Local UDP port; 0: it is for plain ESP, which has none."""
    errors: Counter[int]
    """Datagrams that could not be sent, by errno."""

    def fileno(self) -> int: ...
    def close(self) -> None: ...
    def receive(self, limit: int) -> list[Train]: ...
    def send(self, train: Train) -> int: ...


class SocketSet:
    """All sockets of a peer; a train leaves from the one that its path names."""

    def __init__(self, sockets: Iterable[OuterSocket]) -> None:
        self.sockets: list[OuterSocket] = []
        self._by_port: dict[tuple[int, int], OuterSocket] = {}
        self.add(sockets)

    def add(self, more: Iterable[OuterSocket]) -> None:
        """They are ours to close as well."""
        for s in more:
            self.sockets.append(s)
            self._by_port[s.version, s.port] = s

    def for_path(self, path: Path) -> OuterSocket | None:
        """The socket that datagrams of this path leave from."""
        return self._by_port.get((6 if ":" in path.local.ip else 4, path.local.port))

    @property
    def ports(self) -> list[int]:
        """The UDP ports."""
        return sorted({s.port for s in self.sockets if s.port})

    @property
    def errors(self) -> Counter[int]:
        """Datagrams that could not be sent, by errno."""
        return sum((s.errors for s in self.sockets), Counter())

    def close(self) -> None:
        """Close every socket."""
        for s in self.sockets:
            s.close()


def family(version: int) -> socket.AddressFamily:
    """Of an IP version."""
    return socket.AF_INET if version == 4 else socket.AF_INET6


def configure(s: socket.socket, version: int, mark: int) -> None:
    """Room, mark, and what is to be known of each packet. Raises OSError."""
    for forced, asked in ((SO_RCVBUFFORCE, socket.SO_RCVBUF), (SO_SNDBUFFORCE, socket.SO_SNDBUF)):
        try:
            s.setsockopt(socket.SOL_SOCKET, forced, BUFFER_OCTETS)
        except PermissionError:
            s.setsockopt(socket.SOL_SOCKET, asked, BUFFER_OCTETS)
    if mark:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, mark)
    # WANT: packets carry DF, so that the path's MTU is discovered and ESP is sized to fit; but what is
    # larger, such as an IKE message with certificates, goes out in fragments instead of being refused.
    # Not RECVERR, which would tell at once when the MTU changes: a socket with an error pending makes
    # libuv, and so uvloop, stop watching it. The driver asks now and then instead (`outlook`).
    if version == 4:
        s.setsockopt(socket.IPPROTO_IP, IP_PKTINFO, 1)
        s.setsockopt(socket.IPPROTO_IP, IP_RECVTOS, 1)
        s.setsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER, PMTUDISC_WANT)
        return
    s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
    s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVTCLASS, 1)
    s.setsockopt(socket.IPPROTO_IPV6, IPV6_MTU_DISCOVER, PMTUDISC_WANT)


def local_ip(version: int, packet_info: bytes) -> str:
    """Our address that a packet came to."""
    if version == 4:
        return socket.inet_ntop(socket.AF_INET, _PKTINFO.unpack(packet_info)[1])
    return socket.inet_ntop(socket.AF_INET6, _PKTINFO6.unpack(packet_info)[0])


def way_out(version: int, path: Path, tos: int) -> Route:
    """For sendmsg: what leaves by the path with this traffic class."""
    address = socket.inet_pton(family(version), path.local.ip)
    ancillary: Ancillary = [
        (socket.IPPROTO_IP, IP_PKTINFO, _PKTINFO.pack(0, address, bytes(4)))
        if version == 4
        else (socket.IPPROTO_IPV6, socket.IPV6_PKTINFO, _PKTINFO6.pack(address, 0))
    ]
    if tos:
        ancillary.append((*_TRAFFIC_CLASS[version], _INT.pack(tos)))
    return ancillary, (path.remote.ip, path.remote.port)
