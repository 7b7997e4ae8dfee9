"""IKE_SA_INIT and IKE_AUTH between two endpoints: what both agree on, and what they refuse."""

from dataclasses import replace

import pytest

from espudp.ike.config import DYNAMIC, ChildConfig, Identity, Limits
from espudp.ike.events import (
    AddressAssigned,
    ChildInstalled,
    ConnectionDown,
    ConnectionUp,
    Fault,
    NatStatus,
    PathChanged,
    PeerAddressAssigned,
    PeerRefused,
)
from espudp.ike.natd import natd_data, natd_hash
from espudp.ike.proposals import EspProposal, IkeProposal
from espudp.ike.v2.auth_responder import AwaitAuth
from espudp.ike.v2.initiator import InitSent
from espudp.ike.v2.opening import MAX_COOKIES
from espudp.wire.address import Path
from espudp.wire.ikev2.constants import ExchangeType, NotifyType
from espudp.wire.ikev2.header import Header
from espudp.wire.ikev2.message import parse_message
from espudp.wire.ikev2.payloads import KeyExchange, Notify, SecurityAssociation, Unknown
from espudp.wire.selectors import TrafficSelector
from tests.unit.ike.pair import (
    CLIENT_ID,
    SERVER_ID,
    START,
    Pair,
    client_child,
    client_config,
    notified,
    path_to_server,
    rewritten,
    server_config,
)

_TWO_GROUPS = (IkeProposal.parse("aes128gcm16-prfsha256-curve25519-ecp256"),)
_OTHER_GROUP = (IkeProposal.parse("aes128gcm16-prfsha256-ecp256"),)


# What a good start looks like


def test_four_messages_make_a_tunnel() -> None:
    pair = Pair()
    number = pair.dial()
    pair.flush()
    assert len(pair.wire) == 4
    (up,) = pair.client.told(ConnectionUp)
    assert up == ConnectionUp(
        number, True, CLIENT_ID, SERVER_ID, IKE_NAME, path_to_server(4500), NatStatus(claimed=True)
    )
    (there,) = pair.server.told(ConnectionUp)
    assert (there.initiator, there.local_identity, there.remote_identity) == (False, SERVER_ID, CLIENT_ID)
    pair.agree()
    (child,), (other) = pair.client.children, pair.server.children
    host = TrafficSelector.from_network("10.99.0.2/32")
    assert child.local == other[0].remote == (host,)
    assert child.remote == other[0].local == (TrafficSelector.from_network("10.1.0.0/16"),)
    assert (child.replaces, child.standby) == (None, False)
    assert min(child.spi_in, child.spi_out) >= 256


IKE_NAME = "aes128gcm16-prfsha256-curve25519"


def test_addresses_and_dns_come_before_the_child_that_uses_them() -> None:
    pair = Pair()
    pair.dial()
    pair.flush()
    pair.client.collect()
    kinds = [type(e) for e in pair.client.events]
    assert kinds == [ConnectionUp, AddressAssigned, ChildInstalled]
    assert pair.client.told(AddressAssigned)[0].addresses == ("10.99.0.2",)
    assert pair.client.told(AddressAssigned)[0].dns == ("10.1.0.53",)
    assert pair.server.told(PeerAddressAssigned)[0].addresses == ("10.99.0.2",)


def test_the_initiator_floats_after_the_first_exchange() -> None:
    pair = Pair()
    pair.dial()
    pair.flush()
    ports = [(path.local.port, path.remote.port) for _, path in pair.wire]
    assert ports == [(500, 500), (500, 500), (4500, 4500), (4500, 4500)]
    pair = Pair()
    pair.dial(port=4500)
    pair.flush()
    assert {path.remote.port for _, path in pair.wire} == {4500}


@pytest.mark.parametrize(
    "suite",
    [
        "aes256-sha256-modp2048",
        "aes128-sha1-prfsha1-ecp384",
        "aes192-sha512-ecp521",
        "chacha20poly1305-prfsha384-curve25519",
        "aes256gcm16-prfsha512-modp3072",
    ],
)
def test_suites(suite: str) -> None:
    ike = (IkeProposal.parse(suite),)
    Pair(client_config(ike=ike), server_config(ike=ike)).connect().agree()


