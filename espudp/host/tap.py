"""Looks at every packet on a link, as fast as tunnels run: is it what it should be, is anything in the clear?

Three packet sockets share the work, so that Python need not handle packets one by one. The kernel's filter
sorts: IKE and ESP in UDP on port 4500 go into a ring in shared memory, in which whole blocks of packets are
searched for plaintext at once; IKE on port 500, and strays, are few or none and read singly.
"""

import ctypes
import mmap
import select
import socket
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from espudp.errors import HostError
from espudp.host.netns import Namespace

# linux/if_ether.h
ETH_P_ALL, ETH_P_IP, ETH_P_ARP = 0x0003, 0x0800, 0x0806
# linux/if_packet.h
SOL_PACKET = 263
PACKET_RX_RING, PACKET_STATISTICS, PACKET_VERSION = 5, 6, 10
TPACKET_V3 = 2
TP_STATUS_KERNEL, TP_STATUS_USER = 0, 1
# asm-generic/socket.h
SO_ATTACH_FILTER = 26

# linux/filter.h, linux/bpf_common.h
LOAD_WORD, LOAD_HALF, LOAD_BYTE = 0x20, 0x28, 0x30
LOAD_HALF_AT_X, LOAD_X_HEADER_LENGTH = 0x48, 0xB1
JUMP_IF_EQUAL, JUMP_IF_SET, RETURN = 0x15, 0x45, 0x06
SKF_AD_PROTOCOL = 0xFFFFF000

PROTOCOL_UDP = 17
IKE_PORT, NATT_PORT = 500, 4500
EVERYTHING = 0xFFFFFFFF  # how much of a packet a filter lets through

BLOCK_OCTETS = 1 << 20
BLOCKS = 48
FRAME_OCTETS = 1 << 11
# A block that is not full is handed over after this time.
RETIRE_MILLISECONDS = 20

# struct tpacket_hdr_v1 within struct tpacket_block_desc: status, packets, offset of the first, octets used
_BLOCK = struct.Struct("=IIII")
_BLOCK_AT = 8
_REQUEST = struct.Struct("=7I")
_STATISTICS = struct.Struct("=II")
_INSTRUCTION = struct.Struct("=HBBI")

MAX_FRAME_OCTETS = 1 << 17


@dataclass(frozen=True, slots=True)
class Count:
    """What was on the link."""

    natt: int
    """Packets to or from UDP port 4500: IKE and ESP. A GSO train counts once."""
    ike: int
    """Packets to or from UDP port 500."""
    strays: tuple[str, ...]
    """Everything else but ARP, in words."""
    plaintext: int
    """Places in which what must be secret was found, plus the strays."""
    octets: int
    """Looked at on port 4500, with link-layer bookkeeping."""
    missed: int
    """Packets that came too fast to be looked at."""


class Tap:
    """Watches an interface of a namespace from now on. `drain` wants to be called several times a second."""

    def __init__(self, namespace: Namespace, interface: str, secrets: Sequence[bytes]) -> None:
        """`secrets` are octets that no packet may contain. Raises HostError."""
        self._secrets = tuple(secrets)
        self._block = 0
        self._octets = self._plaintext = self._natt = self._missed = self._ike = 0
        self._strays: list[str] = []
        try:
            with namespace.inside():
                self._ring = _packet_socket(interface, _filter(natt=EVERYTHING), ring=True)
                self._ike_socket = _packet_socket(interface, _filter(ike=EVERYTHING))
                self._stray_socket = _packet_socket(interface, _filter(other=EVERYTHING))
        except OSError as error:
            raise HostError(
                f"The packets on {interface} cannot be watched: {error.strerror}.",
                remedy="The kernel needs packet sockets (CONFIG_PACKET) and their memory-mapped ring.",
            ) from None
        self._memory = mmap.mmap(self._ring.fileno(), BLOCKS * BLOCK_OCTETS)

    def close(self) -> None:
        """Stop watching."""
        self._memory.close()
        for watched in (self._ring, self._ike_socket, self._stray_socket):
            watched.close()

    def drain(self) -> None:
        """Look at what has come."""
        while self._inspect_block():
            pass
        self._read(self._ike_socket, self._see_ike)
        self._read(self._stray_socket, lambda packet: self._strays.append(_describe(packet)))

    def wait(self, others: Sequence[int], timeout: float) -> None:
        """Until something comes here or on another descriptor, or the time is up; then drain."""
        watched = (self._ring, self._ike_socket, self._stray_socket)
        select.select([*(s.fileno() for s in watched), *others], [], [], timeout)
        self.drain()

    def count(self) -> Count:
        """What there was until now."""
        self.drain()
        statistics = self._ring.getsockopt(SOL_PACKET, PACKET_STATISTICS, _STATISTICS.size + 4)
        packets, missed = _STATISTICS.unpack_from(statistics)  # since they were asked for last
        self._natt += packets
        self._missed += missed
        return Count(
            natt=self._natt,
            ike=self._ike,
            strays=tuple(self._strays),
            plaintext=self._plaintext + len(self._strays),
            octets=self._octets,
            missed=self._missed,
        )

    def _inspect_block(self) -> bool:
        """The next block of the ring, if the kernel is done with it."""
        at = self._block * BLOCK_OCTETS
        status, _, _, used = _BLOCK.unpack_from(self._memory, at + _BLOCK_AT)
        if not status & TP_STATUS_USER:
            return False
        self._search(self._memory[at : at + used])
        self._octets += used
        struct.pack_into("=I", self._memory, at + _BLOCK_AT, TP_STATUS_KERNEL)
        self._block = (self._block + 1) % BLOCKS
        return True

    def _search(self, octets: bytes) -> None:
        self._plaintext += sum(octets.count(secret) for secret in self._secrets)

    def _see_ike(self, packet: bytes) -> None:
        self._ike += 1
        self._search(packet)

    @staticmethod
    def _read(source: socket.socket, look: Callable[[bytes], None]) -> None:
        while True:
            try:
                look(source.recv(MAX_FRAME_OCTETS))
            except BlockingIOError:
                return


