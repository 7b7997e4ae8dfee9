"""The habits of other people's products that users trip over: a peer played by hand has each of them."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest

from espudp.ike.config import ChildConfig, ConnectionConfig, Identity, ListenerConfig, Timers
from espudp.ike.credentials import Psk, PskOf
from espudp.ike.encapsulation import Encapsulation
from espudp.ike.events import ChildInstalled, ConnectionDown, ConnectionUp, PeerRefused
from espudp.ike.narrowing import DYNAMIC
from espudp.ike.natd import natd_hash
from espudp.ike.pad import PadEntry
from espudp.ike.proposals import EspProposal, IkeProposal, offer_ike
from espudp.presets import PRESETS
from espudp.wire.ikev2.constants import CfgAttribute, CfgType, ExchangeType, IdType, NotifyType, ProtocolId
from espudp.wire.ikev2.message import Message
from espudp.wire.ikev2.payloads import (
    Configuration,
    Delete,
    KeyExchange,
    Notify,
    Payload,
    SecurityAssociation,
    TsInitiator,
    TsResponder,
)
from tests.scenario.lab import CLIENT_IP, FOREVER, POOL, SERVER_IP, SUBNET, Lab, Terms
from tests.scenario.test_rekey import rekey_child
from tests.sim.host import Host
from tests.sim.link import Segment
from tests.sim.script import PSK, Script, networks, suite
from tests.sim.traffic import udp_packet
from tests.sim.world import World

GATEWAY = "203.0.113.9"
TIMERS = Timers(ike_lifetime=FOREVER)
HERE, THERE = ("10.3.0.0/16",), ("10.1.0.0/16", "10.2.0.0/16")
EVERYTHING = ("0.0.0.0/0",)

ECP256, ECP384, MODP2048, MODP3072, CURVE25519 = 19, 20, 14, 15, 31

ADDRESS = Configuration(CfgType.REQUEST, ((int(CfgAttribute.INTERNAL_IP4_ADDRESS), b""),))


def dialling(product: str, local: Sequence[str] = HERE, remote: Sequence[str] = THERE) -> ConnectionConfig:
    """What `connect --preset` makes."""
    preset = PRESETS[product]
    return ConnectionConfig(
        local_identity=Identity.parse("client.example.org"),
        proof=Psk(PSK),
        demand=PskOf(PSK),
        child=ChildConfig(
            local=networks(*local),
            remote=networks(*remote),
            proposals=tuple(map(EspProposal.parse, preset.esp)),
            lifetime=FOREVER,
            single_pair=preset.single_pair,
        ),
        ike_proposals=tuple(map(IkeProposal.parse, preset.ike)),
        request_addresses=(),
        encap=Encapsulation.ALWAYS if preset.force_encap else Encapsulation.AUTO,
        timers=TIMERS,
    )


def listening(*products: str, pad: tuple[PadEntry, ...] = ()) -> ListenerConfig:
    """What `listen --preset` makes."""
    ike = dict.fromkeys(text for product in products for text in PRESETS[product].ike)
    esp = dict.fromkeys(text for product in products for text in PRESETS[product].esp)
    usual = Terms().listener()
    child = ChildConfig(
        local=networks(POOL, SUBNET),
        remote=(DYNAMIC,),
        proposals=tuple(map(EspProposal.parse, esp)),
        lifetime=FOREVER,
    )
    return replace(usual, pad=pad or usual.pad, ike_proposals=tuple(map(IkeProposal.parse, ike)), child=child)


class Place:
    """A segment, and in it a host of ours and a peer played by hand."""

    def __init__(self) -> None:
        self.world = World(0)
        self.net = Segment(self.world, "internet")

    def listen(self, config: ListenerConfig) -> Host:
        return Host(self.world, self.net, SERVER_IP, name="server", listener=config)

    def dial(self, config: ConnectionConfig, *, natt_only: bool = False) -> Host:
        client = Host(self.world, self.net, CLIENT_IP, name="client")
        client.connect(config, GATEWAY, natt_only=natt_only)
        self.world.run(3.0)
        return client


@pytest.fixture
def place() -> Place:
    return Place()


def caller(place: Place, **options: object) -> Script:
    """A client that is played by hand, with an IKE SA."""
    script = Script(place.world, place.net, CLIENT_IP, **options)  # type: ignore[arg-type]
    script.dial(SERVER_IP)
    place.world.run(1.0)
    return script


def connected(place: Place, **options: object) -> Script:
    """The same, with an address and a child SA."""
    script = caller(place, **options)
    script.ask_for("0.0.0.0/0", "0.0.0.0/0", before=[ADDRESS])
    place.world.run(1.0)
    assert script.heard[-1].get(TsResponder) is not None
    return script


def rekeyed(host: Host) -> Notify:
    """What names the child SA of the host for a rekey by its peer."""
    spi = host.children()[0].spi_out.to_bytes(4)
    return Notify(ProtocolId.ESP, spi, NotifyType.REKEY_SA, b"")


def given(message: Message) -> tuple[bytes, ...]:
    """The addresses in an answer."""
    reply = message.get(Configuration)
    return () if reply is None else reply.values(CfgAttribute.INTERNAL_IP4_ADDRESS)


# Clients


def test_mikrotik_asks_for_its_address_with_every_child_sa(place: Place) -> None:
    """CP in CREATE_CHILD_SA (RFC 7296 appendix C.4)."""
    server = place.listen(listening("mikrotik"))
    peer = connected(place, uses=suite(group="ecp256"))
    (address,) = given(peer.heard[-1])
    peer.ask_for(
        "10.99.0.2/32",
        "0.0.0.0/0",
        exchange=ExchangeType.CREATE_CHILD_SA,
        before=[rekeyed(server), ADDRESS],
        groups=(MODP2048,),
    )
    place.world.run(1.0)
    assert given(peer.heard[-1]) == (address,)
    assert len(server.told(ChildInstalled)) == 2
    assert not server.told(ConnectionDown)


def test_android_calls_itself_by_a_key_id(place: Place) -> None:
    pad = (
        PadEntry.of_psk(b"another key", Identity.parse("office")),
        PadEntry.of_psk(PSK, Identity.parse("keyid:office")),
    )
    server = place.listen(listening("android", pad=pad))
    peer = connected(place, identity=(IdType.KEY_ID, b"office"))
    assert str(server.told(ConnectionUp)[0].remote_identity) == "keyid:office"
    assert len(given(peer.heard[-1])) == 1


@pytest.mark.parametrize(
    ("product", "groups", "chosen"),
    [
        ("ios", (ECP256, None), ECP256),  # that of IKE
        ("ios", (MODP2048, None), MODP2048),  # another one
        ("ios", (CURVE25519, None), None),  # one that we do not want: the second proposal has none
        ("macos", (None,), None),
        ("macos", (MODP2048,), MODP2048),
        ("windows", (None,), None),
    ],
)
def test_apple_and_windows_rekey_with_another_group_than_at_first(
    place: Place, product: str, groups: tuple[int | None, ...], chosen: int | None
) -> None:
    """The first child SA has none, so that only the rekey, minutes or a day later, shows a mismatch."""
    server = place.listen(listening(product))
    peer = connected(place, uses=suite("aes256gcm16", "prfsha256", "ecp256"), esp_bits=256)
    peer.ask_for(
        "10.99.0.2/32",
        "0.0.0.0/0",
        exchange=ExchangeType.CREATE_CHILD_SA,
        before=[rekeyed(server)],
        groups=groups,
    )
    place.world.run(1.0)
    answer = peer.heard[-1]
    ke, sa = answer.get(KeyExchange), answer.get(SecurityAssociation)
    assert (None if ke is None else ke.group) == chosen
    assert sa is not None
    assert {t.id for t in sa.proposals[0].transforms if t.type == 4} == ({chosen} - {None})
    assert len(server.told(ChildInstalled)) == 2


def test_a_group_that_we_would_rather_have_is_named(place: Place) -> None:
    """INVALID_KE_PAYLOAD (RFC 7296 section 1.3): one more round trip, and not the end."""
    server = place.listen(listening("ios"))
    peer = connected(place, uses=suite("aes256gcm16", "prfsha256", "ecp256"), esp_bits=256)
    peer.ask_for(
        "10.99.0.2/32",
        "0.0.0.0/0",
        exchange=ExchangeType.CREATE_CHILD_SA,
        before=[rekeyed(server)],
        groups=(CURVE25519, ECP384),
    )
    place.world.run(1.0)
    refusal = peer.heard[-1].notify(NotifyType.INVALID_KE_PAYLOAD)
    assert refusal is not None
    assert refusal.data == ECP384.to_bytes(2)
    assert len(server.children()) == 1


def weak_offer(place: Place, listener: ListenerConfig) -> tuple[Host, Script]:
    """Windows, as it is out of the box."""
    server = place.listen(listener)
    script = Script(place.world, place.net, CLIENT_IP, uses=suite(group="modp1024"))
    script.dial(SERVER_IP, offer_ike(tuple(map(IkeProposal.parse, PRESETS["windows"].weak))))
    place.world.run(1.0)
    return server, script


def test_what_windows_proposes_by_itself_is_refused_and_said(place: Place) -> None:
    server, peer = weak_offer(place, listening("windows"))
    assert peer.heard[-1].notify(NotifyType.NO_PROPOSAL_CHOSEN) is not None
    (refused,) = server.told(PeerRefused)
    assert "modp1024" in refused.detail


def test_what_windows_proposes_by_itself_is_taken_when_named(place: Place) -> None:
    weak = tuple(map(IkeProposal.parse, PRESETS["windows"].weak[1:2]))
    _, peer = weak_offer(place, replace(listening("windows"), ike_proposals=weak))
    offer = peer.heard[-1].get(SecurityAssociation)
    assert offer is not None
    assert offer.proposals[0].number == 2


def test_windows_sends_small_fragments(place: Place) -> None:
    """RFC 7383: however small they are."""
    server = place.listen(listening("windows"))
    script = Script(place.world, place.net, CLIENT_IP, uses=suite(group="ecp384"))
    script.dial(SERVER_IP, extra=[Notify.of(NotifyType.IKEV2_FRAGMENTATION_SUPPORTED)])
    place.world.run(1.0)
    script.ask_for("0.0.0.0/0", "0.0.0.0/0", before=[ADDRESS], fragments=24)
    place.world.run(1.0)
    assert len(given(script.heard[-1])) == 1
    assert len(server.children()) == 1


@pytest.mark.parametrize("late", [True, False])
def test_an_old_child_sa_that_the_peer_deletes_late_or_never(place: Place, late: bool) -> None:
    """RFC 7296 section 2.8 has who rekeys delete the old one; some sleep before, and some forget."""
    server = place.listen(listening("ios"))
    peer = connected(place, uses=suite("aes256gcm16", "prfsha256", "ecp256"), esp_bits=256)
    old = server.children()[0]
    exchange = ExchangeType.CREATE_CHILD_SA
    peer.ask_for("10.99.0.2/32", "0.0.0.0/0", exchange=exchange, before=[rekeyed(server)])
    place.world.run(60.0)
    assert {child.spi_in for child in server.children()} > {old.spi_in}
    if late:
        peer.ask(ExchangeType.INFORMATIONAL, [Delete(ProtocolId.ESP, (old.spi_out.to_bytes(4),))])
        place.world.run(1.0)
    else:
        place.world.run(300.0)
        deletes = [delete for message in peer.heard for delete in message.all(Delete)]
        assert Delete(ProtocolId.ESP, (old.spi_in.to_bytes(4),)) in deletes
    (child,) = server.children()
    assert child.spi_in != old.spi_in
    assert not server.told(ConnectionDown)


# Gateways


class Gateway(Script):
    """Agrees to a child SA if `accepts` its selectors, and else to none; perhaps with PFS of one group."""

    accepts: Callable[[TsInitiator, TsResponder], bool] = staticmethod(lambda *_: True)
    pfs: int | None = None

    def __init__(self, place: Place, **options: object) -> None:
        super().__init__(place.world, place.net, GATEWAY, **options)  # type: ignore[arg-type]
        self.answers = self.answer

    def answer(self, message: Message) -> Sequence[Payload]:
        first = self.proof() if message.header.exchange == ExchangeType.IKE_AUTH else []
        tsi, tsr = message.get(TsInitiator), message.get(TsResponder)
        if tsi is None or tsr is None:
            return []
        if not self.accepts(tsi, tsr):
            return [*first, Notify.of(NotifyType.TS_UNACCEPTABLE)]
        group = None if first else self.pfs
        ke = message.get(KeyExchange)
        if group is not None and (ke is None or ke.group != group):
            return [Notify.of(NotifyType.INVALID_KE_PAYLOAD, group.to_bytes(2))]
        return [*first, *self.child(tsi.selectors, tsr.selectors, group=group, nonce=not first)]


def one_of_each(tsi: TsInitiator, tsr: TsResponder) -> bool:
    return len(tsi.selectors) == len(tsr.selectors) == 1


def any_to_any(tsi: TsInitiator, tsr: TsResponder) -> bool:
    return tsi.selectors == tsr.selectors == networks(*EVERYTHING)


USES = {
    "cisco": suite("aes256gcm16", "prfsha512", "ecp384"),
    "fortigate": suite("aes256gcm16", "prfsha384", "modp2048"),
    "mikrotik": suite("aes256gcm16", "prfsha256", "modp2048"),
    "azure": suite("aes256gcm16", "prfsha384", "ecp384"),
    "aws": suite("aes256gcm16", "prfsha512", "ecp384"),
    "cloudflare": suite("aes256gcm16", "prfsha512", "ecp384"),
}


@pytest.mark.parametrize("product", ["cisco", "fortigate", "mikrotik"])
def test_one_selector_pair_for_each_child_sa(place: Place, product: str) -> None:
    """A list of selectors is TS_UNACCEPTABLE to it, from the first message on."""
    gateway = Gateway(place, uses=USES[product], esp_bits=256)
    gateway.accepts = one_of_each
    client = place.dial(dialling(product))
    reached = {str(s) for child in client.children() for s in child.remote}
    assert reached == set(THERE)
    assert len(client.children()) == 2


def test_without_the_preset_the_same_gateway_refuses_us(place: Place) -> None:
    gateway = Gateway(place, uses=USES["cisco"], esp_bits=256)
    gateway.accepts = one_of_each
    config = dialling("cisco")
    client = place.dial(replace(config, child=replace(config.child, single_pair=False)))
    assert client.told(ConnectionDown)


@pytest.mark.parametrize("product", ["azure", "aws", "cloudflare"])
def test_any_to_any(place: Place, product: str) -> None:
    gateway = Gateway(place, uses=USES[product], esp_bits=256)
    gateway.accepts = any_to_any
    local, remote = (EVERYTHING, EVERYTHING) if PRESETS[product].any_to_any else (HERE, THERE)
    client = place.dial(dialling(product, local, remote))
    (child,) = client.children()
    assert str(*child.remote) == "0.0.0.0/0"


def test_cloudflare_wants_the_exchange_to_start_on_port_4500(place: Place) -> None:
    gateway = Gateway(place, uses=USES["cloudflare"], esp_bits=256, plain_port=None)
    client = place.dial(dialling("cloudflare", EVERYTHING, EVERYTHING), natt_only=True)
    assert len(client.children()) == 1
    # And it has to see a NAT, or its ESP would come without UDP.
    init = gateway.heard[0]
    claimed = init.notify(NotifyType.NAT_DETECTION_SOURCE_IP)
    assert claimed is not None
    here = client.told(ConnectionUp)[0].path.local
    assert claimed.data != natd_hash(init.header.spi_i, bytes(8), here)


@pytest.mark.parametrize("group", [None, ECP384, ECP256, MODP2048])
def test_a_gateway_whose_pfs_group_shows_at_the_rekey(place: Place, group: int | None) -> None:
    """Ours is the one of IKE at first; INVALID_KE_PAYLOAD names another; none is as good."""
    gateway = Gateway(place, uses=USES["azure"], esp_bits=256)
    client = place.dial(dialling("azure", EVERYTHING, EVERYTHING))
    gateway.pfs = group
    (old,) = client.children()
    rekey_child(client, old)
    place.world.run(3.0)
    (new,) = client.children()
    assert new.replaces == old.spi_in
    assert not client.told(ConnectionDown)


def test_a_gateway_that_answers_with_all_that_it_has(place: Place) -> None:
    """openiked's flows, wider than what was asked for: we keep to what was, at first and at the rekey."""
    gateway = Gateway(place, uses=USES["azure"], esp_bits=256)
    wide = networks("10.0.0.0/8")

    def answer(message: Message) -> Sequence[Payload]:
        said = Gateway.answer(gateway, message)
        return [replace(p, selectors=wide) if isinstance(p, TsInitiator | TsResponder) else p for p in said]

    gateway.answers = answer
    client = place.dial(dialling("azure", HERE, THERE))
    (old,) = client.children()
    rekey_child(client, old)
    place.world.run(3.0)
    (new,) = client.children()
    assert new.replaces == old.spi_in
    assert [str(s) for s in new.local] == list(HERE)
    assert [str(s) for s in new.remote] == list(THERE)


def test_aws_has_two_tunnels_and_takes_one_down(place: Place) -> None:
    """Both carry the same: what one carried goes through the other."""
    terms = Terms(
        local=EVERYTHING, remote=EVERYTHING, pool=(), request=(), timers=replace(TIMERS, dpd_interval=5.0)
    )
    lab = Lab(0, terms)
    second = Host(lab.world, lab.net, GATEWAY, name="second", listener=terms.listener())
    arrived: list[str] = []
    lab.server.on_packet.append(lambda _: arrived.append("first"))
    second.on_packet.append(lambda _: arrived.append("second"))
    client = lab.client()
    for gateway in (SERVER_IP, GATEWAY):
        client.connect(terms.connection(), gateway)
        lab.world.run(1.0)
    packet = udp_packet("10.3.0.1", "10.1.0.1", b"to whom?")
    client.send_packets([packet])
    lab.world.run(1.0)
    used, other = (lab.server, second) if arrived == ["first"] else (second, lab.server)
    used.die()
    lab.world.run(200.0)
    client.send_packets([packet])
    lab.world.run(1.0)
    assert len(arrived) == 2
    assert arrived[1] == ("second" if other is second else "first")
