"""The replay window against plain models: a set of what came in, and the pseudocode of RFC 4303."""

from hypothesis import given
from hypothesis import strategies as st

from espudp.esp.replay import ReplayWindow

SUBSPACE = 1 << 32
SIZES = st.sampled_from([32, 33, 64, 100, 1024])


class Model:
    """Remembers everything."""

    def __init__(self, size: int, highest: int) -> None:
        self.size = size
        self.highest = highest
        self.start = highest
        self.received: set[int] = set()

    def accepts(self, sequence: int) -> bool:
        return (
            sequence > 0
            and sequence > self.highest - self.size
            and sequence > min(self.start, self.highest)
            and sequence not in self.received
        )

    def receive(self, sequence: int) -> None:
        self.received.add(sequence)
        self.highest = max(self.highest, sequence)


def seqh_of_appendix_a(size: int, highest: int, seql: int) -> int:
    """RFC 4303 appendix A2.3, line for line."""
    tl, th = highest % SUBSPACE, highest // SUBSPACE
    if tl >= size - 1:
        return th if seql >= tl - size + 1 else th + 1
    return th - 1 if seql >= (tl - size + 1) % SUBSPACE else th


# Steps from the highest number so far: mostly near, sometimes far.
STEPS = st.lists(
    st.one_of(st.integers(-70, 40), st.integers(-1100, 1100), st.integers(-(1 << 31), 1 << 31)), max_size=80
)


@given(size=SIZES, start=st.one_of(st.just(0), st.integers(0, SUBSPACE - 1)), steps=STEPS)
def test_without_esn(size: int, start: int, steps: list[int]) -> None:
    window, model = ReplayWindow(size, highest=start), Model(size, start)
    for step in steps:
        sequence = model.highest + step
        if not 0 <= sequence < SUBSPACE:
            continue
        expected = sequence if model.accepts(sequence) else None
        assert window.check(sequence) == expected
        if expected is not None:
            window.commit(sequence)
            model.receive(sequence)
        assert window.highest == model.highest


@given(
    size=SIZES,
    start=st.one_of(
        st.just(0), st.integers(0, 3 * SUBSPACE), st.integers(-2000, 2000).map(lambda n: 2 * SUBSPACE + n)
    ),
    steps=STEPS,
)
def test_with_esn(size: int, start: int, steps: list[int]) -> None:
    window, model = ReplayWindow(size, esn=True, highest=start), Model(size, start)
    for step in steps:
        seql = (model.highest + step) % SUBSPACE
        sequence = seqh_of_appendix_a(size, model.highest, seql) * SUBSPACE + seql
        expected = sequence if model.accepts(sequence) else None
        assert window.check(seql) == expected
        if expected is not None:
            window.commit(sequence)
            model.receive(sequence)
        assert window.highest == model.highest


# Runs: gaps between the numbers of one, mostly none.
RUNS = st.lists(
    st.tuples(
        st.integers(-80, 80),
        st.lists(st.sampled_from([1, 1, 1, 1, 1, 2, 7, 40, 0, -1]), max_size=70),
        st.booleans(),
    ),
    max_size=12,
)


@given(
    size=st.sampled_from([0, 32, 33, 64, 100, 1024]),
    esn=st.booleans(),
    start=st.one_of(st.just(0), st.integers(SUBSPACE - 100, SUBSPACE - 1), st.integers(0, 2**62)),
    runs=RUNS,
)
def test_a_run_is_its_numbers_one_by_one(
    size: int, esn: bool, start: int, runs: list[tuple[int, list[int], bool]]
) -> None:
    esn = esn and size > 0
    start = start if esn else start % (SUBSPACE - 10_000)
    together, singly = (ReplayWindow(size, esn, start) for _ in range(2))
    for step, gaps, authentic in runs:
        sequence = max(singly.highest + step, 0)
        lows = [sequence % SUBSPACE]
        for gap in gaps:
            sequence = max(sequence + gap, 0)
            lows.append(sequence % SUBSPACE)
        first = together.check_run(lows)
        if not authentic:
            continue
        found = []
        for low in lows:
            found.append(singly.check(low))
            if (number := found[-1]) is not None:
                singly.commit(number)
        if first is None:
            for low in lows:
                if (number := together.check(low)) is not None:
                    together.commit(number)
        else:
            assert found == [first + low - lows[0] for low in lows]
            together.commit_run(first, lows)
        assert together.highest == singly.highest
        bottom = max(singly.highest - size - 40, 0)
        around = [number % SUBSPACE for number in range(bottom, singly.highest + 40)]
        assert [together.check(low) for low in around] == [singly.check(low) for low in around]


@given(size=st.sampled_from([32, 64, 1024]), start=st.integers(0, 1000), count=st.integers(1, 64))
def test_a_run_in_order_is_taken_as_one(size: int, start: int, count: int) -> None:
    window = ReplayWindow(size, highest=start)
    lows = list(range(start + 1, start + 1 + count))
    assert window.check_run(lows) == start + 1
    window.commit_run(start + 1, lows)
    assert window.check_run(lows) is None
    assert window.highest == start + count
