"""Mode config of IKEv1: addresses, asked for and told unasked, Unity, and peers that break the rules."""

import random
from dataclasses import replace
from ipaddress import ip_network

import pytest

from espudp.errors import ConfigError
from espudp.ike.config import Identity
from espudp.ike.drop import Drop
from espudp.ike.events import (
    AddressAssigned,
    ChildInstalled,
    ConnectionDown,
    ConnectionUp,
    Diagnostic,
    Fault,
    PeerAddressAssigned,
    PeerRefused,
)
from espudp.ike.ikev1_config import MAX_TOLD_NETWORKS, Ikev1Config, Ikev1Policy, Mode
from espudp.ike.narrowing import EVERYTHING
from espudp.ike.proposals import EspProposal, IkeProposal
from espudp.ike.v1 import mode_config
from espudp.ike.v1.asking import Asking
from espudp.ike.v1.established import MAX_EXCHANGES, Established
from espudp.wire.ikev1.attributes import Attribute
from espudp.wire.ikev1.constants import CfgAttribute as A
from espudp.wire.ikev1.constants import CfgType, ExchangeType
from espudp.wire.ikev1.payloads import Attributes
from espudp.wire.selectors import TrafficSelector
from tests.unit.ike.pair import Pair, Side, client_child, client_config, server_config

IKE, ESP = IkeProposal.parse("aes128-sha256-ecp256"), EspProposal.parse("aes128-sha256")
OFFICE = TrafficSelector.from_network("10.1.0.0/16")
BANNER = "Authorized users only.\nEverybody else: go away."


def pair_of(
    *,
    pushed: bool = False,
    push: bool = False,
    banner: str = BANNER,
    addresses: tuple[str, ...] = ("any4",),
    identity: str = "client.example.org",
    pool: str = "10.99.0.0/24",
    split: tuple[str, ...] = (),
    remote: str = "10.1.0.0/16",
    office: bool = False,
    own_way: bool = False,
) -> Pair:
    """`office`: the gateway carries that alone; `own_way`: for those who come by an entry of its own."""
    child = replace(client_child(ESP), remote=(EVERYTHING[4],)) if remote == "" else client_child(ESP)
    client = client_config(identity=Identity.parse(identity), ike=[IKE], child=child, addresses=addresses)
    server = server_config(ike=[IKE], esp=[ESP], pool=pool)
    if remote == "":
        server = replace(server, child=replace(server.child, local=(EVERYTHING[4],)))
    if office or own_way:
        inside = replace(server.child, local=(OFFICE,))
        entry = replace(server.pad[0], child=inside if own_way else None)
        server = replace(server, pad=(entry,), child=inside if office else server.child)
    server = replace(server, split=tuple(map(ip_network, split)), dns_domains=("corp.example",))
    policy = Ikev1Policy(modes=frozenset(Mode), push=push, banner=banner)
    return Pair(
        replace(client, ikev1=Ikev1Config(mode=Mode.AGGRESSIVE, pushed=pushed)),
        replace(server, ikev1=policy),
    )


def dialled(pair: Pair) -> Pair:
    pair.dial()
    pair.flush()
    return pair


def established(side: Side) -> Established:
    """What is inside, to play a peer that breaks the rules with."""
    negotiator = side.endpoint._v1
    assert negotiator is not None
    (state,) = [s for s in negotiator._hub.states.values() if isinstance(s, Established)]
    return state


@pytest.mark.parametrize("direction", ["pull", "push", "both"])
def test_an_address_and_what_goes_with_it(direction: str) -> None:
    pair = dialled(pair_of(pushed=direction == "push", push=direction != "pull"))
    (given,) = pair.client.told(AddressAssigned)
    assert given.addresses == ("10.99.0.2",)
    assert given.dns == ("10.1.0.53",)
    assert given.domains == ("corp.example",)
    assert given.banner == BANNER
    assert given.application == "espudp"
    assert [told.addresses for told in pair.server.told(PeerAddressAssigned)] == [("10.99.0.2",)]
    (child,) = pair.client.told(ChildInstalled)
    assert [str(selector) for selector in child.local] == ["10.99.0.2/32"]
    assert len(pair.server.told(ChildInstalled)) == 1
    kinds = [type(event) for event in pair.client.events]
    assert kinds.index(ConnectionUp) < kinds.index(AddressAssigned) < kinds.index(ChildInstalled)


def test_a_client_that_wants_none() -> None:
    pair = dialled(pair_of(addresses=()))
    assert not pair.client.told(AddressAssigned)
    assert not pair.server.told(PeerAddressAssigned)


def test_the_address_is_there_again_when_the_connection_is_gone() -> None:
    pair = dialled(pair_of(pool="10.99.0.0/30"))
    (up,) = pair.client.told(ConnectionUp)
    pair.client.endpoint.close(up.connection, pair.now)
    pair.flush()
    assert pair.server.told(ConnectionDown)
    pair.client.forget()
    assert dialled(pair).client.told(AddressAssigned)[0].addresses == ("10.99.0.2",)


