"""The TUN device: inner packets from and to the kernel, without a header of the device's own."""

import errno
import os
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import pytun

from espudp.errors import ConfigError, HostError

MAX_PACKET_OCTETS = 65535
MAX_NAME_OCTETS = 15  # IFNAMSIZ without the terminating zero

NODE = Path("/dev/net/tun")
_CONTAINER = "in a container, start it with --device /dev/net/tun --cap-add NET_ADMIN."
_PERMISSION = f"Run espudp as root, or give it CAP_NET_ADMIN; {_CONTAINER}"
_NO_NODE = f"Try `modprobe tun`, then `mkdir -p /dev/net && mknod {NODE} c 10 200`; {_CONTAINER}"
_REMEDIES = {
    errno.ENOENT: _NO_NODE,
    errno.ENODEV: _NO_NODE,
    errno.ENXIO: _NO_NODE,
    errno.EPERM: _PERMISSION,
    errno.EACCES: _PERMISSION,
    errno.EBUSY: "Another process owns a device of that name: stop it, or choose another with --dev.",
    errno.EINVAL: "A network interface of another kind may have that name: choose another with --dev.",
}


class TunDevice:
    """One TUN device, gone with the process that opened it, and with it its addresses and routes."""

    def __init__(self, name: str, mtu: int) -> None:
        """Make the device `name` (`%d` in it becomes the first free number), still down.

        Raises ConfigError for a name that no interface can have, HostError for a missing driver or
        permission.
        """
        check_device_name(name)
        try:
            self._device = pytun.TunTapDevice(name=name, flags=pytun.IFF_TUN | pytun.IFF_NO_PI)
            self._device.mtu = mtu
        except OSError as error:
            raise HostError(
                f"The TUN device {name} could not be made: {_reason(error)}.",
                remedy=_REMEDIES.get(error.errno or 0, ""),
            ) from None
        self.name: str = self._device.name
        self._fd: int = self._device.fileno()
        os.set_blocking(self._fd, False)
        self.write_errors: Counter[int] = Counter()
        """Packets that the kernel did not take, by errno."""

    def fileno(self) -> int:
        """For the event loop."""
        return self._fd

    @property
    def mtu(self) -> int:
        """Octets of the largest inner packet that the kernel hands over."""
        return int(self._device.mtu)

    @mtu.setter
    def mtu(self, octets: int) -> None:
        self._device.mtu = octets

    def up(self) -> None:
        """Bring the link up, without the packets IPv6 would send there to find routers and neighbours."""
        sysctl = Path(f"/proc/sys/net/ipv6/conf/{self.name}/addr_gen_mode")
        if sysctl.exists():
            sysctl.write_text("1")  # IN6_ADDR_GEN_MODE_NONE: no link-local address, so nothing to announce
        self._device.up()

    def read_batch(self, limit: int) -> list[bytes]:
        """Up to `limit` packets that are waiting; empty when there is none or the link is down.

        Raises HostError when somebody has removed the device.
        """
        packets: list[bytes] = []
        try:
            while len(packets) < limit:
                packets.append(os.read(self._fd, MAX_PACKET_OCTETS))
        except OSError as error:  # EAGAIN: drained; EIO: the link is down
            if error.errno == errno.EBADFD:
                raise HostError(
                    f"The TUN device {self.name} was removed.",
                    remedy="Start espudp again; end it with Ctrl-C or SIGTERM.",
                ) from None
        return packets

    def write_batch(self, packets: Iterable[bytes]) -> None:
        """Hand packets to the kernel; those it refuses (link down, not IP) are counted."""
        for packet in packets:
            try:
                os.write(self._fd, packet)
            except OSError as error:
                self.write_errors[error.errno or 0] += 1

    def close(self) -> None:
        """Remove the device."""
        self._device.close()


def check_device_name(name: str) -> None:
    """Raises ConfigError for a name that no network interface can have."""
    if not name or len(name) > MAX_NAME_OCTETS or not name.isascii() or any(c in "/: \t\n" for c in name):
        raise ConfigError(
            f"{name!r} cannot be the name of a network interface.",
            field="dev",
            remedy=f"Use 1 to {MAX_NAME_OCTETS} letters and digits, such as esp0.",
        )


def _reason(error: OSError) -> str:
    if error.errno in (errno.ENOENT, errno.ENODEV, errno.ENXIO):
        return f"{NODE} is missing"
    return os.strerror(error.errno) if error.errno else str(error)
