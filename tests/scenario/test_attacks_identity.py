"""Peers who are who they are, and would be somebody else: whose entry, whose policy, whose password."""

from random import Random

import pytest

from espudp.ike.config import ChildConfig, ConnectionConfig, Identity
from espudp.ike.credentials import CertificateOf, EapClient, EapOf, NoDemand, NoProof, Psk, SignKey
from espudp.ike.drop import Drop
from espudp.ike.eap.login import EapLogin, EapUsers
from espudp.ike.eap.users import UserTable, parse_users
from espudp.ike.events import ConnectionDown, ConnectionUp, PeerRefused
from espudp.ike.narrowing import DYNAMIC
from espudp.ike.pad import PadEntry, Pattern
from espudp.wire.address import Path, UdpAddress
from espudp.wire.eap import EapType
from espudp.wire.selectors import TrafficSelector
from tests.scenario.credentials import SERVER, person, trust
from tests.unit.ike.pair import FOREVER, Pair, client_config, mirrored, server_config

_GATEWAY = person("P-256", SERVER).proof


def _child(network: str) -> ChildConfig:
    return ChildConfig(local=(TrafficSelector.from_network(network),), remote=(DYNAMIC,), lifetime=FOREVER)


_FEW, _ALL = _child("10.1.2.0/24"), _child("10.0.0.0/8")


def _users(content: bytes = b"alice:secret\nadmin:hidden\nbob@example.org:third\n") -> EapOf:
    return EapOf(EapUsers(users=UserTable(parse_users(content), Random(1).randbytes)))


def _entry(demand: EapOf | CertificateOf, child: ChildConfig, *peers: str) -> PadEntry:
    patterns = tuple(map(Pattern.parse, peers)) or (Pattern(),)
    return PadEntry(proof=_GATEWAY, demand=demand, child=child, peers=patterns, name=" ".join(peers))


def _login(user: str, password: str, *, calls_itself: str) -> ConnectionConfig:
    return client_config(
        proof=EapClient(EapLogin(user=user, password=password)),
        demand=trust(),
        identity=Identity.parse(calls_itself),
    )


def _came(client: ConnectionConfig, *pad: PadEntry) -> Pair:
    pair = Pair(client, server_config(pad=pad))
    pair.dial()
    pair.flush()
    return pair


# EAP: what the client calls itself in IDi is anybody's word (RFC 7296 section 2.16)


@pytest.mark.parametrize("order", [1, -1])
def test_a_user_gets_what_is_for_the_user(order: int) -> None:
    """Whatever the client calls itself, with users that all ways in have in common."""
    users = _users()
    pad = (_entry(users, _FEW), _entry(users, _ALL, "admin", "keyid:admin"))[::order]
    for user, password, idi, child in (
        ("alice", "secret", "admin", _FEW),
        ("alice", "secret", "laptop", _FEW),
        ("admin", "hidden", "laptop", _ALL),
        ("CORP\\admin", "hidden", "laptop", _ALL),
    ):
        pair = _came(_login(user, password, calls_itself=idi), *pad)
        assert pair.server.connection.policy.child == child
        assert pair.client.children
        assert pair.server.connection.peer.identity == Identity.of_user(user.encode())


def test_no_user_comes_in_by_the_name_of_another() -> None:
    pair = _came(_login("alice", "secret", calls_itself="admin"), _entry(_users(), _ALL, "admin"))
    assert not pair.client.told(ConnectionUp) + pair.server.told(ConnectionUp)
    assert pair.client.told(ConnectionDown)
    (refusal,) = pair.server.told(PeerRefused)
    assert "keyid:alice" in refusal.reason
    assert pair.server.endpoint.drops[Drop.UNPROVED] == 1


def test_who_is_named_does_not_come_in_as_nobody_in_particular() -> None:
    """With users of its own at each way in, no other one's password says who somebody is."""
    pad = _entry(_users(b"alice:secret\n"), _FEW, "alice"), _entry(_users(b"alice:secret\n"), _ALL)
    pair = _came(_login("alice", "secret", calls_itself="laptop"), *pad)
    assert not pair.server.told(ConnectionUp)
    pair = _came(_login("alice", "secret", calls_itself="ALICE"), *pad)
    assert pair.server.connection.policy.child == _FEW


def test_the_first_entry_of_two_that_fit_alike() -> None:
    users = _users()
    pad = _entry(users, _FEW, "*@example.org"), _entry(users, _ALL, "*@example.org")
    pair = _came(_login("bob@example.org", "third", calls_itself="eve@example.org"), *pad)
    assert pair.server.connection.policy.child == _FEW


