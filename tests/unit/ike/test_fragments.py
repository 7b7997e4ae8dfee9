"""IKE fragmentation (RFC 7383): what is cut up, what is put together, and what is refused."""

from collections import Counter
from dataclasses import replace
from enum import Enum
from random import Random

import pytest

from espudp.crypto.aead import make_sealer
from espudp.errors import WireError
from espudp.ike.drop import Drop
from espudp.ike.protect import Content
from espudp.ike.v2.fragments import MAX_FRAGMENTS, MAX_OCTETS, REASSEMBLY_SECONDS, sizes_for
from espudp.ike.v2.hub import Datagram as Arrived
from espudp.ike.v2.sa import IkeSa
from espudp.wire.ikev2.constants import ExchangeType, NotifyType, PayloadType
from espudp.wire.ikev2.header import HEADER_OCTETS, Header
from espudp.wire.ikev2.message import parse_message
from espudp.wire.ikev2.payloads import EncryptedFragment, Notify, Payload, VendorId
from tests.unit.ike.pair import Datagram, Pair, Side, mirrored, path_to_server, rewritten

_INFORMATIONAL = ExchangeType.INFORMATIONAL
_NUMBER_AT = HEADER_OCTETS + 4

# 4 vendor IDs, of which nobody takes notice: about 8 KB.
_LONG = tuple(VendorId(bytes([number]) * 2000) for number in range(4))


def _connected() -> Pair:
    pair = Pair().connect()
    for side in (pair.client, pair.server):
        side.endpoint.drops.clear()
    return pair


def _fragments(pair: Pair, side: Side, payloads: tuple[Payload, ...] = _LONG) -> list[Datagram]:
    """A long request of this side, as it leaves."""
    side.request(_INFORMATIONAL, payloads, pair.now)
    side.endpoint._hub.reschedule(side.ike)
    return pair.take(side)


def _number(datagram: Datagram) -> tuple[int, int]:
    data = datagram[0]
    return int.from_bytes(data[_NUMBER_AT : _NUMBER_AT + 2]), int.from_bytes(data[_NUMBER_AT + 2 :][:2])


def _numbered(datagram: Datagram, number: int, total: int) -> Datagram:
    """As anybody on the way can write it."""
    data, path = datagram
    return data[:_NUMBER_AT] + number.to_bytes(2) + total.to_bytes(2) + data[_NUMBER_AT + 4 :], path


def _kept(sa: IkeSa) -> int:
    """Octets of fragments that an IKE SA keeps."""
    return sum(len(part) for parts in sa._parts.values() for part in parts._parts.values())


class _Forger:
    """Seals fragments with the client's keys, as only a broken or hostile peer does."""

    def __init__(self, pair: Pair) -> None:
        self.sa = pair.client.ike.sa
        self.header = self.sa._header(_INFORMATIONAL, self.sa.outgoing.next_id, is_response=False)

    def fragment(
        self, number: int, total: int, data: bytes = b"", *, header: Header | None = None, first: int = 0
    ) -> Datagram:
        def aad(octets: int) -> bytes:
            emitted = replace(
                header or self.header, next_payload=PayloadType.SKF, length=HEADER_OCTETS + 8 + octets
            ).emit()
            fields = bytes([first, 0]) + (8 + octets).to_bytes(2) + number.to_bytes(2) + total.to_bytes(2)
            return emitted + fields

        return self.sa._protection._seal(aad, data), path_to_server(4500)


# Cutting


@pytest.mark.parametrize(
    ("path_mtu", "at_most", "sizes"),
    [
        (None, None, [1280, 576]),
        (1500, None, [1500, 1280, 576]),
        (9000, None, [9000, 1280, 576]),
        (1280, None, [1280, 576]),
        (1000, None, [1000, 576]),
        (576, None, [576]),
        (300, None, [300]),
        (68, None, [256]),
        (None, 1400, [1280, 576]),
        (1500, 1400, [1400, 1280, 576]),
        (1500, 576, [576]),
        (1500, 100, [256]),
    ],
)
def test_sizes(path_mtu: int | None, at_most: int | None, sizes: list[int]) -> None:
    assert sizes_for(path_mtu, at_most) == sizes


