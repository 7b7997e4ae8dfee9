"""Peers that have proved who they are, and then ask for more than is theirs: bounded, refused, or ignored."""

from ipaddress import IPv4Address

import pytest

from espudp.ike.config import DYNAMIC, ChildConfig
from espudp.ike.events import (
    AddressAssigned,
    ChildInstalled,
    ChildRemoved,
    ConnectionDown,
    ConnectionUp,
    Diagnostic,
    PathChanged,
    PeerAddressAssigned,
)
from espudp.ike.identity import Identity
from espudp.ike.narrowing import MAX_SELECTORS, narrow
from espudp.ike.v2 import child as child_module
from espudp.ike.v2 import configuration
from espudp.ike.v2.connection import MAX_IKE_SAS
from espudp.ike.v2.hub import Datagram
from espudp.wire.ikev2.constants import CfgAttribute, CfgType, ExchangeType, NotifyType
from espudp.wire.ikev2.header import Header
from espudp.wire.ikev2.payloads import (
    Configuration,
    Delete,
    Nonce,
    Notify,
    Payload,
    SecurityAssociation,
    TsInitiator,
    TsResponder,
)
from espudp.wire.ikev2.proposal import Proposal, Transform
from espudp.wire.selectors import TrafficSelector
from tests.unit.ike.pair import (
    CLIENT,
    ESP,
    FOREVER,
    START,
    Pair,
    client_child,
    client_config,
    path_to_server,
    server_config,
)

_SUBNET = TrafficSelector.from_network("10.1.0.0/16")
_EVERYTHING = TrafficSelector.from_network("0.0.0.0/0")
_ESP_TRANSFORMS = (Transform(1, 20, 128), Transform(5, 0))


def _crossing(version: int, host: str = "10.99.0.2") -> tuple[TrafficSelector, ...]:
    """As many selectors as a payload holds, none of which lies within another."""
    address = IPv4Address(host)
    width = 20_000 + version
    return tuple(
        TrafficSelector(address, address, 17, n * 100 + version, n * 100 + width)
        for n in range(MAX_SELECTORS)
    )


def _ask_for_child(
    pair: Pair,
    *before: Payload,
    spi: int = 0x1234,
    theirs: tuple[TrafficSelector, ...] = (_EVERYTHING,),
    ours: tuple[TrafficSelector, ...] = (_EVERYTHING,),
) -> list[Notify]:
    """A CREATE_CHILD_SA as the client's endpoint would never send it; what the answer complains of."""
    proposals = (Proposal(1, 3, spi.to_bytes(4), _ESP_TRANSFORMS),)
    payloads: list[Payload] = [*before, SecurityAssociation(proposals), Nonce(bytes(32))]
    payloads += [TsInitiator(theirs), TsResponder(ours)]
    return _ask(pair, ExchangeType.CREATE_CHILD_SA, *payloads)


def _ask(pair: Pair, exchange: int, *payloads: Payload) -> list[Notify]:
    client = pair.client.ike.sa
    pair.client.request(exchange, payloads, pair.now)
    pair.move(pair.client)
    answers = pair.take(pair.server)
    opened = [client.accept(_arrived(data), frozenset({exchange})) for data, _ in answers]
    return [notify for answer in opened if answer is not None for notify in answer.message.notifies()]


def _arrived(data: bytes) -> Datagram:
    return Datagram(data, Header.parse(data), path_to_server(4500), START)


# The log


def test_what_is_refused_fills_no_log() -> None:
    """As fast as a peer can ask; every request is answered."""
    pair = Pair().connect()
    nowhere = (TrafficSelector.from_network("172.16.0.0/12"),)
    for _ in range(300):
        (notify,) = _ask_for_child(pair, ours=nowhere)
        assert notify.type == NotifyType.TS_UNACCEPTABLE
    assert 40 <= len(pair.server.told(Diagnostic)) <= 60


# Selectors


def test_selectors_that_cross_each_other_cost_no_more_than_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """A child SA of many selectors, rekeyed with as many that cross them: work grows with their product,
    not with the product's square.
    """
    compared = 0
    intersect = TrafficSelector.intersect

    def counted(one: TrafficSelector, other: TrafficSelector) -> TrafficSelector | None:
        nonlocal compared
        compared += 1
        return intersect(one, other)

    monkeypatch.setattr(TrafficSelector, "intersect", counted)
    common = narrow(_crossing(1), _crossing(50))
    assert common is not None
    assert 0 < len(common) <= MAX_SELECTORS
    assert compared <= 4 * MAX_SELECTORS**2


def test_many_selectors_are_narrowed_and_the_child_sa_works() -> None:
    pair = Pair().connect()
    assert not _ask_for_child(pair, theirs=_crossing(1), ours=(_SUBNET,))
    (child,) = pair.server.children[1:]
    assert 0 < len(child.remote) <= MAX_SELECTORS
    rekey = Notify(3, (0x1234).to_bytes(4), NotifyType.REKEY_SA, b"")
    assert not _ask_for_child(pair, rekey, spi=0x2345, theirs=_crossing(50), ours=(_SUBNET,))
    assert 0 < len(pair.server.children[-1].remote) <= MAX_SELECTORS


