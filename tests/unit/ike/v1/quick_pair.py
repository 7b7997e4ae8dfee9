"""Two peers whose phase 1 is over, and the wire between them. Nothing moves, and no time passes, unless a
test says so. Their keys come from a seed: how a phase 1 goes is not looked at here.
"""

from collections.abc import Callable, Sequence
from random import Random
from typing import TypeVar

from espudp.crypto.ikev1keys import Ikev1Suite, derive_keys, hash_by_keyword
from espudp.crypto.suites import dh_by_keyword, encr_by_keyword
from espudp.ike.commons import Commons
from espudp.ike.config import ChildConfig, ConnectionConfig, Identity, Limits, ListenerConfig, Timers
from espudp.ike.credentials import Psk, PskOf
from espudp.ike.events import ChildInstalled, ChildRemoved, Event
from espudp.ike.ikev1_config import Ikev1Config, Ikev1Policy, NatTraversal
from espudp.ike.lifetimes import LifetimeConfig
from espudp.ike.natd import NatStatus
from espudp.ike.pad import PadEntry
from espudp.ike.proposals import EspProposal
from espudp.ike.v1 import informational
from espudp.ike.v1.child import Child
from espudp.ike.v1.connection import Connection
from espudp.ike.v1.established import Established
from espudp.ike.v1.exchange import Turn
from espudp.ike.v1.hub import Datagram, Hub
from espudp.ike.v1.natt import FLAVOURS
from espudp.ike.v1.opening import OpenConnection
from espudp.ike.v1.phase1 import Phase1, Policy, Step
from espudp.ike.v1.quick_initiator import StartChildren
from espudp.ike.v1.quick_responder import answer_quick
from espudp.ike.v1.sa import Cookies, IsakmpSa
from espudp.ike.v1.vendor import Abilities
from espudp.ike.v1.ways import WAYS
from espudp.wire.address import Path, UdpAddress
from espudp.wire.ikev1.constants import AuthMethod, ExchangeType
from espudp.wire.ikev1.header import Header
from espudp.wire.selectors import TrafficSelector
from espudp.wire.transport import Mode

CLIENT, SERVER = "198.51.100.7", "192.0.2.1"
START = 1000.0
FOREVER = LifetimeConfig(soft_seconds=None, hard_seconds=None)
TIMERS = Timers(ike_lifetime=FOREVER)
PSK = b"correct horse battery staple"
BEHIND_NAT = NatStatus(local=True)

_E = TypeVar("_E", bound=Event)


def networks(*texts: str) -> tuple[TrafficSelector, ...]:
    return tuple(TrafficSelector.from_network(text) for text in texts)


def child_config(
    *esp: str,
    local: Sequence[object] = networks("10.9.0.1/32"),
    remote: Sequence[object] = networks("10.1.0.0/16"),
    lifetime: LifetimeConfig = FOREVER,
    mode: Mode = Mode.TUNNEL,
) -> ChildConfig:
    return ChildConfig(
        local=tuple(local),  # type: ignore[arg-type]
        remote=tuple(remote),  # type: ignore[arg-type]
        proposals=tuple(map(EspProposal.parse, esp or ("aes128gcm16", "aes128-sha1"))),
        lifetime=lifetime,
        mode=mode,
    )


def client_policy(child: ChildConfig | None = None, timers: Timers = TIMERS) -> ConnectionConfig:
    return ConnectionConfig(
        local_identity=Identity.parse("client@example.org"),
        proof=Psk(PSK),
        demand=PskOf(PSK),
        child=child or child_config(),
        timers=timers,
        ikev1=Ikev1Config(),
    )


def server_policy(child: ChildConfig | None = None, timers: Timers = TIMERS) -> ListenerConfig:
    return ListenerConfig(
        local_identity=Identity.parse("server.example.org"),
        pad=(PadEntry.of_psk(PSK),),
        child=child or child_config(local=networks("10.1.0.0/16"), remote=networks("10.9.0.0/16")),
        timers=timers,
        limits=Limits(children_per_connection=4),
        ikev1=Ikev1Policy(),
    )


def suite() -> Ikev1Suite:
    encr, hash_, dh = encr_by_keyword("aes128"), hash_by_keyword("sha256"), dh_by_keyword("modp2048")
    assert encr is not None
    assert hash_ is not None
    assert dh is not None
    return Ikev1Suite(encr, hash_, dh)


