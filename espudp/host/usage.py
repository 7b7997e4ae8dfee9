"""What a process of ours costs, and what it could not send or deliver."""

import os
import resource
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from espudp.host.driver import Driver
from espudp.host.tun import TunQueue
from espudp.host.udp import SocketSet


@dataclass(frozen=True, slots=True)
class Usage:
    """Of one process, from its start."""

    pid: int
    cpu_seconds: float
    memory_octets: int
    send_drops: Counter[str]
    send_errors: Counter[int]
    tun_errors: Counter[int]


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
