"""Whole IKEv2 handshakes per second: initiator and responder together on one core, in memory."""

import itertools
import os
from dataclasses import dataclass
from ipaddress import ip_network

from benchmarks.clock import rates
from espudp import (
    DYNAMIC,
    ChildConfig,
    ChildInstalled,
    ConnectionConfig,
    Identity,
    IkeProposal,
    ListenerConfig,
    Path,
    TrafficSelector,
    Tunnel,
    UdpAddress,
)
from espudp.crypto.suites import DH

SERVER = UdpAddress("198.51.100.1", 4500)
POOL = "10.0.0.0/8"
PSK = os.urandom(32)


@dataclass(frozen=True)
class HandshakeFigures:
    """IKE_SA_INIT and IKE_AUTH with a virtual address and a child SA, until both ends have it."""

    proposal: str
    per_second: float


def proposals() -> list[str]:
    """One for each Diffie-Hellman group, which takes most of the time."""
    return [f"aes128gcm16-prfsha256-{group.keyword}" for group in DH]


def measure(proposal: str, seconds: float) -> HandshakeFigures:
    """Handshakes of new clients with one server that keeps them all."""
    offered = (IkeProposal.parse(proposal),)
    pool = TrafficSelector.from_network(POOL)
    listener = ListenerConfig(
        local_identity=Identity.parse("server.example"),
        psks=((None, PSK),),
        child=ChildConfig(local=(pool,), remote=(DYNAMIC,)),
        ike_proposals=offered,
        pool=(ip_network(POOL),),
    )
    server = Tunnel(os.urandom, listener=listener)
    numbers = itertools.count(1)

    def handshake() -> None:
        number = next(numbers)
        config = ConnectionConfig(
            local_identity=Identity.parse(f"client{number}.example"),
            psk=PSK,
            child=ChildConfig(remote=(pool,)),
            ike_proposals=offered,
        )
        client = Tunnel(os.urandom)
        address = UdpAddress(f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}", 4500)
        client.connect(config, Path(address, SERVER), None, 0.0)
        for _ in range(2):  # IKE_SA_INIT, IKE_AUTH
            _carry(client, server)
            _carry(server, client)
        if not (_installed(client) and _installed(server)):
            raise RuntimeError(f"no child SA after a handshake with {proposal}")

    (per_second,) = rates(handshake, seconds=seconds)
    return HandshakeFigures(proposal, per_second)


def _carry(sender: Tunnel, receiver: Tunnel) -> None:
    for path, datagrams, _ in sender.datagrams_to_send(0.0):
        receiver.receive_datagrams(datagrams, Path(path.remote, path.local), 0.0)


def _installed(tunnel: Tunnel) -> bool:
    events = iter(tunnel.next_event, None)
    return any([isinstance(event, ChildInstalled) for event in events])
