"""What espudp may cost before it does anything: CPU time to start, memory for each peer."""

import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

START_UP_CPU_SECONDS = 0.25
# With all that a tunnel is made of, numpy among it.
WHOLE_API_CPU_SECONDS = 0.4
OCTETS_PER_SA_PAIR = 20_000


def run(*arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        # What the threads of numpy's linear algebra take depends on the machine; nothing here uses them.
        env={**os.environ, "PYTHONPATH": str(ROOT), "OPENBLAS_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    return done.stdout


def cpu_seconds(*arguments: str) -> float:
    """Of a child, user and system."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    run(*arguments)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


@pytest.mark.parametrize(
    "arguments",
    [
        ("-c", "import espudp"),
        ("-m", "espudp", "--version"),
        ("-m", "espudp", "--help"),
        ("-m", "espudp", "connect", "--help"),
        ("-m", "espudp", "listen", "--help"),
    ],
    ids=" ".join,
)
def test_starting_takes_little_time(arguments: tuple[str, ...]) -> None:
    # The first run may have to compile; a busy machine makes any of them slower, and none faster.
    assert any(cpu_seconds(*arguments) < START_UP_CPU_SECONDS for _ in range(8))


def test_the_whole_api_takes_little_more() -> None:
    names = "ConnectionConfig, ListenerConfig, PadEntry, SignKey, Tunnel"
    assert any(cpu_seconds("-c", f"from espudp import {names}") < WHOLE_API_CPU_SECONDS for _ in range(8))


@pytest.mark.parametrize(
    "suite", ["aes128gcm16", "chacha20poly1305-esn", "aes128-sha256", "aes256-sha512-esn"]
)
def test_a_thousand_sa_pairs_need_little_memory(suite: str) -> None:
    assert float(run("-m", "tests.unit.esp.sa_memory", suite)) < OCTETS_PER_SA_PAIR
