"""Proposals: how they are written, and how two peers come to one suite (RFC 7296 sections 2.7, 3.3)."""

from dataclasses import replace

import pytest

from espudp.crypto.aead import CipherKeys, make_opener, make_sealer
from espudp.errors import ConfigError
from espudp.ike.offers import describe_mismatch, describe_offer
from espudp.ike.proposals import (
    DEFAULT_ESP_PROPOSALS,
    DEFAULT_IKE_PROPOSALS,
    EspProposal,
    IkeProposal,
    offer_esp,
    offer_ike,
    select_esp,
    select_ike,
    verify_esp,
    verify_ike,
)
from espudp.wire.ikev2.constants import ProtocolId, TransformType
from espudp.wire.ikev2.proposal import Proposal, Transform

_SPI = bytes.fromhex("c0ffee01")
_ENCR, _PRF, _INTEG, _DH = TransformType.ENCR, TransformType.PRF, TransformType.INTEG, TransformType.DH


def _ike(*texts: str) -> tuple[IkeProposal, ...]:
    return tuple(map(IkeProposal.parse, texts))


def _esp(*texts: str) -> tuple[EspProposal, ...]:
    return tuple(map(EspProposal.parse, texts))


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("aes128gcm16-prfsha256-curve25519", "aes128gcm16-prfsha256-curve25519"),
        ("aes256-sha256-modp2048", "aes256-sha256-prfsha256-modp2048"),
        ("AES256-SHA1-MODP2048!", "aes256-sha1-prfsha1-modp2048"),
        ("aes256-sha512-prfsha384-ecp384", "aes256-sha512-prfsha384-ecp384"),
        ("aes256-aes128-sha256-modp3072-modp2048", "aes256-aes128-sha256-prfsha256-modp3072-modp2048"),
        ("aes256-aes256-sha256-sha256-dh14", "aes256-sha256-prfsha256-modp2048"),
        ("chacha20poly1305-prfsha256-x25519", "chacha20poly1305-prfsha256-curve25519"),
        ("3des-sha1-dh2", "3des-sha1-prfsha1-modp1024"),
        ("aes128ctr-aesxcbc-x448", "aes128ctr-aesxcbc-prfaesxcbc-curve448"),
        ("aes256ccm64-prfaescmac-modp8192", "aes256ccm8-prfaescmac-modp8192"),
        ("aes_ccm_c_256-aes_cmac-dh24", "aes256ccm16-prfaescmac-modp2048s256"),
        # libreswan: the PRF is named like the integrity algorithm, and several are joined by "+"
        ("aes_gcm256-sha2_512+sha2_256-dh19", "aes256gcm16-prfsha512-prfsha256-ecp256"),
    ],
)
def test_ike_as_written(text: str, canonical: str) -> None:
    assert str(IkeProposal.parse(text)) == canonical
    assert IkeProposal.parse(canonical) == IkeProposal.parse(text)


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("aes128-sha256-esn", "aes128-sha256-esn"),
        ("aes128-sha256-noesn", "aes128-sha256"),
        ("aes256gcm16-ecp384", "aes256gcm16-ecp384"),
        ("aes256gcm16-ecp384-none-esn-noesn", "aes256gcm16-ecp384-none-esn-noesn"),
        ("aes256gcm16-modpnone", "aes256gcm16"),
        ("chacha20poly1305", "chacha20poly1305"),
    ],
)
def test_esp_as_written(text: str, canonical: str) -> None:
    assert str(EspProposal.parse(text)) == canonical


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("aes128-sha256", "names no Diffie-Hellman group"),
        ("sha256-modp2048", "names no encryption"),
        ("aes128-prfsha256-modp2048", "names no integrity algorithm"),
        ("aes128gcm16-modp2048", "names no PRF"),
        ("aes128-sha256-modp2048-esn", "belongs to ESP"),
        ("aes128-sha256-none", "belongs to ESP"),
        ("aes128-sha257-modp2048", "'sha257'"),
        ("aes128gcm16-aes128-sha256-modp2048", "mixes"),
        ("des-sha1-modp2048", "names des, which is not spoken here: it can be broken"),
        ("aes128-md5-modp2048", "names md5, which is not spoken here: it rests on MD5"),
        ("aes128-sha1-modp768", "names modp768, which is not spoken here"),
        ("null-sha256-modp2048", "names null, which encrypts nothing"),
        ("aes128gmac-prfsha256-modp2048", "names aes128gmac, which encrypts nothing"),
        ("", "an empty word"),
        ("aes128--sha256-modp2048", "an empty word"),
    ],
)
def test_ike_wrongly_written(text: str, complaint: str) -> None:
    with pytest.raises(ConfigError) as error:
        IkeProposal.parse(text)
    assert complaint in str(error.value)
    assert error.value.remedy


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("aes128", "names no integrity algorithm"),
        ("aes128gcm16-sha256", "authenticates by itself"),
        ("aes128gcm16-prfsha256", "names the PRF"),
        ("modp2048", "names no encryption"),
        ("null", "names no integrity algorithm"),
        ("aes128gmac-sha256", "authenticates by itself"),
        ("aes128-md5", "rests on MD5"),
        ("blowfish128-sha1", "not spoken here"),
        ("aes128gcm16-foo", "'foo'"),
    ],
)
def test_esp_wrongly_written(text: str, complaint: str) -> None:
    with pytest.raises(ConfigError) as error:
        EspProposal.parse(text)
    assert complaint in str(error.value)