def test_a_client_gets_its_own_address_and_our_subnets_whatever_it_asks_for() -> None:
    everything = ChildConfig(local=(_EVERYTHING,), remote=(_EVERYTHING,), proposals=(ESP,), lifetime=FOREVER)
    pair = Pair(client_config(child=everything)).connect()
    (child,) = pair.server.children
    assert [str(s) for s in child.remote] == ["10.99.0.2/32"]
    assert child.local == (_SUBNET,)
    whole_pool = TrafficSelector.from_network("10.99.0.0/24")
    neighbour = TrafficSelector.from_network("10.99.0.3/32")
    assert not _ask_for_child(pair, theirs=(whole_pool, _EVERYTHING))
    assert [str(s) for s in pair.server.children[-1].remote] == ["10.99.0.2/32"]
    (refused,) = _ask_for_child(pair, theirs=(neighbour,))
    assert refused.type == NotifyType.TS_UNACCEPTABLE


def test_a_rekey_makes_no_child_sa_wider() -> None:
    pair = Pair().connect()
    one = TrafficSelector.from_network("10.1.7.0/24")
    assert not _ask_for_child(pair, spi=0x1111, ours=(one,))
    rekey = Notify(3, (0x1111).to_bytes(4), NotifyType.REKEY_SA, b"")
    assert not _ask_for_child(pair, rekey, spi=0x2222, ours=(_EVERYTHING,))
    assert pair.server.children[-1].local == (one,)


def test_without_a_pool_a_peer_stands_for_the_address_that_it_authenticated_from() -> None:
    """RFC 7296 section 2.9: and not for whatever address it has sent from since."""
    listener = server_config()
    child = ChildConfig(local=(_SUBNET,), remote=(DYNAMIC,), proposals=(ESP,), lifetime=FOREVER)
    pair = Pair(
        client_config(addresses=(), force_encap=True, mobike=False),
        type(listener)(
            local_identity=listener.local_identity,
            pad=listener.pad,
            child=child,
            ike_proposals=listener.ike_proposals,
            timers=listener.timers,
        ),
    ).connect()
    assert [str(s) for s in pair.server.children[0].remote] == [f"{CLIENT}/32"]
    elsewhere = path_to_server(4500)._replace(local=path_to_server(4500).local._replace(ip="10.1.2.3"))
    pair.client.endpoint.check_alive(1, pair.now)
    ((data, _),) = pair.take(pair.client)
    pair.give(pair.server, (data, elsewhere))
    for answer in pair.take(pair.server):
        pair.give(pair.client, answer)
    assert pair.server.told(PathChanged)
    assert not _ask_for_child(pair)
    assert [str(s) for s in pair.server.children[-1].remote] == [f"{CLIENT}/32"]


# SPIs


@pytest.mark.parametrize("spi", [0, 1, 255])
def test_a_reserved_spi_is_no_offer(spi: int) -> None:
    """RFC 4303 section 2.1. It cannot be sent to, and zero would look like IKE."""
    pair = Pair().connect()
    (refused,) = _ask_for_child(pair, spi=spi)
    assert refused.type == NotifyType.INVALID_SYNTAX
    assert not pair.server.children


def test_the_peers_spis_are_its_own_affair() -> None:
    """The same one twice, or one of ours: SAs are told apart by our SPIs, and each delete takes one."""
    pair = Pair().connect()
    ours = pair.server.children[0].spi_in
    for spi in (0x1234, 0x1234, ours):
        assert not _ask_for_child(pair, spi=spi)
    assert len({c.spi_in for c in pair.server.children}) == 4
    twice = Delete(3, ((0x1234).to_bytes(4), (0x1234).to_bytes(4), (0x1234).to_bytes(4)))
    _ask(pair, ExchangeType.INFORMATIONAL, twice)
    assert [c.spi_out for c in pair.server.children][1:] == [ours]


def test_the_child_sas_of_other_peers_are_out_of_reach() -> None:
    """A delete and a rekey name SPIs of the connection that they come over."""
    pair = Pair().connect()
    (victim,) = pair.server.children
    pair.dial(client_config(identity=Identity.parse("mallory.example.org")), source=1500)
    pair.flush()
    server = pair.server.endpoint._hub.connections
    before = len(pair.server.children)
    mallory = pair.client.endpoint._hub.connections[2].current
    assert mallory is not None
    assert len(server) == before == 2
    spis = tuple(n.to_bytes(4) for n in (victim.spi_out, victim.spi_in))
    mallory.sa.request(ExchangeType.INFORMATIONAL, [Delete(3, spis)], mallory.connection.path, pair.now)
    pair.flush()
    rekey = Notify(3, spis[0], NotifyType.REKEY_SA, b"")
    sa = SecurityAssociation((Proposal(1, 3, (0x9999).to_bytes(4), _ESP_TRANSFORMS),))
    selectors = TsInitiator((_EVERYTHING,)), TsResponder((_EVERYTHING,))
    request: list[Payload] = [rekey, sa, Nonce(bytes(32)), *selectors]
    mallory.sa.request(ExchangeType.CREATE_CHILD_SA, request, mallory.connection.path, pair.now)
    pair.flush()
    assert len(pair.server.children) == before
    assert not pair.server.told(ChildRemoved)
    assert any(f"no child SA {spis[0].hex()}" in d.text for d in pair.server.told(Diagnostic))


