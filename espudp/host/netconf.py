"""The host's network configuration: what a tunnel adds to it, and its removal to the last rule.

How packets find the tunnel, for each tunnelled subnet S, with the routes to all of them in a table of ours:

    2k    to S                          lookup main, answers more specific than S only
    2k+1  to S, without the mark's bits lookup our table                                -> TUN

so that a subnet is chosen by longest prefix, as if our routes were in the main table, except that S itself
goes into the tunnel even where the host has a route to exactly S; k counts from the longest prefix on. Outer
packets carry the mark (SO_MARK), pass the second rule by and take the host's own routes: so 0.0.0.0/0, or a
subnet with the peer in it, can be tunnelled without the tunnel swallowing itself.

In transport mode it is traffic of this host with the peer's own address, perhaps of one protocol and some
ports; all other traffic between the two goes as before. So it is chosen first, by

    to PEER, protocol, ports, without the mark's bits   lookup our table                -> TUN

What must never go in the clear is prohibited behind all of these; what must not come so, guard.py drops.
"""

import contextlib
import errno
import ipaddress
import socket
from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from espudp.errors import HostError
from espudp.host import changes
from espudp.host.changes import Change, Sysctl, read_sysctl, write_sysctl
from espudp.host.journal import Journal
from espudp.host.netlink import RT_TABLE_MAIN, RT_TABLE_UNSPEC, DeviceAddress, Netlink, Route, Rule
from espudp.host.resolvconf import ResolvConf
from espudp.wire.selectors import ALL_PORTS, ANY_PROTOCOL, TrafficSelector

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

# Before the main table's rule (32766), after what an administrator puts first.
FIRST_PRIORITY = 20_000

FLOW_PRIORITY = FIRST_PRIORITY - 1
PROHIBITION_PRIORITY = FIRST_PRIORITY + 1_000

# include/net/fib_rules.h, fib_rule_port_range_valid: what a rule can say of ports
MIN_RULE_PORT, MAX_RULE_PORT = 1, 0xFFFE
# The protocols whose ports the kernel knows: TCP, UDP, DCCP, SCTP
PROTOCOLS_WITH_PORTS = frozenset({6, 17, 33, 132})

# RFC 7600 section 4.8: for an interface that needs some IPv4 address and has none
DUMMY_ADDRESS = "192.0.0.8/32"

# Documentation/networking/ip-sysctl.rst: rp_filter
STRICT, LOOSE = 1, 2

_NO_POLICY_ROUTING = (
    "The kernel needs policy routing: CONFIG_IP_MULTIPLE_TABLES and, for IPv6, CONFIG_IPV6_MULTIPLE_TABLES; "
    "for single protocols and ports it has to be Linux 4.17 or newer."
)
_REMEDIES = {
    errno.EPERM: "Run espudp as root, or give it CAP_NET_ADMIN.",
    errno.EACCES: "IPv6 may be switched off: sysctl net.ipv6.conf.all.disable_ipv6=0.",
    errno.EROFS: "In a container, set it when starting the container, e.g. docker run --sysctl.",
    errno.EOPNOTSUPP: _NO_POLICY_ROUTING,
    errno.EAFNOSUPPORT: _NO_POLICY_ROUTING,
}