def test_no_address_is_asked_for() -> None:
    server = server_config()
    child = replace(server.child, remote=(TrafficSelector.from_network("172.16.0.0/12"),))
    ours = ChildConfig(
        local=(TrafficSelector.from_network("172.16.5.0/24"),),
        remote=(TrafficSelector.from_network("10.0.0.0/8"),),
    )
    config = client_config(addresses=(), child=ours)
    pair = Pair(config, replace(server, child=child))
    pair.dial()
    pair.flush()
    (installed,) = pair.client.children
    assert installed.local == (TrafficSelector.from_network("172.16.5.0/24"),)
    assert installed.remote == (TrafficSelector.from_network("10.1.0.0/16"),)
    assert not pair.client.told(AddressAssigned)


def test_an_initiator_behind_a_nat() -> None:
    pair = Pair()
    pair.client.endpoint.connect(pair.config, path_to_server(500), path_to_server(4500), pair.now)
    for data, path in pair.take(pair.client):
        mapped = path._replace(local=path.local._replace(ip="203.0.113.9", port=31000))
        pair.give(pair.server, (data, mapped))
    for data, path in pair.take(pair.server):
        assert path.remote.port == 31000
        pair.client.endpoint.receive_datagram(data, path_to_server(500), pair.now)
    pair.flush()
    assert pair.client.told(ConnectionUp)[0].nat == NatStatus(local=True, remote=False)
    assert pair.server.told(ConnectionUp)[0].nat == NatStatus(local=False, remote=True)


def test_force_encap_makes_the_peer_believe_in_a_nat() -> None:
    pair = Pair(client_config(force_encap=True))
    pair.dial()
    pair.flush()
    assert pair.server.told(ConnectionUp)[0].nat.remote
    assert not pair.client.told(ConnectionUp)[0].nat.local


def test_a_listener_claims_a_nat_where_there_is_none() -> None:
    """Most peers send ESP without UDP where they see no NAT; one of our own sees through it."""
    pair = Pair()
    pair.dial()
    pair.move(pair.client)
    ((data, path),) = pair.take(pair.server)
    sources = [n.data for n in parse_message(data).notifies() if n.type == NotifyType.NAT_DETECTION_SOURCE_IP]
    header = Header.parse(data)
    assert natd_hash(header.spi_i, header.spi_r, path.local) not in sources
    pair.give(pair.client, (data, path))
    pair.flush()
    assert pair.client.told(ConnectionUp)[0].nat == NatStatus(claimed=True)
    assert pair.server.told(ConnectionUp)[0].nat == NatStatus()


def test_a_listener_that_sees_a_nat_does_not_claim_another() -> None:
    pair = Pair(client_config(force_encap=True))
    pair.dial()
    pair.move(pair.client)
    ((data, path),) = pair.take(pair.server)
    header = Header.parse(data)
    assert natd_hash(header.spi_i, header.spi_r, path.local) in [
        n.data for n in parse_message(data).notifies()
    ]


def _as_seen_without_nat(message: tuple[bytes, Path]) -> tuple[bytes, Path]:
    """The answer of a peer that claims nothing."""
    data, path = message
    header, payloads = Header.parse(data), parse_message(data).payloads
    honest = natd_data(header.spi_i, header.spi_r, path)
    kept = [p for p in payloads if not isinstance(p, Notify)]
    kinds = (NotifyType.NAT_DETECTION_SOURCE_IP, NotifyType.NAT_DETECTION_DESTINATION_IP)
    notifies = [Notify.of(kind, hash_) for kind, hash_ in zip(kinds, honest, strict=True)]
    return rewritten(message, *kept, *notifies)


