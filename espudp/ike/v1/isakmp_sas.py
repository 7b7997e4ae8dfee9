"""The ISAKMP SAs of one connection: one that its exchanges go by, and others that come and go beside it.

in use      until another one takes its place, or its lifetime is over
beside      one too many, after both sides have renewed at once; it may still be needed
superseded  another one has taken its place: deleted as soon as its exchanges have come to an end
retired     deleted, at both ends; for a while it repeats what it has said
"""

from enum import Enum, auto
from typing import TYPE_CHECKING

from espudp.ike.exchange import patience
from espudp.ike.lifetimes import ChildLifetime, jittered
from espudp.ike.v1.agenda import Agenda
from espudp.ike.v1.life import Life
from espudp.ike.v1.quick import is_busy

if TYPE_CHECKING:
    from espudp.ike.v1.connection import Connection
    from espudp.ike.v1.established import Established

NEVER = float("inf")

# Our bound: a peer may renew as fast as it likes, and delete none of them.
MAX_KEPT = 8


class Standing(Enum):
    IN_USE = auto()
    BESIDE = auto()
    SUPERSEDED = auto()
    RETIRED = auto()


class IsakmpSas:
    """Those that are alive."""

    def __init__(self, connection: "Connection", agenda: Agenda, now: float) -> None:
        self._connection = connection
        self._timers = connection.policy.timers
        self._agenda = agenda
        self._standing: dict[Established, Standing] = {}  # oldest first
        self._adopted_at = now
        self.rekey_at = self.expires_at = NEVER
        """Of the one in use."""

    def __len__(self) -> int:
        return len(self._standing)

    # They come

    def use(self, established: "Established", former: "Established | None", now: float) -> None:
        """This one is in use from now on, in place of `former`."""
        self._standing[established] = Standing.IN_USE
        self._adopted_at = now
        self._set_lifetime(self._lifetime(established), now)
        if former in self._standing:
            self._standing[former] = Standing.SUPERSEDED
            self._agenda.at(now + self._timers.rekey_linger, lambda then: self._retire(former, then))
        self._crowd_out(now)

    def is_rival(self, established: "Established") -> bool:
        """Whether it was begun before the present one had come about: both sides renew at once."""
        return self._connection.current is not None and established.phase1.began_at < self._adopted_at

    def keep_beside(self, established: "Established", now: float) -> None:
        """Whoever made it deletes it soon; else it is over when its lifetime is."""
        established.connection = self._connection
        self._standing[established] = Standing.BESIDE
        hard = self._lifetime(established).hard_seconds
        lasts = self._timers.rekey_linger if established.sa.is_initiator else hard
        if lasts is not None:
            self._agenda.at(now + lasts, lambda then: self._retire(established, then))
        self._crowd_out(now)

    def _crowd_out(self, now: float) -> None:
        while len(self._standing) > MAX_KEPT:
            next(e for e, standing in self._standing.items() if standing is not Standing.IN_USE).gone(now)

    # Their lifetimes

    def _lifetime(self, established: "Established") -> ChildLifetime:
        """Ours, or what the two sides have agreed on if that is shorter."""
        seconds = established.phase1.lifetime_seconds
        life = Life(None if seconds is None else int(seconds))
        return jittered(life.limit(self._timers.ike_lifetime), established.hub.rng)

    def _set_lifetime(self, lifetime: ChildLifetime, since: float) -> None:
        soft, hard = lifetime.soft_seconds, lifetime.hard_seconds
        self.expires_at = NEVER if hard is None else since + hard
        self.rekey_at = NEVER if soft is None else since + soft
        if not self._connection.dialled and soft is not None and hard is not None:
            # It is for who dialled to begin; if that comes to nothing, we do.
            self.rekey_at += (hard - soft) / 2

    def shorten(self, established: "Established") -> None:
        """Its lifetime is shorter than was known."""
        if self._standing.get(established) is Standing.IN_USE:
            self._set_lifetime(self._lifetime(established), self._adopted_at)

    # They go

    def _retire(self, established: "Established", now: float) -> None:
        """Not before its exchanges have come to an end, but those of a dead peer never do."""
        if self._standing.get(established) not in (Standing.BESIDE, Standing.SUPERSEDED):
            return
        if is_busy(established) and now < self._adopted_at + 2 * patience(self._timers):
            self._agenda.at(now + self._timers.rekey_linger, lambda then: self._retire(established, then))
        else:
            self.retire(established, now)

    def retire(self, established: "Established", now: float) -> None:
        """Deletes one at both ends."""
        self._standing[established] = Standing.RETIRED
        established.retire(now)

    def retire_all(self, now: float) -> None:
        """As `retire`, with all that there are."""
        for established in self._not_retired():
            self.retire(established, now)

    def abandon_all(self, now: float) -> None:
        """The connection is over: those go at once that have not been retired."""
        for established in self._not_retired():
            established.gone(now)

    def _not_retired(self) -> "list[Established]":
        return [e for e, standing in self._standing.items() if standing is not Standing.RETIRED]

    def forget(self, established: "Established") -> None:
        """It is gone."""
        self._standing.pop(established, None)

    # Which there are

    def spare(self) -> "Established | None":
        """One that could take the place of the present one: the newest."""
        kept = (Standing.IN_USE, Standing.BESIDE)
        return next((e for e in reversed(self._standing) if self._standing[e] in kept), None)

    def named(self, spi: bytes) -> "Established | None":
        """The one with these cookies."""
        return next((e for e in self._standing if e.sa.cookie_i + e.sa.cookie_r == spi), None)
