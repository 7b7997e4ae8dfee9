"""How the kernel chooses among several sockets on one UDP port, and several queues of one TUN device."""

import ctypes
import socket
import struct
from fcntl import ioctl

# asm-generic/socket.h
SO_ATTACH_REUSEPORT_CBPF = 51

# linux/filter.h, linux/bpf_common.h: BPF_LD | BPF_W | BPF_ABS, BPF_ALU | BPF_MOD | BPF_K, BPF_RET | BPF_A
_LOAD_WORD, _MODULO, _RETURN = 0x20, 0x94, 0x16

# struct sock_filter: code, jt, jf, k; struct sock_fprog: number of instructions, where they are
_INSTRUCTION = struct.Struct("=HBBI")
_PROGRAM = struct.Struct("@HP")

# linux/if_tun.h, in the encoding of asm-generic/ioctl.h; linux/if.h: name, which is not looked at, and flags
TUNSETQUEUE = 0x4004_54D9
IFF_ATTACH_QUEUE, IFF_DETACH_QUEUE = 0x0200, 0x0400
_IFREQ = struct.Struct("=16xH22x")


def steer(group: socket.socket, count: int) -> None:
    """Let the first four octets of a datagram, modulo `count`, be the number of the socket that gets it.

    `group` is any of the `count` sockets that share a port; they are numbered in the order in which they
    were bound. What is shorter goes to the first: to load from beyond the end is to return 0. Raises OSError.
    """
    instructions = b"".join(
        _INSTRUCTION.pack(code, 0, 0, operand)
        for code, operand in ((_LOAD_WORD, 0), (_MODULO, count), (_RETURN, 0))
    )
    memory = ctypes.create_string_buffer(instructions, len(instructions))
    program = _PROGRAM.pack(len(instructions) // _INSTRUCTION.size, ctypes.addressof(memory))
    group.setsockopt(socket.SOL_SOCKET, SO_ATTACH_REUSEPORT_CBPF, program)


def attach(queue: int) -> None:
    """Let the kernel put packets into a TUN queue again, told by its descriptor. Raises OSError."""
    ioctl(queue, TUNSETQUEUE, _IFREQ.pack(IFF_ATTACH_QUEUE))


def detach(queue: int) -> None:
    """Let it use the other queues alone: nobody reads this one. What waits in it is lost. Raises OSError."""
    ioctl(queue, TUNSETQUEUE, _IFREQ.pack(IFF_DETACH_QUEUE))
