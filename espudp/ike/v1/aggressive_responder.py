"""Aggressive mode, the side that is called; what it looks like is in aggressive_initiator.py.

The first message already costs a key pair, before anything shows whose address it came from. So there are
only so many a second, and our answer is repeated only once if nobody asks. Whether a name is known here is
not told: a stranger's PSK is one that nobody has.
"""

from dataclasses import replace

from espudp.errors import CryptoError, PeerError, WireError
from espudp.ike.drop import Drop
from espudp.ike.identity import Identity
from espudp.ike.pad import PadEntry
from espudp.ike.v1.conclusion import conclude
from espudp.ike.v1.exchange import Turn
from espudp.ike.v1.hub import Datagram
from espudp.ike.v1.proof import Claim, Material, identification, identity_of, prove, requests
from espudp.ike.v1.reception import Reception, Visitor, psk_of
from espudp.ike.v1.sa import IsakmpSa
from espudp.wire.address import Path
from espudp.wire.ikev1.message import Message, parse_message
from espudp.wire.ikev1.payloads import (
    Identification,
    KeyExchange,
    Nonce,
    Payload,
    SecurityAssociation,
)

# What stands in for a PSK that does not exist.
_DUMMY_OCTETS = 32


def begin_aggressive(reception: Reception, message: Message, asked: Datagram, now: float) -> None:
    """`message` is the first one, in a datagram that is new."""
    hub = reception.hub
    ke, nonce, who = message.get(KeyExchange), message.get(Nonce), message.get(Identification)
    if ke is None or nonce is None or who is None:
        hub.drop(Drop.BAD_PAYLOADS)
        return
    if not hub.take_key_pair(reception.choice.terms.suite.dh, now):
        hub.drop(Drop.RATE)
        return
    entries = reception.entries(identity_of(who))
    if not entries and not reception.way.psk:
        reception.refuse(reception.stranger(identity_of(who)), asked.path, None, now)
        return
    try:
        material = reception.material(ke, nonce)
    except (PeerError, CryptoError):
        hub.drop(Drop.BAD_KEY_EXCHANGE)
        return
    entry = entries[0] if entries else None
    hub.admit(AwaitProof(reception, material, entry, who, asked, now), now)


class AwaitProof(Visitor):
    """We have said and proved all. The peer's proof is missing."""

    def __init__(
        self,
        reception: Reception,
        material: Material,
        entry: PadEntry | None,
        who: Identification,
        asked: Datagram,
        now: float,
    ) -> None:
        """`entry` None: nobody of that name is expected. Raises CryptoError."""
        timers = reception.config.timers
        self._material = material
        self._entry = entry
        self._who = who
        self._path = asked.path
        psk = reception.hub.nonce(_DUMMY_OCTETS) if entry is None else psk_of(entry)
        self._sa: IsakmpSa = reception.isakmp_sa(material, material.keys(psk))
        # The initiator takes itself for done once it has sent its proof, and does not repeat it unasked. We
        # ask again, but only once, and not at once: our message goes to whoever may be at that address.
        once = replace(timers, retransmit_initial=4 * timers.retransmit_initial, retransmit_tries=1)
        super().__init__(reception, Turn(self._sa, once), now + timers.half_open_timeout)
        self.turn.say(self._message(), asked.path, now, answers=asked, awaits=True)

    @property
    def path(self) -> Path:
        return self._path

    @property
    def _identity(self) -> Identity:
        return identity_of(self._who)

    def _message(self) -> bytes:
        reception, material = self.reception, self._material
        # A stranger is shown what others are shown who come this way.
        entry = self._entry or reception.entries()[0]
        ours = reception.config.by(entry).local_identity
        payloads: list[Payload] = [
            SecurityAssociation.of((reception.choice.answer,)),
            KeyExchange(material.transcript.ke_r),
            Nonce(material.nonce_r),
            identification(ours),
        ]
        payloads += prove(material, self._sa.keys, ours, entry.proof, initiator=False)
        if reception.way.initiator_signs:
            payloads += requests([entry.demand])
        return reception.message([*payloads, *reception.vendor_ids, *reception.nat_payloads(self._path)])

    def receive(self, datagram: Datagram, now: float) -> None:
        reception, header = self.reception, datagram.header
        if self.turn.repeats(datagram):
            return
        if reception.cookies.fit(header) and header.message_id and header.encrypted:
            # The peer goes on already: its proof got lost, and our message makes it repeat that.
            if datagram.path.remote.ip == reception.source.ip:
                self.turn.again(datagram.path)
            reception.hub.drop(Drop.WRONG_EXCHANGE)
            return
        if not reception.fits(datagram):
            return
        message = self._read(datagram)
        if message is None:
            return
        try:
            self._judge(message, datagram, now)
        except (PeerError, CryptoError) as error:
            self.refuse(error, datagram.path, None, now, cost=reception.proof_cost)

    def _read(self, datagram: Datagram) -> Message | None:
        """RFC 2409 section 5.4: it may come encrypted, or in the clear."""
        if datagram.header.encrypted:
            message = self._sa.phase_1.open(datagram)
            if message is None:
                self.refuse(self.reception.wrong_key(), datagram.path, None, datagram.at)
            return message
        try:
            return parse_message(datagram.data)
        except WireError:
            self.reception.hub.drop(Drop.MALFORMED)
            return None

    def _judge(self, message: Message, datagram: Datagram, now: float) -> None:
        """Raises PeerError, CryptoError."""
        reception, sa = self.reception, self._sa
        if self._entry is None:
            raise reception.stranger(self._identity)
        claim = Claim(self._material, sa.keys, self._who, message, by_initiator=True)
        met = reception.judge(claim, [self._entry])
        # The third message may come from another port already than the one that its hashes are of.
        nat = reception.nat(message, [datagram.path, self._path])
        turn = Turn(sa, reception.config.timers)
        phase1 = reception.phase1(self._material, sa, turn, datagram.path, nat, message, met)
        if not reception.hub.admission.hold(self.key, reception.source.ip):
            reception.hub.drop(Drop.HALF_OPEN)
            return
        if datagram.header.encrypted:
            sa.phase_1.advance(datagram)
        conclude(reception.hub, phase1, now)
