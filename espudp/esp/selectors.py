"""Traffic selectors, compiled for matching packets (RFC 4301 section 4.4.1.1, RFC 7296 section 2.9)."""

from collections.abc import Sequence
from enum import IntEnum
from typing import NamedTuple, Self

from espudp.wire.ip import ABSENT, OPAQUE, Flow
from espudp.wire.selectors import ANY_PROTOCOL, MAX_PORT, TrafficSelector

_IPV4_OCTETS = 4


class Verdict(IntEnum):
    """What addresses alone say about a packet. Two sides together say the lesser."""

    NONE = 0
    """No packet between them matches."""
    SOME = 1
    """Protocol and ports decide."""
    ALL = 2
    """Every packet between them matches."""


class _Row(NamedTuple):
    first: bytes
    last: bytes
    protocol: int
    first_port: int
    last_port: int
    unrestricted: bool


def _row(selector: TrafficSelector) -> _Row:
    return _Row(
        selector.first.packed,
        selector.last.packed,
        selector.protocol,
        selector.first_port,
        selector.last_port,
        selector.any_traffic,
    )


class _Side:
    """The selectors of one end, by the octets of an address: packed ones of one length compare as numbers."""

    __slots__ = ("_ipv4", "_ipv6")

    def __init__(self, selectors: Sequence[TrafficSelector]) -> None:
        rows = [_row(selector) for selector in selectors]
        self._ipv4 = tuple(row for row in rows if len(row.first) == _IPV4_OCTETS)
        self._ipv6 = tuple(row for row in rows if len(row.first) != _IPV4_OCTETS)

    def verdict(self, address: bytes) -> Verdict:
        verdict = Verdict.NONE
        for row in self._rows(address):
            if row.first <= address <= row.last:
                if row.unrestricted:
                    return Verdict.ALL
                verdict = Verdict.SOME
        return verdict

    def matches(self, address: bytes, protocol: int, port: int) -> bool:
        return any(
            row.first <= address <= row.last
            and row.protocol in (ANY_PROTOCOL, protocol)
            and _port_matches(row, port)
            for row in self._rows(address)
        )

    def _rows(self, address: bytes) -> tuple[_Row, ...]:
        return self._ipv4 if len(address) == _IPV4_OCTETS else self._ipv6


def _port_matches(row: _Row, port: int) -> bool:
    # RFC 4301 section 4.4.1.1: ANY includes OPAQUE
    if row.first_port == 0 and row.last_port == MAX_PORT:
        return True
    if port == OPAQUE:
        # RFC 7296 section 3.13.1: OPAQUE is written as the range from 65535 to 0
        return row.first_port > row.last_port
    # RFC 4301 section 4.4.1.3: where a protocol has one "port", only the sender's selector speaks of it
    return port == ABSENT or row.first_port <= port <= row.last_port


class SelectorSet:
    """Which packets an SA carries in one direction: any of `source` together with any of `destination`."""

    __slots__ = ("_destination", "_source")

    def __init__(self, source: Sequence[TrafficSelector], destination: Sequence[TrafficSelector]) -> None:
        self._source = _Side(source)
        self._destination = _Side(destination)

    def reversed(self) -> Self:
        """Of the other direction. What both have in common is there once."""
        other = object.__new__(type(self))
        other._source, other._destination = self._destination, self._source
        return other

    def verdict(self, addresses: bytes) -> Verdict:
        """For a source and a destination address, packed one behind the other."""
        half = len(addresses) // 2
        return min(self._source.verdict(addresses[:half]), self._destination.verdict(addresses[half:]))

    def matches(self, flow: Flow) -> bool:
        """Whether the packet is one of the SA's. Later fragments match only where ports do not matter."""
        return self._source.matches(flow.src, flow.protocol, flow.sport) and self._destination.matches(
            flow.dst, flow.protocol, flow.dport
        )
