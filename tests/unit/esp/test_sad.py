"""SPI -> inbound SA."""

import pytest

from espudp.errors import ConfigError
from espudp.esp.sa import Child, InboundSa, Peer
from espudp.esp.sad import Sad, is_spi
from tests.unit.crypto.seeded import seeded_rng
from tests.unit.esp.peers import TO_RIGHT, left_keys


def inbound(spi: int) -> InboundSa:
    return Child(left_keys(spi_in=spi), Peer(1, TO_RIGHT), 0.0, seeded_rng()).inbound


def test_found_by_the_octets_of_the_spi() -> None:
    sad = Sad()
    sa = inbound(0x01020304)
    sad.add(sa)
    assert sad.get(b"\x01\x02\x03\x04") is sa
    assert sad.find(0x01020304) is sa
    assert sad.get(b"\x01\x02\x03\x05") is None
    assert sad.get(b"\x01\x02\x03") is None
    assert list(sad) == [sa]
    sad.remove(sa)
    sad.remove(sa)
    assert sad.find(0x01020304) is None
    assert len(sad) == 0


@pytest.mark.parametrize("spi", [0, 1, 255])
def test_reserved_spis(spi: int) -> None:
    assert not is_spi(spi)
    with pytest.raises(ConfigError, match="no SPI"):
        Sad().add(inbound(spi))


@pytest.mark.parametrize("spi", [256, 0xFFFFFFFF])
def test_the_edges_of_what_is_possible(spi: int) -> None:
    sad = Sad()
    sad.add(inbound(spi))
    assert sad.find(spi) is not None
    assert is_spi(spi)
    assert not is_spi(1 << 32)


def test_no_spi_twice() -> None:
    sad = Sad()
    first = inbound(0x1000)
    sad.add(first)
    with pytest.raises(ConfigError, match="in use"):
        sad.add(inbound(0x1000))
    assert sad.find(0x1000) is first


def test_bounded() -> None:
    sad = Sad(max_sas=2)
    sad.add(inbound(0x1000))
    sad.add(inbound(0x1001))
    with pytest.raises(ConfigError, match="no room"):
        sad.add(inbound(0x1002))