# The same name, vouched for in another way


def test_a_key_of_all_does_not_vouch_for_the_name_of_a_user() -> None:
    """Who has the guests' PSK calls itself what a user of EAP is known by: that ends no session of the user,
    and the user's address is not given away.
    """
    guests = PadEntry.of_psk(b"guests")
    pair = Pair(
        _login("alice", "secret", calls_itself="keyid:alice"),
        server_config(pad=(_entry(_users(), _ALL), guests)),
    ).connect()
    (alice,) = pair.server.connection.peer.addresses
    guest = client_config(
        psk=b"guests", identity=Identity.parse("keyid:alice"), remote_identity=None, addresses=(alice,)
    )
    other = Pair(guest, seed=1)
    other.server = pair.server
    other.dial(source=40_000)
    other.flush()
    assert other.client.told(ConnectionUp)
    assert not pair.server.told(ConnectionDown)
    first, second = pair.server.endpoint._hub.connections.values()
    assert first.peer.identity == second.peer.identity
    assert first.peer.addresses == (alice,) != second.peer.addresses


# Certificates know no case in host names: nor does the choice of the entry


@pytest.mark.parametrize("name", ["alice.example.org", "ALICE.example.org", "alice.Example.ORG"])
def test_no_other_spelling_leads_past_an_entry(name: str) -> None:
    alice = person("P-256", "alice.example.org").proof
    pad = _entry(trust(), _FEW, "alice.example.org"), _entry(trust(), _ALL)
    client = client_config(proof=alice, demand=trust(), identity=Identity.parse(name))
    assert _came(client, *pad).server.connection.policy.child == _FEW


# Raw keys: an entry for one peer gives it its name, and one for many does not


@pytest.mark.parametrize(
    ("pattern", "is_known"), [("O=Example, CN=admin", True), ("O=Example, CN=*", False), ("*", False)]
)
def test_no_name_for_the_owner_of_a_key(pattern: str, is_known: bool) -> None:
    admin, owner = Identity.parse("O=Example, CN=admin"), person("P-256", "owner.example.org")
    entry = PadEntry(proof=_GATEWAY, demand=owner.raw_demand, peers=(Pattern.parse(pattern),))
    pair = _came(client_config(proof=owner.raw, demand=trust(), identity=admin), entry)
    assert (pair.server.connection.peer.identity == admin) is is_known


# Passwords


def test_no_password_for_who_has_proved_nothing() -> None:
    """A gateway that stays anonymous (RFC 7619) may be anybody: not even a hash of a password is sent."""
    heard = []

    class Curious:
        def server(self, rng: object) -> object:
            server = EapUsers(users=UserTable(parse_users(b"a:b\n"), Random(1).randbytes)).server(
                Random(2).randbytes
            )
            honest = server.receive
            server.receive = lambda packet: heard.append(packet) or honest(packet)  # type: ignore[method-assign, func-returns-value]
            return server

    login = EapClient(EapLogin(user="alice", password="secret", methods=(EapType.GTC, EapType.MSCHAPV2)))
    client = client_config(proof=login, demand=NoDemand(), remote_identity=None)
    pair = _came(client, PadEntry(proof=NoProof(), demand=EapOf(Curious())))  # type: ignore[arg-type]
    assert not pair.client.told(ConnectionUp)
    assert [packet[4] for packet in heard] == [EapType.IDENTITY, EapType.NAK]
    assert not any(b"secret" in packet for packet in heard)


# Addresses that are somebody else's


@pytest.mark.parametrize("proof", [_GATEWAY, Psk(b"psk")])
def test_no_certificates_to_who_has_not_asked(proof: SignKey | Psk) -> None:
    """Whoever has keys and no proof may send its request from any address, again and again."""
    pair = Pair(
        _login("alice", "secret", calls_itself="laptop"),
        server_config(pad=(PadEntry(proof=proof, demand=_users()),)),
    )
    pair.dial()
    pair.move(pair.client)
    pair.move(pair.server)
    request, path = pair.take(pair.client)[-1]
    victim = Path(UdpAddress("192.0.2.99", 4500), mirrored(path).local)
    pair.give(pair.server, (request, path))
    assert pair.take(pair.server)
    for _ in range(50):
        pair.give(pair.server, (request, victim))
    assert not pair.take(pair.server)
    assert pair.server.endpoint.drops[Drop.ELSEWHERE] == 50
