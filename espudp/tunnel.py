"""A whole peer: IKE and ESP put together. Still sans-IO: datagrams and packets in, datagrams and packets out.

`Tunnel` is what a host drives. It decides what a datagram is (RFC 3948), hands IKE to `ike.Endpoint`
and ESP to `esp.DataPath`, carries what one tells the other, and keeps NAT mappings alive.

Four kinds of method: commands; `receive_*`; one timer (`poll_timer`, `handle_timer`); and the drains
`datagrams_to_send`, `packets_to_deliver` and `next_event`, to be emptied after each of the others.
"""

from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from enum import Enum
from ipaddress import ip_address

from espudp.crypto.random import Rng
from espudp.crypto.suites import EspSuite
from espudp.errors import EspudpError
from espudp.esp import datapath
from espudp.esp.datapath import DataPath
from espudp.esp.sa import ChildKeys, Lifetime
from espudp.esp.snapshot import SaSnapshot
from espudp.esp.stand_ins import DEFAULT_NETWORKS, Network, StandIns
from espudp.ike import events
from espudp.ike.config import ChildConfig, ConnectionConfig, ListenerConfig
from espudp.ike.credentials import WallClock
from espudp.ike.eap.passthrough import BackendAnswer
from espudp.ike.endpoint import Endpoint
from espudp.ike.identity import Identity
from espudp.ike.keylog import KeyLogEntry
from espudp.ike.snapshot import ConnectionSnapshot
from espudp.manual import ManualConfig
from espudp.wire import ip, natt
from espudp.wire.address import Path, UdpAddress
from espudp.wire.buffer import Buffer
from espudp.wire.train import Burst, Train
from espudp.wire.vnet import Frame, Offload, owned

# RFC 3948 section 4: the default interval, and only when nothing else was sent.
KEEPALIVE_SECONDS = 20.0

# What a path carries until the host says otherwise: Ethernet's.
DEFAULT_PATH_MTU = 1500

# So many paths are remembered before those are forgotten that lead to no peer any more.
PATH_MTUS_MAX = 1 << 15

# RFC 3948 section 3.1.1: the port where IKE goes without a marker, and ESP only behind one.
PLAIN_IKE_PORTS = frozenset({500})


class Drop(Enum):
    """Why a datagram went no further than the demultiplexer."""

    RUNT = "runt"  # too short to be anything (RFC 3948 section 2)
    KEEPALIVE = "keepalive"  # has done its work by arriving (RFC 3948 section 2.3)


@dataclass(frozen=True, slots=True)
class MtuChanged:
    """The largest inner packet, in octets, that one datagram of this connection can carry."""

    connection: int
    mtu: int


@dataclass(frozen=True, slots=True)
class ManualUp:
    """A manually keyed pair of SAs carries traffic now."""

    connection: int
    child: ChildKeys


Event = events.Event | MtuChanged | ManualUp


@dataclass(slots=True)
class _Connection:
    """What the tunnel itself remembers of a peer, beside what IKE and ESP each know."""

    path: Path
    peer: Identity | None = None  # as it has proved to be
    behind_nat: bool = False  # we are, so keepalives are ours to send (RFC 3948 section 4)
    peer_behind_nat: bool = True  # it may turn up at a new mapping (RFC 7296 section 2.23)
    suites: dict[int, EspSuite] = field(default_factory=dict)  # by inbound SPI
    in_transport: set[int] = field(default_factory=set)  # of these, the child SAs in transport mode
    mtu: int = 0


@dataclass(frozen=True, slots=True)
class TunnelSnapshot:
    """What `espudp status` shows. Never a key."""

    connections: list[ConnectionSnapshot]
    sas: list[SaSnapshot]
    mtus: dict[int, int]
    drops: dict[str, int]


