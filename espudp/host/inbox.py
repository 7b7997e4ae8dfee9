"""Packets and datagrams from one worker to another, each through the kernel in one copy.

Every worker reads from an inbox of its own: a pair of Unix datagram sockets, whose other end all the others
write to. The socket's buffer bounds what waits.
"""

import contextlib
import pickle
import socket
from collections.abc import Iterator, Mapping, Sequence

from espudp.esp.messages import Astray, Incoming, Outgoing
from espudp.host.ipsocket import BUFFER_OCTETS, MAX_DATAGRAM_OCTETS, SO_SNDBUFFORCE
from espudp.wire.buffer import Buffer
from espudp.wire.train import Burst
from espudp.wire.vnet import VNET_OCTETS, Frame, VnetHeader

# What a message begins with; a path is shorter than this in any form.
_PACKET, _FRAME, _DATAGRAMS = b"p", b"f", b"d"
_PATH_OCTETS_MAX = 1024

# What one sendmsg takes, less what we put in front.
IOV_MAX = 1000

# Messages a wake-up takes at most.
BATCH = 64


def open_inboxes(count: int) -> list[tuple[socket.socket, socket.socket]]:
    """For each worker the end to read from and the end to write to."""
    pairs = [socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM) for _ in range(count)]
    for pair in pairs:
        for end in pair:
            end.setblocking(False)
        make_roomy(pair[1])
    return pairs


def make_roomy(writer: socket.socket) -> None:
    """Let as much as possible wait until it is read."""
    try:
        writer.setsockopt(socket.SOL_SOCKET, SO_SNDBUFFORCE, BUFFER_OCTETS)
    except PermissionError:
        writer.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER_OCTETS)


class Outboxes:
    """The way to the other workers."""

    def __init__(self, sockets: Mapping[int, socket.socket]) -> None:
        """By worker."""
        self._sockets = sockets

    def hand_over(self, worker: int, astray: Astray) -> bool:
        """Whether all of it found room."""
        outbox = self._sockets[worker]
        try:
            for message in _messages(astray):
                outbox.sendmsg(message)
        except OSError:  # EAGAIN: full
            return False
        return True


def _messages(astray: Astray) -> Iterator[Sequence[Buffer]]:
    if isinstance(astray, Outgoing):
        packet = astray.packet
        if isinstance(packet, Frame):
            yield _FRAME, packet.header.pack(), *packet.parts
        else:
            yield _PACKET, packet
        return
    datagrams = astray.datagrams
    if isinstance(datagrams, Burst):
        about = _about(astray, datagrams.size)
        for piece in datagrams.pieces:
            yield *about, piece
    elif _are_alike(datagrams):
        yield *_about(astray, len(datagrams[0])), *datagrams
    else:
        about = _about(astray, 0)
        for datagram in datagrams:
            yield *about, datagram


def _are_alike(datagrams: Sequence[Buffer]) -> bool:
    """Whether they would make a burst."""
    size, count = len(datagrams[0]), len(datagrams)
    return (
        1 < count <= IOV_MAX
        and count * size <= MAX_DATAGRAM_OCTETS
        and 0 < len(datagrams[-1]) <= size
        and all(len(datagram) == size for datagram in datagrams[:-1])
    )


def _about(astray: Incoming, size: int) -> tuple[bytes, bytes, bytes]:
    octets = pickle.dumps((astray.path, astray.tos, size))
    return _DATAGRAMS, len(octets).to_bytes(2), octets


class Inbox:
    """What the other workers hand over to this one."""

    def __init__(self, reader: socket.socket) -> None:
        self._socket = reader
        self._buffer = memoryview(bytearray(MAX_DATAGRAM_OCTETS + _PATH_OCTETS_MAX))

    def fileno(self) -> int:
        """For the event loop."""
        return self._socket.fileno()

    def read(self) -> Iterator[Astray]:
        """What waits, each borrowed until the next; a batch at most."""
        with contextlib.suppress(BlockingIOError):
            for _ in range(BATCH):
                octets = self._socket.recv_into(self._buffer)
                yield _parse(self._buffer[:octets])


def _parse(message: memoryview) -> Astray:
    kind, rest = message[:1], message[1:]
    if kind == _PACKET:
        return Outgoing(bytes(rest))
    if kind == _FRAME:
        return Outgoing(Frame(VnetHeader.unpack(rest), (rest[VNET_OCTETS:],)))
    octets = int.from_bytes(rest[:2])
    path, tos, size = pickle.loads(rest[2 : 2 + octets])
    data = rest[2 + octets :]
    return Incoming(Burst(data, size) if size else [bytes(data)], path, tos)
