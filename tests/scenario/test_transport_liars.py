"""Transport mode with authenticated peers that lie about their addresses, in both versions of IKE.

What a peer says of itself (traffic selectors, IDci, NAT-OA) goes into its own checksums and nowhere else. It
gets packets neither of another client nor of a third party, nor those that the server has for itself.
"""

from collections.abc import Callable
from typing import Any

import pytest

from espudp.ike.events import ChildInstalled, PathChanged
from espudp.ike.v1 import quick_initiator
from espudp.ike.v1.client_ids import identification_of
from espudp.ike.v1.quick import original_addresses
from espudp.ike.v2.child import ChildOffer
from espudp.wire.address import Path, UdpAddress
from espudp.wire.ikev2.payloads import Payload, TsInitiator
from espudp.wire.selectors import at_host
from tests.scenario import test_v1_children as v1
from tests.scenario.lab import CLIENT_IP, NAT_IP, SERVER_IP, Lab, Terms
from tests.scenario.lab_v1 import lab_v1
from tests.scenario.test_transport import ALL, BY_ANY_WAY, Stack, l2tp_lab, talk, udp

THIRD_PARTY = "192.0.2.99"

Liar = Callable[[str], None]
Version = tuple[Callable[[], Lab], Liar]


@pytest.fixture(params=["IKEv2", "IKEv1"])
def version(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Version:
    """A lab for L2TP, and how each client from now on says that it has another address than it has."""
    if request.param == "IKEv1":
        return lambda: lab_v1(terms=v1.CLIENT_OF_L2TP, server=v1.SERVER_OF_L2TP), _liar_of_v1(monkeypatch)
    return l2tp_lab, _liar_of_v2(monkeypatch)


def _liar_of_v1(monkeypatch: pytest.MonkeyPatch) -> Liar:
    honest: Any = original_addresses

    def lie(address: str) -> None:
        claims = iter([True, False] * 100)

        def identification(selector: Any) -> Any:
            mine = next(claims)
            return identification_of(at_host((selector,), address)[0] if mine else selector)

        def original(phase1: Any, _: str, remote: str, **which: bool) -> Any:
            return honest(phase1, address, remote, **which)

        monkeypatch.setattr(quick_initiator, "identification_of", identification)
        monkeypatch.setattr(quick_initiator, "original_addresses", original)

    return lie


def _liar_of_v2(monkeypatch: pytest.MonkeyPatch) -> Liar:
    honest: Any = ChildOffer.payloads

    def lie(address: str) -> None:
        def payloads(offer: ChildOffer, nonce: bytes | None) -> list[Payload]:
            said: list[Payload] = honest(offer, nonce)
            return [
                TsInitiator(at_host(payload.selectors, address))
                if isinstance(payload, TsInitiator)
                else payload
                for payload in said
            ]

        monkeypatch.setattr(ChildOffer, "payloads", payloads)

    return lie


def seen(child: ChildInstalled) -> set[str]:
    """Where the server's host sees the peer of a child SA."""
    return {str(end) for selector in child.remote for end in (selector.first, selector.last)}


@pytest.mark.parametrize("claimed", [SERVER_IP, THIRD_PARTY, "127.0.0.1", "198.18.0.1"])
def test_behind_a_nat_it_is_where_the_nat_is(version: Version, claimed: str) -> None:
    make_lab, lie = version
    lab = make_lab()
    lie(claimed)
    client = lab.client(behind=lab.nat())
    lab.connect(client)
    (child,) = lab.server.children()
    assert seen(child) == {NAT_IP}
    # Its own checksums are wrong now, and nothing else is.
    server = Stack(lab.server)
    client.send_packets([udp(client.ip, SERVER_IP)])
    lab.world.run(1.0)
    assert (server.packets, server.wrong) == ([], 1)


@pytest.mark.parametrize("claimed", [SERVER_IP, THIRD_PARTY])
def test_without_a_nat_it_is_refused(version: Version, claimed: str) -> None:
    make_lab, lie = version
    lab = make_lab()
    lie(claimed)
    client = lab.client()
    client.connect(lab.terms.connection(), SERVER_IP)
    lab.world.run(20.0)
    assert not lab.server.told(ChildInstalled)
    assert not client.told(ChildInstalled)


def test_who_claims_another_clients_private_address_is_another_client(version: Version) -> None:
    make_lab, lie = version
    lab = make_lab()
    nat, server = lab.nat(), Stack(lab.server)
    victim, liar = (lab.client(f"client-{number}", behind=nat, number=number) for number in (2, 3))
    lab.connect(victim)
    assert talk(lab, victim, server, SERVER_IP, b"before") == NAT_IP
    lie(victim.ip)
    lab.connect(liar)
    places = [seen(child) for child in lab.server.children()]
    assert len(set.union(*places)) == 2
    heard = Stack(liar)
    assert talk(lab, victim, server, SERVER_IP, b"after") == NAT_IP
    assert not heard.packets
    assert heard.wrong == 0


# Somebody who has no keys

WAYS = {"plain": (0, 0, b""), "UDP": (4500, 4500, b""), "port 500": (500, 500, bytes(8))}


@pytest.mark.parametrize("terms", [ALL, BY_ANY_WAY], ids=["in UDP", "without UDP"])
@pytest.mark.parametrize("way", WAYS)
def test_esp_that_somebody_else_sends_on_moves_nobody(terms: Terms, way: str) -> None:
    """Held back, replayed or forged, in any of the ways that ESP goes: no NAT is between, nobody moves."""
    lab = Lab(terms=terms)
    client, server = lab.client(), Stack(lab.server)
    lab.connect(client)
    assert talk(lab, client, server, SERVER_IP, b"one") == CLIENT_IP
    ours, theirs, marker = WAYS[way]
    path = Path(UdpAddress(SERVER_IP, ours), UdpAddress(THIRD_PARTY, theirs))
    client.tunnel.receive_packets([udp(CLIENT_IP, SERVER_IP, payload=b"held back")], lab.world.now)
    (train,) = client.tunnel.datagrams_to_send(lab.world.now)
    (authentic,) = map(bytes, train.datagrams)
    renumbered = authentic[:7] + bytes([authentic[7] + 1]) + authentic[8:]
    for octets in (authentic, authentic, renumbered, authentic[:7]):
        lab.server.do(
            lambda tunnel, o=marker + octets: tunnel.receive_datagrams([o], path, lab.world.now)  # type: ignore[misc]
        )
    assert [packet[28:] for packet in server.take()] == [b"held back"]
    drops = lab.server.tunnel.snapshot(lab.world.now).drops
    assert (drops["replay"], drops["integrity"], drops["runt"]) == (1, 1, 1)
    assert not lab.server.told(PathChanged)
    assert talk(lab, client, server, SERVER_IP, b"two") == CLIENT_IP
