"""A host of the simulator: a whole peer, with memory in place of its sockets and its TUN device."""

from collections.abc import Callable
from typing import TypeVar

from espudp.errors import EspudpError
from espudp.ike.config import ConnectionConfig, ListenerConfig
from espudp.ike.events import AddressAssigned, ChildInstalled, ChildRemoved, ConnectionDown, ConnectionUp
from espudp.tunnel import Event, Tunnel
from espudp.wire.address import Path, UdpAddress
from espudp.wire.vnet import Frame
from tests.sim.link import ESP, UDP, Datagram, Link, Quality, Segment
from tests.sim.team import Team
from tests.sim.world import Timer, World

IKE_PORT = 500
NATT_PORT = 4500
NO_PORT = 0  # of ESP that is not in UDP

_E = TypeVar("_E")
_T = TypeVar("_T")

# A core that asks for its timer at once again and again would stop the clock.
_MAX_TURNS_PER_INSTANT = 10_000


class Host:
    """One tunnel, at one address first. `events` are all that it told, with their times; `on_*` are taps."""

    def __init__(
        self,
        world: World,
        segment: Segment,
        ip: str,
        *,
        name: str = "",
        quality: Quality | None = None,
        listener: ListenerConfig | None = None,
        path_mtu: int = 1500,
        workers: int = 1,
        plain_esp: bool = False,
    ) -> None:
        self.name = name or ip
        self.ip = ip
        self.world = world
        self.link = Link(world, self.name, quality)
        self.events: list[tuple[float, Event]] = []
        self.on_packet: list[Callable[[bytes], None]] = []
        self.on_send: list[Callable[[Datagram], None]] = []
        self.on_event: list[Callable[[Event], None]] = []
        self.alive = True
        self._listener = listener
        self._path_mtu = path_mtu
        self._workers = workers
        self._plain_esp = plain_esp
        self._lives = 0
        self._timer: Timer | None = None
        self._turns = (0.0, 0)
        self.tunnel = self._new_tunnel()
        self._ports = {ip: segment.attach(ip, self, self.link)}

    # What a user does

    def connect(self, config: ConnectionConfig, server: str, *, natt_only: bool = False) -> int:
        """Connect to a server, from port 500 on or on port 4500 alone; returns the connection's number."""
        natt = Path(UdpAddress(self.ip, NATT_PORT), UdpAddress(server, NATT_PORT))
        plain = Path(UdpAddress(self.ip, IKE_PORT), UdpAddress(server, IKE_PORT))
        path, float_path = (natt, None) if natt_only else (plain, natt)
        return self.do(lambda tunnel: tunnel.connect(config, path, float_path, self.world.now))

    def do(self, command: Callable[[Tunnel], _T]) -> _T:
        """Give the tunnel a command, and let what follows from it happen."""
        result = command(self.tunnel)
        self._drain()
        return result

    def keep_up(self, config: ConnectionConfig, server: str, *, pause: float = 5.0) -> None:
        """Connect now, and again whenever the connection is down and trying again makes sense."""

        def again(event: Event) -> None:
            if isinstance(event, ConnectionDown) and event.retry and self.alive:
                self.world.call_later(pause, connect)

        def connect() -> None:
            if self.alive:
                self.connect(config, server)

        self.on_event.append(again)
        connect()

    def inject(self, payload: bytes, destination: str) -> None:
        """Send a datagram that no tunnel of ours made, from port 4500 to port 4500."""
        self._send(Datagram(UdpAddress(self.ip, NATT_PORT), UdpAddress(destination, NATT_PORT), payload))

    def plug_in(self, segment: Segment, ip: str, *, link: Link | None = None) -> Link:
        """Give it one more address, on a wire of its own; preferred to those that it has already."""
        link = link or Link(self.world, f"{self.name} {ip}", None)
        self._ports = {ip: segment.attach(ip, self, link), **self._ports}
        return link

    def unplug(self, ip: str) -> None:
        """Take an address away."""
        self._ports.pop(ip).segment.detach(ip)

    def look_around(self) -> None:
        """Have the tunnel know which addresses there are, as a host does whenever they may have changed."""
        addresses = [UdpAddress(ip, NATT_PORT) for ip in self._ports]
        self.do(lambda tunnel: tunnel.local_addresses_changed(addresses, self.world.now))

    def die(self) -> None:
        """Vanish without a word, and forget everything."""
        self.alive = False
        self._arm(None)

    def revive(self) -> None:
        """Come back as a fresh process at the same address."""
        self.tunnel = self._new_tunnel()
        self.alive = True

    # What scenarios ask

    def told(self, kind: type[_E]) -> list[_E]:
        """The events of one type, oldest first."""
        return [event for _, event in self.events if isinstance(event, kind)]

    @property
    def up(self) -> bool:
        """Whether the latest news of connections is that one is up and carries traffic."""
        for _, event in reversed(self.events):
            if isinstance(event, ConnectionDown):
                return False
            if isinstance(event, ChildInstalled):
                return True
        return False

    @property
    def connection(self) -> int:
        """The number of the latest connection that came up."""
        return self.told(ConnectionUp)[-1].connection

    @property
    def address(self) -> str:
        """The virtual address that it was given last."""
        return self.told(AddressAssigned)[-1].addresses[0]

    def children(self, connection: int | None = None) -> list[ChildInstalled]:
        """The child SAs that are installed, oldest first; of one connection, or of all."""
        gone = {event.spi_in for event in self.told(ChildRemoved)}
        down = {event.connection for event in self.told(ConnectionDown)}
        return [
            child
            for child in self.told(ChildInstalled)
            if child.spi_in not in gone
            and child.connection not in down
            and connection in (None, child.connection)
        ]

    # The operating system's part

    def send_packets(self, packets: list[bytes]) -> None:
        """Packets that applications on this host send into the tunnel."""
        if self.alive:
            self.tunnel.receive_packets(packets, self.world.now)
            self._drain()

    def receive(self, datagram: Datagram) -> None:
        """A datagram from the network."""
        if self.alive and datagram.destination.port in (IKE_PORT, NATT_PORT, NO_PORT):
            path = Path(datagram.destination, datagram.source)
            self.tunnel.receive_datagrams([datagram.payload], path, self.world.now, datagram.tos)
            self._drain()

    def _send(self, datagram: Datagram) -> None:
        """Nothing leaves from an address that is gone."""
        if (port := self._ports.get(datagram.source.ip)) is not None:
            port.send(datagram)

    def _new_tunnel(self) -> Tunnel:
        self._lives += 1
        chance = self.world.chance(f"host {self.name} {self._lives}")
        if self._workers > 1:
            return Team(chance, listener=self._listener, path_mtu=self._path_mtu, workers=self._workers)
        return Tunnel(
            chance.randbytes,
            listener=self._listener,
            path_mtu=self._path_mtu,
            plain_esp=self._plain_esp,
            wall_clock=lambda: self.world.wall_clock,
        )

    def _drain(self) -> None:
        now = self.world.now
        for path, payloads, tos in self.tunnel.datagrams_to_send(now):
            protocol = ESP if path.local.port == NO_PORT else UDP
            for payload in payloads:
                datagram = Datagram(path.local, path.remote, payload, tos, protocol)
                for seen in self.on_send:
                    seen(datagram)
                self._send(datagram)
        for packet in self.tunnel.packets_to_deliver():
            for take in self.on_packet:
                take(packet.packet if isinstance(packet, Frame) else bytes(packet))
        while (event := self.tunnel.next_event()) is not None:
            self.events.append((now, event))
            for hear in self.on_event:
                hear(event)
        self._arm(self.tunnel.poll_timer())

    def _arm(self, when: float | None) -> None:
        if self._timer is not None:
            if self._timer.when == when and not self._timer.cancelled:
                return
            self._timer.cancel()
        self._timer = None if when is None else self.world.call_at(when, self._tick)

    def _tick(self) -> None:
        self._timer = None
        then, turns = self._turns
        self._turns = (self.world.now, turns + 1 if then == self.world.now else 1)
        if self._turns[1] > _MAX_TURNS_PER_INSTANT:
            raise EspudpError(f"{self.name} asks for its timer again and again without letting time pass")
        self.tunnel.handle_timer(self.world.now)
        self._drain()
