"""Many packets in one system call, on sockets that cannot take a train: sendmmsg(2) and recvmmsg(2).

What the kernel is to read and to fill in stands in arrays that are made once. Packets of one size come to lie
one behind the other, as in a train that GRO has put together.
"""

import ctypes
import mmap
import os
import socket
import struct
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from espudp.host.ipsocket import ANCILLARY_OCTETS, MAX_DATAGRAM_OCTETS, Ancillary, Route
from espudp.wire.train import Burst

# As many as leave in one train elsewhere.
MESSAGES = 64

# Of a packet at first; it becomes that of those which come.
USUAL_OCTETS = 1500

# struct iovec; struct msghdr of the C library; struct mmsghdr
_IOVEC = np.dtype([("base", np.uintp), ("octets", np.uintp)])
_MSGHDR = np.dtype(
    [
        ("name", np.uintp),
        ("name_octets", np.uint32),
        ("iovecs", np.uintp),
        ("count", np.uintp),
        ("control", np.uintp),
        ("control_octets", np.uintp),
        ("flags", np.intc),
    ],
    align=True,
)
_MMSGHDR = np.dtype([("header", _MSGHDR), ("octets", np.uint32)], align=True)

# struct cmsghdr, padded as CMSG_ALIGN has it; struct sockaddr_in, sockaddr_in6
_CMSGHDR = struct.Struct("@Nii")
_SOCKADDR = struct.Struct("=HH4s8x")
_SOCKADDR6 = struct.Struct("=HHI16sI")
_ADDRESS6 = slice(8, 24)
_ROOM = struct.calcsize("@N")

_libc = ctypes.CDLL(None, use_errno=True)

Octets = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class _Fixed:
    """What all packets of a route have in common, in the kernel's form."""

    name: Octets
    control: Octets


