"""XAUTH's two sides, without the messages around them (draft-beaulieu-ike-xauth-02)."""

import random

import pytest

from espudp.crypto.chap import chap_md5
from espudp.errors import ConfigError
from espudp.ike.eap.users import User, UserTable
from espudp.ike.v1.login import MAX_ROUNDS, LoginClient, LoginServer, Verdict, status
from espudp.ike.xauth import XauthLogin, XauthUsers
from espudp.wire.ikev1.attributes import Attribute
from espudp.wire.ikev1.constants import CfgAttribute as A
from espudp.wire.ikev1.constants import CfgType, XauthType
from espudp.wire.ikev1.payloads import Attributes

ALICE = XauthLogin(user="alice", password="open sesame")
HASHED = User.of_nt_hash("bob", User.of_password("bob", "b").nt_hash)
TABLE = UserTable([User.of_password("alice", "open sesame"), HASHED], random.Random(1).randbytes)


def _server(*, chap: bool = False) -> LoginServer:
    return LoginServer(XauthUsers(users=TABLE, chap=chap), random.Random(2).randbytes)


def _of(cfg_type: CfgType, *attributes: tuple[int, bytes], identifier: int = 7) -> Attributes:
    return Attributes(cfg_type, identifier, tuple(Attribute(kind, value) for kind, value in attributes))


def _reply(name: bytes, password: bytes, *more: tuple[int, bytes]) -> Attributes:
    return _of(CfgType.REPLY, (A.XAUTH_USER_NAME, name), (A.XAUTH_USER_PASSWORD, password), *more)


def _judged(reply: Attributes, *, chap: bool = False) -> Verdict:
    server = _server(chap=chap)
    server.request()
    return server.judge(reply)


@pytest.mark.parametrize(
    ("name", "password", "verdict"),
    [
        (b"alice", b"open sesame", Verdict.PASSED),
        (b"alice\0", b"open sesame\0", Verdict.PASSED),
        (b"OFFICE\\alice", b"open sesame", Verdict.PASSED),
        (b"bob", b"b", Verdict.PASSED),
        (b"alice", b"Open sesame", Verdict.REFUSED),
        (b"alice", b"open sesame ", Verdict.REFUSED),
        (b"bob", b"open sesame", Verdict.REFUSED),
        (b"mallory", b"open sesame", Verdict.REFUSED),
        (b"mallory", b"\xff\xfe", Verdict.REFUSED),
        (b"alice", b"x" * 60_000, Verdict.REFUSED),
        (b"a" * 60_000, b"x", Verdict.REFUSED),
        (b"alice", b"", Verdict.INCOMPLETE),
        (b"", b"open sesame", Verdict.INCOMPLETE),
    ],
)
def test_names_and_passwords(name: bytes, password: bytes, verdict: Verdict) -> None:
    assert _judged(_reply(name, password)) is verdict


def test_who_has_logged_in() -> None:
    server = _server()
    server.request()
    assert server.user == b""
    server.judge(_reply(b"OFFICE\\alice", b"open sesame"))
    assert server.user == b"alice"


def test_a_domain_in_an_attribute_of_its_own() -> None:
    assert _judged(_reply(b"alice", b"open sesame", (A.XAUTH_DOMAIN, b"OFFICE"))) is Verdict.PASSED


def test_a_passcode_does_for_a_password() -> None:
    reply = _of(CfgType.REPLY, (A.XAUTH_USER_NAME, b"alice"), (A.XAUTH_PASSCODE, b"open sesame"))
    assert _judged(reply) is Verdict.PASSED


def test_a_client_that_cannot_answer_is_refused() -> None:
    assert _judged(Attributes(CfgType.REPLY, 7, status(passed=False))) is Verdict.UNABLE


def test_what_is_left_out_is_asked_for_again_a_few_times() -> None:
    server = _server()
    verdicts = []
    for _ in range(MAX_ROUNDS):
        server.request()
        verdicts.append(server.judge(_of(CfgType.REPLY)))
    assert verdicts == [Verdict.INCOMPLETE] * (MAX_ROUNDS - 1) + [Verdict.REFUSED]


def test_both_sides() -> None:
    server, client = _server(), LoginClient(ALICE)
    answer = client.answer(Attributes(CfgType.REQUEST, 7, server.request()))
    assert answer.trouble is None
    assert server.judge(Attributes(CfgType.REPLY, 7, answer.attributes)) is Verdict.PASSED


def test_both_sides_with_a_challenge() -> None:
    server, client = _server(chap=True), LoginClient(ALICE)
    answer = client.answer(Attributes(CfgType.REQUEST, 0x1234, server.request()))
    reply = Attributes(CfgType.REPLY, 0x1234, answer.attributes)
    assert reply.number(A.XAUTH_TYPE) == XauthType.RADIUS_CHAP
    (response,) = reply.values(A.XAUTH_USER_PASSWORD)
    assert b"open sesame" not in response
    assert response[0] == 0x34
    assert server.judge(reply) is Verdict.PASSED


