"""Which addresses this host has, and by which one others know it."""

from contextlib import closing
from ipaddress import IPv4Network, IPv6Network

from espudp.errors import HostError
from espudp.host.netlink import Interface, Netlink
from espudp.host.udp import outlook

# RFC 5737, RFC 3849: addresses that belong to nobody. The way there is the default route.
ANYWHERE = ("192.0.2.1", "2001:db8::1")
LOOPBACK = "127.0.0.1"

Network = IPv4Network | IPv6Network


def outward_address() -> str:
    """The best guess: the source of what takes the default route; else the first that is not loopback.

    Behind a NAT it is the private one, for nothing here knows the other.
    """
    for destination in ANYWHERE:
        try:
            return outlook(destination).local_ip
        except HostError:
            continue
    outward = [one.ip for one in _interfaces() if not (one.is_loopback or one.is_link_local)]
    return str(min(outward, key=lambda ip: ip.version, default=LOOPBACK))


def own_networks() -> list[Network]:
    """Those that this host has an address in, itself alone perhaps."""
    return [interface.network for interface in _interfaces()]


def _interfaces() -> list[Interface]:
    with closing(Netlink()) as netlink:
        return [interface for _, interface in netlink.addresses()]
