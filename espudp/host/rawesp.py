"""Raw sockets for ESP without UDP around it: IP protocol 50 (RFC 4303).

There are no ports here: `Path` has port 0 at both ends. Nor do several packets pass the kernel as one, as
with UDP.

Every raw socket of the protocol gets its own copy of what arrives, and so does the kernel's ESP where that is
loaded. This is harmless: each of them drops what it has no SA for. What belongs to the kernel's SAs arrives
here in the same way, as ESP of an unknown SPI.
"""

import errno
import ipaddress
import socket
import sys
from collections import Counter
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from espudp.errors import HostError
from espudp.host.batched import MESSAGES, Octets, Receiver, Sender, parse_said
from espudp.host.ipsocket import (
    PATHS_MAX,
    Route,
    configure,
    family,
    local_ip,
    way_out,
)
from espudp.host.steering import keep_share
from espudp.wire.address import Path, UdpAddress
from espudp.wire.train import Burst, Train

# RFC 4303 section 2; no ports
PROTOCOL = socket.IPPROTO_ESP
NO_PORT = 0

# RFC 791 section 3.1
_MIN_HEADER_OCTETS = 20
_PLAIN_HEADER = 0x45
# Of it, what tells paths and traffic classes apart
_TELLING = [1, *range(12, 20)]

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
        self._receiver = Receiver(self._socket, _MIN_HEADER_OCTETS if self.version == 4 else 0)
        self._sender = Sender(self._socket)
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

        Consecutive ones of one path and traffic class are together. Those of one size make a burst, which is
        borrowed: it holds until the next call.
        """
        try:
            sizes = self._receiver.receive(limit)
        except OSError:  # there is nothing, or what became of an earlier packet
            return []
        front, said = self._receiver.front[: len(sizes)], self._receiver.said[: len(sizes)]
        keys = front[:, _TELLING] if self.version == 4 else said
        wanted = self._receiver.size
        if (
            len(sizes) > 1
            and 0 < sizes[-1] <= wanted
            and (sizes[:-1] == wanted).all()
            and (keys == keys[0]).all()
            and (self.version == 6 or _are_plain(front, sizes))
        ):
            origin = self._origin(keys[0].tobytes())
            return [] if origin is None else [Train(origin[0], self._receiver.burst(sizes), origin[1])]
        trains = self._one_by_one(sizes.tolist(), keys)
        self._receiver.expect(int(np.bincount(np.maximum(sizes, 0)).argmax()))
        return trains

    def _one_by_one(self, sizes: list[int], keys: Octets) -> list[Train]:
        trains: list[Train] = []
        run: list[bytes] = []
        last: _Origin | None = None
        for number, octets in enumerate(sizes):
            data = self._receiver.packet(number, octets) if octets >= 0 else None
            if self.version == 4 and data is not None:
                data = _without_header(self._receiver.front[number].tobytes(), data)
            origin = self._origin(keys[number].tobytes())
            if data is None or origin is None:
                self.malformed += 1
            elif origin is last:
                run.append(data)
            else:
                run, last = [data], origin
                trains.append(Train(origin[0], run, origin[1]))
        return trains

    def _origin(self, key: bytes) -> _Origin | None:
        """Of packets about which the kernel says this; None: it does not say enough."""
        known = self._origins.get(key)
        if known is not None:
            return known
        if self.version == 4:
            return self._remember(key, *_addresses(key[1:]), key[0])
        sender, ancillary = parse_said(key)
        said = {kind: value for _, kind, value in ancillary}
        if socket.IPV6_PKTINFO not in said:
            return None
        tos = int.from_bytes(said.get(socket.IPV6_TCLASS, b""), sys.byteorder)
        return self._remember(key, sender, local_ip(6, said[socket.IPV6_PKTINFO]), tos)

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
        route = self._routes.get((path, tos)) or self._route(path, tos)
        parts = [Burst(p, packets.size) for p in packets.pieces] if type(packets) is Burst else [packets]
        done = 0
        for part in parts:
            went = self._send(part, route)
            done += went
            if went < len(part):
                break
        return done

    def _send(self, packets: Sequence[bytes], route: Route) -> int:
        done, count = 0, len(packets)
        while done < count:
            try:
                done += self._sender.send(packets if not done else packets[done : done + MESSAGES], route)
            except BlockingIOError:
                break
            except OSError as error:  # ENOBUFS as well: to wait for a device's queue would keep all others
                self.errors[error.errno or 0] += 1
                done += 1
        return done

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


def _are_plain(headers: Octets, sizes: npt.NDArray[np.intp]) -> bool:
    """Whether all are IPv4 headers without options of ESP packets so long."""
    said = headers[:, 2].astype(np.intp) * 256 + headers[:, 3]
    plain = (headers[:, 0] == _PLAIN_HEADER) & (headers[:, 9] == PROTOCOL)
    return bool((plain & (said == sizes + _MIN_HEADER_OCTETS)).all())


def _without_header(header: bytes, rest: bytes) -> bytes | None:
    """What is behind an IPv4 header, whose options are in `rest` still; None: there cannot be such a one."""
    options = (header[0] & 15) * 4 - _MIN_HEADER_OCTETS
    if (
        header[0] >> 4 != 4
        or not 0 <= options <= len(rest)
        or header[2] << 8 | header[3] != len(header) + len(rest)
        or header[9] != PROTOCOL
    ):
        return None
    return rest[options:]


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
