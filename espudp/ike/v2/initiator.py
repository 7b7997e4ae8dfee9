"""The initiator's half of the initial exchanges (RFC 7296 sections 1.2, 2.6, 2.15, 2.21.1, 2.21.2).

InitSent --IKE_SA_INIT response--> AuthSent --IKE_AUTH response--> Established
   ^  |
   +--+ COOKIE, INVALID_KE_PAYLOAD: the same request again, with what was asked for
"""

from espudp.crypto.dh import KeyPair, generate
from espudp.crypto.ikekeys import IkeKeys, derive_ike_keys
from espudp.errors import AuthenticationFailed, CryptoError, PeerError
from espudp.ike.config import ConnectionConfig
from espudp.ike.drop import Drop
from espudp.ike.encapsulation import BEYOND_NAT_REMEDY, Encapsulation, beyond_nat, forbids
from espudp.ike.events import Fault, NatStatus
from espudp.ike.exchange import Retransmission
from espudp.ike.farewell import Farewell
from espudp.ike.natd import found_by
from espudp.ike.offers import describe_offer
from espudp.ike.proposals import IkeChoice, offer_ike, verify_ike
from espudp.ike.rules import Shape, error_of
from espudp.ike.v2 import opening, redirect, signing
from espudp.ike.v2.auth_initiator import AuthSent
from espudp.ike.v2.child import NONCE_OCTETS
from espudp.ike.v2.groups import Groups
from espudp.ike.v2.hub import NO_SPI, Datagram, Hub, State
from espudp.ike.v2.initial import Initial
from espudp.ike.v2.sa import IkeSa
from espudp.wire.address import Path
from espudp.wire.ikev2.constants import ExchangeType, NotifyType, name_of_notify
from espudp.wire.ikev2.message import Message
from espudp.wire.ikev2.payloads import KeyExchange, Nonce, Notify, SecurityAssociation

# RFC 7296 section 2.21.1: an error that anybody can forge is believed only when nothing better has come
# after so many further tries.
_TRIES_AFTER_REFUSAL = 2


