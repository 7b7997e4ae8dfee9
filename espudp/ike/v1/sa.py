"""One keyed ISAKMP SA: its cookies, its keys, and the IVs of its exchanges (RFC 2409 appendix B).

    phase 1:  IV = hash(g^xi | g^xr), then the last block of each message
    later:    IV = hash(last block of phase 1 | message ID), then the last block of each message

What arrives does not move an IV before it has proved to be of the peer: octets that anybody can send must
not stand between two messages of an exchange.
"""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

from espudp.crypto.auth import equal
from espudp.crypto.ikev1keys import (
    Ikev1Keys,
    Ikev1Suite,
    decrypt,
    encrypt,
    exchange_iv,
    hash_1,
    last_block,
)
from espudp.errors import CryptoError, WireError
from espudp.ike.config import Timers
from espudp.ike.drop import Drop
from espudp.ike.v1.fragmenting import Fragmenting
from espudp.ike.v1.hub import Datagram, Hub, Key
from espudp.ike.v1.vendor import Abilities
from espudp.wire.address import Path
from espudp.wire.ikev1.constants import ExchangeType
from espudp.wire.ikev1.header import HEADER_OCTETS, Header
from espudp.wire.ikev1.message import Message, emit_encrypted, emit_payloads, open_message
from espudp.wire.ikev1.payloads import Hash, Payload

NEVER_HEARD = float("-inf")

_MESSAGE_ID_OCTETS = 4

# Our bound. A message ID that was used is not taken for a new exchange: its messages could be replayed. Two
# who ask each other every ten seconds whether they live use as many in three hours; before the oldest is
# forgotten, there should be another ISAKMP SA.
REMEMBERED_IDS = 4096
WORN_IDS = 3072


@dataclass(frozen=True, slots=True)
class Cookies:
    """The two cookies, and which of them is ours."""

    initiator: bytes
    responder: bytes
    is_initiator: bool

    @property
    def key(self) -> Key:
        """By which messages find the ISAKMP SA."""
        return self.is_initiator, self.initiator if self.is_initiator else self.responder

    def fit(self, header: Header) -> bool:
        """Whether a message names both."""
        return (header.cookie_i, header.cookie_r) == (self.initiator, self.responder)


class IsakmpSa:
    """What protects all exchanges after it has come into being in phase 1."""

    def __init__(
        self,
        hub: Hub,
        cookies: Cookies,
        suite: Ikev1Suite,
        keys: Ikev1Keys,
        iv: bytes,
        *,
        mode: ExchangeType,
        timers: Timers,
        abilities: Abilities,
    ) -> None:
        """`iv` is that of phase 1's first encrypted message, `mode` MAIN or AGGRESSIVE."""
        self.hub = hub
        self.cookies = cookies
        self.suite = suite
        self.keys = keys
        self.timers = timers
        self.abilities = abilities
        self.mode = mode
        self.phase_1 = Chain(self, 0, iv)
        self.heard_at = NEVER_HEARD
        """When the latest authentic message came."""
        self._used: OrderedDict[int, None] = OrderedDict()
        self._fragmenting = Fragmenting(hub, mode, abilities)

    @property
    def is_initiator(self) -> bool:
        """Of phase 1; any exchange after it may be either side's."""
        return self.cookies.is_initiator

    @property
    def cookie_i(self) -> bytes:
        return self.cookies.initiator

    @property
    def cookie_r(self) -> bytes:
        return self.cookies.responder

    @property
    def key(self) -> Key:
        return self.cookies.key

    # Exchanges

    def new_message_id(self) -> int:
        """Of an exchange that we begin: random, not zero, and not used (RFC 2408 section 3.1).

        Nothing in the first message of an exchange tells the two sides apart. One of ours that comes back to
        us is not taken for the peer's, since what begins with its message ID has begun already.
        """
        while True:
            message_id = int.from_bytes(self.hub.nonce(_MESSAGE_ID_OCTETS))
            if message_id and message_id not in self._used:
                self.use(message_id)
                return message_id

    def chain(self, message_id: int) -> "Chain":
        """A new exchange. To be asked for once phase 1 is over, and once for each."""
        return Chain(self, message_id, exchange_iv(self.suite, self.phase_1.iv, message_id))

    def is_used(self, message_id: int) -> bool:
        """Whether there has been an exchange with it already, of either side."""
        return message_id in self._used

    def use(self, message_id: int) -> None:
        """An authentic message had this message ID, or one of ours has."""
        self._used[message_id] = None
        if len(self._used) > REMEMBERED_IDS:
            self._used.popitem(last=False)

    @property
    def is_worn(self) -> bool:
        """So many message IDs have been used that it should be replaced."""
        return len(self._used) >= WORN_IDS

    # Sending

    def header(self, exchange: int, message_id: int, *, commit: bool = False) -> Header:
        """Of a message of ours."""
        return Header(self.cookie_i, self.cookie_r, 0, exchange, message_id, commit=commit)

    def fragmented(self, octets: bytes, path: Path) -> Sequence[bytes]:
        """The datagrams that a message goes out in: several, if it is large and the peer knows how."""
        return self._fragmenting.fragmented(octets, path)


