"""Many ESP packets of one size at once, in memory that is allocated and sliced once.

What a packet costs beside its cipher is mostly the making of small objects: nonces, slices, results. A
grid has them all ready for packets of one size, so that one call to the library per packet is left, or
with CBC one for all packets together. Numbers and nonces are written by columns.

A grid belongs to no SA: whatever was written for one is overwritten for the next.
"""

from collections.abc import Iterable, Sequence
from itertools import repeat
from typing import NamedTuple

import numpy as np
from numpy.typing import DTypeLike, NDArray

from espudp.crypto.mac import Buffer, Mac
from espudp.crypto.suites import EspSuite

Octets = NDArray[np.uint8]
Numbers = NDArray[np.unsignedinteger]

# UDP_SEGMENT takes 64 segments (linux/udp.h, UDP_MAX_SEGMENTS before Linux 6.9).
MAX_ROWS = 64
# What one such send may hold without being cut up on its way through the kernel: together with outer
# IPv6, UDP and Ethernet headers it stays below 65536.
MAX_SENT_OCTETS = 65_450
# What one receive with UDP_GRO may bring: the longest IPv4 packet less its headers (RFC 791, RFC 768).
MAX_RECEIVED_OCTETS = 65_507

# RFC 4303 section 2: SPI and sequence number
_HEADER = 8
# RFC 4106 section 5: SPI and extended sequence number, as an AEAD authenticates them
_EXTENDED = 12
_BLOCK = 16
# update_into wants room for one block less one octet more than it writes.
_SLACK = _BLOCK - 1

# So many bursts go into the largest grid, as they come in and go out one behind the other.
MAX_BURSTS = 4

_STEPS = np.arange(MAX_BURSTS * MAX_ROWS, dtype=np.uint64)


