"""The ESP data path in its plainest form: one packet at a time, nothing remembered that can be worked out.

Written from RFC 4301, RFC 4303 and RFC 6040, and from what espudp promises of its own (docstrings of
`DataPath`, `Lifetime`, `ChildKeys`); it shares no code with espudp.esp. Ciphers are those of the plain
reference of ESP. Where a sender has a choice (the IV) the reference is told what was chosen.
"""

from collections import Counter
from dataclasses import dataclass, field
from functools import cache
from ipaddress import IPv4Network, IPv6Network, ip_network
from math import inf
from typing import NamedTuple

from espudp.crypto.suites import EspSuite, Mode
from espudp.esp.sa import ChildKeys
from espudp.wire.address import Path
from espudp.wire.selectors import TrafficSelector
from tests.reference import inner_reference as inner
from tests.reference import transport_reference as transport
from tests.unit.esp import reference as esp

Network = IPv4Network | IPv6Network

LOWEST_MTU_OF_IPV6 = 1280
REPLIES_AT_ONCE, REPLIES_PER_SECOND = 64, 100.0
UNKNOWN_AT_ONCE, UNKNOWN_PER_SECOND = 8, 1.0
RESTART_SILENCE = 3.0


class Sealed(NamedTuple):
    """What goes out for one packet: everything but the IV, which is the sender's choice."""

    path: Path
    tos: int
    spi: int
    sequence: int
    plaintext: bytes
    keys: ChildKeys

    def bytes_with(self, iv: bytes) -> bytes:
        return self.bytes_of(iv, self.plaintext)

    def bytes_of(self, iv: bytes, plaintext: bytes) -> bytes:
        """With another plaintext under the same number."""
        return esp.seal(self.keys.suite, self.keys.keys_out, self.spi, self.sequence, iv, plaintext)


@dataclass
class Window:
    """RFC 4303 appendix A2, with a set for the bit map. `size` 0: no anti-replay service."""

    size: int
    esn: bool
    highest: int
    seen: set[int] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.start = self.highest

    def full_number(self, low: int) -> int:
        """Appendix A2.2: cases A and B."""
        if not self.esn:
            return low
        top_high, top_low = divmod(self.highest, 2**32)
        if top_low >= self.size - 1:
            high = top_high if low >= top_low - self.size + 1 else top_high + 1
        else:
            high = top_high - 1 if low >= (top_low - self.size + 1) % 2**32 else top_high
        return high * 2**32 + low

    def lets_through(self, number: int) -> bool:
        if number > self.highest or not self.size:
            return True
        return number > max(self.highest - self.size, self.start) and number not in self.seen

    def mark(self, number: int) -> None:
        self.highest = max(self.highest, number)
        self.seen.add(number)


@dataclass
class Direction:
    """One SA."""

    spi: int
    limit_packets: float
    limit_octets: float
    soft_packets: float
    soft_octets: float
    packets: int = 0
    octets: int = 0
    drops: Counter[str] = field(default_factory=Counter)

    @property
    def spent(self) -> bool:
        return self.packets >= self.limit_packets or self.octets >= self.limit_octets

    @property
    def worn(self) -> bool:
        return self.spent or self.packets >= self.soft_packets or self.octets >= self.soft_octets


@dataclass
class Peer:
    path: Path
    follow: bool = False
    heard_there: float = -inf
    last_heard: float | None = None


@dataclass
class Pair:
    """A child SA: its two SAs."""

    keys: ChildKeys
    peer: Peer
    incoming: Direction
    outgoing: Direction
    window: Window
    sequence: int
    mtu: int
    soft_at: float
    ends_at: float
    rank: int = 0
    state: str = "standby"
    told: bool = False
    successors: list["Pair"] = field(default_factory=list)

    @property
    def suite(self) -> EspSuite:
        return self.keys.suite


def _bound(value: float | None) -> float:
    return inf if value is None else value


