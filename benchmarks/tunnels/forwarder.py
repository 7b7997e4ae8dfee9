"""The ceiling's program: packets from a TUN device into UDP and back, as fast as Python calls the kernel.

    python -m benchmarks.tunnels.forwarder DEVICE ADDRESS PORT [REMOTE]

Super-packets go as they are, their vnet header in front, as one UDP GSO send; what one UDP GRO receive
brings goes into the TUN device as it is. No cipher, no segmentation, not even a length: it shows what the
system calls alone allow. The side without REMOTE answers whoever said hello last.
"""

import fcntl
import os
import select
import socket
import struct
import sys
from contextlib import suppress

from pyroute2 import IPRoute

from benchmarks.lab import INNER_MTU

# linux/if_tun.h
TUNSETIFF, TUNSETOFFLOAD = 0x400454CA, 0x400454D0
IFF_TUN, IFF_NO_PI, IFF_VNET_HDR = 0x0001, 0x1000, 0x4000
TUN_F_CSUM, TUN_F_TSO4, TUN_F_TSO6 = 0x01, 0x02, 0x04
# linux/udp.h, linux/socket.h
SOL_UDP, UDP_SEGMENT, UDP_GRO = 17, 103, 104
SO_RCVBUFFORCE, SO_SNDBUFFORCE = 33, 32

# What fits into an outer packet of 1500 octets.
SEGMENT_OCTETS = 1500 - 20 - 8
VNET_OCTETS = 10
# One super-packet and its vnet header are one UDP GSO send, which passes an interface uncut if it is with its
# Ethernet, IPv4 and UDP headers no larger than GSO_LEGACY_MAX_SIZE. linux/netdevice.h
SUPER_PACKET_OCTETS = 65536 - 14 - 20 - 8 - VNET_OCTETS
SOCKET_BUFFER_OCTETS = 4 << 20
BATCH = 64
HELLO = b"\0"


def open_tun(name: str, address: str) -> int:
    """The device's descriptor, the device up."""
    tun = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(tun, TUNSETIFF, struct.pack("16sH22x", name.encode(), IFF_TUN | IFF_NO_PI | IFF_VNET_HDR))
    fcntl.ioctl(tun, TUNSETOFFLOAD, TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6)
    with IPRoute() as netlink:
        (index,) = netlink.link_lookup(ifname=name)
        netlink.link("set", index=index, mtu=INNER_MTU, gso_max_size=SUPER_PACKET_OCTETS)
        netlink.addr("add", index=index, address=address)
        netlink.link("set", index=index, state="up")
    return tun


def open_udp(port: int, remote: str | None) -> socket.socket:
    """With segmentation and coalescing in the kernel."""
    udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    for option in (SO_RCVBUFFORCE, SO_SNDBUFFORCE):
        udp.setsockopt(socket.SOL_SOCKET, option, SOCKET_BUFFER_OCTETS)
    udp.setsockopt(SOL_UDP, UDP_SEGMENT, SEGMENT_OCTETS)
    udp.setsockopt(SOL_UDP, UDP_GRO, 1)
    udp.bind(("0.0.0.0", port))
    if remote is not None:
        udp.connect((remote, port))
        udp.send(HELLO)
    return udp


def forward(tun: int, udp: socket.socket) -> None:
    """Until the process is told to end."""
    buffer = memoryview(bytearray(1 << 17))
    poll = select.epoll()
    poll.register(tun, select.EPOLLIN)
    poll.register(udp, select.EPOLLIN)
    while True:
        for descriptor, _ in poll.poll():
            with suppress(BlockingIOError):
                if descriptor == tun:
                    _from_tun(tun, udp, buffer)
                else:
                    _from_udp(tun, udp, buffer)


def _from_tun(tun: int, udp: socket.socket, buffer: memoryview) -> None:
    for _ in range(BATCH):
        octets = os.readv(tun, [buffer])
        with suppress(OSError):  # lost, as on any link; or nobody to send to yet
            udp.send(buffer[:octets])


def _from_udp(tun: int, udp: socket.socket, buffer: memoryview) -> None:
    for _ in range(BATCH):
        octets, sender = udp.recvfrom_into(buffer)
        if octets == len(HELLO):
            udp.connect(sender)
            continue
        with suppress(OSError):
            os.write(tun, buffer[:octets])


def main() -> None:
    """The command line above; says "ready" when it is."""
    device, address, port, *remote = sys.argv[1:]
    tun = open_tun(device, address)
    udp = open_udp(int(port), remote[0] if remote else None)
    print("ready", flush=True)
    forward(tun, udp)


if __name__ == "__main__":
    main()
