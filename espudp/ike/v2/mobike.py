"""MOBIKE (RFC 4555): the two sides of a connection move from address to address, and the tunnel goes on.

The side that dialled decides which pair of addresses is used. The other one follows its UPDATE_SA_ADDRESSES,
and sends ESP to another address only when somebody there has answered who has the keys.

    our addresses change, or an answer comes over another path than the one that has gone silent
        -> IKE goes there at once, and so does ESP unless it would go to another address of the peer's
        -> UPDATE_SA_ADDRESSES, NAT detection, COOKIE2        until it is answered for the path then in use
    UPDATE_SA_ADDRESSES comes
        -> IKE goes there at once; COOKIE2 to the new address; when that comes back, ESP as well

What has yet to be done is a matter of state, not of queued tasks: whichever IKE SA is the current one asks
`next_task` when it has nothing under way. So nothing gets lost when an IKE SA is replaced meanwhile.
"""

from collections.abc import Sequence
from dataclasses import replace
from itertools import cycle, islice
from typing import TYPE_CHECKING, ClassVar

from espudp.crypto.auth import equal
from espudp.ike.config import Mode
from espudp.ike.encapsulation import claims_nat, forbids
from espudp.ike.events import Fault, NatStatus, PathChanged
from espudp.ike.exchange import patience
from espudp.ike.farewell import Farewell
from espudp.ike.natd import detect, found_but_claimed, natd_data, only_claimed
from espudp.ike.rules import error_of
from espudp.ike.v2.addresses import (
    additional,
    copied_cookie,
    is_usable,
    list_payloads,
    nat_is_unexpected,
    others_than,
    read_list,
)
from espudp.ike.v2.connection import Connection, Policy
from espudp.ike.v2.hub import Hub, State
from espudp.ike.v2.opening import must_claim
from espudp.ike.v2.sa import IkeSa, Received
from espudp.ike.v2.tasks import Task
from espudp.wire.address import Path, UdpAddress
from espudp.wire.ikev2.constants import ExchangeType, NotifyType
from espudp.wire.ikev2.message import Message
from espudp.wire.ikev2.payloads import Notify, Payload

if TYPE_CHECKING:
    from espudp.ike.v2.established import Established

# RFC 4555 section 4.2.5: from 8 to 64 octets.
COOKIE2_OCTETS = 16

# Our choice: retransmissions over the path in use before a request goes over others as well, and over how
# many of them at a time.
PROBE_AFTER = 3
PROBES_AT_ONCE = 8

# RFC 4555 section 3.11: how long a responder goes on asking, since finding a way is on the other side.
RESPONDER_PATIENCE_SECONDS = 300.0


def is_for(policy: Policy) -> bool:
    """Whether a connection may move; in transport mode it is between two addresses (RFC 4555 section 1)."""
    return policy.mobike and policy.child.mode is Mode.TUNNEL


def offer(hub: Hub, path: Path) -> list[Payload]:
    """For IKE_AUTH, in the message with the SA payload: that we speak it, and where else we are."""
    return [Notify.of(NotifyType.MOBIKE_SUPPORTED), *additional(others_than(hub.local or (), path.local.ip))]


def agree(connection: Connection, message: Message) -> list[Payload]:
    """IKE_AUTH is over, and perhaps both sides speak it. `message` is what the peer sent with its SA payload;
    what a responder adds to its answer.
    """
    path = connection.path
    if not is_for(connection.policy) or message.notify(NotifyType.MOBIKE_SUPPORTED) is None:
        return []
    connection.mobike = Mobike(connection, read_list(message, path.remote.ip) or (path.remote.ip,))
    return offer(connection.hub, path)


