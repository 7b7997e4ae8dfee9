"""The Encrypted payload (RFC 7296 section 3.14, RFC 5282): what an IKE SA sends, and what it accepts."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from espudp.crypto.aead import make_opener, make_sealer
from espudp.crypto.ikekeys import IkeKeys, IkeSuite
from espudp.crypto.random import Rng
from espudp.errors import WireError
from espudp.wire.buffer import Buffer
from espudp.wire.ikev2.header import Header
from espudp.wire.ikev2.message import emit_payloads, parse_payloads, protected_aad
from espudp.wire.ikev2.payloads import Encrypted, Payload


@dataclass(frozen=True, slots=True)
class Opened:
    """The authentic inside of a message, not yet parsed."""

    first_payload: int
    data: bytes

    def payloads(self) -> tuple[Payload, ...]:
        """Raises WireError: then the peer that holds the keys has sent nonsense."""
        return parse_payloads(self.first_payload, _without_padding(self.data), outer=1)


class Protection:
    """Seals and opens the messages of one IKE SA. `is_initiator`: we are its original initiator."""

    def __init__(self, suite: IkeSuite, keys: IkeKeys, rng: Rng, *, is_initiator: bool) -> None:
        ours, theirs = (keys.initiator, keys.responder) if is_initiator else (keys.responder, keys.initiator)
        # Made for each message: kept, the key schedules are more memory than all else of an idle IKE SA.
        self._make_sealer = partial(make_sealer, suite.encr, suite.integ, ours, rng)
        self._make_opener = partial(make_opener, suite.encr, suite.integ, theirs)
        # RFC 5282 section 3: an AEAD needs no padding; the alignment in its row is that of ESP.
        self._block = 1 if suite.encr.is_aead else suite.encr.block_octets
        self._counter = 0

    def seal(self, header: Header, payloads: Sequence[Payload]) -> bytes:
        """The whole datagram. No two messages of an SA have the same IV (RFC 5282 section 3.1)."""
        first, inner = emit_payloads(payloads)
        padding = -(len(inner) + 1) % self._block
        plaintext = inner + bytes(padding) + bytes([padding])
        sealer = self._make_sealer()
        body_octets = sealer.iv_octets + len(plaintext) + sealer.icv_octets
        aad = protected_aad(header, first, body_octets)
        self._counter += 1
        return aad + sealer.seal(self._counter, aad, plaintext)

    def open(self, data: Buffer, encrypted: Encrypted) -> Opened | None:
        """`encrypted` is the last payload of the datagram `data`. None: not authentic."""
        covered = memoryview(data)[: len(data) - len(encrypted.body)]
        plaintext = self._make_opener().open(covered, encrypted.body)
        return None if plaintext is None else Opened(encrypted.first_payload, plaintext)


def _without_padding(plaintext: bytes) -> bytes:
    # RFC 7296 section 3.14: the last octet is the length of the padding in front of it; its content is
    # ignored.
    if not plaintext or plaintext[-1] >= len(plaintext):
        raise WireError("padding longer than what it pads")
    return plaintext[: -1 - plaintext[-1]]
