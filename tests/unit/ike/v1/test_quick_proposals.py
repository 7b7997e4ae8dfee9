"""ESP proposals of IKEv1: the numbers, what is chosen of them, and what is refused."""

from dataclasses import replace

import pytest

from espudp.crypto.suites import ESP_SUITES, EspSuite, dh_by_keyword
from espudp.ike.lifetimes import LifetimeConfig
from espudp.ike.proposals import DEFAULT_ESP_PROPOSALS, EspProposal
from espudp.ike.v1.esp_proposals import (
    describe_mismatch,
    groups_of,
    mode_name,
    offer_esp,
    read,
    select_esp,
    verify_esp,
)
from espudp.ike.v1.life import Life, life_of
from espudp.wire.buffer import Reader, Writer
from espudp.wire.ikev1.attributes import Attribute
from espudp.wire.ikev1.constants import Encapsulation, IpsecAttribute, LifeType, ProtocolId
from espudp.wire.ikev1.proposal import Proposal, Transform, emit_proposals, parse_proposals

SPI, OTHER = b"\x12\x34\x56\x78", b"\x87\x65\x43\x21"
HOUR = Life(3600)
MODP2048 = dh_by_keyword("modp2048")
UDP = Encapsulation.UDP_TUNNEL


def esp(*texts: str) -> tuple[EspProposal, ...]:
    return tuple(map(EspProposal.parse, texts))


def offer(*texts: str, mode: int = UDP, pfs: bool = False, life: Life = HOUR) -> tuple[Proposal, ...]:
    return offer_esp(esp(*texts), SPI, group=MODP2048 if pfs else None, mode=mode, life=life)


def over_the_wire(proposals: tuple[Proposal, ...]) -> tuple[Proposal, ...]:
    writer = Writer()
    emit_proposals(writer, proposals)
    return parse_proposals(Reader(writer.getvalue()))


@pytest.mark.parametrize(
    ("name", "transform", "auth", "bits"),
    [
        ("aes128-sha1", 12, 2, 128),
        ("aes256-sha256", 12, 5, 256),
        ("aes192-sha384", 12, 6, 192),
        ("aes256-sha512", 12, 7, 256),
        ("aes128-aesxcbc", 12, 9, 128),
        ("aes128ctr-sha1", 13, 2, 128),
        ("aes128ccm8", 14, None, 128),
        ("aes192ccm12", 15, None, 192),
        ("aes256ccm16", 16, None, 256),
        ("aes128gcm8", 18, None, 128),
        ("aes128gcm12", 19, None, 128),
        ("aes256gcm16", 20, None, 256),
        ("aes128gmac", 23, None, 128),
        ("3des-sha1", 3, 2, None),
        ("null-sha256", 11, 5, None),
    ],
)
def test_numbers_of_the_registry(name: str, transform: int, auth: int | None, bits: int | None) -> None:
    ((found,),) = ([t for p in offer(name) for t in p.transforms],)
    assert found.id == transform
    assert found.value(IpsecAttribute.AUTHENTICATION) == auth
    assert found.value(IpsecAttribute.KEY_LENGTH) == bits
    assert found.value(IpsecAttribute.ENCAPSULATION) == UDP


@pytest.mark.parametrize("suite", [s for s in ESP_SUITES if not s.esn], ids=lambda s: s.name)
def test_every_suite_that_has_a_number_comes_back(suite: EspSuite) -> None:
    if "chacha" in suite.name or "cmac" in suite.name:
        assert offer(suite.name) == ()
        return
    terms = read(over_the_wire(offer(suite.name))[0].transforms[0])
    assert terms is not None
    assert (terms.suite, terms.group, terms.mode, terms.life) == (suite, None, UDP, HOUR)


def test_the_group_is_in_every_transform() -> None:
    """RFC 2409 section 5.5"""
    (proposal,) = offer("aes128gcm16-modp2048", "aes128-aes256-sha1-sha256-modp2048", pfs=True)
    assert len(proposal.transforms) == 5
    assert {t.value(IpsecAttribute.GROUP) for t in proposal.transforms} == {14}
    assert [t.number for t in proposal.transforms] == [1, 2, 3, 4, 5]