@dataclass(frozen=True, slots=True)
class Flow:
    """Traffic of this host itself with a peer: two traffic selectors of a child SA in transport mode."""

    local: TrafficSelector
    remote: TrafficSelector

    def __str__(self) -> str:
        return str(self.remote)

    @property
    def protocol(self) -> int:
        """Of IP; 0: all."""
        return self.remote.protocol or self.local.protocol

    @property
    def may_be_outer(self) -> bool:
        """Whether IKE and ESP in UDP of this peer would belong to it but for the mark."""
        is_udp = self.protocol == socket.IPPROTO_UDP
        has_one_port = any(s.first_port == s.last_port for s in (self.local, self.remote))
        return self.protocol == ANY_PROTOCOL or (is_udp and not has_one_port)

    def routes(self, device: int, table: int, own: Container[str]) -> list[Route]:
        """That are in the table for it; `own` are the addresses of this host."""
        source = str(self.local.first)
        return [
            Route(str(network), device, table, source if source in own else None)
            for network in self.remote.networks()
        ]

    def rules(self, table: int, mark: int) -> list[Rule]:
        """That choose the table for it."""
        has_ports = self.protocol in PROTOCOLS_WITH_PORTS
        return [
            Rule(
                FLOW_PRIORITY,
                table,
                str(network),
                unless_mark=mark,
                protocol=self.protocol,
                sports=_rule_ports(self.local) if has_ports else None,
                dports=_rule_ports(self.remote) if has_ports else None,
            )
            for network in self.remote.networks()
        ]


