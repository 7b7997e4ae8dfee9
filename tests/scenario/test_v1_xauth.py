"""Clients that log in after phase 1 of IKEv1 (XAUTH): each way, and those that lie."""

from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from espudp.ike.config import Identity
from espudp.ike.credentials import Demand, NoDemand, NoProof, Proof, Psk, PskOf
from espudp.ike.drop import Drop
from espudp.ike.eap.users import User, UserTable
from espudp.ike.events import (
    ChildInstalled,
    ConnectionDown,
    ConnectionUp,
    Diagnostic,
    Fault,
    IkeRekeyed,
    PeerAddressAssigned,
    PeerRefused,
)
from espudp.ike.ikev1_config import Ikev1Config, Ikev1Policy, Mode
from espudp.ike.pad import PadEntry, Pattern
from espudp.ike.proposals import EspProposal, IkeProposal
from espudp.ike.v1 import login, mode_config, xauth
from espudp.ike.v1.asking import Asking
from espudp.ike.v1.established import Established
from espudp.ike.xauth import XauthLogin, XauthUsers
from espudp.wire.ikev1.attributes import Attribute
from espudp.wire.ikev1.constants import CfgAttribute, CfgType
from espudp.wire.ikev1.payloads import Attributes
from tests.scenario.credentials import CLIENT, SERVER, person, trust
from tests.scenario.lab import PSK, Lab, Terms
from tests.sim.link import Quality
from tests.unit.ike.eap.talk import chance
from tests.unit.ike.pair import Pair, client_child, client_config, server_config

PASSWORD = "open sesame"
TABLE = UserTable([User.of_password("alice", PASSWORD), User.of_password("bob", "b" * 20)], chance())
USERS, CHAPPED = XauthUsers(users=TABLE), XauthUsers(users=TABLE, chap=True)
ALICE = XauthLogin(user="alice", password=PASSWORD)

IKE, ESP = IkeProposal.parse("aes128-sha256-ecp256"), EspProposal.parse("aes128-sha256")
POLICY = Ikev1Policy(modes=frozenset(Mode))

Proofs = tuple[Proof, Demand, Proof, Demand]
"""What the client proves itself with and takes for proof, then the server."""
Way = Callable[[], Proofs]

MODES = [pytest.param(mode, id=mode.value) for mode in Mode]
BY_KEY: Proofs = (Psk(PSK), PskOf(PSK), Psk(PSK), PskOf(PSK))


def by_certificate() -> Proofs:
    return person("RSA", CLIENT).proof, trust(), person("RSA", SERVER).proof, trust()


def hybrid() -> Proofs:
    return NoProof(), trust(), person("RSA", SERVER).proof, NoDemand()


WAYS = [
    pytest.param(lambda: BY_KEY, id="pre-shared key"),
    pytest.param(by_certificate, id="certificates"),
    pytest.param(hybrid, id="hybrid"),
]


def pair_of(
    who: XauthLogin | None = ALICE,
    users: XauthUsers | None = USERS,
    *,
    mode: Mode = Mode.AGGRESSIVE,
    proofs: Proofs = BY_KEY,
    peers: tuple[str, ...] = ("*",),
) -> Pair:
    ours, theirs, its, of_us = proofs
    client = replace(
        client_config(
            proof=ours,
            demand=theirs,
            identity=Identity.parse(CLIENT),
            ike=[IKE],
            child=client_child(ESP),
        ),
        ikev1=Ikev1Config(mode=mode, xauth=who),
    )
    patterns = tuple(map(Pattern.parse, peers))
    entry = PadEntry(proof=its, demand=of_us, xauth=users, peers=patterns)
    server = replace(server_config(pad=(entry,), ike=[IKE], esp=[ESP]), ikev1=POLICY)
    return Pair(client, server)


def dialled(pair: Pair) -> Pair:
    pair.dial()
    pair.flush()
    if pair.server.told(PeerRefused):
        assert not downs(pair) or "wants us to log in" in downs(pair)[0].reason  # which we know ourselves
        pair.wait(xauth.REFUSAL_SECONDS)
    return pair


def downs(pair: Pair) -> list[ConnectionDown]:
    return pair.client.told(ConnectionDown)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("way", WAYS)
def test_a_login(mode: Mode, way: Way) -> None:
    pair = dialled(pair_of(mode=mode, proofs=way()))
    assert not downs(pair)
    (up,) = pair.server.told(ConnectionUp)
    assert up.remote_identity == Identity.parse("keyid:alice")
    assert pair.client.told(ConnectionUp)
    assert len(pair.client.told(ChildInstalled)) == len(pair.server.told(ChildInstalled)) == 1
    assert pair.server.told(PeerAddressAssigned)[0].addresses == ("10.99.0.2",)


