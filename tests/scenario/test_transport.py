"""Transport mode between hosts with NATs in between (RFC 7296 sections 1.3.1 and 2.23.1)."""

from dataclasses import replace
from ipaddress import ip_address

import pytest

from espudp.errors import ConfigError
from espudp.esp.drops import Drop
from espudp.esp.stand_ins import StandIns
from espudp.ike.config import DYNAMIC, ChildConfig, Mode
from espudp.ike.encapsulation import Encapsulation
from espudp.ike.events import (
    ChildInstalled,
    ChildRemoved,
    ConnectionDown,
    ConnectionUp,
    Diagnostic,
    PathChanged,
    PeerRefused,
)
from espudp.ike.ikev1_config import Mode as IkeMode
from espudp.ike.narrowing import Dynamic
from espudp.wire import ip
from espudp.wire.address import UdpAddress
from tests.scenario.lab import CLIENT_IP, NAT_IP, SERVER_IP, Lab, Terms, is_esp
from tests.scenario.lab_v1 import TermsV1
from tests.sim.host import Host
from tests.sim.link import ESP, Datagram

L2TP = 1701
TO_L2TP = Dynamic(ip.UDP, L2TP, L2TP)

ALL = Terms(mode=Mode.TRANSPORT, local=(DYNAMIC,), remote=(DYNAMIC,), pool=(), request=())
# Windows says port 1701 on both ends, phones any port of their own (RFC 3193 section 4).
CLIENT_OF_L2TP = replace(ALL, local=(TO_L2TP,), remote=(TO_L2TP,))
SERVER_OF_L2TP = replace(ALL, local=(TO_L2TP,), remote=(Dynamic(ip.UDP),))
BY_ANY_WAY = replace(ALL, plain_esp=True)


def l2tp_lab(**changes: object) -> Lab:
    return Lab(terms=CLIENT_OF_L2TP, server_terms=SERVER_OF_L2TP, **changes)  # type: ignore[arg-type]


