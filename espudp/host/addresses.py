"""Which address of this host others know it by."""

from espudp.errors import HostError
from espudp.host.netlink import Netlink
from espudp.host.udp import outlook

# RFC 5737, RFC 3849: addresses that belong to nobody. The way there is the default route.
ANYWHERE = ("192.0.2.1", "2001:db8::1")
LOOPBACK = "127.0.0.1"


def outward_address() -> str:
    """The best guess: the source of what takes the default route; else the first that is not loopback.

    Behind a NAT it is the private one, for nothing here knows the other.
    """
    for destination in ANYWHERE:
        try:
            return outlook(destination).local_ip
        except HostError:
            continue
    netlink = Netlink()
    try:
        own = [interface.ip for _, interface in netlink.addresses()]
    finally:
        netlink.close()
    outward = [ip for ip in own if not (ip.is_loopback or ip.is_link_local)]
    return str(min(outward, key=lambda ip: ip.version, default=LOOPBACK))