@pytest.mark.parametrize("force_encap", [False, True])
def test_a_peer_that_sees_no_nat_is_made_to_find_one(force_encap: bool) -> None:
    """It would send ESP without UDP; so we begin again, once, and claim that there is a NAT."""
    pair = Pair(client_config(force_encap=force_encap))
    pair.dial()
    pair.move(pair.client)
    (answer,) = pair.take(pair.server)
    pair.give(pair.client, _as_seen_without_nat(answer))
    ((data, path),) = pair.take(pair.client)
    if not force_encap:
        again = Header.parse(data)
        assert again.exchange == ExchangeType.IKE_SA_INIT
        assert again.spi_i != Header.parse(answer[0]).spi_i
        pair.give(pair.server, (data, path))
        (answer,) = pair.take(pair.server)
        pair.give(pair.client, _as_seen_without_nat(answer))
        ((data, _),) = pair.take(pair.client)
    assert Header.parse(data).exchange == ExchangeType.IKE_AUTH


def test_the_peer_is_followed_to_another_mapping() -> None:
    pair = Pair(client_config(force_encap=True, mobike=False)).connect()
    pair.server.forget()
    pair.client.endpoint.check_alive(1, pair.now)
    ((data, path),) = pair.take(pair.client)
    moved = path._replace(local=path.local._replace(port=40001))
    pair.give(pair.server, (data, moved))
    assert [e.path.remote.port for e in pair.server.told(PathChanged)] == [40001]
    ((_, back),) = pair.take(pair.server)
    assert back.remote.port == 40001
    # RFC 7296 section 2.23: not for a repetition, with which anybody could turn it back.
    pair.give(pair.server, (data, path))
    assert pair.server.connection.path.remote.port == 40001
    ((_, back),) = pair.take(pair.server)
    assert back.remote.port == path.local.port


# Cookies and groups


def test_a_cookie_past_the_threshold() -> None:
    pair = Pair(server=server_config(limits=Limits(cookie_threshold=0)))
    pair.dial()
    pair.move(pair.client)
    assert pair.server.states == []
    ((cookie, path),) = pair.take(pair.server)
    assert notified((cookie, path)) == [NotifyType.COOKIE]
    assert Header.parse(cookie).spi_r == bytes(8)
    pair.give(pair.client, (cookie, path))
    pair.flush()
    first, again = (parse_message(d) for d, _ in (pair.wire[0], pair.wire[2]))
    assert again.payloads[0] == parse_message(cookie).payloads[0]
    assert again.payloads[1:] == first.payloads
    pair.agree()


def test_the_responder_names_the_group_it_wants() -> None:
    pair = Pair(client_config(ike=_TWO_GROUPS), server_config(ike=_OTHER_GROUP))
    pair.dial()
    pair.flush()
    assert len(pair.wire) == 6
    assert notified(pair.wire[1]) == [NotifyType.INVALID_KE_PAYLOAD]
    pair.agree()


def test_a_cookie_and_another_group() -> None:
    """RFC 7296 section 2.6.1: the cookie stays when the group changes."""
    limits = Limits(cookie_threshold=0)
    pair = Pair(client_config(ike=_TWO_GROUPS), server_config(ike=_OTHER_GROUP, limits=limits))
    pair.dial()
    pair.flush()
    assert [notified(d)[0] for d in (pair.wire[1], pair.wire[3])] == [
        NotifyType.COOKIE,
        NotifyType.INVALID_KE_PAYLOAD,
    ]
    assert len(pair.wire) == 8
    pair.agree()


def test_a_group_that_was_not_offered_is_not_taken() -> None:
    """CVE-2014-9221: neither unknown numbers nor groups that we have and did not name."""
    pair = Pair()
    pair.dial()
    pair.move(pair.client)
    ((data, path),) = pair.take(pair.server)
    for wrong in ((19).to_bytes(2), (1025).to_bytes(2), b"", b"\x00", bytes(4), (31).to_bytes(2)):
        forged = rewritten((data, path), Notify.of(NotifyType.INVALID_KE_PAYLOAD, wrong), spi_r=bytes(8))
        pair.give(pair.client, forged)
        assert pair.take(pair.client) == []
    pair.give(pair.client, (data, path))
    pair.flush()
    pair.agree()


