"""SA payloads: octets written out by hand from RFC 2408 sections 3.3 to 3.6, and what must not pass."""

import pytest

from espudp.errors import WireError
from espudp.wire.buffer import Reader, Writer
from espudp.wire.ikev1.attributes import MAX_ATTRIBUTES, Attribute, parse_attributes
from espudp.wire.ikev1.payloads import SecurityAssociation, body_of
from espudp.wire.ikev1.proposal import Proposal, Transform, parse_proposals

SPI = bytes.fromhex("c0ffee01")

PHASE_1 = Proposal(
    1,
    1,
    b"",
    (
        # AES-256, SHA2-256, PSK, MODP-2048, 28800 s
        Transform(1, 1, tuple(Attribute.of(*pair) for pair in (
            (1, 7), (14, 256), (2, 4), (3, 1), (4, 14), (11, 1), (12, 28800),
        ))),
        # 3DES, SHA1, RSA, MODP-1024, 86400 s: a number that needs 4 octets
        Transform(2, 1, tuple(Attribute.of(*pair) for pair in (
            (1, 5), (2, 2), (3, 3), (4, 2), (11, 1), (12, 86400),
        ))),
    ),
)  # fmt: skip


def sa(text: str) -> SecurityAssociation:
    return SecurityAssociation.parse(Reader(bytes.fromhex("00000001 00000001" + text)))


def test_phase_1() -> None:
    offered = SecurityAssociation.of((PHASE_1,))
    first = "01010000 80010007 800e0100 80020004 80030001 8004000e 800b0001 800c7080"
    second = "02010000 80010005 80020002 80030003 80040002 800b0001 000c0004 00015180"
    text = f"00000050 01010002 03000024 {first} 00000024 {second}"
    assert offered.body == bytes.fromhex("00000001 00000001" + text)
    assert sa(text) == offered
    assert offered.proposals[0].transforms[1].value(12) == 86400


def test_esp_and_ipcomp_under_one_number_and_an_alternative() -> None:
    tunnel = (Attribute.of(4, 3),)
    wanted = (
        Proposal(1, 3, SPI, (Transform(1, 12, tunnel),)),
        Proposal(1, 4, b"\x12\x34", (Transform(1, 2, tunnel),)),
        Proposal(2, 2, SPI, (Transform(1, 3, tunnel),)),
    )
    offered = SecurityAssociation.of(wanted)
    assert SecurityAssociation.parse(Reader(body_of(offered))).proposals == wanted


def test_numbers_are_the_same_in_either_form() -> None:
    forms = [
        Attribute(12, b"\x70\x80", short=True),
        Attribute(12, b"\x70\x80"),
        Attribute(12, b"\0\0\x70\x80"),
    ]
    assert [form.number for form in forms] == [28800] * 3
    assert [Transform(1, 1, (form,)).values for form in forms] == [{12: 28800}] * 3
    for form in forms:
        writer = Writer()
        form.emit(writer)
        assert parse_attributes(Reader(writer.getvalue())) == (form,)


def test_numbers_that_are_none() -> None:
    assert Attribute(12, b"").number is None
    assert Attribute(12, bytes(9)).number is None
    assert Attribute(12, b"\xff" * 8).number == (1 << 64) - 1
    assert Transform(1, 1, (Attribute(12, bytes(60000)),)).value(12) is None
    assert Transform(1, 1).value(12) is None


@pytest.mark.parametrize(("type_", "number"), [(12, -1), (12, 1 << 32), (0x8000, 1), (-1, 1)])
def test_attributes_that_cannot_be_written(type_: int, number: int) -> None:
    with pytest.raises(WireError):
        Attribute.of(type_, number).emit(Writer())


def test_a_short_attribute_has_two_octets() -> None:
    with pytest.raises(WireError, match="of 3 octets"):
        Attribute(1, b"abc", short=True).emit(Writer())


def test_no_value_is_shown() -> None:
    assert "secret" not in repr(Attribute(16522, b"secret"))


