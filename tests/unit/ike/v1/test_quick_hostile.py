"""Quick mode and informational exchanges with a peer that has the keys and lies, and with who has none."""

from collections.abc import Callable, Sequence

import pytest

from espudp.crypto.ikev1keys import hash_1
from espudp.ike.drop import Drop
from espudp.ike.events import ChildConfirmed, ConnectionDown
from espudp.ike.v1 import informational
from espudp.ike.v1.established import MAX_EXCHANGES
from espudp.ike.v1.hub import Datagram
from espudp.wire.address import UdpAddress
from espudp.wire.ikev1.attributes import Attribute
from espudp.wire.ikev1.constants import (
    Encapsulation,
    ExchangeType,
    IdType,
    IpsecAttribute,
    NotifyType,
    ProtocolId,
)
from espudp.wire.ikev1.header import Header
from espudp.wire.ikev1.message import emit_payloads
from espudp.wire.ikev1.payloads import (
    Delete,
    Hash,
    Identification,
    KeyExchange,
    Nonce,
    Notification,
    Payload,
    SecurityAssociation,
    Unknown,
)
from espudp.wire.ikev1.proposal import Proposal, Transform
from tests.unit.ike.v1.quick_pair import Pair, Side

SPI = b"\x77\x66\x55\x44"
GCM = Transform(
    1,
    20,
    (
        Attribute.of(IpsecAttribute.ENCAPSULATION, Encapsulation.UDP_TUNNEL),
        Attribute.of(IpsecAttribute.KEY_LENGTH, 128),
    ),
)
OFFER = SecurityAssociation.of((Proposal(1, ProtocolId.ESP, SPI, (GCM,)),))
PFS = Transform(1, 20, (*GCM.attributes, Attribute.of(IpsecAttribute.GROUP, 14)))
OFFER_PFS = SecurityAssociation.of((Proposal(1, ProtocolId.ESP, SPI, (PFS,)),))
NONCE = Nonce(b"n" * 32)
OURS = Identification(IdType.IPV4_ADDR, bytes([10, 9, 0, 1]))
THEIRS = Identification(IdType.IPV4_ADDR_SUBNET, bytes([10, 1, 0, 0, 255, 255, 0, 0]))


def quick(
    side: Side, payloads: Sequence[Payload], *, message_id: int = 0x1234, key: bytes | None = None
) -> bytes:
    """A first message of quick mode as this side would send it, proved with the right key or another."""
    sa = side.established.sa
    proof = hash_1(sa.suite.hash, sa.keys.a if key is None else key, message_id, emit_payloads(payloads)[1])
    return sa.chain(message_id).seal(ExchangeType.QUICK, [Hash(proof), *payloads])


def told(side: Side, payloads: Sequence[Payload], message_id: int = 0x4321) -> bytes:
    """An informational exchange of this side."""
    return side.established.sa.chain(message_id).seal_hashed(ExchangeType.INFORMATIONAL, payloads)


def spis(side: Side) -> set[int]:
    return {child.spi_in for child in side.children()}


