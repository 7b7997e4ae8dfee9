"""The security association database: SPI -> inbound SA (RFC 4301 section 4.4.2)."""

from collections.abc import Iterator

from espudp.errors import ConfigError
from espudp.esp.sa import InboundSa

# RFC 4303 section 2.1: 1 to 255 are reserved, 0 never goes on the wire (and marks IKE, RFC 3948)
RESERVED_SPIS = 256
# A bound on memory far above what one process serves.
MAX_SAS = 1 << 17


def is_spi(spi: int) -> bool:
    """Whether an SA may have this SPI."""
    return RESERVED_SPIS <= spi < 1 << 32


class Sad:
    """Inbound SAs by the four octets that open each of their packets."""

    __slots__ = ("_by_spi", "_max_sas", "get")

    def __init__(self, max_sas: int = MAX_SAS) -> None:
        self._by_spi: dict[bytes, InboundSa] = {}
        self._max_sas = max_sas
        # The SA whose packets start with these four octets, or None: once per train.
        self.get = self._by_spi.get

    def __len__(self) -> int:
        return len(self._by_spi)

    def __iter__(self) -> Iterator[InboundSa]:
        return iter(self._by_spi.values())

    def find(self, spi: int) -> InboundSa | None:
        return self._by_spi.get(spi.to_bytes(4, "big"))

    def add(self, sa: InboundSa) -> None:
        """Raises ConfigError if the SPI is reserved or taken, or if there are too many SAs."""
        if not is_spi(sa.spi):
            raise ConfigError(
                f"{sa.spi:#x} is no SPI",
                field="spi",
                remedy="Choose one from 0x100 to 0xffffffff; those below are reserved.",
            )
        if self.find(sa.spi) is not None:
            raise ConfigError(
                f"the SPI {sa.spi:#010x} is in use", field="spi", remedy="Choose another inbound SPI."
            )
        if len(self) >= self._max_sas:
            raise ConfigError(
                f"no room for more than {self._max_sas} SAs", field="spi", remedy="Remove some connections."
            )
        self._by_spi[sa.spi.to_bytes(4, "big")] = sa

    def remove(self, sa: InboundSa) -> None:
        """Does nothing if it is gone already."""
        self._by_spi.pop(sa.spi.to_bytes(4, "big"), None)
