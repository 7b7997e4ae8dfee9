"""Either side of a connection may renew its phase 1: then who was called calls.

Where one side logs in by XAUTH, only that one can begin: it alone knows its password.
"""

from espudp.ike.config import ConnectionConfig, ListenerConfig
from espudp.ike.ikev1_config import Ikev1Config, Ikev1Policy, Mode
from espudp.ike.pad import PadEntry, Pattern
from espudp.ike.v1.connection import Connection
from espudp.wire.ikev1.constants import ExchangeType


def as_caller(connection: Connection) -> ConnectionConfig | None:
    """How we call the peer of a connection; None: only the peer can."""
    policy, entry = connection.policy, connection.phase1.entry
    if isinstance(policy, ConnectionConfig):
        return policy
    if entry is None or entry.xauth is not None or connection.phase1.way.login:
        return None
    ikev1 = policy.ikev1 or Ikev1Policy()
    return ConnectionConfig(
        local_identity=connection.phase1.local_identity,
        remote_identity=connection.peer.identity,
        proof=entry.proof,
        demand=entry.demand,
        child=policy.child,
        ike_proposals=policy.ike_proposals,
        request_addresses=(),
        encap=policy.encap,
        timers=policy.timers,
        ikev1=Ikev1Config(
            mode=_mode_of(connection), nat_traversal=ikev1.nat_traversal, fragments=ikev1.fragments
        ),
    )


def as_called(connection: Connection) -> ListenerConfig | None:
    """How we answer the peer of a connection that we have called; None: not at all."""
    policy = connection.policy
    if not isinstance(policy, ConnectionConfig) or policy.ikev1 is None or connection.phase1.way.login:
        return None
    peer = Pattern(connection.peer.identity)
    return ListenerConfig(
        local_identity=policy.local_identity,
        pad=(PadEntry(proof=policy.proof, demand=policy.demand, peers=(peer,)),),
        child=policy.child,
        ike_proposals=policy.ike_proposals,
        encap=policy.encap,
        timers=policy.timers,
        ikev1=Ikev1Policy(
            modes=frozenset({_mode_of(connection)}),
            nat_traversal=policy.ikev1.nat_traversal,
            fragments=policy.ikev1.fragments,
        ),
    )


def _mode_of(connection: Connection) -> Mode:
    return Mode.MAIN if connection.phase1.sa.mode is ExchangeType.MAIN else Mode.AGGRESSIVE
