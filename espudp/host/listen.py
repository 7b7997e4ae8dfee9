"""`espudp listen`: any number of peers."""

import asyncio
from collections.abc import Iterable
from dataclasses import replace
from ipaddress import ip_interface
from typing import TYPE_CHECKING

from espudp.errors import ConfigError, HostError
from espudp.host import keyfiles
from espudp.host.ipsocket import SocketSet
from espudp.host.options import ListenOptions, Reporter, Severity
from espudp.host.session import Session
from espudp.host.udp import UdpSocket, open_listening
from espudp.ike.config import Encapsulation, ListenerConfig
from espudp.ike.events import (
    BackendAsked,
    ChildInstalled,
    ConnectionDown,
    ConnectionUp,
    PeerAddressAssigned,
    PeerRefused,
)
from espudp.ike.pool import AddressPool
from espudp.tunnel import Event, Tunnel
from espudp.wire.selectors import TrafficSelector

if TYPE_CHECKING:
    from espudp.host.radius import Radius


class ListenSession(Session):
    """Waits, and serves whoever proves to be a peer."""

    role = "listen"

    def __init__(self, options: ListenOptions, report: Reporter) -> None:
        super().__init__(options, report)
        self._options = options
        self._up: dict[int, ConnectionUp] = {}
        self._peer_addresses: dict[int, tuple[str, ...]] = {}
        self._radius = _radius(options)
        self._questions: set[asyncio.Task[None]] = set()

    @property
    def _plain_ports(self) -> frozenset[int]:
        """Where IKE comes without the non-ESP marker; not where ESP comes as well (RFC 3948 section 2.2)."""
        plain = self._options.ike_port
        return frozenset() if plain in (None, self._options.port) else frozenset({plain})

    def open_sockets(self) -> SocketSet:
        """On the ports that peers know."""
        ports = [*self._plain_ports, self._options.port]
        return open_listening(self._options.bind, ports, mark=self.mark, on_limit=self.limit)

    def make_tunnel(self) -> Tunnel:
        """Raises ConfigError for a pool without room."""
        return self.new_tunnel(listener=self._with_secret(), ike_ports=self._plain_ports)

    def _with_secret(self) -> ListenerConfig:
        """The configuration with a secret that outlives us; without one, clients notice a restart later."""
        config = self._options.config
        if config.secret:
            return config
        try:
            return replace(config, secret=keyfiles.obtain_secret(self._options.name or self.tun.name))
        except (ConfigError, HostError) as error:
            self.tell(f"Clients will not notice at once when we restart: {error}", Severity.DETAIL)
            return config

    def encapsulation(self) -> Encapsulation:
        """As the user wishes."""
        return self._options.config.encap

    def esp_sockets(self) -> Iterable[UdpSocket]:
        """Those that are not for plain IKE."""
        return [
            s for s in self.sockets.sockets if isinstance(s, UdpSocket) and s.port not in self._plain_ports
        ]

    def begin(self) -> None:
        """Our own addresses, whose prefixes are the routes to the peers'; and forwarding."""
        pool = AddressPool(self._options.config.pool)
        own = [f"{ip}/{net.prefixlen}" for ip, net in zip(pool.own, pool.networks, strict=True)]
        self.routing.direct = pool.networks
        self.routing.peers_come_and_go = True
        self.routing.set_addresses(own, prefix_routes=True)
        if self._options.forward:
            self._forward()
        ports = " and ".join(map(str, self.sockets.ports))
        where = self._options.bind or "every address"
        inside = ", ".join(str(ip_interface(address).ip) for address in own) or "no address of its own"
        self.tell(f"Listening on {where}, UDP {ports}; {self.tun.name} has {inside}.")

    def handle(self, event: Event) -> None:
        """A line for each peer that comes, goes, or is turned away."""
        match event:
            case ConnectionUp():
                self._up[event.connection] = event
            case PeerAddressAssigned():
                self._peer_addresses[event.connection] = event.addresses
            case ChildInstalled() if self.children[event.connection] == 1:
                self.tell(self._arrival(event), event=event)
            case ConnectionDown():
                self._peer_addresses.pop(event.connection, None)
                if (up := self._up.pop(event.connection, None)) is not None:
                    text = f"{up.remote_identity} ({up.path.remote}) is gone: {event.reason}."
                    self.tell(text, remedy=event.remedy, event=event)
            case BackendAsked() if self._radius is not None:
                question = self._loop.create_task(self._ask(self._radius, event))
                self._questions.add(question)
                question.add_done_callback(self._questions.discard)
            case PeerRefused():
                text = f"Refused {event.path.remote}: {event.reason}."
                self.tell(text, Severity.WARNING, event.detail, event)

    async def _ask(self, radius: "Radius", asked: BackendAsked) -> None:
        """As many at a time as IKE lets peers be half open."""
        answer = await radius.ask(asked.question, asked.path.remote.ip)
        self.driver.command(lambda tunnel, now: tunnel.backend_answered(asked.handle, answer, now))

    def _arrival(self, child: ChildInstalled) -> str:
        up = self._up.get(child.connection)
        who = f"{up.remote_identity} ({child.path.remote})" if up else str(child.path.remote)
        addresses = ", ".join(self._peer_addresses.get(child.connection, ()))
        facts = [
            f"address {addresses}" if addresses else "",
            f"reaches {', '.join(map(str, child.local))}",
            f"suite {child.suite.name}",
            self.carriage(child.path),
            f"NAT: {up.nat}" if up else "",
            f"MTU {self.inner_mtu(child.connection)}",
        ]
        return f"{who} is connected: {'; '.join(fact for fact in facts if fact)}."

    def _forward(self) -> None:
        """Without it peers reach this host only; so it is worth a warning, not the end."""
        selectors = [s for s in self._options.config.child.local if isinstance(s, TrafficSelector)]
        versions = {item.version for item in (*selectors, *self._options.config.pool)}
        try:
            self.netconf.forward(ipv4=4 in versions, ipv6=6 in versions)
        except HostError as error:
            self.tell(
                f"Peers reach this host, and nothing behind it: {error}", Severity.WARNING, error.remedy
            )


def _radius(options: ListenOptions) -> "Radius | None":
    """Those who need none do without the memory that its library takes."""
    if not options.radius:
        return None
    from espudp.host.radius import Radius

    return Radius(options.radius)
