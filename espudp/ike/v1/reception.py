"""Phase 1 as the side that is called sees it: what its states in main and in aggressive mode have in common.

Who calls is a stranger until its proof is there, and its address may be forged until it has sent our cookie
back.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass

from espudp.crypto.dh import generate
from espudp.crypto.digest import cookie_mac
from espudp.crypto.ikev1keys import Ikev1Keys, Transcript
from espudp.errors import AuthenticationFailed, CryptoError, PeerError
from espudp.ike.config import ListenerConfig
from espudp.ike.credentials import Psk
from espudp.ike.drop import Drop
from espudp.ike.encapsulation import BEYOND_NAT_REMEDY, beyond_nat, claims_nat, forbids, is_in_udp
from espudp.ike.events import PeerRefused
from espudp.ike.farewell import Farewell
from espudp.ike.identity import Identity
from espudp.ike.ikev1_config import Ikev1Policy
from espudp.ike.natd import NatStatus
from espudp.ike.pad import PadEntry
from espudp.ike.v1.connection import Connection
from espudp.ike.v1.exchange import Turn
from espudp.ike.v1.hub import NO_COOKIE, Datagram, Hub, Key
from espudp.ike.v1.natt import Sight
from espudp.ike.v1.phase1 import Phase1
from espudp.ike.v1.phase1_proposals import Choice
from espudp.ike.v1.proof import Claim, Material, identity_of
from espudp.ike.v1.sa import Cookies, IsakmpSa
from espudp.ike.v1.vendor import Abilities, agreed
from espudp.ike.v1.ways import WAYS, Way, entries_for
from espudp.wire.address import Path, UdpAddress
from espudp.wire.ikev1.constants import ExchangeType, NotifyType, ProtocolId
from espudp.wire.ikev1.header import COOKIE_OCTETS, Header
from espudp.wire.ikev1.message import Message, emit_message
from espudp.wire.ikev1.payloads import KeyExchange, Nonce, Notification, Payload, VendorId

NONCE_OCTETS = 32

_SECRET_OCTETS = 32

# Our choice: how long a first message that is repeated gets the same cookie, at least.
_COOKIE_SECONDS = 60.0

# Our bound on how many entries one proof is compared with: each may cost the check of a whole chain of
# certificates.
_MAX_ENTRIES = 8

# Our bound on what of one call may be wrong before it is over, by what it costs. Anybody who reads along can
# send what no key opens; a key pair of ours, or the check of a chain of certificates, is another thing.
_PATIENCE = 250
CHEAP, DEAR = 1, 50


class CookieJar:
    """Our cookies: a MAC of who asks, so that the same message gets the same one and nothing is kept for it
    (RFC 2408 section 2.5.3).
    """

    def __init__(self, hub: Hub) -> None:
        self._secret = hub.nonce(_SECRET_OCTETS)

    def candidates(self, source: UdpAddress, cookie_i: bytes, now: float) -> tuple[bytes, bytes]:
        """The one for a message from `source`, and the one that it would have had a while ago."""
        period = int(now // _COOKIE_SECONDS)
        return self._cookie(source, cookie_i, period), self._cookie(source, cookie_i, period - 1)

    def _cookie(self, source: UdpAddress, cookie_i: bytes, period: int) -> bytes:
        seed = cookie_i + (period % (1 << 64)).to_bytes(8) + str(source).encode()
        cookie = cookie_mac(self._secret, seed)[:COOKIE_OCTETS]
        return cookie if cookie != NO_COOKIE else self._secret[:COOKIE_OCTETS]


@dataclass(slots=True, kw_only=True)
class Reception:
    """One call, from the first message to the peer's proof."""

    hub: Hub
    config: ListenerConfig
    mode: ExchangeType
    cookies: Cookies
    source: UdpAddress
    """Where our answer to the first message went."""
    choice: Choice
    abilities: Abilities
    began_at: float
    sa_i: bytes
    """The body of the initiator's SA payload."""
    replaces: Connection | None = None
    wrong: int = 0
    """What has been wrong so far, by what it has cost us."""

    @property
    def key(self) -> Key:
        return self.cookies.key

    @property
    def way(self) -> Way:
        return WAYS[self.choice.terms.method]

    @property
    def policy(self) -> Ikev1Policy:
        return self.config.ikev1 or Ikev1Policy()

    @property
    def vendor_ids(self) -> list[VendorId]:
        return agreed(self.abilities, fragments=self.policy.fragments)

    def message(self, payloads: list[Payload]) -> bytes:
        """One of phase 1, in the clear."""
        header = Header(self.cookies.initiator, self.cookies.responder, 0, self.mode, 0)
        return emit_message(header, payloads)

    def fits(self, datagram: Datagram) -> bool:
        """Whether a message may be the next one: of the same phase 1, from wherever. A carrier's NAT may give
        the peer another address with its other port.
        """
        header = datagram.header
        reason = None
        if not self.cookies.fit(header):
            reason = Drop.WRONG_SPI
        elif header.exchange != self.mode or header.message_id:
            reason = Drop.WRONG_EXCHANGE
        if reason is not None:
            self.hub.drop(reason)
        return reason is None

    # NAT traversal

    @property
    def sight(self) -> Sight:
        return Sight(self.choice.terms.suite.hash, self.cookies.initiator, self.cookies.responder)

    def nat_payloads(self, path: Path) -> list[Payload]:
        """What we see, if the peer can make something of it."""
        flavour = self.abilities.flavour
        claim = claims_nat(self.config.encap, plain_esp=self.hub.common.plain_esp)
        return [] if flavour is None else [*self.sight.payloads(flavour, path, claim=claim)]

    def nat(self, message: Message, paths: list[Path]) -> NatStatus:
        """Where the NATs are, if the peer can tell."""
        flavour = self.abilities.flavour
        return (None if flavour is None else self.sight.detect(flavour, message, paths)) or NatStatus()

    # Keys and proofs

    def material(self, ke: KeyExchange, nonce: Nonce) -> Material:
        """What the keys are made of, with a key pair of ours that is made for it. Raises PeerError or
        CryptoError for a public value that no honest peer sends.
        """
        suite, cookies = self.choice.terms.suite, self.cookies
        pair = generate(suite.dh, self.hub.rng)
        shared = pair.shared_secret(ke.data)
        transcript = Transcript(ke.data, pair.public, cookies.initiator, cookies.responder, self.sa_i)
        return Material(suite, self.way, transcript, nonce.data, self.hub.nonce(NONCE_OCTETS), shared)

    def isakmp_sa(self, material: Material, keys: Ikev1Keys) -> IsakmpSa:
        return IsakmpSa(
            self.hub,
            self.cookies,
            material.suite,
            keys,
            material.iv,
            mode=self.mode,
            timers=self.config.timers,
            abilities=self.abilities,
        )

    def entries(self, identity: Identity | None = None) -> list[PadEntry]:
        """Those by which the peer may come."""
        return entries_for(self.config.pad, self.way, self.source.ip, identity)

    def judge(self, claim: Claim, entries: list[PadEntry]) -> tuple[PadEntry, Identity]:
        """By which entry the peer has come, and whom it has proved to be. Raises AuthenticationFailed."""
        refusal: AuthenticationFailed | None = None
        for entry in entries[:_MAX_ENTRIES]:
            try:
                return entry, claim.judge(entry.demand, None, self.hub.common.wall_clock)
            except AuthenticationFailed as error:
                refusal = refusal or error
        raise refusal or self.stranger(identity_of(claim.who))

    def wrong_key(self) -> AuthenticationFailed:
        """Of one that has encrypted with a PSK that is not here, so that not even its name is known."""
        return AuthenticationFailed(
            f"{self.source} does not know the PSK", remedy="Put the same PSK on both sides."
        )

    def stranger(self, identity: Identity) -> AuthenticationFailed:
        """Of one for whom there is no entry."""
        return AuthenticationFailed(
            f"nobody is expected who is {identity}",
            remedy="Let this identity in, or let the peer use another one.",
        )

    def phase1(
        self,
        material: Material,
        sa: IsakmpSa,
        turn: Turn,
        path: Path,
        nat: NatStatus,
        message: Message,
        met: tuple[PadEntry, Identity],
    ) -> Phase1:
        """Raises PeerError where no ESP would get through. `met`: the entry, and who it is."""
        entry, identity = met
        config = self.config.by(entry)
        plain_esp = self.hub.common.plain_esp
        speaks = self.abilities.flavour is not None
        if not speaks and not plain_esp:
            raise PeerError(
                f"{identity} does not speak NAT traversal, and this host cannot send ESP without UDP",
                notify=NotifyType.NO_PROPOSAL_CHOSEN,
                remedy="Let it use raw sockets (CAP_NET_RAW), or enable NAT traversal at the peer.",
            )
        if forbids(config.encap, nat):
            raise PeerError(beyond_nat(nat), notify=NotifyType.NO_PROPOSAL_CHOSEN, remedy=BEYOND_NAT_REMEDY)
        return Phase1(
            policy=config,
            sa=sa,
            turn=turn,
            path=path,
            outer=self.source.ip,
            nat=nat,
            encapsulates=speaks and is_in_udp(config.encap, nat, plain_esp=plain_esp),
            way=material.way,
            local_identity=config.local_identity,
            remote_identity=identity,
            lifetime_seconds=self.choice.lifetime,
            began_at=self.began_at,
            replaces=self.replaces,
            entry=entry,
            # RFC 2407 section 4.6.3: it is to be under protection.
            initial_contact=message.header.encrypted
            and message.notify(NotifyType.INITIAL_CONTACT) is not None,
        )

    # Refusals

    @property
    def proof_cost(self) -> int:
        """What a proof costs us that may be wrong."""
        return DEAR if self.way.initiator_signs else CHEAP

    def tire(self, cost: int) -> None:
        """Something is wrong that has cost us so much."""
        self.wrong += cost

    @property
    def is_tired(self) -> bool:
        """Whether too much has been wrong to go on."""
        return self.wrong >= _PATIENCE

    def refuse(self, error: PeerError | CryptoError, path: Path, sa: IsakmpSa | None, now: float) -> None:
        """What the peer has shown is not enough. With `sa` it is told so under keys that it has."""
        common = self.hub.common
        if isinstance(error, PeerError):
            common.count_refusal(error)
        self.hub.tell_refusal(PeerRefused(path, str(error), error.remedy), now)
        notify = Notification(ProtocolId.ISAKMP, b"", NotifyType.AUTHENTICATION_FAILED)
        if sa is not None:
            chain = sa.chain(sa.new_message_id())
            self.hub.send(chain.seal_hashed(ExchangeType.INFORMATIONAL, [notify]), path)
        elif common.complaints.take(now):
            header = Header(self.cookies.initiator, self.cookies.responder, 0, ExchangeType.INFORMATIONAL, 0)
            self.hub.send(emit_message(header, [notify]), path)


