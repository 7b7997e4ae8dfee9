"""The places of the scenarios: a server in the world, and clients at home."""

from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network

from espudp.ike.config import (
    DYNAMIC,
    ChildConfig,
    ConnectionConfig,
    Identity,
    LifetimeConfig,
    Limits,
    ListenerConfig,
    Mode,
    Timers,
)
from espudp.ike.credentials import Demand, Proof, Psk, PskOf
from espudp.ike.encapsulation import Encapsulation
from espudp.ike.events import AddressAssigned
from espudp.ike.ikev1_config import Ikev1Config, Ikev1Policy
from espudp.ike.narrowing import Selector
from espudp.ike.pad import PadEntry
from espudp.ike.proposals import EspProposal, IkeProposal
from espudp.wire import natt
from espudp.wire.selectors import TrafficSelector
from tests.sim.host import NATT_PORT, Host
from tests.sim.link import Datagram, Quality, Segment
from tests.sim.middlebox import Middlebox
from tests.sim.nat import Nat
from tests.sim.traffic import Flow
from tests.sim.world import World

SERVER_IP = "203.0.113.1"
CLIENT_IP = "198.51.100.7"
NAT_IP = "198.51.100.1"

POOL = "10.99.0.0/24"
SUBNET = "10.1.0.0/16"
SERVER_INSIDE = "10.99.0.1"

PSK = b"correct horse battery staple"

