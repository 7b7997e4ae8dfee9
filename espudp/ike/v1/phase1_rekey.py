"""A new ISAKMP SA in place of an old one: IKEv1 has no rekeying of phase 1, it simply begins anew.

Child SAs know nothing of it. Which connection a new phase 1 belongs to is told by who the peer is, and by
where it is: two peers behind private addresses of the same number are not one.
"""

from typing import TYPE_CHECKING

from espudp.ike.events import Fault
from espudp.ike.farewell import Farewell
from espudp.ike.identity import Identity
from espudp.ike.v1.hub import Hub
from espudp.ike.v1.phase1 import Phase1

if TYPE_CHECKING:
    from espudp.ike.v1.connection import Connection, Peer
    from espudp.ike.v1.established import Established


def predecessor(hub: Hub, phase1: Phase1, identity: Identity) -> "Connection | None":
    """The connection that a peer renews, who has just authenticated; None: it is a new one.

    A peer that says INITIAL-CONTACT knows of none, and what we dial ourselves is meant to be one more. Whom
    we have called renews that only by the proof that it gave us then: see `Phase1.replaces`.
    """
    if phase1.number is not None or phase1.initial_contact:
        return None
    entry = b"" if phase1.entry is None else phase1.entry.mark
    for connection in reversed(hub.with_peer(identity)):
        same_way_in = not connection.dialled and connection.peer.entry == entry
        same_place = connection.path.remote == phase1.path.remote
        # Its last message alone may have come from anywhere.
        shown = phase1.outer in (connection.peer.outer, connection.path.remote.ip)
        if connection.alive and same_way_in and same_place and shown:
            return connection
    return None


def forget_former(hub: Hub, peer: "Peer", but: "Connection | None" = None) -> None:
    """RFC 2407 section 4.6.3.3: the peer says that it has no other SA with us. Whom a key of all vouches for
    is not the one of that name who came by another entry, or who is elsewhere.
    """
    for connection in hub.with_peer(peer.identity):
        alike = (connection.peer.entry, connection.peer.outer) == (peer.entry, peer.outer)
        if alike and not connection.dialled and connection is not but:
            connection.down(Farewell(Fault.PEER_REQUEST, f"{peer.identity} connected anew"))


def adopt(connection: "Connection", established: "Established", now: float) -> None:
    """The connection goes on over this ISAKMP SA.

    Where both sides have renewed at once there are two: both take the one whose initiator has the higher
    cookie, and the other one is deleted by who made it.
    """
    upkeep, current = connection.upkeep, connection.current
    rival = current is not None and upkeep.isakmp.is_rival(established)
    if rival and current is not None and established.sa.cookie_i < current.sa.cookie_i:
        upkeep.keep_beside(established, now)
    else:
        connection.use(established, now)
