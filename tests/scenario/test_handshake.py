"""How two peers come together, in good and in bad weather."""

import pytest

from espudp.ike.config import Encapsulation, Limits, Timers
from espudp.ike.events import ChildInstalled, ConnectionUp, NatStatus, PeerAddressAssigned
from tests.scenario.lab import FOREVER, Lab, Terms, is_esp, is_keepalive
from tests.sim.host import IKE_PORT, Host
from tests.sim.ladder import Ladder
from tests.sim.link import Datagram, Quality
from tests.sim.nat import NatKind


def _sent_by(host: Host) -> list[Datagram]:
    """What a host sends from now on."""
    sent: list[Datagram] = []
    host.on_send.append(sent.append)
    return sent


def test_a_handshake() -> None:
    lab = Lab()
    client = lab.client()
    ladder = Ladder(client, lab.server)
    lab.connect(client)
    lab.world.run(5.0)
    assert ladder.matches("""
        IKE_SA_INIT 0 request  -->
                               <--  IKE_SA_INIT 0 response
        IKE_AUTH 1 request     -->
                               <--  IKE_AUTH 1 response
    """), ladder
    (here,), (there,) = client.told(ConnectionUp), lab.server.told(ConnectionUp)
    assert (here.initiator, there.initiator) == (True, False)
    assert here.remote_identity == there.local_identity
    assert there.remote_identity == here.local_identity
    assert here.nat == NatStatus(claimed=True)
    assert there.nat == NatStatus()
    assert here.path.remote.port == there.path.remote.port == 4500  # it floats, NAT or not
    assert client.address == "10.99.0.2"
    assert lab.server.told(PeerAddressAssigned)[0].addresses == ("10.99.0.2",)
    assert all(flow.tally.perfect for flow in lab.exchange(client))


def test_a_handshake_takes_two_round_trips() -> None:
    lab = Lab(quality=Quality(latency=0.09))  # and 10 ms on the server's wire
    client = lab.client()
    before = lab.world.now
    lab.connect(client)
    assert lab.world.now - before == pytest.approx(4 * 0.1)


def test_a_handshake_that_starts_on_port_4500() -> None:
    lab = Lab()
    client = lab.client()
    sent = _sent_by(client) + _sent_by(lab.server)
    lab.connect(client, natt_only=True)
    assert {d.source.port for d in sent} | {d.destination.port for d in sent} <= {4500}
    assert all(flow.tally.perfect for flow in lab.exchange(client))


@pytest.mark.parametrize("kind", NatKind)
@pytest.mark.parametrize("preserve_ports", [True, False])
def test_a_handshake_through_a_nat(kind: NatKind, preserve_ports: bool) -> None:
    lab = Lab()
    client = lab.client(behind=lab.nat(kind=kind, preserve_ports=preserve_ports))
    lab.connect(client)
    (here,), (there,) = client.told(ConnectionUp), lab.server.told(ConnectionUp)
    assert here.nat == NatStatus(local=True, remote=False)
    assert there.nat == NatStatus(local=False, remote=True)
    assert (there.path.remote.port == 4500) == preserve_ports
    assert all(flow.tally.perfect for flow in lab.exchange(client))


def test_a_nat_that_somebody_only_claims() -> None:
    lab = Lab(terms=Terms(encap=Encapsulation.ALWAYS))
    client = lab.client()
    lab.connect(client)
    assert client.told(ConnectionUp)[0].nat == NatStatus()
    assert lab.server.told(ConnectionUp)[0].nat == NatStatus(remote=True)
    assert all(flow.tally.perfect for flow in lab.exchange(client))


def test_keepalives_come_from_behind_the_nat_and_only_when_it_is_idle() -> None:
    """RFC 3948 section 4: every 20 seconds, if nothing else was sent in that time."""
    lab = Lab(terms=Terms(timers=Timers(dpd_interval=0.0, ike_lifetime=FOREVER)))
    client = lab.client(behind=lab.nat(timeout=30.0))
    lab.connect(client)
    ours, theirs = _sent_by(client), _sent_by(lab.server)
    lab.world.run(600.0)
    assert 29 <= sum(map(is_keepalive, ours)) <= 30
    assert not theirs
    ours.clear()
    flows = lab.exchange(client, seconds=100.0)
    assert all(flow.tally.perfect for flow in flows)
    assert not any(map(is_keepalive, ours))


def test_the_mapping_stays_open_for_what_the_server_sends() -> None:
    lab = Lab()
    client = lab.client(behind=lab.nat(timeout=30.0))
    lab.connect(client)
    lab.world.run(3600.0)
    assert all(flow.tally.perfect for flow in lab.exchange(client))


def test_every_packet_goes_encrypted_and_on_port_4500() -> None:
    lab = Lab()
    client = lab.client()
    lab.connect(client)
    sent = _sent_by(client)
    (flow, _) = lab.exchange(client)
    assert sum(map(is_esp, sent)) == flow.tally.sent
    assert all(d.source.port == d.destination.port == 4500 for d in sent)
    assert not any(b"FLOW" in d.payload for d in sent)


