"""What keeps a connection up: child SAs that are missing or old, ISAKMP SAs that end, a peer that is silent.

What is to be negotiated is a `Wish`. With an ISAKMP SA it becomes a quick mode at once; without one it waits
until there is one, and who dialled makes it. Nothing here is done twice: a wish lives until it is fulfilled
or given up.
"""

import heapq
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from itertools import count
from typing import TYPE_CHECKING

from espudp.crypto.suites import Dh
from espudp.errors import ConfigError
from espudp.ike.config import ChildConfig
from espudp.ike.events import Fault
from espudp.ike.exchange import patience
from espudp.ike.farewell import Farewell
from espudp.ike.lifetimes import jittered
from espudp.ike.narrowing import pairs
from espudp.ike.v1 import informational
from espudp.ike.v1.child import Child, Traffic
from espudp.ike.v1.dpd import DeadPeerDetection
from espudp.ike.v1.life import Life
from espudp.ike.v1.quick import is_busy
from espudp.ike.v1.quick_initiator import begin, unanswered
from espudp.wire.ikev1.constants import NotifyType, name_of_notify
from espudp.wire.ikev1.payloads import Notification
from espudp.wire.transport import Mode

if TYPE_CHECKING:
    from espudp.ike.v1.connection import Connection
    from espudp.ike.v1.established import Established

NEVER = float("inf")

# Our bound: as many as our own listener would let a peer have.
MAX_PAIRS = 32

# Our choices: before something is tried again that the peer refuses for good, and the longest pause between
# tries.
REFUSED_SECONDS = 60.0
LONGEST_PAUSE = 3600.0

# Our bound: so many ISAKMP SAs may come to nothing before the connection is given up.
_FRUITLESS_MAX = 4


@dataclass(slots=True, eq=False)
class Wish:
    """A child SA that is to be, and what it takes the place of."""

    config: ChildConfig
    traffic: Traffic
    replaces: tuple[Child, ...] = ()
    refused: set[Dh | None] = field(default_factory=set)
    """Groups for PFS, or none, that the peer would not have."""