def test_an_empty_pool_is_said_on_both_sides() -> None:
    pair = dialled(pair_of(pool="10.99.0.0/30"))
    pair.client.forget()
    other = replace(pair.config, local_identity=Identity.parse("other.example.org"))
    pair.dial(other, source=501)
    pair.flush()
    assert any("no address left" in told.text for told in pair.server.told(Diagnostic))
    assert not any(given.addresses for given in pair.client.told(AddressAssigned))


def test_split_include_is_all_that_goes_into_a_tunnel_for_everything() -> None:
    pair = dialled(pair_of(remote="", split=("10.1.0.0/16", "10.7.0.0/24")))
    (child,) = pair.client.told(ChildInstalled)
    assert [str(selector) for selector in child.remote] == ["10.1.0.0/16", "10.7.0.0/24"]
    # The tunnel has not all names, though it was negotiated for everything
    assert pair.client.told(AddressAssigned)[0].domains == ("corp.example",)


def test_as_many_networks_as_companies_have() -> None:
    """What was left out would go in the clear."""
    many = tuple(str(network) for network in ip_network("10.0.0.0/15").subnets(new_prefix=24))
    assert len(many) == MAX_TOLD_NETWORKS
    (child,) = dialled(pair_of(remote="", split=many)).client.told(ChildInstalled)
    assert len(child.remote) == len(many)
    with pytest.raises(ConfigError, match="512 networks at most"):
        pair_of(remote="", split=(*many, "192.168.0.0/24"))


def test_clients_of_an_entry_are_told_of_what_it_carries() -> None:
    pair = dialled(pair_of(remote="", split=("10.9.0.0/16",), own_way=True))
    assert [child.remote for child in pair.client.told(ChildInstalled)] == [(OFFICE,)]
    assert [child.local for child in pair.server.told(ChildInstalled)] == [(OFFICE,)]


@pytest.mark.parametrize("split", [(), ("10.1.0.0/16",)])
def test_everything_is_not_carried_where_nobody_has_said_what_of_it(split: tuple[str, ...]) -> None:
    """A client that has not been told would send all it has into a tunnel that drops most of it."""
    pair = dialled(pair_of(remote="", split=split, office=True))
    assert len(pair.client.told(ChildInstalled)) == len(split)
    reasons = [refused.reason for refused in pair.server.told(PeerRefused)]
    assert reasons == ([] if split else ["client.example.org: no common subnet"])


@pytest.mark.parametrize("who", ["client", "server"])
def test_new_keys_are_for_no_more_than_the_old_ones(who: str) -> None:
    """Whichever side makes them: else all of the client's traffic would go into the tunnel, and be let
    through by the gateway.
    """
    pair = dialled(pair_of(remote="", split=("10.1.0.0/16",), office=True))
    side: Side = getattr(pair, who)
    connection, child = side.told(ConnectionUp)[0].connection, side.told(ChildInstalled)[0]
    pair.client.forget()
    pair.server.forget()
    side.endpoint.rekey_child(connection, child.spi_in, pair.now)
    pair.flush()
    assert [child.remote for child in pair.client.told(ChildInstalled)] == [(OFFICE,)]
    assert [child.local for child in pair.server.told(ChildInstalled)] == [(OFFICE,)]


def test_without_split_include_everything_and_every_name_goes_there() -> None:
    pair = dialled(pair_of(remote=""))
    (child,) = pair.client.told(ChildInstalled)
    assert child.remote == (EVERYTHING[4],)
    assert pair.client.told(AddressAssigned)[0].domains == ()


def test_a_gateway_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mode_config, "answer", lambda *_: None)
    pair = dialled(pair_of())
    pair.wait(120.0)
    (down,) = pair.client.told(ConnectionDown)
    assert down.fault is Fault.TIMEOUT
    assert "--vip none" in down.remedy


def test_a_gateway_that_never_tells() -> None:
    pair = dialled(pair_of(pushed=True, push=False))
    pair.wait(200.0)
    assert [down.fault for down in pair.client.told(ConnectionDown)] == [Fault.TIMEOUT]


# Peers that break the rules


def _answers(side: Side, pair: Pair, cfg_type: CfgType, *attributes: Attribute) -> list[Attributes]:
    """What the other side answers to a REQUEST or SET of ours."""
    answers: list[Attributes] = []
    Asking(established(side), cfg_type, attributes, lambda told, _now: answers.append(told), pair.now)
    pair.flush()
    return answers


@pytest.mark.parametrize("who", ["client", "server"])
def test_nobody_sets_anything_once_all_is_up(who: str) -> None:
    pair = dialled(pair_of())
    side, other = (pair.client, pair.server) if who == "client" else (pair.server, pair.client)
    other.forget()
    address = Attribute(A.INTERNAL_IP4_ADDRESS, bytes([10, 66, 6, 6]))
    dns, split = (
        Attribute(A.INTERNAL_IP4_DNS, bytes([10, 66, 6, 6])),
        Attribute(A.UNITY_SPLIT_INCLUDE, bytes(14)),
    )
    (ack,) = _answers(side, pair, CfgType.SET, address, dns, split)
    assert (ack.cfg_type, ack.attributes) == (CfgType.ACK, ())
    assert not other.told(AddressAssigned) + other.told(PeerAddressAssigned)
    assert not other.told(ConnectionDown)


