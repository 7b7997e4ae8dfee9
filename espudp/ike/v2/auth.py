"""What the two sides prove to each other with a pre-shared key (RFC 7296 section 2.15)."""

from espudp.crypto.auth import equal, psk_auth
from espudp.crypto.prf import prf
from espudp.crypto.suites import Prf
from espudp.ike.identity import Identity
from espudp.wire.ikev2.constants import AuthMethod
from espudp.wire.ikev2.payloads import Authentication

# RFC 7296 section 3.5: ID type, three reserved octets, then the identity.
_ID_RESERVED = bytes(3)


def signed_octets(p: Prf, message: bytes, nonce: bytes, sk_p: bytes, identity: Identity) -> bytes:
    """One side signs its own IKE_SA_INIT message, the other's nonce, and its identity under its SK_p."""
    id_body = bytes([identity.type]) + _ID_RESERVED + identity.data
    return message + nonce + prf(p, sk_p, id_body)


def prove(p: Prf, psk: bytes, octets: bytes) -> Authentication:
    """The AUTH payload of who knows the PSK."""
    return Authentication(AuthMethod.SHARED_KEY, psk_auth(p, psk, octets))


def verify(p: Prf, psk: bytes, octets: bytes, claimed: Authentication) -> bool:
    """Whether the peer knows the PSK. The time taken does not depend on how near it came."""
    expected = psk_auth(p, psk, octets)
    return equal(expected, claimed.data) and claimed.method == AuthMethod.SHARED_KEY
