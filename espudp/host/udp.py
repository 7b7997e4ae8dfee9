"""UDP sockets for IKE and ESP: in batches, and always from the address that the peer knows.

A wildcard socket learns with IP_PKTINFO which of our addresses a datagram came to, and says in the same way
from which one to send; so `Path.local` is a true address, and a host with several answers from the right one.
"""

import contextlib
import errno
import ipaddress
import socket
import struct
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from espudp.errors import HostError
from espudp.wire.address import Path, UdpAddress
from espudp.wire.train import Train

MAX_DATAGRAM_OCTETS = 65535

# linux/in.h, in6.h, udp.h, asm-generic/socket.h; names that Python's socket module lacks before 3.14.
IP_PKTINFO, IP_MTU_DISCOVER, IP_MTU = 8, 10, 14
IPV6_MTU_DISCOVER, IPV6_MTU = 23, 24
PMTUDISC_WANT = 1
SO_SNDBUFFORCE, SO_RCVBUFFORCE = 32, 33
UDP_NO_CHECK6_RX = 102

# One path's worth of bursts: 64 KB trains arrive faster than a busy interpreter comes round.
BUFFER_OCTETS = 4 << 20

# struct in_pktinfo: interface, our address, the header's destination; struct in6_pktinfo: address, interface
_PKTINFO = struct.Struct("=i4s4s")
_PKTINFO6 = struct.Struct("=16si")
_ANCILLARY_OCTETS = socket.CMSG_SPACE(_PKTINFO6.size)

# Remembered addresses, so that a path is one object however often it is met.
PATHS_MAX = 1 << 14

_SocketAddress = tuple[str, int] | tuple[str, int, int, int]
_Ancillary = list[tuple[int, int, bytes]]


class UdpSocket:
    """One UDP socket of one IP version, non-blocking."""

    def __init__(self, ip: str, port: int, *, mark: int = 0) -> None:
        """Bind to an address (0.0.0.0 or :: for all of that version) and a port, 0 for any.

        Raises OSError; `open_socket` turns that into a HostError.
        """
        self.version = ipaddress.ip_address(ip).version
        family = socket.AF_INET if self.version == 4 else socket.AF_INET6
        self._socket = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self.errors: Counter[int] = Counter()
        """Datagrams that could not be sent, by errno."""
        self._paths: dict[tuple[_SocketAddress, bytes], Path] = {}
        self._routes: dict[Path, tuple[_Ancillary, _SocketAddress]] = {}
        try:
            self._configure(mark)
            self._socket.bind((ip, port))
        except OSError:
            self._socket.close()
            raise
        self.port: int = self._socket.getsockname()[1]

    def _configure(self, mark: int) -> None:
        s = self._socket
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
        if self.version == 4:
            s.setsockopt(socket.IPPROTO_IP, IP_PKTINFO, 1)
            s.setsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER, PMTUDISC_WANT)
            return
        s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
        s.setsockopt(socket.IPPROTO_IPV6, IPV6_MTU_DISCOVER, PMTUDISC_WANT)
        # RFC 3948 section 2.1 has senders leave the checksum zero; IPv6 drops such datagrams unless told
        # otherwise (RFC 6935 section 5). The ICV covers what the checksum would. IPv4 takes them anyhow.
        s.setsockopt(socket.IPPROTO_UDP, UDP_NO_CHECK6_RX, 1)

    def fileno(self) -> int:
        """For the event loop."""
        return self._socket.fileno()

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def receive_batch(self, limit: int) -> list[Train]:
        """Up to `limit` datagrams that are waiting; consecutive ones of one path together, in order."""
        trains: list[Train] = []
        run: list[bytes] = []
        last: Path | None = None
        for _ in range(limit):
            try:
                data, ancillary, _, sender = self._socket.recvmsg(MAX_DATAGRAM_OCTETS, _ANCILLARY_OCTETS)
            except BlockingIOError:
                break
            except OSError:
                continue
            path = self._path(sender, ancillary)
            if path is None:
                continue
            if path == last:
                run.append(data)
            else:
                run, last = [data], path
                trains.append(Train(path, run))
        return trains

    def send(self, train: Train) -> int:
        """Send datagrams in order; how many are done with. Fewer than all: the buffer is full, wait.

        What the kernel refuses (no route, too big, a filter) is counted, and done with.
        """
        path, datagrams, _ = train
        ancillary, destination = self._route(path)
        for count, datagram in enumerate(datagrams):
            try:
                self._socket.sendmsg([datagram], ancillary, 0, destination)
            except BlockingIOError:
                return count
            except OSError as error:
                self.errors[error.errno or 0] += 1
        return len(datagrams)

    def _path(self, sender: _SocketAddress, ancillary: _Ancillary) -> Path | None:
        if len(ancillary) != 1:
            return None
        packet_info = ancillary[0][2]
        path = self._paths.get((sender, packet_info))
        if path is None:
            if len(self._paths) >= PATHS_MAX:
                self._paths.clear()
            local = _local_ip(self.version, packet_info)
            path = Path(UdpAddress(local, self.port), UdpAddress(sender[0], sender[1]))
            self._paths[sender, packet_info] = path
        return path

    def _route(self, path: Path) -> tuple[_Ancillary, _SocketAddress]:
        route = self._routes.get(path)
        if route is None:
            if len(self._routes) >= PATHS_MAX:
                self._routes.clear()
            route = _packet_info(self.version, path.local.ip), (path.remote.ip, path.remote.port)
            self._routes[path] = route
        return route