def test_challenges_are_not_answered_by_passwords_or_hashes() -> None:
    server = _server(chap=True)
    request = Attributes(CfgType.REQUEST, 7, server.request())
    (challenge,) = request.values(A.XAUTH_CHALLENGE)
    assert len(challenge) == 16
    assert server.judge(_reply(b"alice", b"open sesame")) is Verdict.REFUSED
    by_hash = b"\x01" + chap_md5(1, HASHED.nt_hash, challenge)
    assert server.judge(_reply(b"bob", by_hash)) is Verdict.REFUSED
    right = b"\x01" + chap_md5(1, b"open sesame", challenge)
    assert server.judge(_reply(b"mallory", right)) is Verdict.REFUSED
    assert server.judge(_reply(b"alice", right)) is Verdict.PASSED


def test_a_challenge_is_not_used_twice() -> None:
    rng = random.Random(3).randbytes
    servers = [LoginServer(XauthUsers(users=TABLE, chap=True), rng) for _ in range(2)]
    challenges = {next(a.value for a in s.request() if a.type == A.XAUTH_CHALLENGE) for s in servers}
    assert len(challenges) == 2


def _asked(*kinds: int, type_: int | None = None) -> Attributes:
    more = () if type_ is None else (Attribute.of(A.XAUTH_TYPE, type_),)
    return Attributes(CfgType.REQUEST, 9, (*more, *(Attribute(kind, b"") for kind in kinds)))


def test_the_client_answers_what_it_is_asked_and_no_more() -> None:
    name = LoginClient(ALICE).answer(_asked(A.XAUTH_USER_NAME))
    assert [(a.type, a.value) for a in name.attributes] == [(A.XAUTH_USER_NAME, b"alice")]
    office = LoginClient(XauthLogin(user="alice", password="p", domain="OFFICE"))
    answer = office.answer(_asked(A.XAUTH_USER_NAME, A.XAUTH_PASSCODE, A.XAUTH_DOMAIN, 16999))
    assert {a.type: a.value for a in answer.attributes} == {
        A.XAUTH_USER_NAME: b"alice",
        A.XAUTH_PASSCODE: b"p",
        A.XAUTH_DOMAIN: b"OFFICE",
    }


def test_the_password_is_told_once() -> None:
    client = LoginClient(ALICE)
    assert client.answer(_asked(A.XAUTH_USER_NAME)).trouble is None
    assert client.answer(_asked(A.XAUTH_USER_PASSWORD)).trouble is None
    again = client.answer(_asked(A.XAUTH_USER_PASSWORD))
    assert again.trouble is not None
    assert "alice" in str(again.trouble)
    assert again.attributes == status(passed=False)


@pytest.mark.parametrize("kind", [A.XAUTH_USER_PASSWORD, A.XAUTH_PASSCODE, A.XAUTH_ANSWER])
def test_of_several_kinds_of_secrets_the_first_is_told(kind: A) -> None:
    others = [k for k in (A.XAUTH_USER_PASSWORD, A.XAUTH_PASSCODE, A.XAUTH_ANSWER) if k != kind]
    answer = LoginClient(ALICE).answer(_asked(kind, *others))
    assert [(a.type, a.value) for a in answer.attributes] == [(kind, b"open sesame")]


@pytest.mark.parametrize(
    ("request_", "why"),
    [
        (_asked(A.XAUTH_USER_NAME, type_=XauthType.OTP), "one-time password"),
        (_asked(A.XAUTH_USER_NAME, type_=99), "XAUTH type 99"),
        (_asked(A.XAUTH_NEXT_PIN), "new PIN"),
        (_asked(A.XAUTH_USER_PASSWORD, type_=XauthType.RADIUS_CHAP), "challenge"),
    ],
)
def test_what_the_client_cannot_do(request_: Attributes, why: str) -> None:
    answer = LoginClient(ALICE).answer(request_)
    assert answer.trouble is not None
    assert why in str(answer.trouble)
    assert "open sesame" not in str(answer.trouble) + answer.trouble.remedy
    assert answer.attributes == status(passed=False)


def test_a_gateway_that_never_stops_asking() -> None:
    client = LoginClient(ALICE)
    answers = [client.answer(_asked(A.XAUTH_USER_NAME)) for _ in range(MAX_ROUNDS + 1)]
    assert [bool(answer.trouble) for answer in answers] == [False] * MAX_ROUNDS + [True]


def test_what_the_gateway_says_is_made_harmless() -> None:
    client = LoginClient(ALICE)
    client.answer(_of(CfgType.REQUEST, (A.XAUTH_MESSAGE, b"Hello\x1b[31m\r\n\x07there\xe2\x80\xae")))
    assert client.message == "Hello[31m\nthere"
    assert client.message in str(client.refused())


def test_secrets_are_not_shown() -> None:
    server, client = _server(), LoginClient(ALICE)
    answer = client.answer(Attributes(CfgType.REQUEST, 7, server.request()))
    for thing in (ALICE, server, client, answer, XauthUsers(users=TABLE)):
        assert "sesame" not in repr(thing)


def test_logins_that_are_none() -> None:
    for user, password in (("", "x"), ("a" * 2000, "x"), ("alice", "")):
        with pytest.raises(ConfigError):
            XauthLogin(user=user, password=password)