class Stack:
    """What a host's own IP stack makes of the packets out of its tunnel: only those with right checksums."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.packets: list[bytes] = []
        self.wrong = 0
        host.on_packet.append(self._take)

    def _take(self, packet: bytes) -> None:
        flow = ip.parse_flow(packet)
        assert flow is not None
        at = 20 if flow.version == 4 else 40
        segment = packet[at:]
        pseudo = ip.pseudo_header(flow.src, flow.dst, flow.protocol, len(segment))
        if ip.checksum(pseudo + segment):
            self.wrong += 1
        else:
            self.packets.append(packet)

    def take(self) -> list[bytes]:
        packets, self.packets = self.packets, []
        return packets


def udp(src: str, dst: str, sport: int = L2TP, dport: int = L2TP, payload: bytes = b"data") -> bytes:
    return ip.build_udp(ip_address(src).packed, ip_address(dst).packed, sport, dport, payload)


def tcp(src: str, dst: str, dport: int = 80, payload: bytes = b"GET /") -> bytes:
    sender, receiver = ip_address(src).packed, ip_address(dst).packed
    segment = b"\x10\x00" + dport.to_bytes(2) + bytes(8) + b"\x50\x10\xff\xff" + bytes(4) + payload
    total = ip.checksum(ip.pseudo_header(sender, receiver, ip.TCP, len(segment)) + segment)
    return ip.build_ip(sender, receiver, ip.TCP, segment[:16] + total.to_bytes(2) + segment[18:])


def turned(packet: bytes, payload: bytes) -> bytes:
    """An answer to a UDP packet."""
    flow = ip.parse_flow(packet)
    assert flow is not None
    return ip.build_udp(flow.dst, flow.src, flow.dport, flow.sport, payload)


def addresses(packet: bytes) -> tuple[str, str]:
    flow = ip.parse_flow(packet)
    assert flow is not None
    return str(ip_address(flow.src)), str(ip_address(flow.dst))


def talk(lab: Lab, client: Host, server: Stack, there: str, words: bytes) -> str:
    """A question and its answer; where the server sees the client."""
    ours = Stack(client)
    client.send_packets([udp(client.ip, there, payload=words)])
    lab.world.run(1.0)
    (question,) = server.take()
    assert question[28:] == words
    server.host.send_packets([turned(question, words[::-1])])
    lab.world.run(1.0)
    (answer,) = ours.take()
    assert answer[28:] == words[::-1]
    assert addresses(answer) == (there, client.ip)
    assert ours.wrong == server.wrong == 0
    client.on_packet.remove(ours._take)
    return addresses(question)[0]


def test_udp_and_tcp_through_a_nat() -> None:
    lab = Lab(terms=ALL)
    client, server = lab.client(behind=lab.nat()), Stack(lab.server)
    lab.connect(client)
    assert talk(lab, client, server, SERVER_IP, b"hello") == NAT_IP
    client.send_packets([tcp(client.ip, SERVER_IP)])
    lab.world.run(1.0)
    (segment,) = server.take()
    assert addresses(segment) == (NAT_IP, SERVER_IP)
    (here,), (there,) = client.children(), lab.server.children()
    assert (here.transport.local_there, here.transport.remote_there) == (NAT_IP, SERVER_IP)  # type: ignore[union-attr]
    assert (there.transport.local_there, there.transport.remote_there) == (SERVER_IP, client.ip)  # type: ignore[union-attr]
    assert [str(s) for s in (*here.local, *here.remote)] == [f"{client.ip}/32", f"{SERVER_IP}/32"]
    assert [str(s) for s in (*there.local, *there.remote)] == [f"{SERVER_IP}/32", f"{NAT_IP}/32"]


def test_the_inner_packet_has_no_ip_header() -> None:
    """Of 1,458 octets as many fit as in tunnel mode of 1,438."""
    lab, tunnel = Lab(terms=ALL), Lab()
    mtus = []
    for each in (lab, tunnel):
        client = each.client()
        each.connect(client)
        mtus.append(client.tunnel.snapshot(each.world.now).mtus[client.connection])
    assert mtus[0] == mtus[1] + 20


@pytest.mark.parametrize("count", [2, 5])
def test_clients_behind_one_nat_are_told_apart(count: int) -> None:
    """All with port 1701 on both ends, and behind the same address."""
    lab = l2tp_lab()
    nat, server = lab.nat(), Stack(lab.server)
    clients = [lab.client(f"client-{n}", behind=nat, number=n) for n in range(2, 2 + count)]
    for client in clients:
        lab.connect(client)
    seen = {client.name: talk(lab, client, server, SERVER_IP, client.name.encode()) for client in clients}
    assert len(set(seen.values())) == count
    assert seen["client-2"] == NAT_IP
    # Both at once, and through rekeys of all of them, nothing goes astray, and nobody is somebody else.
    for child in lab.server.children():
        lab.server.do(lambda tunnel, c=child: tunnel.rekey_child(c.connection, c.spi_in, lab.world.now))  # type: ignore[misc]
    lab.world.run(5.0)
    for client in clients:
        (child,) = client.children()
        client.do(lambda tunnel, c=child: tunnel.rekey_child(c.connection, c.spi_in, lab.world.now))  # type: ignore[misc]
    lab.world.run(5.0)
    assert seen == {
        client.name: talk(lab, client, server, SERVER_IP, client.name.encode()) for client in clients
    }
    routes = {str(selector.first) for child in lab.server.children() for selector in child.remote}
    assert routes == set(seen.values())


def test_where_no_address_is_left_the_host_hears_nothing_of_the_child_sa() -> None:
    """Else it would send into the tunnel what is for another client, or for none."""
    lab = l2tp_lab()
    lab.server.tunnel._stand_ins = StandIns(())
    nat, server = lab.nat(), Stack(lab.server)
    first, second = (lab.client(f"client-{n}", behind=nat, number=n) for n in (2, 3))
    lab.connect(first)
    second.connect(lab.terms.connection(second.name), SERVER_IP)
    lab.world.run(5.0)
    (child,) = lab.server.told(ChildInstalled)
    assert not lab.server.told(ChildRemoved)
    assert any("no address left" in note.text for note in lab.server.told(Diagnostic))
    assert not second.children()
    assert talk(lab, first, server, SERVER_IP, b"undisturbed") == NAT_IP
    first.do(lambda tunnel: tunnel.close_all(lab.world.now))
    lab.world.run(1.0)
    assert [gone.spi_in for gone in lab.server.told(ChildRemoved)] == [child.spi_in]


def test_a_client_that_goes_leaves_its_place_to_nobody_at_once() -> None:
    lab = l2tp_lab()
    nat, server = lab.nat(), Stack(lab.server)
    first, second = (lab.client(f"client-{n}", behind=nat, number=n) for n in (2, 3))
    lab.connect(first)
    assert talk(lab, first, server, SERVER_IP, b"first") == NAT_IP
    first.do(lambda tunnel: tunnel.close_all(lab.world.now))
    lab.world.run(1.0)
    lab.connect(second)
    assert talk(lab, second, server, SERVER_IP, b"second") != NAT_IP
    # What the server still has to say to the first one finds nobody.
    heard = Stack(second)
    lab.server.send_packets([udp(SERVER_IP, NAT_IP)])
    lab.world.run(1.0)
    assert not heard.packets
    assert lab.server.tunnel.snapshot(lab.world.now).drops[Drop.NO_POLICY.value] == 1


def test_a_client_that_comes_back_is_where_it_was() -> None:
    lab = l2tp_lab()
    nat, server = lab.nat(), Stack(lab.server)
    clients = [lab.client(f"client-{n}", behind=nat, number=n) for n in (2, 3)]
    for client in clients:
        lab.connect(client)
    seen = [talk(lab, client, server, SERVER_IP, b"before") for client in clients]
    for client in reversed(clients):
        client.do(lambda tunnel: tunnel.close_all(lab.world.now))
        lab.world.run(1.0)
        lab.connect(client)
    assert [talk(lab, client, server, SERVER_IP, b"after") for client in clients] == seen


def test_the_hosts_view_stays_when_the_nat_rebinds_and_a_rekey_follows() -> None:
    lab = l2tp_lab()
    nat, server = lab.nat(), Stack(lab.server)
    client = lab.client(behind=nat)
    lab.connect(client)
    assert talk(lab, client, server, SERVER_IP, b"one") == NAT_IP
    nat.rebind("198.51.100.99")
    assert talk(lab, client, server, SERVER_IP, b"two") == NAT_IP
    assert lab.server.told(PathChanged)[-1].path.remote.ip == "198.51.100.99"
    for host in (client, lab.server):
        (child,) = host.children()
        host.do(lambda tunnel, c=child: tunnel.rekey_child(c.connection, c.spi_in, lab.world.now))  # type: ignore[misc]
        lab.world.run(5.0)
        assert talk(lab, client, server, SERVER_IP, b"three") == NAT_IP
    # Who is at the old address now is somebody else.
    other = lab.client("other", ip=NAT_IP)
    lab.connect(other)
    assert talk(lab, other, server, SERVER_IP, b"four") not in (NAT_IP, "198.51.100.99")
    assert talk(lab, client, server, SERVER_IP, b"five") == NAT_IP


def test_authentication_over_again_keeps_the_hosts_view() -> None:
    lab = l2tp_lab()
    server, client = Stack(lab.server), lab.client(behind=lab.nat())
    lab.connect(client)
    assert talk(lab, client, server, SERVER_IP, b"one") == NAT_IP
    number = client.connection
    client.do(lambda tunnel: tunnel.reauthenticate(number, lab.world.now))
    lab.world.run(30.0)
    assert client.connection != number
    assert talk(lab, client, server, SERVER_IP, b"two") == NAT_IP


def test_selectors_hold() -> None:
    lab = l2tp_lab()
    server, client = Stack(lab.server), lab.client(behind=lab.nat())
    lab.connect(client)
    client.send_packets([tcp(client.ip, SERVER_IP), udp(client.ip, SERVER_IP, dport=1702)])
    lab.world.run(1.0)
    assert not server.packets
    assert client.tunnel.snapshot(lab.world.now).drops[Drop.NO_POLICY.value] == 2


# Whether both want it


def test_transport_mode_that_is_declined_ends_the_connection() -> None:
    here, there = f"{SERVER_IP}/32", f"{CLIENT_IP}/32"
    lab = Lab(terms=ALL, server_terms=Terms(local=(here,), remote=(there,), pool=()))
    client = lab.client()
    client.connect(ALL.connection(), SERVER_IP)
    lab.world.run(5.0)
    (down,) = client.told(ConnectionDown)
    assert "the peer takes tunnel mode" in down.reason
    assert "same mode" in down.remedy
    assert not lab.server.children()


def test_tunnel_mode_is_refused_where_transport_mode_is_asked_for() -> None:
    lab = Lab(terms=Terms(request=(), remote=(f"{SERVER_IP}/32",)), server_terms=ALL)
    client = lab.client()
    client.connect(lab.terms.connection(), SERVER_IP)
    lab.world.run(5.0)
    assert [down.connection for down in client.told(ConnectionDown)]
    assert "takes tunnel mode" in lab.server.told(PeerRefused)[-1].reason
    assert not lab.server.children()


def test_transport_mode_has_no_subnets() -> None:
    with pytest.raises(ConfigError, match="between the two hosts"):
        replace(ALL, remote=("10.0.0.0/8",)).connection()
    assert isinstance(ALL.connection().child, ChildConfig)


# When ESP goes in UDP


def protocols(host: Host) -> list[Datagram]:
    seen: list[Datagram] = []
    host.on_send.append(lambda d: seen.append(d) if d.protocol == ESP or is_esp(d) else None)
    return seen


@pytest.mark.parametrize("mode", [Mode.TUNNEL, Mode.TRANSPORT])
def test_without_a_nat_esp_needs_no_udp(mode: Mode) -> None:
    terms = BY_ANY_WAY if mode is Mode.TRANSPORT else Terms(plain_esp=True)
    lab = Lab(terms=terms)
    client = lab.client()
    sent, back = protocols(client), protocols(lab.server)
    lab.connect(client)
    if mode is Mode.TRANSPORT:
        assert talk(lab, client, Stack(lab.server), SERVER_IP, b"plain") == CLIENT_IP
    else:
        assert not any(flow.tally.lost for flow in lab.exchange(client))
    assert {(d.protocol, d.destination.port) for d in [*sent, *back]} == {(ESP, 0)}
    (child,) = client.children()
    assert child.path.remote == UdpAddress(SERVER_IP, 0)
    assert client.told(ConnectionUp)[0].path.remote.port == 4500


def test_out_of_a_nat_who_can_do_nothing_but_udp_claims_another() -> None:
    """The peer would send ESP without UDP now; it is told once more, with a NAT that is none."""
    lab = Lab(terms=Terms(), server_terms=Terms(plain_esp=True))
    nat = lab.nat("198.51.100.44")
    client = lab.client(behind=nat)
    sent, back = protocols(client), protocols(lab.server)
    lab.connect(client)
    assert not any(flow.tally.lost for flow in lab.exchange(client))
    client.plug_in(lab.net, "198.51.100.8")
    client.unplug(client.ip)
    client.look_around()
    lab.world.run(5.0)
    assert not any(flow.tally.lost for flow in lab.exchange(client))
    assert {d.destination.port for d in sent} == {4500}
    assert not [d for d in back if d.protocol == ESP]
    assert lab.server.told(PathChanged)[-1].path.remote.ip == "198.51.100.8"


def test_into_a_nat_though_never_in_udp() -> None:
    """A tunnel that stands goes on, and says what it does."""
    lab = Lab(terms=Terms(plain_esp=True, encap=Encapsulation.NEVER))
    client = lab.client()
    nat = lab.nat("198.51.100.44")
    lab.connect(client)
    client.plug_in(nat.inside, "192.168.1.7")
    client.unplug(CLIENT_IP)
    client.look_around()
    lab.world.run(5.0)
    assert not any(flow.tally.lost for flow in lab.exchange(client))
    for host in (client, lab.server):
        assert any("ESP goes in UDP after all" in note.text for note in host.told(Diagnostic))


def test_plain_esp_leaves_more_room() -> None:
    mtus = []
    for encap in (Encapsulation.AUTO, Encapsulation.ALWAYS):
        lab = Lab(terms=Terms(plain_esp=True, encap=encap))
        client = lab.client()
        lab.connect(client)
        mtus.append(client.tunnel.snapshot(lab.world.now).mtus[client.connection])
    assert mtus[0] == mtus[1] + 8


@pytest.mark.parametrize(
    ("here", "there"),
    [
        (Encapsulation.ALWAYS, Encapsulation.AUTO),
        (Encapsulation.AUTO, Encapsulation.ALWAYS),
        (Encapsulation.ALWAYS, Encapsulation.ALWAYS),
    ],
)
def test_one_side_that_wants_udp_is_enough(here: Encapsulation, there: Encapsulation) -> None:
    plain = Terms(plain_esp=True)
    lab = Lab(terms=replace(plain, encap=here), server_terms=replace(plain, encap=there))
    client = lab.client()
    sent, back = protocols(client), protocols(lab.server)
    lab.connect(client)
    assert not any(flow.tally.lost for flow in lab.exchange(client))
    assert {d.destination.port for d in [*sent, *back]} == {4500}


@pytest.mark.parametrize("able", ["client", "server"])
def test_one_side_that_can_do_nothing_but_udp_is_enough(able: str) -> None:
    """It claims a NAT: who dialled begins anew with that when it sees that the other side claims none."""
    can, cannot = Terms(plain_esp=True), Terms()
    lab = Lab(terms=can, server_terms=cannot) if able == "client" else Lab(terms=cannot, server_terms=can)
    client = lab.client()
    sent, back = protocols(client), protocols(lab.server)
    lab.connect(client)
    assert not any(flow.tally.lost for flow in lab.exchange(client))
    assert {d.destination.port for d in [*sent, *back]} == {4500}


def test_a_nat_puts_esp_into_udp() -> None:
    lab = Lab(terms=BY_ANY_WAY)
    client = lab.client(behind=lab.nat())
    sent, back = protocols(client), protocols(lab.server)
    lab.connect(client)
    assert talk(lab, client, Stack(lab.server), SERVER_IP, b"in UDP") == NAT_IP
    assert {d.destination.port for d in sent} == {4500}
    assert not [d for d in back if d.protocol == ESP]


def test_never_in_udp() -> None:
    terms = replace(BY_ANY_WAY, encap=Encapsulation.NEVER)
    lab = Lab(terms=terms)
    client = lab.client()
    lab.connect(client)
    assert talk(lab, client, Stack(lab.server), SERVER_IP, b"plain") == CLIENT_IP
    behind = lab.client("behind", behind=lab.nat())
    behind.connect(terms.connection("behind"), SERVER_IP)
    lab.world.run(60.0)
    (refused,) = {event.reason for event in lab.server.told(PeerRefused)}
    assert "a NAT is between" in refused
    assert not behind.told(ChildInstalled)


EITHER_VERSION = pytest.mark.parametrize(
    "terms",
    [
        Terms(plain_esp=True),
        TermsV1(plain_esp=True),
        TermsV1(plain_esp=True, exchange=IkeMode.AGGRESSIVE),
    ],
    ids=["IKEv2", "main mode", "aggressive mode"],
)


@EITHER_VERSION
def test_a_listener_that_must_not_use_udp_refuses_a_nat(terms: Terms) -> None:
    lab = Lab(terms=terms, server_terms=replace(terms, encap=Encapsulation.NEVER))
    client = lab.client(behind=lab.nat())
    client.connect(terms.connection(), SERVER_IP)
    lab.world.run(60.0)
    (refused,) = {event.reason for event in lab.server.told(PeerRefused)}
    assert refused == "a NAT is between (the peer), and ESP is not to go in UDP"
    assert not client.told(ChildInstalled)


@EITHER_VERSION
def test_a_dialler_that_must_not_use_udp_refuses_a_nat(terms: Terms) -> None:
    lab = Lab(terms=replace(terms, encap=Encapsulation.NEVER), server_terms=terms)
    client = lab.client(behind=lab.nat())
    client.connect(lab.terms.connection(), SERVER_IP)
    lab.world.run(60.0)
    (down,) = client.told(ConnectionDown)
    assert down.reason == "a NAT is between (this side), and ESP is not to go in UDP"
    assert down.remedy == "Choose --encap auto."


def test_never_in_udp_needs_a_host_that_can() -> None:
    lab = Lab()
    client = lab.client()
    with pytest.raises(ConfigError, match="cannot send ESP without UDP"):
        client.connect(replace(lab.terms, encap=Encapsulation.NEVER).connection(), SERVER_IP)
    with pytest.raises(ConfigError, match="cannot send ESP without UDP"):
        Lab(terms=Terms(encap=Encapsulation.NEVER))


def test_mobike_into_a_nat_and_out_of_it_changes_the_way_of_esp() -> None:
    lab = Lab(terms=Terms(plain_esp=True))
    client = lab.client()
    nat = lab.nat("198.51.100.44")
    lab.connect(client)
    sent, back = protocols(client), protocols(lab.server)
    assert not any(flow.tally.lost for flow in lab.exchange(client))
    assert {d.protocol for d in [*sent, *back]} == {ESP}
    client.plug_in(nat.inside, "192.168.1.7")
    client.unplug(CLIENT_IP)
    client.look_around()
    lab.world.run(5.0)
    sent.clear()
    back.clear()
    assert not any(flow.tally.lost for flow in lab.exchange(client))
    assert {d.protocol == ESP for d in [*sent, *back]} == {False}
    client.plug_in(lab.net, "198.51.100.8")
    client.unplug("192.168.1.7")
    client.look_around()
    lab.world.run(5.0)
    sent.clear()
    back.clear()
    assert not any(flow.tally.lost for flow in lab.exchange(client))
    assert {d.protocol for d in [*sent, *back]} == {ESP}
