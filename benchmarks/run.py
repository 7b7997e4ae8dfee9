"""Rounds of measurements: in each, every tunnel has its turn with every figure.

So that whatever changes the pace of the machine falls on all of them, and a median over the rounds means
something. Each turn starts both ends of the tunnel anew.
"""

import time
from collections.abc import Callable, Collection, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from benchmarks import responder
from benchmarks.figures import HANDSHAKE_CPU, HANDSHAKES, START, Results
from benchmarks.lab import Lab, Program, TunnelError
from benchmarks.measure import Effort, Ends, Probe, first_answer, iperf_server
from benchmarks.tunnels.base import Tunnel

Progress = Callable[[str], None]
"""Told before each step, so that it can be counted."""


@dataclass(frozen=True)
class Step:
    """One thing to measure in a turn."""

    group: str
    title: str
    slow: bool
    measure: Callable[[Probe], None]


STEPS = (
    Step("tcp", "TCP, both ways", False, Probe.tcp),
    Step("four", "four TCP flows", False, Probe.four),
    Step("rtt", "round trip, idle", False, Probe.rtt),
    Step("rtt", "round trip, loaded", True, Probe.rtt_loaded),
    Step("udp", "UDP rates", True, Probe.udp),
    Step("memory", "memory", False, Probe.memory),
)


@dataclass(frozen=True)
class Plan:
    """What to do."""

    tunnels: Sequence[Tunnel]
    groups: Collection[str]
    effort: Effort

    def steps(self, tunnel: Tunnel, number: int) -> list[Step]:
        """Of one turn in round `number`, counted from 0, through the tunnel."""
        slow = number < self.effort.slow_rounds
        groups = set(self.groups) & set(tunnel.groups)
        return [step for step in STEPS if step.group in groups and (slow or not step.slow)]

    def carries(self, tunnel: Tunnel, number: int) -> bool:
        """Whether it is to come up at all in that round, be it only to see how long that takes."""
        return bool(self.steps(tunnel, number)) or START.group in self.groups

    def shakes_hands(self, tunnel: Tunnel, number: int) -> bool:
        """Whether the handshakes of many clients are measured in that round."""
        asked = "handshakes" in self.groups and "handshakes" in tunnel.groups
        return asked and bool(tunnel.ike_suite) and number < self.effort.slow_rounds

    def total(self) -> int:
        """How many times `progress` is told something; starting a tunnel counts as well."""
        turns = [(tunnel, number) for tunnel in self.tunnels for number in range(self.effort.rounds)]
        return sum(self.carries(*turn) + len(self.steps(*turn)) + self.shakes_hands(*turn) for turn in turns)


def _notes(tunnel: Tunnel) -> dict[str, str]:
    """Why some figures have no value."""
    return {HANDSHAKES.key: tunnel.no_handshakes} if tunnel.no_handshakes else {}


def run(plan: Plan, lab: Lab, progress: Progress) -> list[Results]:
    """All rounds. What fails with one tunnel is noted there, and the others go on."""
    results = {tunnel.name: Results(tunnel.name, tunnel.title, tunnel.version()) for tunnel in plan.tunnels}
    for number in range(plan.effort.rounds):
        for tunnel in plan.tunnels:
            _Turn(plan, lab, tunnel, results[tunnel.name], progress).take(number)
    return list(results.values())


class _Turn:
    """One tunnel in one round."""

    def __init__(self, plan: Plan, lab: Lab, tunnel: Tunnel, results: Results, progress: Progress) -> None:
        self._plan = plan
        self._lab = lab
        self._tunnel = tunnel
        self._results = results
        self._progress = progress

    def take(self, number: int) -> None:
        """Start it, measure, end it."""
        stem = f"round {number + 1} of {self._plan.effort.rounds}: {self._tunnel.title}"
        if self._plan.carries(self._tunnel, number):
            self._carry(stem, self._plan.steps(self._tunnel, number))
        if self._plan.shakes_hands(self._tunnel, number):
            self._progress(f"{stem}: handshakes")
            self._shake_hands()

    def _carry(self, stem: str, steps: Sequence[Step]) -> None:
        self._progress(f"{stem}: starting")
        with ExitStack() as stack:
            try:
                ends = self._start(stack)
            except (TunnelError, OSError) as error:
                self._problem("start", error)
                for step in steps:
                    self._progress(f"{stem}: {step.title} left out")
                return
            probe = Probe(self._lab, self._tunnel.inner_ip, ends, self._plan.effort, self._results.add)
            for step in steps:
                self._progress(f"{stem}: {step.title}")
                try:
                    step.measure(probe)
                except (TunnelError, OSError) as error:  # OSError: a process or its route is gone
                    self._problem(step.title, error)

    def _start(self, stack: ExitStack) -> Ends:
        server = stack.enter_context(self._tunnel.server(self._lab))
        stack.enter_context(iperf_server(self._lab))
        started = time.monotonic()
        client = stack.enter_context(self._tunnel.client(self._lab))
        answered = first_answer(self._lab, self._tunnel.inner_ip, lambda: _check([*client, *server]))
        if client and START.group in self._plan.groups:
            self._results.add(START, answered - started)
        return Ends.of(client, server)

    def _shake_hands(self) -> None:
        try:
            served = responder.measure(self._tunnel, self._lab, self._plan.effort.handshake_seconds)
        except TunnelError as error:
            self._problem("handshakes", error)
            return
        self._results.add(HANDSHAKES, served.rate)
        self._results.add(HANDSHAKE_CPU, served.cpu_milliseconds)

    def _problem(self, what: str, error: Exception) -> None:
        self._results.problems.append(f"{what}: {error}")


def _check(programs: Sequence[Program]) -> None:
    for program in programs:
        if not program.running:
            raise TunnelError(f"{program.name} ended: {program.last_words()}")
