"""UDP sockets for IKE and ESP: in trains, and always from the address that the peer knows.

With UDP_GRO one call receives a whole train of equal-sized datagrams, with UDP_SEGMENT one call sends one.
Where the host lacks either, datagrams go one by one.
"""

import contextlib
import errno
import ipaddress
import mmap
import socket
import struct
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from espudp.errors import HostError
from espudp.host.ipsocket import (
    ANCILLARY_OCTETS,
    ERRORS_AT_ONCE,
    IP_MTU,
    IP_PKTINFO,
    IPV6_MTU,
    MAX_DATAGRAM_OCTETS,
    PATHS_MAX,
    Ancillary,
    Route,
    SocketAddress,
    SocketSet,
    configure,
    family,
    local_ip,
    way_out,
)
from espudp.wire.address import Path, UdpAddress
from espudp.wire.buffer import Buffer
from espudp.wire.train import TOGETHER, Burst, Train

BUFFER_STRIDE = 1 << 16

# linux/udp.h
UDP_NO_CHECK6_RX, UDP_SEGMENT, UDP_GRO = 102, 103, 104

# UDP_MAX_SEGMENTS of Linux 4.18; later ones take more.
GSO_SEGMENTS = 64
# The largest packet that passes an interface uncut is GSO_LEGACY_MAX_SIZE, 65,536 octets, with its UDP, IPv6
# and Ethernet headers and perhaps a VLAN tag or two.
GSO_OCTETS = 65_450

_INT = struct.Struct("=i")
_SEGMENT_SIZE = struct.Struct("=H")
# What is said about any packet, and the size of a train's datagrams.
_ANCILLARY_OCTETS = ANCILLARY_OCTETS + socket.CMSG_SPACE(_INT.size)

NO_GRO = "The kernel has no UDP_GRO: datagrams are received one by one, which is slower."
NO_GSO = "The kernel does not take UDP_SEGMENT: datagrams are sent one by one, which is slower."

# RFC 791, RFC 8200, RFC 768: what is around a datagram.
_HEADER_OCTETS = {4: 20 + 8, 6: 40 + 8}

OnLimit = Callable[[str], None]


class _Origin(NamedTuple):
    """What the kernel says about what it hands over."""

    path: Path
    tos: int
    size: int
    """Of each datagram of a train; 0: it is a single one."""


def _ignore(_: str) -> None:
    pass


