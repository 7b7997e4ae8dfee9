"""Links, addresses, routes and policy rules over rtnetlink (RFC 3549).

In messages of our own: a request and its answer on a plain socket take some 50 us. pyroute2 would add 10 MB
to every process for the few kinds of message that are needed here, and its `IPRoute` runs an event loop of
its own inside every call, which Python refuses on a thread whose loop is running already, as ours is.
"""

import errno
import ipaddress
import os
import socket
import struct
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from espudp.errors import HostError

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Interface = ipaddress.IPv4Interface | ipaddress.IPv6Interface

# linux/rtnetlink.h
RTM_SETLINK = 19
RTM_NEWADDR, RTM_DELADDR, RTM_GETADDR = 20, 21, 22
RTM_NEWROUTE, RTM_DELROUTE, RTM_GETROUTE = 24, 25, 26
RTM_NEWRULE, RTM_DELRULE = 32, 33
RT_TABLE_MAIN = 254
RT_TABLE_UNSPEC = 0
RTPROT_STATIC = 4
RT_SCOPE_UNIVERSE, RT_SCOPE_LINK = 0, 253
RTN_UNICAST = 1
RTA_DST, RTA_OIF, RTA_GATEWAY, RTA_PREFSRC, RTA_TABLE, RTA_MARK = 1, 4, 5, 7, 15, 16
# linux/netlink.h
NLM_F_REQUEST, NLM_F_ACK, NLM_F_DUMP = 0x1, 0x4, 0x300
NLM_F_REPLACE, NLM_F_EXCL, NLM_F_CREATE = 0x100, 0x200, 0x400
NLMSG_ERROR, NLMSG_DONE = 2, 3
# linux/fib_rules.h
FR_ACT_TO_TBL = 1
FRA_DST, FRA_PRIORITY, FRA_FWMARK, FRA_SUPPRESS_PREFIXLEN, FRA_TABLE, FRA_FWMASK = 1, 6, 10, 14, 15, 16
# linux/if_addr.h
IFA_F_NODAD, IFA_F_NOPREFIXROUTE = 0x02, 0x200
IFA_ADDRESS, IFA_LOCAL, IFA_FLAGS = 1, 2, 8
# linux/if_link.h
IFLA_TXQLEN, IFLA_GSO_MAX_SEGS = 13, 40

_HEADER = struct.Struct("=IHHII")  # length, type, flags, sequence number, port id
_LINK = struct.Struct("=BxHiII")  # struct ifinfomsg: family, type, index, flags, change
_ADDRESS = struct.Struct("=BBBBI")  # struct ifaddrmsg: family, prefix length, flags, scope, index
# struct rtmsg: family, destination's and source's prefix length, TOS, table, protocol, scope, type, flags;
# struct fib_rule_hdr: nothing in the places of protocol and scope, and the action in that of type
_ROUTE = struct.Struct("=BBBBBBBBI")
_ATTRIBUTE = struct.Struct("=HH")  # length with this header, type
_NUMBER = struct.Struct("=I")
_RECEIVE_OCTETS = 1 << 16
_ANSWER_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class DeviceAddress:
    """An address of a device; `prefix_route`: the kernel adds the route to its network."""

    device: int
    address: str  # with the prefix length of its network
    prefix_route: bool = False


@dataclass(frozen=True, slots=True)
class Route:
    """A unicast route through a device without next hop, in a routing table."""

    destination: str  # CIDR
    device: int
    table: int = RT_TABLE_MAIN
    source: str | None = None  # preferred source address of packets that take it


@dataclass(frozen=True, slots=True)
class Rule:
    """A policy rule: which table decides on packets to `destination`.

    `unless_mark`: packets whose fwmark has any of these bits pass it by. `suppress_prefix`: the table's
    answer counts only if its prefix is longer than this.
    """

    priority: int
    table: int
    destination: str  # CIDR
    unless_mark: int | None = None
    suppress_prefix: int | None = None


@dataclass(frozen=True, slots=True)
class NextHop:
    """Where the kernel would send a packet, and from which address."""

    device: int
    gateway: str | None
    source: str | None


