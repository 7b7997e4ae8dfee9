"""Packets as the rows of a matrix."""

import numpy as np
import pytest

from espudp.errors import WireError
from espudp.offload import TRAILER_ROOM, Rows, rows_of


def matrix() -> np.ndarray[tuple[int, int], np.dtype[np.uint8]]:
    return np.arange(24, dtype=np.uint8).reshape(3, 8)


def test_rows_hand_out_copies_without_what_lies_behind() -> None:
    rows = Rows(matrix(), 6, 2)
    assert len(rows) == 3
    assert list(rows) == [bytes(range(6)), bytes(range(8, 14)), bytes([16, 17])]


def test_packets_lie_in_place() -> None:
    rows = Rows(matrix(), 6, 4)
    rows.packets()[1][0] = 99
    assert rows.matrix[1, 0] == 99
    assert [bytes(one) for one in rows.packets(3)] == [bytes([3, 4, 5]), bytes([11, 12, 13]), bytes([19])]


def test_the_head_is_of_the_same_memory_and_its_slices() -> None:
    rows = Rows(matrix(), 8)
    head = rows.head(2, 5, 3)
    assert list(head) == [bytes(range(5)), bytes([8, 9, 10])]
    assert head.matrix.shape == (2, 8)
    head.matrix[0, 0] = 77
    assert rows.matrix[0, 0] == 77
    assert rows.slices(0, 5) is head.slices(0, 5)
    assert [bytes(one) for one in rows.slices(0, 5)] == [
        bytes([77, 1, 2, 3, 4]),
        bytes(range(8, 13)),
        bytes(range(16, 21)),
    ]


def test_slices_do_not_pile_up() -> None:
    rows = Rows(np.zeros((2, 200), np.uint8), 200)
    for stop in range(1, 200):
        assert len(rows.slices(0, stop)[1]) == stop
    assert len(rows.slices(0, 1)) == 2


def test_words_are_the_same_octets() -> None:
    assert Rows(matrix(), 8).words[0].tolist() == [0x03020100, 0x07060504]


def test_rows_must_be_a_multiple_of_four_octets_apart() -> None:
    with pytest.raises(ValueError, match="divisor"):
        Rows(np.zeros((2, 7), np.uint8), 7)


@pytest.mark.parametrize("count", [1, 2, 64, 65, 200])
def test_packets_are_copied_with_room_behind(count: int) -> None:
    packets = [bytes([number % 256]) * 53 for number in range(count)]
    rows = rows_of(packets)
    assert list(rows) == packets
    assert rows.matrix.shape[1] >= 53 + TRAILER_ROOM
    assert rows.matrix.flags.writeable


def test_packets_of_all_kinds_of_memory() -> None:
    assert list(rows_of([b"abc", bytearray(b"def"), memoryview(b"ghi")])) == [b"abc", b"def", b"ghi"]


@pytest.mark.parametrize("packets", [[b"abc", b"de"], [b"", b"a"], [b"ab", b"abc"]])
def test_packets_of_different_lengths_are_refused(packets: list[bytes]) -> None:
    with pytest.raises(WireError, match="different lengths"):
        rows_of(packets)