class UdpSocket:
    """One UDP socket of one IP version, non-blocking."""

    def __init__(
        self,
        ip: str,
        port: int,
        *,
        mark: int = 0,
        on_limit: OnLimit = _ignore,
        shared: bool = False,
        inherited: int | None = None,
    ) -> None:
        """Bind to an address (0.0.0.0 or :: for all of that version) and a port, 0 for any.

        `on_limit` gets a line for a person about what this host turns out not to be able to do. With `shared`
        the port may be in use by sockets of ours that are shared as well; `inherited` is the descriptor of a
        socket that is bound there already, and belongs to this object from now on.
        Raises OSError; `open_listening` and `open_calling` turn that into a HostError.
        """
        self.ip = ip
        self.version = ipaddress.ip_address(ip).version
        self._socket = socket.socket(
            family(self.version), socket.SOCK_DGRAM | socket.SOCK_NONBLOCK, fileno=inherited
        )
        self.errors: Counter[int] = Counter()
        """Datagrams that could not be sent, by errno."""
        # Mapped, so that what no burst ever reached costs no memory; for this process alone, should it fork.
        memory = memoryview(mmap.mmap(-1, TOGETHER * BUFFER_STRIDE, mmap.MAP_PRIVATE))
        self._buffers = [memory[n * BUFFER_STRIDE :][:MAX_DATAGRAM_OCTETS] for n in range(TOGETHER)]
        self._mark = mark
        self._on_limit = on_limit
        self._origins: dict[tuple[object, ...], _Origin] = {}
        self._paths: dict[tuple[SocketAddress, bytes], Path] = {}
        self._routes: dict[tuple[Path, int], Route] = {}
        try:
            self._gso = self._offers(UDP_SEGMENT, 0, NO_GSO)
            if inherited is None:
                self._configure(mark)
                if shared:
                    self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
                self._socket.bind((ip, port))
        except OSError:
            self._socket.close()
            raise
        self.port: int = self._socket.getsockname()[1]

    def sibling(self) -> "UdpSocket":
        """One more socket on the same address and port. Raises OSError."""
        # Only now, so that a port which another process has, shared or not, has been refused.
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        return UdpSocket(self.ip, self.port, mark=self._mark, on_limit=self._on_limit, shared=True)

    def _configure(self, mark: int) -> None:
        configure(self._socket, self.version, mark)
        self._offers(UDP_GRO, 1, NO_GRO)
        if self.version == 6:
            self._socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            # RFC 3948 section 2.1 has senders leave the checksum zero; IPv6 drops such datagrams unless told
            # otherwise (RFC 6935 section 5). The ICV covers what the checksum would. IPv4 takes them anyhow.
            self._socket.setsockopt(socket.IPPROTO_UDP, UDP_NO_CHECK6_RX, 1)

    def _offers(self, option: int, value: int, otherwise: str) -> bool:
        """Set an option of UDP's. Asked now, since a kernel without UDP_SEGMENT ignores its cmsg."""
        try:
            self._socket.setsockopt(socket.IPPROTO_UDP, option, value)
        except OSError:
            self._on_limit(otherwise)
            return False
        return True

    def fileno(self) -> int:
        """For the event loop."""
        return self._socket.fileno()

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    # In

    def receive(self, limit: int) -> list[Train]:
        """What waits, in order: up to `limit` single datagrams, and the first burst behind them.

        Consecutive ones of one path and traffic class are together. If `limit` is more than 1, the burst is
        of as many pieces as wait, and one further train may follow it. Bursts are borrowed: they hold until
        the next call.
        """
        trains: list[Train] = []
        run: list[bytes] = []
        last: _Origin | None = None
        for _ in range(limit):
            received = self._take(self._buffers[0])
            if received is None:
                break
            origin, data = received
            if origin.size:
                trains += self._burst(origin, data) if limit > 1 else [_train(origin, data)]
                break
            if origin is last:
                run.append(bytes(data))
            else:
                run, last = [bytes(data)], origin
                trains.append(Train(origin.path, run, origin.tos))
        return trains

    def _burst(self, origin: _Origin, first: memoryview) -> list[Train]:
        """The burst that begins like this, and what came where its next piece was looked for."""
        pieces, octets = [first], len(first)
        while len(pieces) < TOGETHER and len(pieces[-1]) == octets and not octets % origin.size:
            received = self._take(self._buffers[len(pieces)])
            if received is None:
                break
            other, data = received
            if other is not origin or len(data) > octets:
                return [_train(origin, *pieces), _train(other, data)]
            pieces.append(data)
        return [_train(origin, *pieces)]

    def _take(self, buffer: memoryview) -> tuple[_Origin, memoryview] | None:
        """One datagram, or one piece of a burst, in `buffer`; None: there is none."""
        for _ in range(ERRORS_AT_ONCE):
            try:
                octets, ancillary, _, sender = self._socket.recvmsg_into((buffer,), _ANCILLARY_OCTETS)
            except BlockingIOError:
                return None
            except OSError:  # what became of an earlier datagram
                continue
            origin = self._origins.get((sender, *ancillary)) or self._origin(sender, ancillary)
            if origin is not None:
                return origin, buffer[:octets]
        return None

    def _origin(self, sender: SocketAddress, ancillary: Ancillary) -> _Origin | None:
        """What the kernel says about a datagram, read once for all that come alike."""
        size = tos = 0
        packet_info = b""
        for _, kind, value in ancillary:
            if kind == UDP_GRO:
                size = _INT.unpack(value)[0]
            elif kind in (IP_PKTINFO, socket.IPV6_PKTINFO):
                packet_info = value
            else:  # IP_TOS, one octet; IPV6_TCLASS, an int
                tos = int.from_bytes(value, sys.byteorder)
        if not packet_info:
            return None
        if len(self._origins) >= PATHS_MAX:
            self._origins.clear()
        origin = self._origins[sender, *ancillary] = _Origin(self._path(sender, packet_info), tos, size)
        return origin

    def _path(self, sender: SocketAddress, packet_info: bytes) -> Path:
        path = self._paths.get((sender, packet_info))
        if path is None:
            if len(self._paths) >= PATHS_MAX:
                self._paths.clear()
            local = UdpAddress(local_ip(self.version, packet_info), self.port)
            path = Path(local, UdpAddress(sender[0], sender[1]))
            self._paths[sender, packet_info] = path
        return path

    # Out

    def send(self, train: Train) -> int:
        """Send datagrams in order; how many are done with. Fewer than all: the buffer is full, wait.

        What the kernel refuses (no route, too big, a filter) is counted, and done with.
        """
        path, datagrams, tos = train
        route = self._routes.get((path, tos)) or self._route(path, tos)
        if self._gso and len(datagrams) > 1:
            size = datagrams.size if isinstance(datagrams, Burst) else _common_size(datagrams)
            if 0 < 2 * size <= GSO_OCTETS:
                return self._send_segmented(datagrams, size, route)
        return self._send_singly(datagrams, route)

    def _send_singly(self, datagrams: Iterable[bytes], route: Route) -> int:
        ancillary, destination = route
        count = 0
        for datagram in datagrams:
            try:
                self._socket.sendmsg((datagram,), ancillary, 0, destination)
            except BlockingIOError:
                break
            except OSError as error:
                self.errors[error.errno or 0] += 1
            count += 1
        return count

    def _send_segmented(self, datagrams: Sequence[bytes], size: int, route: Route) -> int:
        """Datagrams of one size but for the last, as many at a time as one call takes."""
        ancillary, destination = route
        ancillary = [*ancillary, (socket.IPPROTO_UDP, UDP_SEGMENT, _SEGMENT_SIZE.pack(size))]
        done = 0
        for count, buffers in _sends(datagrams, size):
            try:
                self._socket.sendmsg(buffers, ancillary, 0, destination)
            except BlockingIOError:
                return done
            except OSError as error:
                went = self._send_refused(datagrams[done : done + count], error.errno or 0, route)
                if went < count:
                    return done + went
            done += count
        return done

    def _send_refused(self, datagrams: Sequence[bytes], code: int, route: Route) -> int:
        """What the kernel did not take at once: by itself each may go, whole or in fragments.

        EMSGSIZE, and EINVAL on older kernels: one is larger than the path's MTU. EIO: something on the way
        out, such as a device without checksums, has to see each; it will want to again.
        """
        if code not in (errno.EIO, errno.EINVAL, errno.EMSGSIZE):
            self.errors[code] += len(datagrams)
            return len(datagrams)
        refused = self.errors.total()
        done = self._send_singly(datagrams, route)
        went = done and self.errors.total() == refused
        if went and (code == errno.EIO or (code == errno.EINVAL and self._fits(len(datagrams[0]), route))):
            self._gso = False
            self._on_limit(NO_GSO)
        return done

    def _fits(self, octets: int, route: Route) -> bool:
        """Whether a datagram needs no fragmentation."""
        try:
            mtu = outlook(route[1][0], mark=self._mark).mtu
        except HostError:
            return False
        return octets + _HEADER_OCTETS[self.version] <= mtu

    def _route(self, path: Path, tos: int) -> Route:
        if len(self._routes) >= PATHS_MAX:
            self._routes.clear()
        found = self._routes[path, tos] = way_out(self.version, path, tos)
        return found