def test_a_client_that_asks_again_gets_what_it_has() -> None:
    pair = dialled(pair_of())
    pair.server.forget()
    for wanted in (b"", bytes([10, 99, 0, 77])):
        (reply,) = _answers(pair.client, pair, CfgType.REQUEST, Attribute(A.INTERNAL_IP4_ADDRESS, wanted))
        assert reply.values(A.INTERNAL_IP4_ADDRESS) == (bytes([10, 99, 0, 2]),)
    assert not pair.server.told(PeerAddressAssigned)


def test_a_gateway_that_asks_its_client() -> None:
    pair = dialled(pair_of())
    (reply,) = _answers(pair.server, pair, CfgType.REQUEST, Attribute(A.APPLICATION_VERSION, b""))
    assert (reply.cfg_type, reply.attributes) == (CfgType.REPLY, ())


@pytest.mark.parametrize("cfg_type", [CfgType.REPLY, CfgType.ACK, 9])
@pytest.mark.parametrize("who", ["client", "server"])
def test_answers_that_nobody_asked_for(who: str, cfg_type: int) -> None:
    pair = dialled(pair_of())
    side, other = (pair.client, pair.server) if who == "client" else (pair.server, pair.client)
    sa = established(side).sa
    chain = sa.chain(sa.new_message_id())
    payload = Attributes(cfg_type, 5, (Attribute(A.INTERNAL_IP4_ADDRESS, bytes([10, 66, 6, 6])),))
    other.forget()
    drops = other.endpoint.drops.total()
    side.endpoint._hub.send(chain.seal_hashed(ExchangeType.TRANSACTION, [payload]), established(side).path)
    assert pair.move(side) == 1
    assert other.endpoint.drops.total() == drops + 1
    assert pair.move(other) == 0
    assert not other.told(AddressAssigned) + other.told(ConnectionDown)


def test_a_reply_of_the_wrong_kind_is_not_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A REQUEST answered by an ACK."""
    monkeypatch.setattr(
        mode_config, "answer", lambda _, told: (Attributes(CfgType.ACK, told.identifier), lambda _now: None)
    )
    pair = dialled(pair_of())
    assert pair.client.endpoint.drops[Drop.UNSOLICITED] >= 1
    assert not pair.client.told(AddressAssigned)


def test_huge_and_unknown_attributes() -> None:
    pair = dialled(pair_of())
    many = [Attribute(kind, b"x" * 100) for kind in range(20_000, 20_200)]
    huge = Attribute(A.APPLICATION_VERSION, b"v" * 30_000)
    for attributes in (many, [huge], [], [Attribute(A.INTERNAL_IP4_ADDRESS, b"x" * 9)]):
        (reply,) = _answers(pair.client, pair, CfgType.REQUEST, *attributes)
        assert sum(len(a.value) for a in reply.attributes) < 500
    assert not pair.server.told(ConnectionDown)


def test_no_more_exchanges_are_kept_than_there_may_be() -> None:
    pair = dialled(pair_of())
    sa, path = established(pair.client).sa, established(pair.client).path
    for _ in range(200):
        chain = sa.chain(sa.new_message_id())
        payload = Attributes(CfgType.REQUEST, 5, (Attribute(A.APPLICATION_VERSION, b""),))
        pair.client.endpoint._hub.send(chain.seal_hashed(ExchangeType.TRANSACTION, [payload]), path)
    pair.move(pair.client)
    assert len(established(pair.server).exchanges) <= MAX_EXCHANGES
    pair.wait(200.0)
    assert not established(pair.server).exchanges


def test_messages_that_are_not_authentic_leave_nothing_behind() -> None:
    pair = dialled(pair_of())
    sa, path, rng = established(pair.client).sa, established(pair.client).path, random.Random(4)
    before = len(established(pair.server).exchanges)
    for _ in range(50):
        chain = sa.chain(sa.new_message_id())
        octets = bytearray(chain.seal_hashed(ExchangeType.TRANSACTION, [Attributes(CfgType.SET, 5)]))
        octets[rng.randrange(28, len(octets))] ^= 1 << rng.randrange(8)
        pair.client.endpoint._hub.send(bytes(octets), path)
    pair.move(pair.client)
    assert len(established(pair.server).exchanges) == before
    assert pair.server.endpoint.drops[Drop.BAD_ICV] >= 40


def test_a_bad_wire_between_the_two() -> None:
    """Each transaction's messages get lost for a while, and each is repeated octet for octet."""
    pair = pair_of(push=True)
    rng = random.Random(8)
    pair.dial()
    for _ in range(300):
        pair.move(pair.client, lose=lambda _: rng.random() < 0.3)
        pair.move(pair.server, lose=lambda _: rng.random() < 0.3)
        pair.wait(0.5, flush=False)
        if pair.client.told(ChildInstalled) and pair.server.told(ChildInstalled):
            break
    assert pair.client.told(ChildInstalled)
    assert not pair.client.told(ConnectionDown)
