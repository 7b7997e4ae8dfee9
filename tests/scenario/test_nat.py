"""Clients behind NATs that forget, move and share."""

from collections.abc import Callable

import pytest

from espudp.ike.config import LifetimeConfig, Timers
from espudp.ike.events import ChildInstalled, ConnectionDown, ConnectionUp, IkeRekeyed, PathChanged
from tests.scenario.lab import FOREVER, NAT_IP, SERVER_INSIDE, Lab, Terms
from tests.scenario.lab_v1 import TermsV1
from tests.scenario.test_rekey import Traffic, one_pair, rekey_child, rekey_ike
from tests.sim.host import Host
from tests.sim.link import Quality
from tests.sim.nat import NatKind
from tests.sim.traffic import Flow

_NEW_IP = "198.51.100.2"

VERSIONS = pytest.mark.parametrize("version", [Terms, TermsV1], ids=["IKEv2", "IKEv1"])


@pytest.mark.parametrize("kind", NatKind)
@pytest.mark.parametrize("new_ip", [None, _NEW_IP])
@VERSIONS
def test_the_mapping_changes_in_mid_transfer(kind: NatKind, new_ip: str | None, version: type[Terms]) -> None:
    """RFC 7296 section 2.23: the server follows authentic packets; it loses what was on its way."""
    lab = Lab(terms=version())
    nat = lab.nat(kind=kind)
    client = lab.client(behind=nat)
    lab.connect(client)
    lab.world.run(0.1)  # with IKEv1 the client has its child SA first
    there, back = lab.flows(client, interval=0.01)
    there.start()
    back.start()
    lab.world.run(2.0)
    nat.rebind(new_ip)
    lab.world.run(2.0)
    there.stop()
    back.stop()
    lab.world.run(2.0)
    assert there.tally.perfect
    assert back.tally.lost <= 5  # those on their way to a mapping that is no more
    (changed,) = lab.server.told(PathChanged)
    assert changed.path.remote.ip == (new_ip or NAT_IP)
    assert not client.told(PathChanged)
    assert not client.told(ConnectionDown) + lab.server.told(ConnectionDown)


@VERSIONS
def test_the_mapping_changes_while_nothing_is_sent(version: type[Terms]) -> None:
    """The client's dead peer detection is authentic too, and tells the server where it is now."""
    lab = Lab(terms=version())
    nat = lab.nat()
    client = lab.client(behind=nat)
    lab.connect(client)
    nat.rebind()
    lab.world.run(70.0)
    assert lab.server.told(PathChanged)
    assert all(flow.tally.perfect for flow in lab.exchange(client))


def test_the_mapping_changes_again_and_again() -> None:
    lab = Lab()
    nat = lab.nat()
    client = lab.client(behind=nat)
    lab.connect(client)
    there, back = lab.flows(client, interval=0.02)
    there.start()
    back.start()
    for _ in range(50):
        lab.world.run(1.0)
        nat.rebind()
    lab.world.run(1.0)
    there.stop()
    lab.world.run(1.0)
    assert there.tally.perfect
    assert back.tally.received > 0.9 * back.tally.sent
    assert len(lab.server.told(PathChanged)) == 50


@pytest.mark.parametrize("what", [rekey_child, rekey_ike])
@pytest.mark.parametrize("seed", range(4))
@VERSIONS
def test_the_mapping_changes_during_a_rekey(
    seed: int, what: Callable[[Host], None], version: type[Terms]
) -> None:
    lab = Lab(seed, version(), quality=Quality(latency=0.05))
    nat = lab.nat()
    client = lab.client(behind=nat)
    lab.connect(client)
    there, back = lab.flows(client, interval=0.02)
    there.start()
    back.start()
    lab.world.run(1.0)
    what(lab.server if seed % 2 else client)
    lab.world.run(0.03 * seed)
    nat.rebind()
    lab.world.run(60.0)
    assert one_pair(client, lab.server)
    there.stop()
    back.stop()
    lab.world.run(2.0)
    assert there.tally.lost == 0
    assert back.tally.lost < 20
    assert not client.told(ConnectionDown) + lab.server.told(ConnectionDown)


def test_an_attacker_cannot_move_a_client() -> None:
    """What was seen on the wire, sent again from elsewhere, changes nothing: replays advance no window."""
    lab = Lab()
    client = lab.client(behind=lab.nat())
    lab.connect(client)
    attacker = lab.client("attacker", number=66)
    seen: list[bytes] = []
    client.on_send.append(lambda datagram: seen.append(datagram.payload))
    flows = lab.exchange(client)
    for payload in seen:
        attacker.inject(payload, lab.server.ip)
    lab.world.run(5.0)
    assert not lab.server.told(PathChanged)
    assert all(flow.tally.perfect for flow in (*flows, *lab.exchange(client)))


@VERSIONS
def test_five_clients_behind_one_address_start_and_rekey_at_the_same_instant(version: type[Terms]) -> None:
    lifetime = LifetimeConfig(soft_seconds=60.0, hard_seconds=90.0, jitter=0.0)
    timers = Timers(ike_lifetime=LifetimeConfig(soft_seconds=150.0, hard_seconds=200.0, jitter=0.0))
    lab = Lab(terms=version(lifetime=lifetime, timers=timers))
    nat = lab.nat(preserve_ports=True)
    clients = [lab.client(f"client-{n}", behind=nat, number=10 + n) for n in range(5)]
    for client in clients:
        client.connect(lab.terms.connection(client.name), lab.server.ip)
    lab.world.run_until(lambda: all(client.up for client in clients), within=10.0)
    assert {client.told(ConnectionUp)[0].path.remote.ip for client in clients} == {lab.server.ip}
    assert len({client.address for client in clients}) == 5
    assert len({up.path.remote for up in lab.server.told(ConnectionUp)}) == 5
    lab.world.run(0.1)  # with IKEv1 the client has its child SA first
    traffic = [Traffic(lab, client, interval=0.1) for client in clients]
    lab.world.run(320.0)
    for client, flows in zip(clients, traffic, strict=True):
        flows.check()
        assert len(client.told(ConnectionUp)) == 1
        assert len(client.told(ChildInstalled)) >= 5
        assert len(client.told(IkeRekeyed)) >= 2
        assert not client.told(ConnectionDown)
    assert not lab.server.told(ConnectionDown)


@VERSIONS
def test_five_clients_keep_apart_when_one_leaves(version: type[Terms]) -> None:
    lab = Lab(terms=version())
    nat = lab.nat()
    clients = [lab.client(f"client-{n}", behind=nat, number=10 + n) for n in range(5)]
    for client in clients:
        lab.connect(client)
    clients[2].do(lambda tunnel: tunnel.close_all(lab.world.now))
    lab.world.run(5.0)
    assert len(lab.server.told(ConnectionDown)) == 1
    for client in (*clients[:2], *clients[3:]):
        assert all(flow.tally.perfect for flow in lab.exchange(client))


@VERSIONS
def test_a_client_cannot_send_as_its_neighbour(version: type[Terms]) -> None:
    lab = Lab(terms=version(timers=Timers(ike_lifetime=FOREVER)))
    nat = lab.nat()
    one, two = (lab.client(name, behind=nat, number=number) for name, number in (("one", 11), ("two", 12)))
    lab.connect(one)
    lab.connect(two)
    assert one.address != two.address
    forged = Flow(lab.world, one, lab.server, two.address, SERVER_INSIDE)
    forged.start()
    lab.world.run(2.0)
    assert forged.tally.received == 0