class Tunnel:
    """Any number of peers over any number of paths.

    `ike_ports` are the local UDP ports on which IKE travels without the non-ESP marker. With several
    `workers` each child SA is for one of them, whom `ChildInstalled.resource` names. `dscp` is that of all
    ESP datagrams; None: that of the packets inside. `esp` is a data path that knows these workers and this
    DSCP; None: one of the tunnel's own, which has all SAs. With `plain_esp` the host can send and receive ESP
    without UDP, over paths with port 0. `wall_clock` tells the time of day, with its zone, for certificates;
    None: there are none. `stand_ins` are networks of which peers of transport mode have addresses for this
    host where it could not tell them apart.
    """

    def __init__(
        self,
        rng: Rng,
        *,
        listener: ListenerConfig | None = None,
        ike_ports: frozenset[int] = PLAIN_IKE_PORTS,
        path_mtu: int = DEFAULT_PATH_MTU,
        key_log: Callable[[KeyLogEntry], None] | None = None,
        workers: int = 1,
        plain_esp: bool = False,
        dscp: int | None = None,
        esp: DataPath | None = None,
        wall_clock: WallClock | None = None,
        stand_ins: Sequence[Network] = DEFAULT_NETWORKS,
    ) -> None:
        """Raises ConfigError for a DSCP that cannot be."""
        self._ike = Endpoint(
            rng,
            listener=listener,
            key_log=key_log,
            workers=workers,
            wall_clock=wall_clock,
            path_mtus=lambda address: self._path_mtu.get(address),
            plain_esp=plain_esp,
        )
        self._esp = DataPath(rng, dscp=dscp) if esp is None else esp
        self._esp_events = self._esp.events
        self._stand_ins = StandIns(stand_ins)
        self._ike_ports = ike_ports
        self._default_path_mtu = path_mtu
        self._path_mtu: dict[str, int] = {}
        self._connections: dict[int, _Connection] = {}
        self._last_sent: dict[Path, float] = {}  # only for paths that we keep alive
        self._keepalive_timer: float | None = None
        # What `poll_timer` said last; packets and ESP that nothing comes of do not change it.
        self._timer: float | None = None
        self._timer_is_known = False
        self._manual_count = 0
        self._trains: list[Train] = []
        self._packets: list[Buffer | Frame] = []
        self._events: deque[Event] = deque()
        self.drops: Counter[Drop] = Counter()

    # Commands

    def connect(self, config: ConnectionConfig, path: Path, float_path: Path | None, now: float) -> int:
        """Start a connection; returns its number. See `ike.Endpoint.connect` for the two paths."""
        connection = self._ike.connect(config, path, float_path, now)
        self._carry(now)
        return connection

    def close(self, connection: int, now: float) -> None:
        """Delete one connection at the peer too; ConnectionDown tells when that is done."""
        if connection < 0:
            self._drop_manual(connection, now)
        else:
            self._ike.close(connection, now)
        self._carry(now)

    def close_all(self, now: float) -> None:
        """Delete every connection at its peer; a ConnectionDown for each tells when that is done."""
        for connection in [number for number in self._connections if number < 0]:
            self._drop_manual(connection, now)
        self._ike.close_all(now)
        self._carry(now)

    def rekey_ike(self, connection: int, now: float) -> None:
        """Replace the IKE SA by a fresh one, make before break."""
        self._ike.rekey_ike(connection, now)
        self._carry(now)

    def reauthenticate(self, connection: int, now: float) -> None:
        """Replace a connection that we have dialled by a new one, make before break."""
        self._ike.reauthenticate(connection, now)
        self._carry(now)

    def rekey_child(self, connection: int, spi_in: int, now: float) -> None:
        """Replace a pair of ESP SAs, named by its inbound SPI, make before break."""
        self._ike.rekey_child(connection, spi_in, now)
        self._carry(now)

    def create_child(self, connection: int, child: ChildConfig, now: float) -> None:
        """Negotiate one more pair of ESP SAs for a connection."""
        self._ike.create_child(connection, child, now)
        self._carry(now)

    def delete_child(self, connection: int, spi_in: int, now: float) -> None:
        """Delete a pair of ESP SAs at the peer too."""
        self._ike.delete_child(connection, spi_in, now)
        self._carry(now)

    def redirect(self, connection: int, gateway: str, now: float) -> None:
        """Send a client to another gateway, by address or name (RFC 5685). Raises ConfigError for neither."""
        self._ike.redirect(connection, gateway, now)
        self._carry(now)

    def check_alive(self, connection: int, now: float) -> None:
        """Ask the peer at once whether it is there (dead peer detection)."""
        self._ike.check_alive(connection, now)
        self._carry(now)

    def backend_answered(self, handle: int, answer: BackendAnswer, now: float) -> None:
        """What another server says about an EAP user, after BackendAsked."""
        self._ike.backend_answered(handle, answer, now)
        self._carry(now)

    def install_manual(self, manual: ManualConfig, path: Path, now: float) -> int:
        """Put a manually keyed pair of SAs to work; returns its connection number, which is negative.

        `path.remote` is where the peer is thought to be; with `manual.learn_peer` its first authentic
        packet says.
        """
        self._manual_count += 1
        connection = -self._manual_count
        state = self._connections[connection] = _Connection(
            path, behind_nat=manual.keepalive, peer_behind_nat=manual.learn_peer
        )
        state.suites[manual.spi_in] = manual.suite
        state.mtu = self._inner_mtu(state)
        child = ChildKeys(
            connection=connection,
            spi_in=manual.spi_in,
            spi_out=manual.spi_out,
            suite=manual.suite,
            keys_in=manual.keys_in,
            keys_out=manual.keys_out,
            local=manual.local,
            remote=manual.remote,
            path=path,
            lifetime=manual.lifetime,
            follow_peer=manual.learn_peer,
            replay_window=manual.replay_window,
            inner_mtu=state.mtu,
            replaces=None,
        )
        self._esp.install(child, now)
        self._watch_keepalive(state, now)
        self._timer_is_known = False
        self._events.append(ManualUp(connection, child))
        self._events.append(MtuChanged(connection, state.mtu))
        return connection

    def set_path_mtu(self, remote_ip: str, mtu: int) -> None:
        """The path to `remote_ip` carries IP packets of `mtu` octets, as the host learnt."""
        if mtu == self._path_mtu.get(remote_ip, self._default_path_mtu):
            return
        if len(self._path_mtu) >= PATH_MTUS_MAX:
            # Peers move as they like, and each address that they were at has been asked about.
            used = {state.path.remote.ip for state in self._connections.values()}
            self._path_mtu = {ip: known for ip, known in self._path_mtu.items() if ip in used}
        self._path_mtu[remote_ip] = mtu
        for number, state in self._connections.items():
            if state.path.remote.ip == remote_ip:
                self._set_inner_mtu(number, state)

    def set_offloads(self, offloads: Offload) -> None:
        """The frames that `packets_to_deliver` may hand out; none at first."""
        self._esp.set_offloads(offloads)

    def local_addresses_changed(self, addresses: Sequence[UdpAddress], now: float) -> None:
        """The host has these addresses to send from, or other routes; see `ike.Endpoint`."""
        self._ike.local_addresses_changed(addresses, now)
        self._carry(now)

    # What came in

    def receive_datagrams(
        self, datagrams: Sequence[Buffer] | Burst, path: Path, now: float, tos: int = 0
    ) -> None:
        """UDP payloads that arrived over one path with one TOS octet, in order. None of them is trusted.

        Over a path with ports 0 they are ESP without UDP (IP protocol 50), from the SPI on.
        """
        if self._packets:  # not drained yet, and in memory that is about to be written again
            self._packets = owned(self._packets)
        if path.local.port in self._ike_ports:
            self._receive_ike(datagrams, path, now, tos)
            return
        opened = self._esp.open_burst(datagrams, path, now, tos) if type(datagrams) is Burst else None
        if opened is not None:
            self._packets += opened
        elif type(datagrams) is Burst and len(datagrams.pieces) > 1:  # what is odd may be so in one of them
            for piece in datagrams.pieces:
                self.receive_datagrams(Burst(piece, datagrams.size), path, now, tos)
        else:
            self._receive_natt(datagrams, path, now, tos)
        if self._esp_events.waiting:
            self._carry(now)

    def _receive_ike(self, datagrams: Sequence[Buffer], path: Path, now: float, tos: int) -> None:
        """On IKE's own port: IKE, or ESP as some drafts of RFC 3947 have it."""
        for datagram in datagrams:
            esp = natt.esp_behind_marker(datagram)
            if esp is not None:
                self._packets += owned(self._esp.open([esp], path, now, tos))
            elif natt.is_keepalive(datagram):
                self.drops[Drop.KEEPALIVE] += 1
            else:
                self._ike.receive_datagram(datagram, path, now)
        self._carry(now)

    def _receive_natt(self, datagrams: Sequence[Buffer], path: Path, now: float, tos: int) -> None:
        """RFC 3948 section 2: keepalive, IKE or ESP. Runs of ESP, nearly everything, stay together."""
        if not path.local.port:
            self._packets += self._esp.open(datagrams, path, now, tos)
            return
        train: list[Buffer] = []
        for datagram in datagrams:
            kind = natt.classify(datagram)
            if kind is natt.Kind.ESP:
                train.append(datagram)
            elif kind is natt.Kind.IKE:
                if train:
                    self._packets += self._esp.open(train, path, now, tos)
                    train = []
                self._ike.receive_datagram(memoryview(datagram)[len(natt.NON_ESP_MARKER) :], path, now)
                self._carry(now)
            else:
                self.drops[Drop.KEEPALIVE if kind is natt.Kind.KEEPALIVE else Drop.RUNT] += 1
        if train:
            self._packets += self._esp.open(train, path, now, tos)

    def receive_packets(self, packets: Sequence[Buffer | Frame], now: float) -> None:
        """IP packets that the host routed into the TUN device."""
        if self._trains:
            self._trains = [train.copy() for train in self._trains]
        for train in self._esp.seal(packets, now):
            in_front = train.path.local.port in self._ike_ports
            self._trains.append(train.behind(natt.NON_IKE_MARKER) if in_front else train)
            if train.path in self._last_sent:
                self._last_sent[train.path] = now
        if self._esp.replies:
            self._packets += self._esp.take_replies()
        if self._esp_events.waiting:
            self._carry(now)

    def attend(self, now: float) -> None:
        """Something else than the tunnel made its data path speak: act on what it says."""
        self._carry(now)

    # Time

    def poll_timer(self) -> float | None:
        """When `handle_timer` wants to be called next; calls before that do nothing."""
        if not self._timer_is_known:
            timers = (self._ike.poll_timer(), self._esp.poll_timer(), self._keepalive_timer)
            self._timer = min((timer for timer in timers if timer is not None), default=None)
            self._timer_is_known = True
        return self._timer

    def handle_timer(self, now: float) -> None:
        """Whatever is due: retransmissions, lifetimes, dead peer detection, keepalives."""
        self._tell_heard()
        self._esp.handle_timer(now)
        self._carry(now)
        self._ike.handle_timer(now)
        self._carry(now)
        if self._keepalive_timer is not None and now >= self._keepalive_timer:
            self._send_keepalives(now)
        self._timer_is_known = False

    def _tell_heard(self) -> None:
        """ESP that arrived shows IKE that a peer lives; told when it matters, not for each packet."""
        for connection, heard in self._esp.take_heard():
            if connection > 0:
                self._ike.note_inbound(connection, heard)

    def _watch_keepalive(self, state: _Connection, now: float) -> None:
        """Start keeping the path of a connection alive, if that is our part."""
        if not state.behind_nat or not state.path.local.port:
            return
        self._last_sent.setdefault(state.path, now)
        due = now + KEEPALIVE_SECONDS
        self._keepalive_timer = due if self._keepalive_timer is None else min(self._keepalive_timer, due)

    def _send_keepalives(self, now: float) -> None:
        for path, sent in self._last_sent.items():
            if sent + KEEPALIVE_SECONDS <= now:
                self._trains.append(Train(path, [natt.KEEPALIVE]))
                self._last_sent[path] = now
        self._keepalive_timer = min(self._last_sent.values(), default=now) + KEEPALIVE_SECONDS
        if not self._last_sent:
            self._keepalive_timer = None

    # Drains

    def datagrams_to_send(self, now: float) -> list[Train]:
        """Trains of UDP payloads, each for one path. Bursts hold until the next `receive_packets`."""
        trains, self._trains = self._trains, []
        for message, path in self._ike.datagrams_to_send(now):
            marked = message if path.local.port in self._ike_ports else natt.NON_ESP_MARKER + message
            trains.append(Train(path, [marked]))
            if path in self._last_sent:
                self._last_sent[path] = now
        return trains

    def packets_to_deliver(self) -> list[Buffer | Frame]:
        """IP packets for the TUN device. With offloads they hold until the next `receive_datagrams`."""
        packets, self._packets = self._packets, []
        return packets

    def next_event(self) -> Event | None:
        """What the host should know or act on, oldest first; None when there is nothing."""
        return self._events.popleft() if self._events else None

    def snapshot(self, now: float) -> TunnelSnapshot:
        """What `espudp status` shows: every peer and SA, counters and drops, never a key."""
        self._tell_heard()
        drops: Counter[str] = Counter()
        for source in (self.drops, self._ike.drops, self._esp.drops):
            drops.update({reason.value: count for reason, count in source.items()})
        return TunnelSnapshot(
            connections=self._ike.snapshot(now),
            sas=self._esp.snapshot(now),
            mtus={number: state.mtu for number, state in self._connections.items()},
            drops=dict(drops),
        )

    # What IKE and ESP tell each other

    def _carry(self, now: float) -> None:
        """Carry events between IKE and ESP until both are silent, and keep those for the host."""
        self._timer_is_known = False
        while True:
            ike_event = self._ike.next_event()
            if ike_event is not None:
                told = self._on_ike(ike_event, now)
                if told is not None:
                    self._events.append(told)
                continue
            esp_event = self._esp.next_event()
            if esp_event is None:
                return
            self._on_esp(esp_event, now)

    def _on_ike(self, event: events.Event, now: float) -> events.Event | None:
        """Act on it; what the host is to be told. None: nothing."""
        match event:
            case events.ConnectionUp():
                state = _Connection(event.path, event.remote_identity, event.nat.local, event.nat.remote)
                self._connections[event.connection] = state
                self._watch_keepalive(state, now)
            case events.ChildInstalled():
                return self._install(event, now)
            case events.ChildConfirmed():
                self._esp.confirm(event.spi_in)
            case events.ChildRemoved():
                self._esp.remove(event.spi_in, now, linger=event.linger)
                self._stand_ins.remove(event.spi_in, now)
                if (known := self._connections.get(event.connection)) is not None:
                    known.in_transport.discard(event.spi_in)
                    if known.suites.pop(event.spi_in, None) is None:
                        return None  # it was never at work
            case events.PathChanged():
                self._esp.move(event.connection, event.path)
                self._moved(event.connection, event.path, now, event.nat)
            case events.ConnectionDown():
                self._forget(event.connection, now)
        return event

    def _install(self, event: events.ChildInstalled, now: float) -> events.ChildInstalled | None:
        """What the host is told has the addresses that it is shown. None: it cannot be."""
        state = self._connections.setdefault(event.connection, _Connection(event.path))
        self._moved(event.connection, event.path, now)
        state.suites[event.spi_in] = event.suite
        if event.transport is not None:
            state.in_transport.add(event.spi_in)
        self._set_inner_mtu(event.connection, state)
        child = ChildKeys(
            connection=event.connection,
            spi_in=event.spi_in,
            spi_out=event.spi_out,
            suite=event.suite,
            keys_in=event.keys_in,
            keys_out=event.keys_out,
            local=event.local,
            remote=event.remote,
            path=event.path,
            lifetime=Lifetime(**asdict(event.lifetime)),  # the same limits
            follow_peer=state.peer_behind_nat,
            replay_window=event.replay_window,
            inner_mtu=state.mtu,
            replaces=event.replaces,
            transport=event.transport,
        )
        try:
            if event.transport is not None:
                transport, remote = self._stand_ins.place(child, event.transport, state.peer, now)
                child = replace(child, transport=transport, remote=remote)
                event = replace(event, transport=transport, remote=remote)
            self._esp.install(child, now, standby=event.standby)
        except EspudpError as error:
            # No room for it, or keys that cannot be: the peer must not send what we cannot open.
            self._note(event.connection, f"the child SA {event.spi_in:08x} is deleted again: {error}")
            self._ike.delete_child(event.connection, event.spi_in, now)
            del state.suites[event.spi_in]
            return None
        return event

    def _on_esp(self, event: datapath.Event, now: float) -> None:
        match event:
            case datapath.SoftExpired(connection, spi_in) if connection > 0:
                self._ike.rekey_child(connection, spi_in, now)
            case datapath.HardExpired(connection, spi_in) if connection > 0:
                self._ike.delete_child(connection, spi_in, now)
            case datapath.SoftExpired(connection):
                self._note(connection, "the manual keys are close to the end of their life: make new ones")
            case datapath.HardExpired(connection):
                self._drop_manual(connection, now)
            case datapath.PeerReady(connection, spi_in):
                self._ike.child_used(connection, spi_in, now)
            case datapath.PeerMoved(connection, path):
                self._moved(connection, path, now)
                if connection > 0:
                    self._ike.move(connection, path, now)
                self._events.append(events.PathChanged(connection, path))
            case datapath.UnknownSpi(spi, path):
                if path.remote.port:
                    self._ike.unknown_spi(spi, path, now)
                self._note(None, f"ESP for the unknown SPI {spi:08x} from {path.remote}")

    def _note(self, connection: int | None, text: str) -> None:
        self._events.append(events.Diagnostic(connection, text))

    def _moved(self, connection: int, path: Path, now: float, nat: events.NatStatus | None = None) -> None:
        state = self._connections.get(connection)
        if state is None or (state.path == path and nat is None):
            return
        self._unwatch(state.path, connection)
        self._stand_ins.move(connection, path.remote)
        state.path = path
        if nat is not None:
            state.behind_nat, state.peer_behind_nat = nat.local, nat.remote
        self._watch_keepalive(state, now)
        self._set_inner_mtu(connection, state)

    def _unwatch(self, path: Path, connection: int) -> None:
        others = (s for number, s in self._connections.items() if number != connection)
        if path in self._last_sent and not any(s.path == path for s in others):
            del self._last_sent[path]

    def _forget(self, connection: int, now: float) -> None:
        self._esp.remove_connection(connection, now)
        self._stand_ins.remove_connection(connection, now)
        state = self._connections.pop(connection, None)
        if state is not None:
            self._unwatch(state.path, connection)

    def _drop_manual(self, connection: int, now: float) -> None:
        self._forget(connection, now)
        self._events.append(
            events.ConnectionDown(
                connection,
                reason="the manually keyed SAs are gone",
                remedy="Make a new pair of key files with `espudp keygen --manual`.",
                fault=events.Fault.LOCAL_REQUEST,
                retry=False,
            )
        )

    # MTU

    def _inner_mtu(self, state: _Connection) -> int:
        """The path's MTU less the outer headers and the overhead of the costliest suite in use."""
        remote = state.path.remote.ip
        outer = ip.IPV6_HEADER_OCTETS if ip_address(remote).version == 6 else ip.IPV4_HEADER_OCTETS
        in_front = natt.octets_before_esp(state.path, self._ike_ports)
        room = self._path_mtu.get(remote, self._default_path_mtu) - outer - in_front
        # In transport mode the outer header is the packet's own.
        return min(
            suite.max_inner(room) + (outer if spi in state.in_transport else 0)
            for spi, suite in state.suites.items()
        )

    def _set_inner_mtu(self, connection: int, state: _Connection) -> None:
        if not state.suites:
            return
        mtu = self._inner_mtu(state)
        if mtu != state.mtu:
            state.mtu = mtu
            self._esp.set_inner_mtu(connection, mtu)
            self._events.append(MtuChanged(connection, mtu))
