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