class SocketSet:
    """All sockets of a peer; a train leaves from the one that its path names."""

    def __init__(self, sockets: Iterable[UdpSocket]) -> None:
        self.sockets = list(sockets)
        self._by_port = {(s.version, s.port): s for s in self.sockets}

    def for_path(self, path: Path) -> UdpSocket | None:
        """The socket that datagrams of this path leave from."""
        return self._by_port.get((6 if ":" in path.local.ip else 4, path.local.port))

    @property
    def errors(self) -> Counter[int]:
        """Datagrams that could not be sent, by errno."""
        return sum((s.errors for s in self.sockets), Counter())

    def close(self) -> None:
        """Close every socket."""
        for s in self.sockets:
            s.close()


def open_listening(bind: str | None, ports: Iterable[int], *, mark: int) -> SocketSet:
    """Sockets on each port; `bind` None: on every address, IPv6 as well where the host has it.

    Raises HostError: port in use, address not ours, permission.
    """
    sockets: list[UdpSocket] = []
    try:
        for port in ports:
            for ip in ("0.0.0.0", "::") if bind is None else (bind,):
                opened = _open(ip, port, mark, optional=bind is None and ip == "::")
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


def open_calling(bind: str | None, port: int, plain_port: int | None, *, mark: int) -> CallingSockets:
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
                opened = _open_any(ip, wanted, mark, others, optional=bind is None and ip == "::")
                if opened is not None:
                    found[opened.version] = opened
    except HostError:
        sockets.all.close()
        raise
    return sockets


def _open_any(ip: str, port: int, mark: int, others: set[int], *, optional: bool) -> UdpSocket | None:
    """On `port` if it is free, else on one that is none of `others`: the port tells the kinds apart."""
    with contextlib.suppress(OSError):
        return UdpSocket(ip, port, mark=mark)
    opened = _open(ip, 0, mark, optional=optional)
    while opened is not None and opened.port in others:
        opened.close()
        opened = _open(ip, 0, mark, optional=optional)
    return opened


def _open(ip: str, port: int, mark: int, *, optional: bool) -> UdpSocket | None:
    try:
        return UdpSocket(ip, port, mark=mark)
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
    family, level, option = (
        (socket.AF_INET, socket.IPPROTO_IP, IP_MTU)
        if version == 4
        else (socket.AF_INET6, socket.IPPROTO_IPV6, IPV6_MTU)
    )
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
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


def _local_ip(version: int, packet_info: bytes) -> str:
    if version == 4:
        return socket.inet_ntop(socket.AF_INET, _PKTINFO.unpack(packet_info)[1])
    return socket.inet_ntop(socket.AF_INET6, _PKTINFO6.unpack(packet_info)[0])


def _packet_info(version: int, local_ip: str) -> _Ancillary:
    if version == 4:
        address = socket.inet_pton(socket.AF_INET, local_ip)
        return [(socket.IPPROTO_IP, IP_PKTINFO, _PKTINFO.pack(0, address, bytes(4)))]
    address = socket.inet_pton(socket.AF_INET6, local_ip)
    return [(socket.IPPROTO_IPV6, socket.IPV6_PKTINFO, _PKTINFO6.pack(address, 0))]


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
