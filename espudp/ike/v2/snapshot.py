"""What a status display shows of IKEv2."""

from espudp.ike.snapshot import ChildSnapshot, ConnectionSnapshot, Phase, left
from espudp.ike.v2.connection import Connection
from espudp.ike.v2.established import Established
from espudp.ike.v2.hub import Hub


def snapshot_of(hub: Hub, now: float) -> list[ConnectionSnapshot]:
    """All connections of an endpoint, in the order of their numbers."""
    dialling = [ConnectionSnapshot(number, Phase.CONNECTING, initiator=True) for number in hub.dialling]
    established = [_connection(connection, now) for connection in hub.connections.values()]
    return sorted([*dialling, *established], key=lambda s: s.connection)


def _connection(connection: Connection, now: float) -> ConnectionSnapshot:
    ike = connection.current
    alive = ike is not None and ike.is_alive and ike.farewell is None
    return ConnectionSnapshot(
        connection.number,
        Phase.ESTABLISHED if alive else Phase.CLOSING,
        connection.dialled,
        str(connection.policy.local_identity),
        str(connection.peer.identity),
        connection.path,
        connection.peer.nat,
        connection.addresses,
        connection.peer.addresses,
        spi_i="" if ike is None else ike.sa.spi_i.hex(),
        spi_r="" if ike is None else ike.sa.spi_r.hex(),
        suite="" if ike is None else ike.sa.suite.name,
        established_for=now - connection.established_at,
        silent_for=now - connection.last_inbound,
        rekey_in=None if ike is None else left(ike.rekey_at, now),
        expires_in=None if ike is None else left(ike.expires_at, now),
        waiting=0 if ike is None else _waiting(ike),
        children=tuple(
            ChildSnapshot(
                c.spi_in,
                c.spi_out,
                c.suite.name,
                tuple(map(str, c.local)),
                tuple(map(str, c.remote)),
                c.rekeying,
                c.deleting,
                connection.hub.resource_of(c.spi_in),
            )
            for c in connection.children.values()
        ),
    )


def _waiting(ike: Established) -> int:
    return (ike.task is not None) + len(ike.tasks) + len(ike.later)
