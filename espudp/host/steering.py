"""How the kernel chooses among several sockets of one kind, and several queues of one TUN device."""

import ctypes
import socket
import struct
from fcntl import ioctl

# asm-generic/socket.h
SO_ATTACH_FILTER, SO_ATTACH_REUSEPORT_CBPF = 26, 51

# linux/filter.h, linux/bpf_common.h: BPF_LD | BPF_W | BPF_ABS, BPF_ALU | BPF_MOD | BPF_K, BPF_RET | BPF_A
_LOAD_WORD, _MODULO, _RETURN = 0x20, 0x94, 0x16
# BPF_LDX | BPF_B | BPF_MSH, BPF_LD | BPF_W | BPF_IND, BPF_JMP | BPF_JEQ | BPF_K, BPF_RET | BPF_K
_HEADER_OCTETS, _LOAD_WORD_BEHIND, _JUMP_UNLESS, _RETURN_CONSTANT = 0xB1, 0x40, 0x15, 0x06
_ALL, _NOTHING = 0xFFFFFFFF, 0

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
    _attach(group, SO_ATTACH_REUSEPORT_CBPF, (_LOAD_WORD, 0), (_MODULO, count), (_RETURN, 0))


def keep_share(raw: socket.socket, version: int, number: int, count: int) -> None:
    """Of what a raw socket would get, let through only that whose first four octets, modulo `count`, are
    `number`. What is shorter, to none: to load from beyond the end is to drop. Raises OSError.

    IPv4 packets have their header in front there, IPv6 packets none.
    """
    load = ((_HEADER_OCTETS, 0), (_LOAD_WORD_BEHIND, 0)) if version == 4 else ((_LOAD_WORD, 0),)
    decide = (_MODULO, count), (_JUMP_UNLESS, number), (_RETURN_CONSTANT, _ALL), (_RETURN_CONSTANT, _NOTHING)
    _attach(raw, SO_ATTACH_FILTER, *load, *decide)


def _attach(s: socket.socket, option: int, *program: tuple[int, int]) -> None:
    """Instructions with their operands; those that jump, over the next one. Raises OSError."""
    instructions = b"".join(
        _INSTRUCTION.pack(code, 0, 1 if code == _JUMP_UNLESS else 0, operand) for code, operand in program
    )
    memory = ctypes.create_string_buffer(instructions, len(instructions))
    s.setsockopt(socket.SOL_SOCKET, option, _PROGRAM.pack(len(program), ctypes.addressof(memory)))


def attach(queue: int) -> None:
    """Let the kernel put packets into a TUN queue again, told by its descriptor. Raises OSError."""
    ioctl(queue, TUNSETQUEUE, _IFREQ.pack(IFF_ATTACH_QUEUE))


def detach(queue: int) -> None:
    """Let it use the other queues alone: nobody reads this one. What waits in it is lost. Raises OSError."""
    ioctl(queue, TUNSETQUEUE, _IFREQ.pack(IFF_DETACH_QUEUE))
