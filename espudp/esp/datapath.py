"""The life of a packet: out of the TUN device into ESP, and back (RFC 4303, RFC 4301 section 5).

Both ways work on batches and split them into runs of one SA; a single packet is a run of one, and a batch
has the same effect as its packets one after another. What cannot go on is counted by reason and otherwise
forgotten. Nothing of a datagram is believed, and no state changed by it, before its ICV is verified.
"""

from collections import Counter, deque
from collections.abc import Sequence

from espudp.crypto.random import Rng
from espudp.esp.children import Children
from espudp.esp.drops import Drop
from espudp.esp.elsewhere import Elsewhere, HandOver
from espudp.esp.events import Event, EventQueue, HardExpired, PeerMoved, SoftExpired, UnknownSpi
from espudp.esp.padding import NEXT_HEADER_IPV4, NEXT_HEADER_IPV6, NEXT_HEADER_NONE, payload_octets
from espudp.esp.sa import Child, ChildKeys, InboundSa, OutboundSa, State
from espudp.esp.sad import is_spi
from espudp.esp.selectors import Verdict
from espudp.esp.snapshot import SaSnapshot
from espudp.timing import TokenBucket
from espudp.wire import ip
from espudp.wire.address import Path
from espudp.wire.buffer import Buffer
from espudp.wire.icmp import MIN_IPV6_MTU, too_big
from espudp.wire.train import Train

__all__ = [
    "DataPath", "Drop", "Event", "HardExpired", "PeerMoved", "SaSnapshot", "SoftExpired",
    "Train", "UnknownSpi",
]  # fmt: skip

# RFC 1812 section 4.3.2.8, RFC 4443 section 2.4 (f): ICMP errors are bounded in rate.
REPLY_BURST = 64
REPLIES_PER_SECOND = 100.0

# Our choice: silence on the known path after which a peer without a replay window may turn up elsewhere.
RESTART_SILENCE_SECONDS = 3.0

# IP and TCP without options (RFC 9293 section 3.7.1)
_IPV4_TCP_OCTETS = 40
_IPV6_TCP_OCTETS = 60

_INNER_VERSION = {NEXT_HEADER_IPV4: ip.IPV4, NEXT_HEADER_IPV6: ip.IPV6}

