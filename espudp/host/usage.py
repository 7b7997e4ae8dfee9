"""What a process of ours costs, and what it could not send or deliver."""

import os
import resource
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from espudp.host.driver import Driver
from espudp.host.ipsocket import SocketSet
from espudp.host.tun import TunQueue


@dataclass(frozen=True, slots=True)
class Usage:
    """Of one process, from its start."""

    pid: int
    cpu_seconds: float = 0.0
    memory_octets: int = 0
    send_drops: Counter[str] = field(default_factory=Counter)
    send_errors: Counter[int] = field(default_factory=Counter)
    tun_errors: Counter[int] = field(default_factory=Counter)
    silent: bool = False
    """It was asked and has not answered in time: all the rest is as it last was."""


def usage(driver: Driver[Any], sockets: SocketSet, queue: TunQueue) -> Usage:
    """Of this process."""
    resident_pages = int(Path("/proc/self/statm").read_text().split()[1])
    return Usage(
        pid=os.getpid(),
        cpu_seconds=time.process_time(),
        memory_octets=resident_pages * resource.getpagesize(),
        send_drops=Counter({reason.value: count for reason, count in driver.drops.items()}),
        send_errors=sockets.errors,
        tun_errors=queue.write_errors,
    )
