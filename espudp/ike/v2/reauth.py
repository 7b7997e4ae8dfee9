"""Authentication over again, make before break (RFC 7296 section 2.8.3, RFC 4478).

Who dialled dials once more while the tunnel stands, over the path in use and for the addresses that it has.
When the new connection carries traffic the old one lives on for a moment, for what is still on its way, and
is deleted. If nothing comes of the attempt there will be another one, as long as the old connection lasts.

`Succession` is the endpoint's part; the times are the connection's, whichever its IKE SA is.
"""

from collections.abc import Callable
from dataclasses import replace

from espudp.ike.config import ConnectionConfig, ListenerConfig
from espudp.ike.events import Fault
from espudp.ike.farewell import Farewell
from espudp.ike.v2.child import Child
from espudp.ike.v2.connection import Connection
from espudp.ike.v2.hub import Hub
from espudp.wire.address import Path
from espudp.wire.ikev2.constants import NotifyType
from espudp.wire.ikev2.message import Message
from espudp.wire.ikev2.payloads import Notify, Payload

# RFC 4478 section 3: 32 bits of seconds.
_LIFETIME_OCTETS = 4
_LIFETIME_MOST = 0xFFFF_FFFF

# Our choices: the share of its time after which the peer authenticates anew, at the latest and at the
# earliest; and not at every whim of the other side.
_LATEST, _EARLIEST = 0.9, 0.8
MIN_REAUTH_SECONDS = 10.0

# RFC 4478 section 2: the responder deletes soon after the end of the time that it gave.
GRACE_SECONDS = 30.0

# Our choice: from an attempt that came to nothing to the next one.
RETRY_SECONDS = 30.0

ANEW = Farewell(Fault.LOCAL_REQUEST, "it was authenticated anew")
_TIME_IS_UP = Farewell(
    Fault.AUTHENTICATION,
    "it was not authenticated anew in time",
    "Let the peer repeat its authentication (RFC 4478), or give it more time with --reauth.",
)


def agree(connection: Connection, message: Message, now: float) -> list[Payload]:
    """IKE_AUTH is over: how long that is good for. `message` is the peer's last one; what a responder adds to
    its own.
    """
    period = connection.policy.timers.reauth
    if isinstance(connection.policy, ListenerConfig):
        if period is None:
            return []
        connection.ends_at, connection.last_word = now + period + GRACE_SECONDS, _TIME_IS_UP
        return [Notify.of(NotifyType.AUTH_LIFETIME, min(int(period), _LIFETIME_MOST).to_bytes(4))]
    if period is not None:
        _within(connection, period, now)
    obey(connection, message, now)
    return []


def obey(connection: Connection, message: Message, now: float) -> None:
    """AUTH_LIFETIME, with which the peer may limit our time at any moment, if it is there."""
    notify = message.notify(NotifyType.AUTH_LIFETIME)
    if notify is not None and len(notify.data) == _LIFETIME_OCTETS and connection.dialled:
        _within(connection, int.from_bytes(notify.data), now)


def _within(connection: Connection, seconds: float, now: float) -> None:
    share = _EARLIEST + (_LATEST - _EARLIEST) * connection.hub.share()
    at = now + max(MIN_REAUTH_SECONDS, seconds * share)
    connection.reauth_at = min(connection.reauth_at, at)


def predecessor(connection: Connection, child: Child) -> Child | None:
    """As responder: what the peer has for the same traffic over a connection that this one is to replace. It
    sends until the peer uses the new one: our answer to IKE_AUTH may be overtaken by ESP, or lost.
    """
    peer = connection.peer
    if peer.identity.is_nobody or not (peer.addresses or child.transport):
        return None
    for other in reversed(connection.hub.with_peer(peer.identity)):
        # Without virtual address it is known by its NAT's mapping: others behind the NAT have other ones.
        same = other.peer.addresses == peer.addresses if peer.addresses else other.path == connection.path
        if other is not connection and not other.dialled and same:
            return next(iter(other.alike(child.local, child.remote)), None)
    return None


class Succession:
    """Which connections of an endpoint are about to replace which."""

    def __init__(self, hub: Hub, dial: Callable[[ConnectionConfig, Path, float], int]) -> None:
        """`dial` starts a connection and returns its number."""
        self._hub = hub
        self._dial = dial
        self._former: dict[int, int] = {}  # by the number of the successor

    def begin(self, old: Connection, now: float) -> None:
        """Dial anew, unless that is under way already."""
        if isinstance(old.policy, ConnectionConfig) and old.number not in self._former.values():
            wanted = old.addresses or old.policy.request_addresses
            config = replace(old.policy, request_addresses=wanted)
            self._former[self._dial(config, old.ike_path, now)] = old.number

    def watch(self, now: float) -> list[int]:
        """Begin what is due, and end what has come about or failed; those that nobody waits for any more."""
        while self._hub.due_for_reauth:
            due = self._hub.connections.get(self._hub.due_for_reauth.pop())
            if due is not None:
                self.begin(due, now)
        orphans = []
        for number, former in list(self._former.items()):
            old, new = self._hub.connections.get(former), self._hub.connections.get(number)
            dialling = number in self._hub.dialling
            if old is not None and (dialling or (new is not None and not new.children)):
                continue
            del self._former[number]
            if old is not None:
                self._conclude(old, new, now)
            elif dialling:
                orphans.append(number)
        return orphans

    def _conclude(self, old: Connection, new: Connection | None, now: float) -> None:
        if new is None:
            old.reauth_at = now + RETRY_SECONDS
            old.note("the attempt to authenticate anew came to nothing; the connection stays")
        else:
            old.ends_at, old.last_word = now + old.policy.timers.rekey_linger, ANEW
        if old.current is not None:
            self._hub.reschedule(old.current)