class DataPath:
    """The ESP of any number of connections. Times are seconds on one monotonic clock."""

    def __init__(self, rng: Rng) -> None:
        self.drops: Counter[Drop] = Counter()
        self._events = EventQueue()
        self._children = Children(rng, self._events)
        self._find_inbound = self._children.sad.get
        self._find_outbound = self._children.spd.lookup
        self._replies: deque[bytes] = deque(maxlen=REPLY_BURST)
        self._reply_rate = TokenBucket(REPLY_BURST, REPLIES_PER_SECOND)
        self._heard: dict[int, float] = {}
        self.elsewhere: Elsewhere | None = None
        """Who has the SAs that are not here; None: nobody."""

    def share(self, worker: int, workers: int, hand_over: HandOver) -> Elsewhere:
        """From now on this is one of several data paths, each of which has some of the SAs."""
        self.elsewhere = Elsewhere(worker, workers, self._children.spd, self.drops, hand_over)
        return self.elsewhere

    # Commands

    def install(self, child: ChildKeys, now: float, *, standby: bool = False) -> None:
        """Put a child SA to work: at once inbound, and outbound unless it is to wait.

        With `standby`, packets go on leaving through the child SA that this one `replaces` until the peer is
        seen to use the new one or the old one ends (RFC 7296 section 2.8): no packet meets an SA that
        the peer does not have yet. Without such a child SA there is nothing to wait for.

        Raises ConfigError for an SPI or a replay window that cannot be, CryptoError for keys that do not
        fit the suite; then nothing has changed.
        """
        self._children.install(child, now, standby=standby)

    def remove(self, spi_in: int, now: float, *, linger: float = 0.0) -> None:
        """Stop sending through a child SA, named by its inbound SPI; go on receiving for `linger` seconds."""
        self._children.remove(spi_in, now, linger=linger)

    def remove_connection(self, connection: int, now: float) -> None:
        """Forget all child SAs of a connection."""
        self._children.remove_connection(connection)
        self._heard.pop(connection, None)

    def move(self, connection: int, path: Path) -> None:
        """Send to another address from now on."""
        self._children.move(connection, path)

    def set_inner_mtu(self, connection: int, mtu: int) -> None:
        """The largest inner packet that fits the path to the peer, in octets."""
        self._children.set_inner_mtu(connection, mtu)

    # Out: TUN -> selectors -> size -> seal -> datagrams

    def seal(self, packets: Sequence[Buffer], now: float) -> list[Train]:
        """ESP datagrams for packets from the TUN device, in order, grouped in runs over one path."""
        trains: list[Train] = []
        run: list[Buffer] = []
        current: OutboundSa | None = None
        for packet in packets:
            sa = self._route(packet)
            if sa is None:
                continue
            if sa is not current:
                if current is not None:
                    self._seal_run(current, run, now, trains)
                current, run = sa, []
            if len(packet) > sa.child.inner_mtu:
                self._seal_run(sa, run, now, trains)
                run = []
                self._seal_large(packet, now, trains)
            elif ip.syn_at(packet):
                run.append(_clamped(packet, sa.child.inner_mtu))
            else:
                run.append(packet)
        if current is not None:
            self._seal_run(current, run, now, trains)
        return trains

    def _route(self, packet: Buffer) -> OutboundSa | None:
        """The SA for a packet (RFC 4301 section 5.1)."""
        octets = len(packet)
        if not octets or ip.inner_octets(packet, octets) != octets:
            self.drops[Drop.NOT_IP] += 1
            return None
        sa = self._find_outbound(ip.addresses_of(packet), packet)
        if sa is None and not (self.elsewhere is not None and self.elsewhere.take_packet(packet)):
            self.drops[Drop.NO_POLICY] += 1
        return sa

    def _seal_large(self, packet: Buffer, now: float, trains: list[Train]) -> None:
        """A packet over the inner MTU, by itself: what went before it may have ended its SA."""
        sa = self._route(packet)
        if sa is not None:
            self._seal_run(sa, self._cut(sa, packet, now), now, trains)

    def _cut(self, sa: OutboundSa, packet: Buffer, now: float) -> Sequence[Buffer]:
        """What to send of a packet over the inner MTU: its fragments; or nothing, and its sender is told."""
        mtu = sa.child.inner_mtu
        if len(packet) <= mtu:
            return [packet]
        if ip.may_fragment(packet):
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
        self._drop(sa, Drop.TOO_BIG)
        reply = too_big(packet, mtu)
        if reply is not None and self._reply_rate.take(now):
            self._replies.append(reply)
        return []

    def _seal_run(self, sa: OutboundSa, run: Sequence[Buffer], now: float, trains: list[Train]) -> None:
        """Seal packets of one SA, and stop where its life ends."""
        if not run:
            return
        child = sa.child
        alive = now < child.ends_at and not sa.usage.spent
        if alive and (len(run) == 1 or sa.usage.has_room(len(run), sum(map(len, run)))):
            _append(trains, child.peer.path, sa.seal(run))
            if sa.usage.worn:
                self._children.wear(child, now)
        elif len(run) > 1:
            for packet in run:
                self._seal_run(sa, [packet], now, trains)
        else:
            # Out of the way with this SA and all whose time is up: another may still carry the packet.
            self._children.handle_timer(now)
            self._children.wear(child, now)
            for train in self.seal(run, now):
                _append(trains, train.path, list(train.datagrams))

    # In: datagrams -> SPI -> replay window -> ICV -> padding -> selectors -> TUN

    def open(self, datagrams: Sequence[Buffer], path: Path, now: float, tos: int = 0) -> list[bytes]:
        """The packets for the TUN device out of ESP datagrams, from the SPI on, that came over `path`.

        `tos` is the outer header's traffic class octet.
        """
        packets: list[bytes] = []
        start, count = 0, len(datagrams)
        while start < count:
            spi = bytes(datagrams[start][:4])
            end = start + 1
            while end < count and datagrams[end][:4] == spi:
                end += 1
            sa = self._find_inbound(spi)
            if sa is None:
                self._unknown(datagrams[start:end], path, now, tos)
            else:
                self._open_run(sa, datagrams[start:end], path, now, packets)
            start = end
        return packets

    def _unknown(self, run: Sequence[Buffer], path: Path, now: float, tos: int) -> None:
        if self.elsewhere is not None and self.elsewhere.take_datagrams(run, path, tos):
            return
        octets, count = bytes(run[0][:4]), len(run)
        spi = int.from_bytes(octets, "big")
        if len(octets) < 4:
            self.drops[Drop.RUNT] += count
        elif not is_spi(spi):
            self.drops[Drop.RESERVED_SPI] += count
        else:
            self.drops[Drop.UNKNOWN_SPI] += count
            self._events.unknown_spi(spi, path, now)

    def _open_run(
        self, sa: InboundSa, run: Sequence[Buffer], path: Path, now: float, packets: list[bytes]
    ) -> None:
        """Open datagrams of one SA, and stop where its life ends."""
        child = sa.child
        if now >= child.ends_at or child.state is State.EXPIRED or sa.usage.spent:
            self._children.wear(child, now)
            self._drop(sa, Drop.EXPIRED, len(run))
            return
        if len(run) > 1 and not sa.usage.has_room(len(run), sum(map(len, run))):
            for datagram in run:
                self._open_run(sa, [datagram], path, now, packets)
            return
        highest = sa.window.highest
        authentic = 0
        for datagram in run:
            plaintext = sa.open(datagram)
            if isinstance(plaintext, Drop):
                self._drop(sa, plaintext)
                continue
            authentic += 1
            packet = self._unwrap(sa, plaintext)
            if isinstance(packet, Drop):
                self._drop(sa, packet)
            else:
                packets.append(packet)
        if authentic:
            sa.usage.packets += authentic
            self._heard_from(child, path, now, advanced=sa.window.highest > highest)

    def _unwrap(self, sa: InboundSa, plaintext: bytes) -> bytes | Drop:
        """The inner packet of an authentic plaintext (RFC 4303 section 3.4.4.1, RFC 4301 section 5.2)."""
        end = payload_octets(plaintext)
        if end < 0:
            return Drop.PADDING
        version = _INNER_VERSION.get(plaintext[-1])
        if version is None:
            return Drop.DUMMY if plaintext[-1] == NEXT_HEADER_NONE else Drop.NEXT_HEADER
        # What follows the inner packet in front of the padding is TFC padding (RFC 4303 section 2.7).
        octets = ip.inner_octets(plaintext, end)
        if not octets or plaintext[0] >> 4 != version:
            return Drop.INNER_HEADER
        packet = plaintext[:octets]
        addresses = packet[12:20] if version == ip.IPV4 else packet[8:40]
        if addresses != sa.checked and not _may_carry(sa, addresses, packet):
            return Drop.SELECTORS
        sa.usage.octets += octets
        return bytes(_clamped(packet, sa.child.inner_mtu)) if ip.syn_at(packet) else packet

    def _heard_from(self, child: Child, path: Path, now: float, *, advanced: bool) -> None:
        """What authentic datagrams of a child SA tell about the peer."""
        peer = child.peer
        peer.last_inbound = now
        self._heard[peer.connection] = now
        if child.state is State.STANDBY:
            # RFC 7296 section 2.8: the peer uses the new SA, so it has it.
            self._children.activate(child)
        if path == peer.path:
            peer.path_heard = now
        elif peer.follow and _is_fresh(child, now, advanced=advanced):
            peer.path, peer.path_heard = path, now
            self._events.moved(peer.connection, path)
        if child.inbound.usage.worn:
            self._children.wear(child, now)

    # Drains and time

    def take_replies(self) -> list[bytes]:
        """ICMP messages for the TUN device."""
        replies = list(self._replies)
        self._replies.clear()
        return replies

    def take_heard(self) -> list[tuple[int, float]]:
        """Connections that have sent something authentic since the last call, each with when it last did."""
        heard = list(self._heard.items())
        self._heard.clear()
        return heard

    def next_event(self) -> Event | None:
        """What the rest should know or act on; None when there is nothing."""
        return self._events.pop()

    def poll_timer(self) -> float | None:
        """When `handle_timer` wants to be called next."""
        return self._children.poll_timer()

    def handle_timer(self, now: float) -> None:
        """End the lifetimes that are over."""
        self._children.handle_timer(now)

    # Looking in

    def last_inbound(self, connection: int) -> float | None:
        """When something authentic last came in; None: never, or no such connection."""
        peer = self._children.peer(connection)
        return None if peer is None else peer.last_inbound

    def snapshot(self, now: float) -> list[SaSnapshot]:
        """Every SA, for people."""
        return self._children.snapshot(now)

    def _drop(self, sa: InboundSa | OutboundSa, reason: Drop, count: int = 1) -> None:
        self.drops[reason] += count
        sa.drops[reason] += count