def test_an_unknown_word_lists_what_is_possible() -> None:
    with pytest.raises(ConfigError) as error:
        IkeProposal.parse("aes128-sha256-modp9999")
    assert "modp2048" in error.value.remedy
    assert "chacha20poly1305" in error.value.remedy


def test_on_the_wire() -> None:
    """Transform ids as in the IANA registry; the key length of AES, and of nothing else."""
    (proposal,) = offer_ike(_ike("aes256-sha256-modp2048"))
    assert proposal == Proposal(
        1,
        ProtocolId.IKE,
        b"",
        (Transform(1, 12, 256), Transform(3, 12), Transform(2, 5), Transform(4, 14)),
    )
    (proposal,) = offer_esp(_esp("chacha20poly1305-curve25519-esn"), _SPI)
    assert proposal == Proposal(
        1, ProtocolId.ESP, _SPI, (Transform(1, 28), Transform(5, 1), Transform(4, 31))
    )


def test_no_groups_in_ike_auth() -> None:
    (proposal,) = offer_esp(_esp("aes128gcm16-curve25519"), _SPI, pfs=False)
    assert proposal.of_type(_DH) == ()


def test_the_initiators_order_decides() -> None:
    offer = offer_ike(_ike("aes128-sha256-modp2048", "aes256gcm16-prfsha384-ecp384"))
    choice = select_ike(offer, _ike("aes256gcm16-prfsha384-ecp384", "aes256-aes128-sha256-modp2048"))
    assert choice is not None
    assert choice.number == 1
    assert choice.suite.name == "aes128-sha256-prfsha256-modp2048"


def test_the_group_of_the_ke_payload_is_taken_where_both_accept_it() -> None:
    both = _ike("aes128-sha256-modp3072-modp2048")
    for group, keyword in ((14, "modp2048"), (15, "modp3072"), (31, "modp3072")):
        choice = select_ike(offer_ike(both), both, ke_group=group)
        assert choice is not None
        assert choice.suite.dh.keyword == keyword


@pytest.mark.parametrize("ours", ["aes256-sha256-modp2048", "aes128-sha1-modp2048", "aes128-sha256-ecp256"])
def test_no_common_proposal(ours: str) -> None:
    assert select_ike(offer_ike(_ike("aes128-sha256-modp2048")), _ike(ours)) is None


