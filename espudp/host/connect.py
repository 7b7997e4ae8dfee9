"""`espudp connect`: one connection, kept up."""

import asyncio
import random
import socket
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace
from ipaddress import ip_address

from espudp.errors import ConfigError, HostError
from espudp.host.dns import Dns, Wanted
from espudp.host.ipsocket import SocketSet
from espudp.host.options import ConnectOptions, Reporter, Severity
from espudp.host.session import EXIT_FAILURE, Session
from espudp.host.udp import CallingSockets, Outlook, UdpSocket, open_calling, outlook
from espudp.ike.encapsulation import Encapsulation
from espudp.ike.events import AddressAssigned, ChildInstalled, ConnectionDown, ConnectionUp, Fault
from espudp.ike.narrowing import EVERYTHING
from espudp.tunnel import Event, Tunnel
from espudp.wire.address import Path, UdpAddress

# Local ports that are asked for first: some peers answer these only.
IKE_PORT, NATT_PORT = 500, 4500

# From one try to the next: doubled each time, and shortened by up to a half, so that the clients of a gateway
# that restarts do not all come at once.
RETRY_SECONDS_MIN, RETRY_SECONDS_MAX = 1.0, 60.0
LOOKUP_SECONDS = 5.0

# The first try takes longer than this to be given up than people wait for a word.
SILENCE_SECONDS = 8.0

# Connections are numbered from 1.
NO_CONNECTION = 0


