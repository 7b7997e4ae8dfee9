"""Many IKE initiators in one process: `python -m benchmarks.initiators ADDRESS IKE ESP COUNT SECONDS`.

With the PSK on the first line of its standard input they shake hands with the responder at ADDRESS until
COUNT have done so or SECONDS are over, two at a time, each from a port of its own and with an identity of
its own. Then it says in a line of JSON how many were served in which time, and keeps the SAs until its input
ends.
"""

import json
import os
import resource
import select
import socket
import sys
import time

from espudp import (
    DYNAMIC,
    ChildConfig,
    ChildInstalled,
    ConnectionConfig,
    ConnectionDown,
    EspProposal,
    Identity,
    IkeProposal,
    Path,
    Psk,
    PskOf,
    Timers,
    TrafficSelector,
    Tunnel,
    UdpAddress,
)

PORT = 4500
# Two such processes have fewer half-open SAs than strongSwan allows an address (charon.block_threshold).
AT_ONCE = 2
MAX_DATAGRAM_OCTETS = 1 << 16
POLL_SECONDS = 0.1


class Initiators:
    """One `Tunnel` with a connection for each initiator, and a socket for each connection."""

    def __init__(self, address: str, ike: str, esp: str, psk: bytes) -> None:
        self._remote = UdpAddress(address, PORT)
        self._ike = IkeProposal.parse(ike)
        self._esp = EspProposal.parse(esp)
        self._psk = psk
        self._tunnel = Tunnel(os.urandom)
        self._poll = select.epoll()
        self._sockets: dict[int, tuple[socket.socket, Path]] = {}
        self._by_path: dict[Path, socket.socket] = {}
        self.begun = self.served = self.refused = 0

    def run(self, count: int, seconds: float) -> float:
        """How long it took, in seconds."""
        started = time.monotonic()
        while self.served < count and (elapsed := time.monotonic() - started) < seconds:
            while self.begun < count + self.refused and self.begun - self.served - self.refused < AT_ONCE:
                self._begin()
            self._receive()
            self._tunnel.handle_timer(time.monotonic())
            self._send()
            self._count()
        else:
            elapsed = time.monotonic() - started
        return elapsed

    def _begin(self) -> None:
        self.begun += 1
        udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        udp.connect(tuple(self._remote))
        local, port = udp.getsockname()
        path = Path(UdpAddress(local, port), self._remote)
        self._sockets[udp.fileno()] = udp, path
        self._by_path[path] = udp
        self._poll.register(udp, select.EPOLLIN)
        config = ConnectionConfig(
            local_identity=Identity.parse(f"client{self.begun}-{os.getpid()}.example"),
            proof=Psk(self._psk),
            demand=PskOf(self._psk),
            child=ChildConfig(
                local=(DYNAMIC,),
                remote=(TrafficSelector.from_network("0.0.0.0/0"),),
                proposals=(self._esp,),
            ),
            ike_proposals=(self._ike,),
            timers=Timers(dpd_interval=0.0),
        )
        self._tunnel.connect(config, path, None, time.monotonic())
        self._send()

    def _receive(self) -> None:
        for descriptor, _ in self._poll.poll(POLL_SECONDS):
            udp, path = self._sockets[descriptor]
            try:
                datagram = udp.recv(MAX_DATAGRAM_OCTETS)
            except OSError:  # refused: nobody listens yet
                continue
            self._tunnel.receive_datagrams([datagram], path, time.monotonic())

    def _send(self) -> None:
        for train in self._tunnel.datagrams_to_send(time.monotonic()):
            for datagram in train.datagrams:
                self._by_path[train.path].send(datagram)

    def _count(self) -> None:
        for event in iter(self._tunnel.next_event, None):
            self.served += isinstance(event, ChildInstalled)
            self.refused += isinstance(event, ConnectionDown)


def main() -> None:
    """The command line above."""
    address, ike, esp, count, seconds = sys.argv[1:]
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    psk = sys.stdin.readline().strip().encode()
    initiators = Initiators(address, ike, esp, psk)
    elapsed = initiators.run(int(count), float(seconds))
    said = {"served": initiators.served, "refused": initiators.refused, "seconds": elapsed}
    print(json.dumps(said), flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
