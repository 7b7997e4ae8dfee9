"""The replay window: numbered steps, the edges of appendix A, and what is refused."""

from typing import NamedTuple

import pytest

from espudp.errors import ConfigError
from espudp.esp.replay import MAX_WINDOW, MIN_WINDOW, ReplayWindow

SIZE = 64


class Step(NamedTuple):
    """`sequence` comes in, authentic, and is or is not accepted."""

    sequence: int
    accepted: bool


def receive(window: ReplayWindow, sequence: int) -> bool:
    if window.check(sequence & 0xFFFFFFFF) != sequence:
        # A replay; or with ESN taken for a number of the next subspace, and then the ICV is wrong.
        return False
    window.commit(sequence)
    return True


TABLES: dict[str, list[Step]] = {
    "in order, and each once": [
        Step(0, False),
        Step(1, True),
        Step(1, False),
        Step(2, True),
        Step(3, True),
        Step(2, False),
        Step(3, False),
    ],
    "out of order inside the window": [
        Step(10, True),
        Step(8, True),
        Step(9, True),
        Step(8, False),
        Step(9, False),
        Step(10, False),
        Step(7, True),
        Step(1, True),
        Step(1, False),
        Step(0, False),
    ],
    "the lower edge": [
        Step(SIZE, True),
        Step(1, True),
        Step(SIZE + 1, True),
        Step(1, False),
        Step(2, True),
        Step(2, False),
        Step(SIZE + 5, True),
        Step(5, False),
        Step(6, True),
    ],
    "a jump inside the window, onto the places of what it leaves behind": [
        *(Step(n, True) for n in range(1, SIZE + 1)),
        Step(SIZE + 10, True),
        *(Step(SIZE + n, True) for n in range(1, 10)),
        *(Step(SIZE + n, False) for n in range(1, 11)),
        Step(11, False),
        Step(10, False),
    ],
    "a jump by the window, less and more": [
        Step(1, True),
        Step(SIZE, True),
        Step(2 * SIZE, True),
        Step(2 * SIZE - 1, True),
        Step(SIZE + 1, True),
        Step(SIZE, False),
        Step(3 * SIZE - 1, True),
        Step(2 * SIZE, False),
        Step(4 * SIZE, True),
        Step(3 * SIZE + 1, True),
        Step(3 * SIZE, False),
    ],
    "a jump by far more than the window": [
        Step(1, True),
        Step(2**31, True),
        Step(2**31, False),
        Step(2, False),
        Step(2**31 - SIZE, False),
        Step(2**31 - SIZE + 1, True),
        Step(2**32 - 1, True),
        Step(2**32 - 1, False),
        Step(2**32 - 2, True),
    ],
    "backwards from the end": [
        *(Step(n, True) for n in range(2 * SIZE, SIZE, -1)),
        *(Step(n, False) for n in range(2 * SIZE, 0, -1)),
    ],
}


@pytest.mark.parametrize("name", TABLES)
@pytest.mark.parametrize("esn", [False, True])
def test_steps(name: str, esn: bool) -> None:
    window = ReplayWindow(SIZE, esn)
    for number, (sequence, accepted) in enumerate(TABLES[name]):
        assert receive(window, sequence) is accepted, f"step {number}: {sequence}"


@pytest.mark.parametrize("size", [MIN_WINDOW, 64, 100, 1024, MAX_WINDOW])
def test_every_size_holds_exactly_its_size(size: int) -> None:
    window = ReplayWindow(size)
    top = 3 * size + 7
    window.commit(top)
    assert window.check(top - size) is None
    assert window.check(top - size + 1) == top - size + 1
    for sequence in range(top - 1, top - size, -1):
        assert receive(window, sequence)
    assert not any(receive(window, sequence) for sequence in range(top - size - 2, top + 1))


def test_check_changes_nothing() -> None:
    window = ReplayWindow(SIZE)
    receive(window, 5)
    for sequence in (9, 2**32 - 1, 3, 6):
        assert window.check(sequence) == sequence
        assert window.check(sequence) == sequence
    assert window.highest == 5


def test_commit_tells_what_advances() -> None:
    window = ReplayWindow(SIZE)
    assert [window.commit(sequence) for sequence in (3, 1, 2, 4, 200, 199)] == [
        *(True, False, False),
        *(True, True, False),
    ]
    # Two datagrams may have been checked before either is committed; the second then comes too late.
    assert window.commit(1) is False
    assert window.check(200) is None


