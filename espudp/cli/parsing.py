"""What users type, turned into values. Everything raises ConfigError, which says what would be right."""

import itertools
import re
from collections.abc import Callable, Iterable, Mapping
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import TypeVar

from espudp.errors import ConfigError
from espudp.wire.ecn import MAX_DSCP
from espudp.wire.selectors import TrafficSelector

Network = IPv4Network | IPv6Network
T = TypeVar("T")

NONE = "none"
COPY = "copy"
MAX_PORT = 0xFFFF

_SECONDS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}
_OCTETS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}


def networks(texts: Iterable[str], option: str) -> tuple[Network, ...]:
    """Networks in CIDR notation; host bits are dropped."""
    return tuple(_network(text, option) for text in texts)


def lies_within(network: Network, other: Network) -> bool:
    """Whether all of its addresses are the other's."""
    ends = network.network_address, network.broadcast_address
    return network.version == other.version and all(end in other for end in ends)


def check_pools(pools: tuple[Network, ...], option: str) -> None:
    """Raises ConfigError for pools that overlap or that no host can have addresses of."""
    for pool in pools:
        base = pool.network_address
        if base.is_multicast or base.is_loopback or base.is_link_local or base.is_unspecified:
            raise ConfigError(
                f"{option}: {pool} has addresses that no host can take",
                field=option,
                remedy="choose a private network, such as 10.99.0.0/24 or fd00:99::/64",
            )
    for one, other in itertools.combinations(pools, 2):
        if one.version == other.version and one.overlaps(other):
            raise ConfigError(
                f"{option}: {one} and {other} overlap", field=option, remedy="leave one of the two out"
            )


def selectors(texts: Iterable[str], option: str) -> tuple[TrafficSelector, ...]:
    """Traffic selectors for all traffic of networks in CIDR notation."""
    return tuple(TrafficSelector(n.network_address, n.broadcast_address) for n in networks(texts, option))


def _network(text: str, option: str) -> Network:
    try:
        return ip_network(text.strip(), strict=False)
    except ValueError:
        raise ConfigError(
            f"{option}: '{text}' is not a subnet",
            field=option,
            remedy="write an address and a prefix length, such as 10.1.0.0/16 or fd00:1::/64",
        ) from None


def address(text: str, option: str) -> str:
    """An IPv4 or IPv6 address."""
    try:
        return str(ip_address(text.strip()))
    except ValueError:
        raise ConfigError(
            f"{option}: '{text}' is not an IP address",
            field=option,
            remedy="write one such as 192.0.2.1 or 2001:db8::1",
        ) from None


def port(number: int | str, option: str) -> int:
    """A UDP port."""
    text = str(number)
    if not (text.isdecimal() and 1 <= int(text) <= MAX_PORT):
        raise ConfigError(
            f"{option}: {text} is not a UDP port",
            field=option,
            remedy=f"choose a number from 1 to {MAX_PORT}",
        )
    return int(text)


def duration(text: str, option: str) -> float:
    """Seconds, from `90`, `90s`, `15m`, `8h` or `2d`."""
    return _number(text, option, _SECONDS, "a time such as 90s, 15m, 8h or 2d")


def size(text: str, option: str) -> int:
    """Octets, from `500000`, `500k`, `100M` or `2G`, in powers of ten."""
    return int(_number(text, option, _OCTETS, "a size such as 500k, 100M or 2G"))


def _number(text: str, option: str, units: dict[str, int], sample: str) -> float:
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([a-z]?)", text.strip().lower())
    if match is None or match[2] not in units or not float(match[1]):
        raise ConfigError(f"{option}: '{text}' cannot be read", field=option, remedy=f"write {sample}")
    return float(match[1]) * units[match[2]]


def dscp(text: str, option: str) -> int | None:
    """Six bits as a number; None for `copy`."""
    value = text.strip().lower()
    if value == COPY:
        return None
    if not (value.isdecimal() and int(value) <= MAX_DSCP):
        raise ConfigError(
            f"{option}: '{text}' is no DSCP",
            field=option,
            remedy=f"write {COPY}, or a number from 0 to {MAX_DSCP} such as 46, expedited forwarding",
        )
    return int(value)


def control_name(text: str, option: str) -> str:
    """What a running process is called, and with it its control socket."""
    if not re.fullmatch(r"\w[\w.-]{0,63}", text, re.ASCII):
        raise ConfigError(
            f"{option}: '{text}' cannot name a process",
            field=option,
            remedy="write up to 64 letters, digits, dots, - and _, such as esp0",
        )
    return text


def each(texts: Iterable[str], parse: Callable[[str], T], default: tuple[T, ...]) -> tuple[T, ...]:
    """Every text parsed; `default` where there is none."""
    return tuple(parse(text) for text in texts) or default


def refuse_together(option: str, others: Mapping[str, object], why: str) -> None:
    """Raises ConfigError if any of the others has a value beside the option."""
    given = [name for name, value in others.items() if value is not None]
    if given:
        verb = "contradicts" if len(given) == 1 else "contradict"
        raise ConfigError(
            f"{' and '.join(given)} {verb} {option}: {why}", field=option, remedy="leave one of the two out"
        )


def refuse_alone(given: Mapping[str, object], needed: str, why: str) -> None:
    """Raises ConfigError if any option has a value that means nothing without another one."""
    for name, value in given.items():
        if value:
            raise ConfigError(f"{name} without {needed}: {why}", field=name, remedy=f"add {needed}")


def choice(text: str, choices: Mapping[str, T], option: str) -> T:
    """One of a few words."""
    found = choices.get(text.strip().lower())
    if found is None:
        raise ConfigError(
            f"{option}: '{text}' is not possible", field=option, remedy=f"write {' or '.join(choices)}"
        )
    return found