def test_groups_without_a_number_are_left_out_and_none_comes_first() -> None:
    groups = groups_of(DEFAULT_ESP_PROPOSALS)
    assert groups[0] is None
    assert not {"curve25519", "curve448"} & {g.keyword for g in groups if g is not None}
    assert groups_of(esp("aes128gcm16-modp2048")) == [MODP2048]
    assert groups_of(esp("aes128gcm16")) == [None]
    assert groups_of(esp("aes128gcm16-curve25519")) == []


def choose(offered: tuple[Proposal, ...], *accepted: str, mode: int = UDP, ke: bool = False) -> str | None:
    choice = select_esp(offered, esp(*accepted), modes=(mode, None), with_key_exchange=ke)
    return None if choice is None else choice.terms.suite.name


class TestChoosing:
    def test_the_initiators_order_counts(self) -> None:
        offered = over_the_wire(offer("3des-sha1", "aes256-sha256", "aes128gcm16"))
        assert choose(offered, "aes128gcm16", "aes256-aes128-sha256") == "aes256-sha256"

    def test_nothing_in_common(self) -> None:
        assert choose(offer("3des-sha1"), "aes128-sha1", "3des-sha256") is None

    def test_aead_and_mac_do_not_mix(self) -> None:
        (proposal,) = offer("aes128gcm16")
        with_mac = replace(
            proposal.transforms[0],
            attributes=(*proposal.transforms[0].attributes, Attribute.of(IpsecAttribute.AUTHENTICATION, 2)),
        )
        assert read(with_mac) is None
        (proposal,) = offer("aes128-sha1")
        bare = tuple(a for a in proposal.transforms[0].attributes if a.type != IpsecAttribute.AUTHENTICATION)
        assert read(replace(proposal.transforms[0], attributes=bare)) is None

    @pytest.mark.parametrize("protocol", [ProtocolId.AH, ProtocolId.IPCOMP, 9])
    def test_other_protocols_are_passed_over_alone_and_beside_esp(self, protocol: int) -> None:
        (good,) = offer("aes128gcm16")
        other = Proposal(1, protocol, b"\x01\x02\x03\x04", (Transform(1, 3),))
        assert choose((other,), "aes128gcm16") is None
        assert choose((good, other), "aes128gcm16") is None, "both are wanted together"
        assert choose((other, replace(good, number=2)), "aes128gcm16") == "aes128gcm16"

    def test_pfs_is_taken_where_none_is_asked_for(self) -> None:
        offered = offer("aes128gcm16-modp2048", pfs=True)
        assert choose(offered, "aes128gcm16", ke=True) == "aes128gcm16"
        assert choose(offered, "aes128gcm16-ecp256", ke=True) is None
        assert choose(offered, "aes128gcm16", ke=False) is None, "a group, and no KE payload"

    def test_pfs_that_we_ask_for_is_not_left_out(self) -> None:
        assert choose(offer("aes128gcm16"), "aes128gcm16-modp2048") is None
        assert choose(offer("aes128gcm16"), "aes128gcm16-modp2048-none") == "aes128gcm16"

    @pytest.mark.parametrize("mode", [0, 1, 2, 4, 5, 61443])
    def test_another_mode_is_refused(self, mode: int) -> None:
        assert choose(offer("aes128gcm16", mode=mode), "aes128gcm16") is None

    def test_unknown_attributes_and_contradictions(self) -> None:
        (proposal,) = offer("aes128-sha1")
        transform = proposal.transforms[0]
        for extra in (Attribute.of(7, 12), Attribute.of(11, 1), Attribute.of(IpsecAttribute.KEY_LENGTH, 256)):
            assert read(replace(transform, attributes=(*transform.attributes, extra))) is None
        again = Attribute.of(IpsecAttribute.KEY_LENGTH, 128)
        assert read(replace(transform, attributes=(*transform.attributes, again))) is not None

    def test_the_answer_is_as_it_was_offered(self) -> None:
        offered = over_the_wire(offer("3des-sha1", "aes128-sha1"))
        choice = select_esp(offered, esp("aes128-sha1"), modes=(UDP,), with_key_exchange=False)
        assert choice is not None
        assert choice.peer_spi == SPI
        ((answer,), transform) = choice.to_wire(OTHER), offered[0].transforms[1]
        assert (answer.spi, answer.transforms) == (OTHER, (transform,))


