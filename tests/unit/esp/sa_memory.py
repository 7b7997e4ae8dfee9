"""A program of its own: how many octets an SA pair costs, resident, beyond the first. `SUITE [COUNT]`

All that is shared (grids of memory for each size of packet, tables) is there before the count begins: the
first pair has by then carried packets of every size that the others carry.
"""

import gc
import resource
import sys
from pathlib import Path as FilePath

from espudp.crypto.suites import EspSuite, parse_esp_suite
from espudp.esp.datapath import DataPath
from espudp.esp.sa import ChildKeys
from espudp.wire.address import Path, UdpAddress
from espudp.wire.train import Burst
from espudp.wire.vnet import Offload
from tests.unit.crypto.seeded import keys_for, seeded_rng
from tests.unit.esp.peers import LEFT_ADDRESS, left_keys, selectors, udp

BURSTS = [1, 12, 40]


def looped(suite: EspSuite, number: int) -> ChildKeys:
    """A pair whose two SAs are one: what it seals it opens."""
    return left_keys(
        suite,
        connection=number + 1,
        spi_in=0x1000 + number,
        spi_out=0x1000 + number,
        keys_in=keys_for(suite, number),
        keys_out=keys_for(suite, number),
        local=selectors("10.0.0.0/8"),
        remote=selectors(f"10.{100 + number // 200}.{number % 200}.0/24", "10.1.0.0/16"),
        path=Path(LEFT_ADDRESS, UdpAddress(f"198.51.{number // 200}.{number % 200}", 4500)),
    )


def sizes(number: int) -> list[int]:
    return [60 + number % 7 * 50, 200 + number % 11 * 30, 1400 - number % 17]


def carry(path: DataPath, number: int, octets: list[int]) -> None:
    """Packets of these sizes through one pair, both ways, alone and in bursts."""
    to = bytes([10, 100 + number // 200, number % 200, 1])
    for size in octets:
        for count in BURSTS:
            for train in path.seal([udp(size, dst=to)] * count, 0.0):
                data = bytearray(b"".join(train.datagrams))
                came = path.open(Burst(data, len(train.datagrams[0])), train.path, 0.0)
                if not came:
                    raise SystemExit(f"nothing came of {count} packets of {size} octets: {path.drops}")


def resident() -> int:
    gc.collect()
    pages = int(FilePath("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


def octets_per_pair(suite: EspSuite, count: int) -> float:
    path = DataPath(seeded_rng())
    path.set_offloads(Offload.CHECKSUM | Offload.TSO4 | Offload.TSO6)
    path.install(looped(suite, 0), 0.0)
    every_size = sorted({size for number in range(count) for size in sizes(number)})
    for _ in range(2):
        carry(path, 0, every_size)
    before = resident()
    for number in range(1, count):
        path.install(looped(suite, number), 0.0)
        carry(path, number, sizes(number))
    return (resident() - before) / (count - 1)


if __name__ == "__main__":
    name, *rest = sys.argv[1:]
    print(octets_per_pair(parse_esp_suite(name), int(rest[0]) if rest else 1000))
