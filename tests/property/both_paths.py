"""A data path beside its plain reference: both are told and asked the same, and what differs fails.

Borrowed memory is scribbled over as soon as it may be.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from ipaddress import ip_address
from random import Random

from espudp.crypto.suites import EspSuite, Mode
from espudp.esp.datapath import DataPath, HardExpired, PeerMoved, SoftExpired, UnknownSpi
from espudp.esp.sa import ChildKeys, Lifetime
from espudp.wire.address import Path
from espudp.wire.buffer import Buffer
from espudp.wire.selectors import TrafficSelector
from espudp.wire.train import Burst, Train
from espudp.wire.vnet import GSO_ECN, GSO_NONE, GSO_TCPV4, GSO_TCPV6, GSO_UDP_L4, Frame, Offload
from tests.property.inner_traffic import UDP, Hosts, Item, Made
from tests.reference import offload_reference
from tests.reference.datapath_reference import ReferenceDataPath, Sealed
from tests.unit.crypto.seeded import keys_for, seeded_rng
from tests.unit.esp import reference as esp
from tests.unit.esp.peers import (
    ELSEWHERE,
    GCM,
    LEFT_SPI,
    RIGHT_SPI,
    TO_LEFT,
    left_keys,
    selectors,
)

# udp(7) linux: one send or receive; and the largest UDP payload over IPv4
MOST_SEGMENTS, MOST_OCTETS = 64, 65507
KINDS = {
    **{(GSO_NONE, version): Offload.CHECKSUM for version in (4, 6)},
    **{(GSO_TCPV4, 4): Offload.TSO4, (GSO_TCPV6, 6): Offload.TSO6},
    **{(GSO_UDP_L4, 4): Offload.USO4, (GSO_UDP_L4, 6): Offload.USO6},
}
EVERYTHING = Offload.CHECKSUM | Offload.TSO4 | Offload.TSO6 | Offload.USO4 | Offload.USO6
OFFLOADS = [EVERYTHING, Offload.CHECKSUM | Offload.TSO4 | Offload.TSO6, Offload.CHECKSUM, Offload.NONE]


@dataclass(frozen=True)
class Fate:
    """Something that happens to one datagram of all."""

    place: int
    what: str
    value: int = 0


# What only somebody with the keys can do, and what anybody can.
AUTHENTIC = [
    *("padding", "pad length", "dummy", "next header", "other version", "inner length", "tfc"),
    *("foreign source", "header length", "empty", "inner octet"),
]

OUTSIDE = ["flip", "cut", "twice", "swap", "late", "lost", "mark", "spi", "elsewhere", "again"]
OUTSIDE += ["cut to pieces", "held up", "repeated"]


@dataclass(frozen=True)
class Send:
    """A batch of traffic, and what befalls it on its way."""

    items: tuple[Item, ...]
    fates: tuple[Fate, ...] = ()


@dataclass(frozen=True)
class Mtu:
    """The path to the peer turns out to carry this much."""

    octets: int


@dataclass(frozen=True)
class Rekey:
    """A new pair of SAs for the same traffic, which may wait until the peer is seen to use it."""

    standby: bool


@dataclass(frozen=True)
class Wait:
    seconds: float


@dataclass(frozen=True)
class Retire:
    """The oldest pair of SAs is deleted; what is on its way may still come in for a while."""

    linger: float


Step = Send | Mtu | Rekey | Wait | Retire


def base_keys(suite: EspSuite, start: int, lifetime: Lifetime, dns: bool) -> list[ChildKeys]:
    """Child SAs of one connection: for nearly everything, for one more network, and `dns` for UDP port 53."""
    to_dns = TrafficSelector(ip_address("10.2.0.0"), ip_address("10.2.255.255"), UDP, 53, 53)
    special = left_keys(
        GCM, spi_in=LEFT_SPI + 2, spi_out=RIGHT_SPI + 2, keys_out=keys_for(GCM, 8), remote=(to_dns,)
    )
    return [
        left_keys(suite, sent=start, lifetime=lifetime),
        left_keys(
            GCM,
            spi_in=LEFT_SPI + 1,
            spi_out=RIGHT_SPI + 1,
            keys_out=keys_for(GCM, 7),
            remote=selectors("10.3.0.0/16"),
        ),
        *([special] if dns else []),
    ]


def successor(keys: ChildKeys, number: int) -> ChildKeys:
    return replace(
        keys,
        spi_in=LEFT_SPI + 0x100 * number,
        spi_out=RIGHT_SPI + 0x100 * number,
        keys_in=keys_for(keys.suite, 30 + number),
        keys_out=keys_for(keys.suite, 60 + number),
        replaces=LEFT_SPI if number == 1 else LEFT_SPI + 0x100 * (number - 1),
        sent=0,
        received=0,
    )


class Both:
    """A data path and its plain reference, which are told and asked the same."""

    def __init__(self, keys: Sequence[ChildKeys], *, dscp: int | None = None) -> None:
        self.fast = DataPath(seeded_rng(1), dscp=dscp)
        self.plain = ReferenceDataPath(dscp)
        self.now = 0.0
        self.rekeys = 0
        self.events: Counter[tuple[str, int, int]] = Counter()
        self.unknown: set[int] = set()
        self.heard: dict[int, float] = {}
        for child in keys:
            self.install(child)
        self.keys = keys[0]

    def install(self, keys: ChildKeys, *, standby: bool = False) -> None:
        self.do(lambda path: path.install(keys, self.now, standby=standby))

    def do(self, command: Callable[[DataPath | ReferenceDataPath], None]) -> None:
        command(self.fast)
        command(self.plain)

    def step(self, step: Mtu | Rekey | Wait | Retire) -> None:
        match step:
            case Retire(linger):
                spi = self.plain.pairs[0].keys.spi_in if self.plain.pairs else 0
                self.do(lambda path: path.remove(spi, self.now, linger=linger))
            case Mtu(octets):
                self.do(lambda path: path.set_inner_mtu(1, octets))
            case Wait(seconds):
                self.now += seconds
                self.do(lambda path: path.handle_timer(self.now))
            case Rekey(standby):
                self.rekeys += 1
                self.keys = successor(self.keys, self.rekeys)
                self.install(self.keys, standby=standby)

    def check(self) -> None:
        """Drops, counters, states, replies and events."""
        assert {reason.value: count for reason, count in self.fast.drops.items()} == self.plain.drops
        shots = {
            (shot.pair, shot.direction): (
                *(shot.state, shot.sequence, shot.packets, shot.octets),
                *(shot.drops, shot.path, shot.inner_mtu),
            )
            for shot in self.fast.snapshot(self.now)
        }
        assert shots == self.plain.counters()
        assert list(map(bytes, self.fast.take_replies())) == self.plain.replies
        self.plain.replies = []
        self._note_events()
        # An SA that a batch brings from below its soft limit to the hard one need not tell of the first.
        over = {(connection, spi) for kind, connection, spi in self.events if kind == "HardExpired"}
        missing = self.plain.events - self.events
        assert self.events <= self.plain.events
        assert all(kind == "SoftExpired" and (connection, spi) in over for kind, connection, spi in missing)
        # Bounded in rate, and told once for packets that come together.
        assert self.unknown >= self.plain.unknown
        peer = self.plain.peers.get(1)
        self.heard.update(self.fast.take_heard())
        if peer is None or peer.last_heard is None:
            self.heard.clear()
        else:
            assert self.heard == {1: peer.last_heard}

    def _note_events(self) -> None:
        while (event := self.fast.next_event()) is not None:
            match event:
                case SoftExpired(connection, spi) | HardExpired(connection, spi):
                    self.events[type(event).__name__, connection, spi] += 1
                case UnknownSpi(spi):
                    self.unknown.add(spi)
                case PeerMoved():
                    pass  # where to is in the snapshot


# What is handed over is borrowed


def lent(packets: Sequence[bytes | Frame]) -> list[Buffer | Frame]:
    """The same in memory of its own, as a TUN device lends it."""
    return [
        Frame(packet.header, [memoryview(bytearray(packet.packet))])
        if isinstance(packet, Frame)
        else memoryview(bytearray(packet))
        for packet in packets
    ]


def take_back(memory: Sequence[Buffer | Frame]) -> None:
    """Whoever still looks there sees nothing that makes sense."""
    for item in memory:
        for part in item.parts if isinstance(item, Frame) else [item]:
            if isinstance(part, memoryview) and not part.readonly:
                part[:] = b"\xa5" * len(part)


# Out

Sent = list[tuple[Path, int, bytes]]


def sent(trains: Sequence[Train]) -> Sent:
    """Every datagram with its train's path and traffic class; and each train can be sent as it is."""
    for train in trains:
        assert len(train.datagrams)
        if isinstance(train.datagrams, Burst):
            burst = train.datagrams
            pieces = [Burst(piece, burst.size) for piece in burst.pieces]
            assert all(len(piece) <= MOST_SEGMENTS and piece.octets <= MOST_OCTETS for piece in pieces)
            assert all(piece.octets == pieces[0].octets for piece in pieces[:-1])
    return [(train.path, train.tos, bytes(datagram)) for train in trains for datagram in train.datagrams]