class NetConf:
    """Changes to this host's network, in groups replaced as a whole; journalled, and undone by `close`."""

    def __init__(self, directory: Path, name: str) -> None:
        """Undo first what killed processes have left. Raises HostError."""
        self._netlink = Netlink()
        self.recovered = self._recover(directory)
        """What was undone, in words."""
        self._journal = Journal.claim(directory, name)
        self._groups: dict[str, dict[Change, None]] = {}  # in order
        self._flows: dict[Flow, tuple[list[Route], list[Rule]]] = {}

    @property
    def name(self) -> str:
        """The name that is ours among the processes of this host."""
        return self._journal.name

    def set_addresses(self, device: str, addresses: Iterable[str], *, prefix_routes: bool = False) -> None:
        """Make these, with prefix lengths, the addresses of our device. Raises HostError."""
        index = socket.if_nametoindex(device)
        wanted = [DeviceAddress(index, address, prefix_routes) for address in addresses]
        if any(":" in address.address for address in wanted):
            allow_ipv6(device)
        self.replace("addresses", wanted)

    def set_routes(
        self, device: str, networks: Iterable[Network], *, mark: int, sources: Sequence[str] = ()
    ) -> None:
        """Send these networks, and no others, into the device. Raises HostError.

        `sources`: addresses of ours that the tunnel accepts, preferred by local programs, one per IP version.
        """
        index = socket.if_nametoindex(device)
        table = mark + index
        preferred = {ipaddress.ip_address(source).version: source for source in reversed(sources)}
        ordered = sorted(set(networks), key=lambda n: (n.version, -n.prefixlen, n.network_address.packed))
        routes = [Route(str(n), index, table, preferred.get(n.version)) for n in ordered]
        rules = [rule for n in ordered for rule in _rules(n, table, mark)]
        self.replace("routes", [*routes, *rules])

    def set_flows(
        self, device: str, flows: Iterable[Flow], *, mark: int, stand_ins: Sequence[Network] = ()
    ) -> None:
        """Send these flows, and no others, into the device. Raises HostError.

        `stand_ins`: where peers are shown at addresses that are not theirs, so that nothing else goes there.
        """
        wanted = set(flows)
        for gone in self._flows.keys() - wanted:
            del self._flows[gone]
        if new := wanted - self._flows.keys():
            index = socket.if_nametoindex(device)
            own = set(self.own_addresses())
            for flow in sorted(new, key=str):
                rules = [*flow.rules(mark + index, mark), *_rules_beside(flow, stand_ins)]
                self._flows[flow] = flow.routes(index, mark + index, own), rules
            if any(flow.remote.version == 6 for flow in new):
                allow_ipv6(device)
        has_ipv4 = any(flow.remote.version == 4 for flow in wanted)
        self.replace("reverse path of flows", self._accept_flows(device) if has_ipv4 else [])
        to_each: dict[str, Route] = {}
        chosen: list[Rule] = []
        for routes, rules in self._flows.values():
            for route in routes:
                to_each.setdefault(route.destination, route)
            chosen += rules
        self.replace("flows", [*to_each.values(), *chosen])

    def prohibit(self, protocol: int, port: int) -> None:
        """This host sends from that port of its own through tunnels or not at all. Raises HostError."""
        everything = ("0.0.0.0/0", "::/0") if has_ipv6() else ("0.0.0.0/0",)
        ports = f"{port}:{port}"
        rules = [
            Rule(PROHIBITION_PRIORITY, RT_TABLE_UNSPEC, to, protocol=protocol, sports=ports, prohibits=True)
            for to in everything
        ]
        self.replace("prohibited", rules)

    def _accept_flows(self, device: str) -> list[Change]:
        """Let packets of flows come in by our device under reverse path filtering.

        That looks for the way back to their source, which without ports is not the device: only kernels of
        late look at ports there. The loose filter is content with another device, if this one has an address.
        """
        name = f"net/ipv4/conf/{device}/rp_filter"
        strictest = max(int(read_sysctl(n) or 0) for n in ("net/ipv4/conf/all/rp_filter", name))
        made = self._groups.get("reverse path of flows")
        if made or not strictest:
            return [*(made or ())]
        index = socket.if_nametoindex(device)
        return [*(self._loose(name)), DeviceAddress(index, DUMMY_ADDRESS)]

    def accept_outer(self, peer: str, mark: int) -> None:
        """Let the peer's datagrams in where strict reverse path filtering would look for them in the tunnel.

        That filter asks where an unmarked packet to the peer would go. A device that one peer has come by
        stays so: others may come there. Raises HostError.
        """
        address = ipaddress.ip_address(peer)
        if address.version == 6:  # which has no such setting
            return
        try:
            device = socket.if_indextoname(self._netlink.next_hop(address, mark).device)
        except OSError:  # no route at the moment
            return
        made = self._groups.get("rp_filter", {})
        self.replace("rp_filter", [*made, *self._loose(f"net/ipv4/conf/{device}/rp_filter")])

    def forward(self, *, ipv4: bool, ipv6: bool) -> None:
        """Switch IP forwarding on. Raises HostError."""
        wanted: list[Change] = []
        if ipv4:
            wanted += self._sysctl("net/ipv4/ip_forward", "1")
        if ipv6 and self._sysctl("net/ipv6/conf/all/forwarding", "1"):
            # A router does not listen to router advertisements, unless told to (accept_ra = 2).
            for path in sorted(changes.PROC_SYS.glob("net/ipv6/conf/*/accept_ra")):
                name = str(path.relative_to(changes.PROC_SYS))
                if read_sysctl(name) == "1":
                    wanted += self._sysctl(name, "2")
            wanted += self._sysctl("net/ipv6/conf/all/forwarding", "1")
        self.replace("forwarding", wanted)

    def standing_resolv_conf(self, path: Path) -> ResolvConf | None:
        """What another running process of ours has made of the file; it knows what was there before."""
        made = changes.resolv_conf_of(self._journal.others(), str(path))
        return made if made is not None and made.stands else None

    def own_addresses(self) -> list[str]:
        """The addresses of the host, loopback and link-local ones aside."""
        interfaces = (interface.ip for _, interface in self._netlink.addresses())
        return [str(ip) for ip in interfaces if not (ip.is_loopback or ip.is_link_local)]

    def replace(self, group: str, wanted: Sequence[Change]) -> None:
        """Undo what the group has and should not, make what it lacks. Raises HostError."""
        made = self._groups.setdefault(group, {})
        needed = dict.fromkeys(wanted)
        for change in [c for c in reversed(made) if c not in needed]:
            self._undo(change)
            del made[change]
        for change in [c for c in needed if c not in made]:
            self._make(change)
            made[change] = None

    def close(self) -> None:
        """Undo everything, last change first. Raises HostError after trying all, if something resists."""
        trouble: list[str] = []
        for change in reversed(list(self._journal.changes)):
            try:
                self._undo(change)
            except HostError as error:
                trouble.append(str(error))
        self._groups.clear()
        if trouble:
            self._journal.release()
        else:
            self._journal.remove()
        self._netlink.close()
        if trouble:
            raise HostError(" ".join(trouble), remedy="The next start of espudp tries again.")

    def _sysctl(self, name: str, value: str) -> list[Change]:
        """The change that sets a sysctl; none if the administrator did already."""
        for other in self._journal.others():
            if isinstance(other, Sysctl) and (other.name, other.value) == (name, value):
                return [other]  # we need it as well: the last one to go restores it
        former = read_sysctl(name)
        return [] if former in (value, None) else [Sysctl(name, value, former or "")]

    def _loose(self, name: str) -> list[Change]:
        everywhere = int(read_sysctl("net/ipv4/conf/all/rp_filter") or 0)
        here = int(read_sysctl(name) or 0)
        for made in self._groups.get("rp_filter", {}):
            if isinstance(made, Sysctl) and made.name == name:
                return [made]
        return self._sysctl(name, str(LOOSE)) if max(everywhere, here) == STRICT else []

    def _make(self, change: Change) -> None:
        self._journal.record(change)
        try:
            changes.make(change, self._netlink)
        except OSError as error:
            self._journal.erase(change)
            raise _refusal("made", change, error) from None

    def _undo(self, change: Change) -> None:
        try:
            changes.undo(change, self._netlink, self._journal.others)
        except OSError as error:
            raise _refusal("undone", change, error) from None
        self._journal.erase(change)

    def _recover(self, directory: Path) -> list[str]:
        undone: list[str] = []
        for journal in Journal.abandoned(directory):
            for change in reversed(journal.changes):
                with contextlib.suppress(OSError):  # what resists now resisted a running process as well
                    changes.undo(change, self._netlink, journal.others)
                    undone.append(changes.describe(change))
            journal.remove()
        return undone


