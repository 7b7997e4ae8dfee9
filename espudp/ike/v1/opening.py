"""A peer that has proved all it is to prove becomes a connection."""

from espudp.ike.config import ListenerConfig
from espudp.ike.events import ConnectionUp, Fault
from espudp.ike.farewell import Farewell
from espudp.ike.v1.connection import Connection, Peer
from espudp.ike.v1.established import Established
from espudp.ike.v1.phase1_rekey import adopt, forget_former, predecessor


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
                former.upkeep.peer_began_anew(phase1.began_at, now)
            established.next_step(now)
            return
        number = hub.common.next_number() if phase1.number is None else phase1.number
        peer = Peer(
            established.identity,
            phase1.nat,
            phase1.outer,
            entry=b"" if phase1.entry is None else phase1.entry.mark,
        )
        if phase1.initial_contact:
            forget_former(hub, peer)
        # Not asked before: only here is it known that it is none of those that are there already.
        policy = phase1.policy
        if isinstance(policy, ListenerConfig) and len(hub.connections) >= policy.limits.connections_max:
            established.fail(Farewell(Fault.LOCAL_REQUEST, f"no room for {peer.identity}: too many"), now)
            return
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