class Bucket:
    """So many at once, and so many per second."""

    def __init__(self, at_once: int, per_second: float) -> None:
        self.at_once, self.per_second = at_once, per_second
        self.left, self.when = float(at_once), -inf

    def take(self, now: float) -> bool:
        if self.left < self.at_once:
            self.left = min(self.left + (now - self.when) * self.per_second, self.at_once)
        self.when = now
        if self.left < 1:
            return False
        self.left -= 1
        return True


class ReferenceDataPath:
    """Takes and gives what `DataPath` does, packet by packet."""

    def __init__(self, dscp: int | None = None) -> None:
        self.dscp = dscp
        self.drops: Counter[str] = Counter()
        self.replies: list[bytes] = []
        self.events: Counter[tuple[str, int, int]] = Counter()
        self.unknown: set[int] = set()
        self.pairs: list[Pair] = []
        self.peers: dict[int, Peer] = {}
        self._ranks = 0
        self._pieces = transport.Pieces()
        self._reply_rate = Bucket(REPLIES_AT_ONCE, REPLIES_PER_SECOND)
        self._unknown_rate = Bucket(UNKNOWN_AT_ONCE, UNKNOWN_PER_SECOND)

    # Life of the SAs

    def install(self, keys: ChildKeys, now: float, *, standby: bool = False) -> None:
        peer = self.peers.setdefault(keys.connection, Peer(keys.path))
        peer.path, peer.follow = keys.path, keys.follow_peer
        life = keys.lifetime
        numbers = 2**64 - 1 if keys.suite.esn else 2**32 - 1
        incoming, outgoing = (
            Direction(
                spi, _bound(life.hard_packets), _bound(life.hard_bytes),
                _bound(life.soft_packets), _bound(life.soft_bytes),
            )
            for spi in (keys.spi_in, keys.spi_out)
        )  # fmt: skip
        # RFC 4303 section 3.3.3: numbers never cycle, and new keys are asked for in time
        outgoing.limit_packets = min(outgoing.limit_packets, numbers - keys.sent)
        outgoing.soft_packets = min(outgoing.soft_packets, numbers - numbers // 8 - keys.sent)
        pair = Pair(
            keys, peer, incoming, outgoing,
            Window(keys.replay_window, keys.suite.esn, keys.received), keys.sent, keys.inner_mtu,
            now + _bound(life.soft_seconds), now + _bound(life.hard_seconds),
        )  # fmt: skip
        self.pairs.append(pair)
        old = next((p for p in self.pairs if p.keys.spi_in == keys.replaces), None)
        if standby and old is not None and old.state in ("standby", "active"):
            old.successors.append(pair)
        else:
            self._activate(pair)

    def _activate(self, pair: Pair) -> None:
        if pair.state == "standby":
            self._ranks += 1
            pair.state, pair.rank = "active", self._ranks

    def remove(self, spi_in: int, now: float, *, linger: float = 0.0) -> None:
        for pair in [pair for pair in self.pairs if pair.keys.spi_in == spi_in]:
            self._retire(pair)
            if linger <= 0 or pair.state == "expired":
                self._forget(pair)
            else:
                pair.state, pair.ends_at = "lingering", min(pair.ends_at, now + linger)

    def _forget(self, pair: Pair) -> None:
        self.pairs.remove(pair)
        if all(other.peer is not pair.peer for other in self.pairs):
            del self.peers[pair.keys.connection]
        for other in self.pairs:
            other.successors = [successor for successor in other.successors if successor is not pair]

    def _retire(self, pair: Pair) -> None:
        """No more packets go out through it; who waited for that takes over."""
        waiting, pair.successors, pair.rank = pair.successors, [], 0
        for successor in waiting:
            self._activate(successor)

    def _look_at(self, pair: Pair, now: float) -> None:
        """Whether a limit is reached, which is told once."""
        if pair.state not in ("standby", "active"):
            return
        number = pair.keys.connection, pair.keys.spi_in
        if now >= pair.ends_at or pair.incoming.spent or pair.outgoing.spent:
            pair.state = "expired"
            self._retire(pair)
            self.events["HardExpired", *number] += 1
        elif (now >= pair.soft_at or pair.incoming.worn or pair.outgoing.worn) and not pair.told:
            pair.told = True
            self.events["SoftExpired", *number] += 1

    def handle_timer(self, now: float) -> None:
        for pair in list(self.pairs):
            if pair.state == "lingering":
                if now >= pair.ends_at:
                    self._forget(pair)
            elif now >= pair.ends_at or (now >= pair.soft_at and not pair.told):
                self._look_at(pair, now)

    def set_inner_mtu(self, connection: int, mtu: int) -> None:
        for pair in self.pairs:
            if pair.keys.connection == connection:
                pair.mtu = mtu

    # Out

    def seal(self, packet: bytes, now: float) -> list[Sealed]:
        if not inner.is_whole(packet):
            self.drops["not IP"] += 1
            return []
        pair = self._policy(packet)
        if pair is None and transport.is_fragment(packet) and self._is_between_hosts(packet):
            return self._joined(packet, now)
        if pair is None:
            self.drops["no policy"] += 1
            return []
        pieces = self._fitted(pair, packet, now)
        return [sealed for piece in pieces for sealed in self._send(pair, piece, now)]

    def _is_between_hosts(self, packet: bytes) -> bool:
        """Whether an SA in transport mode has these addresses."""
        ends = tuple(map(str, inner.addresses(packet)))
        modes = (pair.keys.transport for pair in self.pairs)
        return any(mode is not None and (mode.local, mode.shown) == ends for mode in modes)

    def _joined(self, packet: bytes, now: float) -> list[Sealed]:
        """A fragment of this host's: what it completes goes out (RFC 4303 section 3.3.4)."""
        whole, given_up = self._pieces.add(packet, now)
        if given_up:
            self.drops["fragment"] += given_up
        if whole is None:
            return []
        pair = self._policy(whole)
        if pair is None:
            self.drops["no policy"] += 1
        elif pair.keys.transport is None or transport.outgoing(pair.keys.transport, whole) is None:
            self.drops["fragment"] += 1
        else:
            return self._send(pair, whole, now)
        return []

    def _policy(self, packet: bytes) -> Pair | None:
        """The most specific SA that has selectors for it, and of those the newest."""
        source, destination = inner.addresses(packet)
        found = []
        for pair in self.pairs:
            covers = [cover for cover in map(_cover, pair.keys.remote) if destination in cover]
            if not pair.rank or not covers:
                continue
            longest = max(covers, key=lambda cover: cover.prefixlen)
            there = [s for s in pair.keys.remote if _cover(s) == longest]
            # In one network those for certain traffic come before those for all.
            rank = longest.prefixlen, not all(s.any_traffic for s in there), pair.rank
            found.append((rank, pair))
        for _, pair in sorted(found, key=lambda item: item[0], reverse=True):
            ours, theirs = _rows(pair.keys.local, source), _rows(pair.keys.remote, destination)
            if not ours or not theirs:
                continue
            if any(row.any_traffic for row in ours) and any(row.any_traffic for row in theirs):
                return pair
            upper = inner.upper_layer(packet)
            if upper is None:
                return None
            if _allowed(ours, upper, upper.ports[0]) and _allowed(theirs, upper, upper.ports[1]):
                return pair
        return None

    def _fitted(self, pair: Pair, packet: bytes, now: float) -> list[bytes]:
        """The packet, or its fragments, or nothing where its sender has to send less."""
        mtu = pair.mtu
        if len(packet) <= mtu:
            return [inner.clamped(packet, mtu)]
        if inner.may_fragment(packet):
            if pair.keys.transport is not None:
                return [packet]
            pieces = inner.fragments(packet, mtu)
            # RFC 4301 section 7.1: an SA for certain ports does not carry later fragments
            return pieces if _carries(pair.keys.local, pair.keys.remote, pieces[-1]) else [packet]
        if packet[0] >> 4 == 6:
            mtu = max(mtu, LOWEST_MTU_OF_IPV6)
            if len(packet) <= mtu:
                return [packet]
        self._drop(pair.outgoing, "too big")
        answer = inner.too_big(packet, mtu)
        if answer is not None and self._reply_rate.take(now):
            self.replies = [*self.replies, answer][-REPLIES_AT_ONCE:]
        return []

    def _send(self, pair: Pair, packet: bytes, now: float) -> list[Sealed]:
        plaintext = esp.plaintext_of(pair.suite, packet)
        if pair.keys.transport is not None:
            carried = transport.outgoing(pair.keys.transport, packet)
            if carried is None and transport.is_fragment(packet):
                return self._joined(packet, now)
            if carried is None:
                self._drop(pair.outgoing, "fragment")
                return []
            plaintext = esp.plaintext_of(pair.suite, carried.payload, next_header=carried.next_header)
        if now >= pair.ends_at or pair.outgoing.spent:
            self.handle_timer(now)
            self._look_at(pair, now)
            return self.seal(packet, now)
        pair.sequence += 1
        pair.outgoing.packets += 1
        pair.outgoing.octets += len(packet)
        if pair.outgoing.worn:
            self._look_at(pair, now)
        tos = inner.outer_tos(packet, self.dscp)
        return [Sealed(pair.peer.path, tos, pair.outgoing.spi, pair.sequence, plaintext, pair.keys)]

    # In

    def open(self, datagram: bytes, path: Path, now: float, tos: int = 0) -> bytes | None:
        spi = int.from_bytes(datagram[:4], "big")
        pair = next((pair for pair in self.pairs if pair.keys.spi_in == spi), None)
        if len(datagram) < 4:
            self.drops["runt"] += 1
        elif spi < 256:
            self.drops["reserved SPI"] += 1
        elif pair is None:
            self.drops["unknown SPI"] += 1
            if self._unknown_rate.take(now):
                self.unknown.add(spi)
        else:
            return self._receive(pair, datagram, path, now, tos)
        return None

    def _receive(self, pair: Pair, datagram: bytes, path: Path, now: float, tos: int) -> bytes | None:
        sa = pair.incoming
        if now >= pair.ends_at or pair.state == "expired" or sa.spent:
            self._look_at(pair, now)
            return self._refuse(sa, "expired")
        suite = pair.suite
        if len(datagram) < 8 + suite.encr.iv_octets + 2 + suite.icv_octets:
            return self._refuse(sa, "runt")
        number = pair.window.full_number(int.from_bytes(datagram[4:8], "big"))
        if not pair.window.lets_through(number):
            return self._refuse(sa, "replay")
        plaintext = self._decrypted(pair, number, datagram)
        if plaintext is None:
            return self._refuse(sa, "integrity")
        newest = number > pair.window.highest
        pair.window.mark(number)
        sa.packets += 1
        packet, reason = self._unwrapped(pair, plaintext, tos)
        if packet is None:
            self._drop(sa, reason)
        else:
            sa.octets += len(packet)
            packet = inner.clamped(packet, pair.mtu)
        self._heard(pair, path, now, newest=newest)
        return packet

    def _decrypted(self, pair: Pair, number: int, datagram: bytes) -> bytes | None:
        suite = pair.suite
        ciphertext = len(datagram) - 8 - suite.encr.iv_octets - suite.icv_octets
        if suite.encr.mode in (Mode.CBC, Mode.TRIPLE_DES) and ciphertext % suite.encr.block_octets:
            return None
        return esp.open_(suite, pair.keys.keys_in, number, datagram)

    def _unwrapped(self, pair: Pair, plaintext: bytes, tos: int) -> tuple[bytes | None, str]:
        """RFC 4303 sections 2.4 to 2.7, RFC 4301 section 5.2, RFC 6040 section 4.2."""
        octets, next_header = plaintext[-2:] if len(plaintext) >= 2 else (0, 0)
        end = len(plaintext) - 2 - octets
        if len(plaintext) < 2 or end < 0 or plaintext[end:-2] != bytes(range(1, octets + 1)):
            return None, "padding"
        if next_header == 59:
            return None, "dummy"
        if pair.keys.transport is not None:
            return self._dressed(pair, transport.Carried(next_header, plaintext[:end]), tos)
        if next_header not in (esp.IPV4, esp.IPV6):
            return None, "next header"
        length = inner.inner_length(plaintext[:end])
        version = 4 if next_header == esp.IPV4 else 6
        if not length or plaintext[0] >> 4 != version:
            return None, "inner header"
        packet = plaintext[:length]
        if not _carries(pair.keys.remote, pair.keys.local, packet):
            return None, "selectors"
        return inner.with_ecn(packet, tos), "congestion"

    def _dressed(self, pair: Pair, carried: transport.Carried, tos: int) -> tuple[bytes | None, str]:
        """RFC 4303 section 3.1.1: the one IP header that there is is made here."""
        mode = pair.keys.transport
        here = None if mode is None else transport.incoming(mode, carried)
        if mode is None or here is None:
            return None, "next header"
        packet = transport.dressed(mode, here, tos)
        if packet is None:
            return None, "inner header"
        return (packet, "") if _carries(pair.keys.remote, pair.keys.local, packet) else (None, "selectors")

    def _heard(self, pair: Pair, path: Path, now: float, *, newest: bool) -> None:
        peer = pair.peer
        peer.last_heard = now
        self._activate(pair)
        restarted = not pair.window.size and now - peer.heard_there >= RESTART_SILENCE
        if path == peer.path:
            peer.heard_there = now
        elif (
            peer.follow
            and path.local.port == peer.path.local.port
            and pair.state != "lingering"
            and (newest or restarted)
        ):
            peer.path, peer.heard_there = path, now
        if pair.incoming.worn:
            self._look_at(pair, now)

    def _drop(self, sa: Direction, reason: str) -> None:
        self.drops[reason] += 1
        sa.drops[reason] += 1

    def _refuse(self, sa: Direction, reason: str) -> bytes | None:
        self._drop(sa, reason)
        return None

    def counters(self) -> dict[tuple[int, str], tuple[object, ...]]:
        """By the inbound SPI and direction: what `DataPath.snapshot` says of each SA."""
        found: dict[tuple[int, str], tuple[object, ...]] = {}
        for pair in self.pairs:
            sides = [("in", pair.incoming, pair.window.highest), ("out", pair.outgoing, pair.sequence)]
            for name, sa, sequence in sides[: 1 if pair.state == "lingering" else 2]:
                found[pair.keys.spi_in, name] = (
                    pair.state, sequence, sa.packets, sa.octets, dict(sa.drops), pair.peer.path, pair.mtu,
                )  # fmt: skip
        return found


# Selectors


@cache  # three quarters of the time that the property tests took
def _cover(selector: TrafficSelector) -> Network:
    """The smallest network around a selector's range."""
    network: Network = ip_network(selector.first)
    while selector.last not in network:
        network = network.supernet()
    return network


def _rows(selectors: tuple[TrafficSelector, ...], address: inner.Address) -> list[TrafficSelector]:
    return [
        s for s in selectors if s.version == address.version and int(s.first) <= int(address) <= int(s.last)
    ]


def _allowed(rows: list[TrafficSelector], upper: inner.Upper, port: int | str | None) -> bool:
    """RFC 4301 section 4.4.1.1: ANY takes also what cannot be seen, a narrower range does not."""
    for row in rows:
        if row.protocol not in (0, upper.protocol):
            continue
        if row.ports == (0, 0xFFFF) or port == "none":
            return True
        if port is None:
            if row.is_opaque:
                return True
        elif isinstance(port, int) and row.first_port <= port <= row.last_port:
            return True
    return False


def _carries(
    sources: tuple[TrafficSelector, ...], destinations: tuple[TrafficSelector, ...], packet: bytes
) -> bool:
    source, destination = inner.addresses(packet)
    ours, theirs = _rows(sources, source), _rows(destinations, destination)
    if not ours or not theirs:
        return False
    if any(row.any_traffic for row in ours) and any(row.any_traffic for row in theirs):
        return True
    upper = inner.upper_layer(packet)
    return upper is not None and (
        _allowed(ours, upper, upper.ports[0]) and _allowed(theirs, upper, upper.ports[1])
    )
