"""Messages in fragments, as Cisco and Microsoft have them ([MS-IKEE] section 3.3): cut up as they would have
gone out, header and all, and each part sent behind a header of its own.

Nothing authenticates a fragment. Whoever knows the cookies can spoil a message that arrives in parts, but
neither forge it nor make us keep more than one message of each peer.
"""

from dataclasses import replace
from typing import Final

from espudp.errors import WireError
from espudp.wire.buffer import Buffer
from espudp.wire.ikev1.header import HEADER_OCTETS, Header
from espudp.wire.ikev1.message import PAYLOAD_HEADER_OCTETS, emit_message
from espudp.wire.ikev1.payloads import Fragment

# [MS-IKEE] section 2.2.5: its id, its number, and the flag of the last one
FRAGMENT_OCTETS: Final = HEADER_OCTETS + PAYLOAD_HEADER_OCTETS + 4
# The number of a fragment is one octet, and begins at 1
MAX_FRAGMENTS: Final = 255

# Our bounds on what a peer that has proved nothing makes us keep, and for how many seconds. The longest
# chains of certificates stay below, and a peer repeats its message sooner.
MAX_MESSAGE_OCTETS: Final = 32 << 10
LIFETIME: Final = 15.0


def split(message: Buffer, exchange: int, fragment_id: int, max_octets: int) -> list[bytes]:
    """A message as datagrams of at most `max_octets` each: itself, if it fits.

    Like others we say `exchange`, phase 1's main or aggressive mode, and a message ID of 0 in front of every
    part, whatever the message is; receivers look at the message inside. `fragment_id` tells the messages of
    an SA from each other. Raises WireError for a message that would need more than 255 parts.
    """
    data = bytes(message)
    if len(data) <= max_octets:
        return [data]
    room = max_octets - FRAGMENT_OCTETS
    if room <= 0 or len(data) > room * MAX_FRAGMENTS:
        raise WireError(f"a message of {len(data)} octets in fragments of {max_octets}")
    header = replace(
        Header.parse(data), exchange=exchange, message_id=0, commit=False, authentication_only=False
    )
    parts = [data[at : at + room] for at in range(0, len(data), room)]
    return [
        emit_message(header, [Fragment(fragment_id, number, number == len(parts), part)])
        for number, part in enumerate(parts, 1)
    ]


class Reassembly:
    """The one message of a peer that is being put together. It belongs to a state of ours: fragments for
    which there is none are not kept (CVE-2013-6076)."""

    def __init__(self) -> None:
        self._id = 0
        self._parts: dict[int, bytes] = {}
        self._last = 0  # the number of the last part; 0: not there yet
        self._octets = 0
        self.until = 0.0
        """When what is kept counts no more: its other parts will not come."""

    @property
    def octets(self) -> int:
        """How much is kept."""
        return self._octets

    def add(self, fragment: Fragment, now: float) -> bytes | None:
        """The whole message once its last missing part is here; nothing is kept then.

        Some give every message the same id. So a part that contradicts the others, as one that comes too late
        for them, is the beginning of another message. Raises WireError where there would be more than
        MAX_MESSAGE_OCTETS.
        """
        if now >= self.until or self._contradicts(fragment):
            self.clear()
        if not self._parts:
            self._id, self.until = fragment.fragment_id, now + LIFETIME
        if fragment.number in self._parts:
            return None
        self._octets += len(fragment.data)
        if self._octets > MAX_MESSAGE_OCTETS:
            self.clear()
            raise WireError(f"a message in fragments of more than {MAX_MESSAGE_OCTETS} octets")
        self._parts[fragment.number] = fragment.data
        if fragment.is_last:
            self._last = fragment.number
        return self._whole() if len(self._parts) == self._last else None

    def _contradicts(self, fragment: Fragment) -> bool:
        number, known = fragment.number, self._parts.get(fragment.number)
        if not self._parts:
            return False
        if fragment.fragment_id != self._id or known not in (None, fragment.data):
            return True
        if fragment.is_last:
            return number < max(self._parts) or self._last not in (0, number)
        return bool(self._last) and number >= self._last

    def _whole(self) -> bytes:
        message = b"".join(self._parts[number] for number in range(1, self._last + 1))
        self.clear()
        return message

    def clear(self) -> None:
        """Forgets what is there."""
        self._parts, self._last, self._octets = {}, 0, 0
