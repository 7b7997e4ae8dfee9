import math
import warnings
from types import ModuleType, SimpleNamespace

import pytest
from cryptography.exceptions import InternalError, UnsupportedAlgorithm
from cryptography.hazmat.primitives import asymmetric

from espudp.crypto import dh
from espudp.crypto.dh import generate
from espudp.crypto.modp import MODP
from espudp.crypto.suites import DH, Dh, dh_by_id, dh_by_keyword
from espudp.errors import CryptoError, PeerError
from tests.unit.crypto.seeded import fixed_rng, seeded_rng
from tests.unit.crypto.vectors import own, unhex, wycheproof

# RFC 7296 section 3.10.1
INVALID_SYNTAX = 7

MODP_ROWS = [row for row in DH if row.transform_id in MODP]
SUBGROUPS = [row for row in MODP_ROWS if MODP[row.transform_id].order]
SAFE = [row for row in MODP_ROWS if row not in SUBGROUPS]
ECP = [row for row in DH if row.keyword.startswith("ecp")]


def row(keyword: str) -> Dh:
    found = dh_by_keyword(keyword)
    assert found is not None
    return found


def key_pair(group: Dh, private: bytes) -> dh.KeyPair:
    """The pair with this very private key. Where the order n is a parameter of the group, a key is drawn as
    1 + (a random number modulo n - 1)."""
    if group in (*ECP, *SUBGROUPS):
        private = (int.from_bytes(private, "big") - 1).to_bytes(len(private), "big")
    return generate(group, fixed_rng(private))


@pytest.mark.parametrize("vector", own("ike_dh.json"), ids=lambda vector: vector["id"])
def test_known_answers(vector: dict[str, str]) -> None:
    group = dh_by_id(int(vector["group"]))
    assert group is not None
    ours, theirs = (key_pair(group, unhex(vector[f"private_{side}"])) for side in "ir")
    assert ours.public == unhex(vector["public_i"])
    assert theirs.public == unhex(vector["public_r"])
    assert ours.shared_secret(theirs.public) == theirs.shared_secret(ours.public) == unhex(vector["shared"])


@pytest.mark.parametrize("group", DH, ids=lambda group: group.keyword)
def test_both_sides_agree(group: Dh) -> None:
    one, two = generate(group, seeded_rng(1)), generate(group, seeded_rng(2))
    assert one.public != two.public
    assert len(one.public) == group.public_octets
    secret = one.shared_secret(two.public)
    assert secret == two.shared_secret(one.public)
    assert len(secret) == group.secret_octets


@pytest.mark.parametrize("group", DH, ids=lambda group: group.keyword)
def test_a_seed_gives_the_same_pair_again(group: Dh) -> None:
    assert generate(group, seeded_rng(7)).public == generate(group, seeded_rng(7)).public


@pytest.mark.parametrize("group", DH, ids=lambda group: group.keyword)
def test_private_keys_do_not_show(group: Dh) -> None:
    pair = generate(group, lambda octets: b"\x5a" * octets)
    assert "5a5a" not in repr(pair)
    assert "ZZZZ" not in repr(pair)


@pytest.mark.parametrize("group", DH, ids=lambda group: group.keyword)
def test_a_value_of_the_wrong_size_is_refused(group: Dh) -> None:
    pair = generate(group, seeded_rng(1))
    good = generate(group, seeded_rng(2)).public
    for wrong in (b"", b"\4", good[:-1], good + b"\0", b"\0" + good, b"\4" + good):
        with pytest.raises(PeerError) as caught:
            pair.shared_secret(wrong)
        assert caught.value.notify == INVALID_SYNTAX


@pytest.mark.parametrize("group", DH, ids=lambda group: group.keyword)
def test_a_failing_generator_makes_no_pair(group: Dh) -> None:
    with pytest.raises(CryptoError):
        generate(group, lambda octets: b"\7")


def test_a_group_that_we_do_not_speak() -> None:
    with pytest.raises(CryptoError, match="modp768"):
        generate(Dh("modp768", 1, 96, 96), seeded_rng())


# --- MODP ---


def pi_times_power_of_two(bits: int) -> int:
    """floor(2^bits * pi) by Machin's formula, with guard bits."""
    one = 1 << (bits + 64)

    def arctan_of_inverse(x: int) -> int:
        total, power, n = 0, one // x, 0
        while power:
            total += (-1) ** n * power // (2 * n + 1)
            power //= x * x
            n += 1
        return total

    return (4 * (4 * arctan_of_inverse(5) - arctan_of_inverse(239))) >> 64


