"""Bursts: datagrams in one piece of memory, or in several."""

import pytest

from espudp.wire.train import Burst

ONE = Burst(b"aabbc", 2)
SEVERAL = Burst(b"aabb", 2, b"ccdd", b"eef")


@pytest.mark.parametrize(
    ("burst", "datagrams"),
    [(ONE, [b"aa", b"bb", b"c"]), (SEVERAL, [b"aa", b"bb", b"cc", b"dd", b"ee", b"f"])],
)
def test_as_a_sequence(burst: Burst, datagrams: list[bytes]) -> None:
    count = len(datagrams)
    assert list(burst) == datagrams
    assert len(burst) == count
    assert [burst[place] for place in range(-count, count)] == datagrams * 2
    assert burst[1:-1] == datagrams[1:-1]
    assert (bytes(burst.data), burst.octets) == (b"".join(datagrams), len(b"".join(datagrams)))
    for place in (count, -count - 1):
        with pytest.raises(IndexError):
            burst[place]


def test_a_copy_owns_its_memory() -> None:
    memory = [bytearray(b"aabb"), bytearray(b"c")]
    burst = Burst(memory[0], 2, memory[1])
    kept = burst.copy()
    memory[0][:], memory[1][:] = b"xxxx", b"x"
    assert list(kept) == [b"aa", b"bb", b"c"]


@pytest.mark.parametrize(
    "pieces",
    [
        (b"aab", b"b"),
        (b"aabb", b"cc", b"dddd"),
        (b"aabb", b"ccddee"),
        (b"aabb", b""),
        (b"", b"aa"),
        (b"", b""),
    ],
)
def test_pieces_that_are_none(pieces: tuple[bytes, ...]) -> None:
    with pytest.raises(ValueError, match="no burst of 2 octets"):
        Burst(pieces[0], 2, *pieces[1:])
