"""The tap sees what is in the clear: a demo that cannot fail shows nothing."""

import os
import socket
import time
from collections.abc import Iterator

import pytest

from espudp.errors import HostError
from espudp.host.netns import Namespace, Port, connect
from espudp.host.tap import BLOCK_OCTETS, Count, Tap

pytestmark = pytest.mark.root

SECRET = b"a secret of sixteen"
LEFT, RIGHT = "198.51.100.1", "198.51.100.2"


@pytest.fixture
def link() -> Iterator[tuple[Namespace, Namespace]]:
    with Namespace() as left, Namespace() as right:
        for namespace in (left, right):
            namespace.set_sysctl("net/ipv6/conf/default/disable_ipv6", "1")
        connect(Port(left, "l0", f"{LEFT}/24"), Port(right, "r0", f"{RIGHT}/24"))
        yield left, right


@pytest.fixture
def tap(link: tuple[Namespace, Namespace]) -> Iterator[Tap]:
    made = Tap(link[0], "l0", (SECRET,))
    yield made
    made.close()


def settled(tap: Tap) -> Count:
    """After the ring has handed over its last block."""
    deadline = time.monotonic() + 0.1
    while time.monotonic() < deadline:
        tap.wait((), 0.02)
    return tap.count()


def send(link: tuple[Namespace, Namespace], payload: bytes, port: int, times: int = 1) -> None:
    with link[0].inside():
        sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with link[1].inside():
        receiver = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)  # so that no ICMP error answers
    with sender, receiver:
        receiver.bind((RIGHT, port))
        for _ in range(times):
            sender.sendto(payload, (RIGHT, port))


def test_what_may_be_there(link: tuple[Namespace, Namespace], tap: Tap) -> None:
    send(link, os.urandom(1000), 4500, times=50)
    send(link, os.urandom(300), 500, times=2)
    count = settled(tap)
    assert (count.natt, count.ike, count.strays, count.plaintext, count.missed) == (50, 2, (), 0, 0)
    assert count.octets > 50_000


def test_a_secret_within_udp_4500_is_found(link: tuple[Namespace, Namespace], tap: Tap) -> None:
    send(link, os.urandom(700) + SECRET + os.urandom(300), 4500, times=3)
    assert settled(tap).plaintext == 3


def test_a_secret_within_ike_is_found(link: tuple[Namespace, Namespace], tap: Tap) -> None:
    send(link, SECRET, 500)
    assert settled(tap).plaintext == 1


def test_everything_else_is_a_stray(link: tuple[Namespace, Namespace], tap: Tap) -> None:
    send(link, b"x", 4501)
    count = settled(tap)
    assert count.strays == (f"IP protocol 17, {LEFT} -> {RIGHT}, 29 octets",)
    assert count.plaintext == 1


def test_ip_within_ip_and_ipv6_are_strays(link: tuple[Namespace, Namespace], tap: Tap) -> None:
    with link[0].inside():
        raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_IPIP)
        frames = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM)
    with raw, frames:
        raw.sendto(b"\x45" + bytes(19), (RIGHT, 0))
        frames.sendto(b"\x60" + bytes(39), ("l0", 0x86DD, 0, 0, b"\xff" * 6))
    strays = settled(tap).strays
    assert any(stray.startswith("IP protocol 4") for stray in strays)
    assert "40 octets that are not IPv4" in strays


def test_fragments_of_udp_4500_are_no_strays(link: tuple[Namespace, Namespace], tap: Tap) -> None:
    with link[0].inside():
        sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with link[1].inside():
        receiver = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with sender, receiver:
        receiver.bind((RIGHT, 4500))
        sender.sendto(bytes(4000), (RIGHT, 4500))
    count = settled(tap)
    assert (count.natt, count.strays) == (3, ())


def test_the_ring_goes_round(link: tuple[Namespace, Namespace], tap: Tap) -> None:
    """More than it holds, drained as it comes: all of it is looked at, the very last packet as well."""
    packets, size = 0, 1400
    while packets * size < 60 * BLOCK_OCTETS:
        send(link, os.urandom(size), 4500, times=500)
        packets += 500
        tap.drain()
    send(link, SECRET, 4500)
    count = settled(tap)
    assert (count.natt, count.plaintext, count.missed) == (packets + 1, 1, 0)


def test_packets_that_come_too_fast_are_counted_as_such(link: tuple[Namespace, Namespace], tap: Tap) -> None:
    packets = 50 * BLOCK_OCTETS // 1400
    send(link, os.urandom(1400), 4500, times=packets)
    count = settled(tap)
    assert count.natt == packets
    assert 0 < count.missed < packets


def test_an_interface_that_is_not_there(link: tuple[Namespace, Namespace]) -> None:
    with pytest.raises(HostError, match="packets on eth7"):
        Tap(link[0], "eth7", ())
