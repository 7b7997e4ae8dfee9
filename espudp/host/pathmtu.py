"""What the paths to the peers carry, as the kernel discovers it (RFC 1191, RFC 8201)."""

from collections.abc import Callable

from espudp.errors import HostError
from espudp.host.udp import outlook

# How often the kernel is asked, and about how many peers at a time.
INTERVAL_SECONDS = 5.0
QUERIES = 64


class PathMtus:
    """Asks the kernel about every peer in turn, and tells what is new.

    The kernel learns from ICMP, and tells an unconnected socket nothing; until we ask, it sends what has
    become too large in fragments.
    """

    def __init__(self, changed: Callable[[str, int], None], *, mark: int, bind: str | None) -> None:
        """`changed` gets the peer's IP address and the largest IP packet, in octets, on the way there."""
        self._changed = changed
        self._mark = mark
        self._bind = bind
        self._peers: dict[int, str] = {}
        self._known: dict[str, int] = {}
        self._turn = 0

    @property
    def remotes(self) -> set[str]:
        """The IP addresses of the peers."""
        return set(self._peers.values())

    def add(self, connection: int, remote_ip: str) -> None:
        """A connection, or where its peer has moved to."""
        self._peers[connection] = remote_ip
        self.ask(remote_ip)

    def remove(self, connection: int) -> None:
        """The connection is down."""
        self._peers.pop(connection, None)

    def ask(self, remote_ip: str) -> None:
        """Ask about one peer."""
        try:
            mtu = outlook(remote_ip, mark=self._mark, bind=self._bind).mtu
        except HostError:  # no route at the moment
            return
        if self._known.get(remote_ip) != mtu:
            self._known[remote_ip] = mtu
            self._changed(remote_ip, mtu)

    def ask_next(self) -> None:
        """Ask about the next few peers, and forget those that are gone."""
        peers = self.remotes
        remotes = sorted(peers)
        self._known = {ip: mtu for ip, mtu in self._known.items() if ip in peers}
        for index in range(min(len(remotes), QUERIES)):
            self.ask(remotes[(self._turn + index) % len(remotes)])
        self._turn += QUERIES
