"""The body of the TSi and TSr payloads (RFC 7296 section 3.13)."""

from typing import Final

from espudp.errors import WireError
from espudp.wire.buffer import Reader, Writer
from espudp.wire.ikev2 import constants as c
from espudp.wire.selectors import TrafficSelector

# RFC 7296 section 3.13.1: the octets of one address, by the type of the selector
_ADDRESS_OCTETS: Final[dict[int, int]] = {c.TsType.IPV4_ADDR_RANGE: 4, c.TsType.IPV6_ADDR_RANGE: 16}


def parse_selectors(reader: Reader) -> tuple[tuple[TrafficSelector, ...], int]:
    """Reads the count and the selectors that it promises; nothing may be left over.

    Returns the selectors of types that we know, and the number of the others (which narrowing drops).
    Raises WireError where count, length, type and address family do not agree.
    """
    count = reader.u8()
    reader.skip(3)
    if not count:
        raise WireError("a payload of no traffic selectors")
    selectors = []
    for _ in range(count):
        selector = _parse_selector(reader)
        if selector is not None:
            selectors.append(selector)
    reader.expect_end()
    return tuple(selectors), count - len(selectors)


def _parse_selector(reader: Reader) -> TrafficSelector | None:
    type_, protocol = reader.u8(), reader.u8()
    body = reader.sub(reader.u16() - 4)
    address_octets = _ADDRESS_OCTETS.get(type_)
    if address_octets is None:
        return None
    first_port, last_port = body.u16(), body.u16()
    first, last = body.take(address_octets), body.take(address_octets)
    body.expect_end()
    return TrafficSelector.from_octets(first, last, protocol, first_port, last_port)


def emit_selectors(writer: Writer, selectors: tuple[TrafficSelector, ...]) -> None:
    """Appends count and selectors. Raises WireError for none or more than 255."""
    if not selectors:
        raise WireError("a payload of no traffic selectors")
    writer.u8(len(selectors))
    writer.put(bytes(3))
    for selector in selectors:
        writer.u8(c.TsType.IPV4_ADDR_RANGE if selector.version == 4 else c.TsType.IPV6_ADDR_RANGE)
        writer.u8(selector.protocol)
        with writer.length16(include=4):
            writer.u16(selector.first_port)
            writer.u16(selector.last_port)
            writer.put(selector.first.packed)
            writer.put(selector.last.packed)