def check_sent(suites: dict[int, EspSuite], found: Sent, expected: list[Sealed]) -> None:
    assert [(path, tos, datagram[:8]) for path, tos, datagram in found] == [
        (want.path, want.tos, want.spi.to_bytes(4, "big") + (want.sequence % 2**32).to_bytes(4, "big"))
        for want in expected
    ]
    for (_, _, datagram), want in zip(found, expected, strict=True):
        assert datagram == want.bytes_with(esp.iv_of(suites[want.spi], datagram))


def seal(both: Both, suites: dict[int, EspSuite], made: Sequence[Made]) -> list[tuple[bytes, Sealed]]:
    """As one batch, and packet by packet; what went out, twice."""
    handed = lent([packet for one in made for packet in one.handed])
    found = sent(both.fast.seal(handed, both.now))
    take_back(handed)
    packets = [packet for one in made for packet in one.packets]
    expected = [sealed for packet in packets for sealed in both.plain.seal(packet, both.now)]
    check_sent(suites, found, expected)
    return [(datagram, want) for (_, _, datagram), want in zip(found, expected, strict=True)]


def check_ivs(suite: EspSuite, ivs: list[tuple[int, bytes]]) -> None:
    """A count along with the sequence numbers (RFC 4106 section 3.1, RFC 3686 section 3.1), or none twice."""
    if suite.encr.mode is Mode.NULL:
        assert not any(iv for _, iv in ivs)
    elif suite.encr.counts:
        assert len({(int.from_bytes(iv, "big") - sequence) % 2**64 for sequence, iv in ivs}) <= 1
    else:
        assert len({iv for _, iv in ivs}) == len(ivs)


