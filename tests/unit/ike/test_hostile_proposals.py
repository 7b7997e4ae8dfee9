"""Proposals and public values that no honest peer sends: refused with what fits, in bounded time, counted."""

import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from random import Random

import pytest

from espudp.crypto.modp import MODP
from espudp.crypto.suites import DH, Dh
from espudp.ike.drop import Drop
from espudp.ike.events import ConnectionDown, Fault, PeerRefused
from espudp.ike.proposals import EspProposal, IkeProposal
from espudp.ike.v2.hub import Datagram
from espudp.wire.ikev2.constants import ExchangeType, NotifyType
from espudp.wire.ikev2.header import Header
from espudp.wire.ikev2.message import parse_message
from espudp.wire.ikev2.payloads import (
    KeyExchange,
    Nonce,
    Payload,
    SecurityAssociation,
    TsInitiator,
    TsResponder,
    Unknown,
)
from espudp.wire.ikev2.proposal import Proposal, Transform
from tests.unit.ike.pair import (
    Pair,
    client_child,
    client_config,
    mirrored,
    notified,
    path_to_server,
    rewritten,
    server_config,
)

SA_PAYLOAD = 33
OURS = [Transform(1, 20, 128), Transform(2, 5), Transform(4, 31)]


@contextmanager
def soon(seconds: float = 1.0) -> Iterator[None]:
    """It takes no more than this of the processor, many times what it takes."""
    start = time.process_time()
    yield
    assert time.process_time() - start < seconds


def transform(more: int, type_: int, id_: int, attributes: bytes = b"") -> bytes:
    return struct.pack("!BxHBxH", more, 8 + len(attributes), type_, id_) + attributes


def proposal(
    transforms: list[bytes], *, number: int = 1, count: int | None = None, last: bool = True, spi: bytes = b""
) -> bytes:
    """An IKE proposal; `count` is what it says of the transforms in it."""
    said = len(transforms) if count is None else count
    body = b"".join(transforms)
    head = struct.pack(
        "!BxHBBBB", 0 if last else 2, 8 + len(spi) + len(body), number, 1, len(spi), said % 256
    )
    return head + spi + body


def honest() -> list[bytes]:
    return [
        transform(3, 1, 20, bytes.fromhex("800e0080")),
        transform(3, 2, 5),
        transform(0, 4, 31),
    ]


def flood(count: int) -> list[bytes]:
    """Encryption that nobody has, under ever new numbers."""
    numbers = [1024 + number for number in range(count)]
    return [transform(0 if number == numbers[-1] else 3, 1, number) for number in numbers]


def asked(pair: Pair, sa: Payload) -> list[list[int]]:
    """IKE_SA_INIT with this SA payload: what each answer notifies of."""
    pair.dial()
    (request,) = pair.take(pair.client)
    payloads = [sa if isinstance(p, SecurityAssociation) else p for p in parse_message(request[0]).payloads]
    pair.give(pair.server, rewritten(request, *payloads))
    return [list(notified(answer)) for answer in pair.take(pair.server)]


def raw(*proposals: bytes) -> Unknown:
    return Unknown(SA_PAYLOAD, False, b"".join(proposals))


# More than there can be


def test_10_000_transforms_of_a_stranger() -> None:
    """80,000 octets fit into no payload; what fits into a datagram is dropped unread."""
    pair = Pair()
    with soon():
        assert asked(pair, raw(proposal(flood(7_500), count=10_000))) == []
    assert pair.server.endpoint.drops[Drop.TOO_LONG] == 1
    assert pair.server.states == []


