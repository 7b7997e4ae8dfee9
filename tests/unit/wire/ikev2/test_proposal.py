"""Proposals and transforms (RFC 7296 section 3.3)."""

import pytest

from espudp.errors import WireError
from espudp.wire.buffer import Reader, Writer
from espudp.wire.ikev2.proposal import (
    MAX_PROPOSALS,
    MAX_TRANSFORMS,
    Proposal,
    Transform,
    emit_proposals,
    parse_proposals,
)

AES_CBC_128 = Transform(1, 12, 128)
SHA1_96 = Transform(3, 2)
NO_ESN = Transform(5, 0)

ESP = "00000028 01030403 2ad4c0a2"
TRANSFORMS = "0300000c0100000c800e0080 0300000803000002 0000000805000000"


def parse(text: str) -> tuple[Proposal, ...]:
    reader = Reader(bytes.fromhex(text))
    proposals = parse_proposals(reader)
    reader.expect_end()
    return proposals


def emit(*proposals: Proposal) -> bytes:
    writer = Writer()
    emit_proposals(writer, proposals)
    return writer.getvalue()


def ike(number: int, *transforms: Transform, spi: bytes = b"") -> Proposal:
    return Proposal(number, 1, spi, transforms)


def test_an_esp_proposal() -> None:
    (proposal,) = parse(ESP + TRANSFORMS)
    assert proposal == Proposal(1, 3, bytes.fromhex("2ad4c0a2"), (AES_CBC_128, SHA1_96, NO_ESN))
    assert emit(proposal) == bytes.fromhex(ESP + TRANSFORMS)
    assert proposal.of_type(3) == (SHA1_96,)
    assert proposal.of_type(4) == ()


def test_several_proposals_keep_their_order_and_carry_their_markers() -> None:
    proposals = (ike(1, AES_CBC_128, SHA1_96), ike(2, Transform(1, 20, 256)), ike(3))
    wire = emit(*proposals)
    assert wire.hex() == (
        "0200001c01010002" "0300000c0100000c800e0080" "0000000803000002"
        "0200001402010001" "0000000c01000014800e0100"
        "0000000803010000"
    )  # fmt: skip
    assert parse_proposals(Reader(wire)) == proposals


def test_an_accepted_proposal_keeps_the_number_that_it_was_offered_with() -> None:
    assert parse("0000000807010000") == (ike(7),)


@pytest.mark.parametrize("numbers", [(1, 1), (1, 3), (2, 1), (255, 0)])
def test_numbers_go_up_in_steps_of_one(numbers: tuple[int, int]) -> None:
    wire = emit(ike(numbers[0]), ike(numbers[1]))
    with pytest.raises(WireError, match=f"proposal {numbers[1]} follows proposal {numbers[0]}"):
        parse_proposals(Reader(wire))


@pytest.mark.parametrize(
    ("protocol", "octets", "fine"),
    [
        (1, 0, True), (1, 8, True), (1, 4, False), (1, 16, False),
        (2, 4, True), (2, 0, False),
        (3, 4, True), (3, 0, False), (3, 8, False), (3, 3, False),
        (200, 0, True), (200, 4, True), (200, 8, True), (200, 255, False),
    ],
)  # fmt: skip
def test_the_size_of_an_spi_is_that_of_its_protocol(protocol: int, octets: int, fine: bool) -> None:
    proposal = Proposal(1, protocol, b"\x01" * octets, ())
    wire = emit(proposal)
    if fine:
        assert parse_proposals(Reader(wire)) == (proposal,)
    else:
        with pytest.raises(WireError, match=f"SPI of {octets} octets"):
            parse_proposals(Reader(wire))


