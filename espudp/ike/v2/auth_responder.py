"""IKE_AUTH from the responder's side (RFC 7296 sections 1.2, 2.4, 2.15, 2.19, 2.21.2).

AwaitAuth --IKE_AUTH, and the peer knows its PSK--> Established
    |
    +--anything else--> Refused, which only repeats its answer, and not for long
"""

from dataclasses import replace

from espudp.errors import AuthenticationFailed, CryptoError, EspudpError, PeerError
from espudp.ike.config import ListenerConfig
from espudp.ike.credentials import Proof
from espudp.ike.events import ConnectionUp, Fault, PeerAddressAssigned, PeerRefused
from espudp.ike.identity import Identity
from espudp.ike.narrowing import Dynamic
from espudp.ike.pad import PadEntry, candidates
from espudp.ike.rules import REQUESTS, Shape, breach, critical
from espudp.ike.v2 import auth, configuration, mobike
from espudp.ike.v2.auth_initiator import Initial
from espudp.ike.v2.child import NewChild, Nonces, answer_child
from espudp.ike.v2.connection import Connection, Farewell, Peer
from espudp.ike.v2.crash import token_of
from espudp.ike.v2.ending import Answered
from espudp.ike.v2.established import Established
from espudp.ike.v2.hub import Datagram, Hub, State
from espudp.ike.v2.sa import IkeSa, Received
from espudp.wire.ikev2.constants import ExchangeType, NotifyType
from espudp.wire.ikev2.message import Message
from espudp.wire.ikev2.payloads import (
    Authentication,
    Configuration,
    IdInitiator,
    IdResponder,
    Notify,
    Payload,
)

_EXCHANGES = frozenset({int(ExchangeType.IKE_AUTH)})

# Our bound on how many entries are tried for one peer: each may cost the check of a signature.
_MAX_ENTRIES = 8

# What stands in for a PSK that does not exist, so that an unknown identity costs the same as a wrong PSK.
_DUMMY_OCTETS = 32


