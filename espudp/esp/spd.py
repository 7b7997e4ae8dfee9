"""The security policy database, outbound: packet -> outbound SA (RFC 4301 section 4.4.1).

Each SA is filed under the smallest networks that cover its remote selectors, one table per prefix
length. A lookup goes from the longest prefix to the shortest, and is as fast for ten thousand peers with an
address each as for one. In one network, SAs for certain ports come before SAs for all traffic, and newer
ones before older. What was found is remembered, until something changes.

Where several workers share the SAs, those of the others are filed as well: they win packets in the same way,
but of several SAs for the same traffic of one connection (RFC 9611) a worker uses its own.
"""

from bisect import insort
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TypeGuard

from espudp.esp.sa import OutboundSa
from espudp.esp.selectors import SelectorSet, Verdict
from espudp.wire.buffer import Buffer
from espudp.wire.ip import Flow, parse_flow
from espudp.wire.selectors import TrafficSelector

# How many decisions are remembered, by addresses and by flow; then both memories start anew.
CACHE_SIZE = 1 << 14

# Bits of an address (32 or 128: IPv4 and IPv6 are filed apart), prefix length, network number.
_Block = tuple[int, int, int]


@dataclass(frozen=True, slots=True, eq=False)
class ForeignSa:
    """An outbound SA that another worker owns: which packets it takes, and nothing of its keys."""

    connection: int
    owner: int
    local: tuple[TrafficSelector, ...]
    remote: tuple[TrafficSelector, ...]
    hosts: bytes = b""
    """In transport mode its two addresses, packed one behind the other; empty: tunnel mode."""
    selectors: SelectorSet = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "selectors", SelectorSet(source=self.local, destination=self.remote))

    def equals(self, sa: "_Sa") -> TypeGuard[OutboundSa]:
        """Whether it is an SA of this worker's, of the same connection, and for the same traffic."""
        return (
            isinstance(sa, OutboundSa)
            and sa.child.peer.connection == self.connection
            and (sa.child.local, sa.remote) == (self.local, self.remote)
        )


_Sa = OutboundSa | ForeignSa


class _Entry:
    """An SA in one network of the table."""

    __slots__ = ("order", "sa")

    def __init__(self, sa: _Sa, any_traffic: bool, serial: int) -> None:
        self.sa = sa
        self.order = (any_traffic, -serial)


class Spd:
    """Outbound SAs by the packets they may carry."""

    __slots__ = ("_by_addresses", "_by_flow", "_filed", "_foreign", "_serial", "_tables", "settled")

    def __init__(self) -> None:
        # address bits -> prefix length, longest first -> network number -> entries, best first
        self._tables: dict[int, dict[int, dict[int, list[_Entry]]]] = {32: {}, 128: {}}
        self._filed: dict[_Sa, list[_Block]] = {}
        self._serial = 0
        self._by_addresses: dict[bytes, OutboundSa] = {}
        # The SA of all packets between two addresses, if one of them was looked up since the last change.
        self.settled = self._by_addresses.get
        self._by_flow: dict[Flow, OutboundSa] = {}
        self._foreign: dict[bytes, ForeignSa] = {}

    def __contains__(self, sa: _Sa) -> bool:
        return sa in self._filed

    def add(self, sa: _Sa) -> None:
        """From now on the SA is the first choice among equals."""
        self.remove(sa)
        self._serial += 1
        # Once in each network, however many selectors it has there: a lookup asks it once.
        blocks: dict[_Block, bool] = {}
        for selector in sa.remote:
            block = _cover(selector)
            blocks[block] = selector.any_traffic and blocks.get(block, True)
        self._filed[sa] = list(blocks)
        for block, any_traffic in blocks.items():
            bits, prefix, network = block
            tables = self._tables[bits]
            if prefix not in tables:
                tables[prefix] = {}
                self._tables[bits] = dict(sorted(tables.items(), reverse=True))
            entries = self._tables[bits][prefix].setdefault(network, [])
            insort(entries, _Entry(sa, any_traffic, self._serial), key=lambda entry: entry.order)
        self._forget()

    def remove(self, sa: _Sa) -> None:
        """Does nothing if it is not there."""
        for bits, prefix, network in self._filed.pop(sa, ()):
            table = self._tables[bits].get(prefix, {})
            entries = [entry for entry in table.get(network, ()) if entry.sa is not sa]
            if entries:
                table[network] = entries
            else:
                table.pop(network, None)
            if not table:
                self._tables[bits].pop(prefix, None)
        self._forget()

    def lookup(self, addresses: bytes, packet: Buffer) -> OutboundSa | None:
        """The SA for a packet, whose source and destination `addresses` are, packed one behind the other."""
        return self._by_addresses.get(addresses) or self._decide(addresses, packet)

    def owner(self, addresses: bytes, packet: Buffer) -> int | None:
        """The other worker that owns the SA for a packet, for which `lookup` has found none."""
        sa = self._foreign.get(addresses) or self._best(addresses, packet)[0]
        return sa.owner if isinstance(sa, ForeignSa) else None

    def _decide(self, addresses: bytes, packet: Buffer) -> OutboundSa | None:
        """By the addresses if they settle it, else by the flow; and remember it."""
        if addresses in self._foreign:
            return None
        sa, flow = self._best(addresses, packet)
        if sa is None:
            return None
        if len(self._by_addresses) + len(self._by_flow) + len(self._foreign) >= CACHE_SIZE:
            self._forget()
        if isinstance(sa, ForeignSa):
            if flow is None:
                self._foreign[addresses] = sa
            return None
        if flow is None:
            self._by_addresses[addresses] = sa
        else:
            self._by_flow[flow] = sa
        return sa

    def _best(self, addresses: bytes, packet: Buffer) -> tuple[_Sa | None, Flow | None]:
        """The first SA that takes the packet, and the packet's flow if it mattered."""
        matches = self._matches(addresses, packet)
        first, flow = next(matches, (None, None))
        if isinstance(first, ForeignSa):
            for sa, its_flow in matches:
                if first.equals(sa):
                    return sa, its_flow
        return first, flow

    def _matches(self, addresses: bytes, packet: Buffer) -> Iterator[tuple[_Sa, Flow | None]]:
        flow: Flow | None = None
        for sa in self._candidates(addresses):
            verdict = sa.selectors.verdict(addresses)
            if verdict is Verdict.ALL and flow is None:
                yield sa, None
                continue
            if verdict is Verdict.NONE:
                continue
            if flow is None:
                if (flow := parse_flow(packet)) is None:
                    return
                flow = flow._replace(tos=0, length=0)
                if (known := self._by_flow.get(flow)) is not None:
                    yield known, flow
                    return
            if sa.selectors.matches(flow):
                yield sa, flow

    def _candidates(self, addresses: bytes) -> Iterator[_Sa]:
        """The SAs whose remote network holds the destination, best first."""
        half = len(addresses) // 2
        bits = half * 8
        destination = int.from_bytes(addresses[half:], "big")
        for prefix, table in self._tables[bits].items():
            for entry in table.get(destination >> (bits - prefix), ()):
                yield entry.sa

    def _forget(self) -> None:
        self._by_addresses.clear()
        self._by_flow.clear()
        self._foreign.clear()


def _cover(selector: TrafficSelector) -> _Block:
    """The smallest network that holds the selector's whole range."""
    bits = selector.first.max_prefixlen
    first, last = int(selector.first), int(selector.last)
    prefix = bits - (first ^ last).bit_length()
    return bits, prefix, first >> (bits - prefix)