class Side:
    """One of the two."""

    def __init__(self, pair: "Pair", name: str, policy: Policy) -> None:
        self.pair = pair
        self.name = name
        self.policy = policy
        is_client = isinstance(policy, ConnectionConfig)
        listener = None if isinstance(policy, ConnectionConfig) else policy
        self.commons = Commons(Random(f"{pair.seed} {name}").randbytes, listener, None)
        self.hub = Hub(self.commons)
        self.hub.handlers = {
            ExchangeType.QUICK: answer_quick,
            ExchangeType.INFORMATIONAL: informational.receive,
        }
        here, there = (CLIENT, SERVER) if is_client else (SERVER, CLIENT)
        port = 4500 if pair.nat.found else 500
        self.path = Path(UdpAddress(here, port), UdpAddress(there, port))
        self.is_client = is_client
        self.events: list[Event] = []
        self.established = self.phase_1(1)

    def phase_1(self, number: int, *, ours: bool | None = None, replaces: bool = False) -> Established:
        """A new ISAKMP SA, whose first message was sent just now."""
        initiator = self.is_client if ours is None else ours
        cookie_i, cookie_r = number.to_bytes(8), (number + 0x8000).to_bytes(8)
        row = suite()
        keys = derive_keys(row, b"skeyid" * 5, b"g^xy" * 64, cookie_i, cookie_r)
        abilities = Abilities(dpd=self.pair.dpd, unity=self.pair.unity, flavour=self.pair.flavour)
        sa = IsakmpSa(
            self.hub,
            Cookies(cookie_i, cookie_r, initiator),
            row,
            keys,
            bytes([number]) * 16,
            mode=ExchangeType.MAIN,
            timers=self.policy.timers,
            abilities=abilities,
        )
        nat = self.pair.nat if self.is_client else NatStatus(self.pair.nat.remote, self.pair.nat.local)
        them = "server.example.org" if self.is_client else "client@example.org"
        us = "client@example.org" if self.is_client else "server.example.org"
        known = self.connection if replaces else None
        phase1 = Phase1(
            policy=self.policy,
            sa=sa,
            turn=Turn(sa, sa.timers),
            path=self.path,
            outer=self.path.remote.ip,
            nat=nat,
            encapsulates=nat.found,
            way=WAYS[AuthMethod.PSK],
            local_identity=Identity.parse(us),
            remote_identity=Identity.parse(them),
            lifetime_seconds=self.pair.phase_1_seconds,
            entry=None if initiator else PadEntry.of_psk(PSK),
            number=None if not initiator or replaces else self.commons.next_number(),
            replaces=known if initiator else None,
            began_at=self.pair.now,
        )
        steps: list[Step] = [OpenConnection()]
        if initiator:
            steps.append(StartChildren())
        established = Established(self.hub, phase1, steps, self.pair.now)
        self.hub.put(established)
        return established

    @property
    def connection(self) -> Connection:
        """The only one."""
        (connection,) = self.hub.connections.values()
        return connection

    def children(self) -> list[Child]:
        """Those that IKE has."""
        return list(self.connection.children.values())

    def told(self, kind: type[_E]) -> list[_E]:
        """Events of one type, oldest first."""
        self.events += self.commons.events
        self.commons.events.clear()
        return [event for event in self.events if isinstance(event, kind)]

    def installed(self) -> list[ChildInstalled]:
        gone = {event.spi_in for event in self.told(ChildRemoved)}
        return [event for event in self.told(ChildInstalled) if event.spi_in not in gone]

    def take(self) -> list[bytes]:
        """What it has sent."""
        sent, self.commons.outbox = [octets for octets, _ in self.commons.outbox], []
        return sent

    def receive(self, octets: bytes) -> None:
        """A datagram from where the other side is."""
        header = Header.parse(octets)
        for is_initiator, cookie in ((True, header.cookie_i), (False, header.cookie_r)):
            state = self.hub.states.get((is_initiator, cookie))
            if state is not None:
                state.receive(Datagram(octets, header, self.path, self.pair.now), self.pair.now)

    def tick(self) -> None:
        """What is due now."""
        for item in self.hub.timers.take_due(self.pair.now):
            item.handle_timer(self.pair.now)

    def spoil(self, change: Callable[[bytes], bytes]) -> None:
        """Changes what it is about to send."""
        self.commons.outbox = [(change(octets), path) for octets, path in self.commons.outbox]


class Pair:
    """A client and a server."""

    def __init__(
        self,
        client: ConnectionConfig | None = None,
        server: ListenerConfig | None = None,
        *,
        seed: int = 0,
        nat: NatStatus = BEHIND_NAT,
        version: NatTraversal = NatTraversal.RFC_3947,
        dpd: bool = True,
        unity: bool = False,
        phase_1_seconds: float | None = None,
    ) -> None:
        self.seed, self.nat, self.dpd, self.unity = seed, nat, dpd, unity
        self.phase_1_seconds = phase_1_seconds
        self.flavour = FLAVOURS[version]
        self.now = START
        self.client = Side(self, "client", client or client_policy())
        self.server = Side(self, "server", server or server_policy())

    @property
    def sides(self) -> tuple[Side, Side]:
        return self.client, self.server

    def start(self) -> None:
        """Both have finished phase 1; the client's first quick mode waits to be carried."""
        for side in (self.server, self.client):
            side.established.next_step(self.now)

    def carry(self, turns: int = 20) -> None:
        """Delivers everything both ways until there is silence."""
        for _ in range(turns):
            there, back = self.client.take(), self.server.take()
            if not there and not back:
                return
            for octets in there:
                self.server.receive(octets)
            for octets in back:
                self.client.receive(octets)

    def up(self) -> "Pair":
        """Both have what was asked for first."""
        self.start()
        self.carry()
        return self

    def wait(self, seconds: float, *, step: float = 0.5, carry: bool = True) -> None:
        """Time passes."""
        until = self.now + seconds
        while self.now < until:
            self.now = min(self.now + step, until)
            for side in self.sides:
                side.tick()
            if carry:
                self.carry()

    def in_step(self) -> bool:
        """Whether both have the same child SAs."""
        ours = {(c.spi_in, c.spi_out) for c in self.client.children()}
        theirs = {(c.spi_out, c.spi_in) for c in self.server.children()}
        return ours == theirs
