"""The anti-replay window (RFC 4303 section 3.4.3 and appendix A): check, and after the ICV, commit.

A ring of one octet per sequence number. As in RFC 6479 nothing is ever shifted: a number's place
depends on the number alone, and a place is free again when the window has moved on by its own size. An
octet instead of a bit makes marking a run of numbers one slice.
"""

from collections.abc import Sequence
from itertools import pairwise

from espudp.errors import ConfigError

# RFC 4303 section 3.4.3: at least 32, and 64 by default; more, since a fast path may reorder more.
MIN_WINDOW = 32
DEFAULT_WINDOW = 1024
MAX_WINDOW = 1 << 16

_SUBSPACE = (1 << 32) - 1
# RFC 4303 section 2.2.1: an extended sequence number has 64 bits.
_LAST_EXTENDED = (1 << 64) - 1
# A run of numbers that spans less is inferred alike whichever of them has come in before.
_MAX_SPAN = 1 << 31


class ReplayWindow:
    """Which of the last `size` sequence numbers have come in.

    `size` 0 switches the check off, as RFC 4303 section 3.4.3 advises for keys set up by hand. Extended
    sequence numbers (`esn`) need a window, since their upper half is inferred from it. `highest` is the
    last number that is taken for received from the start.
    """

    __slots__ = ("_esn", "_seen", "highest", "size")

    def __init__(self, size: int = DEFAULT_WINDOW, esn: bool = False, highest: int = 0) -> None:
        if size != 0 and not MIN_WINDOW <= size <= MAX_WINDOW:
            raise ConfigError(
                f"a replay window of {size} packets is not possible",
                field="replay window",
                remedy=f"Choose {MIN_WINDOW} to {MAX_WINDOW}, or 0 for none; {DEFAULT_WINDOW} is usual.",
            )
        if size == 0 and esn:
            raise ConfigError(
                "extended sequence numbers do not work without a replay window",
                field="replay window",
                remedy="Choose a suite without esn, or a replay window.",
            )
        self.size = size
        self.highest = highest
        self._esn = esn
        # Of the numbers up to `highest` at the start none is awaited.
        self._seen = bytearray(b"\x01" * size)

    def check(self, seq_low: int) -> int | None:
        """The full sequence number of a packet whose header says `seq_low`; None: a replay, or too old.

        Changes nothing, for nothing about the packet is known yet.
        """
        seq = self._infer(seq_low) if self._esn else seq_low
        highest = self.highest
        if seq > highest:
            return seq
        size = self.size
        if not size:
            return seq
        # The sender's counter starts at 1 (RFC 4303 section 3.3.3): 0, and below it, was never sent.
        if seq <= highest - size or seq <= 0 or self._seen[seq % size]:
            return None
        return seq

    def _infer(self, seq_low: int) -> int:
        """RFC 4303 appendix A2.2: of the numbers that end in `seq_low`, the first in or above the window.

        0, which nobody sends, if that is above all that there are.
        """
        bottom = self.highest - self.size + 1
        seq = bottom + ((seq_low - bottom) & _SUBSPACE)
        return seq if seq <= _LAST_EXTENDED else 0

    def commit(self, seq: int) -> bool:
        """Mark a number that `check` let through, once the ICV has been verified.

        True if it is the highest so far.
        """
        ahead = seq - self.highest
        size = self.size
        if ahead <= 0:
            if size and ahead > -size:
                self._seen[seq % size] = 1
            return False
        self.highest = seq
        if size:
            if ahead > 1:
                self._forget(seq, min(ahead, size))
            self._seen[seq % size] = 1
        return True

    # Runs: what arrives in one train, mostly numbers that follow one another

    def check_run(self, lows: Sequence[int]) -> int | None:
        """As `check` and `commit` for one after another: the full number of the first if all are let
        through and each is higher than the one before; else None, which says nothing about each."""
        first = lows[0]
        if not _is_consecutive(lows) and not (_increases(lows) and lows[-1] - first < _MAX_SPAN):
            return None
        seq = self._infer(first) if self._esn else first
        size, highest = self.size, self.highest
        if seq > highest or not size:
            return seq
        if seq <= highest - size or seq <= 0:
            return None
        ahead, seen = seq - first, self._seen
        if any(seen[(low + ahead) % size] for low in lows if low + ahead <= highest):
            return None
        return seq

    def commit_run(self, first: int, lows: Sequence[int]) -> None:
        """Mark the numbers of a run that `check_run` let through, of which `first` is the first."""
        count = len(lows)
        ahead = first - lows[0]
        last = lows[-1] + ahead
        # They increase, so a run that spans as many numbers as it has leaves none out.
        if last - first != count - 1 or first <= self.highest < last:
            for low in lows:
                self.commit(low + ahead)
            return
        if first > self.highest + 1:
            self.commit(first)
        self._mark(last, count)
        if last > self.highest:
            self.highest = last

    def _mark(self, top: int, count: int) -> None:
        """Take the places of the `count` numbers up to `top`."""
        if not self.size:
            return
        count = min(count, self.size)
        end = top % self.size + 1
        start = end - count
        if start >= 0:
            self._seen[start:end] = b"\x01" * count
        else:
            self._seen[:end] = b"\x01" * end
            self._seen[start:] = b"\x01" * -start

    def _forget(self, top: int, count: int) -> None:
        """Free the places of the `count` numbers up to `top`."""
        end = top % self.size + 1
        start = end - count
        if start >= 0:
            self._seen[start:end] = bytes(count)
        else:
            self._seen[:end] = bytes(end)
            self._seen[start:] = bytes(-start)


def _is_consecutive(lows: Sequence[int]) -> bool:
    return lows == list(range(lows[0], lows[0] + len(lows)))


def _increases(lows: Sequence[int]) -> bool:
    return all(low < after for low, after in pairwise(lows))
