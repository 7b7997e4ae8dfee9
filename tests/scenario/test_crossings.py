"""README says which mode crosses which middlebox: here each is tried, and the worst are told as stories."""

from pathlib import Path

import pytest

from espudp.ike.events import ConnectionDown, PathChanged
from tests.scenario.bare import AuthenticationHeader, TransportMode
from tests.scenario.crossings import (
    BEGIN,
    END,
    OTHER_PUBLIC,
    PLACES,
    PUBLIC,
    Outcome,
    Place,
    markdown,
    outcome,
    replaced,
    shown,
)
from tests.scenario.lab import SERVER_IP, Lab, is_keepalive
from tests.scenario.modes import MODES, WITHOUT_NAT_TRAVERSAL, Mode
from tests.scenario.test_rekey import rekey_child
from tests.sim.host import IKE_PORT
from tests.sim.ipsec_nat import Helper, PassThrough, SpiNat
from tests.sim.link import Datagram, Quality
from tests.sim.middlebox import Middlebox
from tests.sim.nat import CarrierNat
from tests.sim.traffic import Flow

README = (Path(__file__).parents[2] / "README.md").read_text()
EXPECTED = shown(README)


@pytest.mark.parametrize("place", PLACES, ids=lambda place: place.name)
@pytest.mark.parametrize("mode", MODES, ids=lambda mode: mode.name)
def test_what_readme_says_of_it(mode: Mode, place: Place) -> None:
    assert outcome(mode, place) is EXPECTED[mode.name, place.name], (
        "python -m tests.scenario.crossings README.md"
    )


def test_readme_has_the_whole_table_and_no_more() -> None:
    assert replaced(README, list(markdown(EXPECTED))) == README


def test_the_table_is_read_as_it_is_written() -> None:
    found = {(mode.name, place.name): Outcome.ONE for mode in MODES for place in PLACES}
    assert shown(replaced(f"above\n{BEGIN}\n{END}\nbelow", list(markdown(found)))) == found
    with pytest.raises(ValueError, match="marks"):
        shown("nothing")


def _connected(lab: Lab, box: Middlebox) -> list[Datagram]:
    """Five clients at once, all of them up in the end; what they have sent to port 500."""
    clients = [lab.client(f"client-{n}", behind=box, number=10 + n) for n in range(5)]
    sent: list[Datagram] = []
    for client in clients:
        client.on_send.append(
            lambda datagram: sent.append(datagram) if datagram.destination.port == IKE_PORT else None
        )
        client.connect(lab.terms.connection(client.name), lab.server_ip)
    lab.world.run_until(lambda: all(client.up for client in clients), within=60.0)
    return sent


def test_who_may_not_negotiate_yet_asks_again() -> None:
    lab = Lab()
    box = PassThrough(lab.world, lab.net, PUBLIC)
    assert len(_connected(lab, box)) > 5
    assert box.overlapping > 0


def test_answers_on_port_500_that_somebody_else_got_are_asked_for_again() -> None:
    lab = Lab()
    assert len(_connected(lab, Helper(lab.world, lab.net, PUBLIC))) > 5


@pytest.mark.parametrize("at_once", [False, True])
def test_who_matches_spis_is_wrong_when_two_clients_rekey_at_once(at_once: bool) -> None:
    """And the server speaks to them in another order than they to it: each gets what is for the other."""
    lab = Lab(terms=WITHOUT_NAT_TRAVERSAL)
    box = SpiNat(lab.world, lab.net, PUBLIC)
    clients = [lab.client(f"client-{n}", behind=box, number=10 + n) for n in range(2)]
    for client in clients:
        lab.connect(client)
        lab.world.run(1.0)
        _answered(lab, [lab.flows(client)])
    flows = [lab.flows(client) for client in clients]
    for client, pair in zip(clients, flows, strict=True):
        rekey_child(client, client.children()[0])
        if not at_once:
            lab.world.run(60.0)
            _answered(lab, [pair])
    lab.world.run(60.0)
    if at_once:
        _answered(lab, flows, lost=True)
    for client in clients:
        drops = client.tunnel.snapshot(lab.world.now).drops
        assert drops.keys() == ({"unknown SPI"} if at_once else set())


def _answered(lab: Lab, flows: list[tuple[Flow, Flow]], *, lost: bool = False) -> None:
    """The clients begin, in this order; the server speaks to the last of them first."""
    for there, _ in flows:
        there.start()
    lab.world.run(0.15)
    for _, back in reversed(flows):
        back.start()
    lab.world.run(1.0)
    for flow in (flow for pair in flows for flow in pair):
        flow.stop()
    lab.world.run(1.0)
    assert all(there.tally.perfect for there, _ in flows)
    assert all(back.tally.received == 0 if lost else back.tally.perfect for _, back in flows)


def test_a_carrier_that_rebinds_is_followed_where_no_keepalive_gets_through() -> None:
    """The client's first packet after the silence tells the server where it is now."""
    lab = Lab(quality=Quality())
    client = lab.client(behind=CarrierNat(lab.world, lab.net, [PUBLIC, OTHER_PUBLIC]))
    lab.connect(client)
    carry = client.link.carry
    client.link.carry = (  # type: ignore[method-assign]
        lambda datagram, deliver: None if is_keepalive(datagram) else carry(datagram, deliver)
    )
    before = lab.server.children()[-1].path.remote
    lab.world.run(31.0)
    assert all(flow.tally.perfect for flow in lab.exchange(client))
    moved = lab.server.told(PathChanged)[-1].path.remote
    assert {before.ip, moved.ip} == {PUBLIC, OTHER_PUBLIC}
    assert not client.told(ConnectionDown) + lab.server.told(ConnectionDown)


def test_ah_is_over_the_address_that_a_nat_changes() -> None:
    """RFC 3715 section 2.1 a."""
    envelope = AuthenticationHeader()
    octets = envelope.seal("192.168.1.10", SERVER_IP, 1, 7)
    assert envelope.open("192.168.1.10", SERVER_IP, octets) == 7
    assert envelope.open(PUBLIC, SERVER_IP, octets) is None
    assert envelope.open("192.168.1.10", SERVER_IP, octets[:-1] + b"\x08") is None


def test_transport_mode_has_a_checksum_over_the_address_that_a_nat_changes() -> None:
    """RFC 3715 section 2.1 b: the ICV holds, and the segment inside is thrown away."""
    envelope = TransportMode()
    octets = envelope.seal("192.168.1.10", SERVER_IP, 1, 7)
    assert envelope.open("192.168.1.10", SERVER_IP, octets) == 7
    assert envelope.open(PUBLIC, SERVER_IP, octets) is None
    assert envelope.open("192.168.1.10", SERVER_IP, octets[:-1] + bytes([octets[-1] ^ 1])) is None
