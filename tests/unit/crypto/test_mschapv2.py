"""MS-CHAPv2 against the vectors of RFC 2759 section 9 and RFC 3079 section 3.5.3."""

from espudp.crypto import mschapv2 as ms
from espudp.crypto.chap import chap_md5

# RFC 2759 section 9.2
USER = b"User"
HASH = bytes.fromhex("44EBBA8D5312B8D611474411F56989AE")
AUTHENTICATOR = bytes.fromhex("5B5D7C7D7B3F2F3E3C2C602132262628")
PEER = bytes.fromhex("21402324255E262A28295F2B3A337C7E")
RESPONSE = bytes.fromhex("82309ECD8D708B5EA08FAA3981CD83544233114A3D85D6DF")


def test_the_hash_of_a_password() -> None:
    assert ms.nt_hash("clientPass") == HASH


def test_the_response_to_a_challenge() -> None:
    assert ms.nt_response(HASH, AUTHENTICATOR, PEER, USER) == RESPONSE


def test_a_domain_is_no_part_of_the_name() -> None:
    assert ms.nt_response(HASH, AUTHENTICATOR, PEER, b"CORP\\User") == RESPONSE
    assert ms.without_domain(b"CORP\\User") == ms.without_domain(USER) == USER


def test_the_proof_of_the_server() -> None:
    proof = ms.authenticator_response(HASH, RESPONSE, AUTHENTICATOR, PEER, USER)
    assert proof == b"S=407A5589115FD0D6209F510FE9C04566932CDA56"


def test_the_keys() -> None:
    assert ms.master_key(HASH, RESPONSE) == bytes.fromhex("FDECE3717A8C838CB388E527AE3CDD31")
    # RFC 3079 section 3.5.3: what the server sends with; before it what the client sends with
    key = ms.msk(HASH, RESPONSE)
    assert key[16:32] == bytes.fromhex("8B7CDC149B993A1BA118CB153F56DCCB")
    assert len(key) == ms.MSK_OCTETS
    assert key[32:] == bytes(32)


def test_passwords_are_utf_16() -> None:
    # MD4 over the octets that UTF-16LE makes of two characters outside ASCII, one of them a pair
    assert ms.nt_hash("ü\U0001f511") == ms._md4(bytes.fromhex("fc00 3dd8 11dd"))


def test_chap_is_md5_over_identifier_secret_and_challenge() -> None:
    # MD5("abc"), RFC 1321 section A.5
    assert chap_md5(ord("a"), b"b", b"c").hex() == "900150983cd24fb0d6963f7d28e17f72"
