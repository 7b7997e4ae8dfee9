"""Which addresses and names a tunnel is for: the options of connect and listen that say so."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated

import typer

from espudp.cli import parsing, presets
from espudp.cli.presets import PresetName, PresetNames
from espudp.cli.selectors import flows, selectors, selectors_or_dynamic
from espudp.errors import ConfigError
from espudp.wire.selectors import TrafficSelector

if TYPE_CHECKING:
    from espudp.cli.options import Algorithms, Keeping
    from espudp.ike.config import ChildConfig
    from espudp.ike.narrowing import Selector
    from espudp.presets import Preset

EVERYTHING, EVERYTHING6 = "0.0.0.0/0", "::/0"
POOL = "10.99.0.0/24"
ANY = "any"

Subnets = Annotated[
    list[str] | None,
    typer.Option(metavar="CIDR[PROTO/PORT]", help="Behind the peer.", show_default="everything"),
]
LocalSubnets = Annotated[list[str] | None, typer.Option(metavar="CIDR[PROTO/PORT]", help="Behind us.")]
SinglePair = Annotated[
    bool, typer.Option("--single-pair", help="A child SA for each pair of subnets: some peers need it.")
]
Vips = Annotated[
    list[str] | None,
    typer.Option(metavar="ADDR|any|any4|any6|none", help="Address to ask for.", show_default=ANY),
]
OwnDnsDomains = Annotated[
    list[str] | None,
    typer.Option("--dns-domain", metavar="NAME", help="Use these only for it.", show_default="what it says"),
]
Transport = Annotated[
    bool,
    typer.Option("--transport", help="Only what is between the two hosts; a subnet is such as udp/53."),
]
UseDns = Annotated[bool, typer.Option("--dns/--no-dns", help="Use the DNS servers that the peer offers.")]

Pools = Annotated[
    list[str] | None, typer.Option(metavar="CIDR", help="Clients' addresses.", show_default=POOL)
]
Served = Annotated[list[str] | None, typer.Option(metavar="CIDR", help="Behind us.")]
PeerSubnets = Annotated[list[str] | None, typer.Option(metavar="CIDR", help="Behind the peers.")]
DnsServers = Annotated[list[str] | None, typer.Option(metavar="ADDR", help="DNS server told to clients.")]
DnsDomains = Annotated[
    list[str] | None,
    typer.Option(metavar="NAME", help="Domain that these are for.", show_default="everything"),
]
Split = Annotated[
    list[str] | None,
    typer.Option(metavar="CIDR", help="Told to clients as behind us.", show_default="--subnet"),
]


@dataclass(frozen=True)
class Reach:
    """Of who connects, as typed."""

    subnet: Subnets = None
    local_subnet: LocalSubnets = None
    vip: Vips = None
    single_pair: SinglePair = False
    dns: UseDns = True
    dns_domain: OwnDnsDomains = None
    preset: PresetName = None
    transport: Transport = False

    @property
    def product(self) -> Preset:
        """What the peer is. Raises ConfigError."""
        return presets.named(self.preset)

    def domains(self) -> tuple[str, ...]:
        """Raises ConfigError."""
        return tuple(_domain(text) for text in self.dns_domain or ())

    def virtual_addresses(self) -> tuple[str, ...]:
        """What to ask the peer for. Raises ConfigError."""
        if self.transport:
            others = {"--vip": None if self.vip == [parsing.NONE] else self.vip}
            parsing.refuse_together("--transport", others, "the hosts keep the addresses that they have")
            return ()
        if self._wants_none():
            return ()
        asked: list[str] = []
        for text in self.vip or [ANY]:
            if text == ANY:
                behind = selectors(self.subnet or (EVERYTHING,), "--subnet")
                asked += [f"any{version}" for version in sorted({s.version for s in behind})]
            elif text in ("any4", "any6"):
                asked.append(text)
            else:
                asked.append(parsing.address(text, "--vip"))
        return tuple(asked)

    def routes(self) -> tuple[parsing.Network, ...] | None:
        """What goes into the tunnel, where that is not all that it could carry. Raises ConfigError."""
        return None if self.transport else presets.routes(self.product, self.subnet, "--subnet")

    def child(self, algorithms: Algorithms, keeping: Keeping) -> ChildConfig:
        """Raises ConfigError."""
        from espudp.ike.narrowing import DYNAMIC, Dynamic

        if self.transport:
            local, remote = _flows(self.local_subnet, "--local-subnet"), _flows(self.subnet, "--subnet")
            return between_hosts(algorithms.child(local, remote, keeping.lifetime()))
        if self.product.any_to_any:
            return algorithms.child(_everything(), _everything(), keeping.lifetime())
        behind_us = selectors_or_dynamic(self.local_subnet or (), "--local-subnet")
        if self._wants_none() and not behind_us:
            raise ConfigError(
                "with --vip none no address of this host would be in the tunnel",
                field="vip",
                remedy="name the networks at this end with --local-subnet",
            )
        named = self._wants_none() or any(isinstance(s, Dynamic) for s in behind_us)
        ours: tuple[Selector, ...] = behind_us if named else (DYNAMIC, *behind_us)
        child = algorithms.child(ours, self._behind_peer(), keeping.lifetime())
        return replace(child, single_pair=self.single_pair or self.product.single_pair)

    def _behind_peer(self) -> tuple[Selector, ...]:
        """What is named, else everything that the addresses which are asked for can reach."""
        asked = self.vip or [ANY]
        of_ipv6 = [text for text in asked if text == "any6" or ":" in text]
        everything = [EVERYTHING] if len(of_ipv6) < len(asked) or self.local_subnet else []
        return selectors(self.subnet or (*everything, *([EVERYTHING6] if of_ipv6 else [])), "--subnet")

    def _wants_none(self) -> bool:
        if self.vip is not None and parsing.NONE in self.vip and len(self.vip) > 1:
            raise ConfigError(
                "--vip none contradicts the other addresses", field="vip", remedy="leave one of them out"
            )
        joins = self.product.any_to_any or (self.product.site and self.local_subnet is not None)
        return self.vip == [parsing.NONE] or (self.vip is None and joins)


@dataclass(frozen=True)
class ServedReach:
    """Of who listens, as typed."""

    pool: Pools = None
    subnet: Served = None
    peer_subnet: PeerSubnets = None
    dns: DnsServers = None
    dns_domain: DnsDomains = None
    split: Split = None
    preset: PresetNames = None
    transport: Transport = False

    @property
    def product(self) -> Preset:
        """What the peers are. Raises ConfigError."""
        return presets.together(self.preset)

    def pools(self) -> tuple[parsing.Network, ...]:
        """Raises ConfigError."""
        if self.transport:
            others = {"--pool": None if self.pool == [parsing.NONE] else self.pool, "--split": self.split}
            parsing.refuse_together("--transport", others, "the hosts keep the addresses that they have")
            return ()
        texts = self.pool or [POOL]
        if texts == [parsing.NONE]:
            if not self.peer_subnet:
                raise ConfigError(
                    "with --pool none no address of a peer would be in the tunnel",
                    field="pool",
                    remedy="name the networks behind the peers with --peer-subnet",
                )
            return ()
        pools = parsing.networks(texts, "--pool")
        parsing.check_pools(pools, "--pool")
        return pools

    def routes(self) -> tuple[parsing.Network, ...] | None:
        """As `Reach.routes`. Raises ConfigError."""
        return None if self.transport else presets.routes(self.product, self.peer_subnet, "--peer-subnet")

    def child(self, algorithms: Algorithms, keeping: Keeping) -> ChildConfig:
        """Raises ConfigError."""
        child = algorithms.child(self.behind_us(), self.behind_peers(), keeping.lifetime())
        if self.transport:
            return between_hosts(child)
        return replace(child, single_pair=self.product.single_pair)

    def behind_us(self) -> tuple[Selector, ...]:
        """The pools are, since the other peers are reached through us. Raises ConfigError."""
        if self.transport:
            return _flows(self.subnet, "--subnet")
        if self.product.any_to_any:
            return _everything()
        pools = selectors(map(str, self.pools()), "--pool")
        return (*pools, *selectors(self.subnet or (), "--subnet"))

    def behind_peers(self) -> tuple[Selector, ...]:
        """Raises ConfigError."""
        if self.transport:
            return _flows(self.peer_subnet, "--peer-subnet")
        if self.product.any_to_any:
            return _everything()
        from espudp.ike.narrowing import DYNAMIC, Dynamic

        behind = selectors_or_dynamic(self.peer_subnet or (), "--peer-subnet")
        return behind if any(isinstance(s, Dynamic) for s in behind) else (DYNAMIC, *behind)

    def servers(self) -> tuple[str, ...]:
        """Raises ConfigError."""
        servers = tuple(parsing.address(text, "--dns") for text in self.dns or ())
        if self.dns_domain and not servers:
            raise ConfigError(
                "--dns-domain without --dns: nobody would know whom to ask",
                field="dns-domain",
                remedy="name the DNS server with --dns",
            )
        return servers

    def domains(self) -> tuple[str, ...]:
        """Raises ConfigError."""
        return tuple(_domain(text) for text in self.dns_domain or ())

    def told(self) -> tuple[parsing.Network, ...]:
        """What clients are told is behind us; nothing where that is everything. Raises ConfigError."""
        if self.transport:
            return ()
        if self.split:
            return self._split(self.split)
        named = [n for selector in selectors(self.subnet or (), "--subnet") for n in selector.networks()]
        return (*self.pools(), *named) if all(network.prefixlen for network in named) else ()

    def _split(self, texts: list[str]) -> tuple[parsing.Network, ...]:
        told = parsing.networks(texts, "--split")
        named = [side for side in self.behind_us() if isinstance(side, TrafficSelector)]
        carried = [network for side in named for network in side.networks()]
        for network in told:
            if not any(parsing.lies_within(network, other) for other in carried):
                raise ConfigError(
                    f"--split: clients would send what is for {network} through us, and no tunnel carries it",
                    field="split",
                    remedy=f"add --subnet {network}; what --subnet names they are told of without --split",
                )
        return told


def between_hosts(child: ChildConfig) -> ChildConfig:
    """The same in transport mode. Raises ConfigError for selectors with addresses."""
    from espudp.wire.transport import Mode

    return replace(child, mode=Mode.TRANSPORT)


def _flows(typed: list[str] | None, option: str) -> tuple[Selector, ...]:
    return flows(typed or (ANY,), option)


def _everything() -> tuple[Selector, ...]:
    return selectors((EVERYTHING,), "--subnet")


def _domain(text: str) -> str:
    from espudp.ike.handout import domain_name

    name = domain_name(text.encode(errors="replace"))
    if name is None:
        raise ConfigError(
            f"--dns-domain: '{text}' is not a domain",
            field="dns-domain",
            remedy="write one such as corp.example, in ASCII (xn--...) where it is not",
        )
    return name
