"""The way out: from the TUN device into ESP (RFC 4303 section 3.3, RFC 4301 section 5.1).

Single packets are sealed one by one, in runs of one SA and one traffic class. Super-packets, and packets
that look alike, are rows of a matrix: what is decided is decided once for all of them, and they are sealed
in one grid. Whatever is out of the ordinary about rows goes the way of single packets.
"""

from collections import Counter, deque
from collections.abc import Sequence

from espudp.crypto.rows import MAX_BURSTS, MAX_ROWS
from espudp.errors import WireError
from espudp.esp.children import Children
from espudp.esp.drops import Drop
from espudp.esp.elsewhere import Elsewhere
from espudp.esp.grids import Grids
from espudp.esp.headers import Headers
from espudp.esp.inner import addresses_of, clamped, version_of
from espudp.esp.reassembly import Reassembly, is_fragment
from espudp.esp.sa import OutboundSa
from espudp.offload import Rows, finish, finished, rows_of, segment, segment_all
from espudp.timing import TokenBucket
from espudp.wire import ecn, ip
from espudp.wire.buffer import Buffer
from espudp.wire.icmp import MIN_IPV6_MTU, too_big
from espudp.wire.train import TOGETHER, Train
from espudp.wire.vnet import GSO_NONE, Frame

# RFC 1812 section 4.3.2.8, RFC 4443 section 2.4 (f): ICMP errors are bounded in rate.
REPLY_BURST = 64
REPLIES_PER_SECOND = 100.0

# From so many single packets on rows pay.
MIN_ALIKE = 8

# A super-packet that would fill more sends, each with memory of its own, is of segments of a few octets:
# whoever made it up, it is not to cost more than they do one by one.
MAX_SENDS = 16


