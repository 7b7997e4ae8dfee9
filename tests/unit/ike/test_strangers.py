"""What a listener does with IKE_SA_INIT requests from anybody: bounded memory, bounded work, small
answers.
"""

from random import Random

import pytest

from espudp.ike.config import Limits
from espudp.ike.drop import Drop
from espudp.ike.events import ConnectionUp, PeerRefused
from espudp.ike.proposals import IkeProposal
from espudp.ike.v2.admission import Admission, Verdict
from espudp.ike.v2.init_responder import MAX_REQUEST_OCTETS
from espudp.wire.address import UdpAddress
from espudp.wire.ikev2.constants import NotifyType
from espudp.wire.ikev2.message import parse_message
from espudp.wire.ikev2.payloads import (
    KeyExchange,
    Nonce,
    Notify,
    Payload,
    SecurityAssociation,
    Unknown,
    VendorId,
)
from tests.unit.ike.pair import (
    Datagram,
    Pair,
    client_config,
    headers,
    notified,
    rewritten,
    server_config,
)


def test_the_same_request_again_gets_the_same_answer() -> None:
    pair = Pair()
    pair.dial()
    (request,) = pair.take(pair.client)
    answers = []
    for _ in range(3):
        pair.give(pair.server, request)
        answers += pair.take(pair.server)
    assert len({data for data, _ in answers}) == 1
    assert len(answers) == 3
    assert pair.server.state_names == ["AwaitAuth"]
    pair.give(pair.client, answers[0])
    pair.flush()
    pair.agree()
    # RFC 7296 section 2.1: and none once the IKE SA has gone further.
    pair.give(pair.server, request)
    assert pair.take(pair.server) == []
    assert pair.server.endpoint.drops[Drop.REPEATED] == 1


def test_two_peers_behind_one_nat_may_choose_the_same_spi() -> None:
    pair = Pair()
    pair.dial()
    (request,) = pair.take(pair.client)
    pair.give(pair.server, request)
    (other, path) = request[0], request[1]._replace(local=request[1].local._replace(port=1234))
    nonce = parse_message(other).get(Nonce)
    assert nonce is not None
    other = other.replace(nonce.data, bytes(32))
    pair.give(pair.server, (other, path))
    spis = {h.spi_r for h in headers(pair.take(pair.server))}
    assert len(spis) == 2
    assert pair.server.state_names == ["AwaitAuth"] * 2


def test_half_open_ike_sas_end_by_themselves() -> None:
    pair = Pair()
    pair.dial()
    pair.move(pair.client)
    assert pair.server.state_names == ["AwaitAuth"]
    pair.now += 30.0
    pair.server.endpoint.handle_timer(pair.now)
    assert pair.server.states == []
    assert pair.server.endpoint.poll_timer() is None
    assert pair.server.endpoint._hub.admission.half_open == 0


def test_a_flood_is_bounded() -> None:
    limits = Limits(half_open_max=20, cookie_threshold=10, half_open_per_address=5)
    pair = Pair(server=server_config(limits=limits))
    answered = {"cookie": 0, "half-open": 0, "nothing": 0}
    for number in range(200):
        pair.dial(source=10_000 + number)
        ((data, path),) = pair.take(pair.client)
        source = path.local._replace(ip=f"203.0.113.{number % 100}")
        pair.give(pair.server, (data, path._replace(local=source)))
        replies = pair.take(pair.server)
        assert all(len(reply) <= len(data) + 64 for reply, _ in replies)
        kind = "nothing" if not replies else "cookie" if len(replies[0][0]) < 100 else "half-open"
        answered[kind] += 1
    assert answered["half-open"] == 10
    assert answered["cookie"] == 190
    assert pair.server.endpoint._hub.admission.half_open == 10


def test_a_stranger_with_an_address_of_its_own_is_bounded_as_well() -> None:
    pair = Pair(server=server_config(limits=Limits(half_open_per_address=3, half_open_max=100)))
    for number in range(10):
        pair.dial(source=10_000 + number)
        pair.move(pair.client)
    assert len(pair.server.states) == 3
    assert pair.server.endpoint.drops[Drop.HALF_OPEN] == 7


def test_no_answer_is_much_larger_than_its_request() -> None:
    """CVE-2016-5361: whoever forges an address must not gain by it."""
    groups = [IkeProposal.parse(f"aes128gcm16-prfsha256-{g}") for g in ("curve25519", "modp4096")]
    for group in groups:
        pair = Pair(client_config(ike=[group]), server_config(ike=groups))
        pair.dial()
        (request,) = pair.take(pair.client)
        message = parse_message(request[0])
        bare = [p for p in message.payloads if not isinstance(p, Notify)]
        bare = [Nonce(p.data[:16]) if isinstance(p, Nonce) else p for p in bare]
        small = rewritten(request, *bare)
        pair.give(pair.server, small)
        ((answer, _),) = pair.take(pair.server)
        assert len(answer) <= len(small[0]) + 24


@pytest.mark.parametrize("drop", [SecurityAssociation, KeyExchange, Nonce])
def test_a_request_that_lacks_a_payload(drop: type[Payload]) -> None:
    """CVE-2013-6466."""
    pair = Pair()
    pair.dial()
    (request,) = pair.take(pair.client)
    rest = [p for p in parse_message(request[0]).payloads if not isinstance(p, drop)]
    pair.give(pair.server, rewritten(request, *rest))
    assert pair.take(pair.server) == []
    assert pair.server.states == []
    assert pair.server.endpoint.drops[Drop.BAD_PAYLOADS] == 1


