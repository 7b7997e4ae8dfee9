"""NATs that know of IPsec, each in the way of its time: what RFC 3715 section 2.3 is about."""

from dataclasses import dataclass
from ipaddress import ip_address

from espudp.wire.address import UdpAddress
from tests.sim.link import ESP, UDP, Datagram, Segment
from tests.sim.nat import Nat, NatKind
from tests.sim.world import World

IKE_PORT = 500

# RFC 2408 section 3.1 and RFC 7296 section 3.1: the initiator's cookie or SPI, and where the exchange type is
_COOKIE = slice(0, 8)
_EXCHANGE = 18
_IKE_OCTETS = 28

# RFC 2408 section 3.1, RFC 2409 section 5 and RFC 7296 section 3.1: exchanges that SAs come of
_NEGOTIATIONS = frozenset({2, 4, 32, 34, 35, 36})

_NO_PORT = 0


def _is_ike(datagram: Datagram) -> bool:
    """Whether this goes from port 500 to port 500."""
    ports = datagram.source.port, datagram.destination.port
    return datagram.protocol == UDP and ports == (IKE_PORT, IKE_PORT)


def _spi(datagram: Datagram) -> bytes:
    return datagram.payload[:4]  # RFC 4303 section 2


class Natd(Nat):
    """FreeBSD's natd: of protocols without ports one mapping for each peer, and the newest gets all.

    libalias keeps what comes in apart by protocol, peer and alias address alone (`ProtoAliasIn`); a link is
    put before those that are there (`AddLink`), and only silence takes it away: natd(8), libalias(3).
    """

    PROTOCOL_SECONDS = 60.0

    def __init__(self, world: World, outside: Segment, public_ip: str) -> None:
        super().__init__(world, outside, public_ip, kind=NatKind.SYMMETRIC)
        self._links: dict[tuple[int, str, str], float] = {}  # protocol, peer, client: when it was used last

    def _send_other(self, datagram: Datagram) -> None:
        key = (datagram.protocol, datagram.destination.ip, datagram.source.ip)
        if self._silent(key):
            self._links.pop(key, None)  # made anew, it comes before the others
        self._links[key] = self._world.now
        self._outside.send(datagram._replace(source=UdpAddress(self.public_ip, _NO_PORT)))

    def _receive_other(self, datagram: Datagram) -> None:
        wanted = (datagram.protocol, datagram.source.ip)
        links = [key for key in self._links if key[:2] == wanted and not self._silent(key)]
        if not links:
            self.refused += 1
            return
        self._links[links[-1]] = self._world.now
        self.inside.forward(datagram._replace(destination=UdpAddress(links[-1][2], _NO_PORT)))

    def _silent(self, key: tuple[int, str, str]) -> bool:
        return self._world.now - self._links.get(key, 0.0) > self.PROTOCOL_SECONDS


class SpiNat(Nat):
    """Tells ESP clients apart by SPI: the first packet with a new one is for whoever has waited longest, and
    where nobody waits for whoever has spoken last.

    That is a guess, since SPIs of the two directions have nothing in common; the Linux VPN Masquerade HOWTO
    (section 2.6) and Cisco's "NAT Support for IPsec ESP, Phase II" say so of theirs. It is wrong when two
    clients begin or rekey at once and the peer speaks to them in another order.
    """

    def __init__(self, world: World, outside: Segment, public_ip: str) -> None:
        super().__init__(world, outside, public_ip, preserve_ports=True)
        self._known: set[tuple[str, str, bytes]] = set()  # client, peer, SPI outwards
        self._waiting: dict[str, list[str]] = {}  # by peer: clients whose SPI inwards has not been seen
        self._last: dict[str, str] = {}  # by peer: the client that has spoken last
        self._owners: dict[tuple[str, bytes], str] = {}  # peer and SPI inwards: the client

    def _send_other(self, datagram: Datagram) -> None:
        if datagram.protocol != ESP:
            self.refused += 1
            return
        client, peer = datagram.source.ip, datagram.destination.ip
        self._last[peer] = client
        if (client, peer, _spi(datagram)) not in self._known:
            self._known.add((client, peer, _spi(datagram)))
            self._waiting.setdefault(peer, []).append(client)
        self._outside.send(datagram._replace(source=UdpAddress(self.public_ip, _NO_PORT)))

    def _receive_other(self, datagram: Datagram) -> None:
        key = (datagram.source.ip, _spi(datagram))
        if datagram.protocol != ESP or (key not in self._owners and not self._guess(*key)):
            self.refused += 1
            return
        self.inside.forward(datagram._replace(destination=UdpAddress(self._owners[key], _NO_PORT)))

    def _guess(self, peer: str, spi: bytes) -> bool:
        waiting = self._waiting.get(peer)
        if peer in self._last:
            self._owners[peer, spi] = waiting.pop(0) if waiting else self._last[peer]
        return peer in self._last