class Sender:
    """Sends packets of one route, many at a time."""

    def __init__(self, s: socket.socket) -> None:
        self._socket = s
        self._headers = np.zeros(MESSAGES, _MMSGHDR)
        self._iovecs = np.zeros(MESSAGES, _IOVEC)
        header = self._headers["header"]
        header["iovecs"] = self._iovecs.ctypes.data + _IOVEC.itemsize * np.arange(MESSAGES)
        header["count"] = 1
        self._fixed: dict[int, tuple[Route, _Fixed]] = {}

    def send(self, packets: Sequence[bytes], route: Route) -> int:
        """The first MESSAGES of them at most; how many have gone. Raises OSError if the first does not."""
        if type(packets) is Burst:
            octets = np.frombuffer(packets.pieces[0], np.uint8)
            count = min(-(-len(octets) // packets.size), MESSAGES)
            starts = packets.size * np.arange(count)
            sizes = np.minimum(packets.size, len(octets) - starts)
        else:
            some = packets[:MESSAGES]
            octets, count = np.frombuffer(b"".join(some), np.uint8), len(some)
            sizes = np.fromiter(map(len, some), np.intp, count)
            starts = np.cumsum(sizes) - sizes
        self._iovecs["base"][:count] = octets.ctypes.data + starts
        self._iovecs["octets"][:count] = sizes
        fixed, header = self._in_kernels_form(route), self._headers["header"]
        header["name"], header["name_octets"] = fixed.name.ctypes.data, len(fixed.name)
        header["control"], header["control_octets"] = fixed.control.ctypes.data, len(fixed.control)
        return _call("sendmmsg", self._socket, self._headers, count)

    def _in_kernels_form(self, route: Route) -> _Fixed:
        known = self._fixed.get(id(route))
        if known is None or known[0] is not route:
            if len(self._fixed) >= MESSAGES:
                self._fixed.clear()
            ancillary, (ip, *_) = route
            fixed = _Fixed(_octets(_socket_address(ip)), _octets(_control(ancillary)))
            known = self._fixed[id(route)] = route, fixed
        return known[1]


class Receiver:
    """Receives many packets at a time, each in the same three places: its front, a slot, and what is more."""

    def __init__(self, s: socket.socket, front_octets: int) -> None:
        """`front_octets` of each packet are kept apart from the rest, such as an IP header."""
        self._socket = s
        self.front = np.zeros((MESSAGES, front_octets), np.uint8)
        """The beginnings of what was received last."""
        self.said = np.zeros((MESSAGES, _SOCKADDR6.size + ANCILLARY_OCTETS), np.uint8)
        """Who sent it and what else the kernel says, in its own form: equal for packets that are alike."""
        # Mapped, so that what no packet ever reached costs no memory; for this process alone.
        self._slots = np.frombuffer(_mapped(MESSAGES * MAX_DATAGRAM_OCTETS), np.uint8)
        self._more = np.frombuffer(_mapped(MESSAGES * MAX_DATAGRAM_OCTETS), np.uint8)
        self._headers = np.zeros(MESSAGES, _MMSGHDR)
        self._iovecs = np.zeros((MESSAGES, 3), _IOVEC)
        self._iovecs["base"][:, 0] = self.front.ctypes.data + front_octets * np.arange(MESSAGES)
        self._iovecs["octets"][:, 0] = front_octets
        self._iovecs["base"][:, 2] = self._more.ctypes.data + MAX_DATAGRAM_OCTETS * np.arange(MESSAGES)
        self._iovecs["octets"][:, 2] = MAX_DATAGRAM_OCTETS
        header = self._headers["header"]
        header["iovecs"] = self._iovecs.ctypes.data + 3 * _IOVEC.itemsize * np.arange(MESSAGES)
        header["count"] = 3
        header["name"] = self.said.ctypes.data + self.said.shape[1] * np.arange(MESSAGES)
        header["control"] = header["name"] + _SOCKADDR6.size
        self._front_octets = front_octets
        self._size = 0
        self.expect(USUAL_OCTETS)

    def expect(self, octets: int) -> None:
        """Packets of this size, their fronts aside, are to lie together from now on."""
        if 0 < octets <= MAX_DATAGRAM_OCTETS and octets != self._size:
            self._size = octets
            self._iovecs["base"][:, 1] = self._slots.ctypes.data + octets * np.arange(MESSAGES)
            self._iovecs["octets"][:, 1] = octets

    def receive(self, limit: int) -> npt.NDArray[np.intp]:
        """The sizes of up to `limit` packets without their fronts; negative: shorter than that.

        What is said of them is in `front` and `said`, what is in them `packet` and `burst` hand out, until
        the next call. Raises OSError; BlockingIOError where there is none.
        """
        header = self._headers["header"]
        header["name_octets"] = _SOCKADDR6.size
        header["control_octets"] = ANCILLARY_OCTETS
        count = _call("recvmmsg", self._socket, self._headers, min(limit, MESSAGES))
        return self._headers["octets"][:count].astype(np.intp) - self._front_octets

    def burst(self, sizes: npt.NDArray[np.intp]) -> Burst:
        """All packets, which have the size that was expected, the last at most that."""
        return Burst(self._slots[: self._size * (len(sizes) - 1) + int(sizes[-1])].data, self._size)

    def packet(self, number: int, octets: int) -> bytes:
        """One packet."""
        start, more = number * self._size, number * MAX_DATAGRAM_OCTETS
        inside = min(octets, self._size)
        return bytes(self._slots[start : start + inside]) + bytes(self._more[more : more + octets - inside])

    @property
    def size(self) -> int:
        """What is expected."""
        return self._size


def _call(name: str, s: socket.socket, headers: npt.NDArray[np.void], count: int) -> int:
    """How many packets went through. Raises OSError if the first did not."""
    arguments = s.fileno(), ctypes.c_void_p(headers.ctypes.data), count, socket.MSG_DONTWAIT
    done: int = getattr(_libc, name)(*arguments, *((None,) if name == "recvmmsg" else ()))
    if done < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return done


def _mapped(octets: int) -> mmap.mmap:
    return mmap.mmap(-1, octets, mmap.MAP_PRIVATE)


def _octets(data: bytes) -> Octets:
    return np.frombuffer(data, np.uint8)


def _socket_address(ip: str) -> bytes:
    if ":" in ip:
        return _SOCKADDR6.pack(socket.AF_INET6, 0, 0, socket.inet_pton(socket.AF_INET6, ip), 0)
    return _SOCKADDR.pack(socket.AF_INET, 0, socket.inet_pton(socket.AF_INET, ip))


def _control(ancillary: Ancillary) -> bytes:
    made = b""
    for level, kind, data in ancillary:
        message = _CMSGHDR.pack(_CMSGHDR.size + len(data), level, kind) + data
        made += message.ljust(-(-len(message) // _ROOM) * _ROOM, b"\0")
    return made


def parse_said(said: bytes) -> tuple[str, Ancillary]:
    """The IPv6 address of a sender, and what the kernel says of its packet."""
    sender = socket.inet_ntop(socket.AF_INET6, said[_ADDRESS6])
    ancillary: Ancillary = []
    rest = said[_SOCKADDR6.size :]
    while len(rest) >= _CMSGHDR.size:
        octets, level, kind = _CMSGHDR.unpack_from(rest)
        if not _CMSGHDR.size <= octets <= len(rest):
            break
        ancillary.append((level, kind, rest[_CMSGHDR.size : octets]))
        rest = rest[-(-octets // _ROOM) * _ROOM :]
    return sender, ancillary
