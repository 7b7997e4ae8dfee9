"""Two endpoints and the wire between them. Nothing moves, and no time passes, unless a test says so."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from ipaddress import IPv4Network
from random import Random
from typing import TypeVar

from espudp.ike.config import DYNAMIC, ChildConfig, ConnectionConfig, Identity, Limits, ListenerConfig, Timers
from espudp.ike.credentials import Demand, Proof, Psk, PskOf
from espudp.ike.encapsulation import Encapsulation
from espudp.ike.endpoint import Endpoint
from espudp.ike.events import ChildInstalled, ChildRemoved, ConnectionDown, ConnectionUp, Event
from espudp.ike.keylog import KeyLogEntry
from espudp.ike.lifetimes import LifetimeConfig
from espudp.ike.pad import PadEntry
from espudp.ike.proposals import EspProposal, IkeProposal
from espudp.ike.v2.connection import Connection
from espudp.ike.v2.established import Established
from espudp.ike.v2.hub import State
from espudp.wire.address import Path, UdpAddress
from espudp.wire.ikev2.header import Header
from espudp.wire.ikev2.message import emit_message, parse_message
from espudp.wire.ikev2.payloads import Payload
from espudp.wire.selectors import TrafficSelector
from tests.unit.crypto.certs import NOW

CLIENT, SERVER = "198.51.100.7", "192.0.2.1"
CLIENT_ID, SERVER_ID = Identity.parse("client.example.org"), Identity.parse("server.example.org")
PSK = b"correct horse battery staple"
START = 1000.0

IKE = IkeProposal.parse("aes128gcm16-prfsha256-curve25519")
ESP = EspProposal.parse("aes128gcm16")
PFS = EspProposal.parse("aes128gcm16-curve25519")
FOREVER = LifetimeConfig(soft_seconds=None, hard_seconds=None)
TIMERS = Timers(ike_lifetime=FOREVER)

_E = TypeVar("_E", bound=Event)
Datagram = tuple[bytes, Path]


def client_child(*proposals: EspProposal, remote: str = "10.1.0.0/16") -> ChildConfig:
    return ChildConfig(
        remote=(TrafficSelector.from_network(remote),), proposals=proposals or (ESP,), lifetime=FOREVER
    )


def client_config(
    *,
    psk: bytes = PSK,
    proof: Proof | None = None,
    demand: Demand | None = None,
    identity: Identity = CLIENT_ID,
    remote_identity: Identity | None = SERVER_ID,
    ike: Sequence[IkeProposal] = (IKE,),
    child: ChildConfig | None = None,
    addresses: tuple[str, ...] = ("any4",),
    timers: Timers = TIMERS,
    force_encap: bool = False,
    mobike: bool = True,
    encap: Encapsulation = Encapsulation.AUTO,
) -> ConnectionConfig:
    """It asks for no tickets, so that every message has what is looked for, and nothing else."""
    return ConnectionConfig(
        local_identity=identity,
        remote_identity=remote_identity,
        proof=proof or Psk(psk),
        demand=demand or PskOf(psk),
        child=child or client_child(),
        ike_proposals=tuple(ike),
        request_addresses=addresses,
        timers=timers,
        encap=Encapsulation.ALWAYS if force_encap else encap,
        mobike=mobike,
        resume=False,
    )


def server_config(
    *,
    psks: tuple[tuple[Identity | None, bytes], ...] = ((None, PSK),),
    pad: tuple[PadEntry, ...] | None = None,
    ike: Sequence[IkeProposal] = (IKE,),
    esp: Sequence[EspProposal] = (ESP,),
    limits: Limits | None = None,
    timers: Timers = TIMERS,
    pool: str = "10.99.0.0/24",
    dns: tuple[str, ...] = ("10.1.0.53",),
) -> ListenerConfig:
    return ListenerConfig(
        local_identity=SERVER_ID,
        pad=tuple(PadEntry.of_psk(key, peer) for peer, key in psks) if pad is None else pad,
        child=ChildConfig(
            local=(TrafficSelector.from_network("10.1.0.0/16"),),
            remote=(DYNAMIC,),
            proposals=tuple(esp),
            lifetime=FOREVER,
        ),
        ike_proposals=tuple(ike),
        pool=(IPv4Network(pool),),
        dns=dns,
        limits=limits or Limits(),
        timers=timers,
    )


def path_to_server(port: int, source: int | None = None) -> Path:
    return Path(UdpAddress(CLIENT, source or port), UdpAddress(SERVER, port))


def mirrored(path: Path) -> Path:
    """The same flow, seen from the other end."""
    return Path(path.remote, path.local)


class Side:
    """One endpoint, what it has told, and whom it talks to."""

    def __init__(self, seed: str, listener: ListenerConfig | None = None, workers: int = 1) -> None:
        self.keys: list[KeyLogEntry] = []
        rng = Random(seed).randbytes
        self.endpoint = Endpoint(
            rng, listener=listener, key_log=self.keys.append, workers=workers, wall_clock=lambda: NOW
        )
        self.events: list[Event] = []

    def collect(self) -> None:
        while (event := self.endpoint.next_event()) is not None:
            self.events.append(event)

    def told(self, kind: type[_E]) -> list[_E]:
        self.collect()
        return [e for e in self.events if isinstance(e, kind)]

    def forget(self) -> None:
        self.collect()
        self.events.clear()

    @property
    def children(self) -> list[ChildInstalled]:
        """Those that carry traffic or receive: installed, and not removed."""
        gone = {e.spi_in for e in self.told(ChildRemoved)}
        return [e for e in self.told(ChildInstalled) if e.spi_in not in gone]

    # What is inside, for tests that play a peer which breaks the rules.

    @property
    def connection(self) -> Connection:
        (connection,) = self.endpoint._hub.connections.values()
        return connection

    @property
    def ike(self) -> Established:
        current = self.connection.current
        assert current is not None
        return current

    @property
    def states(self) -> list[State]:
        return list(self.endpoint._hub.states.values())

    @property
    def state_names(self) -> list[str]:
        return sorted(type(state).__name__ for state in self.states)

    def request(self, exchange: int, payloads: Sequence[Payload], now: float) -> None:
        """Ask the peer something that no endpoint of ours would ask."""
        self.ike.sa.request(exchange, payloads, self.connection.path, now)


class Pair:
    """`client` dials `server`. `workers`: of each."""

    def __init__(
        self,
        client: ConnectionConfig | None = None,
        server: ListenerConfig | None = None,
        *,
        seed: int = 0,
        workers: tuple[int, int] = (1, 1),
    ) -> None:
        self.now = START
        self.config = client or client_config()
        self.client = Side(f"client {seed}", workers=workers[0])
        self.server = Side(f"server {seed}", server or server_config(), workers[1])
        self.wire: list[Datagram] = []
        """All that was ever sent, seen from the sender."""

    def dial(
        self, config: ConnectionConfig | None = None, *, port: int = 500, source: int | None = None
    ) -> int:
        float_path = path_to_server(4500, None if source is None else source + 4000) if port == 500 else None
        return self.client.endpoint.connect(
            config or self.config, path_to_server(port, source), float_path, self.now
        )

    def connect(self) -> "Pair":
        """The tunnel is up on both sides, and its events are forgotten."""
        self.dial()
        self.flush()
        assert self.client.told(ConnectionUp)
        assert self.server.told(ConnectionUp)
        return self

    def take(self, side: Side) -> list[Datagram]:
        """What this side sends, to be given to the other one later, or never."""
        sent = side.endpoint.datagrams_to_send(self.now)
        self.wire += sent
        return sent

    def give(self, side: Side, datagram: Datagram) -> None:
        """Deliver a datagram that the other side has sent."""
        data, path = datagram
        side.endpoint.receive_datagram(data, mirrored(path), self.now)

    def move(self, sender: Side, *, lose: Callable[[Datagram], bool] = lambda _: False) -> int:
        """Everything that one side has to say, to the other."""
        sent = self.take(sender)
        for datagram in sent:
            if not lose(datagram):
                self.give(self.client if sender is self.server else self.server, datagram)
        return len(sent)

    def flush(self) -> None:
        """Until both have nothing to say. A side that was told to wake at once is woken."""
        for _ in range(50):
            moved = self.move(self.client) + self.move(self.server)
            for side in (self.client, self.server):
                due = side.endpoint.poll_timer()
                if due is not None and due <= self.now:
                    side.endpoint.handle_timer(self.now)
                    moved += 1
            if not moved:
                return
        raise AssertionError("the two never stop")

    def wait(self, seconds: float, *, flush: bool = True) -> None:
        """Let time pass, with both timers served on time."""
        end = self.now + seconds
        for _ in range(10_000):
            timers = [s.endpoint.poll_timer() for s in (self.client, self.server)]
            due = min((t for t in timers if t is not None), default=end)
            if due > end:
                break
            self.now = max(self.now, due)
            for side in (self.client, self.server):
                side.endpoint.handle_timer(self.now)
            if flush:
                self.flush()
        self.now = end

    def agree(self) -> None:
        """Both have the same SAs, and the keys of each match."""
        here = {(c.spi_in, c.spi_out, c.keys_in, c.keys_out) for c in self.client.children}
        there = {(c.spi_out, c.spi_in, c.keys_out, c.keys_in) for c in self.server.children}
        assert here == there
        assert self.client.ike.sa.spi_i == self.server.ike.sa.spi_i
        assert self.client.ike.sa.spi_r == self.server.ike.sa.spi_r
        assert not self.client.told(ConnectionDown) + self.server.told(ConnectionDown)


def headers(datagrams: Sequence[Datagram]) -> list[Header]:
    return [Header.parse(data) for data, _ in datagrams]


def rewritten(datagram: Datagram, *payloads: Payload, spi_r: bytes | None = None) -> Datagram:
    """The same header with other payloads, as anybody on the way can write it."""
    data, path = datagram
    header = Header.parse(data)
    if spi_r is not None:
        header = replace(header, spi_r=spi_r)
    return emit_message(header, payloads), path


def notified(datagram: Datagram) -> list[int]:
    return [n.type for n in parse_message(datagram[0]).notifies()]