def answer(ike: "Established", received: Received, now: float) -> list[Payload]:
    """Does what an INFORMATIONAL request wants done about addresses; its part of the answer."""
    message, path, mobike = received.message, received.path, ike.connection.mobike
    payloads = copied_cookie(message)
    if mobike is None:
        return payloads
    listed = read_list(message, path.remote.ip)
    updates = message.notify(NotifyType.UPDATE_SA_ADDRESSES) is not None and not ike.connection.dialled
    if (updates or listed is not None) and nat_is_unexpected(message, path):
        return [Notify.of(NotifyType.UNEXPECTED_NAT_DETECTED), *payloads]
    if updates and not is_usable(path.remote.ip, instead_of=ike.connection.path.remote.ip):
        return [Notify.of(NotifyType.UNACCEPTABLE_ADDRESSES), *payloads]
    if updates:
        mobike.follow(ike, received, now)
    if listed is not None:
        mobike.listed(ike, listed, now)
    if message.notify(NotifyType.NAT_DETECTION_DESTINATION_IP) is not None:
        payloads += _detection(ike.sa, path, force_encap=_is_to_encapsulate(ike.connection, mobike.nat))
    return payloads


def local_addresses_changed(ike: "Established", now: float) -> State | None:
    """The host has other addresses than before, or another order of preference, or other routes."""
    connection = ike.connection
    if connection.mobike is not None:
        connection.mobike.local_changed(ike, now)
    elif connection.dialled and _is_gone(connection):
        return _without_mobike(ike, now)
    return ike.advance(now)