def test_a_login_by_challenge() -> None:
    pair = dialled(pair_of(users=CHAPPED))
    assert pair.server.told(ConnectionUp)[0].remote_identity == Identity.parse("keyid:alice")


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    "who",
    [
        XauthLogin(user="alice", password="open sesam"),
        XauthLogin(user="mallory", password=PASSWORD),
        XauthLogin(user="bob", password=PASSWORD),
    ],
)
def test_a_wrong_name_or_password(who: XauthLogin, way: Way) -> None:
    pair = dialled(pair_of(who, proofs=way()))
    (down,) = downs(pair)
    assert (down.fault, down.retry) == (Fault.AUTHENTICATION, False)
    assert who.user in down.reason
    assert "--xauth-user" in down.remedy
    (refused,) = pair.server.told(PeerRefused)
    assert "wrong user name or password (XAUTH)" in refused.reason
    assert who.user not in refused.reason
    assert pair.server.endpoint.drops[Drop.UNPROVED] == 1
    assert not pair.server.told(ConnectionUp)
    assert not pair.server.told(ChildInstalled)
    for told in (*pair.client.events, *pair.server.events):
        assert who.password not in repr(told)


def test_who_guesses_keeps_its_place_for_a_while() -> None:
    """So that many guesses at a time are no way round it: places are few for each address."""
    pair = pair_of(XauthLogin(user="alice", password="guess"))
    number = pair.dial()
    pair.flush()
    assert pair.server.told(PeerRefused)
    negotiator = pair.server.endpoint._v1
    assert negotiator is not None
    pair.client.endpoint.close(number, pair.now)  # it tells us, and would begin anew
    pair.flush()
    pair.wait(xauth.REFUSAL_SECONDS - 0.1)
    assert negotiator._hub.admission.half_open == 1
    pair.wait(0.2)
    assert negotiator._hub.admission.half_open == 0
    assert len(pair.server.told(PeerRefused)) == 1


def test_a_stranger_looks_like_a_user_with_a_wrong_password() -> None:
    """As many messages, of the same sizes, to the same end."""
    seen = []
    for user in ("alice", "carol"):  # as long
        pair = dialled(pair_of(XauthLogin(user=user, password="wrong")))
        seen.append([len(data) for data, _ in pair.wire])
    assert seen[0] == seen[1]


def test_a_client_without_a_login() -> None:
    """It offers only the method without XAUTH, and is asked all the same."""
    pair = dialled(pair_of(None))
    (down,) = downs(pair)
    assert down.fault is Fault.AUTHENTICATION
    assert "--xauth-user" in down.remedy
    assert not pair.server.told(ConnectionUp)
    (refused,) = pair.server.told(PeerRefused)
    assert "has no name and password to log in with" in refused.reason


def test_a_gateway_that_asks_for_no_login() -> None:
    """The two do not agree on it: a client that wants to log in would tell its password to anybody."""
    pair = dialled(pair_of(users=None))
    assert not pair.server.told(ChildInstalled) or pair.client.told(ChildInstalled)


def test_hybrid_is_for_the_users_that_the_entry_is_for() -> None:
    assert not downs(dialled(pair_of(proofs=hybrid(), peers=("*@example.org", "keyid:alice"))))
    pair = dialled(pair_of(proofs=hybrid(), peers=("*@example.org", "keyid:bob")))
    assert [down.fault for down in downs(pair)] == [Fault.AUTHENTICATION]
    assert ["none of those" in refused.reason for refused in pair.server.told(PeerRefused)] == [True]


class Skipped:
    """A client that goes on as if it had logged in."""

    def begin(self, established: Established, now: float) -> None:
        established.next_step(now)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("steps", ["quick mode", "mode config"])
def test_nothing_goes_on_before_the_login(monkeypatch: pytest.MonkeyPatch, way: Way, steps: str) -> None:
    """A client that begins quick mode, or asks for an address, where it should log in."""
    monkeypatch.setattr(xauth.XauthClient, "begin", Skipped.begin)
    monkeypatch.setattr(xauth, "answer", lambda *_: None)
    if steps == "quick mode":
        monkeypatch.setattr(mode_config.Pull, "begin", Skipped.begin)
    pair = pair_of(proofs=way())
    pair.dial()
    for _ in range(20):
        pair.move(pair.client)
        pair.move(pair.server)
    assert pair.client.told(ConnectionUp)
    assert pair.server.endpoint.drops[Drop.WRONG_EXCHANGE] > 0
    assert not pair.server.told(ChildInstalled)
    assert not pair.server.told(ConnectionUp)
    assert not pair.server.told(PeerAddressAssigned)
    assert pair.server.told(PeerRefused)


