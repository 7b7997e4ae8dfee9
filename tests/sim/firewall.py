"""Firewalls that break what they do not know."""

from tests.sim.link import UDP, Datagram, Segment
from tests.sim.middlebox import Firewall
from tests.sim.world import World

# RFC 791: every link carries so much; Ethernet's is what hosts count on.
ETHERNET_MTU = 1500


class NoFragments(Firewall):
    """Drops all fragments, the first one too, since the later ones have no ports that a rule could look at.

    RFC 7383 section 1 has it as the reason for fragments of IKE's own; RFC 4459 for tunnels in general.
    What is larger than `mtu` octets was sent in fragments.
    """

    def __init__(self, world: World, outside: Segment, *, mtu: int = ETHERNET_MTU) -> None:
        super().__init__(world, outside)
        self._mtu = mtu

    def _passes(self, datagram: Datagram) -> bool:
        return datagram.ip_octets <= self._mtu


class NoUdp(Firewall):
    """Drops UDP altogether, whatever its port: RFC 8229 section 1, and the reason for IKE over TCP."""

    def _passes(self, datagram: Datagram) -> bool:
        return datagram.protocol != UDP
