"""Kernels that lack some of what makes it fast: everything works, and what is missing is told once."""

import os
import socket
import threading

import pytest

from espudp.host.netns import Namespace
from tests.host.support import Network, Peer, ping

pytestmark = [pytest.mark.root, pytest.mark.tun]

SECONDS = 20
CLIENT, SERVER = "10.99.0.2", "10.99.0.1"

# What is missing, and the beginning of the line about it.
LINES = {
    "USO": "UDP goes through the TUN device packet by packet",
    "TSO": "TCP goes through the TUN device packet by packet",
    "IFF_VNET_HDR": "Everything goes through the TUN device packet by packet",
    "UDP_GRO": "The kernel has no UDP_GRO",
    "UDP_SEGMENT": "The kernel does not take UDP_SEGMENT",
}


@pytest.mark.parametrize(
    ("missing", "told"),
    [
        ("", ()),
        ("USO", ("USO",)),
        ("TSO", ("USO", "TSO")),
        ("IFF_VNET_HDR", ("IFF_VNET_HDR",)),
        ("UDP_GRO", ("UDP_GRO",)),
        ("UDP_SEGMENT", ("UDP_SEGMENT",)),
        ("IFF_VNET_HDR UDP_GRO UDP_SEGMENT", ("IFF_VNET_HDR", "UDP_GRO", "UDP_SEGMENT")),
    ],
)
@pytest.mark.parametrize("where", ["client", "server"])
def test_it_works_without(network: Network, missing: str, told: tuple[str, ...], where: str) -> None:
    server = network.listen(missing=missing if where == "server" else "")
    client = network.connect(missing=missing if where == "client" else "")
    for sender, receiver, address in (
        (network.client, network.server, SERVER),
        (network.server, network.client, CLIENT),
    ):
        data = os.urandom(2_000_000)
        assert transfer(sender, receiver, address, data) == data
        assert ping(sender, address, octets=3000) == 1
    for peer, name in ((client, "client"), (server, "server")):
        expected = told if where == name else ()
        assert [what for what in LINES if LINES[what] in peer.output] == [w for w in LINES if w in expected]
        says_once(peer, [LINES[what] for what in expected])
    assert (client.stop(), server.stop()) == (0, 0)


def says_once(peer: Peer, lines: list[str]) -> None:
    """Among its reports and in its status."""
    limits = peer.ask("status")["limits"]
    assert len(limits) == len(lines)
    for line in lines:
        assert peer.output.count(line) == 1
        assert [limit for limit in limits if line in limit]


def send(source: socket.socket, data: bytes) -> None:
    source.sendall(data)
    source.shutdown(socket.SHUT_WR)


def transfer(sender: Namespace, receiver: Namespace, address: str, data: bytes) -> bytes:
    """Send data over TCP from one namespace to an address of the other; what arrives."""
    with receiver.inside():
        listener = socket.create_server((address, 0))
    with listener:
        with sender.inside():
            source = socket.create_connection(listener.getsockname(), timeout=SECONDS)
        receiving, _ = listener.accept()
    with source, receiving:
        receiving.settimeout(SECONDS)
        thread = threading.Thread(target=send, args=(source, data))
        thread.start()
        received = bytearray()
        while chunk := receiving.recv(1 << 20):
            received += chunk
        thread.join()
    return bytes(received)
