"""Aggressive mode, the side that calls (RFC 2409 section 5, RFC 3947 section 4).

AggressiveSent --2--> Established

    HDR, SA, KE, Ni, ID, VID                -->
                                            <--  HDR, SA, KE, Nr, ID, HASH or CERT, SIG, VID, NAT-D, NAT-D
    HDR*, NAT-D, NAT-D, HASH or CERT, SIG   -->                    on port 4500, if there is a NAT

The identities travel in the clear, and whoever is asked shows a hash of the PSK to anybody: a weak one can be
guessed from it, by trying at home. See the security considerations of RFC 3947.
"""

from espudp.crypto.dh import KeyPair, generate
from espudp.errors import AuthenticationFailed, CryptoError, PeerError
from espudp.ike.drop import Drop
from espudp.ike.v1.attempt import Attempt, Waiting, failed
from espudp.ike.v1.conclusion import conclude
from espudp.ike.v1.exchange import Turn
from espudp.ike.v1.hub import Datagram
from espudp.ike.v1.phase1 import Phase1
from espudp.ike.v1.phase1_proposals import Choice
from espudp.ike.v1.proof import Material, identification, requests
from espudp.ike.v1.sa import IsakmpSa
from espudp.wire.ikev1.constants import ExchangeType
from espudp.wire.ikev1.payloads import Identification, KeyExchange, Nonce, Payload


class AggressiveSent(Waiting):
    """The first message is out, with all that we have but the proof."""

    def __init__(self, attempt: Attempt, now: float) -> None:
        super().__init__(attempt, attempt.turn(), attempt.path)
        self._pair: KeyPair = generate(attempt.suites[0].dh, attempt.hub.rng)
        payloads: list[Payload] = [attempt.sa, KeyExchange(self._pair.public), Nonce(attempt.nonce)]
        payloads.append(identification(attempt.config.local_identity))
        if attempt.way.responder_signs:
            payloads += requests([attempt.config.demand])
        octets = attempt.message([*payloads, *attempt.vendor_ids()])
        self.turn.say(octets, attempt.path, now, awaits=True)

    def receive(self, datagram: Datagram, now: float) -> None:
        attempt = self.attempt
        message = attempt.read(datagram, None)
        choice = None if message is None else attempt.choice(message)
        if message is None or choice is None:
            return
        who = message.get(Identification)
        if who is None:
            attempt.hub.drop(Drop.BAD_PAYLOADS)
            return
        material = attempt.material(message, choice, self._pair, datagram.header.cookie_r)
        if material is None:
            return
        abilities = attempt.abilities(message)
        try:
            sa = attempt.isakmp_sa(material, abilities)
            identity = attempt.judge(material, sa, who, message)
            turn = Turn(sa, attempt.config.timers)
            nat = attempt.nat(attempt.sight(choice, sa.cookie_r), abilities, message)
            phase1 = attempt.phase1(choice, material, sa, turn, nat, identity)
            octets = self._proof(choice, material, sa, phase1)
        except (PeerError, CryptoError) as error:
            self._failed(error, now)
            return
        turn.say(octets, phase1.path, now, answers=datagram)
        conclude(attempt.hub, phase1, now)

    def _failed(self, error: PeerError | CryptoError, now: float) -> None:
        if isinstance(error, AuthenticationFailed):
            # Anybody who has seen our message could have sent this.
            self.attempt.hub.common.count_refusal(error)
            self.attempt.doubt(failed(error))
        else:
            self.attempt.end(failed(error), now)

    def _proof(self, choice: Choice, material: Material, sa: IsakmpSa, phase1: Phase1) -> bytes:
        """The third message. Raises PeerError, CryptoError."""
        attempt, flavour = self.attempt, sa.abilities.flavour
        sight = attempt.sight(choice, sa.cookie_r)
        seen: list[Payload] = []
        if flavour is not None:
            seen += sight.payloads(flavour, phase1.path, claim=attempt.claims_nat)
        return sa.phase_1.seal(ExchangeType.AGGRESSIVE, [*seen, *attempt.proof(material, sa)])