@pytest.mark.parametrize(
    ("protocol", "spi", "fine"),
    [
        (1, "0000000000000000", False), (1, "0000000000000001", True),
        (2, "00000000", False), (2, "000000ff", False), (2, "00000100", True),
        (3, "00000000", False), (3, "00000001", False), (3, "000000ff", False), (3, "00000100", True),
    ],
)  # fmt: skip
def test_reserved_spis_name_no_sa(protocol: int, spi: str, fine: bool) -> None:
    # RFC 4303 section 2.1. Sent in ESP, zero would look like the non-ESP marker
    proposal = Proposal(1, protocol, bytes.fromhex(spi), ())
    if fine:
        assert parse_proposals(Reader(emit(proposal))) == (proposal,)
    else:
        with pytest.raises(WireError, match=f"SPI of {spi}"):
            parse_proposals(Reader(emit(proposal)))


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "needs 1 octets"),
        ("000000", "needs 2 octets"),
        ("0000000001010000", "4 octets too small"),
        ("0000000301010000", "1 octets too small"),
        ("0000000701010000", "needs 1 octets"),
        ("0000000901010000", "needs 5 octets"),
        ("ff00000801010000", "marker 255 where 0 is due"),
        ("0200000801010000", "marker 2 where 0 is due"),
        ("0000000801010000 0000000802010000", "marker 0 where 2 is due"),
        ("0300000801010000 0000000802010000", "marker 3 where 2 is due"),
        # the count promises more than is there, and less
        ("0000000801010001", "needs 1 octets"),
        ("0000001001010002 0000000803000002", "marker 0 where 0|needs 1 octets"),
        ("0000001001010000 0000000803000002", "8 octets too many"),
        ("0000001001010001 0300000803000002", "marker 3 where 0 is due"),
        ("0000001001010001 0200000803000002", "marker 2 where 0 is due"),
        ("0000001801010002 0000000803000002 0000000803000005", "marker 0 where 3 is due"),
        # transforms of length zero, 4, and beyond their proposal
        ("0000001001010001 0000000003000002", "4 octets too small"),
        ("0000001001010001 0000000403000002", "needs 1 octets"),
        ("0000001001010001 0000000903000002", "needs 5 octets"),
        ("0000001001010001 0000ffff03000002", "needs 65531 octets"),
        # attributes cut off, and longer than their transform
        ("0000001201010001 0000000a0100000c800e", "needs 2 octets"),
        ("0000001401010001 0000000c0100000c000e0001", "needs 1 octets"),
        ("0000001401010001 0000000c0100000c000effff", "needs 65535 octets"),
    ],
)
def test_lengths_counts_and_markers_must_agree(text: str, why: str) -> None:
    with pytest.raises(WireError, match=why):
        parse(text)


@pytest.mark.parametrize(
    "attributes",
    [
        "800f0080",  # fixed, another type
        "000e000400000080",  # a key length, but not in the fixed format
        "00110000",  # variable, empty
        "800e0080 800e0100",  # two key lengths
        "800e0080 00110003aabbcc",
    ],
)
def test_a_transform_with_an_attribute_that_is_not_ours_equals_none_of_ours(attributes: str) -> None:
    data = bytes.fromhex("0100000c" + attributes)
    transform = Transform.parse(Reader(data))
    assert transform.unknown_attributes
    assert transform not in {Transform(1, 12, bits) for bits in (None, 128, 192, 256)}
    writer = Writer()
    transform.emit(writer, last=True)
    assert writer.getvalue()[4:] == data


def test_reserved_octets_are_ignored() -> None:
    (proposal,) = parse("00ff0014 01010001 00ff000c 01ff000c 800e0080")
    assert proposal == ike(1, AES_CBC_128)


def test_the_number_of_proposals_and_of_transforms_is_bounded() -> None:
    most = tuple(ike(number) for number in range(1, MAX_PROPOSALS + 1))
    assert parse_proposals(Reader(emit(*most))) == most
    with pytest.raises(WireError, match="more than"):
        parse_proposals(Reader(emit(*most, ike(MAX_PROPOSALS + 1))))
    full = ike(1, *[SHA1_96] * MAX_TRANSFORMS)
    assert parse_proposals(Reader(emit(full))) == (full,)
    with pytest.raises(WireError, match=f"{MAX_TRANSFORMS + 1} transforms"):
        parse_proposals(Reader(emit(ike(1, *[SHA1_96] * (MAX_TRANSFORMS + 1)))))


def test_what_does_not_fit_is_not_sent() -> None:
    with pytest.raises(WireError):
        emit(ike(1, *[SHA1_96] * 256))
    with pytest.raises(WireError):
        emit(ike(256))
    with pytest.raises(WireError):
        emit(ike(1, Transform(1, 12, 65536)))