class Outbound:
    """Seals packets, each for the SA that it belongs to."""

    def __init__(self, children: Children, drops: Counter[Drop], dscp: int | None) -> None:
        """Raises ConfigError for a DSCP that cannot be; None: that of the inner packet."""
        self.elsewhere: Elsewhere | None = None
        self._children = children
        self._drops = drops
        self._find = children.spd.lookup
        self._settled = children.spd.settled
        self._outer = ecn.outer_octets(dscp)
        self._grids = Grids()
        self.replies: deque[bytes] = deque(maxlen=REPLY_BURST)
        self._fragments = Reassembly(drops)
        self._reply_rate = TokenBucket(REPLY_BURST, REPLIES_PER_SECOND)

    def seal(self, packets: Sequence[Buffer | Frame], now: float) -> list[Train]:
        """See `DataPath.seal`."""
        if self._grids.taken:
            self._grids.reclaim()
        trains: list[Train] = []
        singles: list[Buffer] = []
        at, count = 0, len(packets)
        while at < count:
            packet, end = packets[at], at + 1
            if isinstance(packet, Frame) and packet.header.gso_type != GSO_NONE:
                self._seal_singles(singles, now, trains)
                singles = []
                supers = [packet]
                if packet.header.gso_size and count > end and type(packets[end]) is Frame:
                    end = _end_of_alike(packets[: at + TOGETHER], at)
                    supers += [one for one in packets[at + 1 : end] if isinstance(one, Frame)]
                self._seal_supers(supers, now, trains)
            elif count - at >= MIN_ALIKE and (end := _end_of_alike(packets, at)) - at >= MIN_ALIKE:
                self._seal_singles(singles, now, trains)
                singles = []
                self._seal_alike(packets[at:end], now, trains)
            else:
                for one in packets[at:end]:
                    try:
                        singles.append(finished(one) if isinstance(one, Frame) else one)
                    except WireError:
                        self._drops[Drop.NOT_IP] += 1
            at = end
        if singles:
            self._seal_singles(singles, now, trains)
        return trains

    def take_replies(self) -> list[bytes]:
        """See `DataPath.take_replies`."""
        replies = list(self.replies)
        self.replies.clear()
        return replies

    # Packet by packet

    def _seal_singles(self, packets: Sequence[Buffer], now: float, trains: list[Train]) -> None:
        run: list[Buffer] = []
        current: OutboundSa | None = None
        tos = 0
        for packet in packets:
            octets = len(packet)
            outline = ip.outline(packet, octets)
            if outline is None or outline[0] != octets:
                self._drops[Drop.NOT_IP] += 1
                continue
            _, addresses, inner_tos, may_be_syn = outline
            sa = self._settled(addresses) or self._find(addresses, packet)
            if sa is None:
                if current is not None and run:  # what is done now must not change what came before
                    self._seal_run(current, run, tos, now, trains)
                    run = []
                if addresses in self._children.hosts and is_fragment(packet):
                    self._join(packet, now, trains)
                    continue
                if (sa := self._miss(packet, now)) is None:
                    continue
            outer_tos = self._outer[inner_tos]
            if sa is not current or outer_tos != tos:
                if current is not None and run:
                    self._seal_run(current, run, tos, now, trains)
                current, tos, run = sa, outer_tos, []
            if octets > sa.child.inner_mtu:
                if run:
                    self._seal_run(sa, run, tos, now, trains)
                    run = []
                self._seal_large(packet, now, trains)
            else:
                run.append(clamped(packet, sa.child.inner_mtu) if may_be_syn else packet)
        if current is not None and run:
            self._seal_run(current, run, tos, now, trains)

    def _miss(self, packet: Buffer, now: float, handed: Sequence[Buffer | Frame] = ()) -> OutboundSa | None:
        """The SA, after all, of a packet that none was known for; None: that is all for the packet.

        `handed`: what another worker gets in its place.
        """
        found = self._find_late(packet, handed or [packet], now)
        if isinstance(found, Drop):
            self._drops[found] += 1
            return None
        return found

    def _find_late(
        self, packet: Buffer, handed: Sequence[Buffer | Frame], now: float
    ) -> OutboundSa | Drop | None:
        """For a packet that no SA is known for, as far as we have heard; None: another worker has it."""
        elsewhere = self.elsewhere
        if elsewhere is None:
            return Drop.NO_POLICY
        if elsewhere.take_packets(packet, handed):
            return None
        if not elsewhere.catch_up(now):
            return Drop.NO_POLICY
        sa = self._find(ip.addresses_of(packet), packet)
        if sa is None and not elsewhere.take_packets(packet, handed):
            return Drop.NO_POLICY
        return sa

    def _seal_run(
        self, sa: OutboundSa, run: Sequence[Buffer], tos: int, now: float, trains: list[Train]
    ) -> None:
        """Seal packets of one SA, at least one, and stop where its life ends."""
        if sa.headers is not None and not all(map(sa.headers.carries, run)):
            self._seal_odd_run(sa, sa.headers, run, tos, now, trains)
            return
        child, usage = sa.child, sa.usage
        alive = now < child.ends_at
        if alive and usage.stays_low(len(run), sum(map(len, run))):
            _append(trains, Train(child.peer.path, sa.seal(run), tos))
        elif len(run) > 1:
            for packet in run:
                self._seal_run(sa, [packet], tos, now, trains)
        elif alive and not usage.spent:
            _append(trains, Train(child.peer.path, sa.seal(run), tos))
            self._children.wear(child, now)
        else:
            # Out of the way with this SA and all whose time is up: another may still carry the packet.
            self._children.handle_timer(now)
            self._children.wear(child, now)
            self._seal_singles(run, now, trains)

    def _seal_odd_run(
        self,
        sa: OutboundSa,
        headers: Headers,
        run: Sequence[Buffer],
        tos: int,
        now: float,
        trains: list[Train],
    ) -> None:
        """Seal what transport mode carries of a run; fragments wait for the rest of their datagram."""
        whole: list[Buffer] = []
        for packet in run:
            if headers.carries(packet):
                whole.append(packet)
            elif is_fragment(packet):
                if whole:  # what the fragment completes comes behind them
                    self._seal_run(sa, whole, tos, now, trains)
                    whole = []
                self._join(packet, now, trains)
            else:
                self._drops[Drop.FRAGMENT] += 1
                sa.drops[Drop.FRAGMENT] += 1
        if whole:
            self._seal_run(sa, whole, tos, now, trains)

    def _join(self, packet: Buffer, now: float, trains: list[Train]) -> None:
        """A fragment between the hosts of transport mode; the datagram goes out with the last one."""
        joined = self._fragments.add(packet, now)
        if joined is None:
            return
        whole = joined.whole
        sa = self._find(ip.addresses_of(whole), whole) or self._miss(whole, now, joined.fragments)
        if sa is not None and sa.headers is not None and sa.headers.carries(whole):
            self._seal_run(sa, [whole], self._outer[ecn.tos_of(whole)], now, trains)
        elif sa is not None:
            self._drops[Drop.FRAGMENT] += 1

    def _seal_large(self, packet: Buffer, now: float, trains: list[Train]) -> None:
        """A packet over the inner MTU, by itself: what went before it may have ended its SA."""
        sa = self._find(ip.addresses_of(packet), packet) or self._miss(packet, now)
        if sa is None:
            return
        pieces = self._cut(sa, packet, now)
        if pieces:
            self._seal_run(sa, pieces, self._outer[ecn.tos_of(packet)], now, trains)

    def _cut(self, sa: OutboundSa, packet: Buffer, now: float) -> Sequence[Buffer]:
        """What to send of a packet over the inner MTU: its fragments; or nothing, and its sender is told."""
        mtu = sa.child.inner_mtu
        if len(packet) <= mtu:
            return [packet]
        if ip.may_fragment(packet):
            if sa.headers is not None:
                return [packet]
            pieces = ip.fragment(packet, mtu)
            # RFC 4301 section 7.1: an SA for certain ports carries no later fragments. The outer packet can
            # be fragmented instead.
            later = ip.parse_flow(pieces[-1])
            return pieces if later is not None and sa.selectors.matches(later) else [packet]
        if packet[0] >> 4 == ip.IPV6:
            # RFC 2473 section 7.1: IPv6 counts on 1280 octets, by fragmenting the outer packet if need be.
            mtu = max(mtu, MIN_IPV6_MTU)
            if len(packet) <= mtu:
                return [packet]
        self._drops[Drop.TOO_BIG] += 1
        sa.drops[Drop.TOO_BIG] += 1
        reply = too_big(packet, mtu)
        if reply is not None and self._reply_rate.take(now):
            self.replies.append(reply)
        return []

    # Row by row

    def _seal_supers(self, frames: Sequence[Frame], now: float, trains: list[Train]) -> None:
        """Super-packets with the same work left; together, if they are as if they were one."""
        found = self._route_supers(frames) if len(frames) > 1 else None
        rows = None if found is None else segment_all(frames)
        if found is None or rows is None or rows.size > found[0].child.inner_mtu:
            for frame in frames:
                self._seal_super(frame, now, trains)
            return
        sa, tos = found
        self._seal_rows(sa, rows, tos, now, trains, len(rows) // len(frames))

    def _route_supers(self, frames: Sequence[Frame]) -> tuple[OutboundSa, int] | None:
        """The SA that all are for, and their traffic class outside; None: each must be looked at."""
        found: tuple[OutboundSa, int] | None = None
        for frame in frames:
            packet = frame.parts[0]
            octets = len(packet)
            outline = ip.outline(packet, octets)
            if len(frame.parts) > 1 or outline is None or outline[0] != octets or outline[3]:
                return None
            sa = self._settled(outline[1]) or self._find(outline[1], packet)
            if sa is None:
                return None
            this = sa, self._outer[outline[2]]
            if found is not None and this != found:
                return None
            found = this
        return found

    def _seal_super(self, frame: Frame, now: float, trains: list[Train]) -> None:
        """A super-packet: its segments are of one flow, so its header speaks for all of them."""
        packet = frame.parts[0] if len(frame.parts) == 1 else frame.packet
        octets = len(packet)
        outline = ip.outline(packet, octets)
        if outline is None or outline[0] != octets:
            self._drops[Drop.NOT_IP] += 1
            return
        _, addresses, tos, may_be_syn = outline
        sa = (
            self._settled(addresses) or self._find(addresses, packet) or self._find_late(packet, [frame], now)
        )
        if sa is None:
            return
        try:
            rows = segment(frame)
        except WireError:
            self._drops[Drop.NOT_IP] += 1
            return
        if isinstance(sa, Drop):
            self._drops[sa] += len(rows)
            return
        if len(rows) < 2 or rows.size > sa.child.inner_mtu or may_be_syn:
            self._seal_singles(list(rows), now, trains)
        else:
            self._seal_rows(sa, rows, self._outer[tos], now, trains)

    def _seal_alike(self, packets: Sequence[Buffer | Frame], now: float, trains: list[Train]) -> None:
        """Packets of one length that have the same work left."""
        try:
            rows = _rows(packets)
        except WireError:
            self._drops[Drop.NOT_IP] += len(packets)
            return
        sa = self._route_rows(rows)
        if sa is None or rows.size > sa.child.inner_mtu:
            self._seal_singles(list(rows), now, trains)
        else:
            tos = self._outer[ecn.tos_of(memoryview(rows.matrix[0]))]
            self._seal_rows(sa, rows, tos, now, trains)

    def _route_rows(self, rows: Rows) -> OutboundSa | None:
        """The SA that all packets are for; None: each must be looked at."""
        version = version_of(rows)
        pairs = addresses_of(rows, version) if version else set()
        found: OutboundSa | None = None
        for addresses in pairs:
            sa = self._settled(addresses)
            if sa is None:
                # Ask once, so that it is settled if it ever is: with a packet between these very addresses.
                self._find(addresses, next(p for p in rows.packets() if ip.addresses_of(p) == addresses))
                sa = self._settled(addresses)
            if sa is None or (found is not None and sa is not found):
                return None
            found = sa
        return found

    def _seal_rows(
        self, sa: OutboundSa, rows: Rows, tos: int, now: float, trains: list[Train], each: int = MAX_ROWS
    ) -> None:
        """Seal rows with one SA, as bursts; packet by packet where its life ends among them.

        `each`: at most so many packets in one send.
        """
        child = sa.child
        plain = rows.size + len(sa.trailer(ip.IPV4, rows.size))
        most = sa.layout.rows_to_send(plain)
        if (
            sa.headers is not None
            or now >= child.ends_at
            or not sa.usage.has_room(len(rows), octets_of(rows))
            or len(rows) > MAX_SENDS * most
        ):
            self._seal_run(sa, list(rows), tos, now, trains)
            return
        each = min(each, most)
        for piece in _pieces(rows, MAX_BURSTS * each):
            grid = self._grids.take(sa.layout, plain, len(piece)).grid
            trains.append(Train(child.peer.path, sa.seal_rows(piece, grid, each), tos))
        if sa.usage.worn:
            self._children.wear(child, now)


def _append(trains: list[Train], train: Train) -> None:
    last = trains[-1] if trains else None
    if last is not None and type(last.datagrams) is list and (last.path, last.tos) == (train.path, train.tos):
        last.datagrams.extend(train.datagrams)
    else:
        trains.append(train)


def _end_of_alike(packets: Sequence[Buffer | Frame], start: int) -> int:
    """Up to where packets are as long as the one at `start` and have the same work left."""
    first = packets[start]
    end = start + 1
    if isinstance(first, Frame):
        header, octets = first.header, sum(map(len, first.parts))
        while end < len(packets):
            packet = packets[end]
            if not isinstance(packet, Frame) or packet.header != header:
                break
            if sum(map(len, packet.parts)) != octets:
                break
            end += 1
    else:
        octets = len(first)
        while end < len(packets):
            packet = packets[end]
            if isinstance(packet, Frame) or len(packet) != octets:
                break
            end += 1
    return end


def _rows(packets: Sequence[Buffer | Frame]) -> Rows:
    frames = [packet for packet in packets if isinstance(packet, Frame)]
    return finish(frames) if frames else rows_of([p for p in packets if not isinstance(p, Frame)])


def _pieces(rows: Rows, most: int) -> list[Rows]:
    """The same packets, at most `most` together."""
    count = len(rows)
    if count <= most:
        return [rows]
    return [
        Rows(rows.matrix[at : at + most], rows.size, rows.last if at + most >= count else 0)
        for at in range(0, count, most)
    ]


def octets_of(rows: Rows) -> int:
    """Of all packets together."""
    return rows.size * (len(rows) - 1) + rows.last
