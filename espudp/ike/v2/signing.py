"""AUTH payloads that are signatures: method 14 (RFC 7427, RFC 8420), and 1, 9, 10 and 11 for older peers."""

from collections.abc import Iterable, Sequence

from espudp.crypto.signatures import (
    ECDSA_RAW,
    RSA,
    RSA_PKCS1,
    RSA_SHA1,
    SUPPORTED_HASHES,
    PublicKey,
    Scheme,
    scheme_of,
)
from espudp.errors import AuthenticationFailed
from espudp.ike.credentials import SignKey
from espudp.wire.ikev2.constants import AuthMethod, NotifyType, name_of_auth_method
from espudp.wire.ikev2.message import Message
from espudp.wire.ikev2.payloads import Authentication, Notify

# RFC 4754 section 1: one method for each curve.
_ECDSA_METHODS = {
    "P-256": AuthMethod.ECDSA_SHA256_P256,
    "P-384": AuthMethod.ECDSA_SHA384_P384,
    "P-521": AuthMethod.ECDSA_SHA512_P521,
}
_CURVES = {method: curve for curve, method in _ECDSA_METHODS.items()}


# RFC 7427 section 4: which hashes each side can verify, two octets each, said in IKE_SA_INIT.


def hashes_notify() -> Notify:
    """What we announce."""
    data = b"".join(hash_.to_bytes(2) for hash_ in SUPPORTED_HASHES)
    return Notify.of(NotifyType.SIGNATURE_HASH_ALGORITHMS, data)


def announced(message: Message) -> frozenset[int]:
    """What the peer has announced; nothing, if it does not know RFC 7427."""
    notify = message.notify(NotifyType.SIGNATURE_HASH_ALGORITHMS)
    data = b"" if notify is None else notify.data
    return frozenset(int.from_bytes(data[i : i + 2]) for i in range(0, len(data) - 1, 2))


def sign(proof: SignKey, octets: bytes, hashes: frozenset[int]) -> Authentication:
    """AUTH for a peer that has announced `hashes`. Raises AuthenticationFailed, CryptoError."""
    key = proof.private_key
    schemes = key.schemes(hashes, pss=proof.pss)
    if schemes:
        scheme = schemes[0]
        # RFC 7427 section 3: the length of the AlgorithmIdentifier, itself, the signature
        head = bytes([len(scheme.identifier)]) + scheme.identifier
        return Authentication(AuthMethod.DIGITAL_SIGNATURE, head + key.sign(scheme, octets))
    if key.public.kind == RSA:
        scheme = RSA_SHA1 if proof.sha1 else RSA_PKCS1[0]
        return Authentication(AuthMethod.RSA_SIGNATURE, key.sign(scheme, octets))
    if key.public.curve:
        method = _ECDSA_METHODS[key.public.curve]
        return Authentication(method, key.sign(ECDSA_RAW[key.public.curve], octets))
    raise AuthenticationFailed(
        f"the peer does not understand signatures of our key, {key.public.name}",
        remedy="Use a key that it does: RSA of 3,072 bits, or ECDSA P-256.",
    )


def check(key: PublicKey, auth: Authentication, octets: bytes, *, sha1: bool = False) -> None:
    """Raises AuthenticationFailed unless AUTH is a signature of `octets` by `key`, and a strong one.

    `sha1`: RSA with SHA-1 will do, from peers that know no other method than 1.
    """
    schemes, signature = _read(auth, sha1=sha1)
    fitting = [scheme for scheme in schemes if scheme.kind == key.kind]
    if not fitting:
        raise AuthenticationFailed(
            f"the peer's signature is {schemes[0].name}, and its key is {key.name}",
            remedy="The peer's certificate and its private key do not belong together.",
        )
    if not any(key.verify(scheme, signature, octets) for scheme in fitting):
        raise AuthenticationFailed(
            f"the peer's signature ({_names(fitting)}) is not of its key, {key.name}",
            remedy=_remedy(auth),
        )


def _read(auth: Authentication, *, sha1: bool) -> tuple[Sequence[Scheme], bytes]:
    """The schemes that AUTH may be of, never none, and the signature."""
    if auth.method == AuthMethod.DIGITAL_SIGNATURE:
        end = 1 + (auth.data[0] if auth.data else 0)
        scheme = scheme_of(auth.data[1:end])
        if scheme is None:
            raise AuthenticationFailed(
                f"the peer signs with an algorithm that is not taken here ({auth.data[1:end][:40].hex()})",
                remedy="Let it sign with SHA-256 or better: SHA-1 and MD5 are refused.",
            )
        return [scheme], auth.data[end:]
    if auth.method == AuthMethod.RSA_SIGNATURE:
        return [*RSA_PKCS1, *([RSA_SHA1] if sha1 else [])], auth.data
    if auth.method in _CURVES:
        return [ECDSA_RAW[_CURVES[AuthMethod(auth.method)]]], auth.data
    raise AuthenticationFailed(
        f"the peer proves itself by {name_of_auth_method(auth.method)}, and not by a signature",
        remedy="Configure both sides for the same way to authenticate.",
    )


def _names(schemes: Iterable[Scheme]) -> str:
    return " or ".join(scheme.name for scheme in schemes)


def _remedy(auth: Authentication) -> str:
    if auth.method == AuthMethod.RSA_SIGNATURE:
        return (
            "An old peer may sign with SHA-1, which is refused: give it a newer version, or allow that here "
            "with --allow-sha1."
        )
    return (
        "The peer's private key is not that of its certificate, or somebody has changed messages on the way."
    )