class ConnectSession(Session):
    """Dials, and dials again with back-off when the peer vanishes."""

    role = "connect"

    def __init__(self, options: ConnectOptions, report: Reporter) -> None:
        super().__init__(options, report)
        self._options = options
        self._calling = CallingSockets({}, {})
        self._known: list[str] = []  # the peer's addresses, as last looked up
        self._detour = ""  # the gateway that the peer has sent us to
        self._dialled = ""  # the address that was dialled last
        self._failures = 0  # since the last success
        self._up: ConnectionUp | None = None
        self._was_up = False  # the connection that is up has carried something
        self._has_wondered = False
        self._current: int | None = None
        """The connection that is the tunnel; others are attempts to authenticate anew, or over."""
        self._resolver: Dns | None = None
        self._dns_of: int | None = None  # the connection whose servers are in use
        self._reaches_everything = False
        self._dialling: asyncio.Task[None] | None = None
        self._nudge = asyncio.Event()

    def open_sockets(self) -> SocketSet:
        """Of both IP versions: which one it is shows only when the name is looked up."""
        plain = None if self._options.ike_port is None else IKE_PORT
        self._calling = open_calling(
            self._options.bind, NATT_PORT, plain, mark=self.mark, on_limit=self.limit
        )
        return self._calling.all

    def make_tunnel(self) -> Tunnel:
        """IKE goes without marker on the plain sockets' ports, whichever they are."""
        plain_ports = frozenset(s.port for s in self._calling.plain.values())
        return self.new_tunnel(ike_ports=plain_ports)

    def encapsulation(self) -> Encapsulation:
        """As the user wishes."""
        return self._options.config.encap

    def esp_sockets(self) -> Iterable[UdpSocket]:
        """Those that are not for plain IKE."""
        return self._calling.natt.values()

    def remotes(self) -> Iterable[str]:
        """The peer, if it is found."""
        return self.paths.remotes or self._known

    def begin(self) -> None:
        """Dial for the first time. Raises ConfigError for an address that no peer can be reached at."""
        with suppress(ValueError):
            address = ip_address(self._options.host)
            if address.is_link_local or address.is_multicast or address.is_unspecified:
                raise ConfigError(
                    f"{address} is not an address to connect to.",
                    field="host",
                    remedy="Use the peer's global or private address, or its name.",
                )
        self._dial_after(0.0)

    def handle(self, event: Event) -> None:
        """Addresses, the line that says what we got, and what to do when it is over."""
        match event:
            case ConnectionUp():
                self._up, self._current = event, event.connection
                self._was_up |= self._options.config.childless
            case AddressAssigned():
                self.routing.set_addresses(event.addresses)
                self._tell_of_peer(event)
                self._use_dns(event)
            case ChildInstalled() if len(self.connections) > 1 and self.children[event.connection] == 1:
                self.tell(f"Authenticated anew, {event.suite.name}.", Severity.DETAIL, event=event)
            case ChildInstalled() if event.replaces is None and self.children[event.connection] == 1:
                self._failures = 0
                self._was_up = True
                self.tell(self._summary(event), event=event)
                self._warn_of_gap(event)
            case ConnectionDown() if self._current in (None, event.connection):
                self._on_down(event)
            case ConnectionDown() if event.fault is not Fault.LOCAL_REQUEST:
                self.tell(f"Not authenticated anew: {event.reason}.", Severity.WARNING, event.remedy, event)

    def _tell_of_peer(self, event: AddressAssigned) -> None:
        """What it says of itself, and to whoever sits here; nothing follows from it."""
        if event.banner:
            indented = event.banner.replace("\n", "\n        ")
            self.tell(f"The peer says:\n        {indented}", event=event)
        if event.application:
            self.tell(f"The peer is {event.application}.", Severity.DETAIL, event=event)
        if event.subnets:
            self.tell(f"The peer says it protects {', '.join(event.subnets)}.", Severity.DETAIL, event=event)

    def _use_dns(self, event: AddressAssigned) -> None:
        """Without them the tunnel is of use still, so that this is not the end."""
        self.dns, self.dns_domains = event.dns, self._options.dns_domains or event.domains
        if not self._options.dns:
            return
        self._resolver = self._resolver or Dns(self.netconf, self.tun.name)
        try:
            remark = self._resolver.set(Wanted(self.dns, self.dns_domains if self.dns else ()))
        except HostError as error:
            self.tell(f"DNS stays as it was: {error}", Severity.WARNING, error.remedy)
        else:
            self._dns_of = event.connection
            if remark:
                self.tell(f"{remark}.", Severity.WARNING)

    def _restore_dns(self, connection: int) -> None:
        """As long as everything goes into the tunnel, names do not go around it either."""
        if self._resolver is not None and connection == self._dns_of and not self._reaches_everything:
            self._dns_of = None
            try:
                self._resolver.clear()
            except HostError as error:
                self.tell(f"DNS is not as it was: {error}", Severity.WARNING, error.remedy)

    def _warn_of_gap(self, child: ChildInstalled) -> None:
        """All of IPv4 in the tunnel, and none of IPv6, is seldom what was meant."""
        whole = {selector.version for selector in child.remote if selector in EVERYTHING.values()}
        if self._options.routes is not None:
            return
        self._reaches_everything = bool(whole)
        others = (ip_address(ip) for ip in self.netconf.own_addresses())
        asked = self._options.config.child
        to_come = asked.single_pair and EVERYTHING[6] in asked.remote
        if whole == {4} and not to_come and any(ip.version == 6 for ip in others):
            self.tell(
                "IPv6 goes around the tunnel: the peer carries IPv4 only.",
                Severity.WARNING,
                "Ask for it with --subnet 0.0.0.0/0 --subnet ::/0 --vip any, or switch it off:"
                " sysctl net.ipv6.conf.all.disable_ipv6=1.",
            )

    def _dns_text(self) -> str:
        if not self.dns:
            return ""
        what = f"DNS {', '.join(self.dns)}"
        if self.dns_domains:
            what += f" for {', '.join(self.dns_domains)}"
        way = "" if self._resolver is None else self._resolver.way
        return f"{what} ({way or 'offered, not set'})"

    def _summary(self, child: ChildInstalled) -> str:
        addresses = ", ".join(address.partition("/")[0] for address in self.routing.addresses)
        subnets = ", ".join(str(selector) for selector in child.remote)
        inside = f"address {addresses}" if addresses else "no virtual address"
        facts = [
            *([inside, f"subnets {subnets}"] if child.transport is None else [f"transport mode, {subnets}"]),
            self._dns_text(),
            f"suite {child.suite.name}",
            self.carriage(child.path),
            f"NAT: {self._up.nat}" if self._up else "",
            "session resumed by ticket" if self._up and self._up.resumed else "",
            f"MTU {self.inner_mtu(child.connection)}",
            f"device {self.tun.name}",
        ]
        who = f"{self._options.host} ({child.path.remote})"
        return f"Connected to {who}: {'; '.join(fact for fact in facts if fact)}."

    def _on_down(self, event: ConnectionDown) -> None:
        self._restore_dns(event.connection)
        was_up, self._was_up, self._up, self._current = self._was_up, False, None, NO_CONNECTION
        self._detour = event.redirect
        if event.redirect:
            self.tell(f"{self._dialled} sends us to {event.redirect}.", event=event)
            self._dial_after(0.0)
            return
        lost = "The connection is lost" if was_up else "The connection did not come up"
        if not (event.retry and self._options.retry):
            self.tell(f"{lost}: {event.reason}.", Severity.ERROR, event.remedy, event)
            self.end(EXIT_FAILURE)
            return
        self._retry(f"{lost}: {event.reason}", event.remedy, event)

    def _retry(self, what: str, remedy: str, event: Event | None = None) -> None:
        longest = min(RETRY_SECONDS_MIN * 2**self._failures, RETRY_SECONDS_MAX)
        delay = longest * random.uniform(0.5, 1.0)
        self._failures = min(self._failures + 1, 16)
        self.tell(f"{what}; trying again in {delay:.1f} s.", Severity.WARNING, remedy, event)
        self._dial_after(delay)

    # Dialling

    def _dial_after(self, delay: float) -> None:
        self._dialling = asyncio.get_running_loop().create_task(self._dial(delay))

    def _addresses_changed(self, ours: list[UdpAddress]) -> None:
        super()._addresses_changed(ours)
        self._nudge.set()  # there may be a way now

    async def _dial(self, delay: float) -> None:
        self._nudge.clear()
        with suppress(TimeoutError):
            await asyncio.wait_for(self._nudge.wait(), delay)
        try:
            remote_ip, way = await self._find_peer()
        except HostError as error:
            if not (self._known or self._detour):  # not once found: more likely a mistake than a bad moment
                self.fail(error)
            elif not self.closing:
                self._detour = ""
                self._retry(str(error).rstrip("."), error.remedy)
            return
        if self.closing:
            return
        path, float_path = self._paths_to(remote_ip, way)
        self.tell(f"Connecting to {self._detour or self._options.host} ({path.remote}).", Severity.DETAIL)
        self.paths.ask(remote_ip)
        config = self._options.config
        if self._detour:
            config = replace(config, redirected_from=self._dialled)
        self._dialled = remote_ip
        self._current = self.driver.command(lambda t, now: t.connect(config, path, float_path, now))
        if not self._has_wondered:
            self._has_wondered = True
            loop, tried = asyncio.get_running_loop(), self._current
            loop.call_later(SILENCE_SECONDS, self._wonder, tried, path.remote)

    def _wonder(self, tried: int, remote: UdpAddress) -> None:
        """The first try is neither up nor over yet: who sits here may know why."""
        if self.closing or self._was_up or self._current != tried:
            return
        is_v1 = self._options.config.ikev1 is not None
        if self._up is None:
            version, other = ("IKEv1", "else leave --ikev1 out") if is_v1 else ("IKEv2", "else --ikev1 main")
            what = f"No answer from {remote} yet, or none that leads on; still trying."
            remedy = (
                "Check the address, that UDP ports 500 and 4500 are open on the way, and that the peer speaks"
                f" {version}; {other}."
            )
        else:
            what = f"{remote} has proved itself, and has not made a tunnel with us yet; still waiting."
            remedy = "Its log may say what it waits for."
            if is_v1:
                remedy += " It may be --mode-config pull, or push, or --vip none."
        self.tell(what, Severity.WARNING, remedy)

    async def _find_peer(self) -> tuple[str, Outlook]:
        """The peer's address to try this time, and the way there. Raises HostError."""
        addresses = await (self._look_up_detour() if self._detour else self._look_up())
        turn = self._failures % len(addresses)
        trouble: HostError | None = None
        for remote_ip in addresses[turn:] + addresses[:turn]:
            if ip_address(remote_ip).version not in self._calling.natt:
                continue
            try:
                return remote_ip, outlook(remote_ip, mark=self.mark, bind=self._options.bind)
            except HostError as error:
                trouble = trouble or error
        raise trouble or HostError(
            f"{self._options.host} has no address of the IP version that we have sockets for.",
            remedy="Leave --bind out, or bind to an address of the peer's IP version.",
        )

    async def _look_up(self) -> list[str]:
        """The peer's addresses; those known before if the name service is out of reach, as it may well be
        while everything goes into a tunnel that is down. Raises HostError.
        """
        host = self._options.host
        with suppress(ValueError):
            self._known = [str(ip_address(host))]
            return self._known
        loop = asyncio.get_running_loop()
        try:
            found = await asyncio.wait_for(
                loop.getaddrinfo(host, None, type=socket.SOCK_DGRAM), LOOKUP_SECONDS
            )
            self._known = list(dict.fromkeys(str(info[4][0]) for info in found))
        except (OSError, TimeoutError, UnicodeError) as error:
            if not self._known:
                reason = getattr(error, "strerror", None) or "the name service does not answer"
                raise HostError(
                    f"The name {host} was not found: {reason}.",
                    remedy="Check the spelling and the network, or give the address instead of the name.",
                ) from None
        return self._known

    async def _look_up_detour(self) -> list[str]:
        """As `_look_up`, for the gateway that the peer has sent us to. Raises HostError."""
        loop = asyncio.get_running_loop()
        try:
            found = await asyncio.wait_for(
                loop.getaddrinfo(self._detour, None, type=socket.SOCK_DGRAM), LOOKUP_SECONDS
            )
        except (OSError, TimeoutError, UnicodeError):
            raise HostError(
                f"{self._detour}, where the peer sends us, was not found.",
                remedy="Ask whoever runs the gateway; --no-redirect stays with it.",
            ) from None
        return list(dict.fromkeys(str(info[4][0]) for info in found))

    def _paths_to(self, remote_ip: str, way: Outlook) -> tuple[Path, Path | None]:
        """Where IKE_SA_INIT goes, and what follows it, if elsewhere (RFC 7296 section 2.23)."""
        version = ip_address(remote_ip).version
        natt = Path(
            UdpAddress(way.local_ip, self._calling.natt[version].port),
            UdpAddress(remote_ip, self._options.port),
        )
        if self._options.ike_port is None:
            return natt, None
        plain = Path(
            UdpAddress(way.local_ip, self._calling.plain[version].port),
            UdpAddress(remote_ip, self._options.ike_port),
        )
        return plain, natt
