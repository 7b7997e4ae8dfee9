"""Which names certificates prove, ours and a peer's, in either version of IKE."""

from collections.abc import Sequence

from espudp.crypto.signatures import PublicKey
from espudp.errors import AuthenticationFailed
from espudp.ike.credentials import Proof, SignKey, Trust, WallClock
from espudp.ike.identity import Identity


def vouched(
    trust: Trust,
    claimed: Identity,
    wanted: Identity | None,
    chain: Sequence[bytes],
    clock: WallClock,
    ocsp: Sequence[bytes] = (),
) -> tuple[Identity, PublicKey]:
    """Whom the certificates of a peer are good for, and the key that it has to have signed with.

    `wanted` is whom we mean to talk to, if we do: a certificate for that will do, whatever the peer calls
    itself. Raises AuthenticationFailed.
    """
    name = claimed if wanted is None or wanted.means(claimed) else wanted
    try:
        return name, trust.verify(chain, name.type, name.data, clock(), ocsp)
    except AuthenticationFailed as error:
        from espudp.crypto.certificate import Refusal

        if wanted is None or error.reason is not Refusal.NAME:
            raise
        raise _other_name(claimed, wanted, error) from None


def _other_name(claimed: Identity, wanted: Identity, error: AuthenticationFailed) -> AuthenticationFailed:
    """Of a certificate that is not for whom we mean to talk to."""
    text, name = str(error), "NAME"
    if not wanted.means(claimed):
        text, name = f"the peer calls itself {claimed}, and its certificate is not for {wanted}", str(claimed)
    remedy = f"If it is the right peer, name it as its certificate does: --remote-id {name}"
    return AuthenticationFailed(text, remedy=remedy, reason=error.reason)


def is_certified(identity: Identity, proof: Proof) -> bool:
    """Whether our certificate is for this identity, so that it can be ours for a peer that wants it."""
    return isinstance(proof, SignKey) and bool(proof.certificates) and is_for(proof.certificates[0], identity)


def is_for(certificate: bytes, identity: Identity) -> bool:
    """Whether a certificate, in DER, has this name in it. Nothing is verified, and nothing raised."""
    # Loaded by those alone who have one: it takes some megabytes.
    from espudp.crypto.x509 import names_of, same_name

    try:
        names = names_of(certificate)
    except AuthenticationFailed:
        return False
    return any(same_name(name, (identity.type, identity.data)) for name in names)
