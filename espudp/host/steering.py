"""Several sockets on one UDP port, and a program in the kernel that picks one by the SPI."""

import ctypes
import socket
import struct

# asm-generic/socket.h
SO_ATTACH_REUSEPORT_CBPF = 51

# linux/filter.h, linux/bpf_common.h: BPF_LD | BPF_W | BPF_ABS, BPF_ALU | BPF_MOD | BPF_K, BPF_RET | BPF_A
_LOAD_WORD, _MODULO, _RETURN = 0x20, 0x94, 0x16

# struct sock_filter: code, jt, jf, k; struct sock_fprog: number of instructions, where they are
_INSTRUCTION = struct.Struct("=HBBI")
_PROGRAM = struct.Struct("@HP")


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
