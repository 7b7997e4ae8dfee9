"""Quick mode between two peers, both roles: keys, groups, lifetimes, repetition, and what goes wrong."""

from ipaddress import ip_address
from itertools import pairwise

import pytest

from espudp.ike.config import DYNAMIC, Mode, Timers
from espudp.ike.events import (
    ChildConfirmed,
    ChildInstalled,
    ChildRemoved,
    ConnectionDown,
    Diagnostic,
    Fault,
    PeerRefused,
)
from espudp.ike.ikev1_config import NatTraversal
from espudp.ike.lifetimes import LifetimeConfig
from espudp.ike.v1 import informational
from espudp.ike.v1.connection import Connection
from espudp.ike.v1.hub import Datagram
from espudp.ike.v1.natt import FLAVOURS
from espudp.ike.v1.quick import transport_of
from espudp.wire.buffer import Writer
from espudp.wire.ikev1.attributes import Attribute, emit_attributes
from espudp.wire.ikev1.constants import (
    ExchangeType,
    IkeAttribute,
    IpsecAttribute,
    LifeType,
    NotifyType,
    ProtocolId,
)
from espudp.wire.ikev1.header import Header
from espudp.wire.ikev1.payloads import Delete, NatOriginalAddress, Notification, SecurityAssociation
from tests.unit.ike.v1.quick_pair import (
    Pair,
    Side,
    child_config,
    client_policy,
    networks,
    server_policy,
)

# A message ID that we have not used ourselves
_OF_THE_PEER = 0x5EE5


def fitting(*esp: str, **options: object) -> Pair:
    """Both sides with these ESP proposals."""
    server = child_config(*esp, local=networks("10.1.0.0/16"), remote=networks("10.9.0.0/16"), **options)  # type: ignore[arg-type]
    return Pair(client_policy(child_config(*esp, **options)), server_policy(server))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "esp",
    [
        "aes128gcm16",
        "aes256-sha256",
        "3des-sha1",
        "aes128-sha1-modp1024",
        "aes256gcm16-ecp256",
        "aes256-sha512-modp2048-none",
        "null-sha1",
        "aes192ctr-sha256",
        "aes128gmac",
    ],
)
def test_both_have_the_same_keys(esp: str) -> None:
    pair = fitting(esp).up()
    (ours,), (theirs,) = pair.client.installed(), pair.server.installed()
    assert (ours.spi_in, ours.spi_out) == (theirs.spi_out, theirs.spi_in)
    assert (ours.keys_in, ours.keys_out) == (theirs.keys_out, theirs.keys_in)
    assert ours.keys_in != ours.keys_out
    assert ours.suite == theirs.suite
    assert (ours.local, ours.remote) == (theirs.remote, theirs.local)
    assert ours.local == networks("10.9.0.1/32")
    assert ours.suite.name == "-".join(esp.split("-")[: 2 if "sha" in esp else 1])
    assert bool(pair.client.children()[0].group) == ("modp1024" in esp or "ecp" in esp)
    assert not ours.standby
    assert theirs.standby, "until the third message"
    assert [e.spi_in for e in pair.server.told(ChildConfirmed)] == [theirs.spi_in]


def test_the_responder_receives_before_it_sends() -> None:
    pair = Pair()
    pair.start()
    pair.server.receive(*pair.client.take())
    assert len(pair.server.told(ChildInstalled)) == 1
    assert not pair.server.told(ChildConfirmed)
    pair.client.receive(*pair.server.take())
    assert len(pair.client.told(ChildInstalled)) == 1
    pair.server.receive(*pair.client.take())
    assert pair.server.told(ChildConfirmed)


