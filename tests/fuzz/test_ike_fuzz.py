"""Peers that have the keys, and write what they like: whole connections in which what one side says is
changed before it is sealed. Nothing that arrives raises, and what is kept of it is bounded.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import count
from random import Random

import pytest

from espudp.ike.config import ConnectionConfig, Identity, ListenerConfig
from espudp.ike.credentials import EapClient, EapOf, NoDemand, NoProof
from espudp.ike.eap.login import EapLogin, EapUsers
from espudp.ike.eap.users import UserTable, parse_users
from espudp.ike.events import ConnectionUp
from espudp.ike.pad import PadEntry
from espudp.ike.protect import Content
from espudp.ike.v2.fragments import Letter
from espudp.ike.v2.sa import IkeSa
from espudp.wire.address import Path, UdpAddress
from espudp.wire.ikev2.constants import AuthMethod, CfgType, ExchangeType, NotifyType, PayloadType, ProtocolId
from espudp.wire.ikev2.header import Header
from espudp.wire.ikev2.message import emit_message, parse_message
from espudp.wire.ikev2.payloads import (
    Authentication,
    Configuration,
    Delete,
    Eap,
    IdInitiator,
    IdResponder,
    Nonce,
    Notify,
    Payload,
    Unknown,
)
from tests.scenario.credentials import CLIENT, SERVER, person, trust
from tests.unit.ike.pair import Pair, Side, client_child, client_config, server_config

# Of each test, in seconds, on whatever machine it is
BUDGET = 1.2
_STEPS = 24

_SERVER_PROOF = person("P-256", SERVER).proof
_CLIENT_PROOF = person("P-256", CLIENT).proof


def _users() -> EapOf:
    table = UserTable(parse_users(b"alice:secret\n"), Random(1).randbytes)
    return EapOf(EapUsers(users=table))


def _ways() -> dict[str, tuple[ConnectionConfig, ListenerConfig]]:
    who = Identity.parse(CLIENT)
    login = EapClient(EapLogin(user="alice", password="secret"))
    certificate, gateway = trust(), _SERVER_PROOF
    entries = {
        "psk": (client_config(), server_config()),
        "certificate": (
            client_config(proof=_CLIENT_PROOF, demand=certificate, identity=who),
            server_config(pad=(PadEntry(proof=gateway, demand=certificate),)),
        ),
        "eap": (
            client_config(proof=login, demand=certificate),
            server_config(pad=(PadEntry(proof=gateway, demand=_users()),)),
        ),
        "both": (
            replace(
                client_config(proof=_CLIENT_PROOF, demand=certificate, identity=who),
                further=((who, login),),
            ),
            server_config(pad=(PadEntry(proof=gateway, demand=certificate, further=(_users(),)),)),
        ),
        "nobody": (
            client_config(proof=NoProof(), demand=NoDemand(), remote_identity=None),
            server_config(pad=(PadEntry(proof=NoProof(), demand=NoDemand()),)),
        ),
    }
    return {
        name: (replace(client, resume=True), replace(server, secret=bytes(range(32))))
        for name, (client, server) in entries.items()
    }


_WAYS = _ways()


class Liar:
    """Changes what one side says, now and then."""

    def __init__(self, chance: Random) -> None:
        self.chance = chance
        self.rate = chance.choice([0.15, 0.4, 0.9])

    def letter(self, header: Header, payloads: Sequence[Payload]) -> tuple[Header, Content]:
        chance = self.chance
        if chance.random() > self.rate:
            return header, Content.of(payloads)
        said = list(payloads)
        for _ in range(chance.randrange(1, 4)):
            self._rearrange(said)
        if chance.random() < 0.1:
            header = replace(header, exchange=chance.choice([*ExchangeType, chance.randrange(256)]))
        content = Content.of(said)
        if chance.random() < 0.5:
            content = Content(content.first_payload, self._bend(content.data))
        elif chance.random() < 0.1:
            content = Content(chance.randrange(256), content.data)
        return header, content

    def _rearrange(self, said: list[Payload]) -> None:
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

    def _invention(self) -> Payload:
        chance = self.chance
        some = chance.randbytes(chance.choice([0, 1, 2, 3, 4, 5, 8, 16, 20, 40, 300]))
        inventions: list[Callable[[], Payload]] = [
            lambda: Notify.of(chance.choice([*NotifyType, chance.randrange(65536)]), some),
            lambda: Notify.of(chance.choice(list(NotifyType)), some),
            lambda: Notify(ProtocolId.ESP, chance.randbytes(4), chance.choice(list(NotifyType)), some),
            lambda: Configuration(chance.choice(list(CfgType)), ((chance.randrange(1, 30), b""),)),
            lambda: Delete(ProtocolId.ESP, (chance.randbytes(4), chance.randbytes(4))),
            lambda: Eap(some or b"\x03"),
            lambda: Authentication(chance.choice(list(AuthMethod)), some),
            lambda: IdInitiator(chance.randrange(1, 14), some or b"x"),
            lambda: IdResponder(chance.randrange(1, 14), some or b"x"),
            lambda: Nonce(chance.randbytes(32)),
            lambda: Unknown(chance.randrange(60, 250), chance.random() < 0.2, some),
        ]
        return chance.choice(inventions)()

    def _bend(self, data: bytes) -> bytes:
        chance, bent = self.chance, bytearray(data)
        for _ in range(chance.randrange(1, 4)):
            if bent:
                at = chance.randrange(len(bent))
                match chance.randrange(3):
                    case 0:
                        bent[at] ^= 1 << chance.randrange(8)
                    case 1:
                        bent[at] = chance.choice([0, 1, 255, chance.randrange(256)])
                    case _:
                        del bent[at : at + chance.randrange(1, 9)]
        return bytes(bent)


def _lying(side: Side, liar: Liar, monkeypatch: pytest.MonkeyPatch) -> None:
    honest = IkeSa._letter

    def letter(
        sa: IkeSa, header: Header, payloads: Sequence[Payload], path: Path, at_most: int | None
    ) -> Letter:
        if sa.hub is not side.endpoint._hub:
            return honest(sa, header, payloads, path, at_most)
        changed, content = liar.letter(header, payloads)
        return Letter(sa._protection, changed, content, path, ())

    monkeypatch.setattr(IkeSa, "_letter", letter)


def _act(pair: Pair, side: Side, chance: Random) -> None:
    """Something that a user, a timer or the network may make a side do."""
    endpoint, now = side.endpoint, pair.now
    connections = list(endpoint._hub.connections)
    if not connections:
        return
    one = chance.choice(connections)
    spis = [child.spi_in for child in endpoint._hub.connections[one].children.values()] or [0]
    elsewhere = UdpAddress(f"198.51.100.{chance.randrange(1, 250)}", 4500)
    actions: list[Callable[[], object]] = [
        lambda: endpoint.rekey_ike(one, now),
        lambda: endpoint.rekey_child(one, chance.choice(spis), now),
        lambda: endpoint.create_child(one, client_child(), now),
        lambda: endpoint.delete_child(one, chance.choice(spis), now),
        lambda: endpoint.check_alive(one, now),
        lambda: endpoint.redirect(one, "gw.example.org", now),
        lambda: endpoint.local_addresses_changed([elsewhere], now),
        lambda: endpoint.reauthenticate(one, now),
        lambda: endpoint.move(one, Path(UdpAddress("192.0.2.1", 4500), elsewhere), now),
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


@pytest.mark.parametrize("liar", ["client", "server"])
@pytest.mark.parametrize("way", _WAYS)
def test_liars_with_keys(way: str, liar: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """By whatever way they come in, on either side, in every exchange."""
    end = time.monotonic() + BUDGET
    for seed in count():
        if time.monotonic() > end:
            break
        client, server = _WAYS[way]
        pair = Pair(client, server, seed=seed)
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
        assert len(honest.endpoint._hub.states) < 40
    assert seed >= 3


# Without keys


class Forger(Liar):
    """Writes what has no protection, in the name of either side."""

    def forged(self, data: bytes) -> bytes:
        """Something like a message that was seen: its header, or nearly, and payloads of the forger's."""
        chance, header = self.chance, Header.parse(data)
        said: list[Payload] = []
        if header.next_payload not in (PayloadType.SK, PayloadType.SKF):
            said += parse_message(data).payloads
        for _ in range(chance.randrange(1, 5)):
            self._rearrange(said)
        if chance.random() < 0.3:
            header = replace(header, exchange=chance.choice(list(ExchangeType)))
        if chance.random() < 0.3:
            header = replace(header, is_response=chance.random() < 0.5, is_initiator=chance.random() < 0.5)
        if chance.random() < 0.2:
            header = replace(
                header, message_id=chance.randrange(4), spi_r=chance.choice([bytes(8), header.spi_r])
            )
        forged = emit_message(header, said)
        return self._bend(forged) if chance.random() < 0.2 else forged


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


@pytest.mark.parametrize("way", ["psk", "certificate", "eap"])
def test_forgers_without_keys(way: str) -> None:
    """Somebody on the way, from the first message on: whoever answers says no more than was said, and an
    IKE SA that stands goes on.
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
        assert len(pair.server.endpoint._hub.states) <= 80
        up = len(pair.client.told(ConnectionUp))
        pair.wait(1.0)
        assert len(pair.client.endpoint._hub.connections) >= min(up, 1), seed
    assert seed >= 3
    assert sums[1] < 2 * sums[0]
