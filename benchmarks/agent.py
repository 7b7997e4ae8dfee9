"""A helper of ours in a namespace, spoken to in lines and answering in lines of JSON."""

import json
import select
import sys
from typing import Any

from benchmarks.lab import ROOT, Lab, Program, TunnelError
from espudp.host.netns import Namespace

PATIENCE_SECONDS = 60.0


class Agent(Program):
    """`python -m benchmarks.MODULE ARGUMENTS`."""

    def __init__(self, lab: Lab, namespace: Namespace, module: str, *arguments: str) -> None:
        argv = [sys.executable, "-m", f"benchmarks.{module}", *arguments]
        log = lab.folder(module) / "log"
        super().__init__(namespace, argv, log, env={"PYTHONPATH": str(ROOT)}, piped=True)
        self._module = module

    def ask(self, order: str) -> dict[str, Any]:
        """Give an order, and wait for the answer. Raises TunnelError if there is none."""
        self.tell(order)
        return self.answer()

    def tell(self, order: str) -> None:
        """Give an order."""
        if self.process.stdin is not None and self.running:
            self.process.stdin.write(order.encode() + b"\n")
            self.process.stdin.flush()

    def answer(self) -> dict[str, Any]:
        """The next line. Raises TunnelError if none comes."""
        pipe = self.process.stdout
        if pipe is None or not select.select([pipe], [], [], PATIENCE_SECONDS)[0]:
            raise TunnelError(f"{self._module} does not answer; {self.last_words()}")
        line = pipe.readline()
        if not line:
            raise TunnelError(f"{self._module} ended; {self.last_words()}")
        return json_object(line.decode())


def json_object(text: str) -> dict[str, Any]:
    """Empty if it is none."""
    try:
        found = json.loads(text)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