# In


def altered(plaintext: bytes, what: str, value: int) -> bytes:
    """Of whole blocks again, and mostly of the same length; sealed it is authentic."""
    octets = plaintext[-2]
    end = len(plaintext) - 2 - octets
    match what:
        case "padding" if octets and end >= 0:
            return plaintext[:end] + bytes([plaintext[end] ^ 0x10]) + plaintext[end + 1 :]
        case "pad length":
            return plaintext[:-2] + bytes([value % 256]) + plaintext[-1:]
        case "dummy":
            return plaintext[:-1] + bytes([59])
        case "next header":
            return plaintext[:-1] + bytes([50])
        case "other version":
            return plaintext[:-1] + bytes([41 if plaintext[-1] == 4 else 4])
        case "inner length" | "tfc":
            # More than there is, or less: then the rest is TFC padding (RFC 4303 section 2.7).
            change = 1 + octets + value % 9 if what == "inner length" else -(value % 25)
            at = 2 if plaintext[0] >> 4 == 4 else 4
            length = max(int.from_bytes(plaintext[at : at + 2], "big") + change, 0)
            return plaintext[:at] + (length % 2**16).to_bytes(2, "big") + plaintext[at + 2 :]
        case "foreign source":
            at = 12 if plaintext[0] >> 4 == 4 else 8
            return plaintext[:at] + bytes([192, 0, 2, 1]) + plaintext[at + 4 :]
        case "header length":
            return bytes([plaintext[0] & 0xF0 | value % 16]) + plaintext[1:]
        case "inner octet" if end > 0:
            at = value % end
            return plaintext[:at] + bytes([plaintext[at] ^ 1 + value % 255]) + plaintext[at + 1 :]
        case "empty":
            return bytes(range(1, 15)) + bytes([14, plaintext[-1]])
    return plaintext


@dataclass(frozen=True)
class Arrival:
    """A datagram on its way: with what traffic class, and over which path."""

    datagram: bytes
    tos: int
    path: Path = TO_LEFT


def on_the_way(wire: list[Arrival], fates: Sequence[Fate]) -> list[Arrival]:
    """What becomes of datagrams between here and there."""
    arriving = list(wire)
    for fate in fates:
        if not arriving:
            break
        place = fate.place % len(arriving)
        one = arriving[place]
        at = fate.value % len(one.datagram)
        match fate.what:
            case "flip":
                data = one.datagram[:at] + bytes([one.datagram[at] ^ 0x40]) + one.datagram[at + 1 :]
                arriving[place] = replace(one, datagram=data)
            case "cut":
                arriving[place] = replace(one, datagram=one.datagram[: max(at, 1)])
            case "cut to pieces":
                arriving[place] = replace(one, datagram=one.datagram[: fate.value % 40 + 1])
            case "spi":
                spi = bytes([0, 0, 0, 77]) if fate.value % 2 else b"what"
                arriving[place] = replace(one, datagram=spi + one.datagram[4:])
            case "twice":
                arriving.insert(place, one)
            case "swap":
                arriving[place : place + 2] = arriving[place : place + 2][::-1]
            case "late":
                arriving.append(arriving.pop(place))
            case "held up" | "repeated":
                # A whole train.
                train = arriving[place : place + 4 + fate.value % 12]
                if fate.what == "held up":
                    del arriving[place : place + len(train)]
                arriving += train
            case "lost":
                del arriving[place]
            case "elsewhere":
                arriving[place] = replace(one, path=ELSEWHERE)
            case "mark":
                # A router in trouble marks all that comes by for a while.
                for index in range(place, min(place + 1 + fate.value % 40, len(arriving))):
                    arriving[index] = replace(arriving[index], tos=arriving[index].tos | 3)
    return arriving


