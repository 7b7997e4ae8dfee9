"""IKE_SA_INIT from the responder's side (RFC 7296 sections 1.2, 2.5, 2.6, 2.21.1, 2.23).

Whoever asks is a stranger, and its address may be forged. So nothing is remembered until the request is
acceptable, everything that is remembered is bounded, no answer is much larger than its request, and no error
needs a key.
"""

from dataclasses import dataclass

from espudp.crypto.dh import generate
from espudp.crypto.ikekeys import IkeKeys, IkeSuite, derive_ike_keys, derive_resumed_ike_keys
from espudp.crypto.suites import Dh
from espudp.errors import CryptoError, PeerError, WireError
from espudp.ike.commons import REFUSALS_AT_ONCE, REFUSALS_PER_SECOND
from espudp.ike.config import ListenerConfig
from espudp.ike.drop import Drop
from espudp.ike.encapsulation import BEYOND_NAT_REMEDY, beyond_nat, claims_nat, forbids
from espudp.ike.events import NatStatus, PeerRefused
from espudp.ike.natd import detect, natd_data
from espudp.ike.offers import describe_mismatch
from espudp.ike.proposals import IkeChoice, offer_ike, select_ike
from espudp.ike.rules import REQUESTS, Shape, breach, critical
from espudp.ike.tickets import suite_of
from espudp.ike.v2 import auth, redirect, resumption, signing
from espudp.ike.v2.admission import Verdict
from espudp.ike.v2.auth_responder import AwaitAuth, Resumes
from espudp.ike.v2.child import NONCE_OCTETS
from espudp.ike.v2.hub import NO_SPI, Datagram, Hub
from espudp.ike.v2.initial import Initial
from espudp.ike.v2.sa import IkeSa
from espudp.timing import TokenBucket
from espudp.wire.ikev2.constants import ExchangeType, NotifyType, ProtocolId
from espudp.wire.ikev2.header import Header
from espudp.wire.ikev2.message import Message, emit_message, parse_message
from espudp.wire.ikev2.payloads import KeyExchange, Nonce, Notify, Payload, SecurityAssociation

# Our bound: several times what peers send that propose everything there is, in octets. A half-open IKE SA
# keeps its request, and every request is parsed before anything is known of who sent it.
MAX_REQUEST_OCTETS = 8192


@dataclass(frozen=True, slots=True)
class _Asked:
    """The three payloads that every request has; the rule has seen to it."""

    sa: SecurityAssociation
    ke: KeyExchange
    nonce: Nonce


@dataclass(frozen=True, slots=True)
class _Opening:
    """What a new IKE SA is made of."""

    nonce_i: bytes
    nonce_r: bytes
    spi_r: bytes
    suite: IkeSuite
    keys: IkeKeys
    hashes: frozenset[int] = frozenset()