@pytest.mark.parametrize("transforms", [1, 15, 128])
def test_as_many_transforms_as_a_stranger_may_send(transforms: int) -> None:
    pair, proposals = Pair(), min(1000 // (transforms + 1), 255)
    offer = [proposal(flood(transforms), number=n + 1, last=n + 1 == proposals) for n in range(proposals)]
    with soon():
        answers = asked(pair, raw(*offer))
    if proposals > 64:
        assert answers == []
        assert pair.server.endpoint.drops[Drop.MALFORMED] == 1
    else:
        assert answers == [[NotifyType.NO_PROPOSAL_CHOSEN]]
        (refused,) = pair.server.told(PeerRefused)
        assert len(refused.detail) < 10_000
    assert pair.server.states == []


def test_an_honest_proposal_behind_many_others_is_found() -> None:
    pair = Pair()
    offer = [proposal(flood(50), number=n, last=False) for n in range(1, 19)]
    pair.dial()
    (request,) = pair.take(pair.client)
    sa = raw(*offer, proposal(honest(), number=19))
    payloads = [sa if isinstance(p, SecurityAssociation) else p for p in parse_message(request[0]).payloads]
    pair.give(pair.server, rewritten(request, *payloads))
    (answer,) = pair.take(pair.server)
    chosen = parse_message(answer[0]).get(SecurityAssociation)
    assert chosen is not None
    assert chosen.proposals == (Proposal(19, 1, b"", tuple(OURS)),)


# Counts and numbers that lie


LIES = {
    "fewer than there are": proposal(honest(), count=2),
    "more than there are": proposal(honest(), count=4),
    "none": proposal(honest(), count=0),
    "10,000 modulo 256": proposal(honest(), count=10_000),
    "another one announced": proposal(honest(), last=False),
    "a last transform that is not": proposal([*honest()[:2], transform(3, 4, 31)]),
    "a transform after the last": proposal([*honest(), transform(0, 4, 19)]),
    "a transform longer than its proposal": proposal([*honest()[:2], struct.pack("!BxHBxH", 0, 9, 4, 31)]),
    "a transform of no octets": proposal([*honest()[:2], struct.pack("!BxHBxH", 0, 0, 4, 31)]),
    "a proposal longer than its payload": struct.pack("!BxHBBBB", 0, 500, 1, 1, 0, 3) + b"".join(honest()),
    "a proposal of no octets": struct.pack("!BxHBBBB", 0, 0, 1, 1, 0, 3) + b"".join(honest()),
    "an attribute longer than its transform": proposal(
        [transform(3, 1, 20, bytes.fromhex("000e00ff0080")), *honest()[1:]]
    ),
    "numbers that jump": proposal(honest(), last=False) + proposal(honest(), number=3),
    "numbers that stand still": proposal(honest(), last=False) + proposal(honest()),
    "numbers that go back": proposal(honest(), number=2, last=False) + proposal(honest()),
    "an SPI of three octets": proposal(honest(), spi=b"abc"),
    "nothing at all": b"",
}


@pytest.mark.parametrize("lie", LIES)
def test_strangers_who_lie_are_not_answered(lie: str) -> None:
    """RFC 7296 section 2.21.1: nothing that anybody can send is worth an answer that it cannot be read."""
    pair = Pair()
    assert asked(pair, Unknown(SA_PAYLOAD, False, LIES[lie])) == []
    assert pair.server.endpoint.drops[Drop.MALFORMED] == 1
    assert pair.server.states == []


@pytest.mark.parametrize("lie", LIES)
def test_peers_who_lie_are_told_and_left(lie: str) -> None:
    """RFC 7296 section 2.21.3: INVALID_SYNTAX, which is fatal."""
    say(pair := Pair().connect(), LIES[lie])
    (down,) = pair.server.told(ConnectionDown)
    assert down.fault is Fault.PROTOCOL
    assert not pair.server.endpoint._hub.connections


def say(pair: Pair, data: bytes) -> None:
    """CREATE_CHILD_SA with this SA payload, of a client that has proved who it is."""
    pair.client.request(
        ExchangeType.CREATE_CHILD_SA, [Unknown(SA_PAYLOAD, False, data), Nonce(bytes(32))], pair.now
    )
    with soon():
        pair.flush()


@pytest.mark.parametrize("transforms", [1_000, 2_000])
def test_10_000_transforms_of_a_peer(transforms: int) -> None:
    say(pair := Pair().connect(), proposal(flood(transforms), count=10_000))
    (down,) = pair.server.told(ConnectionDown)
    assert down.fault is Fault.PROTOCOL


def test_more_transforms_than_fragments_can_hold() -> None:
    say(pair := Pair().connect(), proposal(flood(7_500), count=10_000))
    assert pair.server.endpoint.drops[Drop.FRAGMENTS_TOO_MANY]
    assert not pair.server.told(ConnectionDown)


def test_any_bits_of_a_proposal() -> None:
    """Whatever is made of an honest proposal, it is dropped, refused, or met."""
    rng = Random(7)
    honest_octets = proposal(honest(), last=False) + proposal(honest(), number=2)
    seen = set()
    for _ in range(400):
        data = bytearray(honest_octets)
        for _ in range(rng.choice([1, 1, 2, 5])):
            data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        if rng.random() < 0.1:
            del data[rng.randrange(len(data)) :]
        pair = Pair()
        answers = asked(pair, Unknown(SA_PAYLOAD, False, bytes(data)))
        assert len(answers) + sum(pair.server.endpoint.drops.values()) == 1
        seen.add(tuple(answers[0]) if answers else "dropped")
    assert {"dropped", (NotifyType.NO_PROPOSAL_CHOSEN,)} < seen


# Transforms


def offered(*proposals: list[Transform]) -> SecurityAssociation:
    return SecurityAssociation(
        tuple(Proposal(number, 1, b"", tuple(p)) for number, p in enumerate(proposals, 1))
    )


KEY_LENGTHS: dict[str, list[tuple[int, int | None]]] = {
    "aes128gcm16-prfsha256-curve25519": [(20, None), (20, 0), (20, 127), (20, 64), (20, 65535)],
    "aes128-sha256-curve25519": [(12, None), (12, 192), (12, 1)],
    "aes128ctr-sha256-curve25519": [(13, None), (13, 256)],
    "aes128ccm8-prfsha256-curve25519": [(14, None), (15, 128), (14, 192)],
    # RFC 7296 section 3.3.5: no Key Length attribute where the size is fixed
    "3des-sha256-curve25519": [(3, 192), (3, 168), (3, 0)],
    "chacha20poly1305-prfsha256-curve25519": [(28, 256), (28, 0)],
}


@pytest.mark.parametrize(
    ("suite", "encr"), [(suite, encr) for suite, found in KEY_LENGTHS.items() for encr in found]
)
def test_key_lengths_that_are_missing_or_should_be(suite: str, encr: tuple[int, int | None]) -> None:
    accepted = IkeProposal.parse(suite)
    pair = Pair(client_config(ike=[accepted]), server_config(ike=[accepted]))
    honest_transforms = accepted.to_wire(1).transforms
    changed = [Transform(1, *encr), *(t for t in honest_transforms if t.type != 1)]
    assert asked(pair, offered(changed)) == [[NotifyType.NO_PROPOSAL_CHOSEN]]
    # The same beside one that is right, in one proposal and behind it
    pair = Pair(client_config(ike=[accepted]), server_config(ike=[accepted]))
    pair.dial()
    (request,) = pair.take(pair.client)
    for sa in (offered([Transform(1, *encr), *honest_transforms]), offered(changed, list(honest_transforms))):
        rest = parse_message(request[0]).payloads
        payloads = [sa if isinstance(p, SecurityAssociation) else p for p in rest]
        pair.give(pair.server, rewritten(request, *payloads))
        (answer,) = pair.take(pair.server)
        chosen = parse_message(answer[0]).get(SecurityAssociation)
        assert chosen is not None
        assert set(chosen.proposals[0].transforms) == set(honest_transforms)


@pytest.mark.parametrize(
    "strange",
    [
        Transform(1, 20, 128, bytes.fromhex("800f0001")),  # an attribute that nobody knows
        Transform(1, 20, 128, bytes.fromhex("800e0100")),  # a second Key Length
        Transform(1, 20, 128, bytes.fromhex("001200020000")),
        Transform(1, 1024, 128),
        Transform(1, 65535),
    ],
)
def test_what_nobody_knows_is_passed_over(strange: Transform) -> None:
    """RFC 7296 section 3.3.6."""
    assert asked(Pair(), offered([strange, *OURS[1:]])) == [[NotifyType.NO_PROPOSAL_CHOSEN]]
    (answer,) = asked(Pair(), offered([strange, *OURS]))
    assert NotifyType.NO_PROPOSAL_CHOSEN not in answer
    for kind in (0, 6, 12, 99, 255):
        unknown_kind = [*OURS, Transform(kind, 1)]
        assert asked(Pair(), offered(unknown_kind)) == [[NotifyType.NO_PROPOSAL_CHOSEN]]
        (answer,) = asked(Pair(), offered(unknown_kind, OURS))
        assert NotifyType.NO_PROPOSAL_CHOSEN not in answer


def test_weak_algorithms_that_were_not_named_are_not_met() -> None:
    weak = [Transform(1, 3), Transform(2, 2), Transform(3, 2), Transform(4, 2)]
    assert asked(Pair(), offered(weak)) == [[NotifyType.NO_PROPOSAL_CHOSEN]]
    named = (IkeProposal.parse("3des-sha1-modp1024"),)
    Pair(client_config(ike=named), server_config(ike=named)).connect().agree()


def test_a_weak_group_for_pfs_is_not_met_where_none_was_named() -> None:
    """Where no PFS is asked for, any group will do, but only one that is sound."""
    child = client_child(EspProposal.parse("aes128gcm16-modp1024"))
    pair = Pair(client_config(child=child)).connect()
    (before,) = pair.server.children
    pair.client.endpoint.rekey_child(1, before.spi_out, pair.now)
    pair.flush()
    assert pair.server.children == [before]


# Public values


def bad_values(group: Dh) -> dict[str, bytes]:
    size = group.public_octets
    found = {"nothing": b"", "too short": b"\5" * (size - 1), "too long": b"\5" * (size + 1)}
    if group.transform_id in MODP:
        prime = MODP[group.transform_id].prime
        values = {"zero": 0, "one": 1, "p-1": prime - 1, "p": prime, "p+1": prime + 1}
        if MODP[group.transform_id].order is not None:
            values["outside of the subgroup"] = 2
        return found | {name: value.to_bytes(size, "big") for name, value in values.items()}
    if group.keyword.startswith("ecp"):
        return found | {"zero": bytes(size), "off the curve": bytes(size - 1) + b"\1", "ones": b"\xff" * size}
    prime = 2**255 - 19 if group.transform_id == 31 else 2**448 - 2**224 - 1
    values = {"zero": 0, "one": 1, "p-1": prime - 1, "p": prime, "p+1": prime + 1}
    return found | {name: value.to_bytes(size, "little") for name, value in values.items()}


BAD_VALUES = [
    pytest.param(group, value, id=f"{group.keyword}, {name}")
    for group in DH
    for name, value in bad_values(group).items()
]


@pytest.mark.parametrize(("group", "value"), BAD_VALUES)
def test_bad_public_values_of_strangers(group: Dh, value: bytes) -> None:
    """RFC 6989 section 2.5: the message is dropped."""
    ike = (IkeProposal.parse(f"aes128gcm16-prfsha256-{group.keyword}"),)
    pair = Pair(client_config(ike=ike), server_config(ike=ike))
    pair.dial()
    (request,) = pair.take(pair.client)
    bad = KeyExchange(group.transform_id, value)
    payloads = [bad if isinstance(p, KeyExchange) else p for p in parse_message(request[0]).payloads]
    pair.give(pair.server, rewritten(request, *payloads))
    assert pair.take(pair.server) == []
    assert pair.server.states == []
    assert pair.server.endpoint.drops[Drop.BAD_KEY_EXCHANGE] == 1


@pytest.mark.parametrize(("group", "value"), BAD_VALUES)
def test_bad_public_values_in_a_first_answer(group: Dh, value: bytes) -> None:
    """RFC 6989 section 2.5: anybody may have sent it, so what is waited for is still an honest answer."""
    ike = (IkeProposal.parse(f"aes128gcm16-prfsha256-{group.keyword}"),)
    pair = Pair(client_config(ike=ike), server_config(ike=ike))
    pair.dial()
    pair.move(pair.client)
    (answer,) = pair.take(pair.server)
    bad = KeyExchange(group.transform_id, value)
    payloads = [bad if isinstance(p, KeyExchange) else p for p in parse_message(answer[0]).payloads]
    pair.give(pair.client, rewritten(answer, *payloads))
    assert pair.take(pair.client) == []
    assert pair.client.endpoint.drops[Drop.BAD_KEY_EXCHANGE] == 1
    pair.give(pair.client, answer)
    pair.flush()
    pair.agree()


SOME_BAD_VALUES = [
    pytest.param(group, value, id=f"{group.keyword}, {name}")
    for group in DH
    if group.keyword in ("curve25519", "ecp256", "modp2048s256")
    for name, value in bad_values(group).items()
]


@pytest.mark.parametrize("what", ["child", "ike"])
@pytest.mark.parametrize(("group", "value"), SOME_BAD_VALUES)
def test_bad_public_values_of_a_peer(group: Dh, value: bytes, what: str) -> None:
    """RFC 6989 section 2.5: INVALID_SYNTAX, and the IKE SA is dropped, whatever was to be rekeyed."""
    ike = (IkeProposal.parse(f"aes128gcm16-prfsha256-{group.keyword}"),)
    esp = EspProposal.parse(f"aes128gcm16-{group.keyword}")
    config = client_config(ike=ike, child=client_child(esp))
    pair = Pair(config, server_config(ike=ike, esp=(esp,))).connect()
    (child,) = pair.client.children
    encr, kex = Transform(1, 20, 128), Transform(4, group.transform_id)
    if what == "child":
        offer = Proposal(1, 3, b"\1\2\3\4", (encr, kex, Transform(5, 0)))
        rest: list[Payload] = [TsInitiator(child.local), TsResponder(child.remote)]
    else:
        offer, rest = Proposal(1, 1, b"\1" * 8, (encr, kex, Transform(2, 5))), []
    payloads: list[Payload] = [
        SecurityAssociation((offer,)),
        Nonce(bytes(32)),
        KeyExchange(group.transform_id, value),
    ]
    ours = pair.client.ike.sa
    pair.client.request(ExchangeType.CREATE_CHILD_SA, [*payloads, *rest], pair.now)
    pair.move(pair.client)
    (answer,) = pair.take(pair.server)
    exchange = frozenset({ExchangeType.CREATE_CHILD_SA})
    arrived = Datagram(answer[0], Header.parse(answer[0]), path_to_server(4500), pair.now)
    opened = ours.accept(arrived, exchange)
    assert opened is not None
    assert [n.type for n in opened.message.notifies()] == [NotifyType.INVALID_SYNTAX]
    (down,) = pair.server.told(ConnectionDown)
    assert down.fault is Fault.PROTOCOL
    assert not pair.server.endpoint._hub.connections


@pytest.mark.parametrize("what", ["child", "ike"])
@pytest.mark.parametrize(("group", "value"), SOME_BAD_VALUES)
def test_bad_public_values_in_the_answer_of_a_peer(group: Dh, value: bytes, what: str) -> None:
    """RFC 6989 section 2.5: the IKE SA is deleted at once."""
    ike = (IkeProposal.parse(f"aes128gcm16-prfsha256-{group.keyword}"),)
    esp = EspProposal.parse(f"aes128gcm16-{group.keyword}")
    config = client_config(ike=ike, child=client_child(esp))
    pair = Pair(config, server_config(ike=ike, esp=(esp,))).connect()
    client, peer = pair.client, pair.server.ike.sa
    if what == "child":
        client.endpoint.rekey_child(1, client.children[0].spi_in, pair.now)
    else:
        client.endpoint.rekey_ike(1, pair.now)
    ((data, path),) = pair.take(client)
    exchange = frozenset({ExchangeType.CREATE_CHILD_SA})
    request = peer.accept(Datagram(data, Header.parse(data), mirrored(path), pair.now), exchange)
    assert request is not None
    asked = request.message.get(SecurityAssociation)
    assert asked is not None
    spi = b"\1\2\3\4" if what == "child" else b"\1" * 8
    chosen = replace(asked.proposals[0], spi=spi)
    answer: list[Payload] = [SecurityAssociation((chosen,)), Nonce(bytes(32))]
    answer.append(KeyExchange(group.transform_id, value))
    answer += [p for p in request.message.payloads if isinstance(p, TsInitiator | TsResponder)]
    peer.respond(request, answer)
    pair.move(pair.server)
    (farewell,) = pair.take(client)
    assert Header.parse(farewell[0]).exchange == ExchangeType.INFORMATIONAL
    pair.give(pair.server, farewell)
    pair.flush()
    (down,) = client.told(ConnectionDown)
    assert down.fault is Fault.PROTOCOL
    assert not client.children
    assert not pair.server.endpoint._hub.connections