def test_forged_cookies_and_groups_are_followed_only_so_often() -> None:
    pair = Pair(client_config(ike=_TWO_GROUPS))
    pair.dial()
    pair.move(pair.client)
    ((data, path),) = pair.take(pair.server)
    sent = 0
    for number in range(50):
        for notify in (
            Notify.of(NotifyType.COOKIE, b"cookie %d" % number),
            Notify.of(NotifyType.INVALID_KE_PAYLOAD, (31 if number % 2 else 19).to_bytes(2)),
        ):
            pair.give(pair.client, rewritten((data, path), notify, spi_r=bytes(8)))
            sent += len(pair.take(pair.client))
    assert sent <= MAX_COOKIES + 3
    for octets in (0, 65, 1000):
        cookie = Notify.of(NotifyType.COOKIE, bytes(octets))
        pair.give(pair.client, rewritten((data, path), cookie, spi_r=bytes(8)))
        assert pair.take(pair.client) == []


# Errors that anybody can forge


def test_no_common_proposal_is_told_on_both_sides() -> None:
    theirs = (IkeProposal.parse("aes256-sha256-modp2048"),)
    pair = Pair(server=server_config(ike=theirs))
    pair.dial()
    pair.flush()
    (refused,) = pair.server.told(PeerRefused)
    assert "aes256" in refused.detail
    assert "aes128gcm16" in refused.detail
    assert pair.server.states == []
    assert Header.parse(pair.wire[1][0]).spi_r == bytes(8)  # CVE-2023-30570
    assert not pair.client.told(ConnectionDown)
    pair.wait(10.0)
    (down,) = pair.client.told(ConnectionDown)
    assert (down.fault, down.retry) == (Fault.PROPOSAL, False)
    assert "aes128gcm16" in down.remedy
    assert pair.now - START <= 10.0
    assert pair.client.states == []


@pytest.mark.parametrize("error", [14, 7, 24, 5, 8190, 17])
def test_a_forged_refusal_does_not_keep_a_good_answer_out(error: int) -> None:
    """RFC 7296 section 2.21.1."""
    pair = Pair()
    pair.dial()
    pair.move(pair.client)
    ((data, path),) = pair.take(pair.server)
    pair.give(pair.client, rewritten((data, path), Notify.of(error), spi_r=bytes(8)))
    assert isinstance(pair.client.states[0], InitSent)
    pair.give(pair.client, (data, path))
    pair.flush()
    pair.agree()


def test_a_forged_answer_does_not_keep_the_good_one_out() -> None:
    """RFC 7296 section 2.4: who forges faster than the peer answers does not win for that."""
    pair = Pair()
    pair.dial()
    (request,) = pair.take(pair.client)
    forger = Pair(seed=1)
    forger.give(forger.server, request)
    forged = forger.take(forger.server)
    pair.give(pair.server, request)
    good = pair.take(pair.server)
    for datagram in (*forged, *good):
        pair.give(pair.client, datagram)
    assert pair.client.state_names == ["AuthSent"]
    pair.wait(5.0)
    pair.agree()
    assert len(pair.client.endpoint._hub.child_spis) == 1


def test_answers_of_nonsense_are_not_taken() -> None:
    pair = Pair()
    pair.dial()
    pair.move(pair.client)
    ((data, path),) = pair.take(pair.server)
    good = parse_message(data)
    sa, ke, nonce = good.payloads[:3]
    assert isinstance(ke, KeyExchange)
    assert isinstance(sa, SecurityAssociation)
    other = SecurityAssociation((replace(sa.proposals[0], number=7),))
    for payloads in (
        (),
        (sa, ke),
        (sa, nonce),
        (sa, ke, nonce, nonce),
        (other, ke, nonce),
        (sa, KeyExchange(19, ke.data), nonce),
        (sa, KeyExchange(31, bytes(32)), nonce),
        (sa, KeyExchange(31, ke.data[:-1]), nonce),
        (sa, ke, nonce, Unknown(99, True, b"")),
    ):
        pair.give(pair.client, rewritten((data, path), *payloads))
    pair.give(pair.client, rewritten((data, path), *good.payloads, spi_r=bytes(8)))
    assert isinstance(pair.client.states[0], InitSent)
    assert pair.take(pair.client) == []
    pair.give(pair.client, (data, path))
    pair.flush()
    pair.agree()


