"""The child SAs that who dialled keeps up: one for all its traffic, or one for each pair of selectors.

A peer that can do no better than one selector on either side says so in one of three ways (RFC 7296 section
2.9), or in none, and then the configuration has to (`ChildConfig.single_pair`):

    SINGLE_PAIR_REQUIRED                       nothing yet: each pair is asked for
    one pair, N(ADDITIONAL_TS_POSSIBLE)        each of the others is asked for
    one pair, and not a word                   the same, once: more than no cannot come of it
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from espudp.ike.config import ChildConfig, Mode
from espudp.ike.farewell import Farewell
from espudp.ike.narrowing import narrow, pairs, resolve
from espudp.ike.rules import error_of
from espudp.ike.v2.child import Child
from espudp.ike.v2.child_exchange import CreateChild, fault_of
from espudp.ike.v2.connection import Connection
from espudp.ike.v2.hub import State
from espudp.wire.ikev2.constants import NotifyType, name_of_notify
from espudp.wire.ikev2.message import Message
from espudp.wire.ikev2.payloads import Notify, Payload

if TYPE_CHECKING:
    from espudp.ike.v2.established import Established

# Our bound: as many as our own listener would let a peer have.
MAX_PAIRS = 32


class WantedChild(CreateChild):
    """A child SA that the connection is to have; unless it has it by then."""

    def __init__(self, config: ChildConfig) -> None:
        super().__init__(config)
        self.config = config

    def request(self, ike: "Established", now: float) -> Sequence[Payload] | None:
        if ike.connection.serves(self.config):
            return None
        return super().request(ike, now)

    def answered(self, ike: "Established", answer: Message, now: float) -> State | None:
        following = super().answered(ike, answer, now)
        made = (c for c in ike.connection.children.values() if c.config is self.config)
        if error_of(answer) is None and (child := next(made, None)) is not None:
            spread(ike, child, answer)
        return following

    def _useless(self, ike: "Established", refusal: Exception) -> None:
        self._give_up(ike, str(refusal))

    def _failed(self, ike: "Established", error: Notify, now: float) -> State | None:
        self.abandon()
        if self._groups is not None and self._groups.change(error):
            ike.enqueue(self, first=True)
            return ike
        if error.type == NotifyType.TEMPORARY_FAILURE:
            return ike.postpone(self, now)
        whole = self.config is ike.connection.policy.child
        if whole and error.type == NotifyType.SINGLE_PAIR_REQUIRED and split(ike):
            return ike
        self._give_up(ike, name_of_notify(error.type))
        if not ike.connection.children and not ike.has(WantedChild):
            reason = f"the peer refuses a child SA: {name_of_notify(error.type)}"
            return ike.close(Farewell(fault_of(error.type), reason, retry=True), now)
        return ike

    def _give_up(self, ike: "Established", reason: str) -> None:
        """Not to be asked for again before the next connection; the only one, however, is."""
        connection, config = ike.connection, self.config
        sides = (", ".join(map(str, side)) for side in (config.local, config.remote))
        connection.note(f"no child SA for {' and '.join(sides)}: {reason}")
        if len(connection.wanted) > 1:
            connection.wanted = tuple(c for c in connection.wanted if c is not config)


def split(ike: "Established") -> bool:
    """The peer will have nothing but pairs: asks for each. False: it was one already."""
    parts = one_by_one(ike.connection)
    if len(parts) < 2:
        return False
    ike.connection.wanted = parts
    for part in parts:
        ike.enqueue(WantedChild(part))
    return True


def spread(ike: "Established", first: Child, answer: Message) -> None:
    """Asks for what `first`, which was to be for everything, leaves out."""
    connection = ike.connection
    if not connection.dialled or first.config is not connection.policy.child or first.transport is not None:
        return
    possible = answer.notify(NotifyType.ADDITIONAL_TS_POSSIBLE) is not None
    alone = len(first.local) == len(first.remote) == 1
    parts = one_by_one(connection)
    left_out = tuple(part for part in parts if not _touches(first, part))
    if left_out and (possible or alone):
        first.config = replace(first.config, local=first.local, remote=first.remote)
        connection.wanted = (first.config, *left_out)
        for part in left_out:
            ike.enqueue(WantedChild(part))


def one_by_one(connection: Connection) -> tuple[ChildConfig, ...]:
    """The configured child SA, as one for each pair of selectors."""
    config = connection.policy.child
    if config.mode is Mode.TRANSPORT:
        return (config,)
    local, remote = connection.selectors(config)
    found = list(pairs(local, remote))
    if len(found) > MAX_PAIRS:
        connection.note(f"of {len(found)} pairs of subnets, the first {MAX_PAIRS} get a child SA")
    return tuple(replace(config, local=(ours,), remote=(theirs,)) for ours, theirs in found[:MAX_PAIRS])


def _touches(child: Child, part: ChildConfig) -> bool:
    """Whether the child SA carries some of it: the peer has narrowed it then, and meant to."""
    sides = (child.local, part.local), (child.remote, part.remote)
    return all(narrow(carried, resolve(wanted, ())) is not None for carried, wanted in sides)
