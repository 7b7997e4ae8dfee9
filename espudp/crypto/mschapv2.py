"""MS-CHAPv2 (RFC 2759) and the keys that come from it (RFC 3079): what Windows, iOS and Android log in with.

MD4 and DES are what it is made of; `cryptography` has no MD4, so both come from pycryptodome. A response can
be tried against the whole of DES in a day: it belongs inside a tunnel whose gateway has proven itself.
"""

from cryptography.hazmat.primitives.hashes import SHA1, Hash

from espudp.crypto.failures import failing_as
from espudp.errors import CryptoError

CHALLENGE_OCTETS = 16
NT_HASH_OCTETS = 16
NT_RESPONSE_OCTETS = 24
# EAP method keys are 64 octets; 32 of these are zero here (draft-kamath-pppext-eap-mschapv2 section 1.1)
MSK_OCTETS = 64

# RFC 2759 section 8.7
_SERVER_SIGNING = b"Magic server to client signing constant"
_PAD_TO_ITERATE = b"Pad to make it do more than one iteration"

# RFC 3079 section 3.4
_MASTER_KEY = b"This is the MPPE Master Key"
_CLIENT_SENDS = b"On the client side, this is the send key; on the server side, it is the receive key."
_CLIENT_RECEIVES = b"On the client side, this is the receive key; on the server side, it is the send key."
_PAD_1 = bytes(40)
_PAD_2 = b"\xf2" * 40
_KEY_OCTETS = 16


def nt_hash(password: str) -> bytes:
    """NtPasswordHash: MD4 over the password in UTF-16, 16 octets (RFC 2759 section 8.3). As good as it."""
    return _md4(password.encode("utf-16-le", "surrogatepass"))


def nt_response(hash_: bytes, authenticator: bytes, peer: bytes, user: bytes) -> bytes:
    """GenerateNTResponse, 24 octets (RFC 2759 section 8.1). `hash_` is the NT hash, `authenticator` and
    `peer` are the challenges, `user` is the name with or without a domain."""
    challenge = _challenge_hash(authenticator, peer, user)
    # RFC 2759 section 8.5: the hash, filled up with zeros, is three DES keys of 7 octets
    padded = hash_.ljust(21, b"\x00")
    return b"".join(_des(padded[at : at + 7], challenge) for at in (0, 7, 14))


def authenticator_response(
    hash_: bytes, response: bytes, authenticator: bytes, peer: bytes, user: bytes
) -> bytes:
    """GenerateAuthenticatorResponse as it is sent: `S=` and 40 hex digits (RFC 2759 section 8.7)."""
    digest = _sha1(_md4(hash_), response, _SERVER_SIGNING)
    digest = _sha1(digest, _challenge_hash(authenticator, peer, user), _PAD_TO_ITERATE)
    return b"S=" + digest.hex().upper().encode()


def master_key(hash_: bytes, response: bytes) -> bytes:
    """GetMasterKey, 16 octets (RFC 3079 section 3.4)."""
    return _sha1(_md4(hash_), response, _MASTER_KEY)[:_KEY_OCTETS]


def msk(hash_: bytes, response: bytes) -> bytes:
    """The MSK, 64 octets and the same on both sides: what the authenticator receives with, what it sends
    with, and zeros (draft-kamath-pppext-eap-mschapv2 section 1.1, RFC 3079 section 3.4)."""
    master = master_key(hash_, response)
    keys = (_start_key(master, direction) for direction in (_CLIENT_SENDS, _CLIENT_RECEIVES))
    return b"".join(keys).ljust(MSK_OCTETS, b"\x00")


def without_domain(user: bytes) -> bytes:
    r"""The account's name: `user` of `DOMAIN\user` (RFC 2759 section 4)."""
    return user.rpartition(b"\\")[2]


def _start_key(master: bytes, direction: bytes) -> bytes:
    """GetAsymmetricStartKey (RFC 3079 section 3.4)."""
    return _sha1(master, _PAD_1, direction, _PAD_2)[:_KEY_OCTETS]


def _challenge_hash(authenticator: bytes, peer: bytes, user: bytes) -> bytes:
    """ChallengeHash (RFC 2759 section 8.2)."""
    return _sha1(peer, authenticator, without_domain(user))[:8]


def _sha1(*parts: bytes) -> bytes:
    with failing_as("SHA-1 failed"):
        digest = Hash(SHA1())
        for part in parts:
            digest.update(part)
        return digest.finalize()


def _md4(data: bytes) -> bytes:
    from Crypto.Hash import MD4  # loaded where it is used: most have no use for it

    return MD4.new(data).digest()


def _des(key: bytes, block: bytes) -> bytes:
    """DesEncrypt (RFC 2759 section 8.6) of one block of 8 octets with a key of 7."""
    from Crypto.Cipher import DES

    bits = int.from_bytes(key, "big")
    # Each octet of a DES key is seven bits of key and one of parity, which nobody looks at
    spread = bytes((bits >> (49 - 7 * index) & 0x7F) << 1 for index in range(8))
    try:
        return DES.new(spread, DES.MODE_ECB).encrypt(block)
    except ValueError as error:
        raise CryptoError("DES failed") from error
