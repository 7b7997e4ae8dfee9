"""A REQUEST or SET of ours (draft-dukes-ike-mode-cfg-02 section 3.1), until it is answered."""

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from espudp.ike.drop import Drop
from espudp.ike.events import Fault
from espudp.ike.farewell import Farewell
from espudp.ike.v1.exchange import Turn
from espudp.ike.v1.hub import Datagram
from espudp.wire.ikev1.attributes import Attribute
from espudp.wire.ikev1.constants import CfgType, ExchangeType
from espudp.wire.ikev1.payloads import Attributes

if TYPE_CHECKING:
    from espudp.ike.v1.established import Established

_IDENTIFIER_OCTETS = 2
ANSWERED_BY = {CfgType.REQUEST: CfgType.REPLY, CfgType.SET: CfgType.ACK}

Told = Callable[[Attributes, float], None]
"""Gets an answer, and the time."""
Afterwards = Callable[[float], None]
"""What follows when an answer of ours is on its way."""


class Asking:
    """One transaction exchange that we begin."""

    def __init__(
        self,
        established: "Established",
        cfg_type: CfgType,
        attributes: Iterable[Attribute],
        then: Told,
        now: float,
        *,
        delay: float = 0.0,
    ) -> None:
        """Sends it, after `delay` seconds. `then` gets the answer; if there is none, the connection ends."""
        sa = established.sa
        self._established = established
        self._expects = ANSWERED_BY[cfg_type]
        self._then = then
        self._turn = Turn(sa, sa.timers)
        self._chain = sa.chain(sa.new_message_id())
        self.message_id = self._chain.message_id
        self.over = False
        identifier = int.from_bytes(established.hub.nonce(_IDENTIFIER_OCTETS))
        payload = Attributes(cfg_type, identifier, tuple(attributes))
        self._unsaid = self._chain.seal_hashed(ExchangeType.TRANSACTION, [payload])
        self._say_at = now + delay
        self._say(now)
        established.add(self)

    def _say(self, now: float) -> None:
        if now >= self._say_at:
            self._turn.say(self._unsaid, self._established.path, now, awaits=True)
            self._unsaid = b""

    @property
    def finished(self) -> bool:
        return self.over

    @property
    def deadline(self) -> float | None:
        if self.over:
            return None
        return self._say_at if self._unsaid else self._turn.deadline

    def receive(self, datagram: Datagram, now: float) -> None:
        message = None if self.over else self._chain.open_hashed(datagram)
        if message is None:
            return
        heard(self._established, datagram, now)
        told = message.get(Attributes)
        if told is None or told.cfg_type != self._expects:
            self._established.hub.drop(Drop.UNSOLICITED)
            return
        self.abandon()
        self._then(told, now)

    def handle_timer(self, now: float) -> None:
        if self.over:
            return
        if self._unsaid:
            self._say(now)
            return
        if self._turn.handle_timer(self._established.path, now):
            return
        self.abandon()
        what = "REQUEST" if self._expects == CfgType.REPLY else "SET"
        farewell = Farewell(
            Fault.TIMEOUT,
            f"the peer does not answer a {what} of mode config or XAUTH",
            "If it has no virtual addresses to give, ask for none: --vip none.",
            retry=True,
        )
        self._established.fail(farewell, now)

    def abandon(self) -> None:
        self.over = True
        self._turn.heard()


def heard(established: "Established", datagram: Datagram, now: float) -> None:
    """An authentic message of the peer came that way."""
    if established.connection is not None:
        established.connection.heard(datagram.path, now)
