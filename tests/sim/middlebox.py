"""What stands between clients and the world, and how it is plugged in."""

from typing import Protocol

from tests.sim.link import Datagram, Link, Segment
from tests.sim.world import World


class Middlebox(Protocol):
    """Has a segment `inside`, and counts in `refused` what it did not let through."""

    inside: Segment
    refused: int

    def send(self, datagram: Datagram) -> None:
        """From inside, for the world."""

    def receive(self, datagram: Datagram) -> None:
        """From the world, for one of those inside."""


class Inner:
    """A middlebox as the gateway of the segment behind it."""

    def __init__(self, box: Middlebox) -> None:
        self._box = box

    def receive(self, datagram: Datagram) -> None:
        self._box.send(datagram)


class Firewall:
    """Translates nothing: those inside have addresses of the world, and it is the way to them."""

    def __init__(self, world: World, outside: Segment) -> None:
        self.inside = Segment(world, f"behind a firewall of {outside.name}")
        self.inside.gateway = Inner(self)
        self.refused = 0
        self._outside = outside
        self._link = Link(world, f"firewall of {outside.name}")
        outside.gateway = self

    def send(self, datagram: Datagram) -> None:
        if self._passes(datagram):
            self._link.carry(datagram, self._outside.forward)
        else:
            self.refused += 1

    def receive(self, datagram: Datagram) -> None:
        if self._passes(datagram):
            self.inside.forward(datagram)
        else:
            self.refused += 1

    def _passes(self, datagram: Datagram) -> bool:
        """Whether a packet may go on, in either direction."""
        raise NotImplementedError