class TestWithoutKeys:
    @pytest.mark.parametrize("message", [0, 1, 2])
    def test_a_message_that_was_changed(self, message: int) -> None:
        """Whichever octet behind the header: nothing changes, and the right one counts afterwards."""
        pair = Pair()
        pair.start()
        sides = [pair.client, pair.server, pair.client]
        for index in range(message):
            sides[index + 1].receive(*sides[index].take())
        (good,) = sides[message].take()
        receiver = pair.server if message != 1 else pair.client
        for at in range(28, len(good), 5):
            before = len(receiver.commons.child_spis), receiver.told(ChildConfirmed)
            receiver.receive(good[:at] + bytes([good[at] ^ 0x40]) + good[at + 1 :])
            assert receiver.take() == []
            assert before == (len(receiver.commons.child_spis), receiver.told(ChildConfirmed))
        assert receiver.commons.drops[Drop.BAD_ICV] == len(range(28, len(good), 5))
        receiver.receive(good)
        pair.carry()
        assert pair.in_step()
        assert pair.server.told(ChildConfirmed)

    def test_a_replay_of_each_message_later(self) -> None:
        pair = Pair()
        pair.start()
        heard: list[tuple[Side, bytes]] = []
        for sender, receiver in ((pair.client, pair.server), (pair.server, pair.client)) * 2:
            for octets in sender.take():
                heard.append((receiver, octets))
                receiver.receive(octets)
        pair.wait(400.0)
        before = spis(pair.client), spis(pair.server)
        for receiver, octets in heard:
            receiver.receive(octets)
        pair.carry()
        assert before == (spis(pair.client), spis(pair.server))
        assert pair.server.commons.drops[Drop.REPEATED] >= 2

    def test_another_key(self) -> None:
        pair = Pair().up()
        pair.server.receive(quick(pair.client, [OFFER, NONCE, OURS, THEIRS], key=bytes(32)))
        assert pair.server.take() == []
        assert len(pair.server.children()) == 1

    def test_a_hash_that_is_missing_short_or_not_the_first(self) -> None:
        pair = Pair().up()
        sa = pair.client.established.sa
        rest: list[Payload] = [OFFER, NONCE, OURS, THEIRS]
        proof = hash_1(sa.suite.hash, sa.keys.a, 7, emit_payloads(rest)[1])
        for payloads in (
            [*rest],
            [Hash(proof[:-1]), *rest],
            [Hash(b""), *rest],
            [OFFER, Hash(proof), *rest[1:]],
        ):
            pair.server.receive(sa.chain(7).seal(ExchangeType.QUICK, payloads))
        assert pair.server.take() == []
        assert pair.server.commons.drops[Drop.BAD_ICV] == 4
        pair.server.receive(sa.chain(7).seal(ExchangeType.QUICK, [Hash(proof), *rest]))
        assert pair.server.take(), "none of them has used up the message ID"


