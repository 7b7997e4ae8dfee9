"""What IKE_SA_INIT leaves for IKE_AUTH, and what of it each side signs (RFC 7296 section 2.15)."""

from dataclasses import dataclass, field

from espudp.crypto.auth import psk_auth
from espudp.crypto.ikekeys import IkeKeys
from espudp.crypto.prf import prf
from espudp.crypto.suites import Prf
from espudp.ike.events import NatStatus
from espudp.ike.identity import Identity

# RFC 7296 section 3.5: ID type, three reserved octets, then the identity.
_ID_RESERVED = bytes(3)


@dataclass(frozen=True, slots=True)
class Ground:
    """What one side's proof is about: its own IKE_SA_INIT message, the other's nonce, its SK_p."""

    prf: Prf
    message: bytes
    nonce: bytes
    sk_p: bytes = field(repr=False)

    def octets(self, identity: Identity) -> bytes:
        """What the side signs under this identity."""
        id_body = bytes([identity.type]) + _ID_RESERVED + identity.data
        return self.message + self.nonce + prf(self.prf, self.sk_p, id_body)

    def mac(self, identity: Identity, key: bytes) -> bytes:
        """What only those two can make who share `key`, or, with SK_p, those two of IKE_SA_INIT."""
        return psk_auth(self.prf, key, self.octets(identity))

    def resumed(self, identity: Identity) -> bytes:
        """What proves that a session goes on (RFC 5723 section 4.3.3)."""
        return prf(self.prf, self.sk_p, self.octets(identity))


@dataclass(frozen=True, slots=True)
class Initial:
    """What IKE_SA_INIT leaves for IKE_AUTH: both messages as they went over the wire, nonces, keys."""

    request: bytes
    response: bytes
    nonce_i: bytes
    nonce_r: bytes
    keys: IkeKeys = field(repr=False)
    nat: NatStatus
    hashes: frozenset[int] = frozenset()
    """What the peer's signatures may be made of, as it announced (RFC 7427 section 4)."""

    ambiguous: bool = False
    """The response may be to an earlier version of the request than the one that we sign."""

    claims_nat: bool = False
    """As initiator: the peer was made to believe in a NAT."""

    several: bool = False
    """The peer takes several proofs from one side (RFC 4739)."""

    childless: bool = False
    """The responder lets us authenticate without a child SA (RFC 6023)."""

    def initiator(self, p: Prf) -> Ground:
        """What the initiator signs."""
        return Ground(p, self.request, self.nonce_r, self.keys.pi)

    def responder(self, p: Prf) -> Ground:
        """What the responder signs."""
        return Ground(p, self.response, self.nonce_i, self.keys.pr)
