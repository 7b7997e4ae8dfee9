"""A reader that cannot leave its bounds, and a writer that fills in lengths.

Every nested length is restricted to its parent: `Reader.sub(n)` hands out exactly `n` of the octets that
the parent still has, and the parent goes on behind them whatever the child does.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from espudp.errors import WireError

Buffer = bytes | bytearray | memoryview


class Reader:
    """Big-endian fields, taken one after another from `data`. Every method raises WireError past the end."""

    __slots__ = ("_at", "_data", "_end")

    def __init__(self, data: Buffer) -> None:
        self._data = memoryview(data)
        self._at = 0
        self._end = len(self._data)

    @property
    def remaining(self) -> int:
        """Octets not taken yet."""
        return self._end - self._at

    def _advance(self, octets: int) -> memoryview:
        end = self._at + octets
        if octets < 0:  # a length field that does not even cover its own header
            raise WireError(f"a length that is {-octets} octets too small")
        if end > self._end:
            raise WireError(f"needs {octets} octets where {self.remaining} are left")
        taken = self._data[self._at : end]
        self._at = end
        return taken

    def u8(self) -> int:
        return self._advance(1)[0]

    def u16(self) -> int:
        return int.from_bytes(self._advance(2), "big")

    def u32(self) -> int:
        return int.from_bytes(self._advance(4), "big")

    def u64(self) -> int:
        return int.from_bytes(self._advance(8), "big")

    def take(self, octets: int) -> bytes:
        """The next `octets` octets."""
        return bytes(self._advance(octets))

    def skip(self, octets: int) -> None:
        """Passes over reserved octets: ignored on receipt."""
        self._advance(octets)

    def rest(self) -> bytes:
        """All that is left, possibly nothing."""
        return bytes(self._advance(self.remaining))

    def sub(self, octets: int) -> "Reader":
        """A reader of the next `octets` octets and of nothing else; this one continues behind them."""
        return Reader(self._advance(octets))

    def expect_end(self) -> None:
        """Raises WireError if anything is left over."""
        if self.remaining:
            raise WireError(f"{self.remaining} octets too many")


class Writer:
    """Big-endian fields, appended one after another. A value that does not fit its field is a WireError."""

    __slots__ = ("_data",)

    def __init__(self) -> None:
        self._data = bytearray()

    def __len__(self) -> int:
        return len(self._data)

    def _uint(self, value: int, octets: int) -> None:
        try:
            self._data += value.to_bytes(octets, "big")
        except OverflowError:
            raise WireError(f"{value} does not fit in {octets} octets") from None

    def u8(self, value: int) -> None:
        self._uint(value, 1)

    def u16(self, value: int) -> None:
        self._uint(value, 2)

    def u32(self, value: int) -> None:
        self._uint(value, 4)

    def u64(self, value: int) -> None:
        self._uint(value, 8)

    def put(self, data: Buffer) -> None:
        self._data += data

    @contextmanager
    def length16(self, include: int = 0) -> Iterator[None]:
        """Two octets that hold the length of what the block writes, plus `include` for header octets.

        In most structures of IKE the length counts the whole header: `include=4` where two octets precede
        the length field.
        """
        field = len(self._data)
        self._data += bytes(2)
        yield
        length = len(self._data) - field - 2 + include
        if length > 0xFFFF:
            raise WireError(f"a length of {length} octets does not fit in 2 octets")
        self._data[field : field + 2] = length.to_bytes(2, "big")

    def getvalue(self) -> bytes:
        return bytes(self._data)
