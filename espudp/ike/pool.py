"""The pool of virtual addresses (RFC 7296 section 2.19): one per peer, the same one when it comes back."""

from collections import Counter, OrderedDict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

from espudp.errors import ConfigError
from espudp.ike.identity import Identity

Network = IPv4Network | IPv6Network
Address = IPv4Address | IPv6Address
Holder = tuple[Identity, bytes]
"""Who has an address, and by which way in: one name may be vouched for in several ways, not all as good."""

_Taken = Callable[[Address], bool]

# Our choice: how many addresses of peers that left are kept for them, and how many of one IP version a peer
# gets.
REMEMBERED_MAX = 10_000
MAX_ADDRESSES = 4


class AddressPool:
    """Leases addresses of some networks to connections.

    A peer gets, in this order: the address it asks for, where that is its own already, or free and was nobody
    else's; the one it had; one that nobody ever had; the one that has been free for longest. The first usable
    address of each network is our own.
    """

    def __init__(self, networks: Iterable[Network]) -> None:
        """Raises ConfigError for a network too small to have an address for us and one for a peer."""
        self._ranges = [_Range(network) for network in networks]
        self._leased: dict[Address, Holder] = {}
        self._of_connection: dict[int, list[Address]] = {}
        self._holders: Counter[Address] = Counter()
        self._former: OrderedDict[Address, Holder] = OrderedDict()  # free since, oldest first
        self._remembered: dict[tuple[Holder, int], Address] = {}  # by IP version

    @property
    def own(self) -> tuple[str, ...]:
        """The listener's own addresses, one of each network."""
        return tuple(str(r.own) for r in self._ranges)

    @property
    def networks(self) -> tuple[Network, ...]:
        """What the addresses are taken from."""
        return tuple(r.network for r in self._ranges)

    @property
    def leased(self) -> int:
        """How many addresses are in use."""
        return len(self._leased)

    def assign(
        self,
        identity: Identity,
        connection: int,
        *,
        version: int = 4,
        requested: str = "",
        entry: bytes = b"",
        within: Collection[Network] | None = None,
    ) -> str | None:
        """An address of IP `version` (4, 6) for this connection until its release; None: none is left.

        `requested` is the address that the peer asked for, "" or 0.0.0.0 for any. `entry` is the mark of the
        one by which it came in. `within` are those of the networks that are for this peer; None: all.
        """
        mine = [r for r in self._ranges if within is None or r.network in within]
        holder = identity, entry
        address = self._pick(holder, version, requested, mine)
        if address is None:
            return None
        self._forget(address, self._former.pop(address, holder))
        self._leased[address] = holder
        self._holders[address] += 1
        self._of_connection.setdefault(connection, []).append(address)
        self._remembered[holder, version] = address
        return str(address)

    def assign_each(
        self,
        holder: Holder,
        connection: int,
        wanted: Mapping[int, Sequence[str]],
        within: Collection[Network],
    ) -> tuple[str, ...]:
        """Of each IP version as many addresses as are wanted, are there, and `MAX_ADDRESSES` at most.

        `wanted` are those that the peer asks for, "" for any; the rest as in `assign`.
        """
        identity, entry = holder
        given = (
            self.assign(
                identity, connection, version=version, requested=requested, entry=entry, within=within
            )
            for version, addresses in wanted.items()
            for requested in addresses[:MAX_ADDRESSES]
        )
        return tuple(address for address in given if address is not None)

    def release(self, connection: int) -> None:
        """Take back what the connection has, and keep it for its peer for as long as others are free."""
        for address in self._of_connection.pop(connection, ()):
            self._holders[address] -= 1
            if self._holders[address]:
                continue
            del self._holders[address]
            self._former[address] = self._leased.pop(address)
            if len(self._former) > REMEMBERED_MAX:
                oldest, holder = self._former.popitem(last=False)
                self._forget(oldest, holder)
                self._range_of(oldest).reclaim()

    def _pick(
        self, holder: Holder, version: int, requested: str, ranges: "Sequence[_Range]"
    ) -> Address | None:
        wanted = ip_address(requested) if requested else None
        is_own = wanted is not None and self._leased.get(wanted) == holder and not holder[0].is_nobody
        if wanted is not None and is_own and _offer(ranges, wanted):
            return wanted  # it comes again before it goes: make before break
        for address in (wanted, self._remembered.get((holder, version))):
            if address is None or address.version != version or address in self._leased:
                continue
            if not _offer(ranges, address):
                continue
            # Whoever has left a moment ago comes back to its own, not to somebody who asks for it by number.
            if self._former.get(address, holder) == holder:
                return address
        for r in ranges:
            if r.network.version == version and (address := r.next_unused(self._taken)) is not None:
                return address
        # The longest free
        return next((a for a in self._former if a.version == version and _offer(ranges, a)), None)

    def _taken(self, address: Address) -> bool:
        return address in self._leased or address in self._former

    def _forget(self, address: Address, holder: Holder) -> None:
        if self._remembered.get((holder, address.version)) == address:
            del self._remembered[holder, address.version]

    def _range_of(self, address: Address) -> "_Range":
        return next(r for r in self._ranges if r.offers(address))


def _offer(ranges: "Sequence[_Range]", address: Address) -> bool:
    return any(r.offers(address) for r in ranges)


class _Range:
    """The addresses of one network: our own, then those for peers, taken in order."""

    def __init__(self, network: Network) -> None:
        # IPv4 has a network and a broadcast address that nobody uses, IPv6 an any-cast one (RFC 4291 2.6.1).
        small = network.num_addresses <= 2
        first = int(network.network_address) + (0 if small else 1)
        self._last = int(network.broadcast_address) - (1 if network.version == 4 and not small else 0)
        if self._last <= first:
            raise ConfigError(
                f"the pool {network} has no address left for a peer",
                field="pool",
                remedy="Choose a network of at least four addresses, such as 10.99.0.0/24.",
            )
        self.network = network
        self.own = self._address(first)
        self._first = self._next = first + 1
        self._forgotten = False

    def offers(self, address: Address) -> bool:
        """Whether a peer may have this address."""
        return address.version == self.network.version and self._first <= int(address) <= self._last

    def next_unused(self, taken: _Taken) -> Address | None:
        """The next address that nobody has had, as far as we remember."""
        while self._next <= self._last:
            address = self._address(self._next)
            self._next += 1
            if self._next > self._last and self._forgotten:
                self._next, self._forgotten = self._first, False
            if not taken(address):
                return address
        return None

    def reclaim(self) -> None:
        """Some address is free and forgotten: worth looking through all of them once more, after the last."""
        self._forgotten = True
        if self._next > self._last:
            self._next, self._forgotten = self._first, False

    def _address(self, number: int) -> Address:
        return IPv4Address(number) if self.network.version == 4 else IPv6Address(number)
