"""The table of levels says what RFC 8247 and RFC 8221 say, of every algorithm there is."""

import re
from itertools import chain

import pytest

from espudp.crypto import suites
from espudp.crypto.policy import AUTH_METHODS, POLICY, SOUND_GROUPS, Level, warnings_about
from espudp.crypto.suites import Dh, Encr, Integ, Prf
from espudp.ike.proposals import DEFAULT_ESP_PROPOSALS, DEFAULT_IKE_PROPOSALS

ROWS: list[Encr | Integ | Prf | Dh] = [*suites.ENCR, *suites.INTEG, *suites.PRF, *suites.DH]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.keyword)
def test_every_algorithm_has_a_rule(row: Encr | Integ | Prf | Dh) -> None:
    rule = POLICY[row.keyword]
    assert rule.ike or rule.esp
    assert (rule.esp is None) == isinstance(row, Prf)


def test_what_must_not_or_should_not_be_has_a_reason() -> None:
    for rule in POLICY.values():
        if {rule.ike, rule.esp} & {Level.SHOULD_NOT, Level.MUST_NOT}:
            assert rule.weakness, rule.keyword
    for auth in AUTH_METHODS:
        assert bool(auth.weakness) == (auth.method in (3, 13)), auth.name


def test_everything_that_must_be_is_there_and_sound() -> None:
    """But NULL, which has to be there, and encrypts nothing."""
    here = {row.keyword for row in ROWS}
    for rule in POLICY.values():
        if {rule.ike, rule.esp} & {Level.MUST, Level.MUST_MINUS, Level.SHOULD_PLUS, Level.SHOULD}:
            assert rule.keyword in here
            assert not rule.weakness or rule.keyword == "null"


@pytest.mark.parametrize(
    ("keyword", "ike", "esp"),
    [
        # RFC 8247 section 2, RFC 8221 sections 5 and 6
        ("aes128", "MUST", "MUST"),
        ("aes192", "MAY", "MAY"),
        ("aes256gcm16", "SHOULD", "MUST"),
        ("chacha20poly1305", "SHOULD", "SHOULD"),
        ("aes128ccm8", "SHOULD", "SHOULD"),
        ("aes256ccm8", "MAY", "MAY"),
        ("3des", "MAY", "SHOULD NOT"),
        ("null", "MUST NOT", "MUST"),
        ("des", "MUST NOT", "MUST NOT"),
        ("sha256", "MUST", "MUST"),
        ("sha512", "SHOULD", "SHOULD"),
        ("sha1", "MUST-", "MUST-"),
        ("aesxcbc", "SHOULD", "SHOULD"),
        ("md5", "MUST NOT", "MUST NOT"),
        ("prfsha512", "SHOULD+", None),
        ("prfsha1", "MUST-", None),
        ("prfmd5", "MUST NOT", None),
        ("modp2048", "MUST", "MUST"),
        ("ecp256", "SHOULD", "SHOULD"),
        ("modp1536", "SHOULD NOT", "SHOULD NOT"),
        ("modp1024", "SHOULD NOT", "SHOULD NOT"),
        ("modp768", "MUST NOT", "MUST NOT"),
        ("modp1024s160", "MUST NOT", "MUST NOT"),
        ("modp2048s224", "SHOULD NOT", "SHOULD NOT"),
        ("modp2048s256", "SHOULD NOT", "SHOULD NOT"),
    ],
)
def test_levels_of_the_rfcs(keyword: str, ike: str | None, esp: str | None) -> None:
    rule = POLICY[keyword]
    assert (rule.ike and rule.ike.value, rule.esp and rule.esp.value) == (ike, esp)


def test_levels_of_authentication_methods() -> None:
    """RFC 8247 section 3.1."""
    levels = {rule.method: rule.level.value for rule in AUTH_METHODS if rule.method != 13}
    assert levels == {
        1: "MUST", 2: "MUST", 3: "SHOULD NOT", 9: "SHOULD", 10: "SHOULD", 11: "SHOULD", 14: "SHOULD",
    }  # fmt: skip


def test_nothing_weak_by_default() -> None:
    for proposal in (*DEFAULT_IKE_PROPOSALS, *DEFAULT_ESP_PROPOSALS):
        assert not warnings_about(str(proposal))
    offered = set(chain.from_iterable(str(p).split("-") for p in DEFAULT_IKE_PROPOSALS))
    assert not offered & {"3des", "sha1", "prfsha1", "modp1024"}


def test_groups_by_default_are_14_to_21_and_31_and_32() -> None:
    wanted = {*range(14, 22), 31, 32}
    assert {group.transform_id for group in SOUND_GROUPS} == wanted
    for proposal in DEFAULT_IKE_PROPOSALS:
        assert {group.transform_id for group in proposal.dh} == wanted
    for child in DEFAULT_ESP_PROPOSALS:
        assert {group.transform_id for group in child.groups} == wanted


def test_a_warning_names_the_algorithm_and_says_why_once() -> None:
    lines = warnings_about("3des-aes128-sha1-prfsha1-modp1024-modp1024")
    assert [line.split()[0] for line in lines] == ["3des", "modp1024"]
    assert all(re.fullmatch(r"\w+ [a-z].*[^.]", line) for line in lines)
    (line,) = warnings_about("null-sha256-esn")
    assert line == "null encrypts nothing: whoever is on the way reads the traffic"
