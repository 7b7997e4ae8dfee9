"""What phase 1 agrees on, by whom one may come, and who is remembered."""

import re
from dataclasses import replace
from ipaddress import ip_network

import pytest

from espudp.crypto.ikev1keys import Ikev1Suite
from espudp.errors import ConfigError
from espudp.ike.config import Limits
from espudp.ike.credentials import NoDemand, NoProof, PskOf
from espudp.ike.eap.users import UserTable, parse_users
from espudp.ike.identity import Identity
from espudp.ike.ikev1_config import Ikev1Config, Ikev1Policy
from espudp.ike.pad import PadEntry, Pattern
from espudp.ike.proposals import DEFAULT_IKE_PROPOSALS, IkeProposal
from espudp.ike.v1.admission import Admission
from espudp.ike.v1.phase1_proposals import (
    Choice,
    accepted_suites,
    describe_mismatch,
    offer,
    select,
    suites_of,
    to_offer,
    verify,
)
from espudp.ike.v1.ways import WAYS, entries_for, methods_for, way_to_call, ways_in
from espudp.ike.xauth import XauthLogin, XauthUsers
from espudp.wire.ikev1.attributes import Attribute
from espudp.wire.ikev1.constants import AuthMethod, IkeAttribute, LifeType, ProtocolId
from espudp.wire.ikev1.proposal import Proposal, Transform
from tests.scenario.credentials import CLIENT, SERVER, person, trust
from tests.scenario.lab import Terms

PSK, RSA = int(AuthMethod.PSK), int(AuthMethod.RSA_SIGNATURE)


def _ike(*texts: str) -> tuple[IkeProposal, ...]:
    return tuple(map(IkeProposal.parse, texts))


def _suites(*texts: str) -> frozenset[Ikev1Suite]:
    return accepted_suites(_ike(*texts))


def _users() -> XauthUsers:
    return XauthUsers(users=UserTable(parse_users(b"alice:secret\n"), lambda octets: bytes(octets)))


# Proposals


def test_the_first_of_the_initiators_transforms_that_we_have() -> None:
    theirs = offer(to_offer(_ike("aes256-aes128-sha512-sha256-modp2048"), one_group=False), [PSK], 3600.0)
    choice = select(theirs, _suites("aes128-sha256-modp2048", "aes128-sha512-modp2048"), [PSK])
    assert choice is not None
    assert choice.terms.suite.name == "aes128-sha512-modp2048"
    assert choice.lifetime == 3600.0
    assert len(choice.answer.transforms) == 1
    assert choice.answer.transforms[0] in theirs[0].transforms
    assert select(theirs, _suites("aes128-sha384-modp2048"), [PSK]) is None
    assert select(theirs, _suites("aes128-sha256-modp2048"), [RSA]) is None


def test_the_answer_must_be_one_of_our_transforms() -> None:
    suites = to_offer(_ike("aes128-sha256-modp2048"), one_group=False)
    ours = offer(suites, [PSK], None)
    good = select(ours, _suites("aes128-sha256-modp2048"), [PSK])
    assert good is not None
    assert verify((good.answer,), suites, [PSK]) is not None
    assert verify((good.answer, good.answer), suites, [PSK]) is None
    assert verify((), suites, [PSK]) is None
    assert verify((good.answer,), suites, [RSA]) is None
    other = offer(to_offer(_ike("aes256-sha256-modp2048"), one_group=False), [PSK], None)
    assert verify(other, suites, [PSK]) is None
    transform = good.answer.transforms[0]
    strange = replace(transform, attributes=(*transform.attributes, Attribute.of(IkeAttribute.PRF, 1)))
    assert verify((replace(good.answer, transforms=(strange,)),), suites, [PSK]) is None


def test_the_group_whose_public_value_came_along() -> None:
    theirs = offer(to_offer(_ike("aes128-sha256-modp3072-modp2048"), one_group=False), [PSK], None)
    ours = _ike("aes128-sha256-modp3072-modp2048")
    octets = 256
    choice = select(theirs, accepted_suites(ours), [PSK], group_octets=octets)
    assert choice is not None
    assert choice.terms.suite.dh.public_octets == octets
    alone = to_offer(ours, one_group=True)
    assert {suite.dh.keyword for suite in alone} == {"modp3072"}