class Mobike:
    """What a connection knows of the addresses of both sides, and what about them is not settled yet."""

    def __init__(self, connection: Connection, peer_addresses: tuple[str, ...]) -> None:
        self._connection = connection
        self.peer_addresses = peer_addresses
        """Where the peer says it can be reached."""
        self.trying: Path | None = None
        """Where IKE goes already, and ESP not yet."""
        self.pending_update = False
        """As initiator: the peer has yet to agree to the path in use."""
        self.unproven = False
        """As responder: it has yet to be shown that the peer is at the address that it came from."""
        self.generation = 0
        """Answers to what was asked before it changed prove nothing of the path in use."""
        self.nat = connection.peer.nat
        """As it is on the path in use."""
        self.told = self.others
        """Of our addresses, those that the peer knows of beside the one in use."""
        self._agreed = connection.path
        self._refused: tuple[Path, ...] = ()
        self._seen = b""
        self._probing = False
        self._displaced = False
        self._rounds = 0

    @property
    def path(self) -> Path:
        """Where IKE goes."""
        return self.trying or self._connection.path

    @property
    def others(self) -> tuple[str, ...]:
        """Our addresses beside the one in use."""
        return others_than(self._connection.hub.local or (), self.path.local.ip)

    @property
    def is_offline(self) -> bool:
        """Whether there is no address at all from which the peer could be reached."""
        return self._connection.hub.local is not None and not self.candidates()

    def candidates(self) -> list[Path]:
        """Every pair of addresses that may work: the peer's current one first, then ours as preferred."""
        now = self.path.remote
        remotes = dict.fromkeys((now.ip, self._agreed.remote.ip, *self.peer_addresses))
        return [
            Path(local, UdpAddress(remote, now.port))
            for remote in remotes
            for local in self._connection.hub.local or ()
            if is_usable(local.ip, instead_of=remote) and (":" in local.ip) == (":" in remote)
        ]

    def next_task(self) -> Task | None:
        """What the peer has to be told or asked."""
        if self.pending_update:
            return UpdateAddresses()
        if set(self.others) != set(self.told):
            return TellAddresses()
        return CheckPath() if self.unproven else None

    # Moving, as initiator

    def local_changed(self, ike: "Established", now: float) -> None:
        """See `local_addresses_changed`."""
        self._refused = ()
        connection = self._connection
        possible = self.candidates()
        if not possible:
            return
        if not connection.dialled:
            if _is_gone(connection):
                self._displace(ike, possible[0], now)
            return
        if possible[0] != self.path:
            self.go(ike, possible[0], now)
        else:
            # RFC 4555 section 3.5: whatever has changed may have changed the path.
            ike.check_alive()
            ike.resend(now)

    def go(self, ike: "Established", path: Path, now: float) -> None:
        """IKE goes over this path from now on, and the peer is told (RFC 4555 section 3.5)."""
        self.generation += 1
        self.pending_update = True
        if path.remote == self._connection.path.remote:
            self._settle(path)
        else:
            self.trying = path
        ike.resend(now)

    def agreed(self, ike: "Established", response: Message) -> None:
        """The peer has answered UPDATE_SA_ADDRESSES over the path in use."""
        connection = self._connection
        self.pending_update = False
        self._refused = ()
        self.nat = _detected(ike, response, self.path) or self.nat
        self._seen = _seen_as(response)
        self._settle(self.path)
        self._agreed = connection.path
        if not connection.claims_nat and must_claim(connection.hub, self.nat, response):
            # And it is to be told once more.
            connection.claims_nat = self.pending_update = True
            self.generation += 1

    def refused(self, ike: "Established", now: float) -> State | None:
        """The peer will not have this pair of addresses: another one, or the one of before."""
        self._refused += (self.path, self._agreed)
        left = [path for path in self.candidates() if path not in self._refused]
        if left:
            self.go(ike, left[0], now)
        elif self._agreed.local in (self._connection.hub.local or ()):
            self.generation += 1
            self.pending_update = False
            self._settle(self._agreed)
        else:
            reason = "the peer accepts none of our addresses"
            return ike.close(Farewell(Fault.PROTOCOL, reason, retry=True), now)
        return ike

    # A path that has gone silent

    def probe(self, ike: "Established") -> None:
        """A request has gone out again: after some tries it goes over other paths as well. Whichever the
        answer comes over works (RFC 4555 section 3.10).
        """
        pending, may_move = ike.sa.pending, self._connection.dialled or self._displaced
        if pending is None or pending.tries < PROBE_AFTER or not may_move:
            return
        others = [path for path in self.candidates() if path != self.path]
        start = (pending.tries - PROBE_AFTER) * PROBES_AT_ONCE
        for path in islice(cycle(others), start, start + min(len(others), PROBES_AT_ONCE)):
            ike.sa.repeat(path)
        if others:
            self._probing = True
            self.generation += 1

    def answered_over(self, ike: "Established", path: Path, now: float) -> None:
        """An answer came over this path."""
        probing, self._probing, self._rounds = self._probing, False, 0
        if probing and path != self.path and path in self.candidates():
            self.go(ike, path, now)

    def is_patient(self, ike: "Established") -> bool:
        """The tries of a request are used up: whether there is reason to begin anew."""
        if self.is_offline:
            return True
        self._rounds += 1
        if self._connection.dialled:
            return False
        if self.unproven:
            # Nobody there who has the keys: back to where somebody had. If the peer is elsewhere, it says so.
            self.generation += 1
            self.unproven, self.trying = False, None
        return self._rounds * patience(ike.sa.timers) < RESPONDER_PATIENCE_SECONDS

    def detection(self, ike: "Established") -> list[Payload]:
        """Goes with a question whether the peer lives: has our NAT another mapping? (RFC 4555 section 3.8)"""
        connection = self._connection
        if not connection.dialled:
            return []
        return _detection(ike.sa, self.path, force_encap=_is_to_encapsulate(connection, self.nat))

    def compare(self, ike: "Established", response: Message) -> None:
        """The peer's answer to `detection`. What was seen last is not known before the first UPDATE."""
        seen = _seen_as(response)
        if not self._connection.dialled or not seen or seen == self._seen:
            return
        found = _detected(ike, response, self.path)
        if found is not None and (self.nat.local or found.local):
            self.generation += 1
            self.pending_update = True
        self._seen = seen

    # Following, as responder

    def follow(self, ike: "Established", received: Received, now: float) -> None:
        """UPDATE_SA_ADDRESSES: where it came from is where the peer is, as far as IKE is concerned."""
        path = received.path
        self.generation += 1
        self._displaced = False
        self.nat = _detected(ike, received.message, path) or self.nat
        if path.remote.ip == self._connection.path.remote.ip:
            self.unproven = False
            self._settle(path)
        else:
            self.unproven = True
            self.trying = path
        ike.resend(now)

    def proved(self) -> None:
        """The peer has answered at the address in use."""
        self.unproven = False
        self._settle(self.path)

    def moved_by_esp(self, path: Path) -> None:
        """Authentic ESP came from a new mapping of the peer's NAT, and is answered there already."""
        self.generation += 1
        self.unproven = not self._connection.dialled
        self.trying = None

    def listed(self, ike: "Established", addresses: tuple[str, ...], now: float) -> None:
        """The peer has said where it can be reached; first is where it said so from."""
        self.peer_addresses = addresses
        if self._connection.dialled and self.path.remote.ip not in addresses:
            possible = [p for p in self.candidates() if p.remote.ip in addresses]
            if possible:
                self.go(ike, possible[0], now)

    def _displace(self, ike: "Established", path: Path, now: float) -> None:
        """As responder, our address is gone: the one case in which we move by ourselves (section 3.5)."""
        self.generation += 1
        self._displaced = True
        if path.remote == self._connection.path.remote:
            self._settle(path)
        else:
            self.trying, self.unproven = path, True
        ike.resend(now)

    def _settle(self, path: Path) -> None:
        """ESP goes over this path, too, and the NAT on it decides on keepalives."""
        connection = self._connection
        self.trying = None
        if (path, self.nat) != (connection.path, connection.peer.nat):
            connection.path = path
            connection.peer = replace(connection.peer, nat=self.nat)
            if forbids(connection.policy.encap, self.nat):
                connection.note(
                    "a NAT is between now, and ESP goes in UDP after all, since it must (RFC 7296)"
                )
            connection.hub.emit(PathChanged(connection.number, connection.esp_path, self.nat))


