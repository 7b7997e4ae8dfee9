"""What keeps a connection up: child SAs that are missing or old, ISAKMP SAs that end, a peer that is silent.

What is to be negotiated is a `Wish`. With an ISAKMP SA it becomes a quick mode at once; without one it waits
until there is one, and who dialled makes it. Nothing here is done twice: a wish lives until it is fulfilled
or given up.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from espudp.crypto.suites import Dh
from espudp.errors import ConfigError
from espudp.ike.config import ChildConfig
from espudp.ike.events import Fault
from espudp.ike.exchange import patience
from espudp.ike.farewell import Farewell
from espudp.ike.narrowing import pairs
from espudp.ike.v1 import informational
from espudp.ike.v1.agenda import Agenda
from espudp.ike.v1.child import Child, Traffic
from espudp.ike.v1.dpd import DeadPeerDetection
from espudp.ike.v1.isakmp_sas import IsakmpSas
from espudp.ike.v1.life import Life
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
    doubtful: bool = False
    """The peer may not have any more what this is to replace."""


class Upkeep:
    """Of one connection."""

    def __init__(self, connection: "Connection", now: float) -> None:
        self._connection = connection
        self._hub = connection.hub
        self._timers = connection.policy.timers
        self._wanted: list[tuple[ChildConfig, Traffic]] = []
        self._wishes: set[Wish] = set()
        self._waiting: list[Wish] = []
        self._agenda = Agenda()
        self.isakmp = IsakmpSas(connection, self._agenda, now)
        self._dpd: DeadPeerDetection | None = None
        self._renewing = False
        self._renewal_is_due = False
        self._renew_after, self._fruitless = now, 0
        self._asked_at = now
        self._had_children = False
        self._last_pause, self._restored_at = 0.0, now

    # Phase 1

    @property
    def waiting(self) -> int:
        """How many negotiations of ours are under way or wait."""
        return len(self._wishes) + self._renewing

    def phase_1_began(self, established: "Established", former: "Established | None", now: float) -> None:
        """Another ISAKMP SA, the first one perhaps, is there for what is to come."""
        self._renewing = False
        self._dpd = DeadPeerDetection(established)
        self.isakmp.use(established, former, now)
        if former is None and self._connection.dialled and self._is_silent(now):
            # There was none for a while, and nothing came: peers are found for whom the end of the ISAKMP SA
            # is that of its child SAs. To who has them still this is a rekey like any other.
            for child in list(self._connection.children.values()):
                self.rekey_child(child, now, doubtful=True)
        waiting, self._waiting = self._waiting, []
        for wish in waiting:
            if wish in self._wishes:
                self._retry(wish, now)
        self._hub.reschedule(self._connection)

    def keep_beside(self, established: "Established", now: float) -> None:
        """One ISAKMP SA too many, after both sides have renewed at once."""
        self._renewing = self._renewing and not established.sa.is_initiator
        self.isakmp.keep_beside(established, now)
        self._hub.reschedule(self._connection)

    def phase_1_shortened(self, established: "Established") -> None:
        """The peer says how long it keeps an ISAKMP SA."""
        self.isakmp.shorten(established)
        self._hub.reschedule(self._connection)

    def phase_1_is_worn(self, established: "Established", now: float) -> None:
        """It is over for other reasons than its age."""
        if established is self._connection.current and self.isakmp.rekey_at > now:
            self.isakmp.rekey_at = now
            self._hub.reschedule(self._connection)

    def phase_1_ended(self, now: float) -> None:
        """There is no ISAKMP SA any more. Child SAs go on; without any, the peer has hung up, unless there
        was none before and we have still to make it.
        """
        self._dpd = None
        self.isakmp.rekey_at = self.isakmp.expires_at = NEVER
        connection = self._connection
        begun = connection.dialled and not self._had_children
        needed = begun and any(not w.replaces for w in self._wishes)
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
        self.isakmp.rekey_at = now + self._spread(REFUSED_SECONDS)
        self._hub.reschedule(connection)

    def _expire(self, now: float) -> None:
        current = self._connection.current
        if current is not None:
            self.isakmp.retire(current, now)
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

    def peer_began_anew(self, at: float, now: float) -> None:
        """It says INITIAL-CONTACT, so it has no SA of ours that is older (RFC 2407 section 4.6.3.3)."""
        for child in list(self._connection.children.values()):
            if child.made_at < at:
                self._connection.remove(child, now)
        self.restore(now)

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

    def rekey_child(self, child: Child, now: float, *, doubtful: bool = False) -> None:
        """Make before break, with all that carries the same traffic; but for what the peer may not have yet,
        which is about to be the newest.
        """
        if child.rekeying or child.is_going or not child.confirmed:
            return
        alike = self._connection.alike(child.traffic)
        former = tuple(c for c in alike if c.confirmed and not c.rekeying)
        for each in former:
            each.rekeying = True
        self._wish(Wish(child.config, child.traffic, former, doubtful=doubtful), now)

    def shorten(self, child: Child, life: Life) -> None:
        """The peer says how long it keeps a child SA, after all: it is rekeyed before that."""
        soft = life.limit(child.config.lifetime).soft_seconds
        if soft is not None:
            at = child.made_at + soft
            self._later_at(at, lambda then: self._connection.rekey_child(child.spi_in, then))

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
        if now - self._restored_at > 2 * self._last_pause + patience(self._timers):
            # It has lived for a while.
            self._last_pause = 0.0
        self._restored_at = now
        self._last_pause = min(2 * self._last_pause or self._timers.rekey_retry, LONGEST_PAUSE)
        return self._last_pause

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
        linger = self._timers.rekey_linger
        if former or not child.confirmed:
            # The peer has it by then, even if it does not say so: CONNECTED, after the commit bit.
            self._later_at(now + linger / 2, lambda _: self._connection.confirm(child))
        if former:
            self._later_at(now + linger, lambda then: self.delete_children(former, then))

    def failed(self, wish: Wish, farewell: Farewell, now: float) -> None:
        """The peer will not have it like this."""
        if self._connection.alive:
            self._hopeless(wish, farewell, now)

    def unanswered(self, wish: Wish, established: "Established", since: float, now: float) -> None:
        """The peer has not answered a quick mode, and it may be that it does not live, or that it has lost
        this ISAKMP SA and not its child SAs.
        """
        if not self._connection.alive:
            return
        if self._connection.last_inbound <= since:
            self._dead()
            return
        if self._connection.children and established.sa.heard_at <= since:
            self.renew(now)
            if self._renewing:
                self._waiting.append(wish)
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
        if wish.doubtful:
            self.delete_children(wish.replaces, now)
        elif wish.replaces:
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

    def refused(self, established: "Established", notification: Notification, now: float) -> None:
        """The peer says that something is wrong: with the quick mode whose SPI it names, or the only one over
        this ISAKMP SA.
        """
        quick = unanswered(established)
        named = [q for q in quick if q.spi_octets in (notification.spi, notification.data)]
        about = named or (quick if len(quick) == 1 else [])
        for exchange in about:
            exchange.refused(notification.type, now)
        if not about and self._hub.common.complaints.take(now):
            self._connection.note(f"the peer says {name_of_notify(notification.type)}")

    def replaced_by_peer(self, former: Iterable[Child], child: Child, now: float) -> None:
        """The peer is to delete these; if it has not, long after it must have heard, we do. So, too, with one
        that was made while the peer's request was on its way, when both sides have rekeyed at once.
        """
        old = [c for c in former if self._connection.children.get(c.spi_in) is c and c is not child]
        for each in old:
            each.successor = child
        if old:
            by = now + 2 * patience(self._timers)
            self._later_at(by, lambda then: self.delete_children(old, then))

    def delete_children(self, children: Iterable[Child], now: float) -> None:
        """At both ends, if there is a way to tell the peer."""
        connection = self._connection
        here = [c for c in children if connection.children.get(c.spi_in) is c]
        self._say_deleted(here)
        for child in here:
            connection.remove(child, now)
        replaced = [c for c in here if c.successor is not None]
        if replaced and connection.alive:
            # Nobody answers this: it is said again while what the peer still sends there is received.
            again = now + self._timers.rekey_linger / 2
            self._later_at(again, lambda _: self._say_deleted(replaced))

    def _say_deleted(self, children: list[Child]) -> None:
        if children and self._connection.current is not None:
            informational.say_deleted(self._connection.current, children)

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
            elif current is None:
                # Some keep their child SAs without it, and others have hung up: an answer will tell.
                self._need_phase_1(now)
                waits = self._renewing or self._renewal_is_due
                if not waits and now >= self._silent_at + patience(self._timers):
                    self._dead()

    def _dead(self) -> None:
        self._connection.down(Farewell(Fault.TIMEOUT, "the peer does not answer any more", retry=True))

    # Time

    def _later_at(self, when: float, act: Callable[[float], None]) -> None:
        self._agenda.at(when, act)
        self._hub.reschedule(self._connection)

    def _spread(self, seconds: float) -> float:
        """Half to one and a half times as long, so that two sides in each other's way do not stay there."""
        return seconds * (0.5 + self._hub.share())

    @property
    def deadline(self) -> float | None:
        """When there is something to do next."""
        others = (self._agenda.deadline, None if self._dpd is None else self._dpd.deadline)
        times = [self.isakmp.rekey_at, self.isakmp.expires_at, max(self._silent_at, self._asked_at)]
        first = min(times + [when for when in others if when is not None])
        return None if first == NEVER else first

    def handle_timer(self, now: float) -> None:
        """Whatever is due."""
        if now >= self.isakmp.expires_at:
            self.isakmp.expires_at = NEVER
            self._expire(now)
        elif now >= self.isakmp.rekey_at:
            self.isakmp.rekey_at = NEVER
            self.renew(now)
        self._agenda.handle_timer(now)
        if self._connection.alive:
            self._look_after_peer(now)

    def abandon(self, now: float) -> None:
        """The connection is over; ISAKMP SAs that are being retired still repeat what they have said."""
        self._agenda.clear()
        self._wishes.clear()
        self._waiting.clear()
        self.isakmp.abandon_all(now)
