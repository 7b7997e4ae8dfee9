"""Addresses that one side tells the other (RFC 4555 sections 3.4, 3.6, 3.9 and 4.2): lists, and promises that
no NAT is on the way.
"""

from collections.abc import Iterable, Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address

from espudp.wire.address import Path, UdpAddress
from espudp.wire.ikev2.constants import NotifyType
from espudp.wire.ikev2.message import Message
from espudp.wire.ikev2.payloads import Notify, Payload

# Our bound on what is told and on what is remembered: hosts with more addresses that others can reach are
# rare, and each one is probed when the path breaks.
MAX_ADDRESSES = 16

# RFC 4555 section 4.2.5
_COOKIE2_LEAST, _COOKIE2_MOST = 8, 64

_LISTS = (
    NotifyType.ADDITIONAL_IP4_ADDRESS,
    NotifyType.ADDITIONAL_IP6_ADDRESS,
    NotifyType.NO_ADDITIONAL_ADDRESSES,
)
_OCTETS = {NotifyType.ADDITIONAL_IP4_ADDRESS: 4, NotifyType.ADDITIONAL_IP6_ADDRESS: 16}


def is_usable(ip: str, *, instead_of: str) -> bool:
    """Whether a peer may be at this address, when it was at that other one.

    Never where many would hear us; at a loopback or link-local address only if it was at one already.
    """
    address, former = ip_address(ip), ip_address(instead_of)
    if address.is_multicast or address.is_unspecified or address == IPv4Address("255.255.255.255"):
        return False
    return (former.is_loopback or not address.is_loopback) and (
        former.is_link_local or not address.is_link_local
    )


def others_than(ours: Iterable[UdpAddress], used: str) -> tuple[str, ...]:
    """Our addresses beside the one in use, as they are told to the peer."""
    others = (a.ip for a in ours if a.ip != used and is_usable(a.ip, instead_of=used))
    return tuple(dict.fromkeys(others))[:MAX_ADDRESSES]


def list_payloads(addresses: Sequence[str]) -> list[Notify]:
    """The complete list, which stands in the place of any before it (RFC 4555 section 3.6)."""
    if not addresses:
        return [Notify.of(NotifyType.NO_ADDITIONAL_ADDRESSES)]
    return additional(addresses)


def additional(addresses: Iterable[str]) -> list[Notify]:
    """A notify for each address; none without any, as in IKE_AUTH."""
    notifies = []
    for address in map(ip_address, addresses):
        four = address.version == 4
        kind = NotifyType.ADDITIONAL_IP4_ADDRESS if four else NotifyType.ADDITIONAL_IP6_ADDRESS
        notifies.append(Notify.of(kind, address.packed))
    return notifies


def read_list(message: Message, sender: str) -> tuple[str, ...] | None:
    """Where the peer can be reached, the address that it sends from first; None: it does not say.

    Addresses of a wrong size, and those that cannot be a peer's, are left out.
    """
    told = [n for n in message.notifies() if n.type in _LISTS]
    if not told:
        return None
    found = {sender: None}
    for notify in told:
        if len(notify.data) == _OCTETS.get(NotifyType(notify.type)):
            ip = str(ip_address(notify.data))
            if is_usable(ip, instead_of=sender):
                found.setdefault(ip)
    return tuple(found)[: 1 + MAX_ADDRESSES]


def copied_cookie(request: Message) -> list[Payload]:
    """COOKIE2, which goes back as it came (RFC 4555 section 3.7)."""
    cookie = request.notify(NotifyType.COOKIE2)
    if cookie is None or not _COOKIE2_LEAST <= len(cookie.data) <= _COOKIE2_MOST:
        return []
    return [Notify.of(NotifyType.COOKIE2, cookie.data)]


def nat_is_unexpected(message: Message, path: Path) -> bool:
    """Whether the peer wants no NAT, and there is one: it sent the message elsewhere, or from elsewhere, than
    it came over `path` (RFC 4555 section 3.9).
    """
    notify = message.notify(NotifyType.NO_NATS_ALLOWED)
    return notify is not None and notify.data != _seen(path)


def _seen(path: Path) -> bytes:
    """Source and destination address, source and destination port (RFC 4555 section 4.2.6)."""
    source, destination = path.remote, path.local
    return b"".join(
        (
            _packed(source.ip),
            _packed(destination.ip),
            source.port.to_bytes(2),
            destination.port.to_bytes(2),
        )
    )


def _packed(ip: str) -> bytes:
    address: IPv4Address | IPv6Address = ip_address(ip)
    return address.packed