class _Checked:
    """A request with COOKIE2: whose answer shows that the peer is where the request went."""

    exchange: ClassVar[ExchangeType] = ExchangeType.INFORMATIONAL
    busy: ClassVar[bool] = False

    def __init__(self) -> None:
        self._cookie = b""
        self._generation = 0

    def request(self, ike: "Established", now: float) -> Sequence[Payload] | None:
        mobike = ike.connection.mobike
        if mobike is None:
            return None
        self._cookie = ike.connection.hub.nonce(COOKIE2_OCTETS)
        self._generation = mobike.generation
        return [*self._payloads(ike, mobike), Notify.of(NotifyType.COOKIE2, self._cookie)]

    def answered(self, ike: "Established", answer: Message, now: float) -> State | None:
        mobike, cookie, error = ike.connection.mobike, answer.notify(NotifyType.COOKIE2), error_of(answer)
        if mobike is None:
            return ike
        if (cookie is None and error is None) or (cookie and not equal(cookie.data, self._cookie)):
            # RFC 4555 section 3.7
            reason = "the peer answers what it has not seen (COOKIE2)"
            return ike.close(Farewell(Fault.PROTOCOL, reason, retry=True), now)
        self._heard(mobike)
        if self._generation != mobike.generation:
            return ike
        return self._refused(ike, mobike, now) if error is not None else self._done(ike, mobike, answer)

    def abandon(self) -> None:
        pass

    def _payloads(self, ike: "Established", mobike: Mobike) -> list[Payload]:
        return []

    def _heard(self, mobike: Mobike) -> None:
        """The peer has this message, whichever way it took."""

    def _done(self, ike: "Established", mobike: Mobike, answer: Message) -> State | None:
        mobike.proved()
        return ike

    def _refused(self, ike: "Established", mobike: Mobike, now: float) -> State | None:
        return ike


class CheckPath(_Checked):
    """Is the peer where it came from? (RFC 4555 section 3.7)"""

    def _refused(self, ike: "Established", mobike: Mobike, now: float) -> State | None:
        return ike.close(Farewell(Fault.PROTOCOL, "the peer does not prove where it is", retry=True), now)


