"""IKEv1 among peers that have the keys and write what they like, and among forgers that have none.

Nothing that arrives raises, and what is kept of it is bounded.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import count
from random import Random
from typing import Any

import pytest

from espudp.crypto.auth import equal
from espudp.crypto.ikev1keys import hash_1, hash_2
from espudp.ike.config import ChildConfig, ConnectionConfig, Identity, ListenerConfig
from espudp.ike.credentials import NoDemand, NoProof, SignKey
from espudp.ike.events import ConnectionUp
from espudp.ike.ikev1_config import Mode
from espudp.ike.narrowing import Dynamic
from espudp.ike.pad import PadEntry
from espudp.ike.v1.hub import Datagram
from espudp.ike.v1.sa import Chain
from espudp.ike.xauth import XauthLogin
from espudp.wire import transport
from espudp.wire.ikev1 import constants as c
from espudp.wire.ikev1 import payloads as p
from espudp.wire.ikev1.attributes import Attribute
from espudp.wire.ikev1.header import Header
from espudp.wire.ikev1.message import Message, emit_message, emit_payloads, parse_message
from espudp.wire.ikev1.proposal import Proposal, Transform
from tests.scenario.credentials import CLIENT, SERVER, person, trust
from tests.scenario.strangers_v1 import ESP, client_v1, server_v1, users
from tests.unit.ike.pair import Pair, Side, client_child, server_config

# Of each test, in seconds, on whatever machine it is
BUDGET = 1.2
_STEPS = 20

_LOGIN, _USERS = XauthLogin(user="alice", password="secret"), users(alice="secret")


def _ways() -> dict[str, tuple[ConnectionConfig, ListenerConfig]]:
    who, certificate = Identity.parse(CLIENT), trust()
    ours, theirs = person("RSA", CLIENT).proof, person("RSA", SERVER).proof
    assert isinstance(theirs, SignKey)
    (by_psk,) = server_config().pad
    signed: dict[str, Any] = {
        "proof": ours,
        "demand": certificate,
        "local_identity": who,
        "remote_identity": None,
    }
    hybrid: dict[str, Any] = {"proof": NoProof(), "demand": certificate, "remote_identity": None}
    l2tp = Dynamic(17, 1701, 1701)
    flow = ChildConfig(local=(l2tp,), remote=(l2tp,), proposals=(ESP,), mode=transport.Mode.TRANSPORT)
    pushing = server_v1(replace(by_psk, xauth=replace(_USERS, chap=True)), push=True)
    return {
        "main": (client_v1(Mode.MAIN), server_v1()),
        "aggressive": (client_v1(Mode.AGGRESSIVE), server_v1()),
        "certificate": (
            client_v1(Mode.MAIN, **signed),
            server_v1(PadEntry(proof=theirs, demand=certificate)),
        ),
        "login": (client_v1(Mode.AGGRESSIVE, login=_LOGIN), server_v1(replace(by_psk, xauth=_USERS))),
        "hybrid": (
            client_v1(Mode.MAIN, login=_LOGIN, **hybrid),
            server_v1(PadEntry(proof=theirs, demand=NoDemand(), xauth=_USERS)),
        ),
        "challenge and push": (client_v1(Mode.AGGRESSIVE, login=_LOGIN, pushed=True), pushing),
        "transport mode": (
            client_v1(Mode.MAIN, child=flow, request_addresses=()),
            server_v1(child=flow, pool=()),
        ),
    }


_WAYS = _ways()


class Liar:
    """Changes what one side says, now and then."""

    def __init__(self, chance: Random) -> None:
        self.chance = chance
        self.rate = chance.choice([0.15, 0.4, 0.9])

    def lies(self, payloads: Sequence[p.Payload]) -> list[p.Payload]:
        """What is said instead."""
        said = list(payloads)
        if self.chance.random() < self.rate:
            for _ in range(self.chance.randrange(1, 4)):
                self._rearrange(said)
        return said

    def _rearrange(self, said: list[p.Payload]) -> None:
        chance = self.chance
        match chance.randrange(5):
            case 0 if said:
                said.pop(chance.randrange(len(said)))
            case 1 if said:
                said.append(chance.choice(said))
            case 2:
                chance.shuffle(said)
            case _:
                said.insert(chance.randrange(len(said) + 1), self._invention())

    def _invention(self) -> p.Payload:
        chance = self.chance
        some = chance.randbytes(chance.choice([0, 1, 2, 3, 4, 5, 8, 16, 20, 40, 300]))
        inventions: list[Callable[[], p.Payload]] = [
            lambda: p.Notification(chance.randrange(5), some[:16], chance.choice(list(c.NotifyType)), some),
            lambda: p.Notification(c.ProtocolId.ESP, chance.randbytes(4), chance.randrange(65536), some),
            lambda: p.Attributes(chance.choice(list(c.CfgType)), chance.randrange(65536), self._attributes()),
            lambda: p.Delete(c.ProtocolId.ESP, (chance.randbytes(4), chance.randbytes(4))),
            lambda: p.Delete(c.ProtocolId.ISAKMP, (chance.randbytes(16),)),
            lambda: p.Identification(chance.choice([2, 3, 9, 10, 11, 12, 99]), some, 17, 500),
            lambda: p.Identification(c.IdType.IPV4_ADDR_SUBNET, chance.randbytes(8)),
            lambda: p.Identification(c.IdType.IPV6_ADDR_RANGE, chance.randbytes(32), 6, 80),
            lambda: p.NatDiscovery(some, chance.choice([15, 20, 130])),
            lambda: p.NatOriginalAddress(1, chance.randbytes(4), chance.choice([16, 21, 131])),
            lambda: p.SecurityAssociation.of(self._proposals()),
            lambda: p.KeyExchange(some),
            lambda: p.Nonce(chance.randbytes(32)),
            lambda: p.Hash(some),
            lambda: p.Certificate(4, some),
            lambda: p.Signature(some),
            lambda: p.VendorId(some),
            lambda: p.Unknown(chance.randrange(133, 250), some),
        ]
        return chance.choice(inventions)()

    def _attributes(self) -> tuple[Attribute, ...]:
        chance = self.chance
        types = [*c.CfgAttribute, chance.randrange(32768)]
        values = [b"", chance.randbytes(chance.randrange(1, 20)), b"alice", bytes(2)]
        return tuple(
            Attribute(chance.choice(types), chance.choice(values)) for _ in range(chance.randrange(6))
        )

    def _proposals(self) -> tuple[Proposal, ...]:
        chance = self.chance
        values = [chance.randrange(20), chance.randrange(1 << 32)]
        suite = tuple(Attribute.of(chance.randrange(1, 18), chance.choice(values)) for _ in range(8))
        transform = Transform(chance.randrange(256), chance.choice([1, 3, 12, 20]), suite)
        protocol = chance.choice([1, 2, 3, 4])
        spi = {1: b"", 4: b"\x12\x34"}.get(protocol, b"\xc0\xff" + chance.randbytes(2))
        return (Proposal(chance.randrange(256), protocol, spi, (transform,) * chance.randrange(1, 4)),)


class Nonces:
    """Nonces of quick modes in which a liar answers: without them its hashes would be wrong."""

    def __init__(self) -> None:
        self.seen: dict[int, bytes] = {}

    def note(self, message_id: int, payloads: Sequence[p.Payload]) -> None:
        for payload in payloads:
            if isinstance(payload, p.Nonce):
                self.seen.setdefault(message_id, payload.data)


def _lying(side: Side, liar: Liar, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the side says after phase 1 is changed, and hashed as it should be."""
    seal, open_, nonces = Chain.seal, Chain.open, Nonces()

    def lie(chain: Chain, exchange: int, payloads: Sequence[p.Payload], *, commit: bool = False) -> bytes:
        sa = chain._sa
        if sa.hub.common is not side.endpoint._hub:
            return seal(chain, exchange, payloads, commit=commit)
        nonces.note(chain.message_id, payloads)
        head, *rest = payloads
        commit = commit or liar.chance.random() < 0.05
        if not isinstance(head, p.Hash) or not chain.message_id:
            return seal(chain, exchange, liar.lies(payloads), commit=commit)
        hash_, key, said = sa.suite.hash, sa.keys.a, liar.lies(rest)
        covered = emit_payloads(said)[1]
        if equal(head.data, hash_1(hash_, key, chain.message_id, emit_payloads(rest)[1])):
            head = p.Hash(hash_1(hash_, key, chain.message_id, covered))
        elif rest:
            head = p.Hash(hash_2(hash_, key, chain.message_id, nonces.seen[chain.message_id], covered))
        return seal(chain, exchange, [head, *said], commit=commit)

    def note(chain: Chain, datagram: Datagram) -> Message | None:
        message = open_(chain, datagram)
        if message is not None and chain._sa.hub.common is side.endpoint._hub:
            nonces.note(chain.message_id, message.payloads)
        return message

    monkeypatch.setattr(Chain, "seal", lie)
    monkeypatch.setattr(Chain, "open", note)


