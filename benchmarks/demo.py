"""What really goes through a tunnel on this machine: `espudp demo --json`, as a user runs it."""

import json
import subprocess
import sys
from typing import Any

DEMO_SECONDS_MAX = 180.0


def measure(suite: str | None = None) -> dict[str, Any]:
    """The demo's own report. Raises RuntimeError with what it said where it cannot run, as without root."""
    choice = ["--suite", suite] if suite else []
    done = subprocess.run(
        [sys.executable, "-m", "espudp", "demo", "--json", *choice],
        capture_output=True,
        text=True,
        timeout=DEMO_SECONDS_MAX,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(done.stderr.strip() or done.stdout.strip())
    report: dict[str, Any] = json.loads(done.stdout)
    return report