def _is_fresh(child: Child, now: float, *, advanced: bool) -> bool:
    """Whether what came in says where the peer is, and not where it used to be.

    `advanced`: it is newer than all before. What comes in on an SA that has been replaced was held back.
    """
    if child.state is State.LINGERING:
        return False
    # Without a window (manual keys) a peer may have started anew, at number 1, and is silent where it was.
    restarted = not child.inbound.window.size and now - child.peer.path_heard >= RESTART_SILENCE_SECONDS
    return advanced or restarted


def _append(trains: list[Train], path: Path, datagrams: list[bytes]) -> None:
    last = trains[-1] if trains else None
    if last is not None and last.path == path and isinstance(last.datagrams, list):
        last.datagrams.extend(datagrams)
    else:
        trains.append(Train(path, datagrams))


def _may_carry(sa: InboundSa, addresses: bytes, packet: bytes) -> bool:
    """RFC 4301 section 5.2 step 4: the SA that brought the packet must be one for such packets."""
    verdict = sa.selectors.verdict(addresses)
    if verdict is Verdict.ALL:
        sa.checked = addresses
        return True
    if verdict is Verdict.NONE:
        return False
    flow = ip.parse_flow(packet)
    return flow is not None and sa.selectors.matches(flow)


def _clamped(packet: Buffer, inner_mtu: int) -> Buffer:
    """A TCP SYN says no larger segments than fit into the tunnel."""
    headers = _IPV4_TCP_OCTETS if packet[0] >> 4 == ip.IPV4 else _IPV6_TCP_OCTETS
    return ip.clamp_mss(packet, max(inner_mtu - headers, 0))
