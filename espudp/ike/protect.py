"""The Encrypted payload (RFC 7296 section 3.14, RFC 5282): what an IKE SA sends, and what it accepts; whole
and in fragments (RFC 7383 section 2.5).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Self

from espudp.crypto.aead import make_opener, make_sealer
from espudp.crypto.ikekeys import IkeKeys, IkeSuite
from espudp.crypto.random import Rng
from espudp.errors import WireError
from espudp.wire.buffer import Buffer
from espudp.wire.ikev2.header import HEADER_OCTETS, Header
from espudp.wire.ikev2.message import (
    SK_HEADER_OCTETS,
    SKF_HEADER_OCTETS,
    emit_payloads,
    fragment_aad,
    parse_payloads,
    protected_aad,
)
from espudp.wire.ikev2.payloads import Payload, Protected


@dataclass(frozen=True, slots=True)
class Content:
    """What goes into an Encrypted payload, or comes together out of fragments: a chain of payloads."""

    first_payload: int
    data: bytes = field(repr=False)

    @classmethod
    def of(cls, payloads: Sequence[Payload]) -> Self:
        return cls(*emit_payloads(payloads))

    def payloads(self) -> tuple[Payload, ...]:
        """Raises WireError: then the peer that holds the keys has sent nonsense."""
        return parse_payloads(self.first_payload, self.data, outer=1)


@dataclass(frozen=True, slots=True)
class Opened:
    """The authentic inside of a message or of one fragment, not yet parsed."""

    first_payload: int
    data: bytes = field(repr=False)

    def content(self) -> Content:
        """Raises WireError for padding that cannot be."""
        return Content(self.first_payload, _without_padding(self.data))

    def payloads(self) -> tuple[Payload, ...]:
        """Raises WireError: then the peer that holds the keys has sent nonsense."""
        return self.content().payloads()


class Protection:
    """Seals and opens the messages of one IKE SA. `is_initiator`: we are its original initiator."""

    __slots__ = ("_block", "_counter", "_encr", "_integ", "_ours", "_overhead", "_rng", "_theirs")

    def __init__(self, suite: IkeSuite, keys: IkeKeys, rng: Rng, *, is_initiator: bool) -> None:
        self._ours, self._theirs = keys.initiator, keys.responder
        if not is_initiator:
            self._ours, self._theirs = self._theirs, self._ours
        self._encr, self._integ, self._rng = suite.encr, suite.integ, rng
        # RFC 5282 section 3: an AEAD needs no padding; the alignment in its row is that of ESP.
        self._block = 1 if suite.encr.is_aead else suite.encr.block_octets
        icv_octets = suite.encr.icv_octets if suite.integ is None else suite.integ.icv_octets
        self._overhead = suite.encr.iv_octets + icv_octets
        self._counter = 0

    def seal(self, header: Header, payloads: Sequence[Payload]) -> bytes:
        """The whole datagram. No two messages of an SA have the same IV (RFC 5282 section 3.1)."""
        return self.seal_whole(header, Content.of(payloads))

    def seal_whole(self, header: Header, content: Content) -> bytes:
        """As `seal`."""
        return self._seal(partial(protected_aad, header, content.first_payload), content.data)

    def octets_of_whole(self, content: Content) -> int:
        """How long the message would be that `seal_whole` makes."""
        padded = len(content.data) + 1 + self._padding(len(content.data))
        return HEADER_OCTETS + SK_HEADER_OCTETS + self._overhead + padded

    def seal_fragments(self, header: Header, content: Content, octets: int) -> list[bytes]:
        """As messages of at most `octets`, each sealed by itself. Below a hundred there is no room."""
        room = octets - HEADER_OCTETS - SKF_HEADER_OCTETS - self._overhead
        chunk = room - room % self._block - 1
        parts = [content.data[at : at + chunk] for at in range(0, len(content.data), chunk)]
        return [
            self._seal(partial(fragment_aad, header, content.first_payload, number, len(parts)), part)
            for number, part in enumerate(parts, 1)
        ]

    def _padding(self, octets: int) -> int:
        return -(octets + 1) % self._block

    def _seal(self, aad_of: Callable[[int], bytes], data: bytes) -> bytes:
        padding = self._padding(len(data))
        plaintext = data + bytes(padding) + bytes([padding])
        # Made for each message: kept, the key schedules are more memory than all else of an idle IKE SA.
        sealer = make_sealer(self._encr, self._integ, self._ours, self._rng)
        aad = aad_of(sealer.iv_octets + len(plaintext) + sealer.icv_octets)
        self._counter += 1
        return aad + sealer.seal(self._counter, aad, plaintext)

    def open(self, data: Buffer, encrypted: Protected) -> Opened | None:
        """`encrypted` is the last payload of the datagram `data`. None: not authentic."""
        covered = memoryview(data)[: len(data) - len(encrypted.body)]
        plaintext = make_opener(self._encr, self._integ, self._theirs).open(covered, encrypted.body)
        return None if plaintext is None else Opened(encrypted.first_payload, plaintext)


def _without_padding(plaintext: bytes) -> bytes:
    # RFC 7296 section 3.14: the last octet is the length of the padding in front of it; its content is
    # ignored.
    if not plaintext or plaintext[-1] >= len(plaintext):
        raise WireError("padding longer than what it pads")
    return plaintext[: -1 - plaintext[-1]]
