"""The micro-benchmarks still run, and what they do succeeds. How long it takes is not looked at here."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def _run(*options: str) -> str:
    command = [sys.executable, "-m", "pytest", "benchmarks/micro", "-q", "-p", "no:cacheprovider", *options]
    done = subprocess.run(
        command,
        cwd=ROOT,
        # Under pytest-xdist pytest-benchmark would not measure.
        env={name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_each_of_them_runs_once() -> None:
    assert " passed" in _run("--benchmark-disable")


def test_a_packet_has_its_price() -> None:
    out = _run("-k", "test_replay and train")
    assert "microseconds per packet" in out
    assert "replay window: test_a_train" in out