@pytest.mark.parametrize("octets", [256, 300, 576, 1280])
def test_fragments_fill_their_packets_and_stand_for_themselves(octets: int) -> None:
    pair = _connected()
    sa = pair.client.ike.sa
    content = Content.of(_LONG)
    header = sa._header(_INFORMATIONAL, 2, is_response=False)
    sealed = sa._protection.seal_fragments(header, content, octets)
    assert all(len(data) == octets for data in sealed[:-1])
    assert len(sealed[-1]) <= octets
    parts = []
    for number, data in enumerate(sealed, 1):
        (fragment,) = parse_message(data).payloads
        assert isinstance(fragment, EncryptedFragment)
        assert (fragment.number, fragment.total) == (number, len(sealed))
        assert fragment.first_payload == (PayloadType.VENDOR_ID if number == 1 else 0)
        opened = pair.server.ike.sa._protection.open(data, fragment)
        assert opened is not None
        parts.append(opened.content().data)
    assert Content(content.first_payload, b"".join(parts)) == content


def test_an_iv_for_each_fragment() -> None:
    pair = _connected()
    sent = _fragments(pair, pair.client)
    assert len({data[_NUMBER_AT + 4 :][:8] for data, _ in sent}) == len(sent) == 7


# Putting together


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("who", ["client", "server"])
def test_in_any_order_and_any_number_of_times(seed: int, who: str) -> None:
    pair = _connected()
    asker, other = (pair.client, pair.server) if who == "client" else (pair.server, pair.client)
    sent = _fragments(pair, asker)
    arriving = sent * 2
    Random(seed).shuffle(arriving)
    for datagram in arriving:
        pair.give(other, datagram)
    answers = pair.take(other)
    firsts = arriving.count(sent[0])
    assert 1 <= len(answers) <= firsts
    pair.give(asker, answers[0])
    assert asker.ike.sa.pending is None
    assert _kept(other.ike.sa) == 0
    assert set(other.endpoint.drops) <= {Drop.FRAGMENT_REPEATED}


def test_an_answer_in_fragments() -> None:
    pair = _connected()
    pair.client.request(_INFORMATIONAL, (), pair.now)
    (request,) = pair.take(pair.client)
    header = Header.parse(request[0])
    server = pair.server.ike.sa
    header = server._header(_INFORMATIONAL, header.message_id, is_response=True)
    answer = server._protection.seal_fragments(header, Content.of(_LONG), 500)
    for data in answer[::-1]:
        assert pair.client.ike.sa.pending is not None
        pair.give(pair.client, (data, mirrored(request[1])))
    assert pair.client.ike.sa.pending is None
    assert not pair.client.endpoint.drops


def test_the_numbers_are_authenticated() -> None:
    """RFC 7383 section 2.5."""
    pair = _connected()
    for number, datagram in enumerate(_fragments(pair, pair.client), 1):
        (fragment,) = parse_message(_numbered(datagram, number, 7)[0]).payloads
        assert isinstance(fragment, EncryptedFragment)
        assert pair.server.ike.sa._protection.open(datagram[0], fragment) is not None
        data = _numbered(datagram, number, 8)[0]
        (fragment,) = parse_message(data).payloads
        assert isinstance(fragment, EncryptedFragment)
        assert pair.server.ike.sa._protection.open(data, fragment) is None


def test_one_fragment_of_one_is_a_message() -> None:
    pair = _connected()
    pair.give(pair.server, _Forger(pair).fragment(1, 1))
    assert len(pair.take(pair.server)) == 1


# Repetitions (RFC 7383 section 2.6.1)


def test_only_the_first_fragment_of_an_answered_request_gets_the_answer_again() -> None:
    pair = _connected()
    sent = _fragments(pair, pair.client)
    for datagram in sent:
        pair.give(pair.server, datagram)
    (answer,) = pair.take(pair.server)
    for datagram in sent:
        pair.give(pair.server, datagram)
        assert pair.take(pair.server) == ([answer] if datagram is sent[0] else [])
    assert pair.server.endpoint.drops == {Drop.FRAGMENT_REPEATED: 6}


def test_a_first_fragment_that_is_forged_gets_no_answer() -> None:
    pair = _connected()
    sent = _fragments(pair, pair.client)
    for datagram in sent:
        pair.give(pair.server, datagram)
    pair.take(pair.server)
    pair.give(pair.server, (sent[0][0][:-1] + bytes([sent[0][0][-1] ^ 1]), sent[0][1]))
    assert not pair.take(pair.server)
    assert pair.server.endpoint.drops == {Drop.BAD_ICV: 1}


