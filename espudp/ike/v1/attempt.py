"""Phase 1 as the side that calls sees it: what its states in main and in aggressive mode have in common.

Whatever arrives before the peer has proved itself may be anybody's: it is dropped, or noted as the reason to
tell if nothing better comes.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING

from espudp.crypto.dh import KeyPair
from espudp.crypto.ikev1keys import Transcript
from espudp.errors import AuthenticationFailed, CryptoError, PeerError, WireError
from espudp.ike.config import ConnectionConfig
from espudp.ike.credentials import PskOf
from espudp.ike.drop import Drop
from espudp.ike.encapsulation import BEYOND_NAT_REMEDY, beyond_nat, claims_nat, forbids, is_in_udp
from espudp.ike.events import Fault
from espudp.ike.farewell import Farewell
from espudp.ike.identity import Identity
from espudp.ike.ikev1_config import Ikev1Config, Mode
from espudp.ike.natd import NatStatus
from espudp.ike.v1.exchange import Turn
from espudp.ike.v1.fragmenting import Fragmenting
from espudp.ike.v1.hub import NO_COOKIE, Datagram, Hub, Key, State
from espudp.ike.v1.natt import Sight
from espudp.ike.v1.phase1 import Phase1
from espudp.ike.v1.phase1_proposals import Choice, describe_offer, offer, to_offer, verify
from espudp.ike.v1.proof import Claim, Material, prove
from espudp.ike.v1.sa import Cookies, IsakmpSa
from espudp.ike.v1.vendor import Abilities, offered
from espudp.ike.v1.ways import way_to_call
from espudp.wire.address import Path
from espudp.wire.ikev1.constants import ExchangeType, NotifyType, ProtocolId, name_of_notify
from espudp.wire.ikev1.header import Header
from espudp.wire.ikev1.message import Message, emit_message, parse_message
from espudp.wire.ikev1.payloads import (
    Identification,
    KeyExchange,
    Nonce,
    Notification,
    Payload,
    SecurityAssociation,
    VendorId,
)

if TYPE_CHECKING:
    from espudp.ike.v1.connection import Connection

NONCE_OCTETS = 32

# An error that anybody can forge is believed only when nothing better has come after so many further tries.
_TRIES_AFTER_REFUSAL = 2

_MODES = {Mode.MAIN: ExchangeType.MAIN, Mode.AGGRESSIVE: ExchangeType.AGGRESSIVE}

# What peers say that do not understand what our key has encrypted, or our proof.
_OF_PROOFS = frozenset(
    {
        NotifyType.PAYLOAD_MALFORMED,
        NotifyType.INVALID_PAYLOAD_TYPE,
        NotifyType.INVALID_ID_INFORMATION,
        NotifyType.INVALID_HASH_INFORMATION,
        NotifyType.AUTHENTICATION_FAILED,
        NotifyType.INVALID_SIGNATURE,
        NotifyType.INVALID_CERTIFICATE,
        NotifyType.INVALID_CERT_AUTHORITY,
    }
)


class Attempt:
    """One call, from the first message to the peer's proof."""

    def __init__(
        self,
        hub: Hub,
        number: int | None,
        config: ConnectionConfig,
        path: Path,
        float_path: Path | None,
        now: float,
        replaces: "Connection | None" = None,
    ) -> None:
        """`replaces`: the connection that needs a new ISAKMP SA. Raises ConfigError for what IKEv1 cannot."""
        self.hub = hub
        self.number = number
        self.config = config
        self.ikev1 = config.ikev1 or Ikev1Config()
        self.path = path
        self.float_path = float_path or path
        self.replaces = replaces
        self.began_at = now
        self.cookie = hub.new_cookie()
        self.way = way_to_call(config)
        self.mode = _MODES[self.ikev1.mode]
        self.suites = to_offer(config.ike_proposals, one_group=self.ikev1.mode is Mode.AGGRESSIVE)
        self.nonce = hub.nonce(NONCE_OCTETS)
        proposals = offer(self.suites, [self.way.method], config.timers.ike_lifetime.hard_seconds)
        self.sa = SecurityAssociation.of(proposals)
        self._refusal: Farewell | None = None
        self._tries_left = 0

    @property
    def key(self) -> Key:
        return True, self.cookie

    def vendor_ids(self) -> list[VendorId]:
        """All that we speak."""
        return offered(self.ikev1.nat_traversal, fragments=self.ikev1.fragments)

    def message(self, payloads: Sequence[Payload], cookie_r: bytes = NO_COOKIE) -> bytes:
        """One of phase 1, in the clear."""
        return emit_message(Header(self.cookie, cookie_r, 0, self.mode, 0), payloads)

    def turn(self, abilities: Abilities | None = None) -> Turn:
        """For messages in the clear; None: nothing is known of the peer."""
        sender = Fragmenting(self.hub, self.mode, abilities or Abilities())
        return Turn(sender, self.config.timers)

    # What comes back

    def read(self, datagram: Datagram, cookie_r: bytes | None) -> Message | None:
        """A message of this phase 1 in the clear; None: dealt with. `cookie_r` None: not known yet."""
        header = datagram.header
        # Our own cookie would make our proof one of the peer's, if our public value came back with it.
        fits = header.cookie_r not in (NO_COOKIE, self.cookie) and cookie_r in (None, header.cookie_r)
        if not fits and header.exchange != ExchangeType.INFORMATIONAL:
            self.hub.drop(Drop.WRONG_SPI)
            return None
        if header.encrypted:
            self.hub.drop(Drop.WRONG_EXCHANGE)
            return None
        try:
            message = parse_message(datagram.data)
        except WireError:
            self.hub.drop(Drop.MALFORMED)
            return None
        if header.exchange == ExchangeType.INFORMATIONAL:
            self.rumour(message)
            return None
        if header.exchange != self.mode or header.message_id:
            self.hub.drop(Drop.WRONG_EXCHANGE)
            return None
        return message

    def choice(self, message: Message) -> Choice | None:
        """What the peer has chosen of our offer."""
        payloads = message.all(SecurityAssociation)
        found = verify(payloads[0].proposals, self.suites, [self.way.method]) if len(payloads) == 1 else None
        if found is None:
            self.hub.drop(Drop.BAD_PAYLOADS)
        return found

    def abilities(self, message: Message) -> Abilities:
        """What the peer speaks of what we do."""
        return Abilities.of(message, self.ikev1.nat_traversal, fragments=self.ikev1.fragments)

    @property
    def claims_nat(self) -> bool:
        """Whether we say that there is a NAT, to get ESP in UDP."""
        return claims_nat(self.config.encap, plain_esp=self.hub.common.plain_esp)

    def sight(self, choice: Choice, cookie_r: bytes) -> Sight:
        return Sight(choice.terms.suite.hash, self.cookie, cookie_r)

    def nat(self, sight: Sight, abilities: Abilities, message: Message) -> NatStatus:
        """Where the NATs are, if the peer can tell."""
        if abilities.flavour is None:
            return NatStatus()
        return sight.detect(abilities.flavour, message, [self.path]) or NatStatus()

    def material(self, message: Message, choice: Choice, pair: KeyPair, cookie_r: bytes) -> Material | None:
        """What the keys are made of; None: no honest peer sends this."""
        ke, nonce = message.get(KeyExchange), message.get(Nonce)
        if ke is None or nonce is None:
            self.hub.drop(Drop.BAD_PAYLOADS)
            return None
        try:
            shared = pair.shared_secret(ke.data)
        except (PeerError, CryptoError):
            self.hub.drop(Drop.BAD_KEY_EXCHANGE)
            return None
        transcript = Transcript(pair.public, ke.data, self.cookie, cookie_r, self.sa.body)
        return Material(choice.terms.suite, self.way, transcript, self.nonce, nonce.data, shared)

    def isakmp_sa(self, material: Material, abilities: Abilities) -> IsakmpSa:
        """Raises CryptoError."""
        demand = self.config.demand
        psk = demand.key if isinstance(demand, PskOf) else None
        return IsakmpSa(
            self.hub,
            Cookies(self.cookie, material.transcript.cookie_r, is_initiator=True),
            material.suite,
            material.keys(psk),
            material.iv,
            mode=self.mode,
            timers=self.config.timers,
            abilities=abilities,
        )

    def proof(self, material: Material, sa: IsakmpSa) -> list[Payload]:
        """HASH_I, or certificates and SIG_I; and that this is the only connection. Raises PeerError."""
        config = self.config
        proof = prove(material, sa.keys, config.local_identity, config.proof, initiator=True)
        return [*proof, *self._initial_contact(sa)]

    def _initial_contact(self, sa: IsakmpSa) -> list[Payload]:
        """RFC 2407 section 4.6.3.3. Of a user who may log in from several hosts none knows that."""
        alike = (
            c.dialled
            and c.policy.local_identity == self.config.local_identity
            and c.path.remote.ip == self.path.remote.ip
            for c in self.hub.connections.values()
        )
        if self.way.login or self.replaces is not None or any(alike):
            return []
        spi = sa.cookie_i + sa.cookie_r
        return [Notification(ProtocolId.ISAKMP, spi, NotifyType.INITIAL_CONTACT)]

    def judge(self, material: Material, sa: IsakmpSa, who: Identification, message: Message) -> Identity:
        """Raises AuthenticationFailed."""
        claim = Claim(material, sa.keys, who, message, by_initiator=False)
        return claim.judge(self.config.demand, self.config.remote_identity, self.hub.common.wall_clock)

    def where(self, abilities: Abilities, nat: NatStatus) -> Path:
        """Where it goes on: RFC 3947 section 4."""
        floats = abilities.flavour is not None and abilities.flavour.floats
        behind = nat.found or self._in_udp(abilities, nat)
        return self.float_path if floats and behind else self.path

    def _in_udp(self, abilities: Abilities, nat: NatStatus) -> bool:
        plain_esp = self.hub.common.plain_esp
        return abilities.flavour is not None and is_in_udp(self.config.encap, nat, plain_esp=plain_esp)

    def phase1(
        self, choice: Choice, material: Material, sa: IsakmpSa, turn: Turn, nat: NatStatus, who: Identity
    ) -> Phase1:
        """Raises PeerError where no ESP would get through."""
        trouble = self.no_way(sa.abilities, nat)
        if trouble is not None:
            raise trouble
        return Phase1(
            policy=self.config,
            sa=sa,
            turn=turn,
            path=self.where(sa.abilities, nat),
            outer=self.path.remote.ip,
            nat=nat,
            encapsulates=self._in_udp(sa.abilities, nat),
            way=material.way,
            local_identity=self.config.local_identity,
            remote_identity=who,
            lifetime_seconds=choice.lifetime,
            began_at=self.began_at,
            entry=None if self.replaces is None else self.replaces.phase1.entry,
            number=self.number,
            replaces=self.replaces,
        )

    def no_way(self, abilities: Abilities, nat: NatStatus) -> PeerError | None:
        """Why no ESP would get through."""
        if forbids(self.config.encap, nat):
            return PeerError(beyond_nat(nat), notify=NotifyType.NO_PROPOSAL_CHOSEN, remedy=BEYOND_NAT_REMEDY)
        if abilities.flavour is None and not self.hub.common.plain_esp:
            return PeerError(
                "the peer does not speak NAT traversal, and this host cannot send ESP without UDP",
                notify=NotifyType.NO_PROPOSAL_CHOSEN,
                remedy="Let it use raw sockets (CAP_NET_RAW), or enable NAT traversal at the peer.",
            )
        return None

    # The end

    def rumour(self, message: Message) -> None:
        """An error that anybody can have sent: the reason to give, if nothing better comes before long."""
        error = next((n for n in message.all(Notification) if n.is_error), None)
        if error is None or self._refusal is not None:
            self.hub.drop(Drop.UNSOLICITED)
            return
        self.doubt(self._refused(error))

    def doubt(self, refusal: Farewell) -> None:
        """The end, unless something better comes before long."""
        if self._refusal is None:
            self._refusal = refusal
            self._tries_left = _TRIES_AFTER_REFUSAL

    def went_on(self) -> None:
        """Something better has come: whoever said otherwise was wrong."""
        self._refusal = None

    def _refused(self, error: Notification) -> Farewell:
        name, remote = name_of_notify(error.type), self.path.remote
        if error.type in _OF_PROOFS:
            remedy = "The peer's log says what it misses."
            if self.way.psk:
                remedy = (
                    "Compare the PSK and the identities on both sides; the peer's log says what it misses."
                )
            return Farewell(Fault.AUTHENTICATION, f"{remote} refuses us ({name})", remedy)
        if error.type == NotifyType.UNSUPPORTED_EXCHANGE_TYPE:
            other = Mode.MAIN if self.ikev1.mode is Mode.AGGRESSIVE else Mode.AGGRESSIVE
            reason = f"{remote} refuses {self.ikev1.mode.value} mode ({name})"
            return Farewell(Fault.PROPOSAL, reason, f"Try --ikev1 {other.value}.")
        if error.type != NotifyType.NO_PROPOSAL_CHOSEN:
            return Farewell(Fault.PROTOCOL, f"{remote} refuses to talk: {name}", retry=True)
        offers = "\n".join(f"  {line}" for line in describe_offer(self.suites, [self.way.method]))
        return Farewell(
            Fault.PROPOSAL,
            f"{remote} accepts none of our IKE proposals ({name})",
            f"Name one that the peer has; its log says what it accepts. We offered:\n{offers}",
        )

    def try_again(self, turn: Turn, path: Path, now: float) -> bool:
        """To be called when an answer is due. False: it is over, and why is told."""
        if turn.deadline is None or now < turn.deadline:
            return True
        if self._refusal is not None:
            if not self._tries_left:
                self.end(self._refusal, now)
                return False
            self._tries_left -= 1
        return turn.handle_timer(path, now)

    def end(self, farewell: Farewell, now: float) -> None:
        """Nothing comes of it."""
        state = self.hub.states.get(self.key)
        if state is not None:
            self.hub.discard(state)
        if self.replaces is not None:
            self.replaces.renewal_failed(farewell, now)
        elif self.number is not None:
            self.hub.hang_up(self.number, farewell)


