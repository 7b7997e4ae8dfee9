"""strongSwan as the responder: what it accepts, and espudp that connects to it through a NAT."""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.interop.charon import Charon, charon
from tests.interop.lab import SERVER_ADDRESS, Lab, lab, wait_until
from tests.interop.peer import PSK, Espudp, espudp
from tests.interop.swan import ESP, ESPUDP_ID, IKE, SWAN_ID

BEHIND_SWAN, SUBNET = "10.78.0.1", "10.78.0.0/24"
POOL, DNS = "10.79.0.0/24", "10.78.0.53"

PSK_ARGUMENTS = ("--id", ESPUDP_ID, "--remote-id", SWAN_ID)


@dataclass(frozen=True)
class Gateway:
    net: Lab
    swan: Charon

    def serve(self, *, ike: str = IKE, esp: str = ESP, **more: Any) -> None:
        """What strongSwan accepts from now on: a connection "gateway" with a child "net"."""
        child = {"local_ts": [SUBNET], "esp_proposals": [esp]}
        conn = {
            "local_addrs": [SERVER_ADDRESS],
            "proposals": [ike],
            "pools": ["addresses"],
            "local": {"auth": "psk", "id": SWAN_ID},
            "remote": {"auth": "psk", "id": ESPUDP_ID},
            "children": {"net": child},
            **more,
        }
        self.swan.load("gateway", conn)

    def arguments(
        self,
        *more: str,
        ike: str = IKE,
        esp: str = ESP,
        subnet: str = SUBNET,
        identities: Sequence[str] = PSK_ARGUMENTS,
    ) -> list[str]:
        """What is typed behind `espudp` on the client."""
        wanted = ["--subnet", subnet, "--ike-proposal", ike, "--esp-proposal", esp]
        return ["connect", SERVER_ADDRESS, *identities, *wanted, *more]

    def connect(
        self, folder: Path, *more: str, psk: str | None = PSK, **changed: Any
    ) -> AbstractContextManager[Espudp]:
        return espudp(self.net.client, folder, *self.arguments(*more, **changed), psk=psk)

    @contextmanager
    def connected(self, folder: Path, *more: str, psk: str | None = PSK, **changed: Any) -> Iterator[Espudp]:
        """espudp has connected, and ends at the end of the block; then strongSwan has nothing left of it."""
        with self.connect(folder, *more, psk=psk, **changed) as peer:
            peer.wait_for("Connected to")
            yield peer
        self.check_gone()

    def check_traffic(self, peer: Espudp) -> None:
        """Large and small packets, started from either side: nine each way."""
        address, *_ = (text.partition("/")[0] for text in peer.ask("status")["addresses"])
        assert self.net.client.ping(BEHIND_SWAN)
        assert self.net.client.ping(BEHIND_SWAN, octets=1300)
        assert self.net.server.ping(address, octets=700)

    def check_gone(self) -> None:
        wait_until(lambda: not self.swan.ike_sas(), "strongSwan to hear of the DELETE", seconds=3)


@contextmanager
def gateway_swan(folder: Path) -> Iterator[Gateway]:
    with lab() as net:
        net.server.run("ip", "address", "add", f"{BEHIND_SWAN}/24", "dev", "lo")
        with charon(net.server, folder) as swan:
            swan.load_psk(PSK, ESPUDP_ID, SWAN_ID)
            swan.vici.load_pool({"addresses": {"addrs": POOL, "dns": [DNS]}})
            yield Gateway(net, swan)
