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

# What never changes, and how much CPU it takes on a machine that nothing else slows down: the limits are for
# such a one.
YARDSTICK = "import asyncio, email.mime.text, http.server, unittest.mock, xmlrpc.client, pydoc, ssl"
YARDSTICK_CPU_SECONDS = 0.1


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


def starts_within(limit: float, *arguments: str) -> bool:
    """In one of several tries: the first may have to compile, and a busy machine makes any of them slower."""
    for _ in range(8):
        pace = max(1.0, cpu_seconds("-I", "-c", YARDSTICK) / YARDSTICK_CPU_SECONDS)
        if cpu_seconds(*arguments) < limit * pace:
            return True
    return False


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
    assert starts_within(START_UP_CPU_SECONDS, *arguments)


def test_the_whole_api_takes_little_more() -> None:
    names = "ConnectionConfig, ListenerConfig, PadEntry, SignKey, Tunnel"
    assert starts_within(WHOLE_API_CPU_SECONDS, "-c", f"from espudp import {names}")


@pytest.mark.parametrize(
    "suite", ["aes128gcm16", "chacha20poly1305-esn", "aes128-sha256", "aes256-sha512-esn"]
)
def test_a_thousand_sa_pairs_need_little_memory(suite: str) -> None:
    assert float(run("-m", "tests.unit.esp.sa_memory", suite)) < OCTETS_PER_SA_PAIR
