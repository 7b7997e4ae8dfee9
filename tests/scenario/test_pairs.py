"""Several selectors on a side, and peers that know one pair of them for each child SA (RFC 7296 2.9)."""

from collections.abc import Sequence
from dataclasses import replace

import pytest

from espudp.ike.config import ConnectionConfig
from espudp.ike.events import ConnectionDown, ConnectionUp, Diagnostic, Fault
from espudp.wire.ikev2.constants import ExchangeType, NotifyType, ProtocolId
from espudp.wire.ikev2.message import Message
from espudp.wire.ikev2.payloads import Delete, Notify, Payload, TsInitiator, TsResponder
from espudp.wire.selectors import TrafficSelector
from tests.scenario.lab import CLIENT_IP, Lab, Terms
from tests.scenario.test_rekey import rekey_child, rekey_ike
from tests.sim.host import Host
from tests.sim.link import Segment
from tests.sim.script import Script, networks
from tests.sim.world import World

OURS, THEIRS = ("10.3.0.0/16",), ("10.1.0.0/16", "10.2.0.0/16")
SITES = Terms(local=OURS, remote=THEIRS, pool=(), request=(), remote_identity=None)
GATEWAY = "203.0.113.9"


def carried(host: Host) -> set[tuple[str, str]]:
    """What the child SAs are for, each of one pair."""
    return {(str(*child.local), str(*child.remote)) for child in host.children()}


def delete_child(host: Host, connection: int, spi_in: int) -> None:
    host.do(lambda tunnel: tunnel.delete_child(connection, spi_in, host.world.now))


def config(*, single_pair: bool) -> ConnectionConfig:
    connection = SITES.connection()
    return replace(connection, child=replace(connection.child, single_pair=single_pair))


def pair_lab() -> Lab:
    """A server of our own that gives one pair for each child SA."""
    terms = Terms(local=THEIRS, remote=OURS, pool=(), request=())
    lab = Lab(0, SITES, terms)
    listener = terms.listener()
    single = replace(listener, child=replace(listener.child, single_pair=True))
    lab.server = Host(lab.world, lab.net, GATEWAY, name="gateway", listener=single)
    return lab


BOTH = {("10.3.0.0/16", "10.1.0.0/16"), ("10.3.0.0/16", "10.2.0.0/16")}


@pytest.mark.parametrize("single_pair", [False, True], ids=["asked for both", "asked for one"])
def test_one_child_sa_for_each_pair(single_pair: bool) -> None:
    lab = pair_lab()
    client = lab.client()
    client.connect(config(single_pair=single_pair), GATEWAY)
    lab.world.run(2.0)
    assert carried(client) == BOTH
    assert {(theirs, ours) for ours, theirs in carried(lab.server)} == BOTH


def test_they_are_rekeyed_each_on_its_own_and_restored() -> None:
    lab = pair_lab()
    client = lab.client()
    number = client.connect(config(single_pair=True), GATEWAY)
    lab.world.run(2.0)
    for host in (client, lab.server):
        for child in host.children():
            rekey_child(host, child)
            lab.world.run(3.0)
    assert carried(client) == BOTH
    gone = lab.server.children()[0]
    delete_child(lab.server, gone.connection, gone.spi_in)
    lab.world.run(1.0)
    assert len(client.children()) == 1
    lab.world.run(30.0)
    assert carried(client) == BOTH
    rekey_ike(client)
    lab.world.run(5.0)
    for spi in [child.spi_in for child in client.children()]:
        delete_child(client, number, spi)
    lab.world.run(60.0)
    assert carried(client) == BOTH
    assert not client.told(ConnectionDown)


def test_ports_and_protocols_are_narrowed_on_both_sides() -> None:
    web, dns = TrafficSelector.from_network("10.1.0.0/16"), TrafficSelector.from_network("10.2.0.53/32")
    web, dns = replace(web, protocol=6, first_port=443, last_port=443), replace(dns, protocol=17)
    asked = (*THEIRS, "10.4.0.0/16")
    allowed = Terms(local=(web, dns), remote=("10.3.7.0/24",), pool=(), request=())
    lab = Lab(0, replace(SITES, remote=asked), allowed)
    client = lab.client()
    lab.connect(client)
    (child,) = client.children()
    assert [str(s) for s in child.local] == ["10.3.7.0/24"]
    assert [str(s) for s in child.remote] == ["10.1.0.0/16[tcp/443]", "10.2.0.53/32[udp/any]"]


# Peers that say so in other ways


class Gateway(Script):
    """Answers IKE_AUTH with `first`, and CREATE_CHILD_SA with `further`."""

    def __init__(self, world: World, net: Segment) -> None:
        super().__init__(world, net, GATEWAY)
        self.asked: list[tuple[str, ...]] = []
        self.single_only = True
        self.first: list[Payload] = []
        self.answers = self.answer

    def answer(self, message: Message) -> Sequence[Payload]:
        tsi, tsr = message.get(TsInitiator), message.get(TsResponder)
        if tsi is None or tsr is None:
            return []
        self.asked.append(tuple(str(s) for s in tsr.selectors))
        if message.header.exchange == ExchangeType.IKE_AUTH:
            return [*self.proof(), *(self.first or self.child(tsi.selectors[:1], tsr.selectors[:1]))]
        if self.single_only and len(tsi.selectors) + len(tsr.selectors) > 2:
            return [Notify.of(NotifyType.SINGLE_PAIR_REQUIRED)]
        return self.child(tsi.selectors, tsr.selectors, nonce=True)


