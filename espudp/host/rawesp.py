"""Raw sockets for ESP without UDP around it: IP protocol 50 (RFC 4303).

There are no ports here: `Path` has port 0 at both ends. Nor is there a train in one call, as UDP has it.

Every raw socket of the protocol gets its own copy of what arrives, and so does the kernel's ESP where that is
loaded. This is harmless: each of them drops what it has no SA for. What belongs to the kernel's SAs arrives
here in the same way, as ESP of an unknown SPI.
"""

import errno
import ipaddress
import socket
import sys
from collections import Counter

from espudp.errors import HostError
from espudp.host.ipsocket import (
    ANCILLARY_OCTETS,
    MAX_DATAGRAM_OCTETS,
    PATHS_MAX,
    Ancillary,
    Route,
    SocketAddress,
    configure,
    family,
    local_ip,
    way_out,
)
from espudp.host.steering import keep_share
from espudp.wire.address import Path, UdpAddress
from espudp.wire.train import Train

# RFC 4303 section 2; no ports
PROTOCOL = socket.IPPROTO_ESP
NO_PORT = 0

# RFC 791 section 3.1
_MIN_HEADER_OCTETS = 20
_ADDRESSES = slice(12, 20)

_Origin = tuple[Path, int]
"""And the traffic class."""


