"""The selectors of transport mode, where each side sees the two outer addresses in its own way.

Through NATs the addresses in a peer's selectors mean something to the peer alone. They are kept for
checksums, and those that this host sees are put in their place (RFC 7296 section 2.23.1).
"""

from collections.abc import Iterable
from dataclasses import replace
from ipaddress import ip_address

from espudp.wire.selectors import TrafficSelector


def only_host(selectors: Iterable[TrafficSelector]) -> str | None:
    """The one address that all of them are for; None if it is not one."""
    ends = {end for selector in selectors for end in (selector.first, selector.last)}
    return str(ends.pop()) if len(ends) == 1 else None


def at_host(selectors: Iterable[TrafficSelector], address: str) -> tuple[TrafficSelector, ...]:
    """The same protocols and ports of another host."""
    ip = ip_address(address)
    return tuple(dict.fromkeys(replace(selector, first=ip, last=ip) for selector in selectors))