class InitSent:
    """IKE_SA_INIT is under way. Whatever arrives is unauthenticated; nothing ends the attempt at once."""

    def __init__(
        self,
        hub: Hub,
        number: int,
        config: ConnectionConfig,
        path: Path,
        float_path: Path | None,
        now: float,
        *,
        claims_nat: bool = False,
    ) -> None:
        """`claims_nat`: the peer is to find a NAT whether there is one or not."""
        self._hub = hub
        self._claims_nat = claims_nat or config.encap is Encapsulation.ALWAYS
        self.number = number
        self._config = config
        self.path = path
        self._float_path = float_path or path
        self._nonce = hub.nonce(NONCE_OCTETS)
        self._groups = Groups([group for proposal in config.ike_proposals for group in proposal.dh])
        self._pair: KeyPair = generate(self._groups.current, hub.rng)
        self._cookies = opening.Cookies()
        self._refusal: Farewell | None = None
        self._tries_left = 0
        self.local_spi = hub.new_spi()
        self._versions = 0
        """Different requests with the same key pair; an answer does not tell to which of them it is."""
        self._request = b""
        self._retransmission = self._send(now)

    @property
    def deadline(self) -> float | None:
        return self._retransmission.deadline

    def handle_timer(self, now: float) -> State | None:
        if not self._retransmission.is_due(now):
            return self
        if self._refusal is not None:
            if not self._tries_left:
                return self._end(self._refusal)
            self._tries_left -= 1
        if not self._retransmission.advance(now):
            return self._end(self._unanswered())
        self._hub.send(self._request, self.path)
        return self

    def receive(self, datagram: Datagram, now: float) -> State | None:
        message = opening.read_answer(datagram, ExchangeType.IKE_SA_INIT, Shape.IKE_SA_INIT)
        if isinstance(message, Drop):
            self._hub.drop(message)
            return self
        return self._answered(message, datagram, now)

    def close(self, farewell: Farewell) -> None:
        """Nothing is left at the peer but a half-open IKE SA."""
        self._end(farewell)

    def reconsider(self, datagram: Datagram, now: float) -> AuthSent | None:
        """Follows another answer than the one before, if it is a good one."""
        message = opening.read_answer(datagram, ExchangeType.IKE_SA_INIT, Shape.IKE_SA_INIT)
        if isinstance(message, Drop):
            return None
        following = self._chosen(message, datagram, now)
        return following if isinstance(following, AuthSent) else None

    def _answered(self, message: Message, datagram: Datagram, now: float) -> State | None:
        cookie = message.notify(NotifyType.COOKIE)
        if cookie is not None and message.get(SecurityAssociation) is None:
            return self._retry_with_cookie(cookie.data, now)
        if message.get(SecurityAssociation) is None and message.notify(NotifyType.REDIRECT) is not None:
            return self._redirected(message, now)
        error = error_of(message)
        if error is None and self._must_claim(message):
            return self._begin_with_claim(now)
        if error is None:
            return self._chosen(message, datagram, now)
        if self._groups.change(error):
            return self._retry_with_group(now)
        return self._doubt(self._refused(error))

    def _doubt(self, refusal: Farewell) -> State | None:
        """The end, unless something better comes before long."""
        if self._refusal is None:
            self._refusal = refusal
            self._tries_left = _TRIES_AFTER_REFUSAL
        return self

    def _redirected(self, message: Message, now: float) -> State | None:
        """RFC 5685 section 3: whoever knows our nonce can say so; the rest is ignored."""
        there = redirect.redirection(message, self._nonce)
        if there is None or not self._config.follow_redirects:
            self._hub.drop(Drop.UNSOLICITED)
            return self
        return self._end(redirect.departure(self._hub, self._config, there, now))

    def _retry_with_cookie(self, cookie: bytes, now: float) -> State | None:
        if self._cookies.take(cookie):
            self._retransmission = self._send(now)
        else:
            self._hub.drop(Drop.UNSOLICITED)
        return self

    def _retry_with_group(self, now: float) -> State | None:
        self._pair = generate(self._groups.current, self._hub.rng)
        self._versions = 0
        self._retransmission = self._send(now)
        return self

    def _send(self, now: float) -> Retransmission:
        payloads = [
            *self._cookies.payloads(),
            SecurityAssociation(offer_ike(self._config.ike_proposals)),
            KeyExchange(self._pair.group.transform_id, self._pair.public),
            Nonce(self._nonce),
        ]
        self._request = opening.request(
            ExchangeType.IKE_SA_INIT,
            self.local_spi,
            self.path,
            self._config,
            payloads,
            [signing.hashes_notify()],
            claims_nat=self._claims_nat,
        )
        self._versions += 1
        self._hub.send(self._request, self.path)
        return Retransmission(self._config.timers, now)

    # The good answer

    def _chosen(self, message: Message, datagram: Datagram, now: float) -> State | None:
        offer, ke, nonce = message.get(SecurityAssociation), message.get(KeyExchange), message.get(Nonce)
        if offer is None or ke is None or nonce is None or message.header.spi_r == NO_SPI:
            self._hub.drop(Drop.BAD_PAYLOADS)
            return self
        choice = verify_ike(offer.proposals, self._config.ike_proposals, spi_octets=0)
        if choice is None or not choice.suite.dh.transform_id == ke.group == self._pair.group.transform_id:
            self._hub.drop(Drop.BAD_PAYLOADS)
            return self
        try:
            keys = self._derive(choice, ke, nonce, message.header.spi_r)
        except (PeerError, CryptoError):
            self._hub.drop(Drop.BAD_KEY_EXCHANGE)
            return self
        nat = self._nat(message)
        if forbids(self._config.encap, nat):
            return self._doubt(Farewell(Fault.PROTOCOL, beyond_nat(nat), BEYOND_NAT_REMEDY))
        sa = IkeSa(
            self._hub,
            self.local_spi,
            message.header.spi_r,
            choice.suite,
            keys,
            self._config.timers,
            is_initiator=True,
            initial=True,
            fragments=message.notify(NotifyType.IKEV2_FRAGMENTATION_SUPPORTED) is not None,
        )
        initial = Initial(
            request=self._request,
            response=datagram.data,
            nonce_i=self._nonce,
            nonce_r=nonce.data,
            keys=keys,
            nat=nat,
            claims_nat=self._claims_nat,
            hashes=signing.announced(message),
            several=message.notify(NotifyType.MULTIPLE_AUTH_SUPPORTED) is not None,
            ambiguous=self._versions > 1,
            childless=message.notify(NotifyType.CHILDLESS_IKEV2_SUPPORTED) is not None,
        )
        try:
            return AuthSent(
                self._hub, self.number, self._config, sa, initial, self._float_path, now, self.reconsider
            )
        except AuthenticationFailed as error:
            return self._doubt(Farewell(Fault.AUTHENTICATION, str(error), error.remedy))

    def _derive(self, choice: IkeChoice, ke: KeyExchange, nonce: Nonce, spi_r: bytes) -> IkeKeys:
        shared = self._pair.shared_secret(ke.data)
        return derive_ike_keys(choice.suite, shared, self._nonce, nonce.data, self.local_spi, spi_r)

    def _nat(self, message: Message) -> NatStatus:
        return found_by(message, self.local_spi, message.header.spi_r, self.path)

    def _must_claim(self, message: Message) -> bool:
        return not self._claims_nat and opening.must_claim(self._hub, self._nat(message), message)

    def _begin_with_claim(self, now: float) -> State | None:
        """Under another SPI: what the peer has made of the first request comes to nothing."""
        hub, config = self._hub, self._config
        following = InitSent(hub, self.number, config, self.path, self._float_path, now, claims_nat=True)
        hub.discard(self.local_spi)
        hub.dialling[self.number] = following.local_spi
        hub.put(following)
        return None

    # The end

    def _end(self, farewell: Farewell) -> State | None:
        self._hub.hang_up(self.number, farewell)
        return None

    def _unanswered(self) -> Farewell:
        return Farewell(
            Fault.TIMEOUT,
            f"no answer from {self.path.remote}",
            f"Check the address, and that UDP port {self.path.remote.port} is open on the way.",
            retry=True,
        )

    def _refused(self, notify: Notify) -> Farewell:
        name = name_of_notify(notify.type)
        if notify.type not in (NotifyType.NO_PROPOSAL_CHOSEN, NotifyType.INVALID_KE_PAYLOAD):
            return Farewell(Fault.PROTOCOL, f"{self.path.remote} refuses to talk: {name}", retry=True)
        offers = "\n".join(f"  {describe_offer(p)}" for p in offer_ike(self._config.ike_proposals))
        return Farewell(
            Fault.PROPOSAL,
            f"{self.path.remote} accepts none of our IKE proposals ({name})",
            f"Name one that the peer has; its log says what it accepts. We offered:\n{offers}",
        )