class Doorkeeper:
    """Answers IKE_SA_INIT requests, and makes a half-open IKE SA of those that are acceptable."""

    def __init__(self, hub: Hub, config: ListenerConfig) -> None:
        self._hub = hub
        self._config = config
        self._refusals = TokenBucket(REFUSALS_AT_ONCE, REFUSALS_PER_SECOND)

    def receive(self, datagram: Datagram, now: float) -> None:
        """`datagram` is a request with message ID 0 and no responder SPI. Bounded work, whatever it holds."""
        if len(datagram.data) > MAX_REQUEST_OCTETS:
            self._hub.drop(Drop.TOO_LONG)
            return
        if self._repeated(datagram):
            return
        try:
            message = parse_message(datagram.data)
        except WireError:
            self._hub.drop(Drop.MALFORMED)
            return
        unsupported = critical(message)
        if unsupported is not None:
            self._refuse(datagram, NotifyType.UNSUPPORTED_CRITICAL_PAYLOAD, bytes([unsupported.type]), now)
            return
        if datagram.header.exchange == ExchangeType.IKE_SESSION_RESUME:
            self._show_ticket(message, datagram, now)
            return
        asked = _asked(message)
        if asked is None:
            self._hub.drop(Drop.BAD_PAYLOADS)
        elif self._admits(message, asked.nonce, datagram, now):
            self._choose(message, asked, datagram, now)

    def _repeated(self, datagram: Datagram) -> bool:
        """RFC 7296 section 2.1: the same answer for a half-open IKE SA, none once it has gone further."""
        spi = self._hub.admission.answered(datagram.data, datagram.path.remote)
        if spi is None:
            return False
        state = self._hub.states.get(spi)
        if isinstance(state, AwaitAuth):
            self._hub.send(state.initial.response, datagram.path)
        else:
            self._hub.drop(Drop.REPEATED)
        return True

    def _admits(self, message: Message, nonce_i: Nonce, datagram: Datagram, now: float) -> bool:
        admission, source = self._hub.admission, datagram.path.remote
        verdict = admission.verdict(source.ip)
        if len(self._hub.connections) >= self._config.limits.connections_max:
            verdict = Verdict.REFUSE
        if verdict is Verdict.REFUSE:
            self._hub.drop(Drop.HALF_OPEN)
            return False
        if verdict is Verdict.ADMIT and not self._refusals.is_spent(now):
            return True
        # Also where requests keep coming to nothing: each may have cost a key pair, and left no trace.
        cookie = message.notify(NotifyType.COOKIE)
        nonce, spi_i = nonce_i.data, datagram.header.spi_i
        if cookie is not None and admission.cookies.check(cookie.data, nonce, source, spi_i, now):
            return True
        wanted = admission.cookies.make(nonce, source, spi_i, now)
        self._reply(datagram, NO_SPI, [Notify.of(NotifyType.COOKIE, wanted)])
        return False

    def _choose(self, message: Message, asked: _Asked, datagram: Datagram, now: float) -> None:
        away = redirect.elsewhere(self._hub, self._config, message, asked.nonce.data)
        if away:
            self._reply(datagram, NO_SPI, away)
            return
        proposals = self._config.ike_proposals
        choice = select_ike(asked.sa.proposals, proposals, ke_group=asked.ke.group)
        if choice is None:
            if self._refuse(datagram, NotifyType.NO_PROPOSAL_CHOSEN, b"", now):
                detail = describe_mismatch(asked.sa.proposals, offer_ike(proposals))
                self._hub.tell_refusal(PeerRefused(datagram.path, "no common IKE proposal", detail), now)
            return
        group = choice.suite.dh
        if group.transform_id != asked.ke.group:
            self._refuse(datagram, NotifyType.INVALID_KE_PAYLOAD, group.transform_id.to_bytes(2), now)
            return
        try:
            self._open(choice, group, message, asked, datagram, now)
        except (PeerError, CryptoError):
            # Not answered: INVALID_SYNTAX is for those who have proved who they are (RFC 7296 section
            # 3.10.1).
            self._refusals.take(now)
            self._hub.drop(Drop.BAD_KEY_EXCHANGE)

    def _open(
        self, choice: IkeChoice, group: Dh, message: Message, asked: _Asked, datagram: Datagram, now: float
    ) -> None:
        hub, header = self._hub, datagram.header
        pair = generate(group, hub.rng)
        shared = pair.shared_secret(asked.ke.data)
        spi_r, nonce_r = hub.new_spi(), hub.nonce(NONCE_OCTETS)
        keys = derive_ike_keys(choice.suite, shared, asked.nonce.data, nonce_r, header.spi_i, spi_r)
        payloads: list[Payload] = [
            SecurityAssociation((choice.to_wire(),)),
            KeyExchange(group.transform_id, pair.public),
            Nonce(nonce_r),
        ]
        hashes = signing.announced(message)
        further: list[Payload] = [signing.hashes_notify()] if hashes else []
        if any(entry.further for entry in self._config.pad):
            # RFC 4739 section 3.1
            further.append(Notify.of(NotifyType.MULTIPLE_AUTH_SUPPORTED))
        further += auth.requests([entry.demand for entry in self._config.pad if entry.xauth is None])
        opening = _Opening(asked.nonce.data, nonce_r, spi_r, choice.suite, keys, hashes)
        self._half_open(opening, message, datagram, (payloads, further), now)

    # RFC 5723 section 4.3.2

    def _show_ticket(self, message: Message, datagram: Datagram, now: float) -> None:
        nonce, ticket = message.get(Nonce), message.notify(NotifyType.TICKET_OPAQUE)
        if breach(message, REQUESTS[Shape.SESSION_RESUME]) is not None or nonce is None or ticket is None:
            self._hub.drop(Drop.BAD_PAYLOADS)
            return
        if not self._admits(message, nonce, datagram, now):
            return
        away = redirect.elsewhere(self._hub, self._config, message, nonce.data)
        if away:
            self._reply(datagram, NO_SPI, away)
            return
        session = resumption.session_of(self._hub, ticket.data)
        suite = None if session is None else suite_of(session.suite, self._config.ike_proposals)
        ip = datagram.path.remote.ip
        config = None if session is None else resumption.for_session(self._config, session, ip)
        if session is None or suite is None or config is None:
            self._hub.drop(Drop.TICKET)
            self._refuse(datagram, NotifyType.TICKET_NACK, b"", now)
            return
        hub, header = self._hub, datagram.header
        spi_r, nonce_r = hub.new_spi(), hub.nonce(NONCE_OCTETS)
        keys = derive_resumed_ike_keys(suite, session.sk_d, nonce.data, nonce_r, header.spi_i, spi_r)
        opening = _Opening(nonce.data, nonce_r, spi_r, suite, keys)
        resumes = Resumes(ticket.data, session)
        self._half_open(opening, message, datagram, ([Nonce(nonce_r)], []), now, config, resumes)

    # What both have in common

    def _half_open(
        self,
        opening: "_Opening",
        message: Message,
        datagram: Datagram,
        said: tuple[list[Payload], list[Payload]],
        now: float,
        config: ListenerConfig | None = None,
        resumes: Resumes | None = None,
    ) -> None:
        """Answers, and waits for IKE_AUTH. `said`: what comes before and after what both answers say."""
        hub, header, path = self._hub, datagram.header, datagram.path
        payloads, further = said
        nat, encap = self._nat(message, datagram), self._config.encap
        if nat is not None and forbids(encap, nat):
            self._refuse_beyond_nat(datagram, nat, now)
            return
        if nat is not None:
            # If we have no ESP but that in UDP, a peer that sees no NAT must not send the other kind.
            claim = not nat.found and claims_nat(encap, plain_esp=hub.plain_esp)
            source, destination = natd_data(header.spi_i, opening.spi_r, path, force_encap=claim)
            payloads.append(Notify.of(NotifyType.NAT_DETECTION_SOURCE_IP, source))
            payloads.append(Notify.of(NotifyType.NAT_DETECTION_DESTINATION_IP, destination))
        fragments = message.notify(NotifyType.IKEV2_FRAGMENTATION_SUPPORTED)
        # RFC 7383 section 2.3
        payloads += [] if fragments is None else [Notify.of(NotifyType.IKEV2_FRAGMENTATION_SUPPORTED)]
        if self._config.childless:
            # RFC 6023 section 4
            payloads.append(Notify.of(NotifyType.CHILDLESS_IKEV2_SUPPORTED, b"", ProtocolId.IKE))
        response = self._reply(datagram, opening.spi_r, [*payloads, *further])
        sa = IkeSa(
            hub,
            header.spi_i,
            opening.spi_r,
            opening.suite,
            opening.keys,
            self._config.timers,
            is_initiator=False,
            initial=True,
            fragments=fragments is not None,
        )
        initial = Initial(
            datagram.data,
            response,
            opening.nonce_i,
            opening.nonce_r,
            opening.keys,
            nat or NatStatus(),
            opening.hashes,
        )
        deadline = now + self._config.timers.half_open_timeout
        hub.put(AwaitAuth(hub, config or self._config, sa, initial, path.remote.ip, deadline, resumes))
        hub.admission.enter(opening.spi_r, datagram.data, path.remote)

    def _nat(self, message: Message, datagram: Datagram) -> NatStatus | None:
        notifies = message.notifies()
        sources = [n.data for n in notifies if n.type == NotifyType.NAT_DETECTION_SOURCE_IP]
        destinations = [n.data for n in notifies if n.type == NotifyType.NAT_DETECTION_DESTINATION_IP]
        return detect(datagram.header.spi_i, NO_SPI, datagram.path, sources, destinations)

    def _refuse_beyond_nat(self, datagram: Datagram, nat: NatStatus, now: float) -> None:
        if self._refuse(datagram, NotifyType.NO_PROPOSAL_CHOSEN, b"", now):
            self._hub.tell_refusal(PeerRefused(datagram.path, beyond_nat(nat), BEYOND_NAT_REMEDY), now)

    def _refuse(self, datagram: Datagram, notify: int, data: bytes, now: float) -> bool:
        """Leaves nothing behind: the answer has no SPI of ours (CVE-2023-30570). False: no answer."""
        if not self._refusals.take(now):
            self._hub.drop(Drop.RATE)
            return False
        self._reply(datagram, NO_SPI, [Notify.of(notify, data)])
        return True

    def _reply(self, datagram: Datagram, spi_r: bytes, payloads: list[Payload]) -> bytes:
        header = Header(
            datagram.header.spi_i,
            spi_r,
            0,
            datagram.header.exchange,
            is_initiator=False,
            is_response=True,
            message_id=0,
        )
        response = emit_message(header, payloads)
        self._hub.send(response, datagram.path)
        return response


def _asked(message: Message) -> _Asked | None:
    if breach(message, REQUESTS[Shape.IKE_SA_INIT]) is not None:
        return None
    sa, ke, nonce = message.get(SecurityAssociation), message.get(KeyExchange), message.get(Nonce)
    return None if sa is None or ke is None or nonce is None else _Asked(sa, ke, nonce)
