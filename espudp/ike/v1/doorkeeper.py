"""The first message of a phase 1, as a listener sees it (RFC 2408 section 4.5, RFC 2409 section 5).

Whoever asks is a stranger, and its address may be forged: see admission.py for what is kept of it. In main
mode no answer is much larger than its question; errors are told to people and peers a few times a second at
most.
"""

from collections.abc import Callable
from dataclasses import dataclass

from espudp.errors import WireError
from espudp.ike.config import ListenerConfig
from espudp.ike.drop import Drop
from espudp.ike.events import PeerRefused
from espudp.ike.ikev1_config import Ikev1Policy, Mode
from espudp.ike.v1.aggressive_responder import begin_aggressive
from espudp.ike.v1.connection import Connection
from espudp.ike.v1.hub import NO_COOKIE, Datagram, Hub
from espudp.ike.v1.main_responder import AwaitKey
from espudp.ike.v1.phase1_proposals import Choice, accepted_suites, describe_mismatch, select
from espudp.ike.v1.reception import CookieJar, Reception
from espudp.ike.v1.sa import Cookies
from espudp.ike.v1.vendor import Abilities
from espudp.ike.v1.ways import entries_for, methods_for
from espudp.wire.ikev1.constants import (
    DOI_IPSEC,
    DOI_ISAKMP,
    SIT_IDENTITY_ONLY,
    ExchangeType,
    NotifyType,
    ProtocolId,
)
from espudp.wire.ikev1.header import Header
from espudp.wire.ikev1.message import Message, emit_message, parse_message
from espudp.wire.ikev1.payloads import KeyExchange, Notification, SecurityAssociation

# Our bound: several times what peers send that propose everything there is, in octets. The SA payload of a
# half-open ISAKMP SA is kept.
MAX_REQUEST_OCTETS = 8192

_MODES = {ExchangeType.MAIN: Mode.MAIN, ExchangeType.AGGRESSIVE: Mode.AGGRESSIVE}


@dataclass(frozen=True, slots=True)
class _Objection:
    """Why a first message comes to nothing."""

    notify: NotifyType
    reason: str
    detail: Callable[[], str] = str
    """More for people; worked out only where they are told."""


class Doorkeeper:
    """Answers first messages, and makes a half-open ISAKMP SA of those that are acceptable."""

    def __init__(
        self,
        hub: Hub,
        config: ListenerConfig,
        policy: Ikev1Policy,
        jar: CookieJar,
        replaces: Connection | None = None,
    ) -> None:
        """`replaces`: it is only there for the peer of this connection, to renew it."""
        self._hub = hub
        self._config = config
        self._policy = policy
        self._jar = jar
        self._replaces = replaces
        self._told_of = b""  # the cookie of whom we told of last
        self._suites = accepted_suites(config.ike_proposals)

    def receive(self, datagram: Datagram, now: float) -> None:
        """`datagram` has no responder cookie. Bounded work, whatever it holds."""
        header, hub = datagram.header, self._hub
        if len(datagram.data) > MAX_REQUEST_OCTETS:
            hub.drop(Drop.TOO_LONG)
            return
        if header.exchange not in _MODES or header.encrypted or header.message_id:
            hub.drop(Drop.WRONG_EXCHANGE)
            return
        cookie, former = self._jar.candidates(datagram.path.remote, header.cookie_i, now)
        for known in (cookie, former):
            state = hub.states.get((False, known))
            if state is not None:
                state.receive(datagram, now)
                return
        if hub.admission.is_crowded(now):
            hub.drop(Drop.HALF_OPEN)
            return
        try:
            message = parse_message(datagram.data)
        except WireError:
            hub.drop(Drop.MALFORMED)
            return
        self._choose(message, Cookies(header.cookie_i, cookie, is_initiator=False), datagram, now)

    def _choose(self, message: Message, cookies: Cookies, datagram: Datagram, now: float) -> None:
        offers = message.all(SecurityAssociation)
        if len(offers) != 1:
            self._hub.drop(Drop.BAD_PAYLOADS)
            return
        mode = _MODES[ExchangeType(datagram.header.exchange)]
        choice = self._choice(mode, message, offers[0], datagram.path.remote.ip)
        if isinstance(choice, _Objection):
            self._refuse(datagram, choice, now)
            return
        policy = self._policy
        reception = Reception(
            hub=self._hub,
            config=self._config,
            mode=ExchangeType(datagram.header.exchange),
            cookies=cookies,
            source=datagram.path.remote,
            choice=choice,
            began_at=now,
            abilities=Abilities.of(message, policy.nat_traversal, fragments=policy.fragments),
            sa_i=offers[0].body,
            replaces=self._replaces,
        )
        if mode is Mode.AGGRESSIVE:
            begin_aggressive(reception, message, datagram, now)
        else:
            self._hub.admit(AwaitKey(reception, datagram, now), now)

    def _choice(
        self, mode: Mode, message: Message, offer: SecurityAssociation, ip: str
    ) -> Choice | _Objection:
        """What we take of the offer of who is at this address."""
        if mode not in self._policy.modes:
            remedy = "The peer has to take the other one; --ikev1 main,aggressive takes both."
            return _Objection(
                NotifyType.UNSUPPORTED_EXCHANGE_TYPE, f"{mode.value} mode is not wanted", lambda: remedy
            )
        if offer.doi not in (DOI_ISAKMP, DOI_IPSEC):
            return _Objection(NotifyType.DOI_NOT_SUPPORTED, f"unknown DOI {offer.doi}")
        if offer.situation != SIT_IDENTITY_ONLY:
            return _Objection(NotifyType.SITUATION_NOT_SUPPORTED, "a situation with labels")
        methods, ours = methods_for(entries_for(self._config.pad, None, ip)), self._config.ike_proposals
        # In main mode the group is chosen before the public values are made.
        ke = message.get(KeyExchange)
        octets = None if ke is None else len(ke.data)
        return select(offer.proposals, self._suites, methods, group_octets=octets) or _Objection(
            NotifyType.NO_PROPOSAL_CHOSEN,
            "no common IKE proposal",
            lambda: describe_mismatch(offer.proposals, ours, methods),
        )

    def _refuse(self, datagram: Datagram, objection: _Objection, now: float) -> None:
        """Leaves nothing behind: the answer has no cookie of ours."""
        if not self._hub.refusals.take(now):
            self._hub.drop(Drop.RATE)
            return
        header = Header(datagram.header.cookie_i, NO_COOKIE, 0, ExchangeType.INFORMATIONAL, 0)
        said = Notification(ProtocolId.ISAKMP, b"", objection.notify)
        self._hub.send(emit_message(header, [said]), datagram.path)
        if self._told_of != header.cookie_i:  # else it is the same message once more
            self._told_of = header.cookie_i
            self._hub.tell_refusal(PeerRefused(datagram.path, objection.reason, objection.detail()), now)