def test_repetitions_are_answered_octet_for_octet() -> None:
    pair = Pair()
    pair.start()
    (first,) = pair.client.take()
    pair.server.receive(first)
    (second,) = pair.server.take()
    pair.server.receive(first)
    assert pair.server.take() == [second]
    pair.client.receive(second)
    (third,) = pair.client.take()
    pair.client.receive(second)
    assert pair.client.take() == [third]
    pair.server.receive(third)
    for octets in (first, third, second):
        pair.server.receive(octets)
        pair.client.receive(octets)
    assert len(pair.server.told(ChildInstalled)) == len(pair.client.told(ChildInstalled)) == 1


@pytest.mark.parametrize("lost", [0, 1, 2])
def test_each_message_may_get_lost(lost: int) -> None:
    pair = Pair()
    pair.start()
    senders = [pair.client, pair.server, pair.client]
    for index in range(lost + 1):
        sent = senders[index].take()
        if index < lost:
            other = pair.server if senders[index] is pair.client else pair.client
            other.receive(*sent)
    pair.wait(3.0)
    assert pair.in_step()
    assert len(pair.client.children()) == 1
    assert len(pair.server.told(ChildConfirmed)) == 1


def test_several_at_a_time() -> None:
    """Each with IVs of its own, and their messages in any order."""
    child = child_config(remote=networks("10.1.0.0/24", "10.1.1.0/24", "10.1.2.0/24"))
    pair = Pair(client_policy(child))
    pair.start()
    requests = pair.client.take()
    assert len(requests) == 3
    for octets in reversed(requests):
        pair.server.receive(octets)
    for octets in sorted(pair.server.take()):
        pair.client.receive(octets)
    pair.carry()
    assert pair.in_step()
    assert {str(c.traffic.remote) for c in pair.client.children()} == {
        "10.1.0.0/24",
        "10.1.1.0/24",
        "10.1.2.0/24",
    }


@pytest.mark.parametrize("where", ["client", "server"])
def test_an_answer_that_never_comes(where: str) -> None:
    """Bounded in time on either side."""
    pair = Pair()
    pair.start()
    if where == "server":
        pair.server.receive(*pair.client.take())
        assert pair.server.children()
    pair.wait(200.0, carry=False)
    if where == "client":
        (down,) = pair.client.told(ConnectionDown)
        assert (down.fault, down.retry) == (Fault.TIMEOUT, True)
    assert not pair.server.established.exchanges
    assert not pair.server.installed()
    for side in pair.sides:
        assert len(side.commons.child_spis) == 0


