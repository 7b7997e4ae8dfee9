"""Tickets (RFC 5723): what a gateway gives away of an IKE SA, sealed, and what its client keeps beside it."""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Self

from espudp.crypto.digest import sha1
from espudp.crypto.ikekeys import IkeSuite
from espudp.crypto.random import Rng, draw
from espudp.crypto.tickets import TicketBox
from espudp.errors import EspudpError, WireError
from espudp.ike.config import SECRET_OCTETS, ConnectionConfig
from espudp.ike.identity import Identity
from espudp.ike.pad import MARK_OCTETS
from espudp.ike.proposals import IkeProposal, offer_ike, select_ike
from espudp.wire.buffer import Reader, Writer
from espudp.wire.ikev2.header import SPI_OCTETS

# Our choice: RFC 5723 section 6.2 wants a limit even where IKE SAs have none. In seconds.
LONGEST_SECONDS = 24 * 3600

# Our bound on the tickets that a gateway remembers as used: the oldest is forgotten first.
_MAX_USED = 1 << 14

# Our choice: how often a ticket is shown to a gateway that does not answer.
_MAX_TRIES = 3

_VERSION = 2


@dataclass(frozen=True, slots=True)
class Session:
    """What both sides must know again of an IKE SA (section 5)."""

    suite: str
    sk_d: bytes = field(repr=False)
    claimed: Identity
    """IDi as it was sent."""

    known: Identity
    """Whom the client has proved to be; with EAP not what is in IDi."""

    ours: Identity
    """IDr."""

    entry: bytes
    """The mark of the entry of the peer authorization database by which the client came in."""

    expires: int
    """Seconds since 1970."""

    spi: bytes
    """The gateway's SPI of the IKE SA, which ends when the session is resumed: 8 octets."""

    @classmethod
    def parse(cls, content: bytes) -> Self:
        """Raises WireError; what is sealed was written by us, but perhaps by another version."""
        reader = Reader(content)
        if reader.u8() != _VERSION:
            raise WireError("a ticket of another version")
        entry, expires = reader.take(MARK_OCTETS), int.from_bytes(reader.take(8))
        spi = reader.take(SPI_OCTETS)
        suite, sk_d, *names = (reader.take(reader.u16()) for _ in range(5))
        reader.expect_end()
        claimed, known, ours = (Identity(name[0], name[1:]) for name in names)
        return cls(suite.decode("ascii", "replace"), sk_d, claimed, known, ours, entry, expires, spi)

    def emit(self) -> bytes:
        names = (bytes([i.type]) + i.data for i in (self.claimed, self.known, self.ours))
        writer = Writer()
        writer.u8(_VERSION)
        writer.put(self.entry)
        writer.put(self.expires.to_bytes(8))
        writer.put(self.spi)
        for part in (self.suite.encode(), self.sk_d, *names):
            writer.u16(len(part))
            writer.put(part)
        return writer.getvalue()


class Issuer:
    """The gateway's part: makes tickets, and knows its own again, each once."""

    def __init__(self, rng: Rng, secret: bytes) -> None:
        """`secret` may be empty: then the tickets are good for as long as we run."""
        self._rng = rng
        self._secret = secret
        self._made: TicketBox | None = None
        self._used: dict[bytes, None] = {}
        self._order: deque[bytes] = deque()

    @property
    def _box(self) -> TicketBox:
        """Made when it is needed for the first time."""
        if self._made is None:
            self._made = TicketBox(self._secret or draw(self._rng, SECRET_OCTETS))
        return self._made

    def issue(self, session: Session) -> bytes:
        return self._box.seal(self._rng, session.emit())

    def read(self, ticket: bytes, now: float) -> Session | None:
        """`now` is in seconds since 1970. None: it is none of ours, too old, or was used."""
        content = self._box.open(ticket)
        if content is None or sha1(ticket) in self._used:
            return None
        try:
            session = Session.parse(content)
        except WireError:
            return None
        return session if now < session.expires else None

    def use_up(self, ticket: bytes) -> bool:
        """An IKE SA is to be made with it (section 4.3.1). False: one was already."""
        digest = sha1(ticket)
        if digest in self._used:
            return False
        self._used[digest] = None
        self._order.append(digest)
        if len(self._order) > _MAX_USED:
            self._used.pop(self._order.popleft(), None)
        return True


def suite_of(name: str, accepted: tuple[IkeProposal, ...]) -> IkeSuite | None:
    """The suite of a session that is resumed; None: the configuration has it no more."""
    try:
        offered = offer_ike([IkeProposal.parse(name)])
    except EspudpError:
        return None
    choice = select_ike(offered, accepted)
    return None if choice is None or choice.suite.name != name else choice.suite


# The client's part


@dataclass(slots=True)
class Ticket:
    """A ticket, and what its client must know beside it."""

    octets: bytes = field(repr=False)
    suite: IkeSuite
    sk_d: bytes = field(repr=False)
    ours: Identity
    """IDi as we sent it."""

    claimed: Identity
    """IDr as the gateway sent it."""

    peer: Identity
    """Whom the gateway has proved to be."""

    expires_at: float
    tries: int = 0


class Wallet:
    """The tickets of connections that have broken off, each for the configuration that it came by."""

    def __init__(self) -> None:
        self._tickets: list[tuple[ConnectionConfig, str, Ticket]] = []

    def keep(self, config: ConnectionConfig, remote_ip: str, ticket: Ticket) -> None:
        """In place of one that was there for the same."""
        self._drop(lambda c, ip: (c, ip) == (config, remote_ip))
        self._tickets.append((config, remote_ip, ticket))

    def find(self, config: ConnectionConfig, remote_ip: str, now: float) -> Ticket | None:
        """One to be shown to this gateway now; it stays here until it is used."""
        for known, ip, ticket in self._tickets:
            if (known, ip) == (config, remote_ip):
                ticket.tries += 1
                if now < ticket.expires_at and ticket.tries <= _MAX_TRIES:
                    return ticket
        self._drop(lambda c, ip: (c, ip) == (config, remote_ip))
        return None

    def discard(self, ticket: Ticket) -> None:
        """It was used, or refused."""
        self._tickets = [entry for entry in self._tickets if entry[2] is not ticket]

    def _drop(self, meant: Callable[[ConnectionConfig, str], bool]) -> None:
        self._tickets = [entry for entry in self._tickets if not meant(entry[0], entry[1])]