def test_a_request_that_comes_again_in_smaller_pieces_is_the_same_request() -> None:
    """The answer was lost: it may be that it was too large (RFC 7383 section 2.5.1)."""
    pair = _connected()
    sent = _fragments(pair, pair.client)
    server = pair.server.ike.sa
    for datagram in sent[:-1]:
        pair.give(pair.server, datagram)
    pair.give(pair.server, sent[-1])
    pair.take(pair.server)
    handled = server.incoming.expected_id
    pair.wait(0.6, flush=False)
    assert pair.take(pair.client) == sent
    pair.wait(1.0, flush=False)
    smaller = pair.take(pair.client)
    assert len(smaller) == 17
    for datagram in smaller:
        pair.give(pair.server, datagram)
    assert len(pair.take(pair.server)) == 1
    assert server.incoming.expected_id == handled


def test_an_answer_that_is_asked_for_again_and_again_is_cut_smaller() -> None:
    pair = _connected()
    pair.client.request(_INFORMATIONAL, (), pair.now)
    (request,) = pair.take(pair.client)
    server = pair.server.ike.sa
    arrived = Arrived(request[0], Header.parse(request[0]), mirrored(request[1]), pair.now)
    received = server.accept(arrived, frozenset({int(_INFORMATIONAL)}))
    assert received is not None
    server.respond(received, _LONG)
    counts = [len(pair.take(pair.server))]
    for _ in range(4):
        pair.give(pair.server, request)
        counts.append(len(pair.take(pair.server)))
    assert counts == [7, 7, 17, 17, 17]


# What does not fit: refused, counted, bounded


@pytest.mark.parametrize(("number", "total"), [(0, 0), (0, 7), (1, 0), (8, 7), (0xFFFF, 1), (0, 0xFFFF)])
def test_numbers_that_cannot_be(number: int, total: int) -> None:
    pair = _connected()
    pair.give(pair.server, _Forger(pair).fragment(number, total, b"x"))
    assert pair.server.endpoint.drops == {Drop.MALFORMED: 1}
    assert _kept(pair.server.ike.sa) == 0
    with pytest.raises(WireError):
        parse_message(_Forger(pair).fragment(number, total, b"x")[0])


@pytest.mark.parametrize("total", [MAX_FRAGMENTS + 1, 0x8000, 0xFFFF])
def test_more_fragments_than_any_message_needs(total: int) -> None:
    pair = _connected()
    for number in (1, 2, total):
        pair.give(pair.server, _Forger(pair).fragment(number, total, b"x"))
    assert pair.server.endpoint.drops == {Drop.FRAGMENTS_TOO_MANY: 3}
    assert _kept(pair.server.ike.sa) == 0


def test_more_octets_than_any_message_needs() -> None:
    pair = _connected()
    forger = _Forger(pair)
    most = 0
    for number in range(1, MAX_FRAGMENTS + 1):
        pair.give(pair.server, forger.fragment(number, MAX_FRAGMENTS, bytes(1000)))
        most = max(most, _kept(pair.server.ike.sa))
    assert most <= MAX_OCTETS
    assert pair.server.endpoint.drops[Drop.FRAGMENTS_TOO_MANY] == MAX_FRAGMENTS * 1000 // MAX_OCTETS
    assert not pair.take(pair.server)


def test_a_number_that_comes_twice_with_other_content_changes_nothing() -> None:
    """There is no way to overlap: what is there stays."""
    pair = _connected()
    forger = _Forger(pair)
    vendor = bytes([0, 0, 0, 4 + 12]) + bytes(12)
    pair.give(pair.server, forger.fragment(1, 2, vendor[:8], first=PayloadType.VENDOR_ID))
    pair.give(pair.server, forger.fragment(1, 2, b"nonsense", first=PayloadType.SA))
    pair.give(pair.server, forger.fragment(2, 2, vendor[8:]))
    assert pair.server.endpoint.drops == {Drop.FRAGMENT_REPEATED: 1}
    assert len(pair.take(pair.server)) == 1
    assert len(pair.server.endpoint._hub.connections) == 1


