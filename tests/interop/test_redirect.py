"""A gateway sends its clients to another one (RFC 5685): strongSwan's client follows, and so does ours."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.interop.caller import CallingSwan
from tests.interop.gateway import Gateway
from tests.interop.lab import SERVER_ADDRESS, Lab
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

OTHER_ADDRESS = "203.0.113.3"


@contextmanager
def _other_address(net: Lab) -> Iterator[None]:
    net.server.run("ip", "address", "add", f"{OTHER_ADDRESS}/24", "dev", "eth0")
    try:
        yield
    finally:
        net.server.run("ip", "address", "del", f"{OTHER_ADDRESS}/24", "dev", "eth0")


@pytest.mark.peer("strongSwan", INITIATOR)
def test_as_initiator(gateway: Gateway, tmp_path: Path, saw: Saw) -> None:
    """strongSwan asks for it while the connection is up."""
    with _other_address(gateway.net):
        gateway.serve(local_addrs=["%any"])
        with gateway.connected(tmp_path, "--verbose") as peer:
            gateway.check_traffic(peer)
            gateway.swan.vici.redirect({"ike": "gateway", "gateway": OTHER_ADDRESS})
            peer.wait_for(f"sends us to {OTHER_ADDRESS}")
            peer.wait_for(f"({OTHER_ADDRESS}:4500)")
            gateway.check_traffic(peer)
            (connection,) = peer.tunnel()["connections"]
            assert f"-> {OTHER_ADDRESS}:" in connection["path"]
    saw("in a session")


@pytest.mark.peer("strongSwan", RESPONDER)
def test_as_responder(calling: CallingSwan, tmp_path: Path, saw: Saw) -> None:
    net, swan = calling.net, calling.swan
    first = ["--bind", SERVER_ADDRESS, "--pool", "10.77.0.0/24", "--local-id", ESPUDP_ID]
    with (
        _other_address(net),
        calling.listening(tmp_path, "--bind", OTHER_ADDRESS) as place,
        espudp(net.server, tmp_path / "first", "listen", *first, "--redirect-to", OTHER_ADDRESS) as busy,
        place.dialled() as address,
    ):
        place.check_traffic(address)
        (sa,) = swan.ike_sas()
        assert sa["remote-host"] == OTHER_ADDRESS
        assert busy.tunnel()["connections"] == []
    saw("in IKE_SA_INIT")