class Visitor(ABC):
    """A state of a reception: our message is out, and the peer is to go on."""

    def __init__(self, reception: Reception, turn: Turn, until: float) -> None:
        self.reception = reception
        self.turn = turn
        self._until = until

    @property
    def key(self) -> Key:
        return self.reception.key

    @property
    def deadline(self) -> float | None:
        again = self.turn.deadline
        return self._until if again is None else min(again, self._until)

    def handle_timer(self, now: float) -> None:
        hub = self.reception.hub
        if now >= self._until:
            hub.discard(self)
            return
        if not self.turn.handle_timer(self.path, now):
            self.turn.heard()
        hub.reschedule(self)

    @property
    @abstractmethod
    def path(self) -> Path:
        """Where our message goes if it has to go again."""

    @abstractmethod
    def receive(self, datagram: Datagram, now: float) -> None: ...

    def fail(self, farewell: Farewell, now: float) -> None:
        self.reception.hub.discard(self)

    def refuse(
        self,
        error: PeerError | CryptoError,
        path: Path,
        sa: IsakmpSa | None,
        now: float,
        *,
        cost: int = CHEAP,
    ) -> None:
        """What came is no good, and the peer may try again: it may not have been the peer's."""
        self.reception.refuse(error, path, sa, now)
        self.reception.tire(cost)
        if self.reception.is_tired:
            self.reception.hub.discard(self)


def psk_of(entry: PadEntry) -> bytes | None:
    """The key that both sides are to have."""
    return entry.proof.key if isinstance(entry.proof, Psk) else None
