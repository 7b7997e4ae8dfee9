"""The way in: out of ESP into the TUN device (RFC 4303 section 3.4, RFC 4301 section 5.2).

Datagrams that came as a burst are opened in one grid, and what follows is decided by columns. Whatever is out
of the ordinary about a burst, it goes packet by packet, and nothing has changed before that is known.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from functools import partial

from espudp.crypto.rows import MAX_BURSTS
from espudp.esp.children import Children
from espudp.esp.drops import Drop
from espudp.esp.elsewhere import Elsewhere
from espudp.esp.events import EventQueue, PeerReady
from espudp.esp.grids import Grids
from espudp.esp.headers import Headers
from espudp.esp.inner import addresses_of, clamped, version_of
from espudp.esp.padding import (
    NEXT_HEADER_IPV4,
    NEXT_HEADER_IPV6,
    NEXT_HEADER_NONE,
    PADDING,
    TRAILER_OCTETS,
    payload_octets,
)
from espudp.esp.sa import Child, InboundSa, State
from espudp.esp.sad import is_spi
from espudp.esp.selectors import Verdict
from espudp.offload import Rows, coalesce
from espudp.wire import ecn, ip
from espudp.wire.address import Path
from espudp.wire.buffer import Buffer
from espudp.wire.train import Burst
from espudp.wire.vnet import Frame, Offload, owned

# Our choice: silence on the known path after which a peer without a replay window may turn up elsewhere.
RESTART_SILENCE_SECONDS = 3.0

# From so many datagrams on rows pay.
MIN_ROWS = 6

# How many pairs of inner addresses are remembered for each SA; then the memory starts anew.
MAX_CHECKED = 64

# RFC 4303 section 2: the whole packet is aligned to it.
_ALIGNMENT = 4

_INNER_VERSION = {NEXT_HEADER_IPV4: ip.IPV4, NEXT_HEADER_IPV6: ip.IPV6}


class Inbound:
    """Opens datagrams, each with the SA that its SPI names."""

    def __init__(
        self, children: Children, drops: Counter[Drop], events: EventQueue, heard: dict[int, float]
    ) -> None:
        """`heard`: connections that have sent something authentic, each with when it last did."""
        self.elsewhere: Elsewhere | None = None
        self.offloads = Offload.NONE
        self._children = children
        self._drops = drops
        self._events = events
        self._heard = heard
        self._find = children.sad.get
        self._grids = Grids()

    def open(
        self, datagrams: Sequence[Buffer] | Burst, path: Path, now: float, tos: int
    ) -> list[Buffer | Frame]:
        """See `DataPath.open`."""
        if type(datagrams) is Burst:
            opened = self.open_burst(datagrams, path, now, tos)
            if opened is not None:
                return opened
            if len(datagrams.pieces) > 1:  # what is odd may be so in one of them
                return self._open_pieces(datagrams, path, now, tos)
            datagrams = list(datagrams)
        packets: list[Buffer | Frame] = []
        start, count = 0, len(datagrams)
        while start < count:
            spi = bytes(datagrams[start][:4])
            end = start + 1
            while end < count and datagrams[end][:4] == spi:
                end += 1
            sa = self._find(spi)
            if sa is None:
                self._miss(datagrams[start:end], path, now, tos, packets)
            else:
                self._open_run(sa, datagrams[start:end], path, now, tos, packets)
            start = end
        return packets

    def _open_pieces(self, burst: Burst, path: Path, now: float, tos: int) -> list[Buffer | Frame]:
        packets: list[Buffer | Frame] = []
        for piece in burst.pieces:
            packets += owned(self.open(Burst(piece, burst.size), path, now, tos))
        return packets

    def _miss(
        self, run: Sequence[Buffer], path: Path, now: float, tos: int, packets: list[Buffer | Frame]
    ) -> None:
        """Datagrams of one SPI that is not known here, as far as we have heard."""
        if self.elsewhere is not None and self.elsewhere.take_datagrams(run, path, tos):
            return
        octets, count = bytes(run[0][:4]), len(run)
        spi = int.from_bytes(octets, "big")
        if len(octets) < 4:
            self._drops[Drop.RUNT] += count
        elif not is_spi(spi):
            self._drops[Drop.RESERVED_SPI] += count
        elif (sa := self._find_late(octets, now)) is not None:
            self._open_run(sa, run, path, now, tos, packets)
        else:
            self._drops[Drop.UNKNOWN_SPI] += count
            self._events.unknown_spi(spi, path, now)

    def _find_late(self, spi: bytes, now: float) -> InboundSa | None:
        if self.elsewhere is not None and self.elsewhere.catch_up(now):
            return self._find(spi)
        return None

    # Packet by packet

    def _open_run(
        self,
        sa: InboundSa,
        run: Sequence[Buffer],
        path: Path,
        now: float,
        tos: int,
        packets: list[Buffer | Frame],
    ) -> None:
        """Open datagrams of one SA, and stop where its life ends."""
        child, usage = sa.child, sa.usage
        alive = now < child.ends_at and child.state is not State.EXPIRED
        stays_low = alive and usage.stays_low(len(run), sum(map(len, run)))
        if not stays_low:
            if len(run) > 1:
                for datagram in run:
                    self._open_run(sa, [datagram], path, now, tos, packets)
                return
            if not alive or usage.spent:
                self._children.wear(child, now)
                self._drop(sa, Drop.EXPIRED)
                return
        highest = sa.window.highest
        plaintexts: list[bytes] = []
        for datagram in run:
            plaintext = sa.open(datagram)
            if isinstance(plaintext, Drop):
                self._drop(sa, plaintext)
            else:
                plaintexts.append(plaintext)
        if plaintexts:
            self._deliver(sa, plaintexts, tos, packets)
            usage.packets += len(plaintexts)
            self._heard_from(child, path, now, advanced=sa.window.highest > highest)
            if not stays_low:
                self._wear(child, now)

    def _deliver(
        self, sa: InboundSa, plaintexts: Iterable[bytes], tos: int, packets: list[Buffer | Frame]
    ) -> None:
        unwrap = self._unwrap if sa.headers is None else partial(self._dress, sa.headers)
        for plaintext in plaintexts:
            packet = unwrap(sa, plaintext, tos)
            if isinstance(packet, Drop):
                self._drop(sa, packet)
            else:
                packets.append(packet)

    def _unwrap(self, sa: InboundSa, plaintext: bytes, tos: int) -> Buffer | Drop:
        """The inner packet of an authentic plaintext (RFC 4303 section 3.4.4.1, RFC 4301 section 5.2)."""
        end = payload_octets(plaintext)
        if end < 0:
            return Drop.PADDING
        version = _INNER_VERSION.get(plaintext[-1])
        if version is None:
            return Drop.DUMMY if plaintext[-1] == NEXT_HEADER_NONE else Drop.NEXT_HEADER
        # What follows the inner packet in front of the padding is TFC padding (RFC 4303 section 2.7).
        outline = ip.outline(plaintext, end)
        if outline is None or plaintext[0] >> 4 != version:
            return Drop.INNER_HEADER
        octets, addresses, _, may_be_syn = outline
        packet: Buffer = plaintext[:octets]
        if addresses not in sa.checked and not _may_carry(sa, addresses, packet):
            return Drop.SELECTORS
        if tos and ecn.is_news(tos):
            marked = bytearray(packet)
            if not ecn.merge(marked, tos):
                return Drop.CONGESTION
            packet = bytes(marked)
        sa.usage.octets += octets
        return clamped(packet, sa.child.inner_mtu) if may_be_syn else packet

    def _dress(self, headers: Headers, sa: InboundSa, plaintext: bytes, tos: int) -> Buffer | Drop:
        """As `_unwrap` in transport mode: the packet gets an IP header here (RFC 4303 section 3.1.1)."""
        end = payload_octets(plaintext)
        if end < 0:
            return Drop.PADDING
        if plaintext[-1] == NEXT_HEADER_NONE:
            return Drop.DUMMY
        # DSCP and ECN are those of the one header that there is.
        packet = headers.dress(plaintext[-1], bytes(plaintext[:end]), tos)
        if isinstance(packet, Drop):
            return packet
        if not _may_carry(sa, ip.addresses_of(packet), packet):
            return Drop.SELECTORS
        sa.usage.octets += len(packet)
        return clamped(packet, sa.child.inner_mtu) if ip.syn_at(packet) else packet

    # Row by row

    def open_burst(self, burst: Burst, path: Path, now: float, tos: int) -> list[Buffer | Frame] | None:
        """See `DataPath.open_burst`."""
        pieces, width, octets = burst.pieces, burst.size, burst.octets
        count = -(-octets // width)
        sa = self._find(bytes(pieces[0][:4])) if count >= MIN_ROWS else None
        if sa is None or _is_over(sa, now) or not sa.usage.has_room(count, octets):
            return None
        overhead = sa.layout.overhead
        plain, tail = width - overhead, octets % width
        if tail:
            tail -= overhead
            if tail <= TRAILER_OCTETS:
                return None
        if plain <= TRAILER_OCTETS or width % _ALIGNMENT or count > MAX_BURSTS * sa.layout.rows(plain):
            return None
        if self._grids.taken:
            self._grids.reclaim()
        if not self._grids.has(sa.layout, plain, count) and not sa.is_authentic(burst[0]):
            # Grids take time to make, and the place of others: that is for those who have the keys.
            return None
        sheet = self._grids.take(sa.layout, plain, count)
        highest = sa.window.highest
        if not sa.open_rows(pieces, sheet.grid, count, tail):
            return None
        each = -(-len(pieces[0]) // width)
        packets = self._unwrap_rows(sa, sheet.plain.head(count, plain, tail), each, tos)
        sa.usage.packets += count
        self._heard_from(sa.child, path, now, advanced=sa.window.highest > highest)
        self._wear(sa.child, now)
        return packets

    def _unwrap_rows(self, sa: InboundSa, plaintexts: Rows, each: int, tos: int) -> list[Buffer | Frame]:
        """As `_unwrap` for all of them, of which `each` came in one piece."""
        packets: list[Buffer | Frame]
        inner = None if sa.headers is not None or ecn.is_news(tos) else _stripped(plaintexts)
        if inner is not None:
            packets = list(inner) if self.offloads is Offload.NONE else coalesce(inner, self.offloads, each)
            if _may_carry_rows(sa, inner, packets):
                sa.usage.octets += inner.size * (len(inner) - 1) + inner.last
                return packets
        packets = []
        self._deliver(sa, plaintexts, tos, packets)
        return packets

    # What it tells

    def _heard_from(self, child: Child, path: Path, now: float, *, advanced: bool) -> None:
        """What authentic datagrams of a child SA tell about the peer."""
        peer = child.peer
        self._heard[peer.connection] = now
        if child.state is State.STANDBY:
            # RFC 7296 section 2.8: the peer uses the new SA, so it has it.
            self._children.activate(child)
            self._events.tell(PeerReady(peer.connection, child.inbound.spi))
        if path == peer.path:
            peer.path_heard = now
        elif peer.follow and _is_like(path, peer.path) and _is_fresh(child, now, advanced=advanced):
            peer.path, peer.path_heard = path, now
            self._events.moved(peer.connection, path)

    def _wear(self, child: Child, now: float) -> None:
        if child.inbound.usage.worn:
            self._children.wear(child, now)

    def _drop(self, sa: InboundSa, reason: Drop) -> None:
        self._drops[reason] += 1
        sa.drops[reason] += 1


def _is_over(sa: InboundSa, now: float) -> bool:
    return now >= sa.child.ends_at or sa.child.state is State.EXPIRED or sa.usage.spent


def _is_like(path: Path, known: Path) -> bool:
    """Whether ESP goes the same way over both: in UDP on the same port of ours, or without. Both ways are
    received at any time (RFC 7296 section 2.23), and IKE has decided which one is used.
    """
    return path.local.port == known.local.port


def _is_fresh(child: Child, now: float, *, advanced: bool) -> bool:
    """Whether what came in says where the peer is, and not where it used to be.

    `advanced`: it is newer than all before. What comes in on an SA that has been replaced was held back.
    """
    if child.state is State.LINGERING:
        return False
    # Without a window (manual keys) a peer may have started anew, at number 1, and is silent where it was.
    restarted = not child.inbound.window.size and now - child.peer.path_heard >= RESTART_SILENCE_SECONDS
    return advanced or restarted


def _may_carry(sa: InboundSa, addresses: bytes, packet: Buffer) -> bool:
    """RFC 4301 section 5.2 step 4: the SA that brought the packet must be one for such packets."""
    if _may_carry_all(sa, addresses):
        return True
    if sa.selectors.verdict(addresses) is Verdict.NONE:
        return False
    flow = ip.parse_flow(packet)
    return flow is not None and sa.selectors.matches(flow)


def _may_carry_all(sa: InboundSa, addresses: bytes) -> bool:
    """Whether the SA is one for all packets between these addresses."""
    if addresses in sa.checked:
        return True
    if sa.selectors.verdict(addresses) is not Verdict.ALL:
        return False
    if len(sa.checked) >= MAX_CHECKED:
        sa.checked.clear()
    sa.checked.add(addresses)
    return True


def _stripped(plaintexts: Rows) -> Rows | None:
    """The inner packets, if all have the same trailer, and no TFC padding; else each must be looked at."""
    matrix, plain, count = plaintexts.matrix, plaintexts.size, len(plaintexts)
    padding, next_header = matrix.item(0, plain - 2), matrix.item(0, plain - 1)
    version = _INNER_VERSION.get(next_header)
    size = plain - TRAILER_OCTETS - padding
    if version is None or size < ip.IPV4_HEADER_OCTETS or matrix.item(0, 0) >> 4 != version:
        return None
    trailer = PADDING[padding] + bytes((padding, next_header))
    # A last packet that is hardly shorter may only have more padding.
    whole = count if plaintexts.last == plain else count - 1
    trailers = matrix[:whole, size:plain].tobytes()
    if trailers != trailer * whole:
        if whole < count or trailers[: -len(trailer)] != trailer * (whole - 1):
            return None
        whole -= 1
    last = size
    if whole < count:
        tail = matrix[whole, : plaintexts.last].tobytes()
        last = payload_octets(tail)
        if last < ip.IPV4_HEADER_OCTETS or last > size or tail[-1] != next_header:
            return None
    return plaintexts.head(count, size, last)


def _may_carry_rows(sa: InboundSa, inner: Rows, packets: Sequence[Buffer | Frame]) -> bool:
    """Whether the SA may carry all of them, none of which is out of the ordinary.

    `packets` are what they were joined to: those that became one frame have the same header. The first is of
    the IP version that all trailers name.
    """
    if len(packets) <= MAX_BURSTS:
        heads = [packet.parts[0] for packet in packets if isinstance(packet, Frame)]
        if len(heads) == len(packets) and len({head[0] >> 4 for head in heads}) == 1:
            return all(_may_carry_all(sa, ip.addresses_of(head)) for head in heads)
    version = version_of(inner)
    return version != 0 and all(_may_carry_all(sa, pair) for pair in addresses_of(inner, version))
