"""SPIs of child SAs: random, not reserved, not in use, and each leads to its worker."""

from random import Random

import pytest

from espudp.errors import ConfigError, CryptoError
from espudp.ike.child_spis import MIN_CHILD_SPI, ChildSpis
from espudp.ike.endpoint import Endpoint


@pytest.mark.parametrize("workers", [1, 2, 3, 4, 7, 64])
def test_an_spi_leads_to_its_worker(workers: int) -> None:
    spis = ChildSpis(Random(workers).randbytes, workers)
    for worker in range(workers):
        for _ in range(20):
            spi = spis.draw(worker)
            assert spi % workers == spis.worker_of(spi) == worker
            assert MIN_CHILD_SPI <= spi < 1 << 32
    assert len(spis) == 20 * workers


def test_one_worker_takes_the_spis_as_they_come() -> None:
    assert ChildSpis(Random(5).randbytes, 1).draw() == int.from_bytes(Random(5).randbytes(4))


def test_no_reserved_spi_and_none_past_the_last() -> None:
    drawn = iter([0, 255, 0xFFFFFFFF, 256])
    spis = ChildSpis(lambda _: next(drawn).to_bytes(4), 4)
    assert spis.draw(1) == 257


def test_an_spi_in_use_is_not_drawn_again() -> None:
    spis = ChildSpis(lambda octets: b"\x11" * octets, 4)
    taken = {spis.draw(worker) for worker in range(4)}
    assert len(taken) == 4
    with pytest.raises(CryptoError):
        spis.draw(2)
    for spi in taken:
        spis.free(spi)
        spis.free(spi)
    assert len(spis) == 0
    assert spis.draw(2) in taken


def test_the_least_loaded_worker_is_next() -> None:
    spis = ChildSpis(Random(1).randbytes, 3)
    first = [spis.draw() for _ in range(6)]
    assert [spi % 3 for spi in first] == [0, 1, 2, 0, 1, 2]
    spis.free(first[1])
    assert spis.least_loaded() == 1
    assert spis.least_loaded([first[1], first[4]]) == 0
    assert spis.least_loaded([first[0], first[1]]) == 2


def test_no_workers_is_a_mistake() -> None:
    with pytest.raises(ConfigError):
        Endpoint(Random(0).randbytes, workers=0)
