"""REDIRECT (RFC 5685): who is sent elsewhere goes there, with strongSwan in both roles."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.interop.caller import GATEWAY, CallingSwan
from tests.interop.gateway import BEHIND_SWAN, Gateway
from tests.interop.lab import SERVER_ADDRESS, Namespace, wait_until
from tests.interop.matrix import INITIATOR, RESPONDER
from tests.interop.peer import espudp
from tests.interop.swan import ESPUDP_ID

pytestmark = [
    pytest.mark.strongswan,
    pytest.mark.namespaces,
    pytest.mark.tun,
    pytest.mark.cell("REDIRECT (RFC 5685)"),
]

Saw = Callable[[str], None]

ELSEWHERE = "203.0.113.3"


@contextmanager
def another_address(server: Namespace) -> Iterator[None]:
    server.run("ip", "address", "add", f"{ELSEWHERE}/24", "dev", "eth0")
    try:
        yield
    finally:
        server.run("ip", "address", "del", f"{ELSEWHERE}/24", "dev", "eth0")


@pytest.mark.peer("strongSwan", INITIATOR)
def test_strongswan_sends_espudp_elsewhere(gateway: Gateway, tmp_path: Path, saw: Saw) -> None:
    with another_address(gateway.net.server):
        gateway.serve(local_addrs=[SERVER_ADDRESS, ELSEWHERE])
        with gateway.connected(tmp_path):
            gateway.swan.vici.redirect({"ike": "gateway", "gateway": ELSEWHERE})

            def arrived() -> bool:
                return [sa["local-host"] for sa in gateway.swan.ike_sas()] == [ELSEWHERE]

            wait_until(arrived, "espudp to come to the other address")
            wait_until(lambda: gateway.net.client.ping(BEHIND_SWAN), "traffic")
    saw("while connected")


@pytest.mark.peer("strongSwan", RESPONDER)
def test_espudp_sends_strongswan_elsewhere(calling: CallingSwan, tmp_path: Path, saw: Saw) -> None:
    busy = ["--bind", SERVER_ADDRESS, "--redirect-to", ELSEWHERE, "--pool", "10.98.0.0/24"]
    with (
        another_address(calling.net.server),
        espudp(calling.net.server, tmp_path / "busy", "listen", *busy, "--local-id", ESPUDP_ID),
        calling.listening(tmp_path / "idle", "--bind", ELSEWHERE) as place,
        place.dialled(),
    ):
        (sa,) = calling.swan.ike_sas()
        assert sa["remote-host"] == ELSEWHERE
        assert calling.net.client.ping(GATEWAY)
    saw("from IKE_SA_INIT")