class TestVerifying:
    def answer(self, text: str = "aes128-sha1", **options: object) -> tuple[Proposal, ...]:
        (proposal,) = offer(text, **options)  # type: ignore[arg-type]
        return (replace(proposal, spi=OTHER),)

    def verify(self, answer: tuple[Proposal, ...], *, pfs: bool = False) -> bool:
        offered = esp("aes128-aes256-sha1-modp2048-none")
        return verify_esp(answer, offered, group=MODP2048 if pfs else None, mode=UDP) is not None

    def test_what_was_offered(self) -> None:
        assert self.verify(self.answer())
        assert self.verify(self.answer("aes128-sha1-modp2048", pfs=True), pfs=True)

    def test_renumbered_sorted_and_with_another_lifetime(self) -> None:
        (proposal,) = self.answer(life=Life(1200, 50_000))
        transform = proposal.transforms[0]
        shuffled = (*transform.attributes[4:], *transform.attributes[:4])
        other = replace(transform, number=9, attributes=shuffled)
        assert self.verify((replace(proposal, number=7, transforms=(other,)),))

    def test_what_was_not_offered(self) -> None:
        assert not self.verify(self.answer("3des-sha1"))
        assert not self.verify(self.answer(mode=Encapsulation.TUNNEL))
        assert not self.verify(self.answer("aes128-sha1-modp2048", pfs=True))
        assert not self.verify(self.answer(), pfs=True)

    def test_two_of_a_kind(self) -> None:
        (proposal,) = self.answer()
        assert not self.verify((proposal, proposal))
        assert not self.verify((replace(proposal, transforms=proposal.transforms * 2),))
        assert not self.verify(())


def test_both_offers_are_told() -> None:
    ah = Proposal(2, ProtocolId.AH, SPI, (Transform(1, 3),))
    cast = Proposal(3, ProtocolId.ESP, SPI, (Transform(1, 6), Transform(2, 200)))
    text = describe_mismatch((*offer("3des-sha1", mode=61443), ah, cast), esp("aes128gcm16"), (UDP, None))
    assert text.splitlines() == [
        "peer offers    3des-sha1 (tunnel in UDP of a draft), AH, cast (no mode), encr#200 (no mode)",
        "accepted here  aes128gcm16 (tunnel in UDP)",
    ]
    assert mode_name(2) == "transport"
    assert mode_name(99) == "mode 99"


class TestLifetimes:
    def test_both_forms_are_read(self) -> None:
        for duration in (
            Attribute.of(IpsecAttribute.LIFE_DURATION, 3600),
            Attribute(IpsecAttribute.LIFE_DURATION, (3600).to_bytes(4)),
            Attribute(IpsecAttribute.LIFE_DURATION, (3600).to_bytes(8)),
        ):
            kind = Attribute.of(IpsecAttribute.LIFE_TYPE, LifeType.SECONDS)
            assert life_of((kind, duration)) == Life(3600)

    def test_both_units_in_any_order(self) -> None:
        attributes = Life(86400, 100_000).attributes()
        assert life_of(attributes) == Life(86400, 100_000)
        assert life_of(attributes[2:] + attributes[:2]) == Life(86400, 100_000)

    def test_nonsense(self) -> None:
        seconds, kilobytes = Life(10).attributes(), Life(None, 10).attributes()
        assert life_of(seconds[1:]) is None, "a duration of nothing"
        assert life_of([*seconds, *Life(11).attributes()]) is None, "two at odds"
        assert life_of([*seconds, *seconds, *kilobytes]) == Life(10, 10)
        unknown = Attribute.of(IpsecAttribute.LIFE_TYPE, 3)
        assert life_of([unknown, seconds[1]]) is None
        assert life_of([seconds[0], Attribute(IpsecAttribute.LIFE_DURATION, b"")]) is None
        assert life_of([]) == Life()

    def test_the_shorter_one_counts(self) -> None:
        config = LifetimeConfig(soft_seconds=3000.0, hard_seconds=3600.0)
        assert Life(7200).limit(config) == config
        shorter = Life(1800, 10_240).limit(config)
        assert (shorter.soft_seconds, shorter.hard_seconds) == (1500.0, 1800.0)
        assert shorter.hard_bytes == 10_240 * 1024
        assert shorter.soft_bytes is not None
        assert shorter.soft_bytes < shorter.hard_bytes

    def test_nobody_makes_us_rekey_all_the_time(self) -> None:
        shorter = Life(1, 1).limit(LifetimeConfig())
        assert shorter.hard_seconds == 60.0
        assert shorter.hard_bytes == 1 << 20
