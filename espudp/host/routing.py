"""Which networks go into the tunnel: those that the child SAs reach."""

from collections.abc import Iterable, Iterator, Sequence
from ipaddress import ip_address

from espudp.host.guard import Guard
from espudp.host.netconf import Flow, NetConf, Network, contains
from espudp.wire.selectors import ANY_PROTOCOL, TrafficSelector

_Child = tuple[int, int]  # connection, inbound SPI


class Routing:
    """Keeps the addresses and routes of our device in step with the child SAs.

    The last routes stay when the last child SA goes: while a peer is away nothing goes around the tunnel.
    """

    def __init__(
        self,
        netconf: NetConf,
        guard: Guard,
        device: str,
        mark: int,
        only: tuple[Network, ...] | None = None,
        stand_ins: Sequence[Network] = (),
    ) -> None:
        """`only`: nothing but these goes into the tunnel, whatever else the child SAs would carry.

        `stand_ins`: where peers in transport mode are shown that have no address of their own.
        """
        self._netconf = netconf
        self._guard = guard
        self._device = device
        self._mark = mark
        self._only = only
        self._stand_ins = stand_ins
        self._reached: dict[_Child, tuple[Network, ...]] = {}
        self._flows: dict[_Child, tuple[Flow, ...]] = {}
        self._sources: tuple[str, ...] = ()
        self.addresses: tuple[str, ...] = ()
        """Ours inside the tunnel, with prefix lengths."""
        self.direct: tuple[Network, ...] = ()
        """Networks that have their route already, with the addresses."""
        self.peers_come_and_go = False
        """What flows to a peer in transport mode goes as it did before when the last such peer is gone."""

    @property
    def networks(self) -> set[Network]:
        """What is routed on behalf of child SAs."""
        return {network for networks in self._reached.values() for network in networks}

    @property
    def flows(self) -> set[Flow]:
        """What is routed on behalf of child SAs in transport mode."""
        return {flow for flows in self._flows.values() for flow in flows}

    @property
    def has_ipv6(self) -> bool:
        """Whether the device is to take IPv6."""
        return any(":" in address for address in self.addresses) or any(
            flow.remote.version == 6 for flow in self.flows
        )

    def set_addresses(self, addresses: Iterable[str], *, prefix_routes: bool = False) -> None:
        """Make these ours; without a prefix length they stand for themselves alone. Raises HostError."""
        self.addresses = tuple(_with_prefix(address) for address in addresses)
        self._netconf.set_addresses(self._device, self.addresses, prefix_routes=prefix_routes)

    def add(
        self,
        child: _Child,
        local: tuple[TrafficSelector, ...],
        remote: tuple[TrafficSelector, ...],
    ) -> None:
        """A child SA carries traffic from `local` to `remote` now. Raises HostError."""
        carried = (network for selector in remote for network in selector.networks())
        networks = carried if self._only is None else _common(carried, self._only)
        reached = tuple(n for n in networks if not any(contains(other, n) for other in self.direct))
        if not reached:
            return
        self._reached[child] = reached
        self._sources = self._accepted_sources(local)
        self._apply()

    def add_flows(
        self,
        child: _Child,
        local: tuple[TrafficSelector, ...],
        remote: tuple[TrafficSelector, ...],
    ) -> None:
        """A child SA in transport mode carries traffic between `local` and `remote` now. Raises HostError."""
        pairs = ((ours, theirs) for ours in local for theirs in remote if ours.version == theirs.version)
        self._flows[child] = tuple(Flow(*pair) for pair in pairs if _match(*pair))
        self._apply_flows()

    def peer_at(self, peer_ip: str) -> None:
        """The peer sends from there: let that in even if the address is routed. Raises HostError."""
        address = ip_address(peer_ip)
        routed = any(address in network for network in self.networks) or any(
            flow.may_be_outer and _selects((flow.remote,), peer_ip) for flow in self.flows
        )
        if routed and not address.is_unspecified:
            self._netconf.accept_outer(peer_ip, self._mark)

    def remove(self, child: _Child) -> None:
        """A child SA is gone. Raises HostError."""
        if self._reached.pop(child, None) is not None and self._reached:
            self._apply()
        if self._flows.pop(child, None) is not None and (self._flows or self.peers_come_and_go):
            self._apply_flows()

    def remove_connection(self, connection: int) -> None:
        """All child SAs of a connection are gone. Raises HostError."""
        for child in [child for child in (*self._reached, *self._flows) if child[0] == connection]:
            self.remove(child)

    def _apply(self) -> None:
        self._netconf.set_routes(self._device, self.networks, mark=self._mark, sources=self._sources)

    def _apply_flows(self) -> None:
        self._netconf.set_flows(self._device, self.flows, mark=self._mark, stand_ins=self._stand_ins)
        self._guard.protect(self.flows)

    def _accepted_sources(self, local: tuple[TrafficSelector, ...]) -> tuple[str, ...]:
        """Addresses of this host that the child SA lets through, those inside the tunnel first."""
        own = [address.partition("/")[0] for address in self.addresses]
        return tuple(ip for ip in (*own, *self._netconf.own_addresses()) if _selects(local, ip))


def _match(local: TrafficSelector, remote: TrafficSelector) -> bool:
    """Whether there is a protocol that both are for."""
    return ANY_PROTOCOL in (local.protocol, remote.protocol) or local.protocol == remote.protocol


def _with_prefix(address: str) -> str:
    return address if "/" in address else f"{address}/{ip_address(address).max_prefixlen}"


def _common(networks: Iterable[Network], only: tuple[Network, ...]) -> Iterator[Network]:
    """What lies in both."""
    for network in networks:
        for wanted in only:
            if contains(network, wanted):
                yield wanted
            elif contains(wanted, network):
                yield network


def _selects(selectors: tuple[TrafficSelector, ...], ip: str) -> bool:
    address = ip_address(ip)
    wanted = TrafficSelector(address, address)
    return any(selector.intersect(wanted) is not None for selector in selectors)
