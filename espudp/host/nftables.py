"""A table of the kernel's packet filter, nftables, that lives as long as the socket that made it.

That is the kernel's doing (NFT_TABLE_F_OWNER, since Linux 5.12), so that nothing has to be undone after a
SIGKILL either. The messages are our own: pyroute2's run an event loop inside every call, as its `IPRoute`.
"""

import os
import socket
import struct
from collections.abc import Iterable, Iterator

from espudp.host.netlink import NLM_F_ACK, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REQUEST, NLMSG_ERROR

# linux/netlink.h
NETLINK_NETFILTER = 12
NLM_F_ECHO, NLM_F_APPEND = 0x8, 0x800
NLA_F_NESTED, NLA_TYPE_MASK = 0x8000, 0x3FFF
# linux/netfilter/nfnetlink.h, nf_tables.h
NFNL_SUBSYS_NFTABLES = 10
NFNL_MSG_BATCH_BEGIN, NFNL_MSG_BATCH_END = 0x10, 0x11
NFT_MSG_NEWTABLE, NFT_MSG_NEWCHAIN, NFT_MSG_NEWRULE, NFT_MSG_DELRULE = (
    NFNL_SUBSYS_NFTABLES << 8 | kind for kind in (0, 3, 6, 8)
)
NFT_TABLE_F_OWNER = 2
NFTA_RULE_HANDLE = 3
NFT_REG_VERDICT, NFT_REG_1 = 0, 1
NFT_META_IIFTYPE, NFT_META_NFPROTO, NFT_META_L4PROTO = 8, 15, 16
NFT_PAYLOAD_NETWORK_HEADER, NFT_PAYLOAD_TRANSPORT_HEADER = 1, 2
NFT_CMP_EQ, NFT_CMP_NEQ, NFT_CMP_LTE, NFT_CMP_GTE = 0, 1, 3, 5
NFT_SOCKET_MARK = 1
# linux/netfilter.h
NFPROTO_UNSPEC, NFPROTO_INET = 0, 1
NF_INET_LOCAL_IN = 1
NF_DROP, NF_ACCEPT = 0, 1

_CHAIN = "input"

_HEADER = struct.Struct("=IHHII")  # length, type, flags, sequence number, port id
_NFGENMSG = struct.Struct("!BBH")  # family, version, subsystem of a batch
_ATTRIBUTE = struct.Struct("=HH")  # length, type
_RECEIVE_OCTETS = 1 << 16
_ANSWER_SECONDS = 5.0

Message = tuple[int, int, bytes]
"""Type, flags, attributes."""

Expression = bytes
"""One or more, as they stand in a rule: each is asked only if those before it say yes."""


class OwnTable:
    """One table with one chain, of what this host is to receive."""

    def __init__(self, name: str, *, priority: int) -> None:
        """Raises OSError where the kernel has no nftables, or none with owners, and without CAP_NET_ADMIN."""
        self._rule = _text(1, name) + _text(2, _CHAIN)
        self._sequence = 0
        self._socket = socket.socket(
            socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, NETLINK_NETFILTER
        )
        try:
            self._socket.settimeout(_ANSWER_SECONDS)
            self._socket.bind((0, 0))
            hook = _number(1, NF_INET_LOCAL_IN) + _number(2, priority & 0xFFFF_FFFF)
            chain = (
                _text(1, name) + _text(3, _CHAIN) + _attribute(4 | NLA_F_NESTED, hook) + _text(7, "filter")
            )
            table = _text(1, name) + _number(2, NFT_TABLE_F_OWNER)
            made = NLM_F_CREATE | NLM_F_EXCL
            self._request((NFT_MSG_NEWTABLE, made, table), (NFT_MSG_NEWCHAIN, made, chain))
        except OSError:
            self._socket.close()
            raise

    def close(self) -> None:
        """The table goes with it."""
        self._socket.close()

    def change(self, *, remove: Iterable[int] = (), add: Iterable[Expression] = ()) -> list[int]:
        """Rules by their handles, and new ones behind all others, all at once; the handles of the new ones.

        Raises OSError, and nothing has changed; ENOENT where the kernel lacks an expression.
        """
        handles = (_attribute(NFTA_RULE_HANDLE, struct.pack("!Q", handle)) for handle in remove)
        old = [(NFT_MSG_DELRULE, 0, self._rule + handle) for handle in handles]
        expressions = (_attribute(4 | NLA_F_NESTED, expression) for expression in add)
        flags = NLM_F_CREATE | NLM_F_APPEND | NLM_F_ECHO
        new = [(NFT_MSG_NEWRULE, flags, self._rule + expression) for expression in expressions]
        return self._request(*old, *new) if old or new else []

    def _request(self, *messages: Message) -> list[int]:
        """All of them or none; the handles of new rules, as the kernel tells them. Raises OSError."""
        first = self._sequence + 1
        batch = self._message(NFNL_MSG_BATCH_BEGIN, 0, b"", NFPROTO_UNSPEC)
        for kind, flags, attributes in messages:
            batch += self._message(kind, flags | NLM_F_ACK, attributes, NFPROTO_INET)
        last = self._sequence
        batch += self._message(NFNL_MSG_BATCH_END, 0, b"", NFPROTO_UNSPEC)
        self._socket.send(batch)
        return self._answer(first, last)

    def _message(self, kind: int, flags: int, attributes: bytes, family: int) -> bytes:
        self._sequence += 1
        resource = NFNL_SUBSYS_NFTABLES if family == NFPROTO_UNSPEC else 0
        body = _NFGENMSG.pack(family, 0, resource) + attributes
        length = _HEADER.size + len(body)
        return _HEADER.pack(length, kind, flags | NLM_F_REQUEST, self._sequence, 0) + body

    def _answer(self, first: int, last: int) -> list[int]:
        handles: list[int] = []
        while True:
            for kind, sequence, body in _messages(self._socket.recv(_RECEIVE_OCTETS)):
                if not first <= sequence <= last:  # what has come behind an error
                    continue
                if kind == NFT_MSG_NEWRULE:
                    handles.append(_handle(body[_NFGENMSG.size :]))
                elif kind == NLMSG_ERROR:
                    code = -struct.unpack_from("=i", body)[0]
                    if code:
                        raise OSError(code, os.strerror(code))
                    if sequence == last:
                        return handles


