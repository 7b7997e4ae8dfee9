"""Short tables, one for each thing that is measured, and behind them what each packet of a batch costs."""

from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import pytest

PACKETS = "packets"
_WARM_ROUNDS = 20

_P = ParamSpec("_P")
_R = TypeVar("_R")


class Measure:
    """pytest-benchmark's fixture, with types; `of` says in which table the result stands."""

    def __init__(self, fixture: Any) -> None:
        self._fixture = fixture

    def of(self, group: str, *, packets: int = 0) -> "Measure":
        """`packets`: how many are done at once, if it is about packets at all."""
        self._fixture.group = group
        self._fixture.extra_info[PACKETS] = packets
        return self

    def __call__(self, action: Callable[_P, _R], *args: _P.args, **kwargs: _P.kwargs) -> _R:
        """Measure something that may be done as often as pytest-benchmark likes."""
        result: _R = self._fixture(action, *args, **kwargs)
        return result

    def rounds(self, rounds: int, action: Callable[[], _R], *, each: int = 1) -> _R:
        """Measure so many rounds, of `each` times the action."""
        result: _R = self._fixture.pedantic(
            action, rounds=rounds, iterations=each, warmup_rounds=min(rounds, _WARM_ROUNDS)
        )
        return result

    def fresh(self, rounds: int, prepare: Callable[[], _R], action: Callable[[_R], object]) -> None:
        """Measure so many rounds of something that can be done to each thing once; to prepare it is free."""

        def prepared() -> tuple[tuple[_R], dict[str, object]]:
            return (prepare(),), {}

        warm = min(rounds, _WARM_ROUNDS)
        self._fixture.pedantic(action, setup=prepared, rounds=rounds, warmup_rounds=warm)


@pytest.fixture
def measure(benchmark: Any) -> Measure:
    """What each benchmark measures with."""
    return Measure(benchmark)


def pytest_configure(config: pytest.Config) -> None:
    """Defaults, which the command line overrides."""
    given = " ".join(map(str, config.invocation_params.args))
    for option, value in (("columns", ["min", "median", "rounds"]), ("sort", "name"), ("disable-gc", True)):
        if f"--benchmark-{option}" not in given:
            setattr(config.option, f"benchmark_{option.replace('-', '_')}", value)


@pytest.hookimpl(trylast=True)
def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Microseconds for each packet of a batch, in the best round."""
    session = getattr(config, "_benchmarksession", None)
    done = [] if session is None else [b for b in session.benchmarks if b.extra_info.get(PACKETS)]
    if not done:
        return
    terminalreporter.section("microseconds per packet")
    for benchmark in sorted(done, key=lambda b: str(b.group)):
        each = benchmark.stats.min * 1e6 / benchmark.extra_info[PACKETS]
        terminalreporter.write_line(f"{each:9.3f}  {benchmark.group}: {benchmark.name}")