class Waiting(ABC):
    """A state of an attempt: our message is out, and has no answer yet."""

    def __init__(self, attempt: Attempt, turn: Turn, path: Path) -> None:
        self.attempt = attempt
        self.turn = turn
        self._path = path

    @property
    def key(self) -> Key:
        return self.attempt.key

    @property
    def path(self) -> Path:
        return self._path

    @property
    def deadline(self) -> float | None:
        return self.turn.deadline

    @abstractmethod
    def receive(self, datagram: Datagram, now: float) -> None: ...

    def handle_timer(self, now: float) -> None:
        hub = self.attempt.hub
        alive = self.attempt.try_again(self.turn, self.path, now)
        if hub.states.get(self.key) is not self:
            return
        if alive:
            hub.reschedule(self)
        else:
            self.attempt.end(self.unanswered(), now)

    def fail(self, farewell: Farewell, now: float) -> None:
        self.attempt.end(farewell, now)

    def unanswered(self) -> Farewell:
        """Why it is over when nothing came."""
        remote = self.path.remote
        return Farewell(
            Fault.TIMEOUT,
            f"no answer from {remote}",
            f"Check the address, and that UDP port {remote.port} is open on the way.",
            retry=True,
        )

    def follow(self, state: State) -> None:
        """The next state takes the place of this one."""
        self.attempt.went_on()
        self.attempt.hub.put(state)


def failed(error: PeerError | CryptoError) -> Farewell:
    """The end for what the peer has shown, or what could not be calculated."""
    fault = Fault.AUTHENTICATION if isinstance(error, AuthenticationFailed) else Fault.PROTOCOL
    return Farewell(fault, str(error), error.remedy, retry=isinstance(error, CryptoError))
