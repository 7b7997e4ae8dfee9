"""A peer that has proved all it is to prove becomes a connection."""

from espudp.ike.events import ConnectionUp, Fault
from espudp.ike.farewell import Farewell
from espudp.ike.v1.connection import Connection, Peer
from espudp.ike.v1.established import Established
from espudp.ike.v1.phase1_rekey import adopt, predecessor


class OpenConnection:
    """The step between authentication and mode config. A new ISAKMP SA of a connection that stands already
    takes the place of the old one, and nothing else is left to do.
    """

    def begin(self, established: Established, now: float) -> None:
        hub, phase1 = established.hub, established.phase1
        hub.admission.forget(established.key)
        former = phase1.replaces or predecessor(hub, phase1, established.identity)
        if phase1.replaces is not None and not phase1.replaces.alive:
            established.retire(now)
            return
        if former is not None:
            established.skip_steps()
            adopt(former, established, now)
            if phase1.initial_contact:
                former.upkeep.peer_began_anew(now)
            established.next_step(now)
            return
        number = hub.common.next_number() if phase1.number is None else phase1.number
        peer = Peer(
            established.identity,
            phase1.nat,
            phase1.path.remote.ip,
            entry=b"" if phase1.entry is None else phase1.entry.mark,
        )
        if phase1.initial_contact:
            _forget_former(established, peer)
        hub.dialling.pop(number, None)
        connection = Connection(hub, number, phase1, peer, now)
        hub.emit(
            ConnectionUp(
                number,
                initiator=phase1.sa.is_initiator,
                local_identity=phase1.local_identity,
                remote_identity=established.identity,
                suite_name=phase1.sa.suite.name,
                path=phase1.path,
                nat=phase1.nat,
                ike_version=1,
            )
        )
        connection.use(established, now)
        established.next_step(now)


def _forget_former(established: Established, peer: Peer) -> None:
    """RFC 2407 section 4.6.3.3: the peer says that it has no other SA with us. Whom a key of all vouches for
    is not the one of that name who came by another entry, or who is elsewhere.
    """
    hub = established.hub
    of_peer = [c for c in hub.with_peer(peer.identity) if not c.dialled]
    for connection in of_peer:
        if (connection.peer.entry, connection.peer.outer) == (peer.entry, peer.outer):
            connection.down(Farewell(Fault.PEER_REQUEST, f"{peer.identity} connected anew"))
