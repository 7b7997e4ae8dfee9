"""Traffic selectors as people write them: `10.0.0.0/8`, `10.0.0.5-10.0.0.9`, `10.0.0.0/8[tcp/443]`.

In transport mode the addresses are those of the two hosts, and `tcp/443`, `udp` or `any` says all.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Iterable
from typing import TYPE_CHECKING

from espudp.errors import ConfigError
from espudp.wire.selectors import ALL_PORTS, ANY_PROTOCOL, MAX_PORT, OPAQUE, TrafficSelector

if TYPE_CHECKING:
    from espudp.ike.narrowing import Dynamic, Selector

DYNAMIC = "dynamic"

_ANY = ("any", "%any", "")
_MAX_PROTOCOL = 255

_FLOW_SAMPLE = "write it as in udp/1701, tcp or any"
_SAMPLE = "write it as in 10.1.0.0/16, 10.1.0.5-10.1.0.9, fd00:1::/64[tcp] or 10.1.0.0/16[tcp/443]"


def selectors(texts: Iterable[str], option: str) -> tuple[TrafficSelector, ...]:
    """Raises ConfigError."""
    return tuple(selector(text, option) for text in texts)


def selectors_or_dynamic(texts: Iterable[str], option: str) -> tuple[Selector, ...]:
    """The same, where `dynamic[tcp/22]` may stand for a virtual address. Raises ConfigError."""
    from espudp.ike.narrowing import Dynamic

    found: list[Selector] = []
    for text in texts:
        where, protocol, ports = _split(text, option)
        found.append(Dynamic(protocol, *ports) if where == DYNAMIC else selector(text, option))
    return tuple(found)


def flows(texts: Iterable[str], option: str) -> tuple[Dynamic, ...]:
    """For transport mode: protocol and ports alone, `dynamic[udp/1701]` or `udp/1701`. Raises ConfigError."""
    from espudp.ike.narrowing import Dynamic

    found: list[Dynamic] = []
    for text in texts:
        bare = text.strip().lower()
        where, protocol, ports = _split(bare if "[" in bare or bare == DYNAMIC else f"[{bare}]", option)
        if where not in (DYNAMIC, ""):
            raise ConfigError(
                f"{option}: '{text}' has addresses, and in transport mode they are those of the two hosts",
                field=option,
                remedy=_FLOW_SAMPLE,
            )
        found.append(Dynamic(protocol, *ports))
    return tuple(found)


def selector(text: str, option: str) -> TrafficSelector:
    """One selector. Raises ConfigError."""
    where, protocol, ports = _split(text, option)
    try:
        if "-" in where:
            first, last = (TrafficSelector.from_network(end.strip()) for end in where.split("-", 1))
            if first.version != last.version or first.first.packed > last.last.packed:
                raise ValueError
            return TrafficSelector(first.first, last.last, protocol, *ports)
        whole = TrafficSelector.from_network(where)
    except ValueError:
        raise ConfigError(f"{option}: '{text}' is not a subnet", field=option, remedy=_SAMPLE) from None
    return TrafficSelector(whole.first, whole.last, protocol, *ports)


def _split(text: str, option: str) -> tuple[str, int, tuple[int, int]]:
    """Addresses, protocol number, ports."""
    match = re.fullmatch(r"([^\[\]]*)(?:\[([^\[\]/]*)(?:/([^\[\]/]*))?\])?", text.strip())
    if match is None:
        raise ConfigError(f"{option}: '{text}' is not a subnet", field=option, remedy=_SAMPLE)
    where, protocol, ports = ((part or "").strip().lower() for part in match.groups())
    number = _protocol(protocol)
    pair = _ports(ports, protocol)
    if number is None or pair is None:
        what = f"'{protocol}' is no protocol" if number is None else f"'{ports}' is no port"
        raise ConfigError(f"{option}: {what} in '{text}'", field=option, remedy=_SAMPLE)
    return where, number, pair


def _protocol(text: str) -> int | None:
    if text in _ANY:
        return ANY_PROTOCOL
    if text.isdecimal():
        return int(text) if int(text) <= _MAX_PROTOCOL else None
    try:
        return socket.getprotobyname(text)
    except OSError:
        return None


def _ports(text: str, protocol: str) -> tuple[int, int] | None:
    """For ICMP, type * 256 + code, as everywhere in IKE (RFC 7296 section 3.13.1)."""
    if text in _ANY:
        return ALL_PORTS
    if text == "opaque":
        return OPAQUE
    first, dash, last = text.partition("-")
    ends = [_port(end.strip(), protocol) for end in ((first, last) if dash else (first,))]
    if any(end is None for end in ends):
        return None
    low, high = ends[0] or 0, ends[-1] or 0
    return (low, high) if low <= high else None


def _port(text: str, protocol: str) -> int | None:
    if text.isdecimal():
        return int(text) if int(text) <= MAX_PORT else None
    try:
        return socket.getservbyname(text, protocol) if protocol else socket.getservbyname(text)
    except OSError:
        return None