def open_listening(
    bind: str | None, ports: Iterable[int], *, mark: int, on_limit: OnLimit = _ignore
) -> SocketSet:
    """Sockets on each port; `bind` None: on every address, IPv6 as well where the host has it.

    Raises HostError: port in use, address not ours, permission.
    """
    sockets: list[UdpSocket] = []
    try:
        for port in ports:
            for ip in ("0.0.0.0", "::") if bind is None else (bind,):
                opened = _open(ip, port, mark, on_limit, optional=bind is None and ip == "::")
                if opened is not None:
                    sockets.append(opened)
    except HostError:
        SocketSet(sockets).close()
        raise
    return SocketSet(sockets)


@dataclass(frozen=True, slots=True)
class CallingSockets:
    """An initiator's sockets, by IP version."""

    natt: dict[int, UdpSocket]
    plain: dict[int, UdpSocket]
    """For IKE without the non-ESP marker."""

    @property
    def all(self) -> SocketSet:
        """Both kinds."""
        return SocketSet([*self.natt.values(), *self.plain.values()])


def open_calling(
    bind: str | None, port: int, plain_port: int | None, *, mark: int, on_limit: OnLimit = _ignore
) -> CallingSockets:
    """Sockets on these ports where they are free, else on any; IPv6 as well where the host has it.

    Raises HostError.
    """
    sockets = CallingSockets({}, {})
    try:
        for ip in ("0.0.0.0", "::") if bind is None else (bind,):
            for found, wanted in ((sockets.natt, port), (sockets.plain, plain_port)):
                if wanted is None:
                    continue
                others = {s.port for s in sockets.all.sockets if s not in found.values()}
                opened = _open_any(ip, wanted, mark, on_limit, others, optional=bind is None and ip == "::")
                if opened is not None:
                    found[opened.version] = opened
    except HostError:
        sockets.all.close()
        raise
    return sockets


