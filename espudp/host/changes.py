"""What we change about the host: each change knows how to be made and how to be undone."""

import ipaddress
import os
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from espudp.host.netlink import DeviceAddress, Netlink, Route, Rule, says_missing
from espudp.host.resolvconf import ResolvConf

PROC_SYS = Path("/proc/sys")


@dataclass(frozen=True, slots=True)
class Sysctl:
    """A kernel setting, by its path below /proc/sys, and what it was before."""

    name: str
    value: str
    former: str


Change = DeviceAddress | Route | Rule | Sysctl | ResolvConf

_KINDS: dict[str, type[Any]] = {
    "address": DeviceAddress,
    "route": Route,
    "rule": Rule,
    "sysctl": Sysctl,
    "resolv.conf": ResolvConf,
}


def make(change: Change, netlink: Netlink) -> None:
    """Raises OSError if the kernel refuses."""
    match change:
        case DeviceAddress():
            netlink.add_address(change)
        case Route():
            netlink.add_route(change)
        case Rule():
            netlink.add_rule(change)
        case Sysctl():
            write_sysctl(change.name, change.value)
        case ResolvConf():
            change.make()


def undo(change: Change, netlink: Netlink, others: Callable[[], Iterable[Change]]) -> None:
    """Raises OSError if the kernel refuses; what is gone already is no error.

    `others`: what other processes of ours have changed, and still need.
    """
    try:
        match change:
            case DeviceAddress():
                netlink.delete_address(change)
            case Route():
                netlink.delete_route(change)
            case Rule():
                netlink.delete_rule(change)
            case Sysctl() if change not in others():
                if read_sysctl(change.name) == change.value:  # else somebody has changed it since
                    write_sysctl(change.name, change.former)
            case ResolvConf():
                change.undo(resolv_conf_of(others(), change.path))
    except OSError as error:
        if not says_missing(error):
            raise


def describe(change: Change) -> str:
    """For a person."""
    match change:
        case DeviceAddress():
            return f"address {ipaddress.ip_interface(change.address).ip}"
        case Route():
            return f"route to {change.destination}"
        case Rule():
            return f"routing rule for {change.destination}{_kind_of_traffic(change)}"
        case Sysctl():
            return f"kernel setting {change.name.replace('/', '.')} = {change.value}"
        case ResolvConf():
            return f"name servers in {change.path}"


def _kind_of_traffic(rule: Rule) -> str:
    ports = [f"{end} port {ports}" for end, ports in (("local", rule.sports), ("its", rule.dports)) if ports]
    return ", ".join([f", IP protocol {rule.protocol}", *ports]) if rule.protocol else ""


def resolv_conf_of(made: Iterable[Change], path: str) -> ResolvConf | None:
    """The last change of that file."""
    return next((c for c in reversed([*made]) if isinstance(c, ResolvConf) and c.path == path), None)


def to_json(change: Change) -> dict[str, Any]:
    """The change as plain values."""
    kind = next(name for name, cls in _KINDS.items() if isinstance(change, cls))
    return {"kind": kind, **asdict(change)}


def from_json(values: dict[str, Any]) -> Change:
    """Raises KeyError or TypeError for what `to_json` did not write."""
    fields = dict(values)
    change: Change = _KINDS[fields.pop("kind")](**fields)
    return change


def read_sysctl(name: str) -> str | None:
    """None if the kernel has no such setting."""
    try:
        return (PROC_SYS / name).read_text().strip()
    except FileNotFoundError:
        return None


def write_sysctl(name: str, value: str) -> None:
    """Raises OSError; EROFS in most containers."""
    descriptor = os.open(PROC_SYS / name, os.O_WRONLY)  # not write_text: that would try to create it
    try:
        os.write(descriptor, value.encode())
    finally:
        os.close(descriptor)
