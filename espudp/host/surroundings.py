"""Which addresses of this host lead to the peers, and the kernel's word whenever that may have changed."""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from ipaddress import ip_address

from espudp.errors import HostError
from espudp.host.addresses import ANYWHERE
from espudp.host.netlink import Netlink, NextHop, Watch
from espudp.host.udp import outlook
from espudp.wire.address import UdpAddress

# Addresses, links and routes change in bursts: how long to wait for the rest of one.
SETTLE_SECONDS = 0.1


class Surroundings:
    """Looks around when the kernel says that something has changed, and tells what is different then."""

    def __init__(
        self,
        changed: Callable[[list[UdpAddress]], None],
        peers: Callable[[], Iterable[str]],
        *,
        ports: Mapping[int, int],
        device: int,
        mark: int,
    ) -> None:
        """`changed` gets the addresses to send from, best first, with the UDP port of their IP version in
        `ports`; `peers` says to whom the way matters. Addresses of `device`, our own, are none.
        """
        self._changed = changed
        self._peers = peers
        self._ports = ports
        self._device = device
        self._mark = mark
        self._seen: object = None
        self._waits: asyncio.TimerHandle | None = None
        self._netlink = Netlink()
        self._watch = Watch()
        self._loop = asyncio.get_running_loop()

    def start(self) -> None:
        """Look around now, and from now on."""
        self._loop.add_reader(self._watch.fileno(), self._something_changed)
        self.look()

    def close(self) -> None:
        """Look no more."""
        self._loop.remove_reader(self._watch.fileno())
        if self._waits is not None:
            self._waits.cancel()
        self._watch.close()
        self._netlink.close()

    def look(self) -> None:
        """Tell what there is, if it is not what there was."""
        self._waits = None
        peers = list(self._peers())
        ours = self._addresses(peers)
        seen = ours, [self._next_hop(peer) for peer in peers]
        if seen != self._seen:
            self._seen = seen
            self._changed(ours)

    def _something_changed(self) -> None:
        self._watch.take()
        if self._waits is None:
            self._waits = self._loop.call_later(SETTLE_SECONDS, self.look)

    def _addresses(self, peers: Iterable[str]) -> list[UdpAddress]:
        """What the kernel would send from to the peers, and to anywhere, comes first. None of an IP version
        that leads nowhere.
        """
        chosen: list[str] = []
        for destination in (*peers, *ANYWHERE):
            try:
                chosen.append(outlook(destination, mark=self._mark).local_ip)
            except HostError:
                continue
        ours = [
            str(interface.ip) for device, interface in self._netlink.addresses() if device != self._device
        ]
        versions = {ip_address(ip).version for ip in chosen} & self._ports.keys()
        return [
            UdpAddress(ip, self._ports[ip_address(ip).version])
            for ip in dict.fromkeys((*chosen, *ours))
            if ip in ours and ip_address(ip).version in versions
        ]

    def _next_hop(self, peer: str) -> NextHop | None:
        try:
            return self._netlink.next_hop(ip_address(peer), self._mark)
        except OSError:
            return None