def _open_any(
    ip: str, port: int, mark: int, on_limit: OnLimit, others: set[int], *, optional: bool
) -> UdpSocket | None:
    """On `port` if it is free, else on one that is none of `others`: the port tells the kinds apart."""
    with contextlib.suppress(OSError):
        return UdpSocket(ip, port, mark=mark, on_limit=on_limit)
    opened = _open(ip, 0, mark, on_limit, optional=optional)
    while opened is not None and opened.port in others:
        opened.close()
        opened = _open(ip, 0, mark, on_limit, optional=optional)
    return opened


def _open(ip: str, port: int, mark: int, on_limit: OnLimit, *, optional: bool) -> UdpSocket | None:
    try:
        return UdpSocket(ip, port, mark=mark, on_limit=on_limit)
    except OSError as error:
        if optional and error.errno in (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL):
            return None
        raise _refusal(ip, port, error) from None


@dataclass(frozen=True, slots=True)
class Outlook:
    """How the kernel would send to a peer: from which address, in IP packets of at most `mtu` octets."""

    local_ip: str
    mtu: int


def outlook(remote_ip: str, *, mark: int = 0, bind: str | None = None) -> Outlook:
    """Ask the kernel by way of a connected socket, which sends nothing. Raises HostError: no route."""
    version = ipaddress.ip_address(remote_ip).version
    level, option = (socket.IPPROTO_IP, IP_MTU) if version == 4 else (socket.IPPROTO_IPV6, IPV6_MTU)
    try:
        with socket.socket(family(version), socket.SOCK_DGRAM) as probe:
            if mark:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, mark)
            if bind is not None:
                probe.bind((bind, 0))
            probe.connect((remote_ip, 9))
            return Outlook(probe.getsockname()[0], probe.getsockopt(level, option))
    except OSError as error:
        raise HostError(
            f"There is no way to {remote_ip} from here: {error.strerror}.",
            remedy="Check the network connection, the routes, and that both ends speak the same IP version.",
        ) from None


def _train(origin: _Origin, data: memoryview, *more: memoryview) -> Train:
    """Of what came in pieces; a single datagram is copied."""
    datagrams = Burst(data, origin.size, *more) if origin.size else [bytes(data)]
    return Train(origin.path, datagrams, origin.tos)


def _sends(datagrams: Sequence[bytes], size: int) -> Iterator[tuple[int, Sequence[Buffer]]]:
    """As few calls as send datagrams of one size: how many of them there are in each, and their memory."""
    step = min(GSO_SEGMENTS, GSO_OCTETS // size)
    if not isinstance(datagrams, Burst):
        for start in range(0, len(datagrams), step):
            piece = datagrams[start : start + step]
            yield len(piece), piece
        return
    for memory in datagrams.pieces:
        for start in range(0, len(memory), step * size):
            part = memory[start : start + step * size]
            yield -(-len(part) // size), (part,)


def _common_size(datagrams: Sequence[bytes]) -> int:
    """What all have but the last, which may be shorter; else 0."""
    size = len(datagrams[0])
    if len(datagrams[-1]) > size or any(len(datagram) != size for datagram in datagrams[1:-1]):
        return 0
    return size


def _refusal(ip: str, port: int, error: OSError) -> HostError:
    where = UdpAddress(ip, port)
    if error.errno == errno.EADDRINUSE:
        return HostError(
            f"UDP port {port} is in use on {ip}.",
            remedy=f"See who has it with `ss -lunp sport = :{port}` and stop that, or choose another port.",
        )
    remedies = {
        errno.EADDRNOTAVAIL: "Bind to an address of this host; `espudp listen` without --bind takes all.",
        errno.EACCES: "Run espudp as root, or choose ports above 1023.",
        errno.EPERM: "Run espudp as root, or give it CAP_NET_ADMIN.",
        errno.EAFNOSUPPORT: "The kernel has no IPv6: use IPv4 addresses.",
    }
    remedy = remedies.get(error.errno or 0, "")
    return HostError(f"No UDP socket on {where}: {error.strerror}.", remedy=remedy)
