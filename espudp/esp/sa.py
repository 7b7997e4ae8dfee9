"""Security associations: what each direction of a child SA needs per packet, computed once.

An outbound SA turns packets into ESP datagrams; an inbound one turns a datagram back into a
plaintext that is authentic and no replay. Where packets come from and go to is `datapath.py`'s business.
"""

import struct
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from math import inf

import numpy as np

from espudp.crypto.aead import CipherKeys, make_opener, make_sealer
from espudp.crypto.random import Rng, draw
from espudp.crypto.rows import Grid, Plaintexts, layout_of
from espudp.crypto.suites import EspSuite
from espudp.esp.drops import Drop
from espudp.esp.headers import Headers
from espudp.esp.padding import TRAILER_OCTETS, trailers, trailers_of
from espudp.esp.replay import DEFAULT_WINDOW, ReplayWindow
from espudp.esp.selectors import SelectorSet
from espudp.offload.rows import Rows
from espudp.wire.address import Path
from espudp.wire.buffer import Buffer
from espudp.wire.selectors import TrafficSelector
from espudp.wire.train import Burst
from espudp.wire.transport import Transport

# RFC 4303 section 2: SPI and sequence number
ESP_HEADER_OCTETS = 8

_HEADER = struct.Struct("!II")
# RFC 4106 section 5, RFC 7634 section 2.1: what an AEAD authenticates in front, with ESN
_ESN_AAD = struct.Struct("!III")

_LOW = (1 << 32) - 1
_COUNTER = (1 << 64) - 1


@dataclass(frozen=True, slots=True)
class Lifetime:
    """The limits of an SA pair; None: no such limit.

    Seconds count from installation, bytes (of inner packets) and packets for each direction by itself. A
    soft limit asks for a rekey, a hard one ends the SA (RFC 4301 section 4.4.2.1). The packet that reaches a
    hard limit in bytes is still carried.
    """

    soft_seconds: float | None = None
    hard_seconds: float | None = None
    soft_bytes: int | None = None
    hard_bytes: int | None = None
    soft_packets: int | None = None
    hard_packets: int | None = None


@dataclass(frozen=True, slots=True)
class ChildKeys:
    """All that the data path must know of a child SA: a pair of SAs, one for each direction."""

    connection: int
    spi_in: int
    spi_out: int
    suite: EspSuite
    keys_in: CipherKeys = field(repr=False)
    keys_out: CipherKeys = field(repr=False)
    local: tuple[TrafficSelector, ...]
    remote: tuple[TrafficSelector, ...]
    path: Path
    """Where the peer is; of a connection with several SAs, the last one said holds for all."""
    lifetime: Lifetime
    follow_peer: bool
    """Whether authentic traffic from elsewhere moves the connection there (RFC 7296 section 2.23)."""
    inner_mtu: int
    """The largest inner packet, in octets, that fits the path."""
    replay_window: int = DEFAULT_WINDOW
    """In packets; 0: no replay check."""
    replaces: int | None = None
    """The inbound SPI of the SA pair that this one succeeds."""
    sent: int = 0
    """The last sequence number already used with `keys_out`: for keys that outlive a process."""
    received: int = 0
    """The highest sequence number already received under `keys_in`."""
    transport: Transport | None = None
    """None: tunnel mode."""


class Usage:
    """What went through one SA, and how far it may go."""

    __slots__ = ("hard_octets", "hard_packets", "octets", "packets", "soft_octets", "soft_packets")

    def __init__(self, lifetime: Lifetime) -> None:
        self.packets = 0
        self.octets = 0
        self.hard_packets = _limit(lifetime.hard_packets)
        self.hard_octets = _limit(lifetime.hard_bytes)
        self.soft_packets = min(_limit(lifetime.soft_packets), self.hard_packets)
        self.soft_octets = min(_limit(lifetime.soft_bytes), self.hard_octets)

    def stays_low(self, packets: int, octets: int) -> bool:
        """Whether so much more reaches no limit, soft ones included."""
        return self.packets + packets < self.soft_packets and self.octets + octets < self.soft_octets

    def has_room(self, packets: int, octets: int) -> bool:
        """Whether so much more reaches no limit that is not reached already: nothing happens on the way."""
        return self.stays_low(packets, octets) or (
            self.worn
            and self.packets + packets < self.hard_packets
            and self.octets + octets < self.hard_octets
        )

    @property
    def worn(self) -> bool:
        """A soft limit is reached, or a hard one."""
        return self.packets >= self.soft_packets or self.octets >= self.soft_octets

    @property
    def spent(self) -> bool:
        """A hard limit is reached."""
        return self.packets >= self.hard_packets or self.octets >= self.hard_octets


def _limit(value: float | None) -> float:
    return inf if value is None else value


