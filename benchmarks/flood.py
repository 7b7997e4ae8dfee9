"""UDP load, with many datagrams in a call: `python -m benchmarks.flood send|receive ADDRESS PORT`.

Orders come in lines on standard input, answers go out in lines of JSON. The sender gets "OCTETS RATE
SECONDS", a rate of 0 being as fast as it can, and says how many it sent in which time; the receiver gets an
empty line and says how many have come since the last, and when. iperf3 makes a system call or two for each
datagram, which at 64 octets would measure iperf3 on the cores that it shares with the tunnel; sendmmsg(2)
and recvmmsg(2) make one for dozens.
"""

import ctypes
import json
import select
import socket
import sys
import time

# asm-generic/socket.h
SO_SNDBUFFORCE, SO_RCVBUFFORCE = 32, 33
RECEIVE_BUFFER_OCTETS = 64 << 20
SEND_BUFFER_OCTETS = 4 << 20

# At most so many in one call; at usual rates a pause makes for less than that.
BATCH = 32
PAUSE_SECONDS = 0.0002
MAX_OCTETS = 2048

_libc = ctypes.CDLL(None, use_errno=True)


class _Vector(ctypes.Structure):
    """struct iovec"""

    _fields_ = (("base", ctypes.c_void_p), ("length", ctypes.c_size_t))


class _Header(ctypes.Structure):
    """struct msghdr"""

    _fields_ = (
        ("name", ctypes.c_void_p),
        ("name_length", ctypes.c_uint),
        ("vectors", ctypes.POINTER(_Vector)),
        ("vector_count", ctypes.c_size_t),
        ("control", ctypes.c_void_p),
        ("control_length", ctypes.c_size_t),
        ("flags", ctypes.c_int),
    )


class _Message(ctypes.Structure):
    """struct mmsghdr"""

    _fields_ = (("header", _Header), ("length", ctypes.c_uint))


class Messages:
    """`BATCH` datagrams of so many octets, all in the same memory: nobody looks at what is in them."""

    def __init__(self, octets: int) -> None:
        self._memory = ctypes.create_string_buffer(octets)
        self._vector = _Vector(ctypes.addressof(self._memory), octets)
        self._array = (_Message * BATCH)()
        for message in self._array:
            message.header.vectors = ctypes.pointer(self._vector)
            message.header.vector_count = 1

    def send(self, descriptor: int, count: int) -> int:
        """How many of `count` the kernel took."""
        return max(0, int(_libc.sendmmsg(descriptor, self._array, count, 0)))

    def receive(self, descriptor: int) -> int:
        """How many were waiting, up to a batch."""
        return max(0, int(_libc.recvmmsg(descriptor, self._array, BATCH, socket.MSG_DONTWAIT, None)))


def due(rate: float, elapsed: float, sent: int) -> int:
    """How many to send now; a rate of 0 is without limit."""
    return BATCH if not rate else min(BATCH, int(rate * elapsed) - sent)


def send(address: str, port: int) -> None:
    """Fulfil orders until there are no more."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        udp.setsockopt(socket.SOL_SOCKET, SO_SNDBUFFORCE, SEND_BUFFER_OCTETS)
        udp.connect((address, port))
        for line in sys.stdin:
            octets, rate, seconds = line.split()
            sent, elapsed = _send(udp.fileno(), Messages(int(octets)), float(rate), float(seconds))
            said = {"sent": sent, "seconds": elapsed, "ended": time.monotonic()}
            print(json.dumps(said), flush=True)


def _send(descriptor: int, messages: Messages, rate: float, seconds: float) -> tuple[int, float]:
    sent = 0
    started = time.monotonic()
    while (elapsed := time.monotonic() - started) < seconds:
        count = due(rate, elapsed, sent)
        if count > 0:
            sent += messages.send(descriptor, count)
        if rate > 0 and count < BATCH:
            time.sleep(PAUSE_SECONDS)
    return sent, elapsed


def receive(address: str, port: int) -> None:
    """Count, and answer until nobody asks any more."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        udp.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, RECEIVE_BUFFER_OCTETS)
        udp.bind((address, port))
        print(json.dumps({"ready": True}), flush=True)
        messages, received, last = Messages(MAX_OCTETS), 0, 0.0
        while True:
            ready, _, _ = select.select([udp, sys.stdin], [], [])
            while udp in ready and (count := messages.receive(udp.fileno())):
                received += count
                last = time.monotonic()
            if sys.stdin in ready:
                if not sys.stdin.readline():
                    return
                print(json.dumps({"received": received, "last": last}), flush=True)
                received = 0


def main() -> None:
    """The command line above."""
    role, address, port = sys.argv[1:]
    (send if role == "send" else receive)(address, int(port))


if __name__ == "__main__":
    main()
