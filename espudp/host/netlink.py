"""Links, addresses, routes and policy rules over rtnetlink (RFC 3549), with pyroute2's message classes.

Only the messages are pyroute2's, not its `IPRoute`: since 0.9 that runs an event loop of its own inside
every call, which Python refuses on a thread whose loop is running already, as ours is. A request and its
answer on a plain socket take some 50 us.
"""

import errno
import ipaddress
import os
import re
import socket
import struct
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from espudp.errors import HostError
from espudp.host.rtnl import fibmsg, ifaddrmsg, ifinfmsg, rtmsg

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
# linux/netlink.h
NLM_F_REQUEST, NLM_F_ACK, NLM_F_DUMP = 0x1, 0x4, 0x300
NLM_F_REPLACE, NLM_F_EXCL, NLM_F_CREATE = 0x100, 0x200, 0x400
NLMSG_ERROR, NLMSG_DONE = 2, 3
SOL_NETLINK, NETLINK_NO_ENOBUFS = 270, 5
# linux/fib_rules.h
FR_ACT_TO_TBL, FR_ACT_PROHIBIT = 1, 8
# FRA_IP_PROTO, FRA_SPORT_RANGE, FRA_DPORT_RANGE
RULES_KNOW_PORTS = (4, 17)
# linux/if_addr.h
IFA_F_NODAD, IFA_F_NOPREFIXROUTE = 0x02, 0x200
IFA_F_DADFAILED, IFA_F_TENTATIVE = 0x08, 0x40
# linux/rtnetlink.h: RTMGRP_LINK, RTMGRP_IPV4_IFADDR, _IPV4_ROUTE, _IPV6_IFADDR, _IPV6_ROUTE
_WATCHED_GROUPS = 0x1 | 0x10 | 0x40 | 0x100 | 0x400

_HEADER = struct.Struct("=IHHII")  # length, type, flags, sequence number, port id
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
    answer counts only if its prefix is longer than this. `protocol`: of IP, 0 for all; `sports` and `dports`:
    the first and the last, as in `1701:1701`. Linux has these three since 4.17. `prohibits`: this host does
    not send them, and no table is asked.
    """

    priority: int
    table: int
    destination: str  # CIDR
    unless_mark: int | None = None
    suppress_prefix: int | None = None
    protocol: int = 0
    sports: str | None = None
    dports: str | None = None
    prohibits: bool = False


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
        message = ifinfmsg()
        message["index"] = index
        wanted = {"IFLA_GSO_MAX_SEGS": gso_max_segs, "IFLA_TXQLEN": queue_packets}
        message["attrs"] = [(name, value) for name, value in wanted.items() if value is not None]
        self._change(message, RTM_SETLINK)

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
        # An older kernel would ignore protocol and ports, and so take the rule for one about everything.
        if (rule.protocol or rule.sports or rule.dports) and kernel_version() < RULES_KNOW_PORTS:
            _raise_error(-errno.EOPNOTSUPP)
        self._change(_rule_message(rule), RTM_NEWRULE, NLM_F_CREATE)

    def delete_rule(self, rule: Rule) -> None:
        """Remove a policy rule."""
        self._change(_rule_message(rule), RTM_DELRULE)

    def addresses(self) -> Iterator[tuple[int, Interface]]:
        """Every address of the host with the index of its device; those that may turn out to be another
        host's are not ours yet.
        """
        for message in self._request(ifaddrmsg(), RTM_GETADDR, NLM_F_DUMP):
            if message["flags"] & (IFA_F_DADFAILED | IFA_F_TENTATIVE):
                continue
            local = message.get_attr("IFA_LOCAL") or message.get_attr("IFA_ADDRESS")
            yield message["index"], ipaddress.ip_interface(f"{local}/{message['prefixlen']}")

    def next_hop(self, destination: Address, mark: int = 0) -> NextHop:
        """The kernel's routing decision for a packet with that mark. OSError (ENETUNREACH): there is none."""
        message = rtmsg()
        message["family"] = _family(destination.version)
        message["dst_len"] = destination.max_prefixlen
        message["attrs"] = [("RTA_DST", str(destination)), ("RTA_MARK", mark)]
        answer = self._request(message, RTM_GETROUTE, 0)[0]
        return NextHop(
            answer.get_attr("RTA_OIF"), answer.get_attr("RTA_GATEWAY"), answer.get_attr("RTA_PREFSRC")
        )

    def _change(self, message: Any, kind: int, flags: int = 0) -> None:
        self._request(message, kind, flags | NLM_F_ACK)

    def _request(self, message: Any, kind: int, flags: int) -> list[Any]:
        """Send one message; the messages that answer it, of its own class."""
        self._sequence += 1
        flags |= NLM_F_REQUEST
        message["header"].update(type=kind, flags=flags, sequence_number=self._sequence, pid=0)
        message.encode()
        try:
            self._socket.send(message.data)
            return self._answers(type(message), awaits_end=bool(flags & (NLM_F_DUMP | NLM_F_ACK)))
        except TimeoutError:
            raise HostError("The kernel does not answer over netlink.") from None

    def _answers(self, kind: type, *, awaits_end: bool) -> list[Any]:
        answers: list[Any] = []
        while True:
            data = self._socket.recv(_RECEIVE_OCTETS)
            offset = 0
            while offset + _HEADER.size <= len(data):
                length, code, _, sequence, _ = _HEADER.unpack_from(data, offset)
                body = data[offset : offset + length]
                offset += (length + 3) & ~3
                if sequence != self._sequence:  # a late answer to a request that was given up
                    continue
                if code == NLMSG_ERROR:
                    _raise_error(int.from_bytes(body[16:20], sys.byteorder, signed=True))
                if code in (NLMSG_ERROR, NLMSG_DONE):
                    return answers
                answer = kind(body)
                answer.decode()
                answers.append(answer)
            if answers and not awaits_end:
                return answers