class TestRefusals:
    def test_no_common_proposal(self) -> None:
        pair = Pair(client_policy(child_config("3des-sha1")), seed=3).up()
        (down,) = pair.client.told(ConnectionDown)
        assert (down.fault, down.retry) == (Fault.PROPOSAL, False)
        assert "NO_PROPOSAL_CHOSEN" in down.reason
        (refused,) = pair.server.told(PeerRefused)
        assert "no common ESP proposal" in refused.reason
        lines = refused.detail.splitlines()
        assert "peer offers    3des-sha1 (tunnel in UDP)" in lines
        assert any(line.startswith("accepted here  aes128gcm16") for line in lines)
        assert not pair.server.installed()

    def test_the_refusal_may_get_lost(self) -> None:
        pair = Pair(client_policy(child_config("3des-sha1")))
        pair.start()
        pair.server.receive(*pair.client.take())
        assert len(pair.server.take()) == 1
        pair.wait(3.0)
        assert pair.client.told(ConnectionDown)[0].fault is Fault.PROPOSAL

    def test_no_common_subnet(self) -> None:
        pair = Pair(client_policy(child_config(remote=networks("172.16.0.0/12")))).up()
        (down,) = pair.client.told(ConnectionDown)
        assert down.fault is Fault.SELECTORS
        assert "172.16.0.0/12" in pair.server.told(PeerRefused)[0].detail

    def test_less_than_is_allowed(self) -> None:
        pair = Pair(client_policy(child_config(remote=networks("10.1.7.0/24")))).up()
        assert pair.in_step()
        assert pair.server.children()[0].local == networks("10.1.7.0/24")

    def test_a_client_of_unity_asks_for_everything(self) -> None:
        child = child_config(remote=networks("0.0.0.0/0"))
        pair = Pair(client_policy(child), unity=True)
        pair.start()
        pair.client.connection.split = networks("10.1.2.0/24", "10.1.9.0/24")
        pair.server.connection.has_told_split = True
        pair.carry()
        assert pair.client.children()[0].remote == networks("10.1.2.0/24", "10.1.9.0/24")
        assert pair.server.children()[0].local == networks("10.1.0.0/16")

    @pytest.mark.parametrize(("told", "asked"), [(True, "10.0.0.0/8"), (False, "0.0.0.0/0")])
    def test_nobody_else_has_more_narrowed(self, *, told: bool, asked: str) -> None:
        pair = Pair(client_policy(child_config(remote=networks(asked))), unity=True)
        pair.start()
        pair.server.connection.has_told_split = told
        pair.carry()
        assert pair.client.told(ConnectionDown)[0].fault is Fault.SELECTORS

    def test_of_several_one(self) -> None:
        child = child_config(remote=networks("10.1.0.0/16", "172.16.0.0/12"))
        pair = Pair(client_policy(child)).up()
        assert not pair.client.told(ConnectionDown)
        assert len(pair.client.children()) == 1
        assert any("172.16" in note.text for note in pair.client.told(Diagnostic))

    def test_another_group_is_tried(self) -> None:
        server = child_config(
            "aes128-sha1-modp1536", local=networks("10.1.0.0/16"), remote=networks("10.9.0.0/16")
        )
        child = child_config("aes128-sha1-modp1024-modp1536-modp2048-none")
        pair = Pair(client_policy(child), server_policy(server)).up()
        assert pair.in_step()
        group = pair.client.children()[0].group
        assert group is not None
        assert group.keyword == "modp1536"

    def test_who_asks_for_no_pfs_rekeys_with_the_group_that_the_peer_wants(self) -> None:
        server = child_config("aes128-sha1", local=networks("10.1.0.0/16"), remote=networks("10.9.0.0/16"))
        pair = Pair(client_policy(child_config("aes128-sha1-modp2048")), server_policy(server)).up()
        pair.wait(100.0)
        for side in (pair.server, pair.client):
            side.connection.rekey_child(side.children()[0].spi_in, pair.now)
            pair.wait(20.0)
            assert pair.in_step()
        assert len(pair.server.told(ChildInstalled)) == 3
        assert [child.group and child.group.keyword for child in pair.server.children()] == ["modp2048"]

    def test_too_many_children(self) -> None:
        child = child_config(remote=networks(*(f"10.1.{n}.0/24" for n in range(6))))
        pair = Pair(client_policy(child)).up()
        assert len(pair.server.children()) == 4
        assert pair.in_step()


