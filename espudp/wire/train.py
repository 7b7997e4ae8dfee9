"""Datagrams that travel together: over one path, with one traffic class, in order."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple, overload

from espudp.wire.address import Path
from espudp.wire.buffer import Buffer


class Burst(Sequence[bytes]):
    """Datagrams of one size lying one behind the other in memory; the last may be shorter.

    It is what one call sends with UDP_SEGMENT, and what one call receives with UDP_GRO. As a sequence it
    hands out copies. `data` itself is borrowed: it holds until its owner is next given something to do.
    """

    __slots__ = ("data", "size")

    def __init__(self, data: Buffer, size: int) -> None:
        """`size`: octets of each datagram but the last; at least 1."""
        self.data = memoryview(data)
        self.size = size

    def __repr__(self) -> str:
        return f"<Burst of {len(self)}, {self.size} octets each>"

    def __len__(self) -> int:
        return -(-len(self.data) // self.size)

    @overload
    def __getitem__(self, index: int) -> bytes: ...

    @overload
    def __getitem__(self, index: slice) -> list[bytes]: ...

    def __getitem__(self, index: int | slice) -> bytes | list[bytes]:
        if isinstance(index, slice):
            return [self[at] for at in range(*index.indices(len(self)))]
        start = range(len(self))[index] * self.size
        return bytes(self.data[start : start + self.size])

    def __iter__(self) -> Iterator[bytes]:
        data, size = self.data, self.size
        return (bytes(data[at : at + size]) for at in range(0, len(data), size))

    def copy(self) -> "Burst":
        """One that owns its memory, to be kept."""
        return Burst(bytes(self.data), self.size)


class Train(NamedTuple):
    """Datagrams over one path, in order."""

    path: Path
    datagrams: Sequence[bytes]
    tos: int = 0
    """The outer header's TOS or traffic class octet: DSCP and ECN (RFC 2474, RFC 3168)."""

    def copy(self) -> "Train":
        """One that owns its memory, to be kept."""
        burst = self.datagrams
        return self._replace(datagrams=burst.copy()) if isinstance(burst, Burst) else self
