"""What Cisco's Unity adds to mode config: values that a gateway tells clients beside addresses and servers.

There is no document of them. Their form is that of the public clients and gateways that speak it: texts,
lists of names with commas between, numbers in the short form, and networks of 14 octets each.
"""

import re
from collections.abc import Iterable, Iterator
from ipaddress import IPv4Network, IPv6Network

from espudp.ike.given import ipv4_network
from espudp.ike.handout import domain_name
from espudp.ike.ikev1_config import MAX_BANNER_OCTETS
from espudp.wire.selectors import ANY_PROTOCOL, TrafficSelector

# An address and a mask; protocol, source and destination port, of which no gateway sends any
_NETWORK_OCTETS = 14
_MASK_AT, _REST_AT = 4, 8

# Our bounds on what a peer may tell us
MAX_NETWORKS = 1024
MAX_NAMES = 32
MAX_BANNER_LINES = 50

_BETWEEN_NAMES = re.compile(rb"[,;\s\0]+")


def networks_value(networks: Iterable[IPv4Network | IPv6Network]) -> bytes:
    """Of split include and local LAN, IPv4 only; empty for none."""
    rest = bytes(_NETWORK_OCTETS - _REST_AT)
    return b"".join(
        network.network_address.packed + network.netmask.packed + rest
        for network in networks
        if isinstance(network, IPv4Network)
    )


def read_networks(values: Iterable[bytes]) -> tuple[TrafficSelector, ...]:
    """Those with a mask that is none are passed over, and so are protocols and ports: what else goes to a
    network that is named has nowhere better to go. Of too many none counts: what a part of them leaves out
    would go in the clear, and without any everything goes through the tunnel.
    """
    found: dict[TrafficSelector, None] = {}
    for value in values:
        for at in range(0, len(value) - _NETWORK_OCTETS + 1, _NETWORK_OCTETS):
            network = ipv4_network(value[at : at + _MASK_AT], value[at + _MASK_AT : at + _REST_AT])
            if network is not None:
                ends = network.network_address, network.broadcast_address
                found[TrafficSelector(*ends, protocol=ANY_PROTOCOL)] = None
            if len(found) > MAX_NETWORKS:
                return ()
    return tuple(found)


def names_value(names: Iterable[str]) -> bytes:
    """Of split DNS and backup servers."""
    return ",".join(names).encode()


def read_domains(values: Iterable[bytes]) -> tuple[str, ...]:
    """Domain names; what is none is passed over."""
    return tuple(dict.fromkeys(_domains(values)))[:MAX_NAMES]


def _domains(values: Iterable[bytes]) -> Iterator[str]:
    for value in values:
        for name in _BETWEEN_NAMES.split(value, maxsplit=MAX_NAMES)[:MAX_NAMES]:
            domain = domain_name(name)
            if domain is not None:
                yield domain


def banner_text(value: bytes) -> str:
    """What people are shown: lines without anything that could move a cursor, colour a terminal or turn
    the direction of writing.
    """
    text = value[:MAX_BANNER_OCTETS].decode("utf-8", "replace").replace("\t", " ")
    lines = ("".join(filter(str.isprintable, line)).rstrip() for line in re.split(r"\r\n|\r|\n", text))
    return "\n".join(list(lines)[:MAX_BANNER_LINES]).strip("\n")