@pytest.mark.parametrize("missing", [_ENCR, _PRF, _INTEG, _DH])
def test_an_ike_proposal_that_lacks_a_kind(missing: int) -> None:
    """CVE-2016-5391: a proposal without a group; and likewise without anything else."""
    ours = _ike("aes128-sha256-modp2048")
    (offer,) = offer_ike(ours)
    lacking = replace(offer, transforms=tuple(t for t in offer.transforms if t.type != missing))
    assert select_ike([lacking], ours) is None
    assert verify_ike([lacking], ours) is None


@pytest.mark.parametrize(
    "odd",
    [
        Transform(_ENCR, 12),  # AES without a key length
        Transform(_ENCR, 12, 0),  # CVE-2024-3652: a key length of zero
        Transform(_ENCR, 12, 129),
        Transform(_ENCR, 12, 128, b"\x80\x11\x00\x01"),  # RFC 7296 section 3.3.6: an unknown attribute
        Transform(_ENCR, 11),  # NULL
        Transform(_ENCR, 0),
    ],
)
def test_transforms_that_match_nothing(odd: Transform) -> None:
    ours = _ike("aes128-sha256-modp2048")
    (offer,) = offer_ike(ours)
    others = tuple(t for t in offer.transforms if t.type != _ENCR)
    assert select_ike([replace(offer, transforms=(odd, *others))], ours) is None
    # Other transforms of the same type are processed as usual.
    choice = select_ike([replace(offer, transforms=(odd, *offer.transforms))], ours)
    assert choice is not None
    assert odd not in choice.transforms


def test_a_kind_of_transform_that_we_do_not_know() -> None:
    ours = _ike("aes128-sha256-modp2048")
    (offer,) = offer_ike(ours)
    strange = replace(offer, transforms=(*offer.transforms, Transform(6, 35)))
    assert select_ike([strange], ours) is None
    choice = select_ike([strange, replace(offer, number=2)], ours)
    assert choice is not None
    assert choice.number == 2


def test_internal_and_private_numbers_do_not_match() -> None:
    """CVE-2014-9221: nothing but what is in the list, whatever the number."""
    ours = _ike("aes128-sha256-modp2048")
    (offer,) = offer_ike(ours)
    for group in (0, 1, 2, 5, 22, 1025, 65535):
        swapped = tuple(Transform(_DH, group) if t.type == _DH else t for t in offer.transforms)
        assert select_ike([replace(offer, transforms=swapped)], ours) is None


def test_integrity_beside_an_aead() -> None:
    ours = _ike("aes128gcm16-prfsha256-curve25519")
    (offer,) = offer_ike(ours)
    assert select_ike([replace(offer, transforms=(*offer.transforms, Transform(_INTEG, 12)))], ours) is None
    choice = select_ike([replace(offer, transforms=(*offer.transforms, Transform(_INTEG, 0)))], ours)
    assert choice is not None
    assert choice.suite.integ is None
    assert (
        Transform(_INTEG, 0) in choice.transforms
    )  # RFC 7296 section 2.7: one of each type that was offered


def test_wrong_protocol_or_spi() -> None:
    ike, esp = _ike("aes128-sha256-modp2048"), _esp("aes128-sha256")
    (offer,) = offer_ike(ike)
    assert select_ike([replace(offer, protocol=ProtocolId.AH)], ike) is None
    assert select_ike(offer_ike(ike, bytes(8)), ike) is None
    assert select_ike(offer_ike(ike), ike, spi_octets=8) is None
    assert select_ike(offer_ike(ike, bytes(range(8))), ike, spi_octets=8) is not None
    (child,) = offer_esp(esp, _SPI)
    assert select_esp([replace(child, protocol=ProtocolId.AH)], esp) is None
    assert select_esp([replace(child, spi=b"")], esp) is None


