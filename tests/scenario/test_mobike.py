"""Hosts with several addresses, which come and go (RFC 4555).

home    198.51.100.7    the client's first address, on the internet itself
cafe    192.0.2.7       another one
hotel   192.168.1.7     behind a NAT
"""

import pytest

from espudp.ike.config import Timers
from espudp.ike.events import ConnectionDown, ConnectionUp, NatStatus, PathChanged
from espudp.ike.v2.mobike import RESPONDER_PATIENCE_SECONDS
from tests.scenario.lab import FOREVER, NAT_IP, Lab, Terms, is_esp, is_keepalive
from tests.scenario.test_rekey import rekey_child, rekey_ike
from tests.sim.host import Host
from tests.sim.ladder import Ladder
from tests.sim.link import Datagram
from tests.sim.traffic import Flow

CAFE_IP = "192.0.2.7"
SERVER_6, CLIENT_6 = "2001:db8::1", "2001:db8::7"


def _lab() -> tuple[Lab, Host]:
    lab = Lab()
    client = lab.client()
    client.look_around()
    lab.server.look_around()
    lab.connect(client)
    return lab, client


def _move(lab: Lab, client: Host, ip: str = CAFE_IP) -> None:
    """Into another network: the new address is there when the old one is gone."""
    for old in list(client._ports):
        client.unplug(old)
    client.plug_in(lab.net, ip)
    client.look_around()


def _traffic(lab: Lab, client: Host) -> tuple[Flow, Flow]:
    flows = lab.flows(client, interval=0.01)
    for flow in flows:
        flow.start()
    lab.world.run(1.0)
    return flows


def _end(lab: Lab, *flows: Flow) -> None:
    for flow in flows:
        flow.stop()
    lab.world.run(2.0)


def _still_up(lab: Lab, *clients: Host) -> None:
    for host in (lab.server, *clients):
        assert not host.told(ConnectionDown)
        assert len(host.told(ConnectionUp)) == len(clients) if host is lab.server else 1


def _last_path(host: Host) -> PathChanged:
    return host.told(PathChanged)[-1]


def test_a_client_moves() -> None:
    """One exchange to say so, and one in which the server sees for itself."""
    lab, client = _lab()
    there, back = _traffic(lab, client)
    ladder = Ladder(client, lab.server)
    _move(lab, client)
    lab.world.run(1.0)
    assert ladder.matches("""
        INFORMATIONAL 2 request           -->
                                          <-- INFORMATIONAL 2 response
                                          <-- INFORMATIONAL 0 request
        INFORMATIONAL 0 response          -->
    """)
    _end(lab, there, back)
    assert there.tally.perfect
    assert back.tally.lost <= 7  # what was sent to the old address in the 60 ms that it takes
    assert _last_path(client).path.local.ip == _last_path(lab.server).path.remote.ip == CAFE_IP
    assert len(lab.server.told(PathChanged)) == len(client.told(PathChanged)) == 1
    _still_up(lab, client)


def test_esp_goes_nowhere_before_somebody_there_has_answered() -> None:
    """RFC 4555 section 3.7: who claims to be where it is not directs no traffic there."""
    lab, client = _lab()
    there, back = _traffic(lab, client)
    lab.client("victim", ip="192.0.2.66")
    to_victim: list[Datagram] = []
    lab.server.on_send.append(lambda d: to_victim.append(d) if d.destination.ip == "192.0.2.66" else None)
    # The client sends as the victim: nothing comes back to it.
    client._ports["192.0.2.66"] = client._ports.pop(client.ip)
    client.look_around()
    lab.world.run(600.0)
    assert not any(map(is_esp, to_victim))
    assert len(to_victim) < 60
    assert sum(len(d.payload) for d in to_victim) < 10_000
    _end(lab, there, back)


@pytest.mark.parametrize("lost", range(4))
def test_messages_of_the_move_get_lost(lost: int) -> None:
    lab, client = _lab()
    there, back = _traffic(lab, client)
    dropped = iter(range(100))

    def spares(datagram: Datagram) -> bool:
        return is_esp(datagram) or next(dropped) != lost

    _move(lab, client)
    client._ports[CAFE_IP].link.quality.loss = 1.0
    client._ports[CAFE_IP].link.quality.spares = spares
    lab.world.run(10.0)
    assert _last_path(lab.server).path.remote.ip == CAFE_IP
    before = back.tally.lost
    lab.world.run(5.0)
    assert back.tally.lost <= before + 3
    _end(lab, there, back)
    _still_up(lab, client)


