"""vpnc: Cisco's clients as others remember them, with an ESP of its own in user space."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.interop.lab import SERVER_ADDRESS, Namespace, Process, wait_until
from tests.interop.peer import secret_file

# What vpnc calls with what mode config has told it: in place of its own, which would change the host.
SCRIPT = """#!/bin/sh
case "$reason" in
connect)
    sysctl -qw "net.ipv6.conf.$TUNDEV.disable_ipv6=1"
    ip address add "$INTERNAL_IP4_ADDRESS/32" dev "$TUNDEV"
    ip link set "$TUNDEV" mtu 1380 up
    i=0
    while [ "$i" -lt "${CISCO_SPLIT_INC:-0}" ]; do
        eval "net=\\$CISCO_SPLIT_INC_${i}_ADDR/\\$CISCO_SPLIT_INC_${i}_MASKLEN"
        ip route add "$net" dev "$TUNDEV"
        i=$((i + 1))
    done
    env >"{told}.part" && mv "{told}.part" "{told}"
    ;;
esac
"""


@dataclass(frozen=True)
class Vpnc:
    """A running vpnc."""

    process: Process
    file: Path

    def wait(self) -> dict[str, str]:
        """Until it is connected; what it was told, by the names of its script."""
        wait_until(self._has_ended_or_is_up, f"vpnc to connect:\n{self.process.output}", seconds=20)
        assert self.process.running, self.process.output
        lines = self.file.read_text().splitlines()
        return dict(line.split("=", 1) for line in lines if "=" in line)

    def _has_ended_or_is_up(self) -> bool:
        return self.file.exists() or not self.process.running


@contextmanager
def vpnc(space: Namespace, folder: Path, group: str, secret: str, **options: str) -> Iterator[Vpnc]:
    """Run vpnc in a namespace until the end of the block; `options` are lines of its configuration."""
    folder.mkdir(parents=True, exist_ok=True)
    told, script = folder / "told", folder / "script"
    script.write_text(SCRIPT.replace("{told}", str(told)))
    script.chmod(0o755)
    settings = {
        "IPSec gateway": SERVER_ADDRESS,
        "IPSec ID": group,
        "IPSec secret": secret,
        "IKE DH Group": "dh14",
        "Perfect Forward Secrecy": "nopfs",
        "NAT Traversal Mode": "natt",
        "Script": str(script),
        "Pidfile": str(folder / "pid"),
        "Debug": "2",
        **{name.replace("_", " "): value for name, value in options.items()},
    }
    lines = [f"{name} {value}" for name, value in settings.items()]
    conf = secret_file(folder / "vpnc.conf", "\n".join([*lines, "No Detach", ""]))
    argv = space.command("vpnc", "--non-inter", str(conf))
    with Process(argv, folder / "vpnc.log") as process:
        yield Vpnc(process, told)
