"""Manual keys: both SAs from a file, and no IKE."""

from espudp.host.ipsocket import SocketSet
from espudp.host.options import ManualOptions, Reporter, Severity
from espudp.host.session import EXIT_FAILURE, Session
from espudp.host.udp import open_listening, outlook
from espudp.ike.encapsulation import Encapsulation, plain
from espudp.ike.events import ConnectionDown
from espudp.tunnel import Event, ManualUp, Tunnel
from espudp.wire.address import Path, UdpAddress


class ManualSession(Session):
    """One pair of SAs, from start to end."""

    role = "manual"

    def __init__(self, options: ManualOptions, report: Reporter) -> None:
        super().__init__(options, report)
        self._options = options

    def open_sockets(self) -> SocketSet:
        """On the port that the file names; for ESP without UDP, none of these."""
        if self._options.plain:
            return SocketSet([])
        return open_listening(
            self._options.bind, (self._options.config.port,), mark=self.mark, on_limit=self.limit
        )

    def encapsulation(self) -> Encapsulation:
        """As the user says: here nothing is negotiated."""
        return Encapsulation.NEVER if self._options.plain else Encapsulation.ALWAYS

    def make_tunnel(self) -> Tunnel:
        """No port is for plain IKE: there is none."""
        return self.new_tunnel(ike_ports=frozenset())

    def begin(self) -> None:
        """Addresses, and the SAs."""
        config = self._options.config
        self.routing.set_addresses(config.addresses)
        if self._options.forward:
            versions = {selector.version for selector in config.local}
            self.netconf.forward(ipv4=4 in versions, ipv6=6 in versions)
        path = self._path()
        if config.peer is not None:
            self.paths.ask(config.peer.ip)
        self.driver.command(lambda tunnel, now: tunnel.install_manual(config, path, now))

    def handle(self, event: Event) -> None:
        """Up at once, and down when a lifetime says so."""
        match event:
            case ManualUp():
                subnets = ", ".join(str(selector) for selector in event.child.remote)
                peer = event.child.path.remote if self._options.config.peer else "whoever has the keys"
                self.tell(
                    f"Manual keys with {peer}: subnets {subnets}; suite {event.child.suite.name}; "
                    f"device {self.tun.name}.",
                    event=event,
                )
            case ConnectionDown():
                self.tell(f"The tunnel is down: {event.reason}.", Severity.ERROR, event.remedy, event)
                self.end(EXIT_FAILURE)

    def _path(self) -> Path:
        """Where the peer is; until that is learnt, nowhere: what we send is refused, and counted."""
        config = self._options.config
        if config.peer is None:
            path = Path(UdpAddress("0.0.0.0", config.port), UdpAddress("0.0.0.0", 0))
        else:
            way = outlook(config.peer.ip, mark=self.mark, bind=self._options.bind)
            path = Path(UdpAddress(way.local_ip, config.port), config.peer)
        return plain(path) if self._options.plain else path