def _rule_ports(selector: TrafficSelector) -> str | None:
    """As rules have them; None: all.

    The last port of all they cannot name. Rather than to let it go around the tunnel, all go into it: what
    the child SA is not for is dropped there.
    """
    if selector.ports == ALL_PORTS or not MIN_RULE_PORT <= selector.last_port <= MAX_RULE_PORT:
        return None
    return f"{max(selector.first_port, MIN_RULE_PORT)}:{selector.last_port}"


def _rules_beside(flow: Flow, stand_ins: Sequence[Network]) -> list[Rule]:
    """For what this host has to say to a peer beside its flow: nothing, to an address that stands for it."""
    return [
        Rule(PROHIBITION_PRIORITY, RT_TABLE_UNSPEC, str(network), prohibits=True)
        for network in flow.remote.networks()
        if any(contains(other, network) for other in stand_ins)
    ]


def _rules(network: Network, table: int, mark: int) -> list[Rule]:
    priority = FIRST_PRIORITY + 2 * (network.max_prefixlen - network.prefixlen)
    return [
        Rule(priority, RT_TABLE_MAIN, str(network), suppress_prefix=network.prefixlen),
        Rule(priority + 1, table, str(network), unless_mark=mark),
    ]


def contains(outer: Network, inner: Network) -> bool:
    """Whether all of one network is in another."""
    return (
        outer.version == inner.version
        and outer.prefixlen <= inner.prefixlen
        and inner.network_address in outer
    )


def has_ipv6() -> bool:
    """Whether the kernel was built and booted with IPv6."""
    return (changes.PROC_SYS / "net/ipv6").exists()


def allow_ipv6(device: str) -> None:
    """Let our device have IPv6 addresses on a host that switches IPv6 off for new ones."""
    with contextlib.suppress(OSError):
        write_sysctl(f"net/ipv6/conf/{device}/disable_ipv6", "0")


def _refusal(what: str, change: Change, error: OSError) -> HostError:
    return HostError(
        f"The {changes.describe(change)} could not be {what}: {error.strerror}.",
        remedy=_REMEDIES.get(error.errno or 0, ""),
    )
