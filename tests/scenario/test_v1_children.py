"""IKEv1: several child SAs, subnets of each kind, transport mode in every version of NAT traversal."""

from dataclasses import replace

import pytest

from espudp.ike.config import DYNAMIC, ChildConfig, Mode
from espudp.ike.events import ChildInstalled, ConnectionDown, PeerRefused
from espudp.ike.ikev1_config import Ikev1Config, NatTraversal
from espudp.ike.ikev1_config import Mode as Exchange
from espudp.ike.narrowing import Dynamic
from espudp.ike.proposals import EspProposal
from espudp.wire.address import UdpAddress
from espudp.wire.ip import UDP
from espudp.wire.selectors import TrafficSelector
from tests.scenario.lab import CLIENT_IP, NAT_IP, SERVER_IP, Lab
from tests.scenario.lab_v1 import TermsV1, lab_v1
from tests.scenario.test_rekey import rekey_child, rekey_ike
from tests.scenario.test_transport import L2TP, Stack, talk
from tests.sim.host import IKE_PORT, NATT_PORT, Host
from tests.sim.traffic import Flow

OTHER = "10.1.0.7"  # behind the server
HOSTS = TermsV1(mode=Mode.TRANSPORT, local=(DYNAMIC,), remote=(DYNAMIC,), pool=(), request=())
TO_L2TP = Dynamic(UDP, L2TP, L2TP)
CLIENT_OF_L2TP = replace(HOSTS, local=(TO_L2TP,), remote=(TO_L2TP,))
SERVER_OF_L2TP = replace(HOSTS, local=(TO_L2TP,), remote=(Dynamic(UDP),))


def up(lab: Lab, client: Host) -> None:
    lab.connect(client)
    lab.world.run(1.0)


def same(client: Host, server: Host) -> bool:
    return {c.spi_in for c in client.children()} == {c.spi_out for c in server.children()}


def sent_and_received(lab: Lab, flows: list[Flow], seconds: float = 2.0) -> bool:
    for flow in flows:
        flow.start()
    lab.world.run(seconds)
    for flow in flows:
        flow.stop()
    lab.world.run(2.0)
    return all(flow.tally.perfect for flow in flows)


class TestSeveral:
    def two(self) -> tuple[Lab, Host]:
        """One child SA for each of two subnets: a quick mode knows no more than one."""
        subnets = ("10.99.0.0/24", "10.1.0.0/16")
        lab = lab_v1(terms=TermsV1(remote=subnets), server=TermsV1(local=subnets))
        client = lab.client(behind=lab.nat())
        up(lab, client)
        return lab, client

    def test_each_subnet_has_its_own(self) -> None:
        lab, client = self.two()
        assert sorted(str(c.remote[0]) for c in client.children()) == ["10.1.0.0/16", "10.99.0.0/24"]
        flows = [*lab.flows(client), *lab.flows(client, server_inside=OTHER)]
        assert sent_and_received(lab, flows)

    def test_they_are_rekeyed_at_the_same_time(self) -> None:
        """Interleaved quick modes, of both sides."""
        lab, client = self.two()
        flows = [*lab.flows(client), *lab.flows(client, server_inside=OTHER)]
        for flow in flows:
            flow.start()
        for turn in range(6):
            for host in ((client,), (lab.server,), (client, lab.server))[turn % 3]:
                for child in host.children():
                    rekey_child(host, child)
            if turn == 3:
                rekey_ike(client)
            lab.world.run(10.0)
            assert same(client, lab.server)
        assert sent_and_received(lab, flows)
        assert not client.told(ConnectionDown)

    def test_one_more_is_made_and_deleted(self) -> None:
        lab = lab_v1(
            terms=TermsV1(subnet="10.99.0.0/24"), server=TermsV1(local=("10.99.0.0/24", "10.1.0.0/16"))
        )
        client = lab.client()
        up(lab, client)
        more = ChildConfig(
            remote=(TrafficSelector.from_network("10.1.0.0/16"),),
            proposals=(EspProposal.parse("aes128-sha256"),),
        )
        client.do(lambda tunnel: tunnel.create_child(client.connection, more, lab.world.now))
        lab.world.run(5.0)
        assert len(client.children()) == len(lab.server.children()) == 2
        assert sent_and_received(lab, [*lab.flows(client, server_inside=OTHER)])
        last = client.children()[-1]
        client.do(lambda tunnel: tunnel.delete_child(last.connection, last.spi_in, lab.world.now))
        lab.world.run(60.0)
        assert len(client.children()) == len(lab.server.children()) == 1
        assert sent_and_received(lab, [*lab.flows(client)])

    def test_five_clients_behind_one_address(self) -> None:
        lab = lab_v1()
        nat = lab.nat()
        clients = [lab.client(f"c{n}", behind=nat, number=10 + n) for n in range(5)]
        for client in clients:
            up(lab, client)
        flows = [flow for client in clients for flow in lab.flows(client)]
        for flow in flows:
            flow.start()
        for client in clients:
            rekey_child(client)
            rekey_ike(client)
        lab.world.run(20.0)
        assert sent_and_received(lab, flows)
        assert all(len(client.children()) == 1 for client in clients)