def test_nobody_answers() -> None:
    pair = Pair()
    number = pair.dial()
    (first,) = pair.take(pair.client)
    sent = []
    while not pair.client.told(ConnectionDown):
        due = pair.client.endpoint.poll_timer()
        assert due is not None
        pair.now = due
        pair.client.endpoint.handle_timer(pair.now)
        sent += pair.take(pair.client)
    assert sent == [first] * 8
    (down,) = pair.client.told(ConnectionDown)
    assert (down.connection, down.fault, down.retry) == (number, Fault.TIMEOUT, True)
    assert "192.0.2.1:500" in down.reason
    assert pair.client.endpoint.poll_timer() is None


# Who it is


@pytest.mark.parametrize(
    "psks",
    [((None, b"swordfish"),), ((CLIENT_ID, b"swordfish"),), ((Identity.parse("somebody"), b"x"),)],
)
def test_a_wrong_psk_and_an_unknown_identity_look_the_same(
    psks: tuple[tuple[Identity | None, bytes], ...],
) -> None:
    pair = Pair(server=server_config(psks=psks))
    pair.dial()
    pair.flush()
    (down,) = pair.client.told(ConnectionDown)
    assert (down.fault, down.retry) == (Fault.AUTHENTICATION, False)
    assert "PSK" in down.remedy
    assert len(pair.wire) == 4
    assert len(pair.wire[3][0]) == 28 + 4 + 8 + 8 + 1 + 16  # nothing but the notify
    (refused,) = pair.server.told(PeerRefused)
    assert "client.example.org" in refused.reason
    assert "swordfish" not in repr(pair.server.events) + repr(pair.client.events)
    assert not pair.server.endpoint.snapshot(pair.now)
    pair.wait(40.0)
    assert pair.server.states == pair.client.states == []


def test_a_refusal_that_is_lost_is_repeated() -> None:
    pair = Pair(server=server_config(psks=((None, b"swordfish"),)))
    pair.dial()
    pair.move(pair.client)
    pair.move(pair.server)
    pair.move(pair.client)
    (lost,) = pair.take(pair.server)
    pair.wait(0.6)
    assert pair.wire[-1] == lost
    assert pair.client.told(ConnectionDown)[0].fault is Fault.AUTHENTICATION


def test_the_responder_must_be_who_we_want() -> None:
    pair = Pair(client_config(remote_identity=Identity.parse("other.example.org")))
    pair.dial()
    pair.flush()
    (down,) = pair.client.told(ConnectionDown)
    assert down.fault is Fault.AUTHENTICATION
    assert "server.example.org" in down.reason
    # RFC 7296 section 2.21.2: and is told, so that nothing is left of it.
    (gone,) = pair.server.told(ConnectionDown)
    assert gone.fault is Fault.AUTHENTICATION


def test_identities_are_compared_exactly() -> None:
    """CVE-2013-6075: no prefix, no folding but that of hosts, no reading of one type as another."""
    for other in (
        "client.example.or",
        "client.example.orgg",
        "keyid:client.example.org",
    ):
        pair = Pair(server=server_config(psks=((Identity.parse(other), b"correct horse battery staple"),)))
        pair.dial()
        pair.flush()
        assert pair.client.told(ConnectionDown)[0].fault is Fault.AUTHENTICATION