def test_a_gateway_that_never_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(xauth.XauthServer, "begin", lambda *_: None)
    pair = dialled(pair_of())
    pair.wait(120.0)
    (down,) = downs(pair)
    assert down.retry
    (refused,) = pair.server.told(PeerRefused)
    assert "too long to log in" in refused.reason


def test_a_gateway_that_lets_everybody_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """SET without a REQUEST before: a gateway may know enough."""
    begin = xauth.XauthServer._say
    monkeypatch.setattr(
        xauth.XauthServer, "begin", lambda self, established, now: begin(self, established, now, passed=True)
    )
    assert dialled(pair_of()).client.told(ChildInstalled)


def test_a_gateway_that_asks_for_what_was_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = login.LoginClient._attributes
    rounds: Iterator[int] = iter(range(2))

    def first_without(self: login.LoginClient, request: Attributes) -> list[Attribute]:
        return [] if next(rounds, 1) == 0 else list(answers(self, request))

    monkeypatch.setattr(login.LoginClient, "_attributes", first_without)
    assert dialled(pair_of()).server.told(ConnectionUp)


def test_what_the_gateway_says_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    asks = login.LoginServer.request
    monkeypatch.setattr(
        login.LoginServer,
        "request",
        lambda self: (*asks(self), Attribute(CfgAttribute.XAUTH_MESSAGE, b"Authorized\x1b[2J users only")),
    )
    pair = dialled(pair_of())
    assert "The peer says: Authorized[2J users only" in [d.text for d in pair.client.told(Diagnostic)]


def test_a_gateway_that_goes_on_talking_does_not_fill_the_log() -> None:
    pair = dialled(pair_of())
    negotiator = pair.server.endpoint._v1
    assert negotiator is not None
    (gateway,) = (s for s in negotiator._hub.states.values() if isinstance(s, Established))
    for number in range(200):
        asked = (
            Attribute(CfgAttribute.XAUTH_USER_NAME, b""),
            Attribute(CfgAttribute.XAUTH_MESSAGE, b"again %d" % number),
        )
        Asking(gateway, CfgType.REQUEST, asked, lambda _reply, _now: None, pair.now)
        pair.flush()
    said = [d.text for d in pair.client.told(Diagnostic) if "again" in d.text]
    assert "The peer says: again 0" in said
    assert len(said) <= 50
    assert not downs(pair)


def test_a_new_phase_1_takes_a_new_login() -> None:
    pair = dialled(pair_of())
    before = len(pair.wire)
    connection = pair.client.told(ConnectionUp)[0].connection
    pair.client.endpoint.rekey_ike(connection, pair.now)
    pair.flush()
    assert pair.client.told(IkeRekeyed)
    assert pair.server.told(IkeRekeyed)
    assert len(pair.wire) - before >= 7  # aggressive mode, and two transactions
    assert len(pair.server.told(ConnectionUp)) == 1
    assert not downs(pair)


def test_repeated_messages_are_answered_as_before() -> None:
    """Every datagram twice: nobody is asked twice, and nobody is shut out."""
    pair = pair_of()
    pair.dial()
    for _ in range(30):
        for side in (pair.client, pair.server):
            for datagram in pair.take(side):
                for _ in range(2):
                    pair.give(pair.server if side is pair.client else pair.client, datagram)
    assert len(pair.client.told(ChildInstalled)) == len(pair.server.told(ChildInstalled)) == 1
    assert not downs(pair)


def test_a_replay_of_everything_moves_nothing() -> None:
    pair = dialled(pair_of())
    pair.server.forget()
    sent = [(data, path) for data, path in pair.wire if path.local.ip == pair.wire[0][1].local.ip]
    for _ in range(3):
        for datagram in sent:
            pair.give(pair.server, datagram)
    assert not pair.server.told(ConnectionUp)
    assert not pair.server.told(ChildInstalled)
    assert not pair.server.told(ConnectionDown)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("mode", MODES)
def test_on_a_bad_wire(seed: int, mode: Mode) -> None:
    entry = PadEntry(proof=Psk(PSK), demand=PskOf(PSK), xauth=USERS)
    terms = Terms(
        ike=("aes128-sha256-ecp256",),
        esp=("aes128-sha256",),
        pad=(entry,),
        ikev1=Ikev1Config(mode=mode, xauth=ALICE),
        ikev1_policy=POLICY,
    )
    lab = Lab(seed, terms, quality=Quality(loss=0.2, duplicate=0.2, jitter=0.3))
    client = lab.client(behind=lab.nat())
    lab.connect(client, within=120.0)
    assert [up.remote_identity for up in lab.server.told(ConnectionUp)] == [Identity.parse("keyid:alice")]
