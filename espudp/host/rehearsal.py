"""Keeps the way of a packet through the processor warm while somebody waits for single ones.

A packet that comes after a pause meets code and data that have left the caches meanwhile, and takes several
times as long as the next one would. So for a moment after such a packet others, our own, go the same way
every few milliseconds: through a second driver, over a tunnel that ends where it begins. It stops when nobody
sends any more, and leaves a way alone that is busy. No packet of it leaves the host, nor is any counted as
traffic; while it lasts it takes about 3 % of a core.
"""

import asyncio
import os
import socket
import time
from contextlib import ExitStack, suppress
from typing import Any

from espudp.crypto.aead import CipherKeys
from espudp.crypto.suites import EspSuite
from espudp.esp.replay import DEFAULT_WINDOW
from espudp.host.driver import Driver
from espudp.host.ipsocket import SocketSet
from espudp.host.tun import TunQueue
from espudp.host.udp import UdpSocket
from espudp.manual import ManualConfig
from espudp.tunnel import Tunnel
from espudp.wire.address import Path, UdpAddress
from espudp.wire.selectors import TrafficSelector
from espudp.wire.vnet import PLAIN

# As measured: what was not used for 10 ms is gone from caches that others use, too. The moment covers a
# person who types, and a ping every second.
INTERVAL_SECONDS = 0.004
MOMENT_SECONDS = 1.5

LOOPBACK = "127.0.0.1"
SPI = 0x1000
_HOST = "192.0.2.1"  # RFC 5737: nobody's
# RFC 791, RFC 792: an echo request as long as ping's, from that host to itself; nobody looks at checksums.
_HEADERS = bytes.fromhex("45000054 00004000 40010000 c0000201 c0000201 0800")
_PACKET = _HEADERS + bytes(84 - len(_HEADERS))


class Rehearsal:
    """The second driver, on the running event loop."""

    def __init__(self, suite: EspSuite, real: Driver[Any]) -> None:
        """With the suite whose cipher is to be kept warm. Raises OSError if the host has no loopback."""
        self.rounds = 0
        """Packets that have come through."""
        self._loop = asyncio.get_running_loop()
        self._real = real
        self._until = 0.0
        self._timer: asyncio.TimerHandle | None = None
        with ExitStack() as stack:
            udp = UdpSocket(LOOPBACK, 0)
            stack.callback(udp.close)
            device, self._host = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
            stack.callback(self._host.close)
            tun = TunQueue("", device.detach(), header=True)
            stack.callback(tun.close)
            tunnel = _circle(suite, UdpAddress(LOOPBACK, udp.port))
            driver = Driver(tunnel, SocketSet([udp]), tun, on_event=_ignore, on_failure=_ignore)
            driver.start()
            stack.callback(driver.stop)
            self._opened = stack.pop_all()
        real.on_lull = self.keep_on

    def close(self) -> None:
        """For good."""
        self._real.on_lull = _do_nothing
        if self._timer is not None:
            self._timer.cancel()
        self._opened.close()

    def keep_on(self) -> None:
        """A packet came alone: for a moment there may be another."""
        self._until = time.monotonic() + MOMENT_SECONDS
        if self._timer is None:
            self._timer = self._loop.call_later(INTERVAL_SECONDS, self._round)

    def _round(self) -> None:
        now = time.monotonic()
        self._timer = self._loop.call_later(INTERVAL_SECONDS, self._round) if now < self._until else None
        with suppress(BlockingIOError):
            self._host.recv(len(_PACKET))  # the last one
            self.rounds += 1
        if now - self._real.woken > INTERVAL_SECONDS:
            with suppress(OSError):
                self._host.send(PLAIN.pack() + _PACKET)


def _circle(suite: EspSuite, address: UdpAddress) -> Tunnel:
    """A tunnel whose peer is itself, with keys that nobody else has."""
    octets = suite.encr.keymat_octets, suite.integ.key_octets if suite.integ else 0
    keys = CipherKeys(*map(os.urandom, octets))
    host = (TrafficSelector.from_network(_HOST),)
    tunnel = Tunnel(os.urandom)
    manual = ManualConfig(
        suite=suite,
        spi_in=SPI,
        spi_out=SPI,
        keys_in=keys,
        keys_out=keys,
        local=host,
        remote=host,
        peer=address,
        replay_window=DEFAULT_WINDOW,
    )
    tunnel.install_manual(manual, Path(address, address), time.monotonic())
    return tunnel


def _ignore(_: object) -> None:
    pass


def _do_nothing() -> None:
    pass
