"""How long an SA lives (RFC 4301 section 4.4.2.1): soft limits start a rekey, hard limits end the SA."""

from collections.abc import Callable
from dataclasses import dataclass

from espudp.errors import ConfigError

_JITTER_OCTETS = 4


@dataclass(frozen=True, slots=True)
class LifetimeConfig:
    """What the user asks for. None: no such limit.

    `jitter` is the share of each soft limit by which it may come earlier, so that the two ends of an SA, and
    the SAs that came up together, seldom rekey at the same instant (RFC 7296 section 2.8).
    """

    soft_seconds: float | None = 3000.0
    hard_seconds: float | None = 3600.0
    soft_bytes: int | None = None
    hard_bytes: int | None = None
    soft_packets: int | None = None
    hard_packets: int | None = None
    jitter: float = 0.1

    def __post_init__(self) -> None:
        """Raises ConfigError for a limit that cannot work."""
        for unit in ("seconds", "bytes", "packets"):
            soft, hard = getattr(self, f"soft_{unit}"), getattr(self, f"hard_{unit}")
            for value in (soft, hard):
                if value is not None and value <= 0:
                    raise ConfigError(
                        f"a lifetime of {value} {unit} ends before it begins",
                        field="lifetime",
                        remedy="Give a number above zero, or none for no limit.",
                    )
            if soft is not None and hard is not None and soft >= hard:
                raise ConfigError(
                    f"the soft lifetime of {soft} {unit} does not come before the hard one of {hard}",
                    field="lifetime",
                    remedy="Choose a soft lifetime well below the hard one: the rekey happens in between.",
                )
        if not 0.0 <= self.jitter < 1.0:
            raise ConfigError(
                f"a lifetime jitter of {self.jitter} is not a share",
                field="jitter",
                remedy="Choose a number from 0 to 0.9; 0.1 is usual.",
            )


@dataclass(frozen=True, slots=True)
class ChildLifetime:
    """The limits of one SA pair, jitter applied. Seconds count from its installation. None: no such limit."""

    soft_seconds: float | None = None
    hard_seconds: float | None = None
    soft_bytes: int | None = None
    hard_bytes: int | None = None
    soft_packets: int | None = None
    hard_packets: int | None = None


def jittered(config: LifetimeConfig, rng: Callable[[int], bytes]) -> ChildLifetime:
    """The limits of a new SA: every soft one earlier by a random share of at most `config.jitter`."""
    early = config.jitter * int.from_bytes(rng(_JITTER_OCTETS)) / (1 << 8 * _JITTER_OCTETS)
    share = 1.0 - early

    def whole(limit: int | None) -> int | None:
        return None if limit is None else max(1, int(limit * share))

    return ChildLifetime(
        soft_seconds=None if config.soft_seconds is None else config.soft_seconds * share,
        hard_seconds=config.hard_seconds,
        soft_bytes=whole(config.soft_bytes),
        hard_bytes=config.hard_bytes,
        soft_packets=whole(config.soft_packets),
        hard_packets=config.hard_packets,
    )
