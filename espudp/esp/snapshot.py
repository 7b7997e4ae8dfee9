"""What `espudp status` shows of an SA. Never a key."""

from dataclasses import dataclass

from espudp.esp.sa import Child, InboundSa, Lifetime, OutboundSa
from espudp.wire.address import Path
from espudp.wire.selectors import TrafficSelector
from espudp.wire.transport import Transport


@dataclass(frozen=True, slots=True)
class SaSnapshot:
    """One SA at one moment. The two of a pair have the same `connection` and `pair`."""

    connection: int
    pair: int
    """The inbound SPI of the pair, which names it."""
    direction: str
    """"in" or "out"."""
    spi: int
    suite: str
    state: str
    """"active", "standby", "lingering" or "expired"."""
    path: Path
    local: tuple[TrafficSelector, ...]
    remote: tuple[TrafficSelector, ...]
    inner_mtu: int
    sequence: int
    """The last number sent, or the highest received."""
    replay_window: int
    """In packets; 0 for an outbound SA, and where there is no replay check."""
    packets: int
    octets: int
    """Of inner packets."""
    lifetime: Lifetime
    """The limits."""
    age: float
    """Seconds since installation."""
    soft_seconds_left: float | None
    """Until a rekey is asked for; None: there is no such limit. Negative where it has passed."""
    hard_seconds_left: float | None
    drops: dict[str, int]
    transport: Transport | None = None
    """None: tunnel mode."""


def snapshot(child: Child, now: float, *, outbound: bool) -> list[SaSnapshot]:
    """The pair, inbound SA first; without the outbound one if that is gone."""
    shots = [_shot(child, child.inbound, now, "in")]
    if outbound:
        shots.append(_shot(child, child.outbound, now, "out"))
    return shots


def _shot(child: Child, sa: InboundSa | OutboundSa, now: float, direction: str) -> SaSnapshot:
    lifetime = child.lifetime
    sequence, window = (sa.window.highest, sa.window.size) if isinstance(sa, InboundSa) else (sa.sequence, 0)
    return SaSnapshot(
        connection=child.peer.connection,
        pair=child.inbound.spi,
        direction=direction,
        spi=sa.spi,
        suite=sa.suite.name,
        state=child.state.value,
        path=child.peer.path,
        local=child.local,
        remote=child.remote,
        inner_mtu=child.inner_mtu,
        sequence=sequence,
        replay_window=window,
        packets=sa.usage.packets,
        octets=sa.usage.octets,
        lifetime=lifetime,
        age=now - child.installed_at,
        soft_seconds_left=_left(lifetime.soft_seconds, child, now),
        hard_seconds_left=_left(lifetime.hard_seconds, child, now),
        drops={reason.value: count for reason, count in sa.drops.items()},
        transport=child.transport,
    )


def _left(seconds: float | None, child: Child, now: float) -> float | None:
    return None if seconds is None else child.installed_at + seconds - now