def test_a_client_moves_again_before_the_server_knows() -> None:
    lab, client = _lab()
    there, back = _traffic(lab, client)
    for number in range(10):
        _move(lab, client, f"192.0.2.{10 + number}")
        lab.world.run(0.015)
    lab.world.run(5.0)
    assert _last_path(lab.server).path.remote.ip == _last_path(client).path.local.ip == "192.0.2.19"
    _end(lab, there, back)
    assert all(flow.tally.perfect for flow in lab.exchange(client))
    _still_up(lab, client)


@pytest.mark.parametrize("what", [rekey_child, rekey_ike])
@pytest.mark.parametrize("by_server", [False, True])
@pytest.mark.parametrize("delay", [0.0, 0.005, 0.015, 0.025, 0.035])
def test_a_client_moves_in_the_middle_of_a_rekey(what: object, by_server: bool, delay: float) -> None:
    lab, client = _lab()
    there, back = _traffic(lab, client)
    what(lab.server if by_server else client)  # type: ignore[operator]
    lab.world.run(delay)
    _move(lab, client)
    lab.world.run(60.0)
    assert _last_path(lab.server).path.remote.ip == CAFE_IP
    _end(lab, there, back)
    assert there.tally.lost <= 1
    assert all(flow.tally.perfect for flow in lab.exchange(client))
    _still_up(lab, client)


def test_into_a_nat_and_out_of_it() -> None:
    """The one behind the NAT sends keepalives, and stops when it is gone."""
    lab, client = _lab()
    nat = lab.nat()
    keepalives: list[float] = []
    client.on_send.append(lambda d: keepalives.append(lab.world.now) if is_keepalive(d) else None)
    lab.world.run(100.0)
    assert not keepalives

    client.unplug(client.ip)
    client.plug_in(nat.inside, "192.168.1.7")
    client.look_around()
    lab.world.run(1.0)
    assert _last_path(client).nat == NatStatus(local=True)
    assert _last_path(lab.server).nat == NatStatus(remote=True)
    assert _last_path(lab.server).path.remote.ip == NAT_IP
    lab.world.run(100.0)
    assert len(keepalives) >= 3
    assert all(flow.tally.perfect for flow in lab.exchange(client))

    _move(lab, client)
    lab.world.run(1.0)
    assert _last_path(client).nat == NatStatus(claimed=True)
    assert _last_path(lab.server).nat == NatStatus()
    keepalives.clear()
    lab.world.run(100.0)
    assert not keepalives
    assert all(flow.tally.perfect for flow in lab.exchange(client))
    _still_up(lab, client)


def test_a_nat_forgets_while_nothing_is_sent() -> None:
    """RFC 4555 section 3.8: the next question whether the server lives finds out."""
    lab = Lab()
    nat = lab.nat()
    client = lab.client(behind=nat)
    lab.connect(client)
    lab.world.run(70.0)
    told = len(lab.server.told(PathChanged))
    nat.rebind()
    lab.world.run(70.0)
    assert len(lab.server.told(PathChanged)) == told + 1
    assert all(flow.tally.perfect for flow in lab.exchange(client))


def test_a_path_goes_silent_and_another_one_works() -> None:
    """Nobody tells the client: the question whether the server lives goes over all paths at last."""
    lab, client = _lab()
    link = client.plug_in(lab.net, CAFE_IP)
    client.look_around()
    lab.world.run(1.0)
    assert _last_path(lab.server).path.remote.ip == CAFE_IP
    link.quality.loss = 1.0
    lab.world.run(45.0)
    assert _last_path(lab.server).path.remote.ip == client.ip
    assert all(flow.tally.perfect for flow in lab.exchange(client))
    _still_up(lab, client)


def test_the_server_has_another_address() -> None:
    """It told of it in IKE_AUTH; when the first one falls silent the client finds the other one."""
    lab = Lab()
    lab.server.plug_in(lab.net, "203.0.113.99")
    lab.server.look_around()
    client = lab.client()
    client.look_around()
    lab.connect(client)
    lab.server._ports[lab.server.ip].link.quality.loss = 1.0
    lab.world.run(45.0)
    assert _last_path(client).path.remote.ip == "203.0.113.99"
    assert _last_path(lab.server).path.local.ip == "203.0.113.99"
    assert all(flow.tally.perfect for flow in lab.exchange(client))
    _still_up(lab, client)


def test_the_server_loses_the_address_in_use() -> None:
    """RFC 4555 sections 3.5, 3.6: it tells the client from another one, and the client decides."""
    lab = Lab()
    lab.server.plug_in(lab.net, "203.0.113.99")
    lab.server.look_around()
    client = lab.client()
    client.look_around()
    lab.connect(client)
    lab.server.unplug(lab.server.ip)
    lab.server.look_around()
    lab.world.run(2.0)
    assert _last_path(client).path.remote.ip == "203.0.113.99"
    assert all(flow.tally.perfect for flow in lab.exchange(client))
    _still_up(lab, client)