@pytest.mark.parametrize(
    ("group", "bits", "offset"),
    [
        (2, 1024, 129093),
        (5, 1536, 741804),
        (14, 2048, 124476),
        (15, 3072, 1690314),
        (16, 4096, 240904),
        (17, 6144, 929484),
        (18, 8192, 4743158),
    ],
)
def test_the_primes_are_those_of_the_formula(group: int, bits: int, offset: int) -> None:
    """RFC 2409 section 6.2 and RFC 3526: 2^n - 2^(n-64) - 1 + 2^64 * ([2^(n-130) pi] + offset)."""
    pi = pi_times_power_of_two(bits - 130)
    assert MODP[group].prime == 2**bits - 2 ** (bits - 64) - 1 + 2**64 * (pi + offset)


@pytest.mark.parametrize(("group", "small"), [("modp2048", 522), ("modp3072", 790), ("modp4096", 454)])
def test_modp_against_python_integers(group: str, small: int) -> None:
    """With an exponent of 5a5a... the peer's value `small` gives a secret that begins with a zero octet,
    which is part of the secret (RFC 7296 section 2.14)."""
    modp = row(group)
    prime = MODP[modp.transform_id].prime
    bits = {14: 320, 15: 420, 16: 480}[modp.transform_id]
    exponent = int.from_bytes(b"\x5a" * math.ceil(bits / 8), "big") >> (-bits % 8)
    pair = generate(modp, lambda octets: b"\x5a" * octets)
    assert int.from_bytes(pair.public, "big") == pow(2, exponent, prime)
    secret = pair.shared_secret(small.to_bytes(modp.public_octets, "big"))
    assert secret[0] == 0
    assert secret == pow(small, exponent, prime).to_bytes(modp.secret_octets, "big")


@pytest.mark.parametrize("group", MODP_ROWS, ids=lambda group: group.keyword)
def test_trivial_modp_values_are_refused(group: Dh) -> None:
    """RFC 6989 section 2.1."""
    pair, prime = generate(group, seeded_rng()), MODP[group.transform_id].prime
    for value in (0, 1, prime - 1, prime, prime + 1, (1 << 8 * group.public_octets) - 1):
        with pytest.raises(PeerError, match="out of range") as caught:
            pair.shared_secret(value.to_bytes(group.public_octets, "big"))
        assert caught.value.notify == INVALID_SYNTAX