class Watch:
    """Readable when links, addresses or routes of the host have changed; it does not say which."""

    def __init__(self) -> None:
        self._socket = socket.socket(
            socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK, 0
        )
        # Where there are more changes than it holds, one is as good as all. Told as an error it would be the
        # last that is heard of: libuv, and so uvloop, stops watching a socket with an error pending.
        self._socket.setsockopt(SOL_NETLINK, NETLINK_NO_ENOBUFS, 1)
        self._socket.bind((0, _WATCHED_GROUPS))

    def fileno(self) -> int:
        """For the event loop."""
        return self._socket.fileno()

    def take(self) -> None:
        """Heard: readable again at the next change."""
        try:
            while self._socket.recv(_RECEIVE_OCTETS):
                pass
        except BlockingIOError:
            pass

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()


def kernel_version() -> tuple[int, int]:
    """Of the running kernel, such as (6, 18)."""
    major, minor, *_ = os.uname().release.split(".")
    return int(major), int(re.sub(r"\D.*", "", minor) or 0)


def says_missing(error: OSError) -> bool:
    """Whether an error says that what was to be removed is gone already."""
    return error.errno in (errno.ENOENT, errno.ESRCH, errno.ENODEV, errno.EADDRNOTAVAIL, errno.ENXIO)


def _raise_error(code: int) -> None:
    if code:
        raise OSError(-code, os.strerror(-code))


def _family(version: int) -> int:
    return socket.AF_INET if version == 4 else socket.AF_INET6


def _address_message(address: DeviceAddress) -> Any:
    interface = ipaddress.ip_interface(address.address)
    message = ifaddrmsg()
    message["family"] = _family(interface.version)
    message["prefixlen"] = interface.network.prefixlen
    message["index"] = address.device
    flags = IFA_F_NODAD | (0 if address.prefix_route else IFA_F_NOPREFIXROUTE)
    message["attrs"] = [
        ("IFA_LOCAL", str(interface.ip)),
        ("IFA_ADDRESS", str(interface.ip)),
        ("IFA_FLAGS", flags),
    ]
    return message


def _route_message(route: Route) -> Any:
    destination = ipaddress.ip_network(route.destination)
    message = rtmsg()
    message["family"] = _family(destination.version)
    message["dst_len"] = destination.prefixlen
    message["table"] = RT_TABLE_UNSPEC  # numbers above 255 do not fit: RTA_TABLE holds it
    message["proto"] = RTPROT_STATIC
    message["type"] = RTN_UNICAST
    message["scope"] = RT_SCOPE_LINK if destination.version == 4 else RT_SCOPE_UNIVERSE
    attributes: list[tuple[str, str | int]] = [("RTA_TABLE", route.table), ("RTA_OIF", route.device)]
    if destination.prefixlen:
        attributes.append(("RTA_DST", str(destination.network_address)))
    if route.source is not None:
        attributes.append(("RTA_PREFSRC", route.source))
    message["attrs"] = attributes
    return message


def _rule_message(rule: Rule) -> Any:
    destination = ipaddress.ip_network(rule.destination)
    message = fibmsg()
    message["family"] = _family(destination.version)
    message["action"] = FR_ACT_PROHIBIT if rule.prohibits else FR_ACT_TO_TBL
    message["dst_len"] = destination.prefixlen
    attributes: list[tuple[str, str | int]] = [("FRA_PRIORITY", rule.priority), ("FRA_TABLE", rule.table)]
    if rule.prohibits:
        attributes.append(("FRA_IIFNAME", "lo"))  # what comes from this host itself
    ports = ("FRA_SPORT_RANGE", rule.sports), ("FRA_DPORT_RANGE", rule.dports)
    attributes += [(name, value) for name, value in (("FRA_IP_PROTO", rule.protocol), *ports) if value]
    if destination.prefixlen:
        attributes.append(("FRA_DST", str(destination.network_address)))
    if rule.unless_mark is not None:
        # Not FIB_RULE_INVERT: that would turn the destination round as well.
        attributes += [("FRA_FWMARK", 0), ("FRA_FWMASK", rule.unless_mark)]
    if rule.suppress_prefix is not None:
        attributes.append(("FRA_SUPPRESS_PREFIXLEN", rule.suppress_prefix))
    message["attrs"] = attributes
    return message