# What can be piled up


def test_rekeys_without_end_leave_no_trail() -> None:
    """A peer that rekeys the IKE SA and deletes the old one, on and on: old answers are not kept for all."""
    pair = Pair().connect()
    for _ in range(100):
        pair.client.endpoint.rekey_ike(1, pair.now)
        pair.flush()
    pair.agree()
    assert len(pair.server.states) <= 2 * MAX_IKE_SAS + 2


def test_child_rekeys_without_end_leave_no_trail() -> None:
    pair = Pair().connect()
    for _ in range(200):
        pair.client.endpoint.rekey_child(1, max(c.spi_in for c in pair.client.children), pair.now)
        pair.flush()
        pair.client.events = [*pair.client.told(ChildInstalled)[-1:]]
    server = pair.server.ike
    assert len(pair.server.connection.children) == 1
    assert len(server.later) + len(server.tasks) <= 130


def test_child_sas_that_are_rekeyed_and_never_deleted_are_bounded() -> None:
    pair = Pair().connect()
    refused: list[int] = []
    spi = 0x10000
    assert not _ask_for_child(pair, spi=spi)
    for _ in range(300):
        rekey = Notify(3, spi.to_bytes(4), NotifyType.REKEY_SA, b"")
        refused += [n.type for n in _ask_for_child(pair, rekey, spi=spi + 1)]
        if refused:
            break
        spi += 1
    assert refused == [NotifyType.NO_ADDITIONAL_SAS]
    assert len(pair.server.connection.children) <= 4 * 32


def test_an_identity_is_not_longer_than_it_need_be() -> None:
    """It is compared, remembered with the address that it had, and printed."""
    pair = Pair(client_config(identity=Identity(11, b"\x1b]0;" * 5000)))
    pair.dial()
    pair.flush()
    assert not pair.server.told(ConnectionUp)
    assert pair.client.told(ConnectionDown)
    assert max(len(str(e)) for e in pair.server.events) < 1000


# Where the peer is


def test_a_peer_without_a_nat_stays_where_it_is() -> None:
    """RFC 7296 section 2.23: only behind a NAT a peer turns up elsewhere. Otherwise who holds a packet back,
    and sends it from an address of his own, would lead the tunnel there.
    """
    pair = Pair().connect()
    before = pair.server.connection.path
    assert not pair.server.connection.peer.nat.remote
    pair.client.endpoint.check_alive(1, pair.now)
    ((data, path),) = pair.take(pair.client)
    elsewhere = path._replace(local=path.local._replace(ip="203.0.113.66"))
    pair.give(pair.server, (data, elsewhere))
    assert pair.server.connection.path == before
    assert not pair.server.told(PathChanged)


# Virtual addresses


def test_an_address_that_is_in_use_or_was_just_left_is_not_to_be_had() -> None:
    pair = Pair().connect()
    mallory = Identity.parse("mallory.example.org")
    taken = client_config(identity=mallory, addresses=("10.99.0.2",))
    pair.dial(taken, source=1500)
    pair.flush()
    assert pair.server.told(PeerAddressAssigned)[-1].addresses == ("10.99.0.3",)
    pair.client.endpoint.close(1, pair.now)
    pair.client.endpoint.close(2, pair.now)
    pair.flush()
    pair.dial(taken, source=1501)
    pair.flush()
    assert pair.server.told(PeerAddressAssigned)[-1].addresses == ("10.99.0.3",)


def test_a_server_gives_no_more_addresses_than_were_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each would be set on our device, and be ours to the whole host."""

    def generous(*_: object) -> Configuration:
        v4 = [(int(CfgAttribute.INTERNAL_IP4_ADDRESS), bytes([10, 99, 0, n])) for n in range(2, 100)]
        v6 = [(int(CfgAttribute.INTERNAL_IP6_ADDRESS), b"\x20\x01" + bytes(13) + b"\x07\x80")]
        return Configuration(CfgType.REPLY, tuple(v4 + v6))

    monkeypatch.setattr(configuration, "reply", generous)
    pair = Pair()
    pair.dial()
    pair.flush()
    (assigned,) = pair.client.told(AddressAssigned)
    assert assigned.addresses == ("10.99.0.2",)


def test_a_server_does_not_widen_our_side(monkeypatch: pytest.MonkeyPatch) -> None:
    """`dynamic` is the address that we were given: what else comes in through the tunnel is none of ours."""
    monkeypatch.setattr(child_module, "narrow", lambda proposed, _: tuple(proposed))
    pair = Pair()
    pair.dial()
    pair.flush()
    (child,) = pair.client.children
    assert [str(s) for s in child.local] == ["10.99.0.2/32"]
    assert child.remote == client_child().remote
