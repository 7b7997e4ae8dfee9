"""Main mode, the side that is called; what it looks like is in main_initiator.py.

AwaitKey --3--> AwaitProof --5--> Established

What is kept after the first message is small, and cost no key pair; see admission.py.
"""

from dataclasses import dataclass
from itertools import islice

from espudp.errors import CryptoError, PeerError, WireError
from espudp.ike.drop import Drop
from espudp.ike.natd import NatStatus
from espudp.ike.pad import PadEntry
from espudp.ike.v1.conclusion import conclude
from espudp.ike.v1.exchange import Turn
from espudp.ike.v1.fragmenting import Fragmenting
from espudp.ike.v1.hub import Datagram
from espudp.ike.v1.proof import Claim, Material, identification, identity_of, prove, requests
from espudp.ike.v1.reception import CHEAP, DEAR, Reception, Visitor, psk_of
from espudp.ike.v1.sa import IsakmpSa
from espudp.ike.v1.vendor import Abilities
from espudp.wire.address import Path
from espudp.wire.ikev1.constants import ExchangeType
from espudp.wire.ikev1.message import Message, parse_message
from espudp.wire.ikev1.payloads import Identification, KeyExchange, Nonce, Payload, SecurityAssociation

# Our bound on how many keys are tried for one message of somebody whose name nobody knows yet. Together they
# cost about as much as one Diffie-Hellman exchange.
MAX_KEYS = 64
# How many of them count as much as one message that no key opens.
_KEYS_FOR_ONE = 8


class AwaitKey(Visitor):
    """We have chosen. Whether the peer is where it says is shown by our cookie in its next message."""

    def __init__(self, reception: Reception, asked: Datagram, now: float) -> None:
        timers = reception.config.timers
        turn = Turn(Fragmenting(reception.hub, reception.mode, Abilities()), timers)
        super().__init__(reception, turn, now + timers.half_open_timeout)
        self._path = asked.path
        answer = SecurityAssociation.of((reception.choice.answer,))
        octets = reception.message([answer, *reception.vendor_ids])
        turn.say(octets, asked.path, now, answers=asked)

    @property
    def path(self) -> Path:
        return self._path

    def receive(self, datagram: Datagram, now: float) -> None:
        reception, hub = self.reception, self.reception.hub
        if self.turn.repeats(datagram) or not reception.fits(datagram):
            return
        if datagram.header.encrypted:
            hub.drop(Drop.WRONG_EXCHANGE)
            return
        if datagram.path.remote.ip != reception.source.ip:
            # Our cookie shows nothing of an address that it was not sent to.
            hub.drop(Drop.ELSEWHERE)
            return
        try:
            message = parse_message(datagram.data)
        except WireError:
            hub.drop(Drop.MALFORMED)
            return
        ke, nonce = message.get(KeyExchange), message.get(Nonce)
        if ke is None or nonce is None:
            hub.drop(Drop.BAD_PAYLOADS)
        elif not hub.admission.hold(self.key, reception.source.ip):
            hub.drop(Drop.HALF_OPEN)
        elif reception.is_tired:
            hub.drop(Drop.RATE)
        else:
            self._exchange(message, ke, nonce, datagram, now)

    def _exchange(
        self, message: Message, ke: KeyExchange, nonce: Nonce, datagram: Datagram, now: float
    ) -> None:
        reception, hub = self.reception, self.reception.hub
        try:
            material = reception.material(ke, nonce)
        except (PeerError, CryptoError):
            hub.drop(Drop.BAD_KEY_EXCHANGE)
            reception.tire(DEAR)
            return
        reception.abilities = reception.abilities.also(message, fragments=reception.policy.fragments)
        nat = reception.nat(message, [datagram.path])
        hub.put(AwaitProof(reception, material, nat, datagram, self._until))


@dataclass(slots=True)
class _Try:
    """What a message may have been encrypted with: the PSK is the peer's choice, before it has a name."""

    sa: IsakmpSa
    message: Message
    who: Identification


class AwaitProof(Visitor):
    """The keys are there, or those that it may be. The peer is to say who it is."""

    def __init__(
        self, reception: Reception, material: Material, nat: NatStatus, asked: Datagram, until: float
    ) -> None:
        sender = Fragmenting(reception.hub, reception.mode, reception.abilities)
        turn = Turn(sender, reception.config.timers)
        super().__init__(reception, turn, until)
        self._material = material
        self._nat = nat
        self._path = asked.path
        entries = reception.entries()
        payloads: list[Payload] = [KeyExchange(material.transcript.ke_r), Nonce(material.nonce_r)]
        if reception.way.initiator_signs:
            payloads += requests([entry.demand for entry in entries])
        payloads += reception.nat_payloads(asked.path)
        turn.say(reception.message(payloads), asked.path, asked.at, answers=asked)
        psks = dict.fromkeys(psk_of(e) for e in entries) if reception.way.psk else {None: None}
        self._keys = tuple(islice(psks, MAX_KEYS))

    @property
    def path(self) -> Path:
        return self._path

    def receive(self, datagram: Datagram, now: float) -> None:
        reception = self.reception
        if self.turn.repeats(datagram) or not reception.fits(datagram):
            return
        if not datagram.header.encrypted:
            reception.hub.drop(Drop.UNPROTECTED)
            return
        found = self._open(datagram)
        if found is None:
            cost = max(CHEAP, len(self._keys) // _KEYS_FOR_ONE)
            self.refuse(reception.wrong_key(), datagram.path, None, now, cost=cost)
            return
        try:
            self._judge(found, datagram, now)
        except (PeerError, CryptoError) as error:
            self.refuse(error, datagram.path, found.sa, now, cost=reception.proof_cost)

    def _open(self, datagram: Datagram) -> _Try | None:
        """With the first of the keys under which the message makes sense."""
        for psk in self._keys:
            sa = self.reception.isakmp_sa(self._material, self._material.keys(psk))
            message = sa.phase_1.open(datagram)
            who = None if message is None else message.get(Identification)
            if message is None or who is None:
                continue
            found = _Try(sa, message, who)
            if not self.reception.way.psk or self._claim(found).holds:
                return found
        return None

    def _claim(self, found: _Try) -> Claim:
        return Claim(self._material, found.sa.keys, found.who, found.message, by_initiator=True)

    def _judge(self, found: _Try, datagram: Datagram, now: float) -> None:
        """Raises PeerError, CryptoError."""
        reception, sa = self.reception, found.sa
        # Whatever we answer builds on it, a refusal as well. If it is one, `sa` is not used again.
        sa.phase_1.advance(datagram)
        entries = self._entries(found)
        met = reception.judge(self._claim(found), entries)
        turn = Turn(sa, reception.config.timers)
        phase1 = reception.phase1(self._material, sa, turn, datagram.path, self._nat, found.message, met)
        ours = phase1.local_identity
        proof = prove(self._material, sa.keys, ours, met[0].proof, initiator=False)
        octets = sa.phase_1.seal(ExchangeType.MAIN, [identification(ours), *proof])
        turn.say(octets, datagram.path, now, answers=datagram)
        conclude(reception.hub, phase1, now)

    def _entries(self, found: _Try) -> list[PadEntry]:
        """Those for the name, with the very key that it has shown to know."""
        entries = self.reception.entries(identity_of(found.who))
        if not self.reception.way.psk:
            return entries
        keys = found.sa.keys
        return [e for e in entries if self._material.keys(psk_of(e)) == keys]