class TellAddresses(_Checked):
    """Our list of addresses, whenever it has changed (RFC 4555 section 3.6)."""

    def __init__(self) -> None:
        super().__init__()
        self._told: tuple[str, ...] = ()

    def _payloads(self, ike: "Established", mobike: Mobike) -> list[Payload]:
        self._told = mobike.others
        return [*list_payloads(self._told)]

    def _heard(self, mobike: Mobike) -> None:
        mobike.told = self._told

    def _done(self, ike: "Established", mobike: Mobike, answer: Message) -> State | None:
        return ike


class UpdateAddresses(TellAddresses):
    """The path in use, as initiator (RFC 4555 section 3.5)."""

    def _payloads(self, ike: "Established", mobike: Mobike) -> list[Payload]:
        update = Notify.of(NotifyType.UPDATE_SA_ADDRESSES)
        self._told = mobike.others
        news = [] if set(self._told) == set(mobike.told) else list_payloads(self._told)
        return [update, *mobike.detection(ike), *news]

    def _done(self, ike: "Established", mobike: Mobike, answer: Message) -> State | None:
        mobike.agreed(ike, answer)
        return ike

    def _refused(self, ike: "Established", mobike: Mobike, now: float) -> State | None:
        return mobike.refused(ike, now)


def _is_gone(connection: Connection) -> bool:
    """Whether the address that the connection uses is none of ours any more."""
    local = connection.hub.local
    return bool(local) and connection.path.local.ip not in {address.ip for address in local or ()}


def _without_mobike(ike: "Established", now: float) -> State | None:
    """Our address is gone. A peer that has seen us behind a NAT follows; any other one has to be dialled."""
    connection = ike.connection
    remote = connection.path.remote
    local = next((a for a in connection.hub.local or () if (":" in a.ip) == (":" in remote.ip)), None)
    if local is None:
        return ike
    if not connection.peer.nat.local or connection.policy.child.mode is Mode.TRANSPORT:
        reason = f"our address {connection.path.local.ip} is gone"
        connection.down(Farewell(Fault.TIMEOUT, reason, retry=True))
        return None
    connection.path = Path(local, remote)
    connection.hub.emit(PathChanged(connection.number, connection.esp_path, connection.peer.nat))
    ike.check_alive()
    ike.resend(now)
    return ike.advance(now)


def _is_to_encapsulate(connection: Connection, nat: NatStatus) -> bool:
    """Whether to claim a NAT, as in IKE_SA_INIT."""
    if connection.dialled:
        return connection.claims_nat
    return not nat.found and claims_nat(connection.policy.encap, plain_esp=connection.hub.plain_esp)


def _detection(sa: IkeSa, path: Path, *, force_encap: bool) -> list[Payload]:
    source, destination = natd_data(sa.spi_i, sa.spi_r, path, force_encap=force_encap)
    return [
        Notify.of(NotifyType.NAT_DETECTION_SOURCE_IP, source),
        Notify.of(NotifyType.NAT_DETECTION_DESTINATION_IP, destination),
    ]


def _detected(ike: "Established", message: Message, path: Path) -> NatStatus | None:
    """The NAT on a path, as a message that came over it tells; None: it does not."""
    notifies = message.notifies()
    sources = [n.data for n in notifies if n.type == NotifyType.NAT_DETECTION_SOURCE_IP]
    destinations = [n.data for n in notifies if n.type == NotifyType.NAT_DETECTION_DESTINATION_IP]
    sa = ike.sa
    found = detect(sa.spi_i, sa.spi_r, path, sources, destinations)
    if found is not None and ike.connection.dialled and only_claimed(sa.spi_i, sa.spi_r, sources):
        return found_but_claimed(found)
    return found


def _seen_as(message: Message) -> bytes:
    """The hash of what the peer takes for our address and port."""
    notify = message.notify(NotifyType.NAT_DETECTION_DESTINATION_IP)
    return b"" if notify is None else notify.data