@pytest.fixture
def lab() -> Lab:
    return Lab(0, SITES)


@pytest.fixture
def gateway(lab: Lab) -> Gateway:
    return Gateway(lab.world, lab.net)


def dial(lab: Lab, connection: ConnectionConfig | None = None) -> Host:
    client = lab.client(ip=CLIENT_IP)
    client.connect(connection or SITES.connection(), GATEWAY)
    lab.world.run(3.0)
    return client


def test_a_peer_that_takes_the_first_pair_and_says_nothing(lab: Lab, gateway: Gateway) -> None:
    client = dial(lab)
    assert carried(client) == BOTH
    assert gateway.asked == [("10.1.0.0/16", "10.2.0.0/16"), ("10.2.0.0/16",)]


def test_a_peer_that_refuses_all_but_single_pairs(lab: Lab, gateway: Gateway) -> None:
    gateway.first = [Notify.of(NotifyType.SINGLE_PAIR_REQUIRED)]
    client = dial(lab)
    assert carried(client) == BOTH
    assert len(client.told(ConnectionUp)) == 1
    assert gateway.asked[1:] == [("10.1.0.0/16",), ("10.2.0.0/16",)]


def test_a_peer_that_says_that_there_could_be_more(lab: Lab, gateway: Gateway) -> None:
    """Two of three in one child SA: only the notify tells that the third is to be had."""
    terms = replace(SITES, remote=(*THEIRS, "10.4.0.0/16"))
    more = Notify.of(NotifyType.ADDITIONAL_TS_POSSIBLE)
    gateway.first = [more, *gateway.child(networks(*OURS), networks(*THEIRS))]
    client = dial(lab, terms.connection())
    assert gateway.asked[1:] == [("10.4.0.0/16",)]
    assert len(client.children()) == 2


def test_a_peer_that_narrows_and_means_it_is_not_asked_again(lab: Lab, gateway: Gateway) -> None:
    terms = replace(SITES, remote=(*THEIRS, "10.4.0.0/16"))
    gateway.first = gateway.child(networks(*OURS), networks(*THEIRS))
    client = dial(lab, terms.connection())
    assert len(gateway.asked) == 1
    assert len(client.children()) == 1


@pytest.mark.parametrize(
    "error", [NotifyType.TS_UNACCEPTABLE, NotifyType.NO_ADDITIONAL_SAS, NotifyType.NO_PROPOSAL_CHOSEN]
)
def test_a_pair_that_is_refused_is_given_up_and_the_others_stay(
    lab: Lab, gateway: Gateway, error: NotifyType
) -> None:
    answer = gateway.answer
    refused = [Notify.of(error)]
    gateway.answers = lambda m: answer(m) if m.header.exchange == ExchangeType.IKE_AUTH else refused
    client = dial(lab)
    assert carried(client) == {("10.3.0.0/16", "10.1.0.0/16")}
    said = [event.text for event in client.told(Diagnostic) if event.text.startswith("no child SA for")]
    assert said == [f"no child SA for 10.3.0.0/16 and 10.2.0.0/16: {error.name}"]
    messages = len(gateway.heard)
    lab.world.run(25.0)
    assert len(gateway.heard) == messages


def test_no_pair_at_all_is_the_end(lab: Lab, gateway: Gateway) -> None:
    refused = [Notify.of(NotifyType.SINGLE_PAIR_REQUIRED)]

    def refuse(message: Message) -> Sequence[Payload]:
        return [*gateway.proof(), *refused] if message.header.exchange == ExchangeType.IKE_AUTH else refused

    gateway.answers = refuse
    client = dial(lab)
    (down,) = client.told(ConnectionDown)
    assert down.fault is Fault.SELECTORS
    assert len(gateway.heard) <= 6


def test_a_pair_that_the_peer_deletes_again_and_again_is_asked_for_ever_less(
    lab: Lab, gateway: Gateway
) -> None:
    client = dial(lab)

    def delete() -> None:
        made = [c for c in client.children() if str(*c.remote) == "10.2.0.0/16"]
        if made:
            spi = made[0].spi_out.to_bytes(4)
            gateway.ask(ExchangeType.INFORMATIONAL, [Delete(ProtocolId.ESP, (spi,))])

    def asked_in(seconds: int) -> int:
        before = len(gateway.asked)
        for _ in range(seconds):
            delete()
            lab.world.run(1.0)
        return len(gateway.asked) - before

    soon, later = asked_in(120), asked_in(1200)
    assert 2 <= soon <= 5
    assert later <= 5
    assert carried(client) >= {("10.3.0.0/16", "10.1.0.0/16")}
