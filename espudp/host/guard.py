"""What transport mode is for, and comes in the clear, is dropped (RFC 4301 section 5.2).

What comes by a TUN device has been decrypted; what is for a socket with our mark, and ESP itself, is what
tunnels are made of. Everything else that the child SAs are for anybody can have sent, in the peer's name.
"""

import errno
import socket
import sys
from collections.abc import Callable, Iterable, Sequence
from itertools import islice

from espudp.errors import HostError
from espudp.host import nftables
from espudp.host.netconf import PROTOCOLS_WITH_PORTS, Flow
from espudp.host.nftables import (
    NF_ACCEPT,
    NF_DROP,
    NFT_META_IIFTYPE,
    NFT_META_L4PROTO,
    NFT_META_NFPROTO,
    NFT_PAYLOAD_NETWORK_HEADER,
    NFT_PAYLOAD_TRANSPORT_HEADER,
    Expression,
    OwnTable,
    has_any_of,
    is_between,
    is_equal,
    verdict,
)
from espudp.wire.selectors import ALL_PORTS, ANY_PROTOCOL, TrafficSelector

# After connection tracking and address translation, before other people's filters.
PRIORITY = -10

# linux/if_arp.h: of TUN devices
ARPHRD_NONE = 0xFFFE
# linux/netfilter.h
NFPROTO = {4: 2, 6: 10}
# RFC 791 section 3.1, RFC 8200 section 3: where the addresses are
_SOURCE, _DESTINATION = {4: 12, 6: 8}, {4: 16, 6: 24}
# RFC 9293 section 3.1, RFC 768, and others: where the ports are
_FROM, _TO = 0, 2
# RFC 8200 section 4.5: offset of a fragment, in the upper 13 of these bits
_FRAGMENT_OFFSET, _OFFSET_BITS = 2, b"\xff\xf8"
# RFC 4861 section 4, RFC 4301 section 5: neighbour discovery cannot be protected
_FIRST_DISCOVERY, _LAST_DISCOVERY = b"\x85", b"\x89"


class Guard:
    """Knows what comes inside ESP only, and has the kernel drop it where it does not."""

    def __init__(self, device: str, mark: int, on_refusal: Callable[[HostError], None]) -> None:
        """`on_refusal` is called once, where the kernel cannot do it."""
        self._name = f"espudp-{device}"
        self._mark = mark
        self._on_refusal = on_refusal
        self._table: OwnTable | None = None
        self._rules: dict[Flow, list[int]] = {}  # by their handles
        self._closed: int | None = None
        self._refused = False

    def close(self) -> None:
        """Everything comes in again."""
        if self._table is not None:
            self._table.close()

    def protect(self, flows: Iterable[Flow]) -> None:
        """These flows, and no others, come inside ESP or not at all."""
        wanted = {flow for flow in flows if not self._is_closed(flow)}
        old = [flow for flow in self._rules if flow not in wanted]
        new = {flow: self._rules_for(flow) for flow in wanted if flow not in self._rules}
        try:
            handles = iter(
                self._change(
                    remove=[handle for flow in old for handle in self._rules[flow]],
                    add=[rule for rules in new.values() for rule in rules],
                )
            )
        except OSError as error:
            self._refuse(error)
            return
        for flow in old:
            del self._rules[flow]
        self._rules |= {flow: list(islice(handles, len(rules))) for flow, rules in new.items()}

    def close_port(self, port: int) -> None:
        """What comes to this UDP port comes inside ESP or not at all, from whomever."""
        try:
            self._change(add=[_protocol(socket.IPPROTO_UDP) + _ports(_TO, (port, port)) + _DROP])
        except OSError as error:
            self._refuse(error)
        else:
            self._closed = port

    def _is_closed(self, flow: Flow) -> bool:
        return flow.protocol == socket.IPPROTO_UDP and flow.local.ports == (self._closed, self._closed)

    def _rules_for(self, flow: Flow) -> list[Expression]:
        parts = _parts(flow)
        if parts is None:
            return []
        if flow.protocol not in (ANY_PROTOCOL, socket.IPPROTO_UDP):
            return [parts + _DROP]
        ours = nftables.socket_mark() + has_any_of(self._mark.to_bytes(4, sys.byteorder))
        return [parts + _protocol(socket.IPPROTO_UDP) + ours + _ACCEPT, parts + _DROP]

    def _change(self, *, remove: Iterable[int] = (), add: Sequence[Expression]) -> list[int]:
        if self._table is None:
            if not add:
                return []
            self._table = self._make_table()
        return self._table.change(remove=remove, add=add)

    def _make_table(self) -> OwnTable:
        table = OwnTable(self._name, priority=PRIORITY)
        try:
            table.change(add=[always + _ACCEPT for always in _ALWAYS])
        except OSError:
            table.close()
            raise
        return table

    def _refuse(self, error: OSError) -> None:
        if not self._refused:
            self._refused = True
            self._on_refusal(_refusal(error))


def _parts(flow: Flow) -> Expression | None:
    """What packets of the peer's are told by; None: by nothing that the packet filter sees."""
    parts = _family(flow.remote.version) + _address(_SOURCE, flow.remote) + _address(_DESTINATION, flow.local)
    if flow.protocol != ANY_PROTOCOL:
        parts += _protocol(flow.protocol)
    for offset, selector in ((_FROM, flow.remote), (_TO, flow.local)):
        if selector.ports == ALL_PORTS:
            continue
        if selector.is_opaque or flow.protocol not in PROTOCOLS_WITH_PORTS:
            return None
        parts += _ports(offset, selector.ports)
    return parts


def _family(version: int) -> Expression:
    return nftables.meta(NFT_META_NFPROTO) + is_equal(bytes([NFPROTO[version]]))


def _address(offsets: dict[int, int], selector: TrafficSelector) -> Expression:
    first, last = selector.first.packed, selector.last.packed
    loaded = nftables.payload(NFT_PAYLOAD_NETWORK_HEADER, offsets[selector.version], len(first))
    return loaded + is_between(first, last)


def _protocol(number: int) -> Expression:
    return nftables.meta(NFT_META_L4PROTO) + is_equal(bytes([number]))


def _ports(offset: int, ports: tuple[int, int]) -> Expression:
    first, last = (port.to_bytes(2, "big") for port in ports)
    return nftables.payload(NFT_PAYLOAD_TRANSPORT_HEADER, offset, len(first)) + is_between(first, last)


_DROP, _ACCEPT = nftables.counter() + verdict(NF_DROP), verdict(NF_ACCEPT)

# IPv6 packets are put together only behind the filter: a fragment but the first is worth nothing without it.
_ALWAYS = (
    nftables.meta(NFT_META_IIFTYPE) + is_equal(ARPHRD_NONE.to_bytes(2, sys.byteorder)),
    _protocol(socket.IPPROTO_ESP),
    _protocol(socket.IPPROTO_ICMPV6)
    + nftables.payload(NFT_PAYLOAD_TRANSPORT_HEADER, 0, 1)
    + is_between(_FIRST_DISCOVERY, _LAST_DISCOVERY),
    _family(6) + nftables.extension(socket.IPPROTO_FRAGMENT, _FRAGMENT_OFFSET, 2) + has_any_of(_OFFSET_BITS),
)


def _refusal(error: OSError) -> HostError:
    remedy = "Drop it with a firewall, or use a kernel from 5.12 on that has nf_tables and nft_socket."
    if error.errno == errno.EPERM:
        remedy = "Run espudp as root, or give it CAP_NET_ADMIN."
    return HostError(
        f"What peers send in the clear is not dropped: nftables: {error.strerror or error}.", remedy=remedy
    )