def test_what_is_offered_by_default_fits_in_one_packet_and_is_what_ikev1_can() -> None:
    suites = to_offer(DEFAULT_IKE_PROPOSALS, one_group=False)
    assert len(suites) <= 24
    assert set(suites) <= set(suites_of(DEFAULT_IKE_PROPOSALS))
    with pytest.raises(ConfigError, match="none of the IKE proposals"):
        to_offer(_ike("aes128gcm16-prfsha256-modp2048"), one_group=False)


def test_in_aggressive_mode_the_one_group_is_one_that_gateways_have() -> None:
    suites = to_offer(DEFAULT_IKE_PROPOSALS, one_group=True)
    assert {suite.dh.keyword for suite in suites} == {"modp2048"}
    assert set(suites) <= set(suites_of(DEFAULT_IKE_PROPOSALS))


AES_128: tuple[Attribute, ...] = (
    Attribute.of(IkeAttribute.ENCRYPTION, 7),
    Attribute.of(IkeAttribute.KEY_LENGTH, 128),
    Attribute.of(IkeAttribute.HASH, 4),
    Attribute.of(IkeAttribute.GROUP, 14),
    Attribute.of(IkeAttribute.AUTHENTICATION, PSK),
)


def _selected(*attributes: Attribute, transform: int = 1) -> Choice | None:
    proposal = Proposal(1, ProtocolId.ISAKMP, b"", (Transform(1, transform, attributes),))
    return select((proposal,), _suites("aes256-aes128-sha256-modp2048"), [PSK])


def _lasting(octets: bytes, *, short: bool = False) -> tuple[Attribute, ...]:
    return (
        Attribute.of(IkeAttribute.LIFE_TYPE, LifeType.SECONDS),
        Attribute(IkeAttribute.LIFE_DURATION, octets, short=short),
    )


class TestTransformsAsTheyCome:
    def test_in_any_order_and_form(self) -> None:
        assert _selected(*reversed(AES_128)) is not None
        long_form = [Attribute(a.type, a.value) for a in AES_128]
        four = [Attribute(a.type, bytes(2) + a.value) for a in AES_128]
        for form in (long_form, four):
            choice = _selected(*form)
            assert choice is not None
            assert choice.answer.transforms[0].attributes == tuple(form), "it goes back as it came"

    def test_a_cipher_of_several_sizes_says_which(self) -> None:
        """RFC 3602 section 5.3; and one that has a single size has none (RFC 2409 appendix A)."""
        without = [a for a in AES_128 if a.type != IkeAttribute.KEY_LENGTH]
        assert _selected(*without) is None
        for bits, name in ((256, "aes256-sha256-modp2048"), (192, None), (0, None), (127, None)):
            choice = _selected(*without, Attribute.of(IkeAttribute.KEY_LENGTH, bits))
            assert (choice.terms.suite.name if choice else None) == name
        assert _selected(Attribute.of(IkeAttribute.ENCRYPTION, 5), *AES_128[2:]) is None

    def test_what_nobody_knows_is_not_chosen(self) -> None:
        """RFC 2408 section 4.2: all that a transform says has to be understood."""
        assert _selected(*AES_128, Attribute.of(16384, 1)) is None
        assert _selected(*AES_128, Attribute.of(IkeAttribute.GROUP_TYPE, 1)) is None
        assert _selected(*AES_128, transform=2) is None
        for missing in range(len(AES_128)):
            assert _selected(*AES_128[:missing], *AES_128[missing + 1 :]) is None

    @pytest.mark.parametrize(
        ("octets", "short", "seconds"),
        [
            (b"\x0e\x10", True, 3600.0),
            (b"\x0e\x10", False, 3600.0),
            (b"\x00\x01\x51\x80", False, 86400.0),
            (b"\x00\x00\x00\x00\x00\x01\x51\x80", False, 86400.0),
            (b"\x00\x00", True, None),
            (b"", False, None),
            (bytes(9), False, None),
        ],
    )
    def test_lifetimes(self, octets: bytes, short: bool, seconds: float | None) -> None:
        choice = _selected(*AES_128, *_lasting(octets, short=short))
        assert choice is not None
        assert choice.lifetime == seconds

    def test_a_lifetime_that_cannot_be_said(self) -> None:
        theirs = offer(to_offer(_ike("aes128-sha256-modp2048"), one_group=False), [PSK], 1e11)
        choice = select(theirs, _suites("aes128-sha256-modp2048"), [PSK])
        assert choice is not None
        assert choice.lifetime == 2**32 - 1

    def test_of_many_proposals(self) -> None:
        """RFC 2409 section 5 has one; some send one for each transform, and those of other protocols."""
        wanted = Transform(7, 1, AES_128)
        strange = Transform(1, 1, (Attribute.of(IkeAttribute.ENCRYPTION, 1), *AES_128[2:]))
        offered = (
            Proposal(1, ProtocolId.ESP, bytes(4), (wanted,)),
            *(Proposal(n, ProtocolId.ISAKMP, b"", (strange,)) for n in range(2, 60)),
            Proposal(60, ProtocolId.ISAKMP, bytes(8), (strange, wanted)),
        )
        choice = select(offered, _suites("aes128-sha256-modp2048"), [PSK])
        assert choice is not None
        assert choice.answer == Proposal(60, ProtocolId.ISAKMP, bytes(8), (wanted,))


