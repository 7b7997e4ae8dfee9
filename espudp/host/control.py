"""The local control socket: what `espudp status` and its like ask a running process.

A Unix stream socket, for root only, in the runtime directory: one JSON object a line, one line in answer.

    {"command": "status"}                             -> {"ok": true, "result": {...}}
    {"command": "nonsense"}                           -> {"ok": false, "error": "...", "remedy": "..."}
"""

import asyncio
import contextlib
import json
import os
import socket
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from enum import Enum
from inspect import isawaitable
from pathlib import Path
from typing import Any

from espudp.errors import ConfigError, EspudpError, HostError
from espudp.host.journal import runtime_directory
from espudp.wire.selectors import TrafficSelector

SUFFIX = ".sock"
REQUEST_OCTETS_MAX = 4096
CLIENTS_MAX = 16
ANSWER_SECONDS = 5.0

Arguments = Mapping[str, Any]
Handler = Callable[[Arguments], object]
"""Gets the request, returns the result or what to await for it; raises EspudpError if it cannot be had."""


class ControlServer:
    """Answers requests on a control socket, at most `CLIENTS_MAX` clients at a time."""

    def __init__(self, directory: Path, name: str, handlers: Mapping[str, Handler]) -> None:
        self._path = directory / (name + SUFFIX)
        self._handlers = handlers
        self._server: asyncio.AbstractServer | None = None
        self._clients: set[asyncio.StreamWriter] = set()

    async def start(self) -> None:
        """Raises HostError. The name is ours, by the journal's lock: a socket there is a dead process's."""
        self._path.unlink(missing_ok=True)
        former = os.umask(0o177)
        try:
            self._server = await asyncio.start_unix_server(
                self._serve, str(self._path), limit=REQUEST_OCTETS_MAX
            )
        except OSError as error:
            raise HostError(f"No control socket at {self._path}: {error.strerror or error}.") from None
        finally:
            os.umask(former)

    async def close(self) -> None:
        """Hang up, and remove the socket."""
        if self._server is None:
            return
        self._server.close()
        for client in list(self._clients):
            client.close()
        self._path.unlink(missing_ok=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self._clients) >= CLIENTS_MAX:
            writer.close()
            return
        self._clients.add(writer)
        try:
            while line := await reader.readline():
                writer.write(json.dumps(await self._answer(line)).encode() + b"\n")
                await writer.drain()
        except (ValueError, ConnectionError):  # ValueError: a line without end
            pass
        finally:
            self._clients.discard(writer)
            writer.close()

    async def _answer(self, line: bytes) -> dict[str, object]:
        try:
            request = json.loads(line)
            handler = self._handlers[request["command"]]
        except (ValueError, LookupError, TypeError, RecursionError):
            known = ", ".join(sorted(self._handlers))
            return {"ok": False, "error": "No such request.", "remedy": f"The commands are {known}."}
        try:
            result = handler(request)
            return {"ok": True, "result": plain(await result if isawaitable(result) else result)}
        except EspudpError as error:
            return {"ok": False, "error": str(error), "remedy": error.remedy}


def request(
    name: str | None, command: str, *, directory: Path | None = None, **arguments: object
) -> list[dict[str, Any]]:
    """Ask the process called `name`, or every one that runs here: their results, each with its "name".

    `directory` is where their control sockets are, if not in the usual place. Raises ConfigError if there is
    no such process, HostError if it may not be asked or refuses.
    """
    results: list[dict[str, Any]] = []
    for path in _sockets(directory or runtime_directory(), name):
        answer = _ask(path, {"command": command, **arguments})
        if answer is not None:
            results.append({"name": path.name.removesuffix(SUFFIX), **answer})
    if name is not None and not results:
        raise ConfigError(
            f"No espudp called {name} runs here.",
            field="name",
            remedy="`espudp status` without a name shows all; see that it runs as the same user.",
        )
    return results


def plain(value: object) -> Any:
    """A value as JSON has it: dataclasses as objects, enums by value, octets in hex, the rest as text.

    What a dataclass hides from its `repr` stays hidden here.
    """
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Enum):
        return plain(value.value)
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, TrafficSelector):
        return str(value)
    if is_dataclass(value) and not isinstance(value, type):
        return {f.name: plain(getattr(value, f.name)) for f in fields(value) if f.repr}
    if isinstance(value, Mapping):
        return {str(plain(key)): plain(item) for key, item in value.items()}
    if isinstance(value, list | set | frozenset) or type(value) is tuple:
        return [plain(item) for item in value]
    return str(value)


def _sockets(directory: Path, name: str | None) -> list[Path]:
    try:
        return [directory / (name + SUFFIX)] if name is not None else sorted(directory.glob("*" + SUFFIX))
    except PermissionError:
        raise _denied(directory) from None


def _ask(path: Path, question: Mapping[str, object]) -> dict[str, Any] | None:
    """The result, or None if nobody is there any more."""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
            client.settimeout(ANSWER_SECONDS)
            client.connect(str(path))
            client.sendall(json.dumps(question).encode() + b"\n")
            with client.makefile("rb") as answers:
                answer = json.loads(answers.readline())
    except (ConnectionRefusedError, FileNotFoundError):
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)  # left by a process that was killed
        return None
    except PermissionError:
        raise _denied(path) from None
    except (OSError, ValueError):
        raise HostError(
            f"The process behind {path} does not answer.", remedy="It may be busy or ending: try again."
        ) from None
    if not answer.get("ok"):
        raise HostError(answer.get("error", ""), remedy=answer.get("remedy", ""))
    result = answer["result"]
    return result if isinstance(result, dict) else {"result": result}


def _denied(path: Path) -> HostError:
    return HostError(f"You may not use {path}.", remedy="Ask as the user that espudp runs as, usually root.")
