"""What a running session does on request over its control socket."""

import os
from collections import Counter
from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING

from espudp.errors import ConfigError
from espudp.esp.elsewhere import owner_of
from espudp.esp.snapshot import SaSnapshot
from espudp.host.control import Arguments, Handler
from espudp.tunnel import Tunnel

if TYPE_CHECKING:
    from espudp.host.session import Session


class Commands:
    """status; rekey (what: ike or child), reauthenticate and check-alive, of one connection or, with none
    named, of all.
    """

    def __init__(self, session: "Session") -> None:
        self._session = session

    def handlers(self) -> dict[str, Handler]:
        """By the name that a request has."""
        return {
            "status": self.status,
            "rekey": self.rekey,
            "reauthenticate": self.reauthenticate,
            "check-alive": self.check_alive,
        }

    async def status(self, _: Arguments) -> dict[str, object]:
        """Everything there is to see; no keys."""
        s = self._session
        usages = await s.usages()
        count = 1 if s.workers is None else s.workers.count
        tunnel = s.driver.command(lambda tunnel, now: tunnel.snapshot(now))
        return {
            "role": s.role,
            "pid": os.getpid(),
            "started": s.started,
            "device": s.tun.name,
            "mtu": s.tun.mtu,
            "offloads": [offload.name for offload in s.tun.offloads],
            "limits": s.limits,
            "addresses": s.routing.addresses,
            "routes": sorted(map(str, (*s.routing.networks, *s.routing.flows))),
            "ike_ports": sorted(s.ike_ports),
            "plain_esp": s.plain_esp,
            "ports": s.sockets.ports,
            "dns": s.dns,
            "dns_domains": s.dns_domains,
            "send_errors": _by_text(usage.send_errors for usage in usages.values()),
            "send_drops": sum((usage.send_drops for usage in usages.values()), Counter()),
            "tun_errors": _by_text(usage.tun_errors for usage in usages.values()),
            "workers": [
                {
                    "worker": number,
                    "pid": usage.pid,
                    "silent": usage.silent,
                    "cpu_seconds": usage.cpu_seconds,
                    "memory_octets": usage.memory_octets,
                    "handed_over": s.handed_over(number),
                    **_traffic(sa for sa in tunnel.sas if owner_of(sa.pair, count) == number),
                }
                for number, usage in sorted(usages.items())
            ],
            "tunnel": tunnel,
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

    def reauthenticate(self, arguments: Arguments) -> dict[str, object]:
        """Have who dialled prove itself anew, make before break. Raises ConfigError."""
        asked = self._named(arguments)
        for connection in asked:
            self._order(Tunnel.reauthenticate, connection)
        return {"connections": asked}

    def check_alive(self, arguments: Arguments) -> dict[str, object]:
        """Ask the peers whether they are there. Raises ConfigError."""
        asked = self._named(arguments)
        for connection in asked:
            self._order(Tunnel.check_alive, connection)
        return {"connections": asked}

    def _rekey_children(self, connection: int) -> None:
        known = self._session.driver.command(lambda tunnel, now: tunnel.snapshot(now)).connections
        for child in (c for shot in known if shot.connection == connection for c in shot.children):
            self._order(partial(_rekey_child, spi_in=child.spi_in), connection)

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


def _by_text(errors: Iterable[Counter[int]]) -> dict[str, int]:
    return {os.strerror(code): count for code, count in sum(errors, Counter[int]()).items()}


def _traffic(sas: Iterable[SaSnapshot]) -> dict[str, object]:
    """Of all SAs of a worker."""
    own = list(sas)
    return {
        "pairs": len({sa.pair for sa in own}),
        "packets": {way: sum(sa.packets for sa in own if sa.direction == way) for way in ("in", "out")},
        "octets": {way: sum(sa.octets for sa in own if sa.direction == way) for way in ("in", "out")},
    }


def _rekey_child(tunnel: Tunnel, connection: int, now: float, *, spi_in: int) -> None:
    tunnel.rekey_child(connection, spi_in, now)
