"""What whoever has no keys writes to an IKEv1 port, and what whoever has some says that no endpoint of ours
would.
"""

from collections.abc import Sequence
from dataclasses import replace
from random import Random
from typing import Any

from espudp.crypto.dh import generate
from espudp.crypto.suites import dh_by_keyword
from espudp.ike.config import ConnectionConfig, ListenerConfig
from espudp.ike.eap.users import User, UserTable
from espudp.ike.ikev1_config import Ikev1Config, Ikev1Policy, Mode
from espudp.ike.pad import PadEntry
from espudp.ike.proposals import EspProposal, IkeProposal
from espudp.ike.v1.connection import Connection
from espudp.ike.v1.established import Established
from espudp.ike.xauth import XauthLogin, XauthUsers
from espudp.wire.address import Path, UdpAddress
from espudp.wire.ikev1.attributes import Attribute
from espudp.wire.ikev1.constants import (
    AuthMethod,
    ExchangeType,
    IkeAttribute,
    IkeEncryption,
    IsakmpTransform,
    ProtocolId,
)
from espudp.wire.ikev1.header import Header
from espudp.wire.ikev1.message import emit_message
from espudp.wire.ikev1.payloads import Identification, KeyExchange, Nonce, Payload, SecurityAssociation
from espudp.wire.ikev1.proposal import Proposal, Transform
from tests.unit.ike.pair import (
    SERVER,
    Datagram,
    Pair,
    Side,
    client_child,
    client_config,
    server_config,
)

IKE, ESP = IkeProposal.parse("aes128-sha256-ecp256"), EspProposal.parse("aes128-sha1")
_SHA256 = 4

# People


def client_v1(
    mode: Mode = Mode.MAIN, *, login: XauthLogin | None = None, pushed: bool = False, **changed: Any
) -> ConnectionConfig:
    """Somebody who calls."""
    config = client_config(ike=[IKE], child=client_child(ESP))
    return replace(config, ikev1=Ikev1Config(mode=mode, xauth=login, pushed=pushed), **changed)


def server_v1(*pad: PadEntry, push: bool = False, **changed: Any) -> ListenerConfig:
    """Takes either mode; by the PSK of all, or by `pad`."""
    config = server_config(ike=[IKE], esp=[ESP], pad=pad or None)
    return replace(config, ikev1=Ikev1Policy(modes=frozenset(Mode), push=push), **changed)


def pair_v1(
    client: ConnectionConfig | None = None, server: ListenerConfig | None = None, *, seed: int = 0
) -> Pair:
    """The two of them, who have not said anything yet."""
    return Pair(client or client_v1(), server or server_v1(), seed=seed)


def users(**passwords: str) -> XauthUsers:
    """Who may log in."""
    table = UserTable([User.of_password(name, word) for name, word in passwords.items()], Random(1).randbytes)
    return XauthUsers(users=table)


# What strangers write


def transform(number: int = 1, **changed: int) -> Transform:
    """The one that everybody here takes, but for what is `changed`, by the attribute's name in lower case."""
    values = {
        IkeAttribute.ENCRYPTION: int(IkeEncryption.AES),
        IkeAttribute.KEY_LENGTH: 128,
        IkeAttribute.HASH: _SHA256,
        IkeAttribute.GROUP: 19,
        IkeAttribute.AUTHENTICATION: int(AuthMethod.PSK),
    }
    values |= {IkeAttribute[name.upper()]: value for name, value in changed.items()}
    attributes = tuple(Attribute.of(kind, value) for kind, value in values.items())
    return Transform(number, IsakmpTransform.KEY_IKE, attributes)


def offer(*transforms: Transform) -> SecurityAssociation:
    return SecurityAssociation.of((Proposal(1, ProtocolId.ISAKMP, b"", transforms or (transform(),)),))


class Stranger:
    """Writes first messages, from wherever it says it is."""

    def __init__(self, seed: int = 0) -> None:
        self.chance = Random(f"stranger {seed}")
        pair = generate(dh_by_keyword("ecp256"), self.chance.randbytes)  # type: ignore[arg-type]
        self.public = pair.public

    def main(self, *payloads: Payload) -> bytes:
        """The first message of main mode."""
        return self._first(ExchangeType.MAIN, payloads or (offer(),))

    def aggressive(self, name: bytes = b"nobody.example.org") -> bytes:
        """The first message of aggressive mode."""
        nonce = Nonce(self.chance.randbytes(20))
        return self._first(
            ExchangeType.AGGRESSIVE, (offer(), KeyExchange(self.public), nonce, Identification(2, name))
        )

    def _first(self, mode: ExchangeType, payloads: Sequence[Payload]) -> bytes:
        return emit_message(Header(self.chance.randbytes(8), bytes(8), 0, mode, 0), payloads)


def heard_from(ip: str, port: int = 500, ours: int = 500) -> Path:
    """How a server sees what comes from there."""
    return Path(UdpAddress(SERVER, ours), UdpAddress(ip, port))


def answers(side: Side, message: bytes, path: Path, now: float) -> list[bytes]:
    """What a side says to it at once."""
    side.endpoint.receive_datagram(message, path, now)
    return [octets for octets, _ in side.endpoint.datagrams_to_send(now)]


# What peers say


def connection_of(side: Side) -> Connection:
    """The only one."""
    v1 = side.endpoint._v1
    assert v1 is not None
    (connection,) = v1._hub.connections.values()
    return connection


def sa_of(side: Side) -> Established:
    """The ISAKMP SA that it uses."""
    current = connection_of(side).current
    assert current is not None
    return current


def states_of(side: Side) -> int:
    v1 = side.endpoint._v1
    return 0 if v1 is None else len(v1._hub.states)


def said(side: Side, exchange: int, *payloads: Payload) -> Datagram:
    """A message of a side's, with HASH(1) and a message ID of its own; `Pair.give` delivers it."""
    established = sa_of(side)
    chain = established.sa.chain(established.sa.new_message_id())
    return chain.seal_hashed(exchange, payloads), established.path
