"""Network namespaces without names: a whole small network inside one process, gone when it ends.

A namespace is held by a descriptor and by the processes in it, by nothing in the file system, so there is
nothing to clean up: whatever was made inside goes with the last of them, even after SIGKILL.
"""

from __future__ import annotations

import ctypes
import errno
import os
import signal
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Self

from espudp.errors import HostError
from espudp.host.changes import write_sysctl

# linux/sched.h
CLONE_NEWNET = 0x40000000
# linux/prctl.h
PR_SET_PDEATHSIG = 1

# linux/netfilter.h, linux/netfilter/nf_tables.h
NF_ACCEPT = 1
NFPROTO_IPV4 = 2
NFT_META_OIFNAME = 7
NFT_REG_1 = 1
NFT_CMP_EQ = 0
# linux/netfilter_ipv4.h: NF_IP_PRI_NAT_SRC
SOURCE_NAT_PRIORITY = 100
IFNAMSIZ = 16

_OWN = "/proc/thread-self/ns/net"
_libc = ctypes.CDLL(None, use_errno=True)


def _call(name: str, *arguments: int) -> None:
    if getattr(_libc, name)(*arguments) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), name)


@dataclass(frozen=True, slots=True)
class Port:
    """One end of a virtual cable."""

    namespace: Namespace
    name: str
    address: str  # with its prefix length


class Namespace:
    """A network namespace of our own, with its loopback up."""

    def __init__(self) -> None:
        """Raises HostError where the system does not allow it."""
        home = os.open(_OWN, os.O_RDONLY | os.O_CLOEXEC)
        try:
            _call("unshare", CLONE_NEWNET)
            self.descriptor = os.open(_OWN, os.O_RDONLY | os.O_CLOEXEC)
            _call("setns", home, CLONE_NEWNET)
        except OSError as error:
            raise _refused("make a network namespace", error) from None
        finally:
            os.close(home)
        self.link_up("lo")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self.descriptor)

    @contextmanager
    def inside(self) -> Iterator[None]:
        """This thread and what it starts are in the namespace meanwhile; a socket stays where it is made."""
        home = os.open(_OWN, os.O_RDONLY | os.O_CLOEXEC)
        try:
            _call("setns", self.descriptor, CLONE_NEWNET)
            try:
                yield
            finally:
                _call("setns", home, CLONE_NEWNET)
        finally:
            os.close(home)

    def start(self, command: Sequence[str], **options: Any) -> subprocess.Popen[bytes]:
        """A process in the namespace. It is told to end when we do, however that happens.

        It leads a process group of its own, so that Ctrl-C reaches it through us, in our order.
        """
        with self.inside():
            return subprocess.Popen(command, preexec_fn=_die_with(os.getpid()), process_group=0, **options)

    def link_up(self, name: str) -> None:
        """Switch an interface on."""
        with self._netlink() as netlink:
            netlink.link("set", index=_index(netlink, name), state="up")

    def add_address(self, name: str, address: str) -> None:
        """Give an interface an address with prefix length, and switch it on."""
        with self._netlink() as netlink:
            netlink.addr("add", index=_index(netlink, name), address=address)
        self.link_up(name)

    def set_mtu(self, name: str, octets: int) -> None:
        """Of an interface."""
        with self._netlink() as netlink:
            netlink.link("set", index=_index(netlink, name), mtu=octets)

    def add_default_route(self, gateway: str) -> None:
        """Send everything to a gateway."""
        with self._netlink() as netlink:
            netlink.route("add", dst="::/0" if ":" in gateway else "0.0.0.0/0", gateway=gateway)

    def set_sysctl(self, name: str, value: str) -> None:
        """A kernel setting of the namespace, by its path below /proc/sys."""
        with self.inside():
            write_sysctl(name, value)

    def masquerade(self, interface: str) -> None:
        """Hide the sources of what leaves by an interface behind its address (NAPT, as home routers do).

        Raises HostError if the kernel has no NAT.
        """
        from pyroute2.nftables.expressions import genex, masq
        from pyroute2.nftables.main import NFTables

        name = interface.encode().ljust(IFNAMSIZ, b"\0")
        leaving = [
            genex("meta", {"key": NFT_META_OIFNAME, "dreg": NFT_REG_1}),
            genex(
                "cmp", {"sreg": NFT_REG_1, "op": NFT_CMP_EQ, "data": {"attrs": [("NFTA_DATA_VALUE", name)]}}
            ),
        ]
        hook = {"hook": "postrouting", "type": "nat", "priority": SOURCE_NAT_PRIORITY, "policy": NF_ACCEPT}
        with self.inside():
            nft = NFTables(nfgen_family=NFPROTO_IPV4)
        try:
            nft.table("add", name="espudp")
            nft.chain("add", table="espudp", name="hide", **hook)
            nft.rule("add", table="espudp", chain="hide", expressions=(leaving, masq()))
        except OSError as error:
            raise HostError(
                f"The kernel refuses to do NAT: {error}.",
                remedy="Load its modules (modprobe -a nft_chain_nat nft_masq), or use a kernel with them.",
            ) from None
        finally:
            nft.close()

    @contextmanager
    def _netlink(self) -> Iterator[Any]:
        from pyroute2 import IPRoute

        with self.inside(), IPRoute() as netlink:
            yield netlink


def connect(one: Port, other: Port) -> None:
    """A cable (a veth pair) between two namespaces, up at both ends. Raises HostError."""
    try:
        with one.namespace._netlink() as netlink:
            peer = {"ifname": other.name, "net_ns_fd": other.namespace.descriptor}
            netlink.link("add", ifname=one.name, kind="veth", peer=peer)
        for port in (one, other):
            port.namespace.add_address(port.name, port.address)
    except OSError as error:
        raise _refused("make a pair of virtual Ethernet devices", error) from None


def _index(netlink: Any, name: str) -> int:
    return int(netlink.link_lookup(ifname=name)[0])


def _die_with(parent: int) -> Callable[[], None]:
    """What a child does before it becomes its program."""

    def prepare() -> None:
        _libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:  # it ended before we asked
            os._exit(1)

    return prepare


def _refused(what: str, error: OSError) -> HostError:
    if error.errno in (errno.EPERM, errno.EACCES):
        remedy = "Run it as root (sudo); in a container, start that with --privileged."
    elif error.errno == errno.EOPNOTSUPP:
        remedy = "Load the kernel's module: modprobe veth."
    else:
        remedy = "Look at the kernel's log (dmesg)."
    return HostError(f"The system does not let us {what}: {error.strerror or error}.", remedy=remedy)
