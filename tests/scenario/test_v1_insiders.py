"""Users of an IKEv1 gateway who have proved who they are, and want what is another's."""

import gc
from dataclasses import replace

import pytest

from espudp.ike.config import ConnectionConfig, Identity, Limits, ListenerConfig
from espudp.ike.credentials import Psk, PskOf
from espudp.ike.drop import Drop
from espudp.ike.events import (
    ChildInstalled,
    ConnectionDown,
    ConnectionUp,
    IkeRekeyed,
    PeerAddressAssigned,
    PeerRefused,
)
from espudp.ike.ikev1_config import Mode
from espudp.ike.pad import PadEntry
from espudp.ike.v1 import xauth
from espudp.ike.v1.attempt import Attempt
from espudp.ike.v1.established import Established
from espudp.ike.xauth import XauthLogin
from espudp.wire.address import Path, UdpAddress
from espudp.wire.ikev1.attributes import Attribute
from espudp.wire.ikev1.constants import (
    CfgAttribute,
    CfgType,
    ExchangeType,
    NotifyType,
    ProtocolId,
    XauthStatus,
)
from espudp.wire.ikev1.payloads import Attributes, Delete, Notification
from espudp.wire.selectors import TrafficSelector
from tests.scenario.credentials import CLIENT as NAME
from tests.scenario.credentials import SERVER as SERVER_NAME
from tests.scenario.credentials import person, trust
from tests.scenario.strangers_v1 import (
    ESP,
    client_v1,
    connection_of,
    sa_of,
    said,
    server_v1,
    states_of,
    users,
)
from tests.unit.ike.pair import PSK, SERVER, SERVER_ID, START, Side, client_child, mirrored

ALICE, BOB = XauthLogin(user="alice", password="a" * 12), XauthLogin(user="bob", password="b" * 12)


class Member:
    """One side that dials, at an address of its own."""

    def __init__(self, ip: str, port: int, name: str = "member") -> None:
        self.side = Side(f"{name} {ip} {port}")
        self.ip, self.port = ip, port

    def path(self, port: int) -> Path:
        """To the server; each has other ports, as behind one NAT."""
        return Path(UdpAddress(self.ip, port + self.port), UdpAddress(SERVER, port))


class Gathering:
    """A server and some who dial it."""

    def __init__(self, server: ListenerConfig) -> None:
        self.now = START
        self.server = Side("server", server)
        self.members: list[Member] = []

    def join(self, config: ConnectionConfig, ip: str = "198.51.100.7", port: int = 0) -> Side:
        """One more, as far as it gets."""
        member = Member(ip, port)
        self.members.append(member)
        member.side.endpoint.connect(config, member.path(500), member.path(4500), self.now)
        self.flush()
        return member.side

    def flush(self) -> None:
        """Until nobody says any more."""
        for _ in range(40):
            moved = 0
            for member in self.members:
                for data, path in member.side.endpoint.datagrams_to_send(self.now):
                    self.server.endpoint.receive_datagram(data, mirrored(path), self.now)
                    moved += 1
            for data, path in self.server.endpoint.datagrams_to_send(self.now):
                to = next(m for m in self.members if self._is_at(m, path.remote))
                to.side.endpoint.receive_datagram(data, mirrored(path), self.now)
                moved += 1
            if not moved:
                return

    def _is_at(self, member: Member, address: UdpAddress) -> bool:
        ports = (member.path(500).local, member.path(4500).local)
        return address in ports

    def wait(self, seconds: float) -> None:
        """Time passes for all."""
        end = self.now + seconds
        while self.now < end:
            self.now = min(end, self.now + 1.0)
            for side in (self.server, *(m.side for m in self.members)):
                side.endpoint.handle_timer(self.now)
            self.flush()

    def hear(self, side: Side, datagram: tuple[bytes, Path]) -> None:
        """The server gets what a side says out of turn."""
        data, path = datagram
        self.server.endpoint.receive_datagram(data, mirrored(path), self.now)
        self.flush()


def _with_users(limits: Limits | None = None) -> ListenerConfig:
    people = users(alice=ALICE.password, bob=BOB.password)
    return server_v1(PadEntry(proof=Psk(PSK), demand=PskOf(PSK), xauth=people), limits=limits or Limits())


def _of_group(login: XauthLogin, mode: Mode = Mode.AGGRESSIVE) -> ConnectionConfig:
    return client_v1(mode, login=login, local_identity=Identity.parse("keyid:staff"))