def _numbers(side: Side) -> list[int]:
    return [known.connection for known in side.endpoint.snapshot(0.0)]


def _act(pair: Pair, side: Side, chance: Random) -> None:
    """Something that a user may make a side do."""
    endpoint, now = side.endpoint, pair.now
    numbers = _numbers(side)
    if not numbers:
        return
    one = chance.choice(numbers)
    spis = [child.spi_in for child in side.children] or [0]
    actions: list[Callable[[], object]] = [
        lambda: endpoint.rekey_ike(one, now),
        lambda: endpoint.rekey_child(one, chance.choice(spis), now),
        lambda: endpoint.create_child(one, client_child(ESP), now),
        lambda: endpoint.delete_child(one, chance.choice(spis), now),
        lambda: endpoint.check_alive(one, now),
        lambda: endpoint.close(one, now),
    ]
    chance.choice(actions)()


def _relay(pair: Pair) -> None:
    """As Pair.flush, for sides that may never stop."""
    for _ in range(12):
        if not pair.move(pair.client) + pair.move(pair.server):
            return
    pair.take(pair.client), pair.take(pair.server)


def _live(pair: Pair, liar: Liar) -> None:
    chance = liar.chance
    pair.dial()
    for _ in range(_STEPS):
        _relay(pair)
        if chance.random() < 0.8:
            _act(pair, chance.choice([pair.client, pair.server]), chance)
        pair.now += chance.choice([0.0, 0.1, 1.0, 7.0, 40.0])
        for side in (pair.client, pair.server):
            side.endpoint.handle_timer(pair.now)
            side.endpoint.snapshot(pair.now)
            for event in side.told(object):  # type: ignore[type-var]
                str(event)
            side.events.clear()
    _relay(pair)


