"""Sealing and opening, for every suite: a super-packet, as many plain packets, and single ones.

Each stands for the whole data path, from what the TUN device hands over to what goes into one send, and back.
"""

from collections.abc import Sequence

import pytest

from benchmarks.micro.conftest import Measure
from benchmarks.micro.packets import (
    SEGMENTS,
    UDP,
    acknowledgement,
    plain_packets,
    single_packet,
    super_packet,
)
from benchmarks.micro.peers import BACK, pair
from espudp import EspSuite
from espudp.crypto.suites import parse_esp_suite
from espudp.wire.buffer import Buffer
from espudp.wire.train import TOGETHER, Burst
from espudp.wire.vnet import Frame

Packets = Sequence[Buffer | Frame]

_ROUNDS = 400

# Those that are offered, with all key sizes, and one of each other cipher and MAC.
_NAMES = [
    *("aes128gcm16", "aes192gcm16", "aes256gcm16", "chacha20poly1305"),
    *(f"aes{bits}-{mac}" for bits in (128, 192, 256) for mac in ("sha1", "sha256", "sha384", "sha512")),
    *("aes128ccm8", "aes128ccm16", "aes128gcm8", "aes128gmac"),
    *("aes128ctr-sha256", "null-sha256", "3des-sha1", "aes128-aesxcbc", "aes128-aescmac"),
]
SUITES = pytest.mark.parametrize("suite", [parse_esp_suite(name) for name in _NAMES], ids=_NAMES)
BATCHES: dict[str, tuple[Packets, int]] = {
    "a super-packet of 45 x 1,400 octets": ([super_packet()], SEGMENTS),
    "several such super-packets together": ([super_packet() for _ in range(TOGETHER)], TOGETHER * SEGMENTS),
    "45 packets of 1,400 octets": (plain_packets(protocol=UDP), SEGMENTS),
    "one packet of 1,400 octets": ([single_packet()], 1),
    "one acknowledgement of 52 octets": ([acknowledgement()], 1),
}


@SUITES
@pytest.mark.parametrize("name", BATCHES)
def test_seal(measure: Measure, suite: EspSuite, name: str) -> None:
    packets, count = BATCHES[name]
    sender, _ = pair(suite)
    trains = measure.of(f"seal {name}", packets=count).rounds(
        _ROUNDS, lambda: sender.seal(packets, 0.0), each=4
    )
    if sum(len(train.datagrams) for train in trains) != count:
        raise RuntimeError(f"not {count} datagrams: {sender.drops}")


def _received(datagrams: Sequence[bytes]) -> Burst:
    pieces = datagrams.pieces if isinstance(datagrams, Burst) else [b"".join(datagrams)]
    first, *more = map(bytearray, pieces)
    return Burst(first, len(datagrams[0]), *more)


@SUITES
@pytest.mark.parametrize("name", BATCHES)
def test_open(measure: Measure, suite: EspSuite, name: str) -> None:
    packets, count = BATCHES[name]
    sender, receiver = pair(suite)

    def sealed() -> list[Burst]:
        """As the socket hands it over: one buffer for each piece."""
        trains = sender.seal(packets, 0.0)
        return [_received(train.datagrams) for train in trains]

    def opened(bursts: list[Burst]) -> None:
        for burst in bursts:
            if not receiver.open(burst, BACK, 0.0):
                raise RuntimeError(f"packets were dropped: {receiver.drops}")

    measure.of(f"open {name}", packets=count).fresh(_ROUNDS, sealed, opened)
