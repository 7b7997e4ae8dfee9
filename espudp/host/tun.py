"""The TUN device: inner packets from and to the kernel, with work that each leaves to the other.

Opened with IFF_VNET_HDR it carries super-packets: up to 64 KB of one flow in one system call. What an older
kernel cannot do falls away one step at a time: UDP, then TCP, then the header in front of each packet.
"""

import errno
import os
import socket
import struct
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import closing, suppress
from fcntl import ioctl
from pathlib import Path

import pytun

from espudp.errors import ConfigError, HostError, WireError
from espudp.offload import finished, segment
from espudp.wire import vnet
from espudp.wire.buffer import Buffer
from espudp.wire.train import TOGETHER
from espudp.wire.vnet import GSO_ECN, GSO_NONE, NEEDS_CSUM, PLAIN, VNET_OCTETS, Frame, Offload, VnetHeader

MAX_PACKET_OCTETS = 65535
MAX_NAME_OCTETS = 15  # IFNAMSIZ without the terminating zero

# linux/if_tun.h, in the encoding of asm-generic/ioctl.h
TUNSETOFFLOAD, TUNGETIFF, TUNSETVNETHDRSZ = 0x4004_54D0, 0x8004_54D2, 0x4004_54D8
TUN_F_CSUM, TUN_F_TSO4, TUN_F_TSO6, TUN_F_TSO_ECN, TUN_F_USO4, TUN_F_USO6 = 0x01, 0x02, 0x04, 0x08, 0x20, 0x40
_FLAGS = pytun.IFF_TUN | pytun.IFF_NO_PI
_IFREQ = struct.Struct("=16sH22x")  # linux/if.h: name, flags

# From the best to the least: what is asked of the device, what that makes it take, and what a person is told
# who gets less than that.
_CSUM_AND_TSO = TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6 | TUN_F_TSO_ECN
_TCP = Offload.CHECKSUM | Offload.TSO4 | Offload.TSO6
_STEPS = (
    (
        _CSUM_AND_TSO | TUN_F_USO4 | TUN_F_USO6,
        _TCP | Offload.USO4 | Offload.USO6,
        "UDP goes through the TUN device packet by packet: the kernel has no segmentation offload for it "
        "there (Linux has since 6.2).",
    ),
    (
        _CSUM_AND_TSO,
        _TCP,
        "TCP goes through the TUN device packet by packet, several times slower: the kernel has no "
        "segmentation offload there.",
    ),
)
_NO_HEADER = (
    "Everything goes through the TUN device packet by packet, several times slower: the kernel does not "
    "know IFF_VNET_HDR."
)
_NO_QUEUES = "The kernel gives a TUN device one queue only: the work stays with one process."

# A super-packet is hardly longer; so many are worked on together, while the processor's caches have them.
SUPER_OCTETS = 56 << 10
READ_OCTETS = TOGETHER * SUPER_OCTETS
_READ_SIZE = VNET_OCTETS + MAX_PACKET_OCTETS

# So many segments of one TCP flow in a batch are a super-packet that was cut up. linux/netdevice.h
CUT_SEGMENTS = 32
GSO_MAX_SEGS = 65535

# RFC 9293 section 3.1; RFC 791 section 3.1, RFC 8200 section 3: behind it are most of the addresses, and
# nothing that differs between packets of one flow.
TCP_CHECKSUM = 16
ADDRESSES = 12

# Kept apart by all their fields, of which a program can make up as many as it likes.
HEADERS_MAX = 1 << 10

# sysconf(_SC_IOV_MAX)
IOV_MAX = 1024

# Packets that wait for us in the kernel, which drops what comes when there are more. Its own 500 are 10 ms of
# a flood of 50,000 a second; a process that shares its cores with what it serves comes round 30 or 80 ms late
# now and then. Of TCP hardly more wait here: a flow's own window ends it long before.
QUEUE_PACKETS = 4096

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

_PLAIN_HEADER = PLAIN.pack()
_new_tuple = tuple.__new__


