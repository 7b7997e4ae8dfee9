"""What a running session does on request over its control socket."""

import os
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from espudp.errors import ConfigError
from espudp.host.control import Arguments, Handler
from espudp.tunnel import Tunnel

if TYPE_CHECKING:
    from espudp.host.session import Session


class Commands:
    """status; rekey (what: ike or child) and check-alive, of one connection or, with none named, of all."""

    def __init__(self, session: "Session") -> None:
        self._session = session

    def handlers(self) -> dict[str, Handler]:
        """By the name that a request has."""
        return {"status": self.status, "rekey": self.rekey, "check-alive": self.check_alive}

    def status(self, _: Arguments) -> dict[str, object]:
        """Everything there is to see; no keys."""
        s = self._session
        return {
            "role": s.role,
            "pid": os.getpid(),
            "started": s.started,
            "device": s.tun.name,
            "mtu": s.tun.mtu,
            "addresses": s.routing.addresses,
            "routes": sorted(str(network) for network in s.routing.networks),
            "ports": sorted({udp.port for udp in s.sockets.sockets}),
            "dns": s.dns,
            "send_errors": {os.strerror(code): count for code, count in s.sockets.errors.items()},
            "send_drops": s.driver.drops,
            "tun_errors": {os.strerror(code): count for code, count in s.tun.write_errors.items()},
            "tunnel": s.driver.command(lambda tunnel, now: tunnel.snapshot(now)),
        }

    def rekey(self, arguments: Arguments) -> dict[str, object]:
        """Start the rekeying of the IKE SA, or of all child SAs. Raises ConfigError."""
        what = arguments.get("what", "child")
        if what not in ("ike", "child"):
            raise ConfigError(f"{what!r} cannot be rekeyed.", field="what", remedy="It is `ike` or `child`.")
        asked = self._named(arguments)
        for connection in asked:
            if what == "ike":
                self._order(Tunnel.rekey_ike, connection)
            else:
                self._rekey_children(connection)
        return {"connections": asked}

    def check_alive(self, arguments: Arguments) -> dict[str, object]:
        """Ask the peers whether they are there. Raises ConfigError."""
        asked = self._named(arguments)
        for connection in asked:
            self._order(Tunnel.check_alive, connection)
        return {"connections": asked}

    def _rekey_children(self, connection: int) -> None:
        sas = self._session.driver.command(lambda tunnel, now: tunnel.snapshot(now)).sas
        for pair in sorted({sa.pair for sa in sas if sa.connection == connection}):
            self._order(partial(_rekey_child, spi_in=pair), connection)

    def _order(self, act: Callable[[Tunnel, int, float], None], connection: int) -> None:
        self._session.driver.command(lambda tunnel, now: act(tunnel, connection, now))

    def _named(self, arguments: Arguments) -> list[int]:
        wanted = arguments.get("connection")
        running = sorted(self._session.connections)
        if wanted is not None and wanted not in running:
            raise ConfigError(
                f"There is no connection {wanted!r}.", field="connection", remedy="See `espudp status`."
            )
        return running if wanted is None else [wanted]


def _rekey_child(tunnel: Tunnel, connection: int, now: float, *, spi_in: int) -> None:
    tunnel.rekey_child(connection, spi_in, now)