FOREVER = LifetimeConfig(soft_seconds=None, hard_seconds=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What a scenario may want to be otherwise; the rest is as most people have it."""

    ike: tuple[str, ...] = ("aes128gcm16-prfsha256-curve25519",)
    esp: tuple[str, ...] = ("aes128gcm16",)
    psk: bytes = PSK
    proof: Proof | None = None
    """None: the PSK, and so the next two."""
    demand: Demand | None = None
    pad: tuple[PadEntry, ...] = ()
    remote_identity: str | None = "server.example.org"
    lifetime: LifetimeConfig = FOREVER
    timers: Timers = field(default_factory=lambda: Timers(ike_lifetime=FOREVER))
    limits: Limits = field(default_factory=Limits)
    local: tuple[Selector | str, ...] | None = None
    remote: tuple[Selector | str, ...] | None = None
    pool: tuple[str, ...] = (POOL,)
    request: tuple[str, ...] = ("any4",)
    encap: Encapsulation = Encapsulation.AUTO
    plain_esp: bool = False
    """Whether hosts can do ESP without UDP."""
    mode: Mode = Mode.TUNNEL
    ikev1: Ikev1Config | None = None
    ikev1_policy: Ikev1Policy | None = None
    mobike: bool = True
    workers: int = 1
    secret: bytes = b""

    def listener(self) -> ListenerConfig:
        """The server's configuration: a pool, and a subnet behind it."""
        return ListenerConfig(
            local_identity=Identity.parse("server.example.org"),
            pad=self.pad or (PadEntry.of_psk(self.psk),),
            ike_proposals=tuple(map(IkeProposal.parse, self.ike)),
            child=self._child(self.local or (*self.pool, SUBNET), self.remote or (DYNAMIC,)),
            pool=tuple(ip_network(pool) for pool in self.pool),
            dns=("10.1.0.53",),
            encap=self.encap,
            ikev1=self.ikev1_policy,
            mobike=self.mobike,
            secret=self.secret,
            limits=self.limits,
            timers=self.timers,
        )

    def connection(self, name: str = "client") -> ConnectionConfig:
        """A client's configuration: it asks for an address, and for what is behind the server."""
        return ConnectionConfig(
            local_identity=Identity.parse(f"{name}@example.org"),
            remote_identity=None if self.remote_identity is None else Identity.parse(self.remote_identity),
            proof=self.proof or Psk(self.psk),
            demand=self.demand or PskOf(self.psk),
            ike_proposals=tuple(map(IkeProposal.parse, self.ike)),
            child=self._child(self.local or (DYNAMIC,), self.remote or (*self.pool, SUBNET)),
            request_addresses=self.request,
            encap=self.encap,
            ikev1=self.ikev1,
            mobike=self.mobike,
            timers=self.timers,
        )

    def _child(self, local: tuple[Selector | str, ...], remote: tuple[Selector | str, ...]) -> ChildConfig:
        return ChildConfig(
            local=_selectors(local),
            remote=_selectors(remote),
            proposals=tuple(map(EspProposal.parse, self.esp)),
            lifetime=self.lifetime,
            mode=self.mode,
        )


def _selectors(given: tuple[Selector | str, ...]) -> tuple[Selector, ...]:
    return tuple(TrafficSelector.from_network(s) if isinstance(s, str) else s for s in given)


USUAL = Terms()


@dataclass(slots=True)
class Lab:
    """A world with a server in it."""

    seed: int = 0
    terms: Terms = USUAL
    server_terms: Terms | None = None
    quality: Quality = field(default_factory=Quality)
    """Of the clients' wires."""

    server_ip: str = SERVER_IP
    world: World = field(init=False)
    net: Segment = field(init=False)
    server: Host = field(init=False)

    def __post_init__(self) -> None:
        self.world = World(self.seed)
        self.net = Segment(self.world, "internet")
        terms = self.server_terms or self.terms
        self.server = Host(
            self.world,
            self.net,
            self.server_ip,
            name="server",
            listener=terms.listener(),
            workers=terms.workers,
            plain_esp=terms.plain_esp,
        )

    def nat(self, ip: str = NAT_IP, **options: object) -> Nat:
        """A NAT between clients and the world."""
        return Nat(self.world, self.net, ip, **options)  # type: ignore[arg-type]

    def client(
        self, name: str = "client", *, behind: Middlebox | None = None, number: int = 7, ip: str = ""
    ) -> Host:
        """A host that will connect: with an address of its own, or behind a NAT; `ip` where it is another."""
        segment, network = (self.net, "198.51.100") if behind is None else (behind.inside, "192.168.1")
        return Host(
            self.world,
            segment,
            ip or f"{network}.{number}",
            name=name,
            quality=self.quality,
            workers=self.terms.workers,
            plain_esp=self.terms.plain_esp,
        )

    def connect(self, client: Host, *, natt_only: bool = False, within: float = 30.0) -> int:
        """Connect a client; returns its connection number once traffic may flow."""
        client.connect(self.terms.connection(client.name), self.server_ip, natt_only=natt_only)
        self.world.run_until(lambda: client.up, within)
        return client.connection

    def flows(
        self, client: Host, *, interval: float = 0.1, server_inside: str = SERVER_INSIDE
    ) -> tuple[Flow, Flow]:
        """Traffic between a client that is up and the server, both ways; not started."""
        version = ip_address(server_inside).version
        (inside,) = (
            a for a in client.told(AddressAssigned)[-1].addresses if ip_address(a).version == version
        )
        there = Flow(self.world, client, self.server, inside, server_inside, interval=interval)
        back = Flow(self.world, self.server, client, server_inside, inside, interval=interval)
        return there, back

    def exchange(
        self, client: Host, seconds: float = 2.0, *, server_inside: str = SERVER_INSIDE
    ) -> tuple[Flow, Flow]:
        """Let traffic flow for a while, and let the last of it arrive."""
        flows = self.flows(client, server_inside=server_inside)
        for flow in flows:
            flow.start()
        self.world.run(seconds)
        for flow in flows:
            flow.stop()
        self.world.run(2.0)
        return flows


def is_esp(datagram: Datagram) -> bool:
    """Whether this carries ESP."""
    return datagram.source.port == NATT_PORT and natt.classify(datagram.payload) is natt.Kind.ESP


def is_keepalive(datagram: Datagram) -> bool:
    """Whether this only keeps a mapping alive."""
    return datagram.source.port == NATT_PORT and natt.classify(datagram.payload) is natt.Kind.KEEPALIVE