class TestEsn:
    """RFC 4303 appendix A2.2. The window is 64 wide, and T its highest number."""

    @pytest.mark.parametrize(
        ("highest", "seq_low", "expected"),
        [
            # Case A: the window lies within one subspace
            (0x5_0000_1000, 0x0000_1001, 0x5_0000_1001),
            (0x5_0000_1000, 0x0000_0FC1, 0x5_0000_0FC1),
            (0x5_0000_1000, 0x0000_0FC0, 0x6_0000_0FC0),
            (0x5_0000_1000, 0xFFFF_FFFF, 0x5_FFFF_FFFF),
            (0x5_0000_1000, 0x0000_0000, 0x6_0000_0000),
            (0x5_FFFF_FFFF, 0x0000_0000, 0x6_0000_0000),
            (0x5_FFFF_FFFF, 0xFFFF_FFC0, 0x5_FFFF_FFC0),
            (0x5_FFFF_FFFF, 0xFFFF_FFBF, 0x6_FFFF_FFBF),
            (0x5_0000_003F, 0x0000_0000, 0x5_0000_0000),
            # Case B: it spans two
            (0x5_0000_003E, 0xFFFF_FFFF, 0x4_FFFF_FFFF),
            (0x5_0000_003E, 0xFFFF_FFFE, 0x5_FFFF_FFFE),
            (0x5_0000_0000, 0xFFFF_FFC1, 0x4_FFFF_FFC1),
            (0x5_0000_0000, 0xFFFF_FFC0, 0x5_FFFF_FFC0),
            (0x5_0000_0000, 0x0000_0001, 0x5_0000_0001),
            # the very first subspace has none below
            (0x0_0000_0000, 0x0000_0001, 0x0_0000_0001),
            (0x0_0000_0000, 0xFFFF_FFC0, 0x0_FFFF_FFC0),
            (0x0_0000_0000, 0xFFFF_FFC1, None),
            (0x0_0000_0000, 0x0000_0000, None),
            (0x0_0000_0010, 0xFFFF_FFF0, None),
        ],
    )
    def test_the_upper_half(self, highest: int, seq_low: int, expected: int | None) -> None:
        window = ReplayWindow(64, esn=True, highest=highest - 1 if highest else 0)
        if highest:
            window.commit(highest)
            # What came before `highest` counts as received, so look at the number without the check.
            window._seen[:] = bytes(64)
        assert window.check(seq_low) == expected

    def test_over_the_edge_and_out_of_order(self) -> None:
        top = 0x1_0000_0000
        window = ReplayWindow(64, esn=True, highest=top - 10)
        for sequence in (top - 3, top + 2, top - 1, top, top - 2, top + 1, top + 3):
            assert receive(window, sequence)
        for sequence in range(top - 3, top + 4):
            assert window.check(sequence & 0xFFFFFFFF) is None
        assert window.highest == top + 3

    def test_nothing_comes_after_the_last(self) -> None:
        """Whoever sends such numbers, they have no place in what is authenticated."""
        window = ReplayWindow(64, esn=True, highest=2**64 - 10)
        for low in (0, 5, 0xFFFF_FF00):
            assert window.check(low) is None
            assert window.check_run([low, low + 1]) is None
        assert receive(window, 2**64 - 1)

    def test_nothing_wraps_without_it(self) -> None:
        window = ReplayWindow(64, highest=2**32 - 2)
        assert receive(window, 2**32 - 1)
        assert window.check(0) is None
        assert window.check(1) is None


def test_what_was_received_before_the_start_is_not_received_again() -> None:
    window = ReplayWindow(SIZE, highest=1000)
    assert not any(window.check(sequence) for sequence in range(900, 1001))
    assert receive(window, 1001)


def test_no_window_lets_everything_through_and_knows_the_highest() -> None:
    window = ReplayWindow(0)
    for sequence in (0, 5, 5, 4, 2**32 - 1, 1):
        assert receive(window, sequence)
    assert window.highest == 2**32 - 1


@pytest.mark.parametrize(
    ("size", "esn"), [(-1, False), (1, False), (31, False), (MAX_WINDOW + 1, False), (0, True)]
)
def test_impossible_windows(size: int, esn: bool) -> None:
    with pytest.raises(ConfigError) as error:
        ReplayWindow(size, esn)
    assert error.value.remedy