@pytest.fixture
def two() -> tuple[Gathering, Side, Side]:
    """Alice and Bob, who have logged in, behind one NAT."""
    gathering = Gathering(_with_users())
    alice = gathering.join(_of_group(ALICE))
    bob = gathering.join(_of_group(BOB), port=1000)
    assert len(gathering.server.told(ConnectionUp)) == 2
    assert _addresses(gathering.server) == ["10.99.0.2", "10.99.0.3"]
    return gathering, alice, bob


def _addresses(server: Side) -> list[str]:
    return [address for event in server.told(PeerAddressAssigned) for address in event.addresses]


def _unharmed(gathering: Gathering, side: Side) -> bool:
    """It has what it had, and so has the server."""
    (child,) = side.children
    there = {(c.spi_in, c.spi_out) for c in gathering.server.children}
    return not side.told(ConnectionDown) and (child.spi_out, child.spi_in) in there


# Names


@pytest.mark.parametrize("mode", list(Mode), ids=lambda mode: mode.value)
def test_a_certificate_is_good_for_no_other_name(mode: Mode) -> None:
    entry = PadEntry(proof=person("RSA", SERVER_NAME).proof, demand=trust())
    gathering = Gathering(server_v1(entry))
    config = client_v1(mode, proof=person("RSA", NAME).proof, demand=trust(), remote_identity=None)
    gathering.join(replace(config, local_identity=Identity.parse("bob@example.org")))
    assert not gathering.server.told(ConnectionUp)
    assert gathering.server.told(PeerRefused)
    gathering.join(replace(config, local_identity=Identity.parse(NAME)), "198.51.100.8")
    assert [up.remote_identity for up in gathering.server.told(ConnectionUp)] == [Identity.parse(NAME)]


def test_no_user_throws_another_out(two: tuple[Gathering, Side, Side]) -> None:
    """By INITIAL-CONTACT, which names nobody: whom it is about is who has logged in."""
    gathering, alice, bob = two
    cookies = sa_of(bob).sa.cookie_i + sa_of(bob).sa.cookie_r
    for spi in (cookies, b"", sa_of(alice).sa.cookie_i + sa_of(alice).sa.cookie_r):
        notify = Notification(ProtocolId.ISAKMP, spi, NotifyType.INITIAL_CONTACT)
        gathering.hear(bob, said(bob, ExchangeType.INFORMATIONAL, notify))
    assert _unharmed(gathering, alice)
    gathering.wait(100.0)
    assert _unharmed(gathering, alice)


def test_nobody_deletes_what_is_anothers(two: tuple[Gathering, Side, Side]) -> None:
    gathering, alice, bob = two
    (child,) = alice.children
    spis = tuple(spi.to_bytes(4) for spi in (child.spi_in, child.spi_out))
    cookies = sa_of(alice).sa.cookie_i + sa_of(alice).sa.cookie_r
    for payload in (Delete(ProtocolId.ESP, spis), Delete(ProtocolId.ISAKMP, (cookies,))):
        gathering.hear(bob, said(bob, ExchangeType.INFORMATIONAL, payload))
    for spi in spis:
        invalid = Notification(ProtocolId.ESP, spi, NotifyType.INVALID_SPI, spi)
        gathering.hear(bob, said(bob, ExchangeType.INFORMATIONAL, invalid))
    assert _unharmed(gathering, alice)
    assert _unharmed(gathering, bob)


# Addresses


def _asks(side: Side, *addresses: bytes) -> tuple[bytes, Path]:
    attributes = tuple(Attribute(CfgAttribute.INTERNAL_IP4_ADDRESS, a) for a in addresses)
    return said(side, ExchangeType.TRANSACTION, Attributes(CfgType.REQUEST, 7, attributes))


@pytest.mark.parametrize("wanted", ["10.99.0.2", "10.99.0.1", "10.99.0.0", "10.1.0.1", "192.0.2.1"])
def test_an_address_that_is_anothers_is_not_given(wanted: str) -> None:
    gathering = Gathering(_with_users())
    gathering.join(_of_group(ALICE))
    gathering.join(replace(_of_group(BOB), request_addresses=(wanted,)), port=1000)
    assert _addresses(gathering.server) == ["10.99.0.2", "10.99.0.3"]


def test_who_asks_again_and_again_gets_no_more_addresses(two: tuple[Gathering, Side, Side]) -> None:
    gathering, alice, bob = two
    for number in range(20):
        gathering.hear(
            bob, _asks(bob, *(bytes([10, 99, 0, n]) for n in range(number * 10, number * 10 + 10)))
        )
    gathering.wait(1.0)
    assert _addresses(gathering.server) == ["10.99.0.2", "10.99.0.3"]
    assert _unharmed(gathering, alice)