@dataclass(slots=True)
class _Negotiation:
    client: str
    began: float


class PassThrough(Nat):
    """An IPsec pass-through: port 500 stays, clients are told apart by IKE cookies, and negotiate one by one.

    While one negotiates with a peer the others may not, and the next ESP from that peer with a new SPI is for
    it: then ESP is told apart by SPI without a guess. Juniper's "IKE and ESP ALG" (one phase 2 at a time, a
    gate for ESP that is open some seconds), and RFC 3715 section 2.3 n for what it does to rekeys: what the
    peer begins with new cookies finds nobody.
    """

    GATE_SECONDS = 5.0

    def __init__(self, world: World, outside: Segment, public_ip: str) -> None:
        super().__init__(world, outside, public_ip)
        self._cookies: dict[tuple[str, bytes], str] = {}  # peer and cookie: the client
        self._owners: dict[tuple[str, bytes], str] = {}  # peer and SPI inwards: the client
        self._negotiations: dict[str, _Negotiation] = {}  # by peer
        self.overlapping = 0

    def send(self, datagram: Datagram) -> None:
        if not _is_ike(datagram) or len(datagram.payload) < _IKE_OCTETS:
            super().send(datagram)
            return
        client, peer = datagram.source.ip, datagram.destination.ip
        if not self._may_negotiate(client, peer, datagram):
            self.overlapping += 1
            return
        self._cookies[peer, datagram.payload[_COOKIE]] = client
        self._outside.send(datagram._replace(source=UdpAddress(self.public_ip, IKE_PORT)))

    def receive(self, datagram: Datagram) -> None:
        if not _is_ike(datagram):
            super().receive(datagram)
            return
        peer = datagram.source.ip
        client = self._cookies.get((peer, datagram.payload[_COOKIE]))
        if client is None:
            self.refused += 1
        elif not self._may_negotiate(client, peer, datagram):
            self.overlapping += 1
        else:
            self.inside.forward(datagram._replace(destination=UdpAddress(client, IKE_PORT)))

    def _may_negotiate(self, client: str, peer: str, datagram: Datagram) -> bool:
        """Whether this is no negotiation, or nobody else has one with this peer."""
        if datagram.payload[_EXCHANGE] not in _NEGOTIATIONS:
            return True
        under_way = self._negotiation(peer)
        if under_way is not None and under_way.client != client:
            return False
        self._negotiations[peer] = _Negotiation(client, self._world.now)
        return True

    def _negotiation(self, peer: str) -> _Negotiation | None:
        found = self._negotiations.get(peer)
        if found is not None and self._world.now - found.began > self.GATE_SECONDS:
            del self._negotiations[peer]
            return None
        return found

    def _send_other(self, datagram: Datagram) -> None:
        if datagram.protocol != ESP:
            self.refused += 1
            return
        self._outside.send(datagram._replace(source=UdpAddress(self.public_ip, _NO_PORT)))

    def _receive_other(self, datagram: Datagram) -> None:
        key = (datagram.source.ip, _spi(datagram))
        gate = self._negotiation(datagram.source.ip)
        if key not in self._owners and gate is not None and datagram.protocol == ESP:
            self._owners[key] = gate.client
            del self._negotiations[datagram.source.ip]
        if key not in self._owners:
            self.refused += 1
            return
        self.inside.forward(datagram._replace(destination=UdpAddress(self._owners[key], _NO_PORT)))


class Helper(Nat):
    """An "IPsec helper": port 500 is left as it is, looked into and changed; 4500 is a port like others.

    RFC 3715 section 2.3 o: answers from a peer go to the client that has spoken to its port 500 last. Section
    2.3 p: it takes what it finds for an address of the client's, and puts its own in there.
    """

    def __init__(self, world: World, outside: Segment, public_ip: str) -> None:
        super().__init__(world, outside, public_ip)
        self._last: dict[str, str] = {}  # by peer: the client
        self.mangled = 0

    def send(self, datagram: Datagram) -> None:
        if not _is_ike(datagram):
            super().send(datagram)
            return
        self._last[datagram.destination.ip] = client = datagram.source.ip
        payload = self._rewritten(datagram.payload, client, self.public_ip)
        self._outside.send(datagram._replace(source=UdpAddress(self.public_ip, IKE_PORT), payload=payload))

    def receive(self, datagram: Datagram) -> None:
        client = self._last.get(datagram.source.ip) if _is_ike(datagram) else None
        if client is None:
            super().receive(datagram)
            return
        payload = self._rewritten(datagram.payload, self.public_ip, client)
        self.inside.forward(datagram._replace(destination=UdpAddress(client, IKE_PORT), payload=payload))

    def _rewritten(self, payload: bytes, old: str, new: str) -> bytes:
        changed = payload.replace(ip_address(old).packed, ip_address(new).packed)
        self.mangled += changed != payload
        return changed