def test_a_choice_survives_the_way_back() -> None:
    for offered in (
        DEFAULT_IKE_PROPOSALS,
        _ike("aes128-sha256-modp2048", "chacha20poly1305-prfsha256-ecp521"),
    ):
        choice = select_ike(offer_ike(offered), offered)
        assert choice is not None
        verified = verify_ike([choice.to_wire()], offered)
        assert verified is not None
        assert verified.suite == choice.suite


def test_a_child_choice_survives_the_way_back() -> None:
    for pfs in (True, False):
        choice = select_esp(offer_esp(DEFAULT_ESP_PROPOSALS, _SPI, pfs=pfs), DEFAULT_ESP_PROPOSALS, pfs=pfs)
        assert choice is not None
        assert choice.peer_spi == _SPI
        verified = verify_esp([choice.to_wire(b"\1\2\3\4")], DEFAULT_ESP_PROPOSALS, pfs=pfs)
        assert verified is not None
        assert (verified.suite, verified.dh) == (choice.suite, choice.dh)
        assert verified.peer_spi == b"\1\2\3\4"
        assert (verified.dh is not None) == pfs


def _answer(*transforms: Transform, number: int = 1) -> list[Proposal]:
    return [Proposal(number, ProtocolId.IKE, b"", transforms)]


_CBC, _SHA, _PRFSHA, _MODP = Transform(1, 12, 128), Transform(3, 12), Transform(2, 5), Transform(4, 14)


@pytest.mark.parametrize(
    "answer",
    [
        [],
        _answer(_CBC, _SHA, _PRFSHA, _MODP) * 2,
        _answer(_CBC, _SHA, _PRFSHA, _MODP, number=0),
        _answer(_CBC, _SHA, _PRFSHA, _MODP, number=2),
        _answer(Transform(1, 12, 256), _SHA, _PRFSHA, _MODP),
        _answer(_CBC, _SHA, _PRFSHA, Transform(4, 15)),
        _answer(_CBC, _SHA, _PRFSHA, Transform(4, 0)),
        _answer(_CBC, _CBC, _SHA, _PRFSHA, _MODP),
        _answer(_CBC, _SHA, _PRFSHA, _MODP, Transform(5, 0)),
        _answer(_CBC, Transform(3, 0), _PRFSHA, _MODP),
        _answer(_CBC, Transform(3, 12, 128), _PRFSHA, _MODP),
    ],
)
def test_answers_that_were_not_offered(answer: list[Proposal]) -> None:
    offered = _ike("aes128-sha256-modp2048")
    assert verify_ike(_answer(_CBC, _SHA, _PRFSHA, _MODP), offered) is not None
    assert verify_ike(answer, offered) is None


@pytest.mark.parametrize(
    ("initiator", "responder", "group"),
    [
        ("aes128gcm16-modp2048", "aes128gcm16-modp2048", "modp2048"),
        ("aes128gcm16-modp2048-none", "aes128gcm16-none-modp2048", "modp2048"),
        ("aes128gcm16-none-modp2048", "aes128gcm16-modp2048-none", None),
        ("aes128gcm16", "aes128gcm16", None),
        ("aes128gcm16", "aes128gcm16-modp2048-none", None),
        # The peer wants more secrecy than we asked for.
        ("aes128gcm16-modp2048", "aes128gcm16", "modp2048"),
    ],
)
def test_perfect_forward_secrecy(initiator: str, responder: str, group: str | None) -> None:
    choice = select_esp(offer_esp(_esp(initiator), _SPI), _esp(responder))
    assert choice is not None
    assert (choice.dh.keyword if choice.dh else None) == group
    verified = verify_esp([choice.to_wire(_SPI)], _esp(initiator))
    assert verified is not None
    assert verified.dh == choice.dh


def test_perfect_forward_secrecy_that_we_insist_on() -> None:
    assert select_esp(offer_esp(_esp("aes128gcm16"), _SPI), _esp("aes128gcm16-modp2048")) is None
    assert select_esp(offer_esp(_esp("aes128gcm16-ecp256"), _SPI), _esp("aes128gcm16-modp2048")) is None


