"""The DNS servers that a peer offers, put to use: by systemd-resolved where it runs, else in resolv.conf.

systemd-resolved keeps servers and domains for each link, and forgets them with the link, which ends with our
process. /etc/resolv.conf is journalled like every other change to this host.
"""

import os
import shutil
import subprocess
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from espudp.errors import HostError
from espudp.host import resolvconf
from espudp.host.netconf import NetConf
from espudp.host.resolvconf import MAX_SERVERS, RESOLV_CONF, ResolvConf

# systemd-resolved(8): where it keeps the files that /etc/resolv.conf leads to, and where it listens.
_RESOLVED_DIRECTORY = Path("/run/systemd/resolve")
_RESOLVED_STUBS = {"127.0.0.53", "127.0.0.54"}
_RESOLVED_COMMAND = "systemd-resolve"  # as the kernel keeps it, 15 octets long

# It answers in milliseconds, and nothing else goes on meanwhile.
_ANSWER_SECONDS = 3.0

_ALL = "~."

_GROUP = "dns"
_WITHOUT = "Connect with --no-dns."


@dataclass(frozen=True, slots=True)
class Wanted:
    """Servers, and the domains that they are for; none: everything."""

    servers: tuple[str, ...]
    domains: tuple[str, ...] = ()


NOTHING = Wanted(())


class Dns:
    """The DNS servers of one device. Nothing is set until there are some."""

    def __init__(self, netconf: NetConf, device: str, path: Path = RESOLV_CONF) -> None:
        self._netconf = netconf
        self._device = device
        self._path = path
        self._resolved = False
        self.wanted = NOTHING
        self.way = ""
        """Who uses them, in words; "" while nobody does."""

    def set(self, wanted: Wanted) -> str:
        """Use these; a line of what is not as it should be, or "". Raises HostError."""
        if wanted == self.wanted:
            return ""
        self.clear()
        if not wanted.servers:
            return ""
        try:
            if _leads_to_resolved(self._path) and _resolved_is_here():
                return self._tell_resolved(wanted)
            return self._write(wanted)
        except OSError as error:
            raise HostError(f"{self._path} cannot be read: {error.strerror}.", remedy=_WITHOUT) from None

    def clear(self) -> None:
        """Use those that were used before. Raises HostError."""
        self.wanted, self.way = NOTHING, ""
        self._netconf.replace(_GROUP, ())
        if self._resolved:
            self._resolved = False
            _resolvectl("revert", self._device)

    def _tell_resolved(self, wanted: Wanted) -> str:
        domains = [f"~{domain}" for domain in wanted.domains] or [_ALL]
        self._resolved = True
        try:
            _resolvectl("dns", self._device, *wanted.servers)
            _resolvectl("domain", self._device, *domains)
            _resolvectl("default-route", self._device, "no" if wanted.domains else "yes")
        except HostError:
            with suppress(HostError):  # half of it would send names astray
                self.clear()
            raise
        self.wanted, self.way = wanted, "systemd-resolved"
        return ""

    def _write(self, wanted: Wanted) -> str:
        before = self._netconf.standing_resolv_conf(self._path) or ResolvConf.of(self._path)
        servers = list(wanted.servers[:MAX_SERVERS])
        if wanted.domains:  # what only those before know can still be asked of them
            servers = [*servers[: MAX_SERVERS - 1], *resolvconf.servers(before.former)]
        lines = [f"nameserver {server}" for server in dict.fromkeys(servers)][:MAX_SERVERS]
        whose = f"{self._netconf.name}, process {os.getpid()}"
        head = f"Made by espudp ({whose}): what was here comes back when it ends."
        self._netconf.replace(_GROUP, [before.saying(head, [*lines, *resolvconf.other_lines(before.former)])])
        self.wanted, self.way = wanted, str(self._path)
        if not wanted.domains:
            return ""
        domains = ", ".join(wanted.domains)
        return f"{self._path} knows no split DNS: {servers[0]} is asked for all names, not just {domains}"


def _leads_to_resolved(path: Path) -> bool:
    with suppress(OSError):
        if path.resolve().is_relative_to(_RESOLVED_DIRECTORY):
            return True
    return bool(_RESOLVED_STUBS.intersection(resolvconf.servers(resolvconf.read(path))))


def _resolved_is_here() -> bool:
    """Whether it runs in our network namespace: its links are ours then."""
    ours = Path("/proc/thread-self/ns/net")
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            is_resolved = (process / "comm").read_text().strip() == _RESOLVED_COMMAND
            if is_resolved and (process / "ns/net").samefile(ours):
                return True
    return False


def _resolvectl(*words: str) -> None:
    program = shutil.which("resolvectl")
    if program is None:
        raise HostError("There is no resolvectl.", remedy="Install systemd-resolved, or use --no-dns.")
    try:
        subprocess.run(
            [program, *words],
            check=True,
            capture_output=True,
            stdin=subprocess.DEVNULL,
            timeout=_ANSWER_SECONDS,
        )
    except subprocess.CalledProcessError as error:
        said = error.stderr.decode(errors="replace").strip().splitlines()
        why = said[-1] if said else f"exit {error.returncode}"
        raise HostError(
            f"systemd-resolved refuses `resolvectl {words[0]}`: {why}.", remedy=_WITHOUT
        ) from None
    except (OSError, subprocess.TimeoutExpired) as error:
        raise HostError(f"systemd-resolved does not answer: {error}.", remedy=_WITHOUT) from None
