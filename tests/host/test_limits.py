"""How much memory a running peer takes."""

from pathlib import Path

import pytest

from tests.host.support import Network, Peer, ping

pytestmark = [pytest.mark.root, pytest.mark.tun]

IDLE_OCTETS = 80 * 10**6


def resident(peer: Peer) -> int:
    """Octets, all that is shared with others counted in."""
    status = Path(f"/proc/{peer.process.pid}/status").read_text()
    (line,) = (line for line in status.splitlines() if line.startswith("VmRSS:"))
    return int(line.split()[1]) * 1024


def test_an_idle_listener_is_small(network: Network, tmp_path: Path) -> None:
    psk = tmp_path / "psk"
    psk.write_text("correct horse battery staple\n")
    psk.chmod(0o600)
    server = Peer.run(network, network.server, "server", "espudp", "listen", "--psk-file", str(psk))
    server.wait_for("Listening on")
    assert resident(server) < IDLE_OCTETS
    client = Peer.run(
        network, network.client, "client", "espudp", "connect", "203.0.113.7", "--psk-file", str(psk)
    )
    client.wait_for("Connected to")
    # Of all sizes, so that what is kept for each is there.
    for octets in (*range(1, 1400, 100), 3000, 20_000):
        assert ping(network.client, "10.99.0.1", octets=octets)
    assert resident(server) < IDLE_OCTETS
    assert resident(client) < IDLE_OCTETS