def test_initial_contact_ends_what_the_peer_has_forgotten() -> None:
    pair = Pair().connect()
    pair.client = type(pair.client)("client reborn")
    pair.dial()
    pair.flush()
    (down,) = pair.server.told(ConnectionDown)
    assert (down.connection, down.retry) == (1, False)
    assert [c.connection for c in pair.server.endpoint.snapshot(pair.now)] == [2]
    assert pair.server.connection.peer.addresses == ("10.99.0.2",)


def test_a_second_connection_does_not_end_the_first() -> None:
    pair = Pair().connect()
    pair.dial(client_config(child=client_child(remote="10.1.2.0/24")))
    pair.flush()
    assert not pair.server.told(ConnectionDown)
    assert len(pair.server.endpoint.snapshot(pair.now)) == 2


# The first child SA


def test_no_common_subnet_is_told_on_both_sides() -> None:
    pair = Pair(client_config(child=client_child(remote="172.30.0.0/16")))
    pair.dial()
    pair.flush()
    (refused,) = pair.server.told(PeerRefused)
    assert "172.30.0.0/16" in refused.detail
    assert "10.1.0.0/16" in refused.detail
    (down,) = pair.client.told(ConnectionDown)
    assert down.fault is Fault.SELECTORS
    assert "172.30.0.0/16" in down.remedy
    assert not pair.client.told(ConnectionUp)
    assert pair.server.told(ConnectionDown)[0].fault is Fault.PEER_REQUEST
    pair.wait(100.0)
    assert pair.client.states == pair.server.states == []


def test_no_common_esp_proposal() -> None:
    pair = Pair(client_config(child=client_child(EspProposal.parse("aes256-sha512"))))
    pair.dial()
    pair.flush()
    (refused,) = pair.server.told(PeerRefused)
    assert "sha512" in refused.detail
    assert pair.client.told(ConnectionDown)[0].fault is Fault.PROPOSAL
    assert not pair.client.children + pair.server.children


def test_the_pool_is_empty() -> None:
    pair = Pair(server=server_config(pool="10.99.0.0/30")).connect()
    pair.client.forget()
    other = client_config(identity=Identity.parse("late.example.org"))
    pair.dial(other)
    pair.flush()
    (down,) = pair.client.told(ConnectionDown)
    assert "address" in down.reason
    assert down.retry


def test_a_virtual_address_is_required() -> None:
    pair = Pair(client_config(addresses=(), child=replace(client_child(), local=(DYNAMIC,))))
    pair.dial()
    pair.flush()
    assert "--vip" in pair.client.told(ConnectionDown)[0].remedy


# The order of exchanges


@pytest.mark.parametrize(
    "exchange", [ExchangeType.CREATE_CHILD_SA, ExchangeType.INFORMATIONAL, ExchangeType.IKE_SA_INIT, 38, 240]
)
def test_before_authentication_there_is_only_authentication(exchange: int) -> None:
    """CVE-2014-2338, CVE-2019-12312: even who has the keys can do nothing else."""
    pair = Pair()
    pair.dial()
    pair.move(pair.client)
    pair.move(pair.server)
    (auth,) = pair.take(pair.client)
    state = pair.client.states[0]
    sa = getattr(state, "_sa")  # noqa: B009
    sa.outgoing.finish()
    sa.outgoing.next_id = 1
    sa.request(exchange, [], path_to_server(4500), pair.now)
    pair.move(pair.client)
    assert pair.take(pair.server) == []
    assert isinstance(pair.server.states[0], AwaitAuth)
    pair.give(pair.server, auth)
    assert pair.server.told(ConnectionUp)


def test_close_while_dialling() -> None:
    pair = Pair()
    number = pair.dial()
    pair.client.endpoint.close(number, pair.now)
    assert pair.client.told(ConnectionDown)[0].fault is Fault.LOCAL_REQUEST
    assert pair.client.states == []
    number = pair.dial()
    pair.move(pair.client)
    pair.move(pair.server)
    pair.client.endpoint.close(number, pair.now)
    assert len(pair.client.told(ConnectionDown)) == 2
    assert pair.client.states == []
    assert len(pair.client.endpoint._hub.child_spis) == 0
