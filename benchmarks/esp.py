"""Sealing and opening in the data path, one core, beside the cipher alone."""

import os
import time
from dataclasses import dataclass

from benchmarks.clock import rates
from espudp import ChildKeys, CipherKeys, DataPath, EspSuite, Lifetime, Path, TrafficSelector, UdpAddress
from espudp.crypto.aead import make_sealer

# What fits through a path of 1500 octets with every suite, in batches as a busy TUN device hands them over.
PACKET_OCTETS = 1400
BATCH = 64

SENDER, RECEIVER = UdpAddress("192.0.2.1", 4500), UdpAddress("192.0.2.2", 4500)
EVERYTHING = (TrafficSelector.from_network("0.0.0.0/0"),)

# An IPv4 header of such a length (RFC 791), protocol 253.
PACKET = b"\x45\x00" + PACKET_OCTETS.to_bytes(2) + bytes.fromhex("0000400040fd00000a0000010a000002")
PACKET += os.urandom(PACKET_OCTETS - len(PACKET))


@dataclass(frozen=True)
class EspFigures:
    """Inner octets, as Gbit/s."""

    suite: str
    seal: float
    open: float
    cipher: float
    """`seal` of the cipher alone, in the library and with its Python call, without any of ESP."""


def measure(suite: EspSuite, seconds: float) -> EspFigures:
    """One suite; `seconds` for each of the three figures."""
    integ_octets = suite.integ.key_octets if suite.integ else 0
    keys = CipherKeys(os.urandom(suite.encr.keymat_octets), os.urandom(integ_octets))
    sender, receiver = DataPath(os.urandom), DataPath(os.urandom)
    sender.install(_child(suite, keys, Path(SENDER, RECEIVER)), 0.0)
    receiver.install(_child(suite, keys, Path(RECEIVER, SENDER)), 0.0)
    batch = [PACKET] * BATCH
    to_gigabits = BATCH * PACKET_OCTETS * 8 / 1e9
    sealer = make_sealer(suite.encr, suite.integ, keys, os.urandom)
    plaintext = PACKET + bytes(-len(PACKET) % suite.encr.block_octets)

    def cipher_alone() -> None:
        for counter in range(BATCH):
            sealer.seal(counter, b"8 octets", plaintext)

    sealed, alone = rates(lambda: sender.seal(batch, 0.0), cipher_alone, seconds=seconds)
    opened = _open_rate(sender, receiver, batch, seconds)
    return EspFigures(suite.name, sealed * to_gigabits, opened * to_gigabits, alone * to_gigabits)


def _open_rate(sender: DataPath, receiver: DataPath, batch: list[bytes], seconds: float) -> float:
    """Batches per second. Every datagram can be opened once, so sealing is done between, off the clock."""
    best = spent = 0.0
    while spent < seconds:
        trains = [sender.seal(batch, 0.0) for _ in range(16)]
        started = time.perf_counter()
        for ((path, datagrams, _),) in trains:
            if len(receiver.open(datagrams, Path(path.remote, path.local), 0.0)) != len(batch):
                raise RuntimeError("a packet was lost on the way")
        elapsed = time.perf_counter() - started
        spent += elapsed
        best = max(best, len(trains) / elapsed)
    return best


def _child(suite: EspSuite, keys: CipherKeys, path: Path) -> ChildKeys:
    return ChildKeys(
        connection=1,
        spi_in=0x1000,
        spi_out=0x1000,
        suite=suite,
        keys_in=keys,
        keys_out=keys,
        local=EVERYTHING,
        remote=EVERYTHING,
        path=path,
        lifetime=Lifetime(),
        follow_peer=False,
        inner_mtu=PACKET_OCTETS,
        replaces=None,
    )