def test_groups_are_passed_over_in_ike_auth() -> None:
    """Some peers put them there all the same."""
    choice = select_esp(offer_esp(_esp("aes128gcm16-ecp256"), _SPI), _esp("aes128gcm16-modp2048"), pfs=False)
    assert choice is not None
    assert choice.dh is None
    assert all(t.type != _DH for t in choice.transforms)


@pytest.mark.parametrize(
    ("initiator", "responder", "esn"),
    [
        ("esn-noesn", "noesn", False),
        ("esn-noesn", "noesn-esn", True),
        ("esn", "esn", True),
        ("noesn", "esn", None),
    ],
)
def test_extended_sequence_numbers(initiator: str, responder: str, esn: bool | None) -> None:
    choice = select_esp(offer_esp(_esp(f"aes128gcm16-{initiator}"), _SPI), _esp(f"aes128gcm16-{responder}"))
    assert (choice.suite.esn if choice else None) == esn


def test_a_peer_that_does_not_mention_esn() -> None:
    (offer,) = offer_esp(_esp("aes128gcm16"), _SPI)
    silent = replace(offer, transforms=tuple(t for t in offer.transforms if t.type != TransformType.ESN))
    choice = select_esp([silent], _esp("aes128gcm16"))
    assert choice is not None
    assert not choice.suite.esn
    assert select_esp([silent], _esp("aes128gcm16-esn")) is None


def test_all_that_is_offered_is_implemented() -> None:
    """CVE-2016-3071: walk through every transform of the default offers."""
    for proposal in DEFAULT_ESP_PROPOSALS:
        for encr in proposal.encr:
            for integ in proposal.integ or (None,):
                keys = CipherKeys(bytes(encr.keymat_octets), bytes(integ.key_octets) if integ else b"")
                body = make_sealer(encr, integ, keys, bytes).seal(1, b"aad", bytes(30) + b"\0\4")
                assert make_opener(encr, integ, keys).open(b"aad", body) == bytes(30) + b"\0\4"


def test_weak_algorithms_are_not_offered_by_default() -> None:
    """RFC 8247 and RFC 8221: SHA-1 is on its way out; who needs it, names it."""
    for text in map(str, (*DEFAULT_IKE_PROPOSALS, *DEFAULT_ESP_PROPOSALS)):
        assert "sha1" not in text.split("-")


def test_both_sides_line_against_line() -> None:
    theirs = [Proposal(1, 1, b"", (Transform(1, 3), Transform(3, 2), Transform(2, 2), Transform(4, 2)))]
    lines = describe_mismatch(theirs, offer_ike(_ike("aes256gcm16-prfsha256-ecp256", "aes256-sha1-modp2048")))
    table = {line.split()[0]: line for line in lines.splitlines()[1:]}
    assert "accepted here (2 of 2)" in lines.splitlines()[0]
    assert {"3des", "aes256"} <= set(table["encryption"].split())
    assert table["encryption"].endswith("nothing in common")
    assert {"modp1024", "modp2048"} <= set(table["group"].split())
    assert table["group"].endswith("nothing in common")
    assert not table["integrity"].endswith("nothing in common")


def test_offers_of_strangers_can_be_shown() -> None:
    """CVE-2015-3204: whatever the numbers."""
    strange = Proposal(9, 77, b"", (Transform(200, 65535, 65535), Transform(1, 999), Transform(6, 35)))
    assert "999" in describe_offer(strange)
    assert describe_mismatch([strange] * 60, offer_ike(DEFAULT_IKE_PROPOSALS)).isascii()
    many = Proposal(1, 1, b"", tuple(Transform(1, n) for n in range(200)))
    assert "more" in describe_mismatch([many], offer_ike(DEFAULT_IKE_PROPOSALS))
    assert describe_mismatch([], offer_ike(DEFAULT_IKE_PROPOSALS))
    assert describe_offer(Proposal(1, 1, b"", ())) == "nothing"
