"""The modes of IPsec that are tried at middleboxes: espudp's own, and two that are beyond help."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from ipaddress import ip_network
from typing import Protocol

from espudp.crypto.signatures import PrivateKey
from espudp.crypto.suites import parse_esp_suite
from espudp.ike.config import DYNAMIC, ConnectionConfig, Encapsulation, ListenerConfig
from espudp.ike.config import Mode as ChildMode
from espudp.ike.credentials import SignKey
from espudp.ike.events import ConnectionDown, ConnectionUp
from espudp.ike.ikev1_config import Ikev1Config, Ikev1Policy, NatTraversal
from espudp.ike.ikev1_config import Mode as IkeMode
from espudp.ike.pad import PadEntry
from espudp.manual import ManualPair, generate_pair
from espudp.tunnel import Tunnel
from espudp.wire.address import Path, UdpAddress
from tests.scenario.bare import AuthenticationHeader, Envelope, TransportMode, exchanged
from tests.scenario.credentials import SERVER, authority, key, trust
from tests.scenario.lab import USUAL, Lab, Terms
from tests.scenario.test_rekey import rekey_child, rekey_ike
from tests.sim.host import NATT_PORT, NO_PORT, Host
from tests.sim.link import Quality, Segment
from tests.sim.middlebox import Middlebox
from tests.sim.traffic import Flow, HostFlow
from tests.sim.world import World

MakeBox = Callable[[World, Segment], Middlebox | None]

CONNECT_SECONDS = 60.0
INTERVAL = 0.4
SILENCE = 95.0  # more than carriers wait, and the usual keepalive


class Mode(Protocol):
    """A way to carry packets."""

    @property
    def name(self) -> str:
        """As the table has it."""

    def disturbance(self, make_box: MakeBox, addresses: Sequence[str]) -> str:
        """What goes wrong with clients at these addresses, behind such a box; "" if nothing does."""


def _rekey_children(host: Host) -> None:
    for child in host.children():
        rekey_child(host, child)


def _transferred(lab: Lab, flows: Sequence[Flow], seconds: float) -> Iterator[str]:
    """Let traffic flow for a while; what is wrong with it."""
    for flow in flows:
        flow.start()
    lab.world.run(seconds)
    for flow in flows:
        flow.stop()
    lab.world.run(0.2)
    for flow in flows:
        tally = flow.tally
        if tally.lost or tally.duplicated or tally.damaged or not tally.received:
            yield f"{tally.lost} of {tally.sent} packets are lost, {tally.damaged} damaged"


@dataclass(frozen=True)
class Negotiated:
    """Clients of ours connect at once, transfer, rekey at once, are silent, and transfer again."""

    name: str
    terms: Terms = USUAL
    natt_only: bool = False

    def disturbance(self, make_box: MakeBox, addresses: Sequence[str]) -> str:
        lab = Lab(terms=self.terms, quality=Quality(latency=0.01, jitter=0.02))
        box = make_box(lab.world, lab.net)
        clients = [lab.client(f"client-{ip}", behind=box, ip=ip) for ip in addresses]
        for client in clients:
            client.connect(self.terms.connection(client.name), lab.server_ip, natt_only=self.natt_only)
        return next(self._story(lab, clients), "")

    def _story(self, lab: Lab, clients: list[Host]) -> Iterator[str]:
        flows = self._begin(lab, clients)
        if len(flows) < len(clients):
            yield "not all get a connection"
            return
        both = [flow for pair in flows for flow in pair]
        for action in (_rekey_children, rekey_ike):
            yield from _transferred(lab, both, 1.0)
            for client in clients:
                action(client)
            yield from _transferred(lab, both, 6.0)
        lab.world.run(SILENCE)
        # Where keepalives have gone the server finds open what was open; else nothing can be asked of it.
        kept = all(child.path.remote.port for child in lab.server.children())
        yield from _transferred(lab, [pair[kept] for pair in flows], 2.0)
        yield from _transferred(lab, both, 1.0)
        if any(host.told(ConnectionDown) for host in (*clients, lab.server)):
            yield "a connection is gone"
        if any(len(client.told(ConnectionUp)) != 1 for client in clients):
            yield "a client had to come back"

    def _begin(self, lab: Lab, clients: Sequence[Host]) -> list[tuple[Flow, Flow]]:
        """Wait for the clients; each begins its transfer as soon as it can. Returns the flows of those."""
        flows: dict[str, tuple[Flow, Flow]] = {}
        end = lab.world.now + CONNECT_SECONDS
        while len(flows) < len(clients) and lab.world.now < end:
            up = [client for client in clients if client.up and client.ip not in flows]
            lab.world.run(0.1)  # with IKEv1 the client has its child SA first
            for client in up:
                there, back = flows[client.ip] = self._flows(lab, client)
                there.start()  # and the server answers, once there is a mapping for that
                lab.world.call_later(0.1, back.start)
        return list(flows.values())

    def _flows(self, lab: Lab, client: Host) -> tuple[Flow, Flow]:
        """There and back."""
        return lab.flows(client, interval=INTERVAL)


class BetweenHosts(Negotiated):
    """The same in transport mode, where hosts talk to each other at the addresses that they have outside."""

    def _flows(self, lab: Lab, client: Host) -> tuple[Flow, Flow]:
        ends = client.ip, lab.server_ip
        there = HostFlow(lab.world, client, lab.server, ends, interval=INTERVAL)
        return there, HostFlow(lab.world, lab.server, client, ends[::-1], interval=INTERVAL, answers=there)


@dataclass(frozen=True)
class ManualKeys:
    """espudp without IKE: a tunnel for each client, which transfers, is silent, and transfers again."""

    name: str
    port: int

    def disturbance(self, make_box: MakeBox, addresses: Sequence[str]) -> str:
        lab = Lab(terms=Terms(plain_esp=True), quality=Quality(latency=0.01, jitter=0.02))
        box = make_box(lab.world, lab.net)
        clients = [lab.client(f"client-{ip}", behind=box, ip=ip) for ip in addresses]
        flows = [self._flows(lab, client, number) for number, client in enumerate(clients)]
        return next(self._story(lab, flows), "")

    def _flows(self, lab: Lab, client: Host, number: int) -> tuple[Flow, Flow]:
        """There and back, through a tunnel whose server learns where the client is."""
        server = UdpAddress(lab.server_ip, self.port)
        network, suite = ip_network(f"10.98.{number}.0/30"), parse_esp_suite("aes128-sha256")
        pair = ManualPair(suite=suite, server=server, network=network)
        ends = generate_pair(pair, lab.world.chance(client.name).randbytes)
        unknown = UdpAddress("0.0.0.0", self.port)
        paths = Path(server, unknown), Path(UdpAddress(client.ip, self.port), server)
        for host, end, path in zip((lab.server, client), ends, paths, strict=True):
            host.do(partial(Tunnel.install_manual, manual=end, path=path, now=lab.world.now))
        inside, outside = f"10.98.{number}.2", f"10.98.{number}.1"
        there = Flow(lab.world, client, lab.server, inside, outside, interval=INTERVAL)
        return there, Flow(lab.world, lab.server, client, outside, inside, interval=INTERVAL)

    def _story(self, lab: Lab, flows: Sequence[tuple[Flow, Flow]]) -> Iterator[str]:
        both = [flow for pair in flows for flow in pair]
        yield from _transferred(lab, [there for there, _ in flows], 0.1)
        yield from _transferred(lab, both, 6.0)
        lab.world.run(SILENCE)
        kept = self.port != NO_PORT  # open, by keepalives, as above
        yield from _transferred(lab, [pair[kept] for pair in flows], 2.0)
        yield from _transferred(lab, both, 1.0)


@dataclass(frozen=True)
class ByHand:
    """Packets that no stack of ours makes, between hosts that have their keys by hand."""

    name: str
    envelope: Envelope

    def disturbance(self, make_box: MakeBox, addresses: Sequence[str]) -> str:
        return exchanged(self.envelope, make_box, addresses)


@cache
def _member(name: str) -> SignKey:
    """A key with a chain of certificates that no IP packet has room for, and less so with a signature."""
    branch = authority("CN=Authority").ca("CN=Branch", key=key("RSA", "Branch"))
    made = branch.issue(f"CN={name}", f"{'email' if '@' in name else 'dns'}:{name}", key=key("RSA", name))
    return SignKey(private_key=PrivateKey(made.key), certificates=(made.der, branch.der))


class Certified(Terms):
    """Everybody has a certificate."""

    def listener(self) -> ListenerConfig:
        entry = PadEntry(proof=_member(SERVER), demand=trust())
        return replace(Terms.listener(self), pad=(entry,))

    def connection(self, name: str = "client") -> ConnectionConfig:
        proof = _member(f"{name}@example.org")
        return replace(Terms.connection(self, name), proof=proof, demand=trust())


def _between_hosts(terms: Terms) -> Terms:
    return replace(terms, mode=ChildMode.TRANSPORT, local=(DYNAMIC,), remote=(DYNAMIC,), pool=(), request=())


_HOSTS = _between_hosts(Terms(plain_esp=True))

_V1 = Terms(
    ike=("aes128-sha256-ecp256",),
    ikev1=Ikev1Config(),
    ikev1_policy=Ikev1Policy(modes=frozenset(IkeMode)),
    plain_esp=True,
)
_AGGRESSIVE = replace(_V1, ikev1=Ikev1Config(mode=IkeMode.AGGRESSIVE))
_CERTIFIED = Certified(
    ike=_V1.ike, ikev1=Ikev1Config(), ikev1_policy=Ikev1Policy(modes=frozenset(IkeMode)), plain_esp=True
)
_WHOLE = replace(
    _CERTIFIED,
    ikev1=Ikev1Config(fragments=False),
    ikev1_policy=Ikev1Policy(modes=frozenset(IkeMode), fragments=False),
)


def _only(*versions: NatTraversal, mode: IkeMode = IkeMode.MAIN) -> Terms:
    """IKEv1 with these versions of NAT traversal."""
    return replace(_V1, ikev1=Ikev1Config(mode=mode, nat_traversal=versions))


WITHOUT_NAT_TRAVERSAL = _only()

MODES: tuple[Mode, ...] = (
    Negotiated("IKEv2"),
    Negotiated("IKEv2 from port 4500 on", natt_only=True),
    Negotiated("IKEv2, certificates", Certified()),
    Negotiated("IKEv2, ESP without UDP", Terms(plain_esp=True, encap=Encapsulation.NEVER)),
    BetweenHosts("IKEv2, transport mode", _HOSTS),
    BetweenHosts("IKEv2, transport mode without UDP", replace(_HOSTS, encap=Encapsulation.NEVER)),
    Negotiated("IKEv1, main mode", _V1),
    Negotiated("IKEv1, aggressive mode", _AGGRESSIVE),
    Negotiated("IKEv1, certificates, the vendors' fragments", _CERTIFIED),
    Negotiated("IKEv1, certificates, IP fragments", _WHOLE),
    Negotiated("IKEv1, draft 02", _only(NatTraversal.DRAFT_02)),
    Negotiated("IKEv1, draft 00, ESP on port 500", _only(NatTraversal.DRAFT_00)),
    Negotiated("IKEv1 without NAT traversal", WITHOUT_NAT_TRAVERSAL),
    BetweenHosts("IKEv1, transport mode", _between_hosts(_V1)),
    BetweenHosts("IKEv1, transport mode without NAT traversal", _between_hosts(WITHOUT_NAT_TRAVERSAL)),
    ManualKeys("manual keys", NATT_PORT),
    ManualKeys("manual keys, ESP without UDP", NO_PORT),
    ByHand("transport mode without UDP or NAT-OA", TransportMode()),
    ByHand("AH", AuthenticationHeader()),
)