def test_fragments_of_two_sets_are_not_mixed() -> None:
    """RFC 7383 section 2.6: the larger total counts from its first fragment on, the smaller one no more."""
    pair = _connected()
    forger = _Forger(pair)
    vendor = bytes([0, 0, 0, 4 + 12]) + bytes(12)
    pair.give(pair.server, forger.fragment(1, 2, vendor[:8], first=PayloadType.VENDOR_ID))
    pair.give(pair.server, forger.fragment(3, 4, vendor[8:12]))
    pair.give(pair.server, forger.fragment(2, 2, vendor[8:]))
    assert not pair.take(pair.server)
    assert pair.server.endpoint.drops == {Drop.FRAGMENTS_MISSING: 1, Drop.FRAGMENT: 1}
    for number, part in ((1, vendor[:4]), (2, vendor[4:8]), (4, vendor[12:])):
        first = PayloadType.VENDOR_ID if number == 1 else 0
        pair.give(pair.server, forger.fragment(number, 4, part, first=first))
    assert len(pair.take(pair.server)) == 1


def test_fragments_of_other_messages() -> None:
    """Old ones, ones to come, of another exchange, of another IKE SA, and answers that nobody asked for."""
    pair = _connected()
    forger = _Forger(pair)
    header = forger.header
    for other, reason in (
        (replace(header, message_id=header.message_id + 1), Drop.OUT_OF_WINDOW),
        (replace(header, message_id=header.message_id - 2), Drop.OUT_OF_WINDOW),
        (replace(header, exchange=ExchangeType.IKE_AUTH), Drop.WRONG_EXCHANGE),
        (replace(header, spi_i=b"elsewhen"), Drop.WRONG_SPI),
        (replace(header, is_response=True), Drop.UNSOLICITED),
        (replace(header, message_id=header.message_id - 1), Drop.FRAGMENT_REPEATED),
    ):
        pair.server.endpoint.drops.clear()
        pair.give(pair.server, forger.fragment(2, 3, b"x", header=other))
        assert pair.server.endpoint.drops == {reason: 1}
    assert _kept(pair.server.ike.sa) == 0


def test_a_message_that_changes_its_exchange_starts_over() -> None:
    pair = _connected()
    forger = _Forger(pair)
    other = replace(forger.header, exchange=ExchangeType.CREATE_CHILD_SA)
    for number in range(1, 20):
        pair.give(pair.server, forger.fragment(number, 20, bytes(500)))
    pair.give(pair.server, forger.fragment(20, 20, b"x", header=other))
    assert pair.server.endpoint.drops == {Drop.FRAGMENTS_MISSING: 1}
    assert _kept(pair.server.ike.sa) == 1


def test_what_is_not_authentic_is_not_kept() -> None:
    pair = _connected()
    sent = _fragments(pair, pair.client)
    for datagram in sent:
        for bent in (_numbered(datagram, 1, 7), _numbered(datagram, 7, 7), _numbered(datagram, 7, 100)):
            if bent != datagram:
                pair.give(pair.server, bent)
    assert set(pair.server.endpoint.drops) == {Drop.BAD_ICV, Drop.MALFORMED}
    assert _kept(pair.server.ike.sa) == 0
    for datagram in sent:
        pair.give(pair.server, datagram)
    assert len(pair.take(pair.server)) == 1


def test_other_payloads_beside_a_fragment() -> None:
    pair = _connected()
    ((data, path), *_) = _fragments(pair, pair.client)
    (fragment,) = parse_message(data).payloads
    bent = rewritten((data, path), Notify.of(NotifyType.INITIAL_CONTACT), fragment)
    pair.give(pair.server, bent)
    assert pair.server.endpoint.drops == {Drop.UNPROTECTED: 1}


def test_a_fragment_with_padding_that_cannot_be() -> None:
    pair = _connected()
    sa = pair.client.ike.sa
    header = replace(sa._header(_INFORMATIONAL, 2, is_response=False), next_payload=PayloadType.SKF)
    keys = sa._protection
    sealer = make_sealer(keys._encr, keys._integ, keys._ours, keys._rng)
    body = sealer.iv_octets + 1 + sealer.icv_octets
    aad = replace(header, length=HEADER_OCTETS + 8 + body).emit() + bytes([0, 0, 0, 8 + body, 0, 1, 0, 1])
    pair.give(pair.server, (aad + sealer.seal(9, aad, b"\xff"), path_to_server(4500)))
    assert pair.server.endpoint.drops == {Drop.MALFORMED: 1}


