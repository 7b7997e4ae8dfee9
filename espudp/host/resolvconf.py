"""/etc/resolv.conf (resolv.conf(5)): replaced, and put back as it was, whatever has happened in between."""

import errno
import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

from espudp.errors import HostError

RESOLV_CONF = Path("/etc/resolv.conf")

# resolv.conf(5), MAXNS: more than these are not asked.
MAX_SERVERS = 3

# Our bound on a file that is kept in the journal.
_MAX_OCTETS = 1 << 16

# What a rename meets where something is mounted on the file, or nothing may be made beside it.
_ONLY_IN_PLACE = (errno.EBUSY, errno.EXDEV, errno.EROFS, errno.EACCES, errno.EPERM)


@dataclass(frozen=True, slots=True)
class ResolvConf:
    """A change of the file: what it says from now on, and what it was before."""

    path: str
    text: str
    former: str | None
    """None: there was no such file."""
    link: str | None
    """Where the name led, if it was a symbolic link."""
    mode: int
    in_place: bool
    """Not replaced but written, since others see the same directory (ip-netns(8)) and not the same file."""

    @classmethod
    def of(cls, path: Path) -> Self:
        """The file as it is; `saying` makes a change of it. Raises HostError, OSError."""
        refuse_another_network(path)
        former = read(path)
        link = os.readlink(path) if path.is_symlink() else None
        mode = 0o644 if former is None else path.stat().st_mode & 0o777
        return cls(str(path), former or "", former, link, mode, not _shares_its_directory(_elder()))

    def saying(self, head: str, lines: Iterable[str]) -> Self:
        """What makes the file say this, below a line that tells whose it is."""
        return replace(self, text="".join(f"{line}\n" for line in (f"# {head}", *lines)))

    @property
    def stands(self) -> bool:
        """Whether the file is still what we made of it, and not what somebody else did."""
        return (read(Path(self.path)) or "").startswith(self.text.partition("\n")[0] + "\n")

    def make(self) -> None:
        """Raises OSError."""
        self._put(self.text)

    def undo(self, heir: "ResolvConf | None" = None) -> None:
        """What was there before, or what `heir`, of a process that goes on, says. Raises OSError."""
        if not self.stands:
            return
        path = Path(self.path)
        if heir is not None:
            self._put(heir.text)
        elif self.link is not None and not self.in_place:
            temporary = _beside(path)
            temporary.unlink(missing_ok=True)
            temporary.symlink_to(self.link)
            temporary.replace(path)
        elif self.former is not None:
            self._put(self.former)
        else:
            path.unlink()

    def _put(self, text: str) -> None:
        path, octets = Path(self.path), text.encode(errors="surrogateescape")
        if not self.in_place:
            try:
                _replace(path, octets, self.mode)
            except OSError as error:
                if error.errno not in _ONLY_IN_PLACE:
                    raise
            else:
                return
        _overwrite(path, octets)


def read(path: Path) -> str | None:
    """The file's text; None if there is none. Raises OSError."""
    try:
        octets = path.read_bytes()
    except FileNotFoundError:
        return None
    if len(octets) > _MAX_OCTETS:
        raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))
    return octets.decode(errors="surrogateescape")


def servers(text: str | None) -> Iterator[str]:
    """The name servers that it names."""
    for words in map(str.split, (text or "").splitlines()):
        if words[:1] == ["nameserver"] and len(words) > 1:
            yield words[1]


def other_lines(text: str | None) -> list[str]:
    """What it says beside them: search list and options."""
    lines = [line.strip() for line in (text or "").splitlines()]
    return [line for line in lines if line and line[0] not in "#;" and line.split()[0] != "nameserver"]


def refuse_another_network(path: Path) -> None:
    """Raises HostError unless the file is known to be for the network namespace that we are in."""
    elder = _elder()
    if elder is None:
        raise HostError(f"It cannot be seen whose {path} is.", remedy="Connect with --no-dns.")
    if _same_namespace(elder, "net"):
        return
    try:
        shared = (elder / "root" / path.relative_to("/")).samefile(path)
    except FileNotFoundError:
        shared = False
    except OSError:
        shared = True
    if shared:
        raise HostError(
            f"{path} belongs to another network namespace.",
            remedy=f"Give this one its own ({path.parent}/netns/NAME/{path.name}), or connect with --no-dns.",
        )


def _elder() -> Path | None:
    """The first process; where that is hidden, the oldest of our ancestors that is not. None: all are."""
    seen: Path | None = None
    number = os.getppid()
    with suppress(OSError, ValueError):
        while number > 1:
            process = Path(f"/proc/{number}")
            (process / "ns/net").stat()
            seen = process
            number = int((process / "stat").read_text().rpartition(")")[2].split()[1])
    with suppress(OSError):
        (Path("/proc/1/ns/net")).stat()
        seen = Path("/proc/1")
    return seen


def _shares_its_directory(elder: Path | None) -> bool:
    return elder is not None and _same_namespace(elder, "net") and _same_namespace(elder, "mnt")


def _same_namespace(process: Path, kind: str) -> bool:
    try:
        return (process / "ns" / kind).samefile(f"/proc/thread-self/ns/{kind}")
    except OSError:
        return False


def _beside(path: Path) -> Path:
    return path.with_name(f".{path.name}.espudp-{os.getpid()}")


def _replace(path: Path, octets: bytes, mode: int) -> None:
    """At no moment is there half a file."""
    temporary = _beside(path)
    temporary.unlink(missing_ok=True)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    try:
        os.fchmod(descriptor, mode)
        os.write(descriptor, octets)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    try:
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise


def _overwrite(path: Path, octets: bytes) -> None:
    """Our first line comes first: whoever is killed in between has left something to recognise."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        os.write(descriptor, octets)
        os.ftruncate(descriptor, len(octets))
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