class Upkeep:
    """Of one connection."""

    def __init__(self, connection: "Connection", now: float) -> None:
        self._connection = connection
        self._hub = connection.hub
        self._timers = connection.policy.timers
        self._wanted: list[tuple[ChildConfig, Traffic]] = []
        self._wishes: set[Wish] = set()
        self._waiting: list[Wish] = []
        self._later: list[tuple[float, int, Callable[[float], None]]] = []
        self._order = count()
        self._dpd: DeadPeerDetection | None = None
        self._isakmp: list[Established] = []
        self._superseded: set[Established] = set()
        self._retired: set[Established] = set()
        self._renewing = False
        self._adopted_at = now
        self._renewal_is_due = False
        self._renew_after, self._fruitless = now, 0
        self.rekey_at = self.expires_at = NEVER
        self._asked_at = now
        self._had_children = False
        self._tries, self._tried_at = 0, now

    # Phase 1

    @property
    def waiting(self) -> int:
        """How many negotiations of ours are under way or wait."""
        return len(self._wishes) + self._renewing

    def phase_1_began(self, established: "Established", former: "Established | None", now: float) -> None:
        """Another ISAKMP SA, the first one perhaps, is there for what is to come."""
        if established not in self._isakmp:
            self._isakmp.append(established)
        self._renewing = False
        self._adopted_at = now
        self._dpd = DeadPeerDetection(established)
        config = self._timers.ike_lifetime
        seconds = established.phase1.lifetime_seconds
        lifetime = jittered(Life(None if seconds is None else int(seconds)).limit(config), self._hub.rng)
        soft, hard = lifetime.soft_seconds, lifetime.hard_seconds
        self.expires_at = NEVER if hard is None else now + hard
        self.rekey_at = NEVER if soft is None else now + soft
        if not self._connection.dialled and soft is not None and hard is not None:
            # It is for who dialled to begin; if that comes to nothing, we do.
            self.rekey_at += (hard - soft) / 2
        if former is not None:
            self._superseded.add(former)
            self._later_at(now + self._timers.rekey_linger, lambda then: self._retire(former, then))
        waiting, self._waiting = self._waiting, []
        for wish in waiting:
            self._ask(wish, now)
        self._hub.reschedule(self._connection)

    def is_rival(self, established: "Established") -> bool:
        """Whether it was begun before the present one had come about: both sides renew at once."""
        current = self._connection.current
        return current is not None and established.phase1.began_at < self._adopted_at

    def keep_beside(self, established: "Established", now: float) -> None:
        """One ISAKMP SA too many, after both sides have renewed at once: whoever made it deletes it."""
        established.connection = self._connection
        self._isakmp.append(established)
        self._renewing = self._renewing and not established.sa.is_initiator
        if established.sa.is_initiator:
            self._later_at(now + self._timers.rekey_linger, lambda then: self._retire(established, then))

    def _retire(self, established: "Established", now: float) -> None:
        """Not before its exchanges have come to an end, but those of a dead peer never do."""
        if established.is_alive and established is not self._connection.current:
            if is_busy(established) and now < self._adopted_at + 2 * patience(self._timers):
                self._later_at(now + self._timers.rekey_linger, lambda then: self._retire(established, then))
                return
            self.retire(established, now)

    def retire(self, established: "Established", now: float) -> None:
        """Deletes an ISAKMP SA at both ends; here it repeats for a while what it has said."""
        self._retired.add(established)
        established.retire(now)

    def retire_all(self, now: float) -> None:
        """As `retire`, with all that there are."""
        for established in self._isakmp:
            if established.is_alive and established not in self._retired:
                self.retire(established, now)

    def other_isakmp(self) -> "Established | None":
        """An ISAKMP SA that could take the place of the present one."""
        self._isakmp = [e for e in self._isakmp if e.is_alive]
        self._retired &= set(self._isakmp)
        self._superseded &= set(self._isakmp)
        gone = self._retired | self._superseded
        return next((e for e in reversed(self._isakmp) if e not in gone), None)

    def isakmp_named(self, spi: bytes) -> "Established | None":
        """The one of this connection with these cookies."""
        return next((e for e in self._isakmp if e.sa.cookie_i + e.sa.cookie_r == spi and e.is_alive), None)

    def phase_1_ended(self, now: float) -> None:
        """There is no ISAKMP SA any more. Child SAs go on; without any, the peer has hung up."""
        self._dpd = None
        self.rekey_at = self.expires_at = NEVER
        connection = self._connection
        needed = any(not w.replaces for w in self._wishes) and connection.dialled
        if not connection.children and not needed:
            connection.down(Farewell(Fault.PEER_REQUEST, "the peer closed the connection", retry=True))
            return
        if self._wishes:
            self._need_phase_1(now)
        self._hub.reschedule(connection)

    def _need_phase_1(self, now: float) -> None:
        """A new one, but not at once again where a peer deletes each, and not for ever."""
        if self._renewing or self._renewal_is_due:
            return
        if self._fruitless >= _FRUITLESS_MAX and not self._connection.children:
            reason = "the peer ends phase 1 again and again, before there is a child SA"
            self._connection.down(Farewell(Fault.PEER_REQUEST, reason, retry=True))
        elif now >= self._renew_after:
            self._renew_as_needed(now)
        else:
            self._renewal_is_due = True
            self._later_at(self._renew_after, self._renew_as_needed)

    def _renew_as_needed(self, now: float) -> None:
        self._renewal_is_due = False
        if self._connection.current is None:
            self._fruitless += 1
            self._renew_after = now + self._spread(self._timers.rekey_retry)
            self.renew(now)

    def renew(self, now: float) -> None:
        """Starts a new phase 1, unless one is under way."""
        if self._renewing:
            return
        self._renewing = self._hub.renew(self._connection, now)
        if not self._renewing and self._connection.current is None:
            for wish in self._waiting:
                self._give_up(wish)
            self._waiting.clear()

    def renewal_failed(self, farewell: Farewell, now: float) -> None:
        """The peer did not answer, or would not."""
        self._renewing = False
        connection = self._connection
        if not connection.alive:
            return
        if connection.current is None and (self._waiting or self._is_silent(now)):
            connection.down(farewell)
            return
        connection.note(f"phase 1 was not renewed: {farewell.reason}")
        self.rekey_at = now + self._spread(REFUSED_SECONDS)
        self._hub.reschedule(connection)

    def _expire(self, now: float) -> None:
        current = self._connection.current
        if current is not None:
            self.retire(current, now)
            self._connection.lost(current, now)

    # Child SAs

    def start(self, now: float) -> None:
        """Asks for all that the configuration names, and keeps it up from then on."""
        self._wanted = self._pairs(self._connection.policy.child)
        if not self._wanted:
            reason = "there is no pair of subnets of one IP version"
            self._connection.close(Farewell(Fault.SELECTORS, reason), now)
            return
        for config, traffic in self._wanted:
            self._wish(Wish(config, traffic), now)

    def create_children(self, config: ChildConfig, now: float) -> None:
        """Those of one more configuration, once."""
        for each, traffic in self._pairs(config):
            self._wish(Wish(each, traffic), now)

    def _pairs(self, config: ChildConfig) -> list[tuple[ChildConfig, Traffic]]:
        transport = config.mode is Mode.TRANSPORT
        found = list(pairs(*self._connection.resolved(config)))
        if len(found) > MAX_PAIRS:
            self._connection.note(f"of {len(found)} pairs of subnets, the first {MAX_PAIRS} get a child SA")
        return [(config, Traffic(*pair, transport)) for pair in found[:MAX_PAIRS]]

    def rekey_child(self, child: Child, now: float) -> None:
        """Make before break, with all that carries the same traffic; but for what the peer may not have yet,
        which is about to be the newest.
        """
        if child.rekeying or child.is_going or not child.confirmed:
            return
        alike = self._connection.alike(child.traffic)
        former = tuple(c for c in alike if c.confirmed and not c.rekeying)
        for each in former:
            each.rekeying = True
        self._wish(Wish(child.config, child.traffic, former), now)

    def restore(self, now: float) -> None:
        """Who dialled keeps the tunnel up: what is gone will be there again."""
        connection = self._connection
        if not connection.alive or not connection.dialled:
            return
        asked = {(wish.config, wish.traffic) for wish in self._wishes}
        for config, traffic in self._wanted:
            if (config, traffic) not in asked and not connection.alike(traffic):
                wish = Wish(config, traffic)
                self._wishes.add(wish)
                self._retry_at(now + self._spread(self._pause(now)), wish)

    def _pause(self, now: float) -> float:
        """Longer and longer, since a peer may delete at once what it has just agreed to."""
        if now - self._tried_at > LONGEST_PAUSE:
            self._tries = 0
        self._tries, self._tried_at = self._tries + 1, now
        return min(self._timers.rekey_retry * 2.0 ** (self._tries - 1), LONGEST_PAUSE)

    def _wish(self, wish: Wish, now: float) -> None:
        self._wishes.add(wish)
        self._ask(wish, now)

    def _retry_at(self, when: float, wish: Wish) -> None:
        self._later_at(when, lambda now: self._retry(wish, now))

    def _retry(self, wish: Wish, now: float) -> None:
        """Time has passed: perhaps there is no need any more."""
        here = self._connection.children
        if wish.replaces:
            wish.replaces = tuple(c for c in wish.replaces if c.spi_in in here and not c.is_going)
            needed = bool(wish.replaces)
        else:
            needed = not self._connection.alike(wish.traffic)
        if needed:
            self._ask(wish, now)
        else:
            self._give_up(wish)

    def _ask(self, wish: Wish, now: float) -> None:
        current = self._connection.current
        if current is None:
            self._waiting.append(wish)
            self._need_phase_1(now)
            return
        try:
            begin(current, wish, now)
        except ConfigError as error:
            self._hopeless(wish, Farewell(Fault.PROPOSAL, str(error), error.remedy), now)

    def fulfilled(self, wish: Wish, child: Child, now: float) -> None:
        """The peer has agreed, and what the child SA replaces may go once nothing is on the way on it."""
        self._wishes.discard(wish)
        former = [c for c in wish.replaces if c.spi_in in self._connection.children]
        for each in former:
            each.rekeying, each.successor = False, child
        if former:
            linger = self._timers.rekey_linger
            self._later_at(now + linger / 2, lambda _: self._connection.confirm(child))
            self._later_at(now + linger, lambda then: self.delete_children(former, then))

    def failed(self, wish: Wish, farewell: Farewell, now: float) -> None:
        """The peer will not have it like this."""
        if self._connection.alive:
            self._hopeless(wish, farewell, now)

    def unanswered(self, wish: Wish, since: float, now: float) -> None:
        """The peer has not answered a quick mode, and it may be that it does not live."""
        if not self._connection.alive:
            return
        if self._connection.last_inbound <= since:
            self._dead()
            return
        reason = "the peer does not answer a request for a child SA"
        remedy = "Gateways that do not like the subnets often say nothing: compare them."
        self._hopeless(wish, Farewell(Fault.SELECTORS, reason, remedy, retry=True), now)

    def abandoned(self, wish: Wish, now: float) -> None:
        """The ISAKMP SA that it was asked over is gone: once more over the next."""
        if self._connection.alive and wish in self._wishes:
            self._retry_at(now, wish)

    def _hopeless(self, wish: Wish, farewell: Farewell, now: float) -> None:
        connection = self._connection
        if wish.replaces:
            connection.note(f"the child SA for {wish.traffic} was not rekeyed: {farewell.reason}")
            wish.refused.clear()
            self._retry_at(now + self._spread(REFUSED_SECONDS), wish)
            return
        self._give_up(wish)
        if connection.dialled and not connection.children and not self._wishes:
            # What has been had before may be had again, by who dials anew.
            connection.close(replace(farewell, retry=farewell.retry or self._had_children), now)
            return
        connection.note(f"no child SA for {wish.traffic}: {farewell.reason}")
        if len(self._wanted) > 1:
            self._wanted = [w for w in self._wanted if w != (wish.config, wish.traffic)]

    def _give_up(self, wish: Wish) -> None:
        self._wishes.discard(wish)
        for child in wish.replaces:
            child.rekeying = False

    def refused(self, notification: Notification, now: float) -> None:
        """The peer says that something is wrong: with the quick mode whose SPI it names, or the only one."""
        current = self._connection.current
        quick = [] if current is None else unanswered(current)
        named = [q for q in quick if q.spi_octets in (notification.spi, notification.data)]
        about = named or (quick if len(quick) == 1 else [])
        for exchange in about:
            exchange.refused(notification.type, now)
        if not about and self._hub.common.complaints.take(now):
            self._connection.note(f"the peer says {name_of_notify(notification.type)}")

    def replaced_by_peer(self, former: Iterable[Child], child: Child, now: float) -> None:
        """The peer is to delete these; if it has not, long after it must have heard, we do.

        Those that were made while the peer's request was on its way, it did not know of: both sides have
        rekeyed at once, and both child SAs live until one of the two is rekeyed.
        """
        old = [c for c in former if c.made_at + patience(self._timers) < now]
        for each in old:
            each.successor = child
        if old:
            by = now + 2 * patience(self._timers)
            self._later_at(by, lambda then: self.delete_children(old, then))

    def delete_children(self, children: Iterable[Child], now: float) -> None:
        """At both ends, if there is a way to tell the peer."""
        connection = self._connection
        here = [c for c in children if connection.children.get(c.spi_in) is c]
        if here and connection.current is not None:
            informational.say_deleted(connection.current, here)
        for child in here:
            connection.remove(child, now)

    def child_made(self, now: float) -> None:
        """There is traffic again."""
        self._had_children = True
        self._fruitless = 0
        self._hub.reschedule(self._connection)

    def child_gone(self, now: float) -> None:
        """A connection without child SAs and without an ISAKMP SA is none, but who dialled makes it anew."""
        connection = self._connection
        if connection.alive and not (connection.dialled or connection.children or connection.current):
            connection.down(Farewell(Fault.PEER_REQUEST, "the peer closed the connection", retry=True))

    # The peer's life

    def check_alive(self, now: float) -> None:
        """By DPD, if the peer knows it; otherwise a new phase 1 will show."""
        current = self._connection.current
        if current is not None and self._dpd is not None and current.sa.abilities.dpd:
            question = self._dpd.ask(now)
            if question is not None:
                informational.send(current, [question])
        elif self._is_silent(now):
            self.renew(now)
        self._hub.reschedule(self._connection)

    def asked(self, established: "Established", question: Notification) -> None:
        """The peer wants to know whether we live."""
        if self._dpd is not None and established is self._connection.current:
            answer = self._dpd.answer(question)
        else:
            answer = replace(question, type=NotifyType.R_U_THERE_ACK)
        if answer is not None:
            informational.send(established, [answer])

    def answered(self, established: "Established", answer: Notification) -> None:
        """The peer says that it lives."""
        if self._dpd is not None and established is self._connection.current:
            self._dpd.answered(answer)

    @property
    def _silent_at(self) -> float:
        """When the peer has been silent for so long that it is asked whether it lives."""
        interval = self._timers.dpd_interval
        return self._connection.last_inbound + interval if interval > 0 else NEVER

    def _is_silent(self, now: float) -> bool:
        return now >= self._silent_at

    def _look_after_peer(self, now: float) -> None:
        current = self._connection.current
        if self._dpd is not None and current is not None:
            lives, question = self._dpd.ask_again(now, self._connection.last_inbound)
            if not lives:
                self._dead()
                return
            if question is not None:
                informational.send(current, [question])
        if self._is_silent(now) and now >= self._asked_at:
            self._asked_at = now + self._timers.dpd_interval
            if current is not None and current.sa.abilities.dpd:
                self.check_alive(now)
            elif current is None and self._connection.dialled:
                self._need_phase_1(now)
            elif current is None and now >= self._silent_at + patience(self._timers):
                # It has deleted the ISAKMP SA, and then we have heard nothing: it has hung up.
                self._dead()

    def _dead(self) -> None:
        self._connection.down(Farewell(Fault.TIMEOUT, "the peer does not answer any more", retry=True))

    # Time

    def _later_at(self, when: float, act: Callable[[float], None]) -> None:
        heapq.heappush(self._later, (when, next(self._order), act))
        self._hub.reschedule(self._connection)

    def _spread(self, seconds: float) -> float:
        """Half to one and a half times as long, so that two sides in each other's way do not stay there."""
        return seconds * (0.5 + self._hub.share())

    @property
    def deadline(self) -> float | None:
        """When there is something to do next."""
        times = [self.rekey_at, self.expires_at, max(self._silent_at, self._asked_at)]
        if self._dpd is not None and self._dpd.deadline is not None:
            times.append(self._dpd.deadline)
        if self._later:
            times.append(self._later[0][0])
        first = min(times)
        return None if first == NEVER else first

    def handle_timer(self, now: float) -> None:
        """Whatever is due."""
        if now >= self.expires_at:
            self.expires_at = NEVER
            self._expire(now)
        elif now >= self.rekey_at:
            self.rekey_at = NEVER
            self.renew(now)
        while self._later and self._later[0][0] <= now and self._connection.alive:
            heapq.heappop(self._later)[2](now)
        if self._connection.alive:
            self._look_after_peer(now)

    def abandon(self, now: float) -> None:
        """The connection is over; ISAKMP SAs that are being retired still repeat what they have said."""
        self._later.clear()
        self._wishes.clear()
        self._waiting.clear()
        for established in self._isakmp:
            if established not in self._retired:
                established.gone(now)
