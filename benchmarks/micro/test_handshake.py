"""Whole IKEv2 handshakes and rekeys: initiator and responder together, in memory."""

import itertools
import os
from ipaddress import ip_network

import pytest

from benchmarks.micro.conftest import Measure
from espudp import (
    DYNAMIC,
    ChildConfig,
    ChildInstalled,
    ConnectionConfig,
    EspProposal,
    Identity,
    IkeProposal,
    ListenerConfig,
    PadEntry,
    Path,
    Psk,
    PskOf,
    TrafficSelector,
    Tunnel,
    UdpAddress,
)
from espudp.crypto.suites import DH

_SERVER = UdpAddress("198.51.100.1", 4500)
_POOL = "10.0.0.0/8"
_PSK = os.urandom(32)

_REKEYS = 30

# One for each Diffie-Hellman group, which takes most of the time, and for the other kinds of cipher.
PROPOSALS = [f"aes128gcm16-prfsha256-{group.keyword}" for group in DH]
PROPOSALS += [
    f"{rest}-curve25519" for rest in ("aes128-sha256", "aes256-sha512", "chacha20poly1305-prfsha384")
]


class Peers:
    """A listener that keeps every connection, and clients that come one after the other."""

    def __init__(self, ike: str, esp: str = "aes128gcm16") -> None:
        self._ike, self._esp = (IkeProposal.parse(ike),), (EspProposal.parse(esp),)
        self._pool = TrafficSelector.from_network(_POOL)
        self.server = Tunnel(
            os.urandom,
            listener=ListenerConfig(
                local_identity=Identity.parse("server.example"),
                pad=(PadEntry.of_psk(_PSK),),
                child=ChildConfig(local=(self._pool,), remote=(DYNAMIC,), proposals=self._esp),
                ike_proposals=self._ike,
                pool=(ip_network(_POOL),),
            ),
        )
        self.client = Tunnel(os.urandom)
        self._numbers = itertools.count(1)

    def connect(self) -> int:
        """IKE_SA_INIT and IKE_AUTH, with a virtual address and a child SA: until both ends have it."""
        number = next(self._numbers)
        config = ConnectionConfig(
            local_identity=Identity.parse(f"client{number}.example"),
            proof=Psk(_PSK),
            demand=PskOf(_PSK),
            child=ChildConfig(remote=(self._pool,), proposals=self._esp),
            ike_proposals=self._ike,
        )
        self.client = Tunnel(os.urandom)
        address = UdpAddress(f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}", 4500)
        self.client.connect(config, Path(address, _SERVER), None, 0.0)
        return self._settle()

    def rekey_child(self, spi_in: int) -> int:
        """CREATE_CHILD_SA and the Delete of the old pair."""
        self.client.rekey_child(1, spi_in, 0.0)
        return self._settle()

    def _settle(self) -> int:
        """Carry datagrams until both are silent; returns the SPI of the new child SA."""
        while any([_carry(self.client, self.server), _carry(self.server, self.client)]):
            pass
        (installed,) = _installed(self.client)
        if not _installed(self.server):
            raise RuntimeError("the server has no child SA")
        return installed.spi_in


def _carry(sender: Tunnel, receiver: Tunnel) -> bool:
    trains = sender.datagrams_to_send(0.0)
    for path, datagrams, _ in trains:
        receiver.receive_datagrams(datagrams, Path(path.remote, path.local), 0.0)
    return bool(trains)


def _installed(tunnel: Tunnel) -> list[ChildInstalled]:
    return [event for event in iter(tunnel.next_event, None) if isinstance(event, ChildInstalled)]


@pytest.mark.parametrize("proposal", PROPOSALS)
def test_handshake(measure: Measure, proposal: str) -> None:
    measure.of("handshake, both ends")(Peers(proposal).connect)


@pytest.mark.parametrize("esp", ["aes128gcm16", "aes128gcm16-curve25519", "aes128gcm16-modp2048"])
def test_rekey(measure: Measure, esp: str) -> None:
    peers = Peers(PROPOSALS[0], esp)
    spi_in = peers.connect()

    def rekey() -> None:
        nonlocal spi_in
        spi_in = peers.rekey_child(spi_in)

    measure.of("rekey of a child SA, both ends").rounds(_REKEYS, rekey)