ONE = "00000010 01010001 00000008 01010000"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "needs 1 octets"),
        ("00000008 01010000", "a proposal of 0 transforms"),
        ("00000008 010100ff", "a proposal of 255 transforms"),
        ("00000008 01010001", "needs 1 octets"),
        (ONE + "00", "marker 0 where 2 is due"),
        ("02" + ONE[2:] + "00", "needs 1 octets"),
        ("00000014 01010001 00000008 01010000 00000000", "marker 0 where 3 is due"),
        ("00000010 01010001 03000008 01010000", "marker 3 where 0 is due"),
        ("00000018 01010002 00000008 01010000 00000008 02010000", "marker 0 where 3 is due"),
        ("02000010 01010001 00000008 01010000", "marker 2 where 0 is due"),
        (ONE + ONE, "marker 0 where 2 is due"),
        ("00000010 01010001 00000003 01010000", "1 octets too small"),
        ("00000010 01010001 00000009 01010000", "needs 5 octets"),
        ("00000014 01010001 0000000c 01010000 000c0001", "needs 1 octets"),
        ("00000012 01010001 0000000a 01010000 800c", "needs 2 octets"),
        ("00000010 01030001 00000008 010c0000", "an SPI of 0 octets for ESP"),
        ("00000014 01030401 000000ff 00000008 010c0000", "an SPI of 000000ff, which no SA has"),
        ("00000014 01020401 00000000 00000008 01030000", "an SPI of 00000000, which no SA has"),
        ("00000018 01040801 0000000000000001 00000008 01020000", "an SPI of 8 octets for IPCOMP"),
        ("00000010 01011101 00000008 01010000", "an SPI of 17 octets for ISAKMP"),
    ],
)  # fmt: skip
def test_what_does_not_add_up_is_refused(text: str, why: str) -> None:
    with pytest.raises(WireError, match=why):
        sa(text)


def test_an_spi_in_phase_1_is_kept_and_means_nothing() -> None:
    (proposal,) = sa("00000018 01010801 0001020304050607 00000008 01010000").proposals
    assert proposal.spi == bytes(range(8))


def test_bounds() -> None:
    many = "02" + ONE[2:]
    assert len(sa(many * 63 + ONE).proposals) == 64
    with pytest.raises(WireError, match="more than 64 proposals"):
        parse_proposals(Reader(bytes.fromhex(many * 4000)))
    with pytest.raises(WireError, match=f"more than {MAX_ATTRIBUTES} attributes"):
        parse_attributes(Reader(b"\x80\0\0\0" * 16000))
    assert len(parse_attributes(Reader(b"\x80\0\0\0" * MAX_ATTRIBUTES))) == MAX_ATTRIBUTES


@pytest.mark.parametrize(
    ("text", "doi", "situation"),
    [
        ("00000002 00000001 ff", 2, 0),
        ("ffffffff ffffffff", 0xFFFFFFFF, 0),
        ("00000001 00000002 ffff", 1, 2),  # SIT_SECRECY, with labels behind it
        ("00000001 ffffffff", 1, 0xFFFFFFFF),
    ],
)
def test_other_domains_and_situations_are_kept_and_not_understood(
    text: str, doi: int, situation: int
) -> None:
    """CVE-2015-3204 was an assertion about these bits."""
    data = bytes.fromhex(text)
    parsed = SecurityAssociation.parse(Reader(data))
    assert (parsed.doi, parsed.situation, parsed.proposals) == (doi, situation, ())
    assert body_of(parsed) == data


def test_the_domain_may_be_left_open_in_phase_1() -> None:
    parsed = SecurityAssociation.parse(
        Reader(bytes.fromhex("00000000 00000001 00000010 01010001 00000008 01010000"))
    )
    assert len(parsed.proposals) == 1


def test_the_body_is_what_came_though_we_would_write_it_otherwise() -> None:
    reserved = bytes.fromhex("00000001 00000001 00ff0010 01010001 00ff0008 0101ffff")
    parsed = SecurityAssociation.parse(Reader(reserved))
    assert parsed.proposals == (Proposal(1, 1, b"", (Transform(1, 1),)),)
    assert body_of(parsed) == reserved != SecurityAssociation.of(parsed.proposals).body
