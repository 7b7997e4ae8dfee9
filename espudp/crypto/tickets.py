"""What only we can read and make: the tickets of session resumption (RFC 5723 section 6.1)."""

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from espudp.crypto.digest import cookie_mac
from espudp.crypto.failures import failing_as
from espudp.crypto.random import Rng, draw

_KEY_LABEL, _ID_LABEL = b"ticket key", b"ticket key identity"
_ID_OCTETS = 8
_NONCE_OCTETS = 12


class TicketBox:
    """Seals with AES-256-GCM, under a key of its own that is made of `secret`."""

    def __init__(self, secret: bytes) -> None:
        with failing_as("AES-GCM is not available here"):
            self._cipher = AESGCM(cookie_mac(secret, _KEY_LABEL))
        # RFC 5723 section 6.1: a key identity, so that keys can be changed
        self._id = cookie_mac(secret, _ID_LABEL)[:_ID_OCTETS]

    def seal(self, rng: Rng, content: bytes) -> bytes:
        """The ticket: 36 octets more than its content."""
        nonce = draw(rng, _NONCE_OCTETS)
        with failing_as("sealing a ticket failed"):
            return self._id + nonce + self._cipher.encrypt(nonce, content, self._id)

    def open(self, ticket: bytes) -> bytes | None:
        """The content; None: it is none of ours, or bent."""
        if ticket[:_ID_OCTETS] != self._id:
            return None
        nonce, sealed = ticket[_ID_OCTETS:][:_NONCE_OCTETS], ticket[_ID_OCTETS + _NONCE_OCTETS :]
        if len(nonce) < _NONCE_OCTETS:
            return None
        try:
            with failing_as("opening a ticket failed"):
                return self._cipher.decrypt(nonce, sealed, self._id)
        except InvalidTag:
            return None
