"""What the figures were measured on."""

import os
import platform
import sys
import time
from contextlib import suppress
from pathlib import Path


def describe() -> dict[str, str | int]:
    """As much as a reader needs to compare."""
    return {
        "cpu": _cpu(),
        "cores": os.cpu_count() or 0,
        "kernel": platform.release(),
        "python": sys.version.split()[0],
        "congestion_control": _read("/proc/sys/net/ipv4/tcp_congestion_control"),
        "date": time.strftime("%Y-%m-%d"),
    }


def _cpu() -> str:
    for line in _read("/proc/cpuinfo").splitlines():
        key, _, value = line.partition(":")
        if key.strip() == "model name":
            return value.strip()
    return platform.machine()


def _read(path: str) -> str:
    with suppress(OSError):
        return Path(path).read_text().strip()
    return ""