def test_who_has_not_said_that_it_takes_fragments_gets_none_and_may_send_none() -> None:
    """RFC 7383 section 2.4."""
    pair = _connected()
    sent = _fragments(pair, pair.client)
    pair.server.ike.sa.fragments = pair.client.ike.sa.fragments = False
    for datagram in sent:
        pair.give(pair.server, datagram)
    assert pair.server.endpoint.drops == {Drop.FRAGMENT: len(sent)}
    pair.client.ike.sa.outgoing.pending = None
    ((data, _),) = _fragments(pair, pair.client)
    assert len(data) > 8000


@pytest.mark.parametrize("without", ["client", "server"])
def test_it_takes_two_to_agree_on_fragments(without: str) -> None:
    pair = Pair()
    pair.dial()
    mover, sender = (pair.server, pair.client) if without == "client" else (pair.client, pair.server)
    if sender is pair.server:
        pair.move(pair.client)
    ((data, path),) = pair.take(sender)
    message = parse_message(data)
    kept = [p for p in message.payloads if p != Notify.of(NotifyType.IKEV2_FRAGMENTATION_SUPPORTED)]
    assert len(kept) == len(message.payloads) - 1
    pair.give(mover, rewritten((data, path), *kept))
    if mover is pair.server:
        ((answer, _),) = pair.take(pair.server)
        assert not parse_message(answer).notify(NotifyType.IKEV2_FRAGMENTATION_SUPPORTED)
    (state,) = mover.states
    assert not state._sa.fragments  # type: ignore[attr-defined]


def test_fragments_that_never_come_are_not_waited_for() -> None:
    pair = _connected()
    forger = _Forger(pair)
    for number in range(1, 20):
        pair.give(pair.server, forger.fragment(number, 20, bytes(500)))
    assert _kept(pair.server.ike.sa) == 19 * 500
    assert pair.server.endpoint.poll_timer() is not None
    pair.now += REASSEMBLY_SECONDS
    pair.server.endpoint.handle_timer(pair.now)
    assert _kept(pair.server.ike.sa) == 0
    assert pair.server.endpoint.drops[Drop.FRAGMENTS_MISSING] == 1
    assert not pair.server.endpoint._hub.reassemblies._live
    pair.give(pair.server, forger.fragment(20, 20, b"x"))
    assert _kept(pair.server.ike.sa) == 1


def test_a_half_open_ike_sa_keeps_as_little() -> None:
    """Whoever has keys and has proved nothing: bounded octets, and not longer than the half-open IKE SA."""
    pair = Pair()
    pair.dial()
    pair.move(pair.client)
    pair.move(pair.server)
    pair.take(pair.client)
    (state,) = pair.client.states
    sa: IkeSa = state._sa  # type: ignore[attr-defined]
    forger = _Forger.__new__(_Forger)
    forger.sa = sa
    header = sa._header(ExchangeType.IKE_AUTH, 1, is_response=False)
    for number in range(2, MAX_FRAGMENTS):
        pair.give(pair.server, forger.fragment(number, MAX_FRAGMENTS, bytes(250), header=header))
    (waiting,) = pair.server.states
    assert 30_000 < _kept(waiting._sa) <= MAX_OCTETS  # type: ignore[attr-defined]
    pair.wait(31.0, flush=False)
    assert not pair.server.states
    pair.wait(REASSEMBLY_SECONDS, flush=False)
    assert not pair.server.endpoint._hub.reassemblies._live


def test_junk_in_fragments() -> None:
    """Authentic junk of every size and number: bounded, and nothing escapes."""
    chance = Random(5)
    seen: Counter[Enum] = Counter()
    for _ in range(30):
        pair = _connected()
        forger = _Forger(pair)
        for _ in range(40):
            total = chance.choice([1, 2, 3, 5, 128, 129])
            data = chance.randbytes(chance.randrange(600))
            first = chance.choice([0, 33, 41, 42, 46, 53, 200])
            pair.give(pair.server, forger.fragment(chance.randrange(6), total, data, first=first))
            assert all(_kept(e.sa) <= MAX_OCTETS for e in pair.server.states if hasattr(e, "sa"))
        seen += pair.server.endpoint.drops
    assert set(seen) >= {Drop.FRAGMENT_REPEATED, Drop.FRAGMENTS_TOO_MANY, Drop.MALFORMED}
