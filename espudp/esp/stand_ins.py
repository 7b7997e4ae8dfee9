"""Several peers of transport mode behind one NAT, told apart for this host (RFC 3948 section 5.2).

To this host all of them are at the NAT's address. Where two would be at the same address, protocol and ports,
as clients of L2TP are that all use port 1701, the later one is shown under another address, which stands in
for its own between the data path and this host, and never leaves. The ports stay what they are, so that
protocols that count on them, or write them into their payload, notice nothing.

When a peer goes, its place is kept free for a while: what this host still has to say to it must not get to
another one. Whoever has proved to be the same, and comes by the same mapping of the same NAT, takes it at
once. The address that a peer says it has itself shows nothing: others could say the same.
"""

from collections import defaultdict
from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from ipaddress import IPv4Network, IPv6Network, ip_address
from itertools import cycle, islice
from typing import NamedTuple

from espudp.errors import ConfigError
from espudp.esp.sa import ChildKeys
from espudp.wire import ip
from espudp.wire.address import UdpAddress
from espudp.wire.selectors import ALL_PORTS, ANY_PROTOCOL, TrafficSelector, at_host
from espudp.wire.transport import Transport

Network = IPv4Network | IPv6Network
Selectors = tuple[TrafficSelector, ...]

# RFC 4301 section 4.4.1.3: they have one "port", which the selectors of who sends it speak of, and no other.
_WITHOUT_PORT_THERE = frozenset({ANY_PROTOCOL, ip.ICMP, ip.ICMPV6, ip.MOBILITY})

# Networks in which no peer of anybody's is: RFC 2544 appendix C.2.2 (benchmarks, never routed), and a unique
# local prefix of our own (RFC 4193).
DEFAULT_NETWORKS: tuple[Network, ...] = (
    IPv4Network("198.18.0.0/15"),
    IPv6Network("fd65:7370:7564:7000::/64"),
)

# Our choice: longer than what keeps L2TP up takes to find a peer gone (xl2tpd: 60 s, and some retries).
REST_SECONDS = 120.0

# Our bound on the search for an address that is free.
_TRIES = 1 << 10


def apart_from(taken: Iterable[Network], networks: Iterable[Network] = DEFAULT_NETWORKS) -> list[Network]:
    """What is left of `networks` where others are in use."""
    left = list(networks)
    for other in taken:
        left = [part for network in left for part in _without(network, other)]
    return left


def _without(network: Network, other: Network) -> list[Network]:
    if network.version != other.version or not network.overlaps(other):
        return [network]
    if other.prefixlen <= network.prefixlen:
        return []
    return [part for half in network.subnets() for part in _without(half, other)]


class _Mapping(NamedTuple):
    """Of a peer: who it is, where it is seen, and the address that it says it has itself."""

    who: Hashable
    seen: UdpAddress
    inside: str


@dataclass(slots=True, eq=False)
class _Place:
    """What a child SA takes of an address."""

    connection: int
    transport: Transport
    mapping: _Mapping
    local: Selectors
    remote: Selectors
    """What they tell apart of packets to the peer."""
    until: float | None = None
    """When it is free again; None: it is in use."""

    def meets(self, other: "_Place") -> bool:
        """Whether packets could be meant for this one as well as for another peer's."""
        same = other.connection == self.connection or other.mapping == self.mapping
        # Ports of theirs, if anything, tell many peers behind one address apart.
        return not same and _overlap(self.remote, other.remote) and _overlap(self.local, other.local)