def trains_of(arriving: list[Arrival], chance: Random) -> list[tuple[Arrival, list[bytes]]]:
    """As one UDP_GRO receive each brings them: of one size, path and class, and the last may be shorter."""
    trains: list[tuple[Arrival, list[bytes]]] = []
    open_ = False
    for one in arriving:
        first, train = trains[-1] if trains else (one, [])
        same = open_ and (one.path, one.tos) == (first.path, first.tos) and chance.random() < 0.98
        octets = len(first.datagram)
        fits = (
            len(one.datagram) <= octets
            and len(train) < MOST_SEGMENTS
            and (len(train) + 1) * octets <= MOST_OCTETS
        )
        if same and fits:
            train.append(one.datagram)
        else:
            trains.append((one, [one.datagram]))
        open_ = len(one.datagram) == len(trains[-1][0].datagram)
    return trains


def arrive(
    datagrams: list[bytes], *, together: bool, each: int = 0
) -> tuple[Burst | list[Buffer], list[Buffer]]:
    """As a burst, in pieces of `each` if that is not 0, or as a list; and the memory that it is lent in."""
    if together:
        each = each or len(datagrams)
        joined = [b"".join(datagrams[at : at + each]) for at in range(0, len(datagrams), each)]
        memory: list[Buffer] = [memoryview(bytearray(piece)) for piece in joined]
        return Burst(memory[0], len(datagrams[0]), *memory[1:]), memory
    views: list[Buffer] = [memoryview(bytearray(datagram)) for datagram in datagrams]
    return list(views), views


def delivered(packets: Sequence[Buffer | Frame], offload: Offload) -> list[bytes]:
    """Every packet as the kernel would have it in the end."""
    found: list[bytes] = []
    for packet in packets:
        if isinstance(packet, Frame):
            assert KINDS[packet.header.gso_type & ~GSO_ECN, packet.parts[0][0] >> 4] in offload
            found += offload_reference.segment(packet)
        else:
            found.append(bytes(packet))
    return found


class Sender:
    """The other end, which is plain: every packet authentic, but not all of them right."""

    def __init__(self, keys: Sequence[ChildKeys], suite: EspSuite) -> None:
        self.path = ReferenceDataPath()
        self.hosts = Hosts()
        self.suite = suite
        self.chance = Random(4)
        self.history: list[Arrival] = []
        for child in keys:
            self.path.install(child, 0.0)

    def send(self, step: Send) -> list[Arrival]:
        packets = [packet for item in step.items for packet in self.hosts.make(item).packets]
        leaving = [sealed for packet in packets for sealed in self.path.seal(packet, 0.0)]
        plaintexts = [sealed.plaintext for sealed in leaving]
        for fate in step.fates:
            if plaintexts and fate.what in AUTHENTIC:
                place = fate.place % len(plaintexts)
                plaintexts[place] = altered(plaintexts[place], fate.what, fate.value)
        wire = [self._seal(*pair) for pair in zip(leaving, plaintexts, strict=True)]
        self.history += wire
        arriving = on_the_way(wire, step.fates)
        for fate in step.fates:
            if fate.what == "again" and self.history:
                arriving.insert(
                    fate.place % (len(arriving) + 1), self.history[fate.value % len(self.history)]
                )
        return arriving

    def _seal(self, sealed: Sealed, plaintext: bytes) -> Arrival:
        suite = GCM if sealed.spi in (RIGHT_SPI + 1, RIGHT_SPI + 2) else self.suite
        return Arrival(sealed.bytes_of(self.chance.randbytes(suite.encr.iv_octets), plaintext), sealed.tos)


def receive(both: Both, arriving: list[Arrival], offload: Offload, chance: Random) -> None:
    for first, datagrams in trains_of(arriving, chance):
        each = -(-len(datagrams) // chance.randint(1, 6))
        train, memory = arrive(datagrams, together=chance.random() < 0.85, each=each)
        found = delivered(both.fast.open(train, first.path, both.now, first.tos), offload)
        take_back(memory)
        opened = [both.plain.open(datagram, first.path, both.now, first.tos) for datagram in datagrams]
        assert found == [packet for packet in opened if packet is not None]