class AwaitAuth:
    """A half-open IKE SA: the peer has keys, and an address that works, and has proved nothing."""

    def __init__(
        self, hub: Hub, config: ListenerConfig, sa: IkeSa, initial: Initial, outer: str, deadline: float
    ) -> None:
        """`outer` is the IP address where the peer got our answer to its IKE_SA_INIT."""
        self._hub = hub
        self._config = config
        self._sa = sa
        self.initial = initial
        self._outer = outer
        self.deadline = deadline

    @property
    def local_spi(self) -> bytes:
        return self._sa.local_spi

    def handle_timer(self, now: float) -> State | None:
        return self if now < self.deadline else None

    def receive(self, datagram: Datagram, now: float) -> State | None:
        received = self._sa.accept(datagram, _EXCHANGES)
        if received is None or received.is_response:
            return self
        try:
            self._check(received)
            identity, entry = self._verified(received)
        except PeerError as error:
            # RFC 7296 section 2.21.2: these errors end the IKE SA, with nothing but the notify.
            self._sa.respond(received, [Notify.of(error.notify, error.data)])
            self._hub.tell_refusal(PeerRefused(received.path, str(error), error.remedy), now)
            return Answered(self._sa, self.deadline)
        self._config = self._config.by(entry)
        return self._establish(received, identity, entry.proof, now)

    # Who it is

    def _check(self, received: Received) -> None:
        """Raises PeerError for messages whose authentication is not even looked at."""
        message = received.message
        if received.nonsense is not None:
            raise PeerError(received.nonsense, notify=NotifyType.INVALID_SYNTAX)
        unsupported = critical(message)
        if unsupported is not None:
            raise PeerError(
                f"payload {unsupported.type} is critical and unknown",
                notify=NotifyType.UNSUPPORTED_CRITICAL_PAYLOAD,
                data=bytes([unsupported.type]),
            )
        if message.get(IdInitiator) is not None and message.get(Authentication) is None:
            raise AuthenticationFailed(
                "the peer wants EAP, which is not spoken here", remedy="Configure the peer with a PSK."
            )
        wrong = breach(message, REQUESTS[Shape.IKE_AUTH])
        if wrong is not None:
            raise PeerError(f"IKE_AUTH {wrong}", notify=NotifyType.INVALID_SYNTAX)

    def _verified(self, received: Received) -> tuple[Identity, PadEntry]:
        """Who the peer is, proved, and by which entry it came in. Raises AuthenticationFailed."""
        signed = self.initial.request, self.initial.nonce_r, self.initial.keys.pi
        claim = auth.Claim.of(received.message, IdInitiator, self._sa.suite.prf, signed)
        asked = received.message.get(IdResponder)
        wanted = None if asked is None else Identity(asked.id_type, asked.data)
        config = self._config
        entries = candidates(
            config.pad, claim.identity, received.path.remote.ip, wanted, config.local_identity
        )
        refusal: AuthenticationFailed | None = None
        for entry in entries[:_MAX_ENTRIES]:
            try:
                return auth.judge(entry.demand, claim, self._hub.wall_clock), entry
            except AuthenticationFailed as error:
                refusal = refusal or error
        if refusal is None:
            claim.knows(self._hub.nonce(_DUMMY_OCTETS))
        raise refusal or AuthenticationFailed(
            f"nobody is expected who is {claim.identity}",
            remedy="Let this identity in, or let the peer use another one.",
        )

    # What it gets

    def _establish(self, received: Received, identity: Identity, proof: Proof, now: float) -> State | None:
        hub, message = self._hub, received.message
        hub.admission.authenticated(self.local_spi)
        number = hub.next_number()
        if message.notify(NotifyType.INITIAL_CONTACT) is not None:
            self._forget_former(identity)
        connection = Connection(
            hub, number, self._config, Peer(identity, self.initial.nat, self._outer), received.path, now
        )
        connection.current = established = Established(connection, self._sa, now)
        hub.emit(
            ConnectionUp(
                number,
                initiator=False,
                local_identity=self._config.local_identity,
                remote_identity=identity,
                suite_name=self._sa.suite.name,
                path=received.path,
                nat=self.initial.nat,
            )
        )
        moves = mobike.agree(connection, message)
        token = token_of(hub, self._sa.spi_i, self._sa.spi_r)
        child = self._child(connection, message, now)
        self._sa.respond(received, [*self._prove(proof), *token, *child, *moves])
        return established.advance(now)

    def _forget_former(self, identity: Identity) -> None:
        """RFC 7296 section 2.4: the peer says that it has no other IKE SA with us."""
        former = [c for c in self._hub.with_peer(identity) if not c.dialled]
        for connection in former:
            reason = f"{identity} connected anew"
            connection.down(Farewell(Fault.PEER_REQUEST, reason))

    def _prove(self, proof: Proof) -> list[Payload]:
        ours, prf = self._config.local_identity, self._sa.suite.prf
        signed = auth.signed_octets(
            prf, self.initial.response, self.initial.nonce_i, self.initial.keys.pr, ours
        )
        return [IdResponder(ours.type, ours.data), *auth.prove(prf, proof, signed, self.initial.hashes)]

    def _child(self, connection: Connection, message: Message, now: float) -> list[Payload]:
        """The first child SA. RFC 7296 section 2.21.2: its failure does not undo the authentication."""
        asked = message.get(Configuration)
        try:
            new, payloads = self._negotiate(connection, message, asked)
        except PeerError as error:
            self._tell(connection, error, now)
            return [Notify.of(error.notify, error.data)]
        except CryptoError as error:
            self._tell(connection, error, now)
            return [Notify.of(NotifyType.NO_PROPOSAL_CHOSEN)]
        connection.install(new)
        if asked is not None and configuration.wants_address(asked):
            payloads.insert(0, configuration.reply(asked, connection.peer.addresses, self._config.handout))
        return payloads

    def _tell(self, connection: Connection, error: EspudpError, now: float) -> None:
        reason = f"{connection.peer.identity}: {error}"
        self._hub.tell_refusal(PeerRefused(connection.path, reason, error.remedy), now)

    def _negotiate(
        self, connection: Connection, message: Message, asked: Configuration | None
    ) -> tuple[NewChild, list[Payload]]:
        hub, peer = self._hub, connection.peer
        if asked is not None and hub.pool is not None and configuration.wants_address(asked):
            addresses = configuration.assign(asked, hub.pool, peer.identity, connection.number)
            connection.peer = replace(peer, addresses=addresses)
            hub.emit(PeerAddressAssigned(connection.number, addresses))
        elif hub.pool is not None and all(isinstance(s, Dynamic) for s in self._config.child.remote):
            # RFC 7296 section 2.19
            raise PeerError(
                "the peer asks for no virtual address",
                notify=NotifyType.FAILED_CP_REQUIRED,
                remedy="Let the peer ask for one, or name its subnet here.",
            )
        nonces = Nonces(self.initial.nonce_i, self.initial.nonce_r)
        return answer_child(hub, self._sa, message, connection.allowed(), nonces=nonces, pfs=False)
