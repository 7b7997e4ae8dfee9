"""Members of a cluster that synchronize message IDs (RFC 6311): who knows nothing of it takes no harm."""

import struct
from collections.abc import Sequence

import pytest

from espudp.ike.drop import Drop
from espudp.ike.events import ConnectionDown
from espudp.wire.ikev2.constants import ExchangeType, NotifyType
from espudp.wire.ikev2.message import Message
from espudp.wire.ikev2.payloads import Notify, Payload, TsResponder
from tests.scenario.lab import Terms
from tests.scenario.test_products import ADDRESS, USES, Gateway, Place, caller, dialling
from tests.sim.host import Host
from tests.sim.script import Script

INFORMATIONAL = ExchangeType.INFORMATIONAL
# Section 5.1: in IKE_AUTH, without data.
ANNOUNCEMENT = Notify.of(NotifyType.IKEV2_MESSAGE_ID_SYNC_SUPPORTED)


def synchronization(send: int, receive: int) -> Notify:
    """Section 5.2: a nonce of 4 octets, and the numbers that the sender would send and receive next."""
    nonce = bytes.fromhex("5eed5eed")
    return Notify.of(NotifyType.IKEV2_MESSAGE_ID_SYNC, struct.pack("!4sII", nonce, send, receive))


def jump(peer: Script) -> None:
    """Section 5.2: the request that synchronizes has message ID 0, whatever came before."""
    number, peer._next_id = peer._next_id, 0
    peer.ask(INFORMATIONAL, [synchronization(1000, 1000)])
    peer._next_id = number


def numbers(messages: Sequence[Message]) -> list[str]:
    """What the peer heard, a line a message."""
    return [
        f"{ExchangeType(m.header.exchange).name} {m.header.message_id} "
        + ("response" if m.header.is_response else "request")
        for m in messages
    ]


class AnnouncingGateway(Gateway):
    """Says in IKE_AUTH that it could."""

    def answer(self, message: Message) -> Sequence[Payload]:
        said = super().answer(message)
        return [*said, ANNOUNCEMENT] if message.header.exchange == ExchangeType.IKE_AUTH else said


def check(host: Host, peer: Script, place: Place) -> None:
    """The numbers of both directions go on from where they were, and the connection stays."""
    connection = host.connection
    for _ in range(2):
        peer.ask(INFORMATIONAL, [])
        place.world.run(1.0)
    before = peer._next_id
    peer.heard.clear()
    drops = host.tunnel._ike.drops
    assert drops[Drop.OUT_OF_WINDOW] == 0
    jump(peer)
    place.world.run(1.0)
    assert numbers(peer.heard) == []
    assert drops[Drop.OUT_OF_WINDOW] == 1
    for _ in range(2):
        peer.ask(INFORMATIONAL, [])
        place.world.run(1.0)
        host.do(lambda tunnel: tunnel.check_alive(connection, place.world.now))
        place.world.run(1.0)
    ours = [m.header.message_id for m in peer.heard if not m.header.is_response]
    assert numbers(peer.heard) == [
        f"INFORMATIONAL {before} response",
        f"INFORMATIONAL {ours[0]} request",
        f"INFORMATIONAL {before + 1} response",
        f"INFORMATIONAL {ours[0] + 1} request",
    ]
    assert ours[0] < 1000
    assert not host.told(ConnectionDown)
    assert len(host.children()) == 1


@pytest.fixture
def place() -> Place:
    return Place()


@pytest.mark.parametrize("announced", [True, False])
def test_as_responder(place: Place, announced: bool) -> None:
    server = place.listen(Terms().listener())
    peer = caller(place)
    peer.ask_for("0.0.0.0/0", "0.0.0.0/0", before=[ADDRESS, *([ANNOUNCEMENT] if announced else [])])
    place.world.run(1.0)
    answer = peer.heard[-1]
    assert answer.get(TsResponder) is not None
    assert answer.notify(NotifyType.IKEV2_MESSAGE_ID_SYNC_SUPPORTED) is None
    check(server, peer, place)


@pytest.mark.parametrize("kind", [AnnouncingGateway, Gateway])
def test_as_initiator(place: Place, kind: type[Gateway]) -> None:
    gateway = kind(place, uses=USES["azure"], esp_bits=256)
    client = place.dial(dialling("azure"))
    asked = gateway.heard[-1]
    assert asked.header.exchange == ExchangeType.IKE_AUTH
    assert asked.notify(NotifyType.IKEV2_MESSAGE_ID_SYNC_SUPPORTED) is None
    check(client, gateway, place)