@pytest.mark.parametrize(
    "public", [bytes(32), b"\x01" + bytes(31), b"", bytes(31), bytes(33), b"\xec" + b"\xff" * 30 + b"\x7f"]
)
def test_a_public_value_that_no_honest_peer_sends(public: bytes) -> None:
    """CVE-2015-3240, CVE-2023-41913."""
    pair = Pair()
    pair.dial()
    (request,) = pair.take(pair.client)
    payloads = [
        KeyExchange(p.group, public) if isinstance(p, KeyExchange) else p
        for p in parse_message(request[0]).payloads
    ]
    pair.give(pair.server, rewritten(request, *payloads))
    assert pair.take(pair.server) == []
    assert pair.server.states == []
    assert pair.server.endpoint.drops[Drop.BAD_KEY_EXCHANGE] == 1


def test_unknown_payloads_in_the_first_message() -> None:
    pair = Pair()
    pair.dial()
    (request,) = pair.take(pair.client)
    payloads = parse_message(request[0]).payloads
    pair.give(pair.server, rewritten(request, *payloads, Unknown(77, True, b"x")))
    ((answer, _),) = pair.take(pair.server)
    (notify,) = parse_message(answer).notifies()
    assert (notify.type, notify.data) == (NotifyType.UNSUPPORTED_CRITICAL_PAYLOAD, bytes([77]))
    assert pair.server.states == []
    pair.give(pair.server, rewritten(request, *payloads, Unknown(77, False, b"x")))
    assert pair.server.state_names == ["AwaitAuth"]


def test_refusals_are_counted_out() -> None:
    pair = Pair(server=server_config(ike=(IkeProposal.parse("aes256-sha256-modp2048"),)))
    answers = []
    for number in range(200):
        pair.dial(source=10_000 + number)
        pair.move(pair.client)
        answers += pair.take(pair.server)
    assert [notified(a) for a in answers] == [[NotifyType.NO_PROPOSAL_CHOSEN]] * 50 + [
        [NotifyType.COOKIE]
    ] * 150
    assert len(pair.server.told(PeerRefused)) == 50
    # RFC 7296 section 2.21.4: nor are those who have shown where they are all told.
    pair.give(pair.client, answers[-1])
    pair.move(pair.client)
    assert pair.take(pair.server) == []
    assert pair.server.endpoint.drops[Drop.RATE] == 1


def test_values_that_no_honest_peer_sends_end_in_cookies() -> None:
    """Each costs a key pair and leaves no trace; so before long their senders show that they are there."""
    pair = Pair()
    replies: list[Datagram] = []
    for number in range(60):
        pair.dial(source=10_000 + number)
        (request,) = pair.take(pair.client)
        payloads = parse_message(request[0]).payloads
        bad = [KeyExchange(p.group, bytes(32)) if isinstance(p, KeyExchange) else p for p in payloads]
        pair.give(pair.server, rewritten(request, *bad))
        replies += pair.take(pair.server)
    assert pair.server.endpoint.drops[Drop.BAD_KEY_EXCHANGE] == 50
    assert [notified(reply) for reply in replies] == [[NotifyType.COOKIE]] * 10
    # An honest peer takes one more round trip, and when it is over there is none.
    pair.dial(source=1500)
    pair.flush()
    assert len(pair.server.told(ConnectionUp)) == 1
    pair.now += 60.0
    pair.dial(source=1501)
    pair.move(pair.client)
    assert [notified(a) for a in pair.take(pair.server)] != [[NotifyType.COOKIE]]


def test_a_request_longer_than_any_peer_needs() -> None:
    """It would be parsed before anything is known of its sender, and kept until it is."""
    pair = Pair()
    pair.dial()
    (request,) = pair.take(pair.client)
    payloads = parse_message(request[0]).payloads
    room = MAX_REQUEST_OCTETS - len(request[0]) - 4
    pair.give(pair.server, rewritten(request, *payloads, VendorId(bytes(room + 1))))
    assert pair.take(pair.server) == []
    assert pair.server.endpoint.drops == {Drop.TOO_LONG: 1}
    pair.give(pair.server, rewritten(request, *payloads, VendorId(bytes(room))))
    assert pair.server.state_names == ["AwaitAuth"]


def test_a_stranger_with_a_whole_network_counts_as_one() -> None:
    """Of an IPv6 network, everybody has all 2**64 addresses, and gets cookies at each."""
    admission = Admission(Random(1).randbytes, Limits(half_open_per_address=3, cookie_threshold=1000))
    for number in range(3):
        source = UdpAddress(f"2001:db8::{number + 1:x}", 500)
        assert admission.verdict(source.ip) is Verdict.ADMIT
        admission.enter(bytes([number]), b"request", source)
    assert admission.verdict("2001:db8::ffff:1") is Verdict.REFUSE
    assert admission.verdict("2001:db8:0:1::1") is Verdict.ADMIT
    assert admission.verdict("192.0.2.1") is Verdict.ADMIT
    for number in range(3):
        admission.forget(bytes([number]))
    assert admission.verdict("2001:db8::1") is Verdict.ADMIT
    assert not admission._per_site
    assert not admission._spis