class Layout(NamedTuple):
    """What two suites must have in common to share grids. `iv` and `icv` are octets."""

    aead: bool
    esn: bool
    iv: int
    icv: int
    salt: int = 0
    """Octets in front of the IV in a nonce, of an AEAD and of AES-CTR."""

    @property
    def overhead(self) -> int:
        """What an ESP packet has beside its plaintext."""
        return _HEADER + self.iv + self.icv

    def rows(self, plain: int) -> int:
        """How many packets with plaintexts of `plain` octets go into one grid: what one receive may bring."""
        return self._rows(plain, MAX_RECEIVED_OCTETS)

    def rows_to_send(self, plain: int) -> int:
        """How many of them may leave in one send."""
        return self._rows(plain, MAX_SENT_OCTETS)

    def _rows(self, plain: int, octets: int) -> int:
        return max(min(MAX_ROWS, octets // (self.overhead + plain)), 1)


def layout_of(suite: EspSuite) -> Layout:
    encr = suite.encr
    return Layout(suite.integ is None, suite.esn, encr.iv_octets, suite.icv_octets, encr.salt_octets)


class Plaintexts(NamedTuple):
    """Plaintexts of one size, trailers included, and perhaps a shorter one behind them."""

    matrix: Octets
    """One in each row, which may go on behind it."""
    slices: Sequence[memoryview]
    """The same, one by one."""
    whole: int
    """How many; there may be more rows."""
    tail: bytes = b""


def _column(memory: Octets, kind: DTypeLike, at: int, stride: int) -> Numbers:
    """The field at octet `at` of each row; `kind` says its size and byte order."""
    return np.ndarray((len(memory) // stride,), kind, memory, at, (stride,))


def _slices(memory: Octets, stride: int, start: int, end: int) -> list[memoryview]:
    flat = memory.data
    return [flat[at + start : at + end] for at in range(0, len(memory), stride)]


class _Nonces:
    """For each row: a salt, the IV, and what follows it up to `octets`."""

    def __init__(self, rows: int, salt: int, octets: int) -> None:
        self.memory = np.zeros(rows * octets, np.uint8)
        self.slices = _slices(self.memory, octets, 0, octets)
        self._salt = bytes(salt)
        self._salts: Octets = self.memory.reshape(rows, octets)[:, :salt]
        self._ivs = _column(self.memory, ">u8", salt, octets)

    def set(self, salt: bytes, ivs: Numbers) -> None:
        if salt != self._salt:
            self._salts[:] = np.frombuffer(salt, np.uint8)
            self._salt = salt
        self._ivs[: len(ivs)] = ivs


class Grid:
    """Room for equal-sized ESP packets one behind the other, the last of which may be shorter.

    `wire` is that memory. `plain` has the plaintexts of what was opened, one in each row.
    """

    plain: Octets

    def __init__(self, layout: Layout, plain: int, bursts: int) -> None:
        self.layout = layout
        self.plain_octets = plain
        self.rows = bursts * layout.rows(plain)
        self.width = layout.overhead + plain
        self.memory = np.zeros(self.rows * self.width, np.uint8)
        self.wire = self.memory.data
        self._packets: Octets = self.memory.reshape(self.rows, self.width)
        self._spis = _column(self.memory, ">u4", 0, self.width)
        self._numbers = _column(self.memory, ">u4", 4, self.width)
        # What is authenticated and not sent as it is: SPI, high half, low half
        self.extended = np.zeros(self.rows * _EXTENDED if layout.esn else 0, np.uint8)
        self._extended_spis = _column(self.extended, ">u4", 0, _EXTENDED) if layout.esn else None
        self._extended_numbers = _column(self.extended, ">u8", 4, _EXTENDED) if layout.esn else None
        self._spi = 0

    # Sealing

    def number(self, spi: int, first: int, count: int) -> None:
        """Write the headers of `count` packets, with sequence numbers from `first` on."""
        if spi != self._spi:
            self._spis[:] = self._spi = spi
            if self._extended_spis is not None:
                self._extended_spis[:] = spi
        numbers = _STEPS[:count] + np.uint64(first)
        self._numbers[:count] = numbers
        if self._extended_numbers is not None:
            self._extended_numbers[:count] = numbers

    # Opening

    def load(self, pieces: Iterable[memoryview]) -> None:
        """Take over packets that came in, at most `rows` of them; only the last piece may end within one."""
        start = 0
        for piece in pieces:
            end = start + len(piece)
            self.wire[start:end] = piece
            start = end

    def same_spi(self, spi: bytes, count: int) -> bool:
        """Whether `count` loaded packets all have this SPI."""
        if self._packets[:count, :4].tobytes() != spi * count:
            return False
        if self._extended_spis is not None:
            self._extended_spis[:count] = int.from_bytes(spi, "big")
        return True

    def lows(self, count: int) -> list[int]:
        """The sequence numbers as they stand in the packets."""
        lows: list[int] = self._numbers[:count].tolist()
        return lows

    def extend(self, ahead: int, count: int) -> None:
        """Authenticate the full sequence numbers: they are those in the packets plus `ahead`."""
        if self._extended_numbers is not None:
            self._extended_numbers[:count] = self._numbers[:count].astype(np.uint64) + np.uint64(ahead)


class AeadGrid(Grid):
    """For AES-GCM and ChaCha20-Poly1305: one call per packet, with everything for it sliced before."""

    def __init__(self, layout: Layout, plain: int, bursts: int) -> None:
        super().__init__(layout, plain, bursts)
        body = _HEADER + layout.iv
        self._nonces = _Nonces(self.rows, layout.salt, layout.salt + layout.iv)
        self.nonces = self._nonces.slices
        self._ivs = _column(self.memory, ">u8", _HEADER, self.width)
        self.bodies = _slices(self.memory, self.width, body, self.width)
        """Ciphertext and ICV."""
        if layout.esn:
            self.aads = _slices(self.extended, _EXTENDED, 0, _EXTENDED)
        else:
            self.aads = _slices(self.memory, self.width, 0, _HEADER)
        clear = np.zeros(self.rows * plain, np.uint8)
        self.plain = clear.reshape(self.rows, plain)
        self.plains = _slices(clear, plain, 0, plain)

    def set_ivs(self, salt: bytes, first: int, count: int) -> None:
        """IVs that count up from `first`, modulo 2**64, into packets and nonces."""
        ivs = _STEPS[:count] + np.uint64(first)
        self._ivs[:count] = ivs
        self._nonces.set(salt, ivs)

    def take_ivs(self, salt: bytes, count: int) -> None:
        """IVs as they came in, into the nonces."""
        self._nonces.set(salt, self._ivs[:count])

    def part(self, row: int, plain: int) -> memoryview:
        """Where ciphertext and ICV of a shorter packet lie."""
        start = row * self.width + _HEADER + self.layout.iv
        return self.wire[start : start + plain + self.layout.icv]


class MacGrid(Grid):
    """With a MAC behind each ciphertext. `tail`: octets of the plaintext of a shorter packet, 0 if none."""

    def __init__(self, layout: Layout, plain: int, bursts: int) -> None:
        super().__init__(layout, plain, bursts)
        covered = _HEADER + layout.iv + plain
        self._covered = _slices(self.memory, self.width, 0, covered)
        self._icvs: Octets = self._packets[:, covered:]
        self._tails = _slices(self.extended, _EXTENDED, 4, 8) if layout.esn else []

    def macs(self, blank: Mac, count: int, tail: int) -> list[bytes]:
        """The MAC of each packet. An ICV is how one begins."""
        copy, covered = blank.copy, self._covered[:count]
        if tail:
            covered.append(self.wire[count * self.width : self._icv_at(count, tail)])
        tails: Iterable[Buffer] = self._tails or repeat(b"")
        macs: list[bytes] = []
        for front, behind in zip(covered, tails, strict=False):
            mac = copy()
            mac.update(front)
            if behind:
                mac.update(behind)
            macs.append(mac.finalize())
        return macs

    def set_icvs(self, macs: Sequence[bytes], count: int, tail: int) -> None:
        octets = self.layout.icv
        if count:
            self._icvs[:count] = first_octets(macs[:count], octets)
        if tail:
            at = self._icv_at(count, tail)
            self.wire[at : at + octets] = macs[count][:octets]

    def icvs(self, count: int, tail: int) -> bytes:
        """All of them, one behind the other."""
        whole = self._icvs[:count].tobytes()
        if not tail:
            return whole
        at = self._icv_at(count, tail)
        return whole + bytes(self.wire[at : at + self.layout.icv])

    def _icv_at(self, row: int, plain: int) -> int:
        return row * self.width + _HEADER + self.layout.iv + plain


class CbcGrid(MacGrid):
    """For AES-CBC with a MAC: all packets go through the cipher in one call.

    `clear` holds a block and the plaintext of each packet, `chained` the IV and the ciphertext that belong
    to them; both without gaps, a chain of blocks with links of `link` octets.
    """

    def __init__(self, layout: Layout, plain: int, bursts: int) -> None:
        super().__init__(layout, plain, bursts)
        self.link = _BLOCK + plain
        clear, chained = (np.zeros(self.rows * self.link + _SLACK, np.uint8) for _ in range(2))
        self.clear, self.chained = clear.data, chained.data
        links = clear[:-_SLACK].reshape(self.rows, self.link)
        self._blocks: Octets = links[:, :_BLOCK]
        self.plain = links[:, _BLOCK:]
        self._links: Octets = chained[:-_SLACK].reshape(self.rows, self.link)
        self._bodies: Octets = self._packets[:, _HEADER : _HEADER + self.link]

    def chain(self, blocks: bytes, count: int, tail: bytes) -> int:
        """Put a block in front of each of `count` plaintexts and of `tail`, if any; the chain's length."""
        end = count * self.link
        self._blocks[:count] = np.frombuffer(blocks, np.uint8, count * _BLOCK).reshape(count, _BLOCK)
        if tail:
            start, end = end, end + _BLOCK + len(tail)
            self.clear[start:end] = blocks[count * _BLOCK :] + tail
        return end

    def spread(self, count: int, end: int) -> None:
        """Move IVs and ciphertexts out of the chain, which is `end` octets long, into packets."""
        self._bodies[:count] = self._links[:count]
        start = count * self.link
        if start < end:
            at = count * self.width + _HEADER
            self.wire[at : at + end - start] = self.chained[start:end]

    def gather(self, count: int, end: int) -> None:
        """The other way."""
        self._links[:count] = self._bodies[:count]
        start = count * self.link
        if start < end:
            at = count * self.width + _HEADER
            self.chained[start:end] = self.wire[at : at + end - start]


class SeparateGrid(MacGrid):
    """For other ciphers with a MAC: packet by packet, with everything for each sliced before."""

    def __init__(self, layout: Layout, plain: int, bursts: int) -> None:
        super().__init__(layout, plain, bursts)
        start = _HEADER + layout.iv
        self.bodies = _slices(self.memory, self.width, start, start + plain)
        """Ciphertexts, and as rows:"""
        self.ciphertexts: Octets = self._packets[:, start : start + plain]
        clear = np.zeros(self.rows * plain, np.uint8)
        self.plain = clear.reshape(self.rows, plain)
        self.plains = _slices(clear, plain, 0, plain)

    def message(self, row: int, plain: int) -> memoryview:
        """IV and ciphertext of a packet."""
        return self.wire[row * self.width + _HEADER : self._icv_at(row, plain)]

    def part(self, row: int, plain: int) -> memoryview:
        """Where the ciphertext of a shorter packet lies."""
        return self.message(row, plain)[self.layout.iv :]


class CtrGrid(SeparateGrid):
    """For AES-CTR, with the counter block that each packet begins with (RFC 3686 section 4)."""

    def __init__(self, layout: Layout, plain: int, bursts: int) -> None:
        super().__init__(layout, plain, bursts)
        self._blocks = _Nonces(self.rows, layout.salt, _BLOCK)
        # The count of blocks, 32 bits behind the IV, starts with 1.
        self._blocks.memory[_BLOCK - 1 :: _BLOCK] = 1
        self.blocks = self._blocks.slices
        self._ivs = _column(self.memory, ">u8", _HEADER, self.width)

    def set_ivs(self, salt: bytes, first: int, count: int) -> None:
        """IVs that count up from `first`, modulo 2**64, into packets and counter blocks."""
        ivs = _STEPS[:count] + np.uint64(first)
        self._ivs[:count] = ivs
        self._blocks.set(salt, ivs)

    def take_ivs(self, salt: bytes, count: int) -> None:
        """IVs as they came in, into the counter blocks."""
        self._blocks.set(salt, self._ivs[:count])


def first_octets(macs: Sequence[bytes], octets: int) -> Octets:
    """Of each of them, at least one and all of one length."""
    return np.frombuffer(b"".join(macs), np.uint8).reshape(len(macs), -1)[:, :octets]


def make_grid(layout: Layout, plain: int, bursts: int = 1) -> Grid:
    """For plaintexts of `plain` octets, trailers included, with room for what up to MAX_BURSTS bring."""
    if layout.aead:
        return AeadGrid(layout, plain, bursts)
    # Of the ciphers with a MAC beside them, AES-CBC alone has an IV of its block, and AES-CTR alone a salt.
    kind: type[Grid] = CtrGrid if layout.salt else CbcGrid if layout.iv == _BLOCK else SeparateGrid
    return kind(layout, plain, bursts)