def test_kilobytes_are_no_seconds() -> None:
    theirs = offer(to_offer(_ike("aes128-sha256-modp2048"), one_group=False), [PSK], None)
    transform = theirs[0].transforms[0]
    kilobytes = (
        Attribute.of(IkeAttribute.LIFE_TYPE, LifeType.KILOBYTES),
        Attribute.of(IkeAttribute.LIFE_DURATION, 100),
    )
    changed = replace(transform, attributes=(*transform.attributes, *kilobytes))
    choice = select((replace(theirs[0], transforms=(changed,)),), _suites("aes128-sha256-modp2048"), [PSK])
    assert choice is not None
    assert choice.lifetime is None


def test_a_mismatch_shows_both_sides_known_or_not() -> None:
    theirs = offer(to_offer(_ike("aes128-sha256-modp2048"), one_group=False), [PSK], None)
    unknown = replace(theirs[0].transforms[0], attributes=(Attribute.of(IkeAttribute.ENCRYPTION, 1),))
    both = replace(theirs[0], transforms=(theirs[0].transforms[0], unknown))
    text = describe_mismatch((both,), _ike("aes256-sha256-modp2048"), [RSA])
    lines = [re.split(r"  +", line) for line in text.splitlines()]
    assert lines == [
        ["", "peer offers", "accepted here"],
        ["encryption", "aes128, number 1", "aes256", "nothing in common"],
        ["hash", "sha256, number None", "sha256"],
        ["group", "modp2048, number None", "modp2048"],
        ["proof", "PSK, authentication method 0", "RSA_SIGNATURE", "nothing in common"],
    ]


def test_a_mismatch_of_whole_transforms() -> None:
    theirs = offer(
        to_offer(_ike("aes128-sha1-modp2048", "aes256-sha256-modp2048"), one_group=False), [PSK], None
    )
    text = describe_mismatch(theirs, _ike("aes128-sha256-modp2048", "aes256-sha1-modp2048"), [PSK])
    assert "nothing in common" not in text
    assert "  aes128, sha1, modp2048, PSK" in text.splitlines()
    assert "nothing" in describe_mismatch((), (), [])


# Ways in


def test_each_entry_can_do_what_it_has_the_credentials_for() -> None:
    psk = PadEntry.of_psk(b"key")
    rsa = PadEntry(proof=person("RSA", SERVER).proof, demand=trust())
    hybrid = PadEntry(proof=person("RSA", SERVER).proof, demand=NoDemand(), xauth=_users())
    assert [way.method for way in ways_in(psk)] == [AuthMethod.PSK, AuthMethod.XAUTH_INIT_PSK]
    login = replace(psk, xauth=_users())
    assert [way.method for way in ways_in(login)] == [AuthMethod.XAUTH_INIT_PSK, AuthMethod.PSK]
    assert [way.method for way in ways_in(rsa)] == [AuthMethod.RSA_SIGNATURE, AuthMethod.XAUTH_INIT_RSA]
    assert [way.method for way in ways_in(hybrid)] == [AuthMethod.HYBRID_INIT_RSA]
    # Not in IKEv1: two keys, nobody's proof, other signatures.
    assert ways_in(replace(psk, demand=PskOf(b"another"))) == ()
    assert ways_in(PadEntry(proof=NoProof(), demand=NoDemand())) == ()
    assert ways_in(replace(rsa, proof=person("P-256", SERVER).proof)) == ()
    assert methods_for([hybrid, rsa])[0] == AuthMethod.HYBRID_INIT_RSA


