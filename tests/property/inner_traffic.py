"""Traffic as applications and kernels make it, for property tests: flows that go on from packet to packet.

Each item becomes packets, and, where a kernel would leave work undone, one frame that stands for them. The
packets are built from the fields, one by one, and not by cutting the frame up.
"""

import struct
from collections import Counter
from dataclasses import dataclass, field, replace

from hypothesis import strategies as st

from espudp.wire.vnet import (
    GSO_ECN,
    GSO_NONE,
    GSO_TCPV4,
    GSO_TCPV6,
    GSO_UDP_L4,
    NEEDS_CSUM,
    Frame,
    VnetHeader,
)
from tests.reference.inner_reference import ones_sum, put16
from tests.unit.esp.peers import LEFT, LEFT6, RIGHT, RIGHT6

FIN, SYN, RST, PSH, ACK, URG, ECE, CWR = (1 << bit for bit in range(8))
TCP, UDP, ICMP, ICMPV6 = 6, 17, 1, 58

# Round trip timestamps behind two NOPs, as every Linux sends them; SACK with one block; what a SYN has.
TIMESTAMPS = bytes([1, 1, 8, 10]) + struct.pack("!II", 0x01020304, 0x05060708)
SACK = bytes([1, 1, 5, 10]) + struct.pack("!II", 0x1111, 0x2222)
OF_SYN = bytes([2, 4, 0x23, 0x28, 4, 2, 1, 3, 3, 7, 0, 0])
ODD_MSS = bytes([1, 2, 4, 0xFF, 0xFF, 1, 1, 1])
OPTIONS = [TIMESTAMPS, b"", TIMESTAMPS + SACK, SACK, OF_SYN, ODD_MSS]

# RFC 8200 section 4.2: a destination options header with one PadN; and two of them
DESTINATION_OPTIONS = bytes([1, 4, 0, 0, 0, 0])
# Router alert, which fragments copy; record route, which they do not
IP_OPTIONS = bytes([148, 4, 0, 0, 7, 3, 4, 1])
THERE, NOWHERE = bytes([10, 3, 0, 1]), bytes([10, 9, 0, 1])

FORMS = ["super", "checksum", "plain"]


@dataclass(frozen=True)
class Flow:
    """Who talks to whom, and what all its IP headers say."""

    version: int = 4
    number: int = 0
    tos: int = 0
    df: bool = True
    extras: int = 0
    """IPv4: octets of options; IPv6: extension headers."""
    dst: bytes = b""

    @property
    def ends(self) -> tuple[bytes, bytes]:
        return (LEFT, self.dst or RIGHT) if self.version == 4 else (LEFT6, self.dst or RIGHT6)


@dataclass(frozen=True)
class TcpItem:
    """One write to a socket: `octets` of data in segments of `mss`."""

    flow: Flow
    octets: int
    mss: int = 1000
    flags: int = ACK
    options: bytes = TIMESTAMPS
    form: str = "plain"
    gap: int = 0
    urgent: int = 0
    window: int = 512
    fault: int = 0
    """Added to the TCP checksum of plain packets."""


@dataclass(frozen=True)
class UdpItem:
    """Datagrams of one size, and a last one that may be shorter."""

    flow: Flow
    count: int
    size: int
    last: int = 0
    form: str = "plain"
    fault: int = 0


@dataclass(frozen=True)
class OtherItem:
    """ICMP, fragments, and what is no packet at all."""

    flow: Flow
    kind: str
    octets: int = 60


@dataclass(frozen=True)
class AlikeItem:
    """Packets of one length that differ in what else there is."""

    octets: int
    kinds: tuple[str, ...]
    form: str = "plain"


Item = TcpItem | UdpItem | OtherItem | AlikeItem


@dataclass
class Made:
    """The packets of an item, and what the TUN device would hand over for them."""

    packets: list[bytes]
    handed: list[bytes | Frame]