def _states(side: Side) -> int:
    v1 = side.endpoint._v1
    return 0 if v1 is None else len(v1._hub.states)


@pytest.mark.parametrize("liar", ["client", "server"])
@pytest.mark.parametrize("way", _WAYS)
def test_liars_with_keys(way: str, liar: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """By whatever way they come in, on either side, in every exchange."""
    end = time.monotonic() + BUDGET
    for seed in count():
        if time.monotonic() > end:
            break
        pair = Pair(*_WAYS[way], seed=seed)
        chance = Random(f"{way} {liar} {seed}")
        with monkeypatch.context() as patched:
            side = pair.client if liar == "client" else pair.server
            _lying(side, Liar(chance), patched)
            try:
                _live(pair, Liar(chance))
            except Exception as error:
                error.add_note(f"way {way}, liar {liar}, seed {seed}")
                raise
        honest = pair.server if liar == "client" else pair.client
        # Nothing is left for good of what was never finished
        assert _states(honest) < 40
    assert seed >= 3


# Without keys


class Forger(Liar):
    """Writes what has no protection, in the name of either side."""

    def forged(self, data: bytes) -> bytes:
        """Something like a message that was seen: its header, or nearly, and payloads of the forger's."""
        chance, header = self.chance, Header.parse(data)
        said = list(parse_message(data).payloads)
        for _ in range(chance.randrange(1, 5)):
            self._rearrange(said)
        if chance.random() < 0.3:
            header = replace(header, exchange=chance.choice(list(c.ExchangeType)))
        if chance.random() < 0.2:
            header = replace(header, message_id=chance.choice([0, 1, header.message_id]))
        if chance.random() < 0.2:
            header = replace(header, cookie_r=chance.choice([bytes(8), header.cookie_r]))
        if chance.random() < 0.1:
            said = [p.Fragment(1, chance.randrange(1, 4), chance.random() < 0.5, data)]
        forged = bytearray(emit_message(header, said))
        if chance.random() < 0.3:
            forged[19] |= c.FLAG_ENCRYPTED
        return bytes(forged)


def _with_forgeries(pair: Pair, sender: Side, receiver: Side, forger: Forger, sums: list[int]) -> int:
    """As Pair.move; before each message come some that only look like it."""
    sent = pair.take(sender)
    for data, path in sent:
        for _ in range(forger.chance.randrange(4)):
            forged = forger.forged(data)
            pair.give(receiver, (forged, path))
            answers = receiver.endpoint.datagrams_to_send(pair.now)
            sums[0] += len(forged)
            sums[1] += sum(len(answer) for answer, _ in answers)
        pair.give(receiver, (data, path))
    return len(sent)


@pytest.mark.parametrize("way", ["main", "certificate", "login"])
def test_forgers_without_keys(way: str) -> None:
    """Somebody on the way, from the first message on: whoever answers says little more than was said, and an
    ISAKMP SA that stands goes on.
    """
    end, sums = time.monotonic() + BUDGET, [0, 0]
    for seed in count():
        if time.monotonic() > end:
            break
        pair = Pair(*_WAYS[way], seed=seed)
        forger = Forger(Random(f"{way} {seed}"))
        pair.dial()
        for _ in range(30):
            _with_forgeries(pair, pair.client, pair.server, forger, sums)
            _with_forgeries(pair, pair.server, pair.client, forger, [0, 0])
            pair.now += 0.7
            for side in (pair.client, pair.server):
                side.endpoint.handle_timer(pair.now)
        assert _states(pair.server) <= 80
        up = len(pair.client.told(ConnectionUp))
        pair.wait(1.0)
        assert len(_numbers(pair.client)) >= min(up, 1), seed
    assert seed >= 3
    assert sums[1] < 2 * sums[0]


def test_garbage_decrypts_to_nothing() -> None:
    """Whole blocks that anybody sends to an ISAKMP SA that stands."""
    pair = Pair(*_WAYS["main"])
    pair.dial()
    pair.flush()
    assert pair.client.told(ConnectionUp)
    seen = [(Header.parse(data), path) for data, path in pair.wire]
    header, path = next((h, path) for h, path in reversed(seen) if h.encrypted)
    chance = Random(2409)
    for _ in range(300):
        octets = chance.choice([0, 1, 8, 16, 32, 48, 400])
        exchange = chance.choice([2, 4, 5, 6, 32, 33, 255])
        forged = replace(
            header, exchange=exchange, message_id=chance.choice([0, 1, header.message_id, 1 << 31])
        )
        forged = replace(forged, length=28 + octets, next_payload=chance.randrange(15))
        for side in (pair.client, pair.server):
            pair.give(side, (forged.emit() + chance.randbytes(octets), path))
    pair.flush()
    assert [len(_numbers(side)) for side in (pair.client, pair.server)] == [1, 1]
    assert len(pair.client.children) == len(pair.server.children) == 1