class Netlink:
    """A blocking rtnetlink socket. Every refusal of the kernel is raised as OSError."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, 0)
        self._socket.settimeout(_ANSWER_SECONDS)
        self._socket.bind((0, 0))
        self._sequence = 0

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def set_link(
        self, index: int, *, gso_max_segs: int | None = None, queue_packets: int | None = None
    ) -> None:
        """How many segments a device's super-packets have at most, and how many packets wait in it."""
        wanted = {IFLA_GSO_MAX_SEGS: gso_max_segs, IFLA_TXQLEN: queue_packets}
        changes = {kind: value for kind, value in wanted.items() if value is not None}
        self._change(_LINK.pack(socket.AF_UNSPEC, 0, index, 0, 0) + _attributes(changes), RTM_SETLINK)

    def add_address(self, address: DeviceAddress) -> None:
        """Give a device an address."""
        self._change(_address_message(address), RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL)

    def delete_address(self, address: DeviceAddress) -> None:
        """Take an address from a device."""
        self._change(_address_message(address), RTM_DELADDR)

    def add_route(self, route: Route) -> None:
        """Add a route, in the place of one to the same destination in that table."""
        self._change(_route_message(route), RTM_NEWROUTE, NLM_F_CREATE | NLM_F_REPLACE)

    def delete_route(self, route: Route) -> None:
        """Remove a route."""
        self._change(_route_message(route), RTM_DELROUTE)

    def add_rule(self, rule: Rule) -> None:
        """Add a policy rule, beside an equal one of another process (hence without NLM_F_EXCL)."""
        self._change(_rule_message(rule), RTM_NEWRULE, NLM_F_CREATE)

    def delete_rule(self, rule: Rule) -> None:
        """Remove a policy rule."""
        self._change(_rule_message(rule), RTM_DELRULE)

    def addresses(self) -> Iterator[tuple[int, Interface]]:
        """Every address of the host with the index of its device."""
        for answer in self._request(_ADDRESS.pack(0, 0, 0, 0, 0), RTM_GETADDR, NLM_F_DUMP):
            _, prefix, _, _, index = _ADDRESS.unpack_from(answer)
            found = _parsed(answer[_ADDRESS.size :])
            local = ipaddress.ip_address(found.get(IFA_LOCAL) or found[IFA_ADDRESS])
            yield index, ipaddress.ip_interface(f"{local}/{prefix}")

    def next_hop(self, destination: Address, mark: int = 0) -> NextHop:
        """The kernel's routing decision for a packet with that mark. OSError (ENETUNREACH): there is none."""
        head = _ROUTE.pack(_family(destination.version), destination.max_prefixlen, 0, 0, 0, 0, 0, 0, 0)
        asked = _attributes({RTA_DST: destination.packed, RTA_MARK: mark})
        answer = self._request(head + asked, RTM_GETROUTE, 0)[0]
        found = _parsed(answer[_ROUTE.size :])
        return NextHop(
            _NUMBER.unpack(found[RTA_OIF])[0],
            _address(found.get(RTA_GATEWAY)),
            _address(found.get(RTA_PREFSRC)),
        )

    def _change(self, body: bytes, kind: int, flags: int = 0) -> None:
        self._request(body, kind, flags | NLM_F_ACK)

    def _request(self, body: bytes, kind: int, flags: int) -> list[bytes]:
        """Send one message; the bodies of those that answer it."""
        self._sequence += 1
        header = _HEADER.pack(_HEADER.size + len(body), kind, flags | NLM_F_REQUEST, self._sequence, 0)
        try:
            self._socket.send(header + body)
            return self._answers(awaits_end=bool(flags & (NLM_F_DUMP | NLM_F_ACK)))
        except TimeoutError:
            raise HostError("The kernel does not answer over netlink.") from None

    def _answers(self, *, awaits_end: bool) -> list[bytes]:
        answers: list[bytes] = []
        while True:
            data = self._socket.recv(_RECEIVE_OCTETS)
            offset = 0
            while offset + _HEADER.size <= len(data):
                length, code, _, sequence, _ = _HEADER.unpack_from(data, offset)
                body = data[offset + _HEADER.size : offset + length]
                offset += _padded(length)
                if sequence != self._sequence:  # a late answer to a request that was given up
                    continue
                if code == NLMSG_ERROR:
                    _raise_error(int.from_bytes(body[:4], sys.byteorder, signed=True))
                if code in (NLMSG_ERROR, NLMSG_DONE):
                    return answers
                answers.append(body)
            if answers and not awaits_end:
                return answers


