"""What a status display shows of IKEv1."""

from espudp.ike.snapshot import ChildSnapshot, ConnectionSnapshot, Phase, left
from espudp.ike.v1.child import Child
from espudp.ike.v1.connection import Connection
from espudp.ike.v1.hub import Hub
from espudp.wire.ikev1.constants import ExchangeType


def snapshot_of(hub: Hub, now: float) -> list[ConnectionSnapshot]:
    """All connections that speak IKEv1, those that are being dialled included."""
    dialling = [
        ConnectionSnapshot(number, Phase.CONNECTING, initiator=True, ike_version=1) for number in hub.dialling
    ]
    return [*dialling, *(_connection(connection, now) for connection in hub.connections.values())]


def _connection(connection: Connection, now: float) -> ConnectionSnapshot:
    """SPIs are the cookies. Without an ISAKMP SA at the moment they are those of the last one."""
    phase1, upkeep = connection.phase1, connection.upkeep
    sa, flavour = phase1.sa, phase1.flavour
    return ConnectionSnapshot(
        connection.number,
        Phase.ESTABLISHED,
        connection.dialled,
        str(phase1.local_identity),
        str(connection.peer.identity),
        connection.path,
        connection.peer.nat,
        connection.addresses,
        connection.peer.addresses,
        spi_i=sa.cookie_i.hex(),
        spi_r=sa.cookie_r.hex(),
        suite=sa.suite.name,
        established_for=now - connection.established_at,
        silent_for=now - connection.last_inbound,
        rekey_in=left(upkeep.isakmp.rekey_at, now),
        expires_in=left(upkeep.isakmp.expires_at, now),
        waiting=upkeep.waiting,
        children=tuple(_child(connection, child) for child in connection.children.values()),
        ike_version=1,
        exchange="main" if sa.mode == ExchangeType.MAIN else "aggressive",
        nat_traversal="" if flavour is None else flavour.version.value,
        vendor_ids=sa.abilities.names,
    )


def _child(connection: Connection, child: Child) -> ChildSnapshot:
    return ChildSnapshot(
        child.spi_in,
        child.spi_out,
        child.suite.name,
        tuple(map(str, child.local)),
        tuple(map(str, child.remote)),
        child.rekeying,
        child.is_going,
        connection.hub.common.resource_of(child.spi_in),
    )
