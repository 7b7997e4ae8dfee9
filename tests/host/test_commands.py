"""The commands together, as two people at two hosts would use them: what one prints, the other pastes."""

import json
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from espudp.host.keyfiles import CONFIG_VARIABLE
from tests.host.support import Network, Peer, ping, state

pytestmark = [pytest.mark.root, pytest.mark.tun]

SERVER = "203.0.113.7"


@pytest.fixture
def network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Network]:
    monkeypatch.setenv(CONFIG_VARIABLE, str(tmp_path / "etc"))
    with Network.make(tmp_path) as made:
        yield made


def listen(network: Network, *arguments: str) -> Peer:
    return Peer.run(network, network.server, "server", "espudp", "listen", *arguments)


def client(network: Network, command: str, *arguments: str) -> Peer:
    return Peer.run(network, network.client, "client", "espudp", command, *arguments)


def test_the_printed_line_connects(network: Network) -> None:
    server = listen(network, "--subnet", "198.51.100.0/24", "--esp-proposal", "aes128-sha256-esn")
    line = server.wait_for("espudp connect")
    words = shlex.split(line)
    assert words[2] == SERVER  # found out by itself
    peer = client(network, *words[1:])
    said = peer.wait_for("Connected to")
    for fact in (
        "address 10.99.0.2",
        "10.99.0.0/24",
        "198.51.100.0/24",
        "aes128-sha256-esn",
        "NAT: this side",
    ):
        assert fact in said
    assert ping(network.client, "10.99.0.1", tries=3) == 3
    assert (peer.stop(), server.stop()) == (0, 0)


def test_workers_and_what_status_shows_of_them(network: Network) -> None:
    server = listen(network, "--workers", "2")
    words = shlex.split(server.wait_for("espudp connect"))
    peer = client(network, *words[1:], "--workers", "2", "--verbose")
    peer.wait_for("One more child SA")
    assert ping(network.client, "10.99.0.1", tries=3) == 3
    shown = client(network, "status")
    assert shown.end() == 0
    for fact in ("worker 0", "worker 1", "CPU", "memory", "handed over"):
        assert fact in shown.output
    assert (peer.stop(), server.stop()) == (0, 0)


def test_status_for_people_and_for_programs(network: Network) -> None:
    server = listen(network, "--control-name", "gateway")
    words = shlex.split(server.wait_for("espudp connect"))
    client(network, *words[1:], "--child-bytes", "1G").wait_for("Connected to")
    ping(network.client, "10.99.0.1")
    shown = client(network, "status")
    assert shown.end() == 0
    for fact in ("established", "this side", "10.99.0.2", SERVER, "aes256gcm16", "1024", "1.2 GB", "USO6"):
        assert fact in shown.output
    asked = Peer.run(network, network.server, "server", "espudp", "status", "--json", "gateway")
    assert asked.end() == 0
    (process,) = json.loads(asked.output)["processes"]
    (connection,) = process["tunnel"]["connections"]
    assert connection["peer_addresses"] == ["10.99.0.2"]
    assert connection["nat"] == {"local": False, "remote": True, "claimed": False}
    assert connection["path"].endswith("-> 203.0.113.1:4500")
    inbound, outbound = sorted(process["tunnel"]["sas"], key=lambda sa: str(sa["direction"]))
    assert (inbound["packets"], outbound["packets"]) == (1, 1)
    psk = Path(words[-1]).read_text().strip()
    assert psk not in asked.output + shown.output + server.output


def test_two_keys_that_differ(network: Network) -> None:
    server = listen(network)
    server.wait_for("espudp connect")
    peer = client(network, "connect", SERVER, "--psk", "not that one")
    assert peer.end() == 1
    assert "not that one" not in peer.output
    assert "PSK" in peer.output or "pre-shared" in peer.output
    assert len(peer.output.strip().splitlines()) == 2
    server.wait_for("Refused")


def test_no_common_proposal_shows_both_offers_to_the_responder(network: Network) -> None:
    server = listen(network, "--ike-proposal", "aes256gcm16-prfsha384-ecp384")
    words = shlex.split(server.wait_for("espudp connect"))
    peer = client(network, "connect", SERVER, *words[-2:], "--ike-proposal", "aes128-sha256-modp2048")
    assert peer.end() == 1
    assert "proposal" in peer.output
    server.wait_for("nothing in common")
    refused = server.output.partition("Refused")[2]
    assert "ecp384" in refused
    assert "modp2048" in refused


def test_manual_keys_from_keygen(network: Network, tmp_path: Path) -> None:
    before = state(network.client), state(network.server)
    keygen = Peer.run(
        *(network, network.server, "keygen", "espudp", "keygen", "--manual", "--suite", "aes128-sha1"),
        *("--out", str(tmp_path / "keys")),
    )
    assert keygen.end() == 0
    commands = [shlex.split(line.rpartition("espudp ")[2]) for line in keygen.output.splitlines()]
    server = Peer.run(network, network.server, "server", "espudp", *commands[0])
    server.wait_for("Manual keys with")
    peer = client(network, *commands[1])
    assert SERVER in peer.wait_for("Manual keys with")
    assert ping(network.client, "10.98.0.1", tries=3) == 3
    assert ping(network.server, "10.98.0.2", tries=3) == 3
    shown = client(network, "status")
    assert shown.end() == 0
    assert "manual keys" in shown.output
    assert "aes128-sha1" in shown.output
    assert (peer.stop(), server.stop()) == (0, 0)
    assert (state(network.client), state(network.server)) == before


def test_a_restarted_end_with_manual_keys_is_heard_again(network: Network, tmp_path: Path) -> None:
    """Its sequence numbers begin again, which a replay window would refuse (RFC 4303 section 5)."""
    keys = tmp_path / "keys"
    made = Peer.run(network, network.server, "keygen", "espudp", "keygen", "--manual", "--out", str(keys))
    assert made.end() == 0
    listen(network, "--manual", str(keys / "server.toml")).wait_for("Manual keys with")
    for _ in range(2):
        peer = client(network, "connect", "--manual", str(keys / "client.toml"))
        peer.wait_for("Manual keys with")
        assert ping(network.client, "10.98.0.1", tries=5) == 5
        assert peer.stop() == 0