def says_missing(error: OSError) -> bool:
    """Whether an error says that what was to be removed is gone already."""
    return error.errno in (errno.ENOENT, errno.ESRCH, errno.ENODEV, errno.EADDRNOTAVAIL, errno.ENXIO)


def _raise_error(code: int) -> None:
    if code:
        raise OSError(-code, os.strerror(-code))


def _family(version: int) -> int:
    return socket.AF_INET if version == 4 else socket.AF_INET6


def _padded(octets: int) -> int:
    return (octets + 3) & ~3


def _attributes(values: Mapping[int, int | bytes]) -> bytes:
    """Numbers are of 32 bits, as they are in all that we send."""
    parts: list[bytes] = []
    for kind, value in values.items():
        data = _NUMBER.pack(value) if isinstance(value, int) else value
        parts.append(
            _ATTRIBUTE.pack(_ATTRIBUTE.size + len(data), kind) + data.ljust(_padded(len(data)), b"\0")
        )
    return b"".join(parts)


def _parsed(octets: bytes) -> dict[int, bytes]:
    """Attributes by type."""
    found: dict[int, bytes] = {}
    offset = 0
    while offset + _ATTRIBUTE.size <= len(octets):
        length, kind = _ATTRIBUTE.unpack_from(octets, offset)
        found[kind] = octets[offset + _ATTRIBUTE.size : offset + length]
        offset += _padded(max(length, _ATTRIBUTE.size))
    return found


def _address(packed: bytes | None) -> str | None:
    return None if packed is None else str(ipaddress.ip_address(packed))


def _address_message(address: DeviceAddress) -> bytes:
    interface = ipaddress.ip_interface(address.address)
    head = _ADDRESS.pack(_family(interface.version), interface.network.prefixlen, 0, 0, address.device)
    flags = IFA_F_NODAD | (0 if address.prefix_route else IFA_F_NOPREFIXROUTE)
    own = interface.ip.packed
    return head + _attributes({IFA_LOCAL: own, IFA_ADDRESS: own, IFA_FLAGS: flags})


def _route_message(route: Route) -> bytes:
    destination = ipaddress.ip_network(route.destination)
    scope = RT_SCOPE_LINK if destination.version == 4 else RT_SCOPE_UNIVERSE
    table = RT_TABLE_UNSPEC  # numbers above 255 do not fit: RTA_TABLE holds it
    head = _ROUTE.pack(
        *(_family(destination.version), destination.prefixlen, 0, 0),
        *(table, RTPROT_STATIC, scope, RTN_UNICAST, 0),
    )
    values: dict[int, int | bytes] = {RTA_TABLE: route.table, RTA_OIF: route.device}
    if destination.prefixlen:
        values[RTA_DST] = destination.network_address.packed
    if route.source is not None:
        values[RTA_PREFSRC] = ipaddress.ip_address(route.source).packed
    return head + _attributes(values)


def _rule_message(rule: Rule) -> bytes:
    destination = ipaddress.ip_network(rule.destination)
    head = _ROUTE.pack(
        *(_family(destination.version), destination.prefixlen, 0, 0),
        *(RT_TABLE_UNSPEC, 0, 0, FR_ACT_TO_TBL, 0),
    )
    values: dict[int, int | bytes] = {FRA_PRIORITY: rule.priority, FRA_TABLE: rule.table}
    if destination.prefixlen:
        values[FRA_DST] = destination.network_address.packed
    if rule.unless_mark is not None:
        # Not FIB_RULE_INVERT: that would turn the destination round as well.
        values |= {FRA_FWMARK: 0, FRA_FWMASK: rule.unless_mark}
    if rule.suppress_prefix is not None:
        values[FRA_SUPPRESS_PREFIXLEN] = rule.suppress_prefix
    return head + _attributes(values)
