"""xl2tpd and pppd as the L2TP of both ends, behind a NAT, with the configuration that espudp writes."""

from ipaddress import IPv4Network
from pathlib import Path

import pytest

from espudp.host.l2tp import client_files, server_files, write_files
from tests.interop.lab import SERVER_ADDRESS, lab
from tests.interop.xl2tpd import USER, transfer, xl2tpd

pytestmark = [pytest.mark.xl2tpd, pytest.mark.namespaces, pytest.mark.tun]

POOL = IPv4Network("10.99.0.0/24")
SERVER = "10.99.0.1"


def test_without_ipsec(tmp_path: Path) -> None:
    """What is below works: both daemons with this configuration, and the PPP that this kernel has not."""
    ours, theirs = tmp_path / "server", tmp_path / "client"
    write_files(ours, server_files(ours, POOL))
    write_files(theirs, client_files(theirs, SERVER_ADDRESS, USER))
    with lab() as net, xl2tpd(net.server, ours) as server, xl2tpd(net.client, theirs) as client:
        assert client.wait_for_links() == {"ppp0": SERVER}
        assert server.wait_for_links() == {"ppp0": "10.99.0.2"}
        assert net.client.ping(SERVER, octets=1200)
        transfer(net.client, net.server, SERVER)