@pytest.mark.parametrize(
    "local",
    ["10.99.0.2/32", "10.99.0.0/24", "0.0.0.0/0", "198.51.100.7/32", "192.0.2.1/32", "10.1.0.1/32"],
)
def test_traffic_of_others_is_not_to_be_had(local: str) -> None:
    """Bob has 10.99.0.3, and asks for a child SA from other addresses than that."""
    gathering = Gathering(_with_users())
    alice = gathering.join(_of_group(ALICE))
    child = replace(client_child(ESP), local=(TrafficSelector.from_network(local),))
    bob = gathering.join(replace(_of_group(BOB), child=child), port=1000)
    assert not bob.told(ChildInstalled)
    assert len(gathering.server.told(ChildInstalled)) == 1
    assert _unharmed(gathering, alice)


# XAUTH


def _skip_login(monkeypatch: pytest.MonkeyPatch) -> None:
    """Clients go on as if they had logged in, and hear nothing of it."""
    monkeypatch.setattr(
        xauth.XauthClient, "begin", lambda _self, established, now: established.next_step(now)
    )
    monkeypatch.setattr(xauth, "answer", lambda *_: None)


@pytest.mark.parametrize("login", [None, ALICE], ids=["another method", "the same method"])
@pytest.mark.parametrize("mode", list(Mode), ids=lambda mode: mode.value)
def test_a_renewal_takes_a_login_as_the_first_time(
    monkeypatch: pytest.MonkeyPatch, mode: Mode, login: XauthLogin | None
) -> None:
    """Whoever has the key of the group, at the address and port of a user who has logged in."""
    gathering = Gathering(_with_users())
    alice = gathering.join(_of_group(ALICE, mode))
    current = sa_of(gathering.server)
    _skip_login(monkeypatch)
    thief = Member("198.51.100.7", 0, "thief")
    config = replace(_of_group(ALICE, mode), local_identity=Identity.parse("keyid:alice"))
    assert config.ikev1 is not None
    config = replace(config, ikev1=replace(config.ikev1, xauth=login))
    gathering.members = [thief]
    thief.side.endpoint.connect(config, thief.path(500), thief.path(4500), gathering.now)
    gathering.flush()
    assert thief.side.told(ConnectionUp)  # it believes so
    assert sa_of(gathering.server) is current
    assert not gathering.server.told(IkeRekeyed)
    assert len(gathering.server.told(ChildInstalled)) == 1
    assert len(alice.children) == 1


@pytest.mark.parametrize("cfg_type", [CfgType.SET, CfgType.REPLY, CfgType.ACK, CfgType.REQUEST])
def test_who_says_that_it_has_logged_in_has_not(monkeypatch: pytest.MonkeyPatch, cfg_type: CfgType) -> None:
    """STATUS is the gateway's to say."""
    _skip_login(monkeypatch)
    gathering = Gathering(_with_users())
    side = gathering.join(_of_group(ALICE))
    status = Attribute.of(CfgAttribute.XAUTH_STATUS, XauthStatus.OK)
    name = Attribute(CfgAttribute.XAUTH_USER_NAME, b"alice")
    for attributes in ((status,), (status, name), (name,)):
        gathering.hear(side, said(side, ExchangeType.TRANSACTION, Attributes(cfg_type, 1, attributes)))
    assert not gathering.server.told(ConnectionUp)
    assert not gathering.server.told(PeerAddressAssigned)
    assert not gathering.server.told(ChildInstalled)


def test_who_guesses_passwords_waits() -> None:
    """One guess for each phase 1, and one place of the address for a second: also for who goes at once."""
    gathering = Gathering(_with_users(Limits(half_open_per_address=4)))
    for number in range(12):
        config = _of_group(replace(ALICE, password=f"guess {number}"), Mode.MAIN)
        side = gathering.join(config, port=10 * number)
        side.endpoint.close_all(gathering.now)
        gathering.flush()
        assert not gathering.server.told(ConnectionUp)
    assert gathering.server.endpoint.drops[Drop.UNPROVED] == 4
    assert states_of(gathering.server) <= 12
    gathering.wait(60.0)
    assert states_of(gathering.server) == 0
    assert gathering.join(_of_group(ALICE, Mode.MAIN), port=2000).told(ConnectionUp)


# Storms