@pytest.mark.parametrize("mode", Exchange, ids=lambda mode: mode.value)
@pytest.mark.parametrize("version", [None, *NatTraversal], ids=lambda v: "none" if v is None else v.value)
def test_status_names_what_was_agreed_on(version: NatTraversal | None, mode: Exchange) -> None:
    ikev1 = Ikev1Config(nat_traversal=() if version is None else (version,))
    lab = lab_v1(terms=TermsV1(ikev1=ikev1, exchange=mode, plain_esp=True))
    client = lab.client()
    up(lab, client)
    for host in (client, lab.server):
        (shot,) = host.tunnel.snapshot(lab.world.now).connections
        assert (shot.ike_version, shot.exchange) == (1, mode.value)
        assert shot.nat_traversal == ("" if version is None else version.value)
        assert len(shot.children) == 1


class TestTransportMode:
    @pytest.mark.parametrize("version", NatTraversal, ids=lambda version: version.value)
    def test_behind_a_nat(self, version: NatTraversal) -> None:
        """NAT-OA tells both sides what the other one makes its checksums of (RFC 3947 section 5.2). Without
        it they are made anew.
        """
        terms = replace(CLIENT_OF_L2TP, ikev1=Ikev1Config(nat_traversal=(version,)))
        lab = lab_v1(terms=terms, server=SERVER_OF_L2TP)
        client = lab.client(behind=lab.nat())
        up(lab, client)
        (ours,), (theirs,) = client.told(ChildInstalled), lab.server.told(ChildInstalled)
        assert ours.transport is not None
        assert theirs.transport is not None
        assert (ours.transport.local, ours.transport.remote) == (client.ip, SERVER_IP)
        outside, inside = ("", "") if version is NatTraversal.DRAFT_UNNUMBERED else (NAT_IP, client.ip)
        assert (ours.transport.local_there, ours.transport.remote_there) == (outside, SERVER_IP)
        assert (theirs.transport.local, theirs.transport.remote) == (SERVER_IP, NAT_IP)
        assert (theirs.transport.local_there, theirs.transport.remote_there) == (SERVER_IP, inside)
        floats = version not in (NatTraversal.DRAFT_00, NatTraversal.DRAFT_01)
        assert ours.path.local.port == (NATT_PORT if floats else IKE_PORT)
        server = Stack(lab.server)
        assert talk(lab, client, server, SERVER_IP, b"who is there") == NAT_IP
        for host in (client, lab.server):
            rekey_child(host)
            lab.world.run(10.0)
        assert talk(lab, client, server, SERVER_IP, b"and now") == NAT_IP
        assert server.wrong == 0

    def test_without_a_nat_it_goes_plain(self) -> None:
        terms = replace(HOSTS, plain_esp=True)
        lab = lab_v1(terms=terms)
        client = lab.client()
        up(lab, client)
        (child,) = client.told(ChildInstalled)
        assert child.path == (UdpAddress(CLIENT_IP, 0), UdpAddress(SERVER_IP, 0))
        assert child.transport is not None
        assert child.transport.remote_there == SERVER_IP
        assert talk(lab, client, Stack(lab.server), SERVER_IP, b"plain") == CLIENT_IP

    def test_two_behind_one_nat(self) -> None:
        lab = lab_v1(terms=CLIENT_OF_L2TP, server=SERVER_OF_L2TP)
        nat = lab.nat()
        clients = [lab.client(f"c{n}", behind=nat, number=20 + n) for n in range(2)]
        server = Stack(lab.server)
        for client in clients:
            up(lab, client)
        seen = {talk(lab, client, server, SERVER_IP, client.name.encode()) for client in clients}
        assert len(seen) == 2, "they are told apart"

    def test_a_server_that_wants_tunnels_refuses(self) -> None:
        lab = lab_v1(terms=HOSTS, server=TermsV1())
        client = lab.client()
        client.connect(HOSTS.connection(), SERVER_IP)
        lab.world.run(10.0)
        assert client.told(ConnectionDown)
        assert any("transport" in refused.detail for refused in lab.server.told(PeerRefused))

    @pytest.mark.parametrize("who", ["client", "server"])
    def test_programs_keep_their_addresses_when_the_nat_has_another(self, who: str) -> None:
        """A rekey after the peer has turned up elsewhere is for the same flow (RFC 3947 section 7)."""
        lab = lab_v1(terms=CLIENT_OF_L2TP, server=SERVER_OF_L2TP)
        nat = lab.nat()
        client = lab.client(behind=nat)
        up(lab, client)
        server = Stack(lab.server)
        assert talk(lab, client, server, SERVER_IP, b"here") == NAT_IP
        client.unplug(client.ip)
        client.plug_in(lab.nat("198.51.100.99").inside, client.ip)
        assert talk(lab, client, server, SERVER_IP, b"there") == NAT_IP
        rekey_child(client if who == "client" else lab.server)
        lab.world.run(20.0)
        assert len(client.children()) == len(lab.server.children()) == 1
        assert lab.server.children()[0].path.remote.ip == "198.51.100.99"
        assert talk(lab, client, server, SERVER_IP, b"still") == NAT_IP
