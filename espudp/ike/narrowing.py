"""Traffic selector narrowing (RFC 7296 section 2.9), and what `dynamic` stands for."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from ipaddress import ip_address

from espudp.ike.side_by_side import NOTHING_IN_COMMON, side_by_side
from espudp.wire.selectors import ANY_PROTOCOL, MAX_PORT, TrafficSelector

# RFC 7296 section 3.13: the number of selectors in a payload is one octet.
MAX_SELECTORS = 255

# Our bound: in transport mode the host has a policy rule for each pair.
MAX_TRANSPORT_PAIRS = 32

_NOWHERE = TrafficSelector.from_network("0.0.0.0/32")
EVERYTHING = {4: TrafficSelector.from_network("0.0.0.0/0"), 6: TrafficSelector.from_network("::/0")}


@dataclass(frozen=True, slots=True)
class Dynamic:
    """In a configuration: the virtual addresses that this connection gets, or gives to its peer."""

    protocol: int = ANY_PROTOCOL
    first_port: int = 0
    last_port: int = MAX_PORT

    def at(self, host: TrafficSelector) -> TrafficSelector:
        """The same of an address."""
        return replace(host, protocol=self.protocol, first_port=self.first_port, last_port=self.last_port)

    def __str__(self) -> str:
        return f"dynamic{str(self.at(_NOWHERE)).removeprefix(str(_NOWHERE))}"


DYNAMIC = Dynamic()
"""All traffic of these addresses."""

Selector = TrafficSelector | Dynamic


def resolve(configured: Iterable[Selector], addresses: Iterable[str]) -> tuple[TrafficSelector, ...]:
    """The configured selectors, with one selector per address in place of DYNAMIC.

    An initiator that has yet to be told its address asks with what it requests: `any4` and `any6` become all
    of IPv4 and IPv6, which the responder then narrows to the address that it assigns.
    """
    hosts = [_host(address) for address in addresses]
    resolved: list[TrafficSelector] = []
    for selector in configured:
        resolved += [selector.at(host) for host in hosts] if isinstance(selector, Dynamic) else [selector]
    return tuple(dict.fromkeys(resolved))


def narrow(
    proposed: Sequence[TrafficSelector], configured: Sequence[TrafficSelector]
) -> tuple[TrafficSelector, ...] | None:
    """What both sides allow, in the proposal's order, or None where that is nothing (TS_UNACCEPTABLE).

    All of the intersection is kept, so whatever part of the initiator's first selector (the packet that made
    it ask) is acceptable is always within. Selectors that lie inside another one of the result are left out.
    """
    common = _intersections(proposed, configured)
    return tuple(s for s in common if not any(s is not wide and wide.contains(s) for wide in common)) or None


def _intersections(
    proposed: Sequence[TrafficSelector], configured: Sequence[TrafficSelector]
) -> tuple[TrafficSelector, ...]:
    """Distinct ones. No more of them are looked for than fit in a payload: a peer may propose selectors that
    cross ours in as many ways as there are pairs.
    """
    found: dict[TrafficSelector, None] = {}
    for asked in proposed:
        for allowed in configured:
            both = asked.intersect(allowed)
            if both is not None:
                found[both] = None
                if len(found) == MAX_SELECTORS:
                    return tuple(found)
    return tuple(found)


def pairs(
    local: Iterable[TrafficSelector], remote: Iterable[TrafficSelector]
) -> Iterator[tuple[TrafficSelector, TrafficSelector]]:
    """One of each side, of one IP version, in order: what a peer understands that knows no lists."""
    remote = tuple(remote)
    for ours in local:
        yield from ((ours, theirs) for theirs in remote if theirs.version == ours.version)


def describe_no_common(
    proposed_ours: Sequence[TrafficSelector],
    proposed_theirs: Sequence[TrafficSelector],
    our_local: Sequence[TrafficSelector],
    our_remote: Sequence[TrafficSelector],
) -> str:
    """Both sides' selectors, line against line, for the responder that finds no common subnet.

    `proposed_ours` is what the peer wants to reach behind us (TSr), `proposed_theirs` its own side (TSi).
    """
    rows = (
        ("this side", proposed_ours, our_local),
        ("peer's side", proposed_theirs, our_remote),
    )
    table = [("", "peer asks for", "allowed here", "")]
    for name, asked, allowed in rows:
        mark = "" if narrow(asked, allowed) else NOTHING_IN_COMMON
        table.append((name, _list(asked), _list(allowed), mark))
    return side_by_side(table)


def _host(address: str) -> TrafficSelector:
    if address in ("any4", "any6"):
        return EVERYTHING[int(address[-1])]
    ip = ip_address(address)
    return TrafficSelector(ip, ip)


def _list(selectors: Sequence[TrafficSelector], limit: int = 8) -> str:
    shown = [str(selector) for selector in selectors[:limit]]
    if len(selectors) > limit:
        shown.append(f"and {len(selectors) - limit} more")
    return ", ".join(shown) or "none"