def test_renewals_without_end_are_not_kept() -> None:
    """Of a user who renews phase 1 as fast as it can."""
    gathering = Gathering(server_v1())
    side = gathering.join(client_v1())
    (up,) = side.told(ConnectionUp)
    for _ in range(60):
        side.endpoint.rekey_ike(up.connection, gathering.now)
        gathering.flush()
    assert states_of(gathering.server) <= 20
    assert len(gathering.server.children) == 1
    gathering.wait(130.0)
    assert states_of(gathering.server) <= 2


def test_renewals_in_peace_leave_nothing_behind() -> None:
    gathering = Gathering(server_v1())
    side = gathering.join(client_v1())
    (up,) = side.told(ConnectionUp)
    for _ in range(12):
        side.endpoint.rekey_ike(up.connection, gathering.now)
        gathering.wait(110.0)
    gc.collect()
    connection = connection_of(gathering.server)
    everything = (o for o in gc.get_objects() if isinstance(o, Established))
    assert sum(established.connection is connection for established in everything) <= 2


def test_child_sas_without_end_are_not_kept() -> None:
    """Each asked for by a quick mode of its own, for the same traffic."""
    gathering = Gathering(server_v1())
    side = gathering.join(client_v1())
    (up,) = side.told(ConnectionUp)
    for _ in range(300):
        side.endpoint.create_child(up.connection, client_child(ESP), gathering.now)
        gathering.flush()
    limits = server_v1().limits
    assert len(gathering.server.children) <= 4 * limits.children_per_connection


def test_questions_without_end_are_answered_and_forgotten() -> None:
    gathering = Gathering(server_v1())
    side = gathering.join(client_v1())
    for number in range(300):
        asked = Notification(
            ProtocolId.ISAKMP,
            sa_of(side).sa.cookie_i + sa_of(side).sa.cookie_r,
            NotifyType.R_U_THERE,
            number.to_bytes(4),
        )
        gathering.hear(side, said(side, ExchangeType.INFORMATIONAL, asked))
    assert len(sa_of(gathering.server).exchanges) <= 2
    gathering.server.forget()
    for number in range(300):
        noise = Notification(ProtocolId.ESP, number.to_bytes(4), NotifyType.NO_PROPOSAL_CHOSEN, b"\x1b[2J")
        gathering.hear(side, said(side, ExchangeType.INFORMATIONAL, noise))
    assert len(gathering.server.told(object)) <= 60  # type: ignore[type-var]
    assert "\x1b" not in "".join(map(str, gathering.server.events))


def test_a_full_gateway_lets_its_clients_renew() -> None:
    """At connections_max there is nobody new, but who is there stays."""
    gathering = Gathering(server_v1(limits=Limits(connections_max=1)))
    side = gathering.join(client_v1())
    (up,) = side.told(ConnectionUp)
    other = gathering.join(client_v1(local_identity=Identity.parse("other@example.org")), "198.51.100.8")
    gathering.wait(5.0)
    assert len(gathering.server.told(ConnectionUp)) == 1
    assert not other.children
    side.endpoint.rekey_ike(up.connection, gathering.now)
    gathering.wait(20.0)
    assert gathering.server.told(IkeRekeyed)
    assert _unharmed(gathering, side)


def test_who_comes_to_us_does_not_take_over_whom_we_have_called(monkeypatch: pytest.MonkeyPatch) -> None:
    """One endpoint that has logged in at a gateway by one key, and lets in whoever has another."""
    key = b"a key of two alone, and of nobody else"
    entry = PadEntry(proof=Psk(key), demand=PskOf(key), xauth=users(alice=ALICE.password))
    gateway = Gathering(server_v1(entry))
    listens = Side("listens and calls", server_v1())
    member = Member("198.51.100.7", 0)
    member.side = listens
    gateway.members.append(member)
    config = client_v1(login=ALICE, proof=Psk(key), demand=PskOf(key))
    listens.endpoint.connect(config, member.path(500), member.path(4500), gateway.now)
    gateway.flush()
    (up,) = listens.told(ConnectionUp)
    assert up.remote_identity == SERVER_ID
    current = sa_of(listens)
    monkeypatch.setattr(Attempt, "_initial_contact", lambda *_: [])
    thief = Side("thief")
    config = client_v1(local_identity=SERVER_ID, remote_identity=None)
    path = mirrored(connection_of(listens).path)
    thief.endpoint.connect(config, path, path, gateway.now)
    for _ in range(12):
        for side, way in ((thief, listens), (listens, thief)):
            for data, out in side.endpoint.datagrams_to_send(gateway.now):
                way.endpoint.receive_datagram(data, mirrored(out), gateway.now)
    assert thief.told(ConnectionUp)
    assert current.connection is not None
    assert current.connection.current is current
