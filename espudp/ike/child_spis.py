"""The SPIs that we receive ESP on, and the worker that each one leads to.

With several workers an inbound SPI says which of them has the keys: it is that number modulo their count,
so that whoever sorts datagrams needs no table. This is ours alone to choose, and the peer need not know.
"""

from collections.abc import Iterable

from espudp.crypto.random import Rng, draw
from espudp.errors import CryptoError

# The worker that has IKE, and alone the sockets of IKE's own ports.
FRONT = 0

# RFC 4303 section 2.1: the SPIs below are reserved.
MIN_CHILD_SPI = 256

_SPI_OCTETS = 4
_SPIS = 1 << 8 * _SPI_OCTETS

# A generator that repeats itself must not hang us.
_DRAWS = 64


class ChildSpis:
    """Those in use, from `draw` to `free`."""

    def __init__(self, rng: Rng, workers: int) -> None:
        self._rng = rng
        self._workers = workers
        self._used: set[int] = set()
        self._loads = [0] * workers

    def __len__(self) -> int:
        return len(self._used)

    def draw(self, worker: int | None = None) -> int:
        """A random one, not reserved and not in use, that leads to `worker`; None: to the least loaded."""
        if worker is None:
            worker = self.least_loaded()
        for _ in range(_DRAWS):
            spi = int.from_bytes(draw(self._rng, _SPI_OCTETS))
            spi += (worker - spi) % self._workers
            if MIN_CHILD_SPI <= spi < _SPIS and spi not in self._used:
                self._used.add(spi)
                self._loads[worker] += 1
                return spi
        raise CryptoError("the random generator repeats itself")

    def free(self, spi: int) -> None:
        """Does nothing if it is not in use."""
        if spi in self._used:
            self._used.discard(spi)
            self._loads[spi % self._workers] -= 1

    def worker_of(self, spi: int) -> int:
        """From 0; the only one is 0 as well."""
        return spi % self._workers

    def least_loaded(self, among: Iterable[int] = ()) -> int:
        """The worker that the fewest of these SPIs lead to, and among equals the fewest of all."""
        here = [0] * self._workers
        for spi in among:
            here[spi % self._workers] += 1
        return min(range(self._workers), key=lambda worker: (here[worker], self._loads[worker]))