class TestLifetimes:
    def test_the_responders_shorter_one_is_told(self) -> None:
        """RFC 2407 section 4.5.4: RESPONDER-LIFETIME"""
        short = LifetimeConfig(soft_seconds=500.0, hard_seconds=600.0, hard_bytes=1 << 30, jitter=0.0)
        server = child_config(local=networks("10.1.0.0/16"), remote=networks("10.9.0.0/16"), lifetime=short)
        client = child_config(lifetime=LifetimeConfig(soft_seconds=3000.0, hard_seconds=3600.0, jitter=0.0))
        pair = Pair(client_policy(client), server_policy(server)).up()
        (ours,), (theirs,) = pair.client.installed(), pair.server.installed()
        assert ours.lifetime.hard_seconds == theirs.lifetime.hard_seconds == 600.0
        assert ours.lifetime.hard_bytes == theirs.lifetime.hard_bytes == 1 << 30
        assert ours.lifetime.soft_seconds == 500.0

    def told(self, pair: Pair, protocol: ProtocolId, spi: bytes, kind: int, seconds: int) -> None:
        """The server says so in a message of its own; `kind` is the number of the attribute's type."""
        writer = Writer()
        emit_attributes(writer, (Attribute.of(kind, LifeType.SECONDS), Attribute.of(kind + 1, seconds)))
        notify = Notification(protocol, spi, NotifyType.RESPONDER_LIFETIME, writer.getvalue())
        informational.send(pair.server.established, [notify])
        pair.carry()

    @pytest.mark.parametrize("kind", [IkeAttribute.LIFE_TYPE, IpsecAttribute.LIFE_TYPE])
    def test_phase_1_ends_when_the_peer_says(self, kind: int) -> None:
        """RFC 2407 section 4.6.3.1, as Cisco says it right after phase 1."""
        timers = Timers(ike_lifetime=LifetimeConfig(soft_seconds=3000.0, hard_seconds=3600.0, jitter=0.0))
        pair = Pair(client_policy(timers=timers)).up()
        isakmp, sa = pair.client.connection.upkeep.isakmp, pair.server.established.sa
        assert (isakmp.rekey_at, isakmp.expires_at) == (pair.now + 3000.0, pair.now + 3600.0)
        for seconds in (7200, 1800, 5400):
            self.told(pair, ProtocolId.ISAKMP, sa.cookie_i + sa.cookie_r, kind, seconds)
        assert (isakmp.rekey_at, isakmp.expires_at) == (pair.now + 1500.0, pair.now + 1800.0)
        assert pair.client.hub.timers.poll() is not None

    def test_a_child_sa_is_rekeyed_before_the_end_that_the_peer_tells_of_later(self) -> None:
        pair = Pair(client_policy(child_config(lifetime=LifetimeConfig(jitter=0.0)))).up()
        child = pair.server.children()[0]
        self.told(pair, ProtocolId.ESP, child.spi_in_octets, IpsecAttribute.LIFE_TYPE, 120)
        pair.wait(90.0)
        assert len(pair.client.told(ChildInstalled)) == 1
        pair.wait(30.0)
        assert len(pair.client.told(ChildInstalled)) == 2

    @pytest.mark.parametrize("octets", [b"", b"\0", b"\x80\x01\0\x01", b"\x80\x02\0\x09", b"\0\x0c\xff\xff"])
    def test_lifetimes_that_make_no_sense(self, octets: bytes) -> None:
        pair = Pair().up()
        for protocol in (ProtocolId.ISAKMP, ProtocolId.ESP):
            notify = Notification(protocol, b"", NotifyType.RESPONDER_LIFETIME, octets)
            informational.send(pair.server.established, [notify])
        pair.carry()
        assert pair.client.connection.upkeep.isakmp.expires_at == float("inf")

    def test_the_initiators_shorter_one_counts(self) -> None:
        client = child_config(lifetime=LifetimeConfig(soft_seconds=100.0, hard_seconds=120.0))
        pair = Pair(client_policy(client)).up()
        assert pair.server.installed()[0].lifetime.hard_seconds == 120.0


class TestCommitBit:
    def commits(self, side: Side) -> None:
        """It sets the commit bit in what it is about to send: the second of the flags."""
        side.spoil(lambda octets: octets[:19] + bytes([octets[19] | 2]) + octets[20:])

    def second_message(self) -> Pair:
        pair = Pair()
        pair.start()
        pair.server.receive(*pair.client.take())
        self.commits(pair.server)
        pair.client.receive(*pair.server.take())
        (ours,) = pair.client.told(ChildInstalled)
        assert ours.standby
        return pair

    def test_it_is_waited_for_with_a_bound(self) -> None:
        pair = self.second_message()
        assert not pair.client.told(ChildConfirmed)
        pair.wait(3.0, carry=False)
        assert pair.client.told(ChildConfirmed), "traffic does not wait for who never says CONNECTED"
        pair.wait(100.0, carry=False)
        assert len(pair.client.children()) == 1

    def test_whoever_begins_may_set_it_too(self) -> None:
        pair = Pair()
        pair.start()
        self.commits(pair.client)
        pair.carry()
        assert pair.in_step()
        assert len(pair.server.told(ChildConfirmed)) == 1

    @pytest.mark.parametrize("quick", [True, False])
    def test_connected(self, *, quick: bool) -> None:
        pair = self.second_message()
        pair.server.receive(*pair.client.take())
        (exchange,) = pair.server.established.exchanges.values()
        sa = pair.server.established.sa
        chain = exchange._chain if quick else sa.chain(exchange.message_id)  # type: ignore[attr-defined]
        kind = ExchangeType.QUICK if quick else ExchangeType.INFORMATIONAL
        spi = pair.server.children()[0].spi_in_octets
        told = Notification(ProtocolId.ESP, spi, NotifyType.CONNECTED)
        pair.client.receive(chain.seal_hashed(kind, [told]))
        assert pair.client.told(ChildConfirmed)
        assert len(pair.client.told(ChildConfirmed)) == 1
        pair.wait(10.0)
        assert not pair.client.told(ChildRemoved)


