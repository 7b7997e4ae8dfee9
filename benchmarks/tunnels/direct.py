"""No tunnel at all: what the links, the NAT and the load itself are good for."""

from collections.abc import Iterator
from contextlib import contextmanager

from benchmarks.lab import Lab, Program
from benchmarks.tunnels.base import Tunnel
from espudp.host.demo import SERVER_IP


class Direct(Tunnel):
    """The client reaches the server's outer address, with the links' MTU."""

    name = "direct"
    title = "no tunnel"
    inner_ip = SERVER_IP
    no_handshakes = "there is nobody to shake hands with"

    @contextmanager
    def server(self, lab: Lab) -> Iterator[list[Program]]:
        yield []

    @contextmanager
    def client(self, lab: Lab) -> Iterator[list[Program]]:
        yield []
