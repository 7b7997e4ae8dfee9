"""What must be undone on this host, on disk before it is done.

One file per running process, in the runtime directory: a line saying whose it is, then a line for each
change made or undone. The process holds a lock on its file for as long as it lives, so a file that can be
locked was left by one that was killed: whoever starts next undoes what it says.
"""

import contextlib
import fcntl
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

from espudp.errors import HostError
from espudp.host import changes
from espudp.host.changes import Change

RUNTIME_VARIABLE = "ESPUDP_RUNTIME_DIR"
RUNTIME_DIRECTORY = "/run/espudp"
SUFFIX = ".journal"

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_NAMESPACE = Path("/proc/thread-self/ns/net")


def runtime_directory(*, create: bool = False) -> Path:
    """Where journals and control sockets are: /run/espudp, or what $ESPUDP_RUNTIME_DIR says."""
    directory = Path(os.environ.get(RUNTIME_VARIABLE, RUNTIME_DIRECTORY))
    if create:
        try:
            directory.mkdir(mode=0o755, parents=True, exist_ok=True)
        except OSError as error:
            raise HostError(
                f"The directory {directory} could not be made: {error.strerror}.",
                remedy=f"Run espudp as root, or set {RUNTIME_VARIABLE} to a directory of yours.",
            ) from None
    return directory


class Journal:
    """The changes one process has made and not undone yet, in order."""

    def __init__(self, path: Path, descriptor: int) -> None:
        """Takes a locked file over: see `claim` and `abandoned`."""
        self.path = path
        self._fd = descriptor
        lines = _read(descriptor)
        self.owner: dict[str, Any] = lines[0] if lines else {}
        self.changes: list[Change] = list(_replay(lines[1:]))

    @classmethod
    def claim(cls, directory: Path, name: str) -> Self:
        """A new journal called `name`, or `name-2` and so on where that is taken."""
        candidate, number = name, 1
        while (journal := cls._claim(directory / (candidate + SUFFIX))) is None:
            number += 1
            candidate = f"{name}-{number}"
        return journal

    @classmethod
    def _claim(cls, path: Path) -> Self | None:
        descriptor = _lock(path, create=True)
        if descriptor is None:
            return None
        journal = cls(path, descriptor)
        if journal.changes:  # of another network namespace: nothing that we could undo
            journal.release()
            return None
        os.ftruncate(descriptor, 0)
        journal._write({"pid": os.getpid(), "started": time.time(), **_here()})
        return journal

    @classmethod
    def abandoned(cls, directory: Path) -> Iterator[Self]:
        """The journals of killed processes of this network namespace, locked; to be undone and removed."""
        for path in sorted(directory.glob("*" + SUFFIX)):
            descriptor = _lock(path)
            if descriptor is None:
                continue
            journal = cls(path, descriptor)
            if journal.owner.get("boot") != _here()["boot"]:
                journal.remove()  # a restart of the machine has undone everything
            elif journal.owner.get("namespace") != _here()["namespace"]:
                journal.release()
            else:
                yield journal

    def others(self) -> Iterator[Change]:
        """What other running processes of this network namespace have changed."""
        for path in self.path.parent.glob("*" + SUFFIX):
            if path == self.path:
                continue
            descriptor = _lock(path)
            if descriptor is not None:  # abandoned
                os.close(descriptor)
                continue
            with contextlib.suppress(OSError):
                lines = _parse(path.read_bytes())
                if lines and lines[0].get("namespace") == _here()["namespace"]:
                    yield from _replay(lines[1:])

    @property
    def name(self) -> str:
        """What the process is called on this host."""
        return self.path.name.removesuffix(SUFFIX)

    def record(self, change: Change) -> None:
        """Note a change that is about to be made."""
        self._write({"made": changes.to_json(change)})
        self.changes.append(change)

    def erase(self, change: Change) -> None:
        """Note that a change was undone, or never made."""
        self._write({"undone": changes.to_json(change)})
        self.changes.remove(change)

    def remove(self) -> None:
        """Nothing is left to be undone."""
        self.path.unlink(missing_ok=True)
        self.release()

    def release(self) -> None:
        """Leave the file to whoever comes next."""
        os.close(self._fd)

    def _write(self, line: dict[str, Any]) -> None:
        os.lseek(self._fd, 0, os.SEEK_END)
        os.write(self._fd, json.dumps(line).encode() + b"\n")


def _here() -> dict[str, str]:
    """What tells this network namespace of this boot from every other."""
    namespace = _NAMESPACE.stat()
    return {"namespace": f"{namespace.st_dev}:{namespace.st_ino}", "boot": _BOOT_ID.read_text().strip()}


def _lock(path: Path, *, create: bool = False) -> int | None:
    """The file, open and locked; None if somebody holds it or it is not there."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC | (os.O_CREAT if create else 0), 0o600)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.fstat(descriptor).st_ino == path.stat().st_ino:  # else its owner removed it meanwhile
            return descriptor
    except (BlockingIOError, FileNotFoundError):
        pass
    os.close(descriptor)
    return None


def _read(descriptor: int) -> list[dict[str, Any]]:
    return _parse(os.pread(descriptor, os.fstat(descriptor).st_size, 0))


def _parse(data: bytes) -> list[dict[str, Any]]:
    """The lines of a journal; a last one that was cut off counts as not written."""
    lines: list[dict[str, Any]] = []
    with contextlib.suppress(ValueError):
        for line in data.split(b"\n"):
            lines.append(json.loads(line))
    return lines


def _replay(lines: list[dict[str, Any]]) -> Iterator[Change]:
    made: list[Change] = []
    for line in lines:
        if "made" in line:
            made.append(changes.from_json(line["made"]))
        elif "undone" in line:
            made.remove(changes.from_json(line["undone"]))
    yield from made