def test_the_list_is_told_when_it_changes() -> None:
    lab, client = _lab()
    ladder = Ladder(client, lab.server)
    lab.server.plug_in(lab.net, "203.0.113.99")
    lab.server.look_around()
    lab.world.run(1.0)
    lab.server._ports[lab.server.ip].link.quality.loss = 1.0
    lab.world.run(45.0)
    assert _last_path(client).path.remote.ip == "203.0.113.99"
    assert str(ladder).startswith(" " * 34 + "<-- INFORMATIONAL 0 request")
    _still_up(lab, client)


def test_from_ipv4_to_ipv6_and_back() -> None:
    lab = Lab()
    lab.server.plug_in(lab.net, SERVER_6)
    lab.server.look_around()
    client = lab.client()
    client.look_around()
    lab.connect(client)
    _move(lab, client, CLIENT_6)
    lab.world.run(1.0)
    assert _last_path(client).path.remote.ip == SERVER_6
    assert all(flow.tally.perfect for flow in lab.exchange(client))
    _move(lab, client)
    lab.world.run(1.0)
    assert _last_path(lab.server).path.remote.ip == CAFE_IP
    assert all(flow.tally.perfect for flow in lab.exchange(client))
    _still_up(lab, client)


def test_no_network_at_all_for_a_while() -> None:
    """Longer than the client would ask a peer that may be gone, and not as long as the server would."""
    lab, client = _lab()
    client.unplug(client.ip)
    client.look_around()
    lab.world.run(200.0)
    client.plug_in(lab.net, CAFE_IP)
    client.look_around()
    lab.world.run(2.0)
    assert all(flow.tally.perfect for flow in lab.exchange(client))
    _still_up(lab, client)


def test_a_server_waits_longer_for_a_client_that_may_move() -> None:
    lab, client = _lab()
    client.die()
    lab.world.run(RESPONDER_PATIENCE_SECONDS)
    assert not lab.server.told(ConnectionDown)
    lab.world.run(120.0)
    assert lab.server.told(ConnectionDown)


def test_nothing_has_changed_and_one_question_makes_sure() -> None:
    lab, client = _lab()
    ladder = Ladder(client, lab.server)
    client.look_around()
    client.look_around()
    lab.world.run(1.0)
    assert ladder.matches("""
        INFORMATIONAL 2 request           -->
        INFORMATIONAL 2 request           -->
                                          <-- INFORMATIONAL 2 response
                                          <-- INFORMATIONAL 2 response
    """)
    assert not client.told(PathChanged) + lab.server.told(PathChanged)


# Peers that do not speak it

WITHOUT = Terms(mobike=False, timers=Timers(ike_lifetime=FOREVER))


@pytest.mark.parametrize("who", ["client", "server"])
def test_without_mobike_a_client_behind_a_nat_is_followed(who: str) -> None:
    usual = Terms()
    lab = Lab(terms=WITHOUT if who == "client" else usual, server_terms=WITHOUT if who == "server" else usual)
    nat = lab.nat()
    client = lab.client(behind=nat)
    client.look_around()
    lab.connect(client)
    client.unplug(client.ip)
    client.plug_in(nat.inside, "192.168.1.99")
    client.look_around()
    lab.world.run(2.0)
    assert all(flow.tally.perfect for flow in lab.exchange(client))
    _still_up(lab, client)


def test_without_mobike_and_nat_a_client_dials_anew() -> None:
    lab = Lab(terms=WITHOUT)
    client = lab.client()
    client.look_around()
    lab.connect(client)
    _move(lab, client)
    (down,) = client.told(ConnectionDown)
    assert down.retry
    assert client.told(PathChanged) == []


def test_the_address_goes_while_we_dial() -> None:
    """The attempt ends at once, and the next one is from where we are then."""
    lab = Lab()
    client = lab.client()
    client.look_around()
    client.keep_up(lab.terms.connection(), lab.server.ip, pause=1.0)
    _move(lab, client)
    (down,) = client.told(ConnectionDown)
    assert down.retry
    assert "198.51.100.7 is gone" in down.reason
    client.ip = CAFE_IP
    lab.world.run_until(lambda: client.up, within=3.0)
    assert all(flow.tally.perfect for flow in lab.exchange(client))


def test_all_workers_move_along() -> None:
    lab = Lab(terms=Terms(workers=3))
    client = lab.client()
    client.look_around()
    lab.connect(client)
    lab.world.run(2.0)
    assert len(client.children()) == 3
    _move(lab, client)
    lab.world.run(1.0)
    from_home: list[Datagram] = []
    lab.server.on_send.append(lambda d: from_home.append(d) if d.destination.ip != CAFE_IP else None)
    assert all(flow.tally.perfect for flow in lab.exchange(client))
    assert not from_home
