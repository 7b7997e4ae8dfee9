"""Main mode, the side that calls (RFC 2409 section 5, RFC 3947 section 4).

SaSent --2--> KeySent --4--> ProofSent --6--> Established

    HDR, SA, VID                  -->
                                  <--  HDR, SA, VID
    HDR, KE, Ni, NAT-D, NAT-D     -->
                                  <--  HDR, KE, Nr, NAT-D, NAT-D
    HDR*, ID, HASH or CERT, SIG   -->                    from here on port 4500, if there is a NAT
                                  <--  HDR*, ID, HASH or CERT, SIG
"""

from espudp.crypto.dh import KeyPair, generate
from espudp.errors import AuthenticationFailed, CryptoError, PeerError
from espudp.ike.drop import Drop
from espudp.ike.events import Fault
from espudp.ike.farewell import Farewell
from espudp.ike.natd import NatStatus
from espudp.ike.v1.attempt import Attempt, Waiting, failed
from espudp.ike.v1.conclusion import conclude
from espudp.ike.v1.exchange import Turn
from espudp.ike.v1.hub import Datagram
from espudp.ike.v1.phase1_proposals import Choice
from espudp.ike.v1.proof import Material, identification, requests
from espudp.ike.v1.sa import IsakmpSa
from espudp.ike.v1.vendor import Abilities
from espudp.wire.ikev1.constants import ExchangeType
from espudp.wire.ikev1.payloads import Identification, KeyExchange, Nonce, Payload


class SaSent(Waiting):
    """The first message is out."""

    def __init__(self, attempt: Attempt, now: float) -> None:
        super().__init__(attempt, attempt.turn(), attempt.path)
        self.turn.say(attempt.message([attempt.sa, *attempt.vendor_ids()]), attempt.path, now, awaits=True)

    def receive(self, datagram: Datagram, now: float) -> None:
        message = self.attempt.read(datagram, None)
        choice = None if message is None else self.attempt.choice(message)
        if message is not None and choice is not None:
            self.follow(KeySent(self.attempt, choice, self.attempt.abilities(message), datagram, now))


class KeySent(Waiting):
    """The peer has chosen, and is to send its public value."""

    def __init__(
        self, attempt: Attempt, choice: Choice, abilities: Abilities, answered: Datagram, now: float
    ) -> None:
        super().__init__(attempt, attempt.turn(abilities), attempt.path)
        self._choice = choice
        self._abilities = abilities
        self._cookie_r = answered.header.cookie_r
        self._pair: KeyPair = generate(choice.terms.suite.dh, attempt.hub.rng)
        payloads: list[Payload] = [KeyExchange(self._pair.public), Nonce(attempt.nonce)]
        if attempt.way.responder_signs:
            payloads += requests([attempt.config.demand])
        if abilities.flavour is not None:
            sight = attempt.sight(choice, self._cookie_r)
            payloads += sight.payloads(abilities.flavour, attempt.path, claim=attempt.claims_nat)
        octets = attempt.message(payloads, self._cookie_r)
        self.turn.say(octets, attempt.path, now, answers=answered, awaits=True)

    def receive(self, datagram: Datagram, now: float) -> None:
        if self.turn.repeats(datagram, self.path):
            return
        message = self.attempt.read(datagram, self._cookie_r)
        if message is None:
            return
        attempt, choice = self.attempt, self._choice
        material = attempt.material(message, choice, self._pair, self._cookie_r)
        if material is None:
            return
        abilities = self._abilities.also(message, fragments=attempt.ikev1.fragments)
        nat = attempt.nat(attempt.sight(choice, self._cookie_r), abilities, message)
        trouble = attempt.no_way(abilities, nat)
        if trouble is not None:
            attempt.doubt(failed(trouble))
            return
        try:
            sa = attempt.isakmp_sa(material, abilities)
            following = ProofSent(attempt, choice, material, sa, nat, datagram, now)
        except (PeerError, CryptoError) as error:
            attempt.end(failed(error), now)
        else:
            self.follow(following)


class ProofSent(Waiting):
    """We have said who we are, and the peer is to."""

    def __init__(
        self,
        attempt: Attempt,
        choice: Choice,
        material: Material,
        sa: IsakmpSa,
        nat: NatStatus,
        answered: Datagram,
        now: float,
    ) -> None:
        """Raises PeerError, CryptoError."""
        super().__init__(attempt, Turn(sa, attempt.config.timers), attempt.where(sa.abilities, nat))
        self._choice = choice
        self._material = material
        self._sa = sa
        self._nat = nat
        who = identification(attempt.config.local_identity)
        octets = sa.phase_1.seal(ExchangeType.MAIN, [who, *attempt.proof(material, sa)])
        self.turn.say(octets, self.path, now, answers=answered, awaits=True)

    def receive(self, datagram: Datagram, now: float) -> None:
        header, hub = datagram.header, self.attempt.hub
        if self.turn.repeats(datagram, self.path):
            return
        if not self._sa.cookies.fit(header):
            hub.drop(Drop.WRONG_SPI)
        elif not header.encrypted:
            if self.attempt.read(datagram, self._sa.cookie_r) is not None:
                hub.drop(Drop.UNPROTECTED)
        elif header.exchange == ExchangeType.INFORMATIONAL and header.message_id:
            self._refused(datagram)
        elif header.exchange != ExchangeType.MAIN or header.message_id:
            hub.drop(Drop.WRONG_EXCHANGE)
        else:
            self._proved(datagram, now)

    def _proved(self, datagram: Datagram, now: float) -> None:
        attempt = self.attempt
        message = self._sa.phase_1.open(datagram)
        who = None if message is None else message.get(Identification)
        if message is None or who is None:
            attempt.doubt(self._not_understood())
            return
        try:
            identity = attempt.judge(self._material, self._sa, who, message)
            turn = Turn(self._sa, attempt.config.timers)
            phase1 = attempt.phase1(self._choice, self._material, self._sa, turn, self._nat, identity)
        except PeerError as error:
            attempt.hub.common.count_refusal(error)
            if isinstance(error, AuthenticationFailed):
                # Anybody on the way could have made it from what was sent.
                attempt.doubt(failed(error))
            else:
                attempt.end(failed(error), now)
            return
        self._sa.phase_1.advance(datagram)
        conclude(attempt.hub, phase1, now)

    def _refused(self, datagram: Datagram) -> None:
        """Who has another PSK says so in a message that we cannot read, as it cannot ours."""
        message = self._sa.chain(datagram.header.message_id).open_hashed(datagram)
        if message is None:
            self.attempt.doubt(self._not_understood())
        else:
            self.attempt.rumour(message)

    def _not_understood(self) -> Farewell:
        remedy = "Put the same PSK on both sides." if self.attempt.way.psk else ""
        return Farewell(Fault.AUTHENTICATION, "the peer's answer cannot be decrypted", remedy)

    def unanswered(self) -> Farewell:
        remote = self.path.remote
        what = "the PSK and the identities are the same on both sides"
        if not self.attempt.way.psk:
            what = "the peer trusts our certificate"
        return Farewell(
            Fault.TIMEOUT,
            f"{remote} does not answer our proof of who we are",
            f"Check that {what}, and that UDP port {remote.port} is open on the way.",
            retry=True,
        )