class OutboundSa:
    """Seals packets. The caller sees to it that they stay within the limits of `usage`."""

    __slots__ = (
        *("child", "drops", "headers", "layout", "remote", "selectors", "sequence", "spi", "suite", "usage"),
        *("_block", "_iv_base", "_sealer", "_trailers"),
    )

    def __init__(self, keys: ChildKeys, child: "Child", rng: Rng) -> None:
        suite = keys.suite
        self.spi = keys.spi_out
        self.suite = suite
        self.layout = layout_of(suite)
        self.child = child
        self.remote = keys.remote
        self.selectors = child.selectors
        self.drops: Counter[Drop] = Counter()
        self.sequence = keys.sent
        self.usage = Usage(keys.lifetime)
        # RFC 4303 section 3.3.3: the sequence number never cycles. The SA is worn an eighth before.
        last = _COUNTER if suite.esn else _LOW
        self.usage.hard_packets = min(self.usage.hard_packets, last - keys.sent)
        self.usage.soft_packets = min(self.usage.soft_packets, last - (last >> 3) - keys.sent)
        self._sealer = make_sealer(suite.encr, suite.integ, keys.keys_out, rng)
        # The IV of an AEAD counts from anywhere, and never comes back to where it was within an SA. Keys
        # set up by hand are used again after a restart, when a count from zero would repeat nonces.
        self._iv_base = int.from_bytes(draw(rng, 8), "big")
        self.headers = child.headers
        self._block = suite.encr.block_octets
        self._trailers = trailers(self._block)

    def __repr__(self) -> str:
        return f"<OutboundSa {self.spi:#010x} {self.suite.name}>"

    def seal(self, packets: Sequence[Buffer]) -> list[bytes]:
        """One ESP datagram, from the SPI on, for each IP packet (RFC 4303 section 3.3).

        In transport mode they are such as `headers` carries.
        """
        spi, aead, esn = self.spi, self.suite.integ is None, self.suite.esn
        seal, block, iv_base = self._sealer.seal, self._block, self._iv_base
        by_version, headers = self._trailers, self.headers
        # Used up before they are used: an error below costs numbers and never repeats a nonce.
        sequence = self.sequence
        self.sequence = sequence + len(packets)
        self.usage.packets += len(packets)
        self.usage.octets += sum(map(len, packets))
        datagrams: list[bytes] = []
        for packet in packets:
            sequence += 1
            header = aad = _HEADER.pack(spi, sequence & _LOW)
            tail = b""
            if esn and aead:
                aad = _ESN_AAD.pack(spi, sequence >> 32, sequence & _LOW)
            elif esn:
                # RFC 4303 section 2.2.1: authenticated, and not sent
                tail = (sequence >> 32).to_bytes(4, "big")
            if headers is None:
                plaintext = b"".join((packet, by_version[packet[0] >> 4][len(packet) % block]))
            else:
                next_header, payload = headers.strip(packet)
                plaintext = b"".join((payload, trailers_of(next_header, block)[len(payload) % block]))
            datagrams.append(header + seal((iv_base + sequence) & _COUNTER, aad, plaintext, tail))
        return datagrams

    def trailer(self, version: int, octets: int) -> bytes:
        """What goes behind an inner packet of so many octets."""
        return self._trailers[version][octets % self._block]

    def seal_rows(self, rows: Rows, grid: Grid, each: int) -> Burst:
        """As `seal` for packets of one size, at most as many as the grid has rows. Borrows its memory.

        The burst is of pieces of `each` datagrams.
        """
        matrix, size, count = rows.matrix, rows.size, len(rows)
        version = matrix.item(0, 0) >> 4
        trailer = self.trailer(version, size)
        sequence = self.sequence
        self.sequence = sequence + count
        self.usage.packets += count
        self.usage.octets += rows.size * (count - 1) + rows.last
        grid.number(self.spi, sequence + 1, count)
        tail = b""
        if rows.last != size:
            count -= 1
            tail = matrix[count, : rows.last].tobytes() + self.trailer(version, rows.last)
        plain = grid.plain_octets
        matrix[:count, size:plain] = np.frombuffer(trailer, np.uint8)
        plaintexts = Plaintexts(matrix, rows.slices(0, plain), count, tail)
        self._sealer.seal_rows(grid, self._iv_base + sequence + 1 & _COUNTER, plaintexts)
        end = count * grid.width + (len(tail) + self.layout.overhead if tail else 0)
        step, wire = each * grid.width, grid.wire[:end]
        return Burst(wire[:step], grid.width, *(wire[at : at + step] for at in range(step, end, step)))