class TestWithKeys:
    def refused(self, payloads: Sequence[Payload], notify: int) -> None:
        """By a notification, and nothing is left of it."""
        pair = Pair().up()
        known = len(pair.server.commons.child_spis)
        pair.server.receive(quick(pair.client, payloads))
        (answer,) = pair.server.take()
        message = self.opened(pair.client, answer)
        assert message == [notify]
        assert len(pair.server.commons.child_spis) == known == 1
        pair.server.receive(quick(pair.client, payloads))
        assert pair.server.take() == [answer], "it may have got lost"
        pair.wait(100.0, carry=False)
        assert not pair.server.established.exchanges
        assert not pair.server.told(ConnectionDown)

    def opened(self, side: Side, octets: bytes) -> list[int]:
        header = Header.parse(octets)
        chain = side.established.sa.chain(header.message_id)
        message = chain.open_hashed(Datagram(octets, header, side.path, 0.0))
        assert message is not None
        return [n.type for n in message.all(Notification)]

    @pytest.mark.parametrize(
        ("payloads", "notify"),
        [
            ([OFFER, OFFER, NONCE, OURS, THEIRS], NotifyType.PAYLOAD_MALFORMED),
            ([OFFER, OURS, THEIRS], NotifyType.PAYLOAD_MALFORMED),
            ([OFFER, NONCE, NONCE, OURS, THEIRS], NotifyType.PAYLOAD_MALFORMED),
            ([NONCE, OURS, THEIRS], NotifyType.PAYLOAD_MALFORMED),
            ([OFFER, NONCE, OURS], NotifyType.PAYLOAD_MALFORMED),
            ([OFFER, NONCE, OURS, THEIRS, OURS], NotifyType.PAYLOAD_MALFORMED),
            ([OFFER_PFS, NONCE, OURS, THEIRS], NotifyType.NO_PROPOSAL_CHOSEN),
            ([OFFER, NONCE, KeyExchange(b"x"), OURS, THEIRS], NotifyType.NO_PROPOSAL_CHOSEN),
            (
                [OFFER_PFS, NONCE, KeyExchange(b"x"), KeyExchange(b"x"), OURS, THEIRS],
                NotifyType.PAYLOAD_MALFORMED,
            ),
            ([OFFER_PFS, NONCE, KeyExchange(b"x"), OURS, THEIRS], NotifyType.INVALID_KEY_INFORMATION),
            ([OFFER_PFS, NONCE, KeyExchange(bytes(256)), OURS, THEIRS], NotifyType.INVALID_KEY_INFORMATION),
            (
                [OFFER, NONCE, Identification(IdType.KEY_ID, b""), THEIRS],
                NotifyType.INVALID_ID_INFORMATION,
            ),
            ([OFFER, NONCE, Identification(0, b""), THEIRS], NotifyType.INVALID_ID_INFORMATION),
            ([OFFER, NONCE, THEIRS, OURS], NotifyType.INVALID_ID_INFORMATION),
            ([OFFER, NONCE], NotifyType.INVALID_ID_INFORMATION),
        ],
    )
    def test_requests_that_make_no_sense(self, payloads: Sequence[Payload], notify: int) -> None:
        self.refused(payloads, notify)

    def test_unknown_payloads_do_no_harm(self) -> None:
        pair = Pair().up()
        pair.server.receive(quick(pair.client, [OFFER, NONCE, OURS, Unknown(200, b"what"), THEIRS]))
        assert len(pair.server.children()) == 2

    def test_a_thousand_requests(self) -> None:
        """Bounded by what is allowed, and the connection stands."""
        pair = Pair(dpd=False).up()
        for message_id in range(1, 1001):
            pair.server.receive(quick(pair.client, [OFFER, NONCE, OURS, THEIRS], message_id=message_id))
        assert len(pair.server.children()) <= 17
        assert len(pair.server.established.exchanges) <= MAX_EXCHANGES
        pair.server.take()
        pair.wait(300.0, carry=False)
        assert len(pair.server.children()) <= 1
        assert not pair.server.established.exchanges

    def test_deletes_of_what_is_not_the_peers(self) -> None:
        pair = Pair().up()
        child = pair.server.children()[0]
        others = (child.spi_in_octets, b"\x00\x00\x00\x00", b"\xff\xff\xff\xff")
        pair.server.receive(told(pair.client, [Delete(ProtocolId.ESP, others)]))
        pair.server.receive(told(pair.client, [Delete(ProtocolId.AH, (child.spi_out.to_bytes(4),))], 5))
        pair.server.receive(told(pair.client, [Delete(ProtocolId.ISAKMP, (bytes(16),))], 6))
        assert pair.server.children() == [child]
        assert pair.server.connection.current is not None

    def test_an_spi_that_is_deleted_twice_in_one_breath(self) -> None:
        """CVE-2023-38712"""
        pair = Pair().up()
        spi = pair.client.children()[0].spi_in_octets
        pair.server.receive(
            told(pair.client, [Delete(ProtocolId.ESP, (spi, spi)), Delete(ProtocolId.ESP, (spi,))])
        )
        assert pair.server.children() == []

    @pytest.mark.parametrize(
        "change",
        [
            lambda body: body[:5] + b"\x08" + body[6:],  # the size of an SPI
            lambda body: body[:5] + b"\x00" + body[6:],
            lambda body: body[:6] + b"\x00\x02" + body[8:],  # their count
            lambda body: body[:6] + b"\xff\xff" + body[8:],
            lambda body: body[:-1],
            lambda body: body[:8],
        ],
    )
    def test_deletes_whose_counts_lie(self, change: Callable[[bytes], bytes]) -> None:
        pair = Pair().up()
        spi = pair.client.children()[0].spi_in_octets
        body = bytes([0, 0, 0, 1, ProtocolId.ESP, 4, 0, 1]) + spi
        pair.server.receive(told(pair.client, [Unknown(12, change(body))]))
        assert len(pair.server.children()) == 1

    def test_notifications_that_mean_nothing(self) -> None:
        pair = Pair().up()
        kinds = [*range(40), 16384, 24576, 24577, 24578, 36136, 36137, 40501, 65535]
        for number, kind in enumerate(kinds, 100):
            for spi, data in ((b"", b""), (b"x" * 16, b"abc"), (SPI, SPI)):
                notify = Notification(ProtocolId.ESP, spi, kind, data)
                pair.server.receive(told(pair.client, [notify], message_id=3 * number + len(data)))
        assert len(pair.server.children()) == 1
        assert not pair.server.told(ConnectionDown)

    def test_an_answer_with_what_was_not_offered(self) -> None:
        """The peer's child SA is deleted again, and the connection has none."""
        pair = Pair()
        pair.start()
        pair.server.receive(*pair.client.take())
        (exchange,) = pair.server.established.exchanges.values()
        (wish,) = pair.client.established.exchanges.values()
        wish._mode = Encapsulation.TUNNEL  # type: ignore[attr-defined]
        assert exchange.message_id == wish.message_id
        pair.carry()
        assert pair.client.told(ConnectionDown)
        assert pair.server.told(ConnectionDown)
        assert len(pair.client.commons.child_spis) == len(pair.server.commons.child_spis) == 0