def test_entries_by_place_and_by_name() -> None:
    anybody = PadEntry.of_psk(b"one")
    named = replace(PadEntry.of_psk(b"two"), peers=(Pattern.parse("alice@example.org"),))
    there = replace(PadEntry.of_psk(b"three"), networks=(ip_network("192.0.2.0/24"),))
    pad = (anybody, named, there)
    alice, bob = Identity.parse("alice@example.org"), Identity.parse("bob@example.org")
    assert entries_for(pad, None, "192.0.2.7") == [there, anybody, named]
    assert entries_for(pad, None, "198.51.100.7") == [anybody, named]
    assert entries_for(pad, None, "192.0.2.7", alice) == [named]
    assert entries_for(pad, None, "192.0.2.7", bob) == [there, anybody]
    assert entries_for((named,), None, "192.0.2.7", bob) == []


def test_a_name_is_not_taken_by_another_way() -> None:
    """Who has the key of everybody is not the one who is to show a certificate."""
    alice = Identity.parse("alice@example.org")
    certified = PadEntry(
        proof=person("RSA", SERVER).proof, demand=trust(), peers=(Pattern.parse("alice@example.org"),)
    )
    pad = (certified, PadEntry.of_psk(b"of everybody"))
    assert entries_for(pad, WAYS[PSK], "192.0.2.7", alice) == []
    assert entries_for(pad, WAYS[RSA], "192.0.2.7", alice) == [certified]
    assert entries_for(pad, WAYS[PSK], "192.0.2.7", Identity.parse("bob@example.org")) == [pad[1]]


def test_every_way_counts_however_many_keys_there_are() -> None:
    pad = [replace(PadEntry.of_psk(b"%d" % n), peers=(Pattern.parse(f"c{n}.example"),)) for n in range(30)]
    certified = PadEntry(proof=person("RSA", SERVER).proof, demand=trust())
    assert RSA in methods_for(entries_for((*pad, certified), None, "192.0.2.7"))


def test_how_we_call() -> None:
    config = replace(Terms().connection(), ikev1=Ikev1Config())
    login = Ikev1Config(xauth=XauthLogin(user="alice", password="secret"))
    rsa = replace(config, proof=person("RSA", CLIENT).proof, demand=trust())
    assert way_to_call(config).method == AuthMethod.PSK
    assert way_to_call(replace(config, ikev1=login)).method == AuthMethod.XAUTH_INIT_PSK
    assert way_to_call(rsa).method == AuthMethod.RSA_SIGNATURE
    assert way_to_call(replace(rsa, proof=NoProof(), ikev1=login)).method == AuthMethod.HYBRID_INIT_RSA
    for wrong in (replace(rsa, proof=NoProof()), replace(rsa, proof=person("Ed25519", CLIENT).proof)):
        with pytest.raises(ConfigError, match="no such way"):
            way_to_call(wrong)


def test_a_listener_without_a_mode() -> None:
    with pytest.raises(ConfigError, match="without a mode"):
        Ikev1Policy(modes=frozenset())


# Who is remembered


def test_strangers_make_room_for_strangers_and_the_others_hold_their_places() -> None:
    admission = Admission(Limits(half_open_max=3, half_open_per_address=2))
    keys = [(False, bytes([n])) for n in range(7)]
    assert [admission.enter(key, 1.0) for key in keys[:3]] == [None] * 3
    assert admission.is_crowded(1.9)
    assert not admission.is_crowded(2.0)
    assert admission.enter(keys[3], 2.0) == keys[0]
    admission.forget(keys[0])
    assert admission.hold(keys[1], "192.0.2.1")
    assert admission.half_open == 3
    assert admission.hold(keys[4], "192.0.2.1")
    assert not admission.hold(keys[5], "192.0.2.1")
    assert admission.hold(keys[4], "192.0.2.1"), "it has its place already"
    assert admission.hold(keys[5], "2001:db8::1")
    assert not admission.hold(keys[6], "198.51.100.1")
    for key in keys:
        admission.forget(key)
        admission.forget(key)
    assert admission.half_open == 0
    assert admission.hold(keys[6], "192.0.2.1")