class InboundSa:
    """Opens datagrams."""

    __slots__ = (
        *("checked", "child", "drops", "headers", "layout", "min_octets", "selectors", "spi", "suite"),
        *("usage", "window", "_opener"),
    )

    def __init__(self, keys: ChildKeys, child: "Child") -> None:
        suite = keys.suite
        self.spi = keys.spi_in
        self.suite = suite
        self.layout = layout_of(suite)
        self.child = child
        self.selectors = child.selectors.reversed()
        self.headers = child.headers
        # Addresses of packets that the selectors let through without a look at ports.
        self.checked: set[bytes] = set()
        self.drops: Counter[Drop] = Counter()
        self.usage = Usage(keys.lifetime)
        self.window = ReplayWindow(keys.replay_window, suite.esn, keys.received)
        self.min_octets = ESP_HEADER_OCTETS + suite.encr.iv_octets + TRAILER_OCTETS + suite.icv_octets
        self._opener = make_opener(suite.encr, suite.integ, keys.keys_in)

    def __repr__(self) -> str:
        return f"<InboundSa {self.spi:#010x} {self.suite.name}>"

    def is_authentic(self, datagram: Buffer) -> bool:
        """Whether `open` would have a plaintext. Nothing changes."""
        return not isinstance(self.open(datagram, commit=False), Drop)

    def open(self, datagram: Buffer, *, commit: bool = True) -> bytes | Drop:
        """The plaintext with its trailer; or why there is none, and then nothing has changed.

        Without `commit`, nothing changes in any case.
        """
        if len(datagram) < self.min_octets:
            return Drop.RUNT
        # RFC 4303 section 3.4.3: first the window, then the ICV, then the window moves.
        sequence = self.window.check(int.from_bytes(datagram[4:8], "big"))
        if sequence is None:
            return Drop.REPLAY
        view = memoryview(datagram)
        aad: Buffer = view[:8]
        tail = b""
        if self.suite.esn:
            if self.suite.integ is None:
                aad = _ESN_AAD.pack(self.spi, sequence >> 32, sequence & _LOW)
            else:
                tail = (sequence >> 32).to_bytes(4, "big")
        plaintext = self._opener.open(aad, view[8:], tail)
        if plaintext is None:
            return Drop.INTEGRITY
        if commit:
            self.window.commit(sequence)
        return plaintext

    def open_rows(self, pieces: Iterable[memoryview], grid: Grid, count: int, tail: int) -> bool:
        """As `open` for `count` datagrams of a burst, of which the first is for this SA.

        The last one is shorter if `tail`, the octets of its plaintext, is not 0. False: not all are what they
        should be, and nothing has changed.
        """
        grid.load(pieces)
        if not grid.same_spi(self.spi.to_bytes(4, "big"), count):
            return False
        lows = grid.lows(count)
        first = self.window.check_run(lows)
        if first is None:
            return False
        grid.extend(first - lows[0], count)
        if not self._opener.open_rows(grid, count - 1 if tail else count, tail):
            return False
        self.window.commit_run(first, lows)
        return True


class State(Enum):
    """Where in its life a child SA is."""

    STANDBY = "standby"
    """Receives; packets still go out through the SA that it replaces (RFC 7296 section 2.8)."""
    ACTIVE = "active"
    LINGERING = "lingering"
    """Removed; receives what is still on its way."""
    EXPIRED = "expired"
    """Carries nothing more, and waits to be removed."""


class Peer:
    """What the SAs of one connection share."""

    __slots__ = ("children", "connection", "follow", "path", "path_heard")

    def __init__(self, connection: int, path: Path) -> None:
        self.connection = connection
        self.path = path
        self.follow = False
        self.path_heard = -inf
        """When something authentic last came over `path`."""
        self.children: dict[int, Child] = {}


class Child:
    """A child SA: two SAs of opposite direction that come, live and go together."""

    __slots__ = (
        *("ends_at", "headers", "inbound", "inner_mtu", "installed_at", "lifetime", "local", "outbound"),
        *("peer", "remote", "selectors", "soft_at", "soft_told", "state", "successors", "transport"),
    )

    def __init__(self, keys: ChildKeys, peer: Peer, now: float, rng: Rng) -> None:
        """Raises CryptoError or ConfigError if the keys or the replay window do not fit the suite."""
        self.peer = peer
        self.local = keys.local
        self.remote = keys.remote
        self.lifetime = keys.lifetime
        self.transport = keys.transport
        self.headers = None if keys.transport is None else Headers(keys.transport)
        """Of transport mode; None: tunnel mode."""
        self.selectors = SelectorSet(source=keys.local, destination=keys.remote)
        """Of what goes out."""
        self.inbound = InboundSa(keys, self)
        self.outbound = OutboundSa(keys, self, rng)
        self.state = State.STANDBY
        self.inner_mtu = keys.inner_mtu
        self.successors: list[Child] = []
        self.installed_at = now
        self.soft_at = now + _limit(keys.lifetime.soft_seconds)
        self.soft_told = False
        # The hard limit, or the end of lingering.
        self.ends_at = now + _limit(keys.lifetime.hard_seconds)

    @property
    def due(self) -> float:
        """When time alone changes something next; infinity: never."""
        if self.state is State.EXPIRED:
            return inf
        if self.soft_told or self.state is State.LINGERING:
            return self.ends_at
        return min(self.soft_at, self.ends_at)

    @property
    def worn(self) -> bool:
        """A limit in packets or octets is reached, in either direction."""
        return self.outbound.usage.worn or self.inbound.usage.worn

    @property
    def spent(self) -> bool:
        """A hard limit in packets or octets is reached, in either direction."""
        return self.outbound.usage.spent or self.inbound.usage.spent