class TunQueue:
    """An open queue of a TUN device: packets out of it and into it."""

    def __init__(
        self,
        name: str,
        fd: int,
        *,
        header: bool = False,
        offloads: Offload = Offload.NONE,
        on_limit: Callable[[str], None] | None = None,
    ) -> None:
        """`fd` is the queue's, ours from now on. `header`: there is a virtio_net_hdr in front of each packet.

        `on_limit` is told, in a line for a person, each time that the device turns out to take less.
        """
        os.set_blocking(fd, False)
        self._fd = self._out = fd
        self.name = name
        self.header = header
        self.offloads = offloads
        """The frames that `write_batch` should be given; all others it cuts up itself."""
        self.on_limit = on_limit
        self.write_errors: Counter[int] = Counter()
        """Packets that the kernel did not take, by errno."""
        self._headers: dict[bytes, VnetHeader] = {}
        self.limited = header
        """Whether the size of super-packets may be limited for our convenience."""
        self._proven: set[int] = set()  # types of super-packets that the kernel has taken

    def fileno(self) -> int:
        """For the event loop."""
        return self._fd

    def close(self) -> None:
        """Let go of the queue; a device goes with its last one."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def write_through(self, fd: int | None) -> None:
        """Write into another queue of the device, told by its descriptor; None: into this one."""
        self._out = self._fd if fd is None else fd

    def read_batch(self, limit: int) -> list[Buffer | Frame]:
        """Up to `limit` packets that are waiting, or TOGETHER times 64 KB of them; empty when there is none.

        It is also when the link is down. Raises HostError when somebody has removed the device.
        """
        # One os.read into a fresh object each is cheaper than os.readv into memory of ours, be it for packets
        # of 92 octets (0.7 against 0.9 us) or for super-packets (1.7 against 2.0 us).
        packets: list[Buffer | Frame] = []
        room = READ_OCTETS
        fd, with_header, known = self._fd, self.header, self._headers
        try:
            for _ in range(limit):
                data = os.read(fd, _READ_SIZE)
                room -= len(data)
                if not with_header:
                    packets.append(data)
                elif (header := known.get(data[:VNET_OCTETS]) or self._learn(data[:VNET_OCTETS])) is PLAIN:
                    packets.append(data[VNET_OCTETS:])
                else:
                    # A copy is cheaper than a view, but of super-packets; and this than Frame(...), by half.
                    packet = memoryview(data)[VNET_OCTETS:] if header.gso_size else data[VNET_OCTETS:]
                    packets.append(_new_tuple(Frame, (header, (packet,))))
                if room <= 0:
                    break
        except OSError as error:  # EAGAIN: drained; EIO: the link is down
            if error.errno == errno.EBADFD:
                raise HostError(
                    f"The TUN device {self.name} was removed.",
                    remedy="Start espudp again; end it with Ctrl-C or SIGTERM.",
                ) from None
        if self.limited and len(packets) >= CUT_SEGMENTS and room <= READ_OCTETS - SUPER_OCTETS:
            self._watch(packets)
        return packets

    def _learn(self, octets: bytes) -> VnetHeader:
        """A header not met before; PLAIN for all that leave nothing to do."""
        header = VnetHeader.unpack(octets)
        if header.gso_type == GSO_NONE and not header.flags & NEEDS_CSUM:
            header = PLAIN
        if len(self._headers) >= HEADERS_MAX:
            self._headers.clear()
        self._headers[octets] = header
        return header

    def _watch(self, packets: list[Buffer | Frame]) -> None:
        """Allow larger super-packets if the kernel has cut one up for being larger than we allow.

        That happens to what is forwarded, made by hosts that know nothing of our limit, and is worse than two
        sends: it comes packet by packet. Our own host sends so many segments singly only to repair losses.
        """
        first, last = packets[0], packets[CUT_SEGMENTS - 1]
        if not (isinstance(first, Frame) and isinstance(last, Frame) and _same_tcp_flow(first, last)):
            return
        if _is_ours(first.parts[0]):
            return
        self.limited = False
        with suppress(OSError):
            _set_link(self.name, gso_max_segs=GSO_MAX_SEGS)

    def write_batch(self, packets: Iterable[Buffer | Frame]) -> None:
        """Hand packets to the kernel; those it refuses (link down, not IP) are counted."""
        for packet in packets:
            if isinstance(packet, Frame):
                self._write_frame(packet)
            else:
                self._write(packet)

    def _write(self, packet: Buffer) -> None:
        try:
            os.write(self._out, _PLAIN_HEADER + packet if self.header else packet)  # cheaper than os.writev
        except OSError as error:
            self.write_errors[error.errno or 0] += 1

    def _write_frame(self, frame: Frame) -> None:
        header, parts = frame
        if not self.header:
            self._write_cut(frame)
            return
        try:
            os.writev(self._out, (header.pack(), *(parts if len(parts) < IOV_MAX else (frame.packet,))))
            self._proven.add(header.gso_type)
        except OSError as error:
            if error.errno != errno.EINVAL:
                self.write_errors[error.errno or 0] += 1
                return
            # If such frames have been taken before, it is this one that is odd.
            if header.gso_type not in self._proven:
                self._take_no_more(_kind(frame))
            self._write_cut(frame)

    def _write_cut(self, frame: Frame) -> None:
        """What the kernel would have made of it."""
        try:
            if frame.header.gso_type == GSO_NONE:
                self._write(finished(frame))
            else:
                for packet in segment(frame):
                    self._write(packet)
        except WireError:  # not a frame at all
            self.write_errors[errno.EINVAL] += 1

    def _take_no_more(self, kind: Offload) -> None:
        if kind in self.offloads:
            self.offloads &= ~kind
            self._limited(
                f"The TUN device refuses {kind.name} frames: they go into it packet by packet, slower."
            )

    def _limited(self, text: str) -> None:
        if self.on_limit is not None:
            self.on_limit(text)


class TunDevice(TunQueue):
    """One TUN device, gone with the process that opened it, and with it its addresses and routes."""

    def __init__(
        self,
        name: str,
        mtu: int,
        *,
        offload: bool = True,
        queues: bool = False,
        on_limit: Callable[[str], None] | None = None,
    ) -> None:
        """Make the device `name` (`%d` in it becomes the first free number), still down.

        `offload`: with super-packets, as far as the kernel has them. `queues`: of which there can be more
        than one. Raises ConfigError for a name that no interface can have, HostError for a missing driver or
        permission.
        """
        check_device_name(name)
        self.on_limit = on_limit
        self._segments = 0
        wanted = (pytun.IFF_VNET_HDR if offload else 0) | (pytun.IFF_MULTI_QUEUE if queues else 0)
        try:
            self._device = self._open(name, wanted)
            self._device.mtu = mtu
        except OSError as error:
            raise HostError(
                f"The TUN device {name} could not be made: {_reason(error)}.",
                remedy=_REMEDIES.get(error.errno or 0, ""),
            ) from None
        super().__init__(
            self._device.name,
            os.dup(self._device.fileno()),
            header=bool(self._extra & pytun.IFF_VNET_HDR),
            on_limit=on_limit,
        )
        if self.header:
            self.offloads = self._switch_on()
        self._lengthen_queue()

    @property
    def has_queues(self) -> bool:
        """Whether `open_queue` can work."""
        return bool(self._extra & pytun.IFF_MULTI_QUEUE)

    def open_queue(self) -> TunQueue:
        """One more queue of this device; the kernel spreads flows over all of them. Raises HostError."""
        try:
            further = pytun.TunTapDevice(name=self.name, flags=_FLAGS | self._extra)
        except OSError as error:
            raise HostError(f"The TUN device {self.name} gets no further queue: {_reason(error)}.") from None
        fd = os.dup(further.fileno())
        further.close()
        return TunQueue(self.name, fd, header=self.header, offloads=self.offloads, on_limit=self.on_limit)

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

    def close(self) -> None:
        """Remove the device."""
        super().close()
        self._device.close()

    def limit_segments(self, count: int) -> None:
        """Have the kernel make super-packets of at most so many segments."""
        if not (self.offloads and self.limited) or count == self._segments:
            return
        self._segments = count
        try:
            _set_link(self.name, gso_max_segs=count)
        except OSError as error:
            self._limited(
                f"Super-packets may take more than one send each: the kernel does not limit their size "
                f"({error.strerror})."
            )

    def _open(self, name: str, wanted: int) -> pytun.TunTapDevice:
        """With as many of the wanted flags as the kernel has: some refuse the others, some ignore them."""
        for extra in dict.fromkeys((wanted, wanted & pytun.IFF_VNET_HDR, 0)):
            try:
                device = pytun.TunTapDevice(name=name, flags=_FLAGS | extra)
                break
            except OSError as error:
                if error.errno != errno.EINVAL or not extra:
                    raise
        self._extra = extra & _flags_of(device.fileno())
        for flag, missed in ((pytun.IFF_VNET_HDR, _NO_HEADER), (pytun.IFF_MULTI_QUEUE, _NO_QUEUES)):
            if flag & wanted & ~self._extra:
                self._limited(missed)
        return device

    def _switch_on(self) -> Offload:
        """As much as the kernel can do."""
        with suppress(OSError):  # too old for other sizes; one that others left behind may be larger
            ioctl(self._fd, TUNSETVNETHDRSZ, struct.pack("=i", VNET_OCTETS))
        for features, offloads, missed in _STEPS:
            try:
                ioctl(self._fd, TUNSETOFFLOAD, features)
            except OSError:
                self._limited(missed)
            else:
                return offloads
        return Offload.NONE

    def _lengthen_queue(self) -> None:
        with suppress(OSError):
            _set_link(self.name, queue_packets=QUEUE_PACKETS)


def check_device_name(name: str) -> None:
    """Raises ConfigError for a name that no network interface can have."""
    if not name or len(name) > MAX_NAME_OCTETS or not name.isascii() or any(c in "/: \t\n" for c in name):
        raise ConfigError(
            f"{name!r} cannot be the name of a network interface.",
            field="dev",
            remedy=f"Use 1 to {MAX_NAME_OCTETS} letters and digits, such as esp0.",
        )


def _set_link(name: str, **changes: int) -> None:
    # Imported where it is used: it is large, and a worker process, which has a queue only, has no need of it.
    from espudp.host.netlink import Netlink

    with closing(Netlink()) as netlink:
        netlink.set_link(socket.if_nametoindex(name), **changes)


def _flags_of(fd: int) -> int:
    """Those that a device has."""
    try:
        flags: int = _IFREQ.unpack(ioctl(fd, TUNGETIFF, bytes(_IFREQ.size)))[1]
    except OSError:  # from before there were such flags
        return 0
    return flags


def _same_tcp_flow(one: Frame, other: Frame) -> bool:
    """Of single packets, which the kernel gives us with their checksums to complete."""
    header, packet, further = one.header, one.parts[0], other.parts[0]
    ports_end = header.csum_start + 4
    return (
        header is other.header
        and header.gso_type == GSO_NONE
        and header.csum_offset == TCP_CHECKSUM
        and len(packet) == len(further)
        and packet[ADDRESSES:ports_end] == further[ADDRESSES:ports_end]
    )


def _is_ours(packet: Buffer) -> bool:
    """Whether it comes from an address of this host: one that can be bound to."""
    four = packet[0] >> 4 == 4
    family, source = (socket.AF_INET, packet[12:16]) if four else (socket.AF_INET6, packet[8:24])
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((socket.inet_ntop(family, source), 0))
        except OSError:
            return False
    return True


def _kind(frame: Frame) -> Offload:
    version = frame.parts[0][0] >> 4
    match frame.header.gso_type & ~GSO_ECN:
        case vnet.GSO_TCPV4:
            return Offload.TSO4
        case vnet.GSO_TCPV6:
            return Offload.TSO6
        case vnet.GSO_UDP_L4:
            return Offload.USO4 if version == 4 else Offload.USO6
    return Offload.CHECKSUM


def _reason(error: OSError) -> str:
    if error.errno in (errno.ENOENT, errno.ENODEV, errno.ENXIO):
        return f"{NODE} is missing"
    return os.strerror(error.errno) if error.errno else str(error)
