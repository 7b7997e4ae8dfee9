"""strongSwan as the initiator, behind a NAT, and espudp that listens for it."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.interop.charon import Charon, charon
from tests.interop.lab import SERVER_ADDRESS, Lab, lab, wait_until
from tests.interop.peer import PSK, Espudp, espudp
from tests.interop.swan import ESP, ESPUDP_ID, IKE, SWAN_ID

POOL, GATEWAY = "10.99.0.0/24", "10.99.0.1"
POOL6, GATEWAY6 = "fd00:99::/64", "fd00:99::1"
SUBNET, BEHIND = "10.78.0.0/24", "10.78.0.1"


@dataclass(frozen=True)
class Caller:
    """A charon that connects to the espudp which listens."""

    net: Lab
    swan: Charon
    peer: Espudp

    def dial(self, *, ike: str = IKE, esp: str = ESP, **more: Any) -> list[str]:
        """Have strongSwan connect; returns the addresses that it was given."""
        children = {
            "net": {"remote_ts": [POOL, POOL6], "esp_proposals": [esp]},
            "lan": {"remote_ts": [SUBNET], "esp_proposals": [esp]},
        }
        conn = {
            "remote_addrs": [SERVER_ADDRESS],
            "proposals": [ike],
            "vips": ["0.0.0.0", "::"],
            "local": {"auth": "psk", "id": SWAN_ID},
            "remote": {"auth": "psk", "id": ESPUDP_ID},
            "children": children,
            **more,
        }
        self.swan.load("client", conn)
        self.swan.initiate("net")
        (sa,) = self.swan.ike_sas()
        return list(sa.get("local-vips", ()))

    @contextmanager
    def dialled(self, *, ike: str = IKE, esp: str = ESP, **more: Any) -> Iterator[str]:
        """strongSwan connects, and deletes at the end of the block; gives the IPv4 address that it got."""
        addresses = self.dial(ike=ike, esp=esp, **more)
        try:
            yield addresses[0]
        finally:
            self.swan.terminate("client")
        wait_until(lambda: not self.peer.tunnel()["connections"], "espudp to close the connection")
        assert self.swan.ike_sas() == []
        assert self.peer.tunnel()["sas"] == []

    def check_traffic(self, address: str) -> None:
        """Large and small packets, started from either side: nine each way."""
        assert self.net.client.ping(GATEWAY)
        assert self.net.client.ping(GATEWAY, octets=1300)
        assert self.net.server.ping(address, octets=700)


@dataclass(frozen=True)
class CallingSwan:
    """A charon that has nobody to connect to yet."""

    net: Lab
    swan: Charon

    @contextmanager
    def listening(self, folder: Path, *arguments: str, psk: str | None = PSK) -> Iterator[Caller]:
        """espudp listens with a pool of each family and a subnet until the end of the block."""
        reach = ["--pool", POOL, "--pool", POOL6, "--subnet", SUBNET, "--local-id", ESPUDP_ID]
        with espudp(self.net.server, folder, "listen", *reach, *arguments, psk=psk) as peer:
            yield Caller(self.net, self.swan, peer)


@contextmanager
def calling_swan(folder: Path) -> Iterator[CallingSwan]:
    with lab() as net, charon(net.client, folder) as swan:
        net.server.run("ip", "address", "add", f"{BEHIND}/24", "dev", "lo")
        swan.load_psk(PSK, ESPUDP_ID, SWAN_ID)
        yield CallingSwan(net, swan)
