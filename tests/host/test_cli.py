"""`espudp listen` and `espudp connect` as a user types them, with a NAT between."""

import json
from pathlib import Path

import pytest

from tests.host.support import Network, Peer, ping, state

pytestmark = [pytest.mark.root, pytest.mark.tun]


@pytest.fixture
def psk_file(tmp_path: Path) -> str:
    path = tmp_path / "psk"
    path.write_text("correct horse battery staple\n")
    path.chmod(0o600)
    return str(path)


def _status(network: Network, name: str) -> str:
    peer = Peer.run(network, network.client, name, "espudp", "status", "--json")
    assert peer.end() == 0
    return json.dumps(json.loads(peer.output))


def test_listen_connect_and_status(network: Network, psk_file: str) -> None:
    before = state(network.client), state(network.server)
    server = Peer.run(network, network.server, "server", "espudp", "listen", "--psk-file", psk_file)
    server.wait_for("Listening on")
    arguments = ["203.0.113.7", "--psk-file", psk_file]
    client = Peer.run(network, network.client, "client", "espudp", "connect", *arguments)
    client.wait_for("Connected to")
    assert ping(network.client, "10.99.0.1", tries=3) == 3
    shown = _status(network, "client")
    assert "10.99.0.2" in shown
    assert "203.0.113.7" in shown
    assert (client.stop(), server.stop()) == (0, 0)
    assert (state(network.client), state(network.server)) == before


def test_nothing_stays_behind_a_kill_and_a_new_start(network: Network, psk_file: str) -> None:
    before = state(network.client)
    server = Peer.run(network, network.server, "server", "espudp", "listen", "--psk-file", psk_file)
    server.wait_for("Listening on")
    arguments = ["203.0.113.7", "--psk-file", psk_file]
    client = Peer.run(network, network.client, "client", "espudp", "connect", *arguments)
    client.wait_for("Connected to")
    client.kill()
    assert state(network.client) != before
    client = Peer.run(network, network.client, "client", "espudp", "connect", *arguments)
    client.wait_for("Connected to")
    assert client.stop() == 0
    assert state(network.client) == before


def test_a_second_listener_on_the_same_ports_is_a_failure_in_two_sentences(
    network: Network, psk_file: str
) -> None:
    listen = ("espudp", "listen", "--psk-file", psk_file)
    Peer.run(network, network.server, "server", *listen).wait_for("Listening on")
    second = Peer.run(network, network.server, "server", *listen)
    assert second.end() == 1
    assert "UDP port 500 is in use" in second.output
    assert "choose another port" in " ".join(second.output.split())