def _packet_socket(interface: str, program: bytes, *, ring: bool = False) -> socket.socket:
    # Without protocol it receives nothing before the filter is in place. SOCK_DGRAM: from the IP header on.
    made = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK, 0)
    try:
        instructions = ctypes.create_string_buffer(program, len(program))
        count = len(program) // _INSTRUCTION.size
        made.setsockopt(
            socket.SOL_SOCKET, SO_ATTACH_FILTER, struct.pack("@HP", count, ctypes.addressof(instructions))
        )
        if ring:
            frames = BLOCKS * BLOCK_OCTETS // FRAME_OCTETS
            made.setsockopt(SOL_PACKET, PACKET_VERSION, TPACKET_V3)
            made.setsockopt(
                SOL_PACKET,
                PACKET_RX_RING,
                _REQUEST.pack(BLOCK_OCTETS, BLOCKS, FRAME_OCTETS, frames, RETIRE_MILLISECONDS, 0, 0),
            )
        made.bind((interface, ETH_P_ALL))
    except OSError:
        made.close()
        raise
    return made


def _filter(*, natt: int = 0, ike: int = 0, other: int = 0) -> bytes:
    """A classic BPF program that lets through so many octets of each kind of packet, and of ARP none."""
    to_natt, to_ike, to_other, to_arp = 13, 14, 15, 16
    program = [
        (LOAD_WORD, SKF_AD_PROTOCOL, 0, 0),
        (JUMP_IF_EQUAL, ETH_P_ARP, to_arp, 2),
        (JUMP_IF_EQUAL, ETH_P_IP, 3, to_other),
        (LOAD_BYTE, 9, 0, 0),
        (JUMP_IF_EQUAL, PROTOCOL_UDP, 5, to_other),
        (LOAD_HALF, 6, 0, 0),
        (JUMP_IF_SET, 0x1FFF, to_natt, 7),  # a later fragment: its ports were in the first
        (LOAD_X_HEADER_LENGTH, 0, 0, 0),
        (LOAD_HALF_AT_X, 0, 0, 0),
        (JUMP_IF_EQUAL, NATT_PORT, to_natt, 10),
        (LOAD_HALF_AT_X, 2, 0, 0),
        (JUMP_IF_EQUAL, NATT_PORT, to_natt, 12),
        (JUMP_IF_EQUAL, IKE_PORT, to_ike, to_other),  # the port that IKE is sent to
        (RETURN, natt, 0, 0),
        (RETURN, ike, 0, 0),
        (RETURN, other, 0, 0),
        (RETURN, 0, 0, 0),
    ]
    return b"".join(_assemble(at, *instruction) for at, instruction in enumerate(program))


def _assemble(at: int, code: int, value: int, if_true: int, if_false: int) -> bytes:
    """Jumps are written as the number of the instruction they go to, and encoded as how many they skip."""
    if code in (JUMP_IF_EQUAL, JUMP_IF_SET):
        return _INSTRUCTION.pack(code, if_true - at - 1, if_false - at - 1, value)
    return _INSTRUCTION.pack(code, 0, 0, value)


def _describe(packet: bytes) -> str:
    """One line on a packet that should not be there."""
    if len(packet) < 20 or packet[0] >> 4 != 4:
        return f"{len(packet)} octets that are not IPv4"
    source, destination = (socket.inet_ntoa(packet[at : at + 4]) for at in (12, 16))
    return f"IP protocol {packet[9]}, {source} -> {destination}, {len(packet)} octets"