class StandIns:
    """Which address each peer of transport mode has for this host."""

    def __init__(self, networks: Sequence[Network] = DEFAULT_NETWORKS) -> None:
        """Networks that are this host's to give away, and that it need not reach."""
        self._free = {version: _hosts([n for n in networks if n.version == version]) for version in (4, 6)}
        self._places: dict[int, _Place] = {}  # by inbound SPI
        self._at: defaultdict[str, set[int]] = defaultdict(set)  # by the address that this host is shown
        self._of: defaultdict[int, set[int]] = defaultdict(set)  # by connection
        self._resting: dict[int, _Place] = {}  # those that nobody uses, the oldest first
        self._known: dict[_Mapping, str] = {}  # the stand-ins of these

    def place(
        self, keys: ChildKeys, transport: Transport, who: Hashable, now: float
    ) -> tuple[Transport, Selectors]:
        """What a child SA is to have in place of `transport` and its remote selectors.

        `who` is what its peer has proved to be. One that `replaces` another is for no more than that was.

        Raises ConfigError if there is no address left.
        """
        self._sweep(now)
        self._forget(keys.spi_in)
        mapping = _Mapping(who, keys.path.remote, transport.remote_there)
        replaced = None if keys.replaces is None else self._places.get(keys.replaces)
        for stand_in in self._candidates(keys.connection, transport, mapping, replaced):
            shown = replace(transport, stand_in=stand_in)
            remote = at_host(keys.remote, stand_in) if stand_in else keys.remote
            place = _Place(keys.connection, shown, mapping, keys.local, _as_receiver(remote))
            if replaced is not None or not self._is_taken(place):
                self._places[keys.spi_in] = place
                self._at[shown.shown].add(keys.spi_in)
                self._of[keys.connection].add(keys.spi_in)
                return shown, remote
        raise ConfigError(
            f"no address left to tell peers behind {transport.remote} apart",
            field="stand-ins",
            remedy="Give a larger network.",
        )

    def move(self, connection: int, remote: UdpAddress) -> None:
        """Its peer is at another mapping of its NAT; for this host it stays where it is."""
        for spi_in in self._of.get(connection, ()):
            place = self._places[spi_in]
            if place.until is None:
                place.mapping = place.mapping._replace(seen=remote)

    def remove(self, spi_in: int, now: float) -> None:
        """The child SA is over. Nothing happens if it is none of transport mode."""
        place = self._places.get(spi_in)
        if place is not None and place.until is None:
            place.until = now + REST_SECONDS
            self._resting[spi_in] = place
            self._known[place.mapping] = place.transport.stand_in

    def remove_connection(self, connection: int, now: float) -> None:
        """All its child SAs are."""
        for spi_in in self._of.get(connection, ()):
            self.remove(spi_in, now)

    def _candidates(
        self, connection: int, transport: Transport, mapping: _Mapping, replaced: _Place | None
    ) -> Iterator[str]:
        """As before, if it replaces one, or its peer has others; its own address; any that is free."""
        if replaced is not None:
            yield replaced.transport.stand_in
            return
        mine = (self._places[spi].transport for spi in self._of.get(connection, ()))
        before = [other.stand_in for other in mine if other.remote == transport.remote]
        if mapping in self._known:
            before.append(self._known[mapping])
        yield from dict.fromkeys([*before, ""])
        for address in islice(self._free[ip_address(transport.remote).version], _TRIES):
            if address not in self._at:
                yield address

    def _is_taken(self, place: _Place) -> bool:
        others = (self._places[spi] for spi in self._at.get(place.transport.shown, ()))
        return any(other.meets(place) for other in others)

    def _sweep(self, now: float) -> None:
        for spi_in, place in list(self._resting.items()):
            if place.until is None or place.until > now:
                return
            self._forget(spi_in)

    def _forget(self, spi_in: int) -> None:
        place = self._places.pop(spi_in, None)
        if place is None:
            return
        self._resting.pop(spi_in, None)
        self._known.pop(place.mapping, None)
        self._at[place.transport.shown].discard(spi_in)
        if not self._at[place.transport.shown]:
            del self._at[place.transport.shown]
        self._of[place.connection].discard(spi_in)
        if not self._of[place.connection]:
            del self._of[place.connection]


def _hosts(networks: Sequence[Network]) -> Iterator[str]:
    """Round and round: what was given longest ago comes last."""
    for network in cycle(networks):
        first = 1 if network.num_addresses > 1 else 0
        # IPv4 has a broadcast address at the end.
        last = network.num_addresses - (2 if network.num_addresses > 2 else 1)
        yield from (str(network.network_address + number) for number in range(first, last + 1))


def _as_receiver(selectors: Selectors) -> Selectors:
    """What they tell apart of packets to this side."""
    first, last = ALL_PORTS
    return tuple(
        replace(s, first_port=first, last_port=last) if s.protocol in _WITHOUT_PORT_THERE else s
        for s in selectors
    )


def _overlap(some: Selectors, others: Selectors) -> bool:
    return any(one.intersect(other) is not None for one in some for other in others)