def test_a_peer_that_ends_every_phase_1() -> None:
    """It is not dialled anew at the speed of the wire, nor for ever."""
    pair = Pair()
    renewals: list[float] = []
    asked: list[float] = []

    def renew(connection: Connection, now: float) -> bool:
        renewals.append(now)
        asked.append(now)
        return True

    pair.client.hub.renew = renew
    pair.start()
    for _ in range(100):
        for current in [c.current for c in pair.client.hub.connections.values()]:
            if current is not None:
                cookies = current.sa.cookie_i + current.sa.cookie_r
                chain = current.sa.chain(_OF_THE_PEER)
                pair.client.receive(
                    chain.seal_hashed(ExchangeType.INFORMATIONAL, [Delete(ProtocolId.ISAKMP, (cookies,))])
                )
        pair.wait(1.0, carry=False)
        if asked:
            asked.clear()
            pair.client.phase_1(len(renewals) + 1, replaces=True).next_step(pair.now)
    assert 1 < len(renewals) < 8
    assert all(later - sooner >= 4.0 for sooner, later in pairwise(renewals))
    (down,) = pair.client.told(ConnectionDown)
    assert down.fault is Fault.PEER_REQUEST


@pytest.mark.parametrize("transport", [False, True])
@pytest.mark.parametrize("version", NatTraversal)
def test_what_the_first_message_says_of_nat_traversal(version: NatTraversal, transport: bool) -> None:
    """RFC 3947 sections 5.1 and 5.2: the numbers are those of the version that was agreed on."""
    ends = {"local": (DYNAMIC,), "remote": (DYNAMIC,), "mode": Mode.TRANSPORT} if transport else {}
    pair = Pair(client_policy(child_config(**ends)), version=version)  # type: ignore[arg-type]
    pair.start()
    (octets,) = pair.client.take()
    header, sa = Header.parse(octets), pair.server.established.sa
    message = sa.chain(header.message_id).open_hashed(Datagram(octets, header, pair.server.path, pair.now))
    assert message is not None
    offer, flavour = message.get(SecurityAssociation), FLAVOURS[version]
    assert offer is not None
    modes = {t.values[IpsecAttribute.ENCAPSULATION] for p in offer.proposals for t in p.transforms}
    assert modes == {flavour.transport if transport else flavour.tunnel}
    said = [(p.type, p.address) for p in message.all(NatOriginalAddress)]
    told = transport and flavour.nat_oa is not None
    addresses = [ip_address(end.ip).packed for end in pair.client.path]
    assert said == [(flavour.nat_oa, address) for address in addresses if told]


def test_a_draft_peer_tells_of_its_own_address_alone() -> None:
    phase1 = Pair().client.established.phase1
    hosts = ("192.168.1.10", "203.0.113.1")
    for is_initiator in (True, False):
        found = transport_of(phase1, hosts, ["10.0.0.1"], is_initiator=is_initiator)
        assert (found.local_there, found.remote_there) == ("", "10.0.0.1")