def test_a_cookie() -> None:
    """RFC 7296 section 2.6."""
    lab = Lab(terms=Terms(limits=Limits(cookie_threshold=0)))
    client = lab.client()
    ladder = Ladder(client, lab.server)
    lab.connect(client)
    assert ladder.matches("""
        IKE_SA_INIT 0 request  -->
                               <--  IKE_SA_INIT 0 response
        IKE_SA_INIT 0 request  -->
                               <--  IKE_SA_INIT 0 response
        IKE_AUTH 1 request     -->
                               <--  IKE_AUTH 1 response
    """), ladder
    assert all(flow.tally.perfect for flow in lab.exchange(client))


_TWO_GROUPS = Terms(ike=("aes128gcm16-prfsha256-curve25519-modp2048",))
_ONE_GROUP = Terms(ike=("aes128gcm16-prfsha256-modp2048",))


def test_another_group() -> None:
    """INVALID_KE_PAYLOAD, RFC 7296 section 1.2."""
    lab = Lab(terms=_TWO_GROUPS, server_terms=_ONE_GROUP)
    client = lab.client()
    ladder = Ladder(client, lab.server)
    lab.connect(client)
    assert ladder.matches("""
        IKE_SA_INIT 0 request  -->
                               <--  IKE_SA_INIT 0 response
        IKE_SA_INIT 0 request  -->
                               <--  IKE_SA_INIT 0 response
        IKE_AUTH 1 request     -->
                               <--  IKE_AUTH 1 response
    """), ladder
    assert "modp2048" in client.told(ConnectionUp)[0].suite_name


def test_a_cookie_and_another_group() -> None:
    """RFC 7296 section 2.6.1: the shorter exchange, in which the cookie stays valid."""
    limits = Limits(cookie_threshold=0)
    lab = Lab(terms=_TWO_GROUPS, server_terms=Terms(ike=_ONE_GROUP.ike, limits=limits))
    client = lab.client()
    ladder = Ladder(client, lab.server)
    lab.connect(client)
    assert ladder.matches("""
        IKE_SA_INIT 0 request  -->
                               <--  IKE_SA_INIT 0 response
        IKE_SA_INIT 0 request  -->
                               <--  IKE_SA_INIT 0 response
        IKE_SA_INIT 0 request  -->
                               <--  IKE_SA_INIT 0 response
        IKE_AUTH 1 request     -->
                               <--  IKE_AUTH 1 response
    """), ladder


def _survives(lab: Lab, client: Host) -> None:
    """Up at the first attempt."""
    lab.connect(client, within=120.0)
    _agree(lab, client)


def _agree(lab: Lab, client: Host) -> None:
    """Up, once on each side, with SAs that agree, and traffic goes through them both ways."""
    lab.world.run(30.0)
    lab.quality.loss = lab.quality.corrupt = 0.0
    assert len(client.told(ConnectionUp)) == len(lab.server.told(ConnectionUp)) == 1
    (here,), (there,) = client.told(ChildInstalled), lab.server.told(ChildInstalled)
    assert (here.spi_in, here.spi_out) == (there.spi_out, there.spi_in)
    for flow in lab.exchange(client, seconds=0.5):
        assert flow.tally.lost == 0


@pytest.mark.parametrize("seed", range(60))
def test_a_third_of_everything_gets_lost(seed: int) -> None:
    lab = Lab(seed, quality=Quality(loss=0.3))
    _survives(lab, lab.client(behind=lab.nat() if seed % 2 else None))


@pytest.mark.parametrize("seed", range(30))
def test_lost_and_twice_and_late(seed: int) -> None:
    """Which of several IKE_SA_INIT requests an answer belongs to cannot be told: a wrong guess is retried."""
    server = Terms(ike=_ONE_GROUP.ike, limits=Limits(cookie_threshold=seed % 2))
    lab = Lab(seed, _TWO_GROUPS, server, Quality(loss=0.2, duplicate=0.3, jitter=1.0))
    client = lab.client()
    client.keep_up(lab.terms.connection(), lab.server.ip)
    lab.world.run_until(lambda: client.up, within=300.0)
    _agree(lab, client)


@pytest.mark.parametrize("seed", range(30))
def test_damaged(seed: int) -> None:
    """From IKE_AUTH on: who can damage IKE_SA_INIT can prevent a connection, as AUTH shows the damage."""
    lab = Lab(seed, quality=Quality(corrupt=0.25, duplicate=0.3, spares=_is_plain))
    _survives(lab, lab.client())


def _is_plain(datagram: Datagram) -> bool:
    return datagram.source.port == datagram.destination.port == IKE_PORT


def test_a_wire_that_carries_no_fragments() -> None:
    """1280 octets are enough for a handshake with everything that is offered by default."""
    lab = Lab(quality=Quality(mtu=1280, fragments=False))
    client = lab.client()
    lab.connect(client)
    assert client.link.counts["too big"] == 0