class RawEspSocket:
    """One raw socket of one IP version, non-blocking."""

    port = NO_PORT

    def __init__(self, ip: str, *, mark: int = 0, inherited: int | None = None) -> None:
        """Bind to an address, 0.0.0.0 or :: for all of that version.

        `inherited` is the descriptor of a socket that is bound there already, and belongs to this object from
        now on. Raises OSError; EPERM without CAP_NET_RAW.
        """
        self.ip = ip
        self.version = ipaddress.ip_address(ip).version
        self._mark = mark
        kind = socket.SOCK_RAW | socket.SOCK_NONBLOCK
        self._socket = socket.socket(family(self.version), kind, PROTOCOL, fileno=inherited)
        self.errors: Counter[int] = Counter()
        """Packets that could not be sent, by errno."""
        self.malformed = 0
        """Packets that have come with an IPv4 header that cannot be."""
        self._buffer = memoryview(bytearray(MAX_DATAGRAM_OCTETS))
        self._origins: dict[object, _Origin] = {}
        self._routes: dict[tuple[Path, int], Route] = {}
        if inherited is None:
            try:
                configure(self._socket, self.version, mark)
                self._socket.bind((ip, 0))
            except OSError:
                self._socket.close()
                raise

    def sibling(self) -> "RawEspSocket":
        """One more socket for the same; all of them get everything, until `keep_share`. Raises OSError."""
        return RawEspSocket(self.ip, mark=self._mark)

    def keep_share(self, number: int, count: int) -> None:
        """Get only what worker `number` of `count` owns, by its SPI. Raises OSError."""
        keep_share(self._socket, self.version, number, count)

    def fileno(self) -> int:
        """For the event loop."""
        return self._socket.fileno()

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    # In

    def receive(self, limit: int) -> list[Train]:
        """What waits, in order, up to `limit` packets from the SPI on.

        Consecutive ones of one path and traffic class are together.
        """
        take = self._take4 if self.version == 4 else self._take6
        trains: list[Train] = []
        run: list[bytes] = []
        last: _Origin | None = None
        for _ in range(limit):
            try:
                taken = take()
            except BlockingIOError:
                break
            except OSError:  # what became of an earlier packet
                continue
            if taken is None:
                continue
            origin, data = taken
            if origin is last:
                run.append(data)
            else:
                run, last = [data], origin
                trains.append(Train(origin[0], run, origin[1]))
        return trains

    def _take4(self) -> tuple[_Origin, bytes] | None:
        """A packet without its header, which says all there is to know; None: there cannot be such a one."""
        buffer = self._buffer
        octets = self._socket.recv_into(buffer)
        header_octets = (buffer[0] & 15) * 4
        if (
            buffer[0] >> 4 != 4
            or not _MIN_HEADER_OCTETS <= header_octets <= octets
            or buffer[2] << 8 | buffer[3] != octets
            or buffer[9] != PROTOCOL
        ):
            self.malformed += 1
            return None
        key = bytes(buffer[_ADDRESSES]), buffer[1]
        origin = self._origins.get(key) or self._remember(key, *_addresses(key[0]), key[1])
        return origin, bytes(buffer[header_octets:octets])

    def _take6(self) -> tuple[_Origin, bytes] | None:
        """A packet, which comes without its header; None: it is not known what it came to."""
        octets, ancillary, _, sender = self._socket.recvmsg_into((self._buffer,), ANCILLARY_OCTETS)
        key = (sender[0], *ancillary)
        origin = self._origins.get(key) or self._origin6(key, sender, ancillary)
        return None if origin is None else (origin, bytes(self._buffer[:octets]))

    def _origin6(self, key: object, sender: SocketAddress, ancillary: Ancillary) -> _Origin | None:
        said = {kind: value for _, kind, value in ancillary}
        if socket.IPV6_PKTINFO not in said:
            return None
        tos = int.from_bytes(said.get(socket.IPV6_TCLASS, b""), sys.byteorder)
        ours = local_ip(6, said[socket.IPV6_PKTINFO])
        return self._remember(key, sender[0].partition("%")[0], ours, tos)

    def _remember(self, key: object, remote: str, local: str, tos: int) -> _Origin:
        if len(self._origins) >= PATHS_MAX:
            self._origins.clear()
        path = Path(UdpAddress(local, NO_PORT), UdpAddress(remote, NO_PORT))
        origin = self._origins[key] = path, tos
        return origin

    # Out

    def send(self, train: Train) -> int:
        """Send packets in order; how many are done with. Fewer than all: the buffer is full, wait.

        What the kernel refuses (no route, too big, a filter) is counted, and done with.
        """
        path, packets, tos = train
        ancillary, destination = self._routes.get((path, tos)) or self._route(path, tos)
        count = 0
        for packet in packets:
            try:
                self._socket.sendmsg((packet,), ancillary, 0, destination)
            except BlockingIOError:
                break
            except OSError as error:  # ENOBUFS as well: to wait for a device's queue would keep all others
                self.errors[error.errno or 0] += 1
            count += 1
        return count

    def _route(self, path: Path, tos: int) -> Route:
        if len(self._routes) >= PATHS_MAX:
            self._routes.clear()
        found = self._routes[path, tos] = way_out(self.version, path, tos)
        return found


def open_raw(bind: str | None, *, mark: int) -> list[RawEspSocket]:
    """For plain ESP; `bind` None: on every address, IPv6 as well where the host has it. Raises HostError."""
    sockets: list[RawEspSocket] = []
    for ip in ("0.0.0.0", "::") if bind is None else (bind,):
        try:
            sockets.append(RawEspSocket(ip, mark=mark))
        except OSError as error:
            if bind is None and ip == "::" and error.errno in (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL):
                continue
            for opened in sockets:
                opened.close()
            raise _refusal(error) from None
    return sockets


def _addresses(packed: bytes) -> tuple[str, str]:
    """Source and destination."""
    return socket.inet_ntop(socket.AF_INET, packed[:4]), socket.inet_ntop(socket.AF_INET, packed[4:])


def _refusal(error: OSError) -> HostError:
    remedies = {
        errno.EPERM: "Run espudp as root, or give it CAP_NET_RAW; --encap always does without.",
        errno.EADDRNOTAVAIL: "Bind to an address of this host.",
    }
    remedy = remedies.get(error.errno or 0, "Let ESP go in UDP: --encap always.")
    return HostError(f"No raw socket for ESP without UDP: {error.strerror}.", remedy=remedy)