def meta(key: int) -> Expression:
    """Load what the kernel knows of the packet."""
    return _expression("meta", _number(1, NFT_REG_1), _number(2, key))


def payload(base: int, offset: int, octets: int) -> Expression:
    """Load octets of a header, which has to be there."""
    where = _number(2, base), _number(3, offset), _number(4, octets)
    return _expression("payload", _number(1, NFT_REG_1), *where)


def extension(header: int, offset: int, octets: int) -> Expression:
    """Load octets of an extension header of IPv6, which has to be there."""
    where = _attribute(2, bytes([header])), _number(3, offset), _number(4, octets)
    return _expression("exthdr", _number(1, NFT_REG_1), *where)


def socket_mark() -> Expression:
    """Load the mark of the socket that the packet is for, which has to be there."""
    return _expression("socket", _number(1, NFT_SOCKET_MARK), _number(2, NFT_REG_1))


def has_any_of(mask: bytes) -> Expression:
    """What is loaded has some of these bits."""
    registers = _number(1, NFT_REG_1), _number(2, NFT_REG_1), _number(3, len(mask))
    none = bytes(len(mask))
    masked = _expression("bitwise", *registers, _data(4, mask), _data(5, none))
    return masked + _compare(NFT_CMP_NEQ, none)


def is_equal(value: bytes) -> Expression:
    """What is loaded is this."""
    return _compare(NFT_CMP_EQ, value)


def is_between(first: bytes, last: bytes) -> Expression:
    """What is loaded is one of these, as octets."""
    if first == last:
        return is_equal(first)
    return _compare(NFT_CMP_GTE, first) + _compare(NFT_CMP_LTE, last)


def verdict(code: int) -> Expression:
    """What becomes of the packet."""
    decided = _attribute(2 | NLA_F_NESTED, _number(1, code))
    return _expression("immediate", _number(1, NFT_REG_VERDICT), _attribute(2 | NLA_F_NESTED, decided))


def counter() -> Expression:
    """For who lists the rules."""
    return _expression("counter")


def _compare(how: int, value: bytes) -> Expression:
    return _expression("cmp", _number(1, NFT_REG_1), _number(2, how), _data(3, value))


def _expression(name: str, *attributes: bytes) -> Expression:
    data = _attribute(2 | NLA_F_NESTED, b"".join(attributes))
    return _attribute(1 | NLA_F_NESTED, _text(1, name) + data)


def _data(kind: int, value: bytes) -> bytes:
    return _attribute(kind | NLA_F_NESTED, _attribute(1, value))


def _text(kind: int, value: str) -> bytes:
    return _attribute(kind, value.encode() + b"\0")


def _number(kind: int, value: int) -> bytes:
    return _attribute(kind, value.to_bytes(4, "big"))


def _attribute(kind: int, value: bytes) -> bytes:
    length = _ATTRIBUTE.size + len(value)
    return _ATTRIBUTE.pack(length, kind) + value + bytes(-length % 4)


def _messages(data: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Type, sequence number and what follows the header."""
    while len(data) >= _HEADER.size:
        length, kind, _, sequence, _ = _HEADER.unpack_from(data)
        yield kind, sequence, data[_HEADER.size : length]
        data = data[(length + 3) & ~3 :]


def _handle(attributes: bytes) -> int:
    while len(attributes) >= _ATTRIBUTE.size:
        length, kind = _ATTRIBUTE.unpack_from(attributes)
        if kind & NLA_TYPE_MASK == NFTA_RULE_HANDLE:
            return int.from_bytes(attributes[_ATTRIBUTE.size : length], "big")
        attributes = attributes[(length + 3) & ~3 :]
    return 0