@pytest.mark.parametrize("group", SUBGROUPS, ids=lambda group: group.keyword)
def test_modp_subgroups(group: Dh) -> None:
    """RFC 5114 section 2: the generator makes a subgroup of prime order, and not all there is."""
    modp = MODP[group.transform_id]
    assert modp.order is not None
    assert pow(modp.generator, modp.order, modp.prime) == 1
    assert (modp.prime - 1) % modp.order == 0
    assert modp.order.bit_length() == modp.exponent_bits
    exponent = modp.order - 1
    pair = generate(group, fixed_rng((exponent - 1).to_bytes(modp.exponent_bits // 8, "big")))
    # g^(q-1) is the inverse of g
    assert int.from_bytes(pair.public, "big") * modp.generator % modp.prime == 1


@pytest.mark.parametrize("group", SUBGROUPS, ids=lambda group: group.keyword)
def test_modp_values_outside_of_the_subgroup_are_refused(group: Dh) -> None:
    """RFC 6989 section 2.2: an element of small order, a generator of something larger, and any other."""
    pair, modp = generate(group, seeded_rng()), MODP[group.transform_id]
    assert modp.order is not None
    cofactor = (modp.prime - 1) // modp.order
    small = next(d for d in range(3, 100) if cofactor % d == 0)
    powers = (pow(base, (modp.prime - 1) // small, modp.prime) for base in range(2, 50))
    element = next(power for power in powers if 1 < power < modp.prime - 1)
    for value in (2, 3, element, modp.prime - 2, modp.prime - modp.generator):
        with pytest.raises(PeerError, match="subgroup") as caught:
            pair.shared_secret(value.to_bytes(group.public_octets, "big"))
        assert caught.value.notify == INVALID_SYNTAX


@pytest.mark.parametrize("group", SAFE, ids=lambda group: group.keyword)
def test_an_exponent_of_zero_makes_no_pair(group: Dh) -> None:
    with pytest.raises(CryptoError):
        generate(group, bytes)


def test_modp_is_used_without_a_warning() -> None:
    """`cryptography` deprecates finite fields since version 50, which is no news for our users."""
    dh._ffdh.cache_clear()
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        generate(row("modp2048"), seeded_rng())
    assert not seen


# --- elliptic curves ---


@pytest.mark.parametrize("group", ECP, ids=lambda group: group.keyword)
def test_points_off_the_curve_are_refused(group: Dh) -> None:
    """RFC 6989 section 2.3."""
    pair = generate(group, seeded_rng(1))
    point = generate(group, seeded_rng(2)).public
    flipped = point[:-1] + bytes([point[-1] ^ 1])
    for wrong in (flipped, bytes(len(point)), b"\xff" * len(point)):
        with pytest.raises(PeerError, match="not a point on the curve") as caught:
            pair.shared_secret(wrong)
        assert caught.value.notify == INVALID_SYNTAX


@pytest.mark.parametrize(
    ("group", "name"), [("ecp256", "secp256r1"), ("ecp384", "secp384r1"), ("ecp521", "secp521r1")]
)
def test_ecp_wycheproof(group: str, name: str) -> None:
    ecp = row(group)
    accepted = refused = 0
    for _, test in wycheproof(f"ecdh_{name}_ecpoint"):
        private = unhex(test["private"]).lstrip(b"\0").rjust(ecp.secret_octets, b"\0")
        pair, public = key_pair(ecp, private), unhex(test["public"])
        # On IKE's wire there is no octet for the encoding: compressed points have the wrong size there.
        if test["result"] == "valid":
            assert public[0] == 4
            assert pair.shared_secret(public[1:]) == unhex(test["shared"]), test["tcId"]
            accepted += 1
        else:
            with pytest.raises(PeerError):
                pair.shared_secret(public[1:])
            refused += 1
    assert accepted > 200
    assert refused > 10


def test_x25519_wycheproof() -> None:
    accepted = refused = 0
    for _, test in wycheproof("x25519"):
        pair, public = key_pair(row("curve25519"), unhex(test["private"])), unhex(test["public"])
        if "ZeroSharedSecret" in test["flags"]:
            with pytest.raises(PeerError, match="small order"):
                pair.shared_secret(public)
            refused += 1
        else:
            assert pair.shared_secret(public) == unhex(test["shared"]), test["tcId"]
            accepted += 1
    assert accepted > 400
    assert refused > 10


def test_x25519_points_of_small_order() -> None:
    """RFC 7748 section 6.1: the secret would be all zeros."""
    pair = generate(row("curve25519"), seeded_rng())
    for point in (0, 1, 2**255 - 19, 2**255 - 18, 2**255 - 20):
        with pytest.raises(PeerError, match="small order") as caught:
            pair.shared_secret(point.to_bytes(32, "little"))
        assert caught.value.notify == INVALID_SYNTAX


def test_x448_wycheproof() -> None:
    accepted = refused = 0
    for _, test in wycheproof("x448"):
        pair, public = key_pair(row("curve448"), unhex(test["private"])), unhex(test["public"])
        if len(public) != 56 or not int(test["shared"] or "0", 16):
            with pytest.raises(PeerError):
                pair.shared_secret(public)
            refused += 1
        else:
            assert pair.shared_secret(public) == unhex(test["shared"]), test["tcId"]
            accepted += 1
    assert accepted > 400
    assert refused > 10


def test_x448_points_of_small_order() -> None:
    """RFC 7748 section 6.2: the secret would be all zeros."""
    pair = generate(row("curve448"), seeded_rng())
    prime = 2**448 - 2**224 - 1
    for point in (0, 1, prime, prime + 1, prime - 1):
        with pytest.raises(PeerError, match="small order") as caught:
            pair.shared_secret(point.to_bytes(56, "little"))
        assert caught.value.notify == INVALID_SYNTAX


# --- a library that fails ---


def test_modp_when_the_library_has_dropped_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asymmetric, "dh", ModuleType("dh"), raising=False)
    dh._ffdh.cache_clear()
    with pytest.raises(CryptoError, match="finite fields") as caught:
        generate(row("modp2048"), seeded_rng())
    assert "curve25519" in caught.value.remedy
    assert generate(row("ecp256"), seeded_rng()).public


@pytest.mark.parametrize("group", DH, ids=lambda group: group.keyword)
def test_a_group_that_this_build_lacks(group: Dh, monkeypatch: pytest.MonkeyPatch) -> None:
    def lacking(*_: object) -> None:
        raise UnsupportedAlgorithm("not in this build")

    library = SimpleNamespace(from_private_bytes=lacking)
    for name in ("_ffdh", "ec.derive_private_key"):
        monkeypatch.setattr(f"espudp.crypto.dh.{name}", lacking)
    monkeypatch.setattr("espudp.crypto.dh._MONTGOMERY", {31: (library, None), 32: (library, None)})
    with pytest.raises(CryptoError, match=group.keyword):
        generate(group, seeded_rng())


class Failing:
    """A private key with which the library cannot calculate."""

    def exchange(self, *_: object) -> bytes:
        raise InternalError("OpenSSL has had enough", [])


class TooShort:
    """A private key with which the library calculates too little."""

    def exchange(self, *_: object) -> bytes:
        return b"\7"


@pytest.mark.parametrize("broken", [Failing(), TooShort()], ids=["fails", "too short"])
@pytest.mark.parametrize("group", DH, ids=lambda group: group.keyword)
def test_a_failing_library_is_a_crypto_error(group: Dh, broken: object) -> None:
    """CVE-2018-10811: nothing that a failed call left behind becomes a key."""
    pair = generate(group, seeded_rng(1))
    peer = generate(group, seeded_rng(2)).public
    vars(pair)["_private"] = broken
    with pytest.raises(CryptoError):
        pair.shared_secret(peer)
