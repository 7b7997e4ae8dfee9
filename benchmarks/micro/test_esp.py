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
from espudp.crypto.suites import ESP_SUITES
from espudp.wire.buffer import Buffer
from espudp.wire.train import Burst
from espudp.wire.vnet import Frame

Packets = Sequence[Buffer | Frame]

_ROUNDS = 400

SUITES = pytest.mark.parametrize("suite", [s for s in ESP_SUITES if not s.esn], ids=lambda s: str(s.name))
BATCHES: dict[str, tuple[Packets, int]] = {
    "a super-packet of 45 x 1,400 octets": ([super_packet()], SEGMENTS),
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


@SUITES
@pytest.mark.parametrize("name", BATCHES)
def test_open(measure: Measure, suite: EspSuite, name: str) -> None:
    packets, count = BATCHES[name]
    sender, receiver = pair(suite)

    def sealed() -> list[Burst]:
        """As the socket hands it over: one buffer for each train."""
        trains = sender.seal(packets, 0.0)
        return [Burst(bytearray(b"".join(t.datagrams)), len(t.datagrams[0])) for t in trains]

    def opened(bursts: list[Burst]) -> None:
        for burst in bursts:
            if not receiver.open(burst, BACK, 0.0):
                raise RuntimeError(f"packets were dropped: {receiver.drops}")

    measure.of(f"open {name}", packets=count).fresh(_ROUNDS, sealed, opened)
