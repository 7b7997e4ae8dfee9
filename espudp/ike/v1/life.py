"""SA lifetimes on the wire of IKEv1, and what both sides' come to (RFC 2407 sections 4.5 and 4.5.4)."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from espudp.errors import WireError
from espudp.ike.lifetimes import LifetimeConfig
from espudp.wire.buffer import Reader
from espudp.wire.ikev1.attributes import Attribute, parse_attributes
from espudp.wire.ikev1.constants import IkeAttribute, IpsecAttribute, LifeType, ProtocolId
from espudp.wire.ikev1.payloads import Notification

# RFC 2407 section 4.5: what holds where nothing is said.
DEFAULT_SECONDS = 28_800

# Our bounds: whatever the peer says, SAs are not renewed more often than this.
MIN_SECONDS = 60
MIN_KILOBYTES = 1024

# Our choice: the soft limit beside a hard one that is the peer's alone.
_SOFT_SHARE = 0.85

_IN_PHASE_2: dict[int, int] = {
    IkeAttribute.LIFE_TYPE: IpsecAttribute.LIFE_TYPE,
    IkeAttribute.LIFE_DURATION: IpsecAttribute.LIFE_DURATION,
}

_KILOBYTE = 1024
_DURATION_OCTETS = 4
_DURATION_MAX = (1 << 8 * _DURATION_OCTETS) - 1


@dataclass(frozen=True, slots=True)
class Life:
    """The lifetime of an SA, at whichever of the two comes first. None: no such limit was named."""

    seconds: int | None = None
    kilobytes: int | None = None

    @classmethod
    def of(cls, config: LifetimeConfig) -> "Life":
        """What we ask for: the hard limits."""
        seconds = None if config.hard_seconds is None else max(1, int(config.hard_seconds))
        kilobytes = None if config.hard_bytes is None else max(1, config.hard_bytes // _KILOBYTE)
        return cls(seconds, kilobytes)

    def attributes(self) -> list[Attribute]:
        """A type and a duration for each limit. RFC 2407 section 4.5.2 shows durations of four octets."""
        found: list[Attribute] = []
        for kind, value in ((LifeType.SECONDS, self.seconds), (LifeType.KILOBYTES, self.kilobytes)):
            if value is not None:
                duration = min(value, _DURATION_MAX).to_bytes(_DURATION_OCTETS)
                found.append(Attribute.of(IpsecAttribute.LIFE_TYPE, kind))
                found.append(Attribute(IpsecAttribute.LIFE_DURATION, duration))
        return found

    def within(self, other: "Life") -> "Life":
        """The shorter one of each."""
        return Life(_least(self.seconds, other.seconds), _least(self.kilobytes, other.kilobytes))

    def limit(self, config: LifetimeConfig) -> LifetimeConfig:
        """Our lifetimes, which the peer's end earlier than we would."""
        seconds = None if self.seconds is None else float(max(self.seconds, MIN_SECONDS))
        octets = None if self.kilobytes is None else max(self.kilobytes, MIN_KILOBYTES) * _KILOBYTE
        soft_seconds, hard_seconds = _limited(config.soft_seconds, config.hard_seconds, seconds)
        soft_bytes, hard_bytes = _limited(config.soft_bytes, config.hard_bytes, octets)
        return replace(
            config,
            soft_seconds=soft_seconds,
            hard_seconds=hard_seconds,
            soft_bytes=None if soft_bytes is None else int(soft_bytes),
            hard_bytes=None if hard_bytes is None else int(hard_bytes),
        )


def life_of(attributes: Sequence[Attribute]) -> Life | None:
    """What a list of attributes says; None: durations without a type, or at odds with each other."""
    found: dict[int, int] = {}
    kind: int | None = None
    for attribute in attributes:
        if attribute.type == IpsecAttribute.LIFE_TYPE:
            kind = attribute.number
        elif attribute.type == IpsecAttribute.LIFE_DURATION:
            number = attribute.number
            if number is None or kind not in (LifeType.SECONDS, LifeType.KILOBYTES):
                return None
            # RFC 2407 section 4.5.2: several are fine as long as they do not conflict.
            if found.setdefault(kind, number) != number:
                return None
            kind = None
    return Life(found.get(LifeType.SECONDS), found.get(LifeType.KILOBYTES))


def life_told(notification: Notification) -> Life | None:
    """What RESPONDER-LIFETIME says (RFC 2407 section 4.6.3.1); None: nothing that makes sense. Of an ISAKMP
    SA peers say it with the attributes of phase 1, or with those of phase 2.
    """
    try:
        attributes = parse_attributes(Reader(notification.data))
    except WireError:
        return None
    if notification.protocol == ProtocolId.ISAKMP:
        attributes = tuple(replace(a, type=_IN_PHASE_2.get(a.type, a.type)) for a in attributes)
    return life_of(attributes)


def least(lives: Iterable[Life]) -> Life:
    """The shortest of each limit."""
    shortest = Life()
    for life in lives:
        shortest = shortest.within(life)
    return shortest


def _least(ours: int | None, theirs: int | None) -> int | None:
    return ours if theirs is None else theirs if ours is None else min(ours, theirs)


def _limited(
    soft: float | None, hard: float | None, limit: float | None
) -> tuple[float | None, float | None]:
    """Soft and hard with the hard one at most `limit`; the soft one keeps its distance."""
    if limit is None or (hard is not None and hard <= limit):
        return soft, hard
    share = _SOFT_SHARE if soft is None or hard is None else soft / hard
    return (limit * share if soft is None else min(soft, limit * share)), limit
