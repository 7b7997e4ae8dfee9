"""Everything that a run found out."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from benchmarks.figures import Results
from benchmarks.targets import ratios


@dataclass(frozen=True)
class Report:
    """One run on one machine."""

    machine: Mapping[str, str | int]
    effort: Mapping[str, Any]
    """How much was spent on each figure."""
    missing: Mapping[str, str]
    """Tunnels that are not installed: their Debian packages, by title."""
    results: list[Results]

    @property
    def heading(self) -> str:
        """One line: the machine, and how it was measured."""
        facts, rounds = self.machine, self.effort["rounds"]
        trials = f"medians of {rounds} trials" if rounds > 1 else "one trial each"
        if self.effort["slow_rounds"] < rounds:
            trials += f" ({self.effort['slow_rounds']} of UDP, handshakes and the loaded round trip)"
        return (
            f"{facts['cpu']}, {facts['cores']} cores, Linux {facts['kernel']}, Python {facts['python']}, "
            f"TCP {facts['congestion_control']}, {facts['date']}; {trials}"
        )

    def to_json(self) -> dict[str, Any]:
        """Each trial as well, and the ratios."""
        return {
            "machine": dict(self.machine),
            "effort": dict(self.effort),
            "missing": dict(self.missing),
            "tunnels": [found.to_json() for found in self.results],
            "ratios": [one.to_json() for one in ratios(self.results)],
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Report":
        """What `to_json` made."""
        results = [Results.from_json(found) for found in data["tunnels"]]
        return cls(data["machine"], data["effort"], data["missing"], results)