class Chain:
    """The messages of one exchange, encrypted each with the end of the one before. Nothing is sealed twice:
    repetitions are of octets.
    """

    def __init__(self, sa: IsakmpSa, message_id: int, iv: bytes) -> None:
        self._sa = sa
        self.message_id = message_id
        self.iv = iv
        """Of the next message, whichever side's it is."""

    def seal(self, exchange: int, payloads: Sequence[Payload], *, commit: bool = False) -> bytes:
        """A whole message of ours, which counts from now on. Raises CryptoError."""
        first, chain = emit_payloads(payloads)
        suite, keys = self._sa.suite, self._sa.keys
        ciphertext = encrypt(suite.encr, keys.cipher, self.iv, chain)
        self.iv = last_block(suite.encr, ciphertext)
        return emit_encrypted(self._sa.header(exchange, self.message_id, commit=commit), first, ciphertext)

    def open(self, datagram: Datagram) -> Message | None:
        """What a message of the peer holds, if anything comes out. Changes nothing: it may be forged."""
        suite, keys = self._sa.suite, self._sa.keys
        try:
            plaintext = decrypt(suite.encr, keys.cipher, self.iv, datagram.data[HEADER_OCTETS:])
            return open_message(datagram.header, plaintext)
        except (CryptoError, WireError):
            self._sa.hub.drop(Drop.BAD_ICV)
            return None

    def advance(self, datagram: Datagram) -> None:
        """The message is authentic: the next one builds on it."""
        self.iv = last_block(self._sa.suite.encr, datagram.data)
        self._sa.heard_at = datagram.at
        self._sa.use(self.message_id)

    # Informational and transaction exchanges (RFC 2409 section 5.7)

    def seal_hashed(self, exchange: int, payloads: Sequence[Payload]) -> bytes:
        """As `seal`, with HASH(1) in front."""
        return self.seal(exchange, [Hash(self._hash(emit_payloads(payloads)[1])), *payloads])

    def open_hashed(self, datagram: Datagram) -> Message | None:
        """As `open`, and the message counts from now on; None: its HASH(1) is not right."""
        message = self.open(datagram)
        if message is None:
            return None
        proof = message.payloads[0] if message.payloads else None
        if not isinstance(proof, Hash) or not equal(proof.data, self._hash(message.after_hash)):
            self._sa.hub.drop(Drop.BAD_ICV)
            return None
        self.advance(datagram)
        return message

    def _hash(self, after_hash: bytes) -> bytes:
        return hash_1(self._sa.suite.hash, self._sa.keys.a, self.message_id, after_hash)
