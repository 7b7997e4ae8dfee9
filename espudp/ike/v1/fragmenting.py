"""How a message goes out: as one datagram, or in the vendors' fragments ([MS-IKEE] section 3.3)."""

from collections.abc import Sequence

from espudp.errors import WireError
from espudp.ike.v1.hub import Hub
from espudp.ike.v1.vendor import Abilities
from espudp.wire import natt
from espudp.wire.address import Path
from espudp.wire.ikev1.constants import ExchangeType
from espudp.wire.ikev1.fragment import split

# What every path carries (RFC 8200 section 5), and what is in an IP packet beside the message, in octets:
# IPv6 header, UDP header, non-ESP marker.
_PACKET_OCTETS = 1280
_OVERHEAD_OCTETS = 40 + 8 + len(natt.NON_ESP_MARKER)

# [MS-IKEE] section 2.2.5: 16 bits, from 1 on
_FRAGMENT_IDS = 0xFFFF


class Fragmenting:
    """Cuts up what is large, if the peer can put it together again."""

    def __init__(self, hub: Hub, mode: ExchangeType, abilities: Abilities) -> None:
        """`mode`: of phase 1; fragments have it in their header."""
        self.hub = hub
        self._mode = mode
        self._abilities = abilities
        self._id = 0

    def fragmented(self, octets: bytes, path: Path) -> Sequence[bytes]:
        """The datagrams that a message goes out in."""
        known = self.hub.common.path_mtus(path.remote.ip)
        room = min(known or _PACKET_OCTETS, _PACKET_OCTETS) - _OVERHEAD_OCTETS
        if not self._abilities.fragments or len(octets) <= room:
            return (octets,)
        self._id = self._id % _FRAGMENT_IDS + 1
        try:
            return split(octets, self._mode, self._id, room)
        except WireError:
            return (octets,)