class TestDeadPeerDetection:
    def ask(self, side: Side, sequence: bytes, spi: bytes | None = None) -> Notification:
        sa = side.established.sa
        cookies = sa.cookie_i + sa.cookie_r if spi is None else spi
        return Notification(ProtocolId.ISAKMP, cookies, NotifyType.R_U_THERE, sequence)

    def answers(self, pair: Pair, *questions: Notification) -> int:
        count = 0
        for question in questions:
            message_id = pair.client.established.sa.new_message_id()
            pair.server.receive(told(pair.client, [question], message_id))
            count += len(pair.server.take())
        return count

    def test_numbers_go_upwards(self) -> None:
        """RFC 3706 section 6.2; a repetition in a message of its own is answered as well."""
        pair = Pair().up()
        numbers = [n.to_bytes(4) for n in (100, 101, 101, 99, 100, 5000, 0xFFFFFFFF)]
        assert self.answers(pair, *(self.ask(pair.client, n) for n in numbers)) == 5

    def test_malformed_questions(self) -> None:
        pair = Pair().up()
        odd = [
            self.ask(pair.client, b""),
            self.ask(pair.client, b"abc"),
            self.ask(pair.client, bytes(5)),
            self.ask(pair.client, bytes(4), spi=b"other cookies..."),
        ]
        assert self.answers(pair, *odd) == 0

    def test_answers_that_nobody_asked_for(self) -> None:
        pair = Pair().up()
        pair.server.connection.check_alive(pair.now)
        (question,) = pair.server.take()
        for number in (0, 1, 0xFFFFFFFF):
            answer = Notification(ProtocolId.ISAKMP, b"", NotifyType.R_U_THERE_ACK, number.to_bytes(4))
            pair.server.receive(told(pair.client, [answer], message_id=number + 9 & 0xFFFF))
        assert pair.server.commons.drops[Drop.UNSOLICITED] == 3
        pair.client.receive(question)
        pair.server.receive(*pair.client.take())
        assert pair.server.connection.upkeep._dpd is not None
        assert pair.server.connection.upkeep._dpd.deadline is None

    def test_a_peer_without_it_is_not_asked(self) -> None:
        pair = Pair(dpd=False).up()
        pair.wait(100.0, carry=False)
        assert pair.client.take() == pair.server.take() == []


def test_who_tells_of_an_unknown_spi_is_a_peer() -> None:
    pair = Pair().up()
    assert informational.unknown_spi(pair.server.hub, 0x12345678, pair.server.path, pair.now)
    assert len(pair.server.take()) == 1
    other = pair.server.path._replace(remote=UdpAddress(pair.server.path.remote.ip, 61000))
    assert informational.unknown_spi(pair.server.hub, 0x12345678, other, pair.now), "its NAT has another port"
    pair.server.take()
    nowhere = pair.server.path._replace(remote=pair.server.path.local)
    assert not informational.unknown_spi(pair.server.hub, 0x12345678, nowhere, pair.now)
    assert pair.server.take() == []
