"""espudp as a user runs it: a process in a namespace, asked over its control socket."""

import json
import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.interop.lab import Namespace, Process, wait_until

ROOT = Path(__file__).parents[2]
PSK = "a pre-shared key that both sides know"


class Espudp:
    """One running `espudp connect` or `espudp listen`."""

    def __init__(self, process: Process, runtime: Path) -> None:
        self.process = process
        self.killed = False
        self._runtime = runtime

    @property
    def output(self) -> str:
        return self.process.output

    def ask(self, command: str, **arguments: object) -> dict[str, Any]:
        """One request over the control socket; the answer's result."""
        (path,) = self._runtime.glob("*.sock")
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(10)
            client.connect(str(path))
            client.sendall(json.dumps({"command": command, **arguments}).encode() + b"\n")
            with client.makefile("rb") as lines:
                answer = json.loads(lines.readline())
        assert answer["ok"], answer
        result: dict[str, Any] = answer["result"]
        return result

    def tunnel(self) -> dict[str, Any]:
        """What its tunnel shows: connections, sas, drops."""
        result: dict[str, Any] = self.ask("status")["tunnel"]
        return result

    def sas(self, direction: str = "in") -> list[dict[str, Any]]:
        """The ESP SAs of one direction, those that linger after their replacement left out."""
        current = {sa["pair"] for sa in self.tunnel()["sas"] if sa["direction"] == "out"}
        return [sa for sa in self.tunnel()["sas"] if sa["direction"] == direction and sa["pair"] in current]

    def kill(self) -> None:
        """SIGKILL: it says goodbye to nobody and undoes nothing."""
        self.killed = True
        self.process.kill()

    def ready(self) -> bool:
        """Whether it can be asked; fails the test if it has ended."""
        assert self.process.running, f"espudp ended:\n{self.output}"
        return any(self._runtime.glob("*.sock"))

    def wait_for(self, text: str, *, seconds: float = 15.0) -> None:
        """Until it has said something."""

        def said() -> bool:
            assert self.process.running or text in self.output, f"espudp ended:\n{self.output}"
            return text in self.output

        try:
            wait_until(said, f"espudp to say {text!r}", seconds=seconds)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.output}") from None


def secret_file(path: Path, text: str) -> Path:
    """A file that only its owner reads."""
    path.touch(mode=0o600)
    path.write_text(text)
    return path


def start(space: Namespace, folder: Path, command: str, *arguments: str, psk: str | None = PSK) -> Process:
    """`espudp COMMAND`, its runtime directory and its PSK, if it has one, in a folder of the test's."""
    (folder / "run").mkdir(parents=True, exist_ok=True)
    argv = [sys.executable, "-m", "espudp", command, *arguments]
    if psk is not None:
        argv += ["--psk-file", str(secret_file(folder / "psk", psk))]
    env = {"ESPUDP_RUNTIME_DIR": str(folder / "run"), "PYTHONPATH": str(ROOT), "COLUMNS": "250"}
    env["ESPUDP_CONFIG_DIR"] = str(folder / "etc")
    return Process(space.command(*argv), folder / "espudp.log", env)


@contextmanager
def espudp(
    space: Namespace, folder: Path, command: str, *arguments: str, psk: str | None = PSK
) -> Iterator[Espudp]:
    """Run `espudp COMMAND` until the end of the block, then stop it with SIGTERM."""
    with start(space, folder, command, *arguments, psk=psk) as process:
        peer = Espudp(process, folder / "run")
        try:
            wait_until(peer.ready, "espudp's control socket")
            yield peer
        except BaseException:
            print(peer.output)
            raise
        if not peer.killed:
            assert process.stop() == 0, peer.output
            assert not os.listdir(folder / "run"), "left behind in the runtime directory"