@dataclass
class Hosts:
    """Both ends of all flows: what their next packet is numbered."""

    sequence: Counter[Flow] = field(default_factory=Counter)
    identification: Counter[Flow] = field(default_factory=Counter)

    def make(self, item: Item) -> Made:
        match item:
            case TcpItem():
                return self._tcp(item)
            case UdpItem():
                return self._udp(item)
            case AlikeItem():
                made = [self._alike(item, kind) for kind in item.kinds]
                return Made([p for one in made for p in one.packets], [h for one in made for h in one.handed])
        return self._other(item)

    # TCP

    def _tcp(self, item: TcpItem) -> Made:
        self.sequence[item.flow] += item.gap
        data = bytes((n * 7 + n // 251) % 256 for n in range(item.octets))
        cuts = range(0, max(item.octets, 1), item.mss) if not item.flags & SYN else [0]
        pieces = [data[at : at + item.mss] if not item.flags & SYN else data for at in cuts]
        last = len(pieces) - 1
        packets = [
            self._segment(item, piece, self._flags(item, index == 0, index == last), at, index)
            for index, (at, piece) in enumerate(zip(cuts, pieces, strict=True))
        ]
        undone = last == 0 and item.form != "plain"
        if item.form == "super" and last:
            handed: list[bytes | Frame] = [self._super(item, data)]
        elif undone:
            head = self._segment(item, pieces[0], item.flags, 0, 0, partial=True)
            handed = [Frame(VnetHeader(NEEDS_CSUM, GSO_NONE, 0, 0, self._at(item.flow), 16), [head])]
        else:
            packets = [broken(packet, self._at(item.flow) + 16, item.fault) for packet in packets]
            handed = list(packets)
        self.identification[item.flow] += len(packets)
        self.sequence[item.flow] += item.octets + bool(item.flags & (SYN | FIN))
        return Made(packets, handed)

    @staticmethod
    def _flags(item: TcpItem, first: bool, last: bool) -> int:
        """RFC 9293, RFC 3168: PSH and FIN end the data, CWR stands once."""
        return item.flags & ~(0 if last else FIN | PSH) & ~(0 if first else CWR)

    @staticmethod
    def _at(flow: Flow) -> int:
        return len(ip_header(flow, TCP, 0, 0))

    def _segment(
        self, item: TcpItem, data: bytes, flags: int, at: int, index: int, *, partial: bool = False
    ) -> bytes:
        options = item.options
        sequence = (self.sequence[item.flow] + at) % 2**32
        offset = (20 + len(options)) // 4 << 4
        ports = 40000 + item.flow.number, 80
        tcp = struct.pack("!HHIIBBHHH", *ports, sequence, 77, offset, flags, item.window, 0, item.urgent)
        tcp += options + data
        tcp = put16(tcp, 16, summed(item.flow, TCP, tcp, partial=partial))
        return ip_header(item.flow, TCP, len(tcp), self.identification[item.flow] + index) + tcp

    def _super(self, item: TcpItem, data: bytes) -> Frame:
        packet = self._segment(item, data, item.flags, 0, 0, partial=True)
        at = self._at(item.flow)
        kind = (GSO_TCPV4 if item.flow.version == 4 else GSO_TCPV6) | (GSO_ECN if item.flags & CWR else 0)
        headers = at + 20 + len(item.options)
        return Frame(VnetHeader(NEEDS_CSUM, kind, headers, item.mss, at, 16), [packet])

    # UDP

    def _udp(self, item: UdpItem) -> Made:
        sizes = [item.size] * item.count + ([item.last] if item.last else [])
        packets = [self._datagram(item, size, index) for index, size in enumerate(sizes)]
        at = len(ip_header(item.flow, UDP, 0, 0))
        handed: list[bytes | Frame]
        if item.form == "super" and len(sizes) > 1 and item.size:
            whole = self._datagram(item, sum(sizes), 0, partial=True, pattern=sizes)
            handed = [Frame(VnetHeader(NEEDS_CSUM, GSO_UDP_L4, at + 8, item.size, at, 6), [whole])]
        elif item.form == "checksum":
            partial = [self._datagram(item, size, n, partial=True) for n, size in enumerate(sizes)]
            handed = [Frame(VnetHeader(NEEDS_CSUM, GSO_NONE, 0, 0, at, 6), [packet]) for packet in partial]
        else:
            packets = [broken(packet, at + 6, item.fault) for packet in packets]
            handed = list(packets)
        self.identification[item.flow] += len(sizes)
        return Made(packets, handed)

    def _datagram(
        self,
        item: UdpItem,
        octets: int,
        index: int,
        *,
        partial: bool = False,
        pattern: list[int] | None = None,
    ) -> bytes:
        data = (
            b"".join(payload(size, n) for n, size in enumerate(pattern))
            if pattern
            else payload(octets, index)
        )
        udp = struct.pack("!HHHH", 50000 + item.flow.number, 53, 8 + octets, 0) + data
        total = summed(item.flow, UDP, udp, partial=partial)
        # RFC 768: 0 would mean that there is none
        udp = put16(udp, 6, total if partial else total or 0xFFFF)
        return ip_header(item.flow, UDP, len(udp), self.identification[item.flow] + index) + udp

    # The rest

    def _alike(self, item: AlikeItem, kind: str) -> Made:
        octets, form = item.octets, item.form
        match kind.split():
            case ["junk"]:
                made = Made([payload(octets, 9)], [payload(octets, 9)])
            case ["cut"]:
                made = self.make(UdpItem(Flow(), 1, octets - 25))
                made = Made([made.packets[0][:-3]], [made.packets[0][:-3]])
            case ["fragment"]:
                made = self.make(OtherItem(Flow(), "later fragment", octets - 20))
            case ["udp", *rest]:
                flow = alike_flow(rest)
                made = self.make(UdpItem(flow, 1, octets - (28 if flow.version == 4 else 48), form=form))
            case ["broken"]:
                made = self.make(UdpItem(Flow(), 1, octets - 28, fault=0x0100))
            case [flags, *rest]:
                flow = alike_flow(rest)
                data = octets - (52 if flow.version == 4 else 72)
                options, bits = (OF_SYN, SYN) if flags == "syn" else (TIMESTAMPS, ACK)
                made = self.make(TcpItem(flow, data, mss=9000, flags=bits, options=options, form=form))
            case _:
                raise ValueError(kind)
        return made

    def _other(self, item: OtherItem) -> Made:
        flow, data = item.flow, payload(item.octets, 3)
        identification = self.identification[flow]
        self.identification[flow] += 1
        match item.kind:
            case "echo":
                packet = icmp_echo(flow, data, identification)
            case "first fragment" | "later fragment":
                packet = fragment(flow, data + bytes(-len(data) % 8), item.kind[0] == "l", identification)
            case "no udp checksum":
                udp = struct.pack("!HHHH", 50000, 53, 8 + len(data), 0) + data
                packet = ip_header(flow, UDP, len(udp), identification) + udp
            case "gre":
                packet = ip_header(flow, 47, len(data), identification) + data
            case "cut off":
                packet = icmp_echo(flow, data, identification)[:-3]
            case "broken header":
                packet = broken(icmp_echo(flow, data, identification), 10 if flow.version == 4 else 7, 0x101)
            case _:
                packet = data
        return Made([packet], [packet])


def alike_flow(words: list[str]) -> Flow:
    """From some of: 6, there, nowhere, ect0, ce, ef."""
    tos = {"ect0": 2, "ce": 3, "ef": 0xB8}
    to = {"there": THERE, "nowhere": NOWHERE}
    return Flow(
        6 if "6" in words else 4,
        tos=next((tos[word] for word in words if word in tos), 0),
        dst=next((to[word] for word in words if word in to), b""),
    )


def payload(octets: int, salt: int) -> bytes:
    return bytes((n * 3 + salt * 31 + 1) % 256 for n in range(octets))


def broken(packet: bytes, at: int, fault: int) -> bytes:
    """A field changed by `fault`, which 0 leaves alone."""
    value = int.from_bytes(packet[at : at + 2], "big") ^ fault
    return put16(packet, at, value)


def summed(flow: Flow, protocol: int, segment: bytes, *, partial: bool) -> int:
    """The checksum; or what a kernel leaves in the field for others to complete: the pseudo-header's sum."""
    src, dst = flow.ends
    pseudo = src + dst + struct.pack("!II" if len(src) == 16 else "!HH", len(segment), protocol)
    return ones_sum(pseudo) if partial else 0xFFFF - ones_sum(pseudo + segment)


def ip_header(flow: Flow, protocol: int, octets: int, identification: int) -> bytes:
    src, dst = flow.ends
    if flow.version == 6:
        chain = b""
        for number in range(flow.extras):
            following = protocol if number == flow.extras - 1 else 60
            chain += bytes([following, 0]) + DESTINATION_OPTIONS
        first = 6 << 28 | flow.tos << 20 | 0x12345
        header = struct.pack("!IHBB", first, len(chain) + octets, 60 if chain else protocol, 61)
        return header + src + dst + chain
    options = IP_OPTIONS[: flow.extras * 4]
    header = struct.pack(
        "!BBHHHBBH",
        *(0x40 | 5 + flow.extras, flow.tos, 20 + len(options) + octets, identification % 2**16),
        *(0x4000 if flow.df else 0, 61, protocol, 0),
    )
    header += src + dst + options
    return put16(header, 10, 0xFFFF - ones_sum(header))


def icmp_echo(flow: Flow, data: bytes, identification: int) -> bytes:
    protocol = ICMP if flow.version == 4 else ICMPV6
    echo = bytes([8 if flow.version == 4 else 128, 0, 0, 0, 1, 2, 3, 4]) + data
    total = 0xFFFF - ones_sum(echo) if flow.version == 4 else summed(flow, protocol, echo, partial=False)
    return ip_header(flow, protocol, len(echo), identification) + put16(echo, 2, total)


def fragment(flow: Flow, data: bytes, later: bool, identification: int) -> bytes:
    """A piece of a UDP datagram: the first, which shows the ports, or another."""
    offset = 160 if later else 0
    if flow.version == 6:
        # RFC 8200 section 4.5: the offset in units of 8 octets is in the upper 13 bits, then M
        header = struct.pack("!BBHI", UDP, 0, offset // 8 << 3 | 1, identification)
        plain = replace(flow, extras=0)
        return ip_header(plain, 44, len(header) + len(data), 0) + header + data
    packet = ip_header(flow, UDP, len(data), identification)
    packet = put16(put16(packet, 6, 0x2000 | offset // 8), 10, 0)
    return put16(packet, 10, 0xFFFF - ones_sum(packet)) + data


# Datagrams that the kernel has cut up


@dataclass(frozen=True)
class Cut:
    """A UDP datagram in fragments, of which some may be missing, twice there, or out of order."""

    flow: Flow
    octets: int
    size: int
    number: int
    mishaps: tuple[tuple[str, int], ...] = ()

    def pieces(self) -> list[Made]:
        udp = (50000 + self.flow.number).to_bytes(2) + (53).to_bytes(2) + (8 + self.octets).to_bytes(2)
        udp += bytes(2) + payload(self.octets, self.number)
        udp = put16(udp, 6, summed(self.flow, UDP, udp, partial=False) or 0xFFFF)
        found = [self._piece(udp, at) for at in range(0, len(udp), self.size)]
        for what, place in self.mishaps:
            at = place % len(found)
            if what == "lost" and len(found) > 1:
                del found[at]
            elif what == "twice":
                found.insert(at, found[at])
            elif what == "late":
                found.append(found.pop(at))
        return [Made([piece], [piece]) for piece in found]

    def _piece(self, udp: bytes, at: int) -> bytes:
        data, more = udp[at : at + self.size], at + self.size < len(udp)
        if self.flow.version == 6:
            plain = Flow(6, self.flow.number, self.flow.tos)
            fragment = bytes([UDP, 0]) + (at | more).to_bytes(2) + self.number.to_bytes(4)
            return ip_header(plain, 44, 8 + len(data), 0) + fragment + data
        header = ip_header(self.flow, UDP, len(data), self.number)
        header = put16(put16(header, 6, more << 13 | at // 8), 10, 0)
        return put16(header, 10, 0xFFFF - ones_sum(header)) + data


# Strategies

TOS = st.sampled_from([0, 0, 0, 2, 1, 3, 0xB8, 0xBA])
FLOWS = st.one_of(
    st.builds(Flow, st.sampled_from([4, 6]), st.integers(0, 2)),
    st.builds(Flow, st.sampled_from([4, 6]), st.integers(0, 2), TOS, st.booleans(), st.integers(0, 2)),
    st.builds(Flow, st.just(4), dst=st.sampled_from([THERE, NOWHERE])),
)
FORM = st.sampled_from(FORMS)
FAULT = st.sampled_from([0, 0, 0, 0, 1, 0x8000])
FLAGS = st.sampled_from(
    [
        ACK,
        ACK,
        ACK | PSH,
        ACK | PSH | FIN,
        ACK | ECE,
        ACK | CWR,
        ACK | CWR | PSH,
        ACK | URG,
        RST,
        SYN,
        SYN | ACK,
    ]
)
TCP_ITEMS = st.builds(
    TcpItem,
    FLOWS,
    octets=st.one_of(st.integers(0, 40), st.integers(0, 3000), st.integers(3000, 9000)),
    mss=st.sampled_from([1000, 1000, 1288, 536, 87]),
    flags=FLAGS,
    options=st.sampled_from(OPTIONS),
    form=FORM,
    gap=st.sampled_from([0, 0, 0, 0, 1, -1000]),
    urgent=st.sampled_from([0, 0, 0, 5]),
    window=st.sampled_from([512, 512, 513]),
    fault=FAULT,
)
BULK = st.builds(
    TcpItem,
    st.builds(Flow, st.sampled_from([4, 6]), st.integers(0, 1)),
    octets=st.integers(2000, 9000),
    mss=st.sampled_from([1000, 1200]),
    form=st.sampled_from(["super", "plain"]),
)
UDP_ITEMS = st.builds(
    UdpItem,
    FLOWS,
    count=st.integers(1, 20),
    size=st.one_of(st.integers(0, 60), st.integers(1000, 1360)),
    last=st.sampled_from([0, 0, 1, 30]),
    form=FORM,
    fault=FAULT,
).map(lambda item: replace(item, last=min(item.last, item.size)))
OTHER_ITEMS = st.builds(
    OtherItem,
    FLOWS,
    st.sampled_from(
        [
            "echo",
            "first fragment",
            "later fragment",
            "no udp checksum",
            "gre",
            "cut off",
            "broken header",
            "junk",
        ]
    ),
    octets=st.one_of(st.integers(0, 70), st.integers(1300, 1420)),
)
KINDS = ["udp", "tcp", "udp ect0", "udp ef", "udp there", "udp nowhere", "udp ce", "tcp ce", "syn"]
KINDS += ["udp 6", "tcp 6", "syn 6", "tcp 6 ect0", "fragment", "cut", "junk", "broken"]


def all_but_one(usual: str, count: int, odd: str, place: int) -> tuple[str, ...]:
    kinds = [usual] * count
    kinds.insert(place % (count + 1), odd)
    return tuple(kinds)


ALIKE_ITEMS = st.builds(
    AlikeItem,
    # Whole fragments fit into these.
    st.sampled_from([84, 100, 1004, 1396, 1404]),
    st.lists(st.sampled_from(KINDS), min_size=3, max_size=16).map(tuple)
    | st.builds(
        all_but_one,
        st.sampled_from(["udp", "tcp", "udp 6", "tcp 6"]),
        st.integers(4, 20),
        st.sampled_from(KINDS),
        st.integers(0, 20),
    ),
    form=st.sampled_from(["plain", "plain", "checksum"]),
)
# What a kernel hands over at once when it may, and more than one send takes.
HUGE = st.builds(
    TcpItem,
    st.builds(Flow, st.sampled_from([4, 6]), st.integers(0, 1)),
    octets=st.sampled_from([40_000, 60_001, 65_000]),
    mss=st.sampled_from([1348, 536]),
    form=st.just("super"),
)
ITEMS = st.one_of(BULK, ALIKE_ITEMS, TCP_ITEMS, TCP_ITEMS, UDP_ITEMS, OTHER_ITEMS)
TRAINS = st.one_of(BULK, ALIKE_ITEMS, HUGE)
