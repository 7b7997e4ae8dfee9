"""Every state of an IKE SA meets every kind of message: nothing escapes, and nothing moves that is not
authentic.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import product
from random import Random

import pytest

from espudp.ike.config import Timers
from espudp.ike.credentials import EapClient, EapOf, Psk
from espudp.ike.eap.login import EapLogin, EapUsers
from espudp.ike.eap.users import UserTable, parse_users
from espudp.ike.events import ConnectionDown, Fault
from espudp.ike.farewell import Farewell
from espudp.ike.pad import PadEntry
from espudp.ike.v2.groups import MAX_GROUP_CHANGES
from espudp.ike.v2.hub import State
from espudp.ike.v2.opening import MAX_COOKIES
from espudp.ike.v2.sa import IkeSa
from espudp.wire.address import UdpAddress
from espudp.wire.eap import EapType
from espudp.wire.ikev2.constants import AuthMethod, CfgType, ExchangeType, NotifyType, PayloadType, ProtocolId
from espudp.wire.ikev2.header import Header
from espudp.wire.ikev2.message import emit_message
from espudp.wire.ikev2.payloads import (
    Authentication,
    Certificate,
    CertificateRequest,
    Configuration,
    Delete,
    Eap,
    Encrypted,
    EncryptedFragment,
    IdInitiator,
    IdResponder,
    KeyExchange,
    Nonce,
    Notify,
    Payload,
    SecurityAssociation,
    TsInitiator,
    TsResponder,
    Unknown,
    VendorId,
)
from espudp.wire.ikev2.proposal import Proposal, Transform
from espudp.wire.selectors import TrafficSelector
from tests.unit.ike.pair import (
    FOREVER,
    PSK,
    Datagram,
    Pair,
    Side,
    client_config,
    path_to_server,
    server_config,
)

_TIMERS = Timers(dpd_interval=0, half_open_timeout=1e6, ike_lifetime=FOREVER)

Scene = Callable[[], tuple[Pair, Side]]


def _fresh() -> Pair:
    return Pair(client_config(timers=_TIMERS), server_config(timers=_TIMERS))


def _init_sent() -> tuple[Pair, Side]:
    pair = _fresh()
    pair.dial()
    pair.take(pair.client)
    return pair, pair.client


def _resume_sent() -> tuple[Pair, Side]:
    """A ticket is shown to a server that has yet to answer."""
    pair = Pair(replace(client_config(timers=_TIMERS), resume=True), server_config(timers=_TIMERS)).connect()
    pair.client.connection.down(Farewell(Fault.TIMEOUT, "asleep"))
    pair.dial()
    pair.take(pair.client)
    return pair, pair.client


def _await_auth() -> tuple[Pair, Side]:
    pair = _fresh()
    pair.dial()
    pair.move(pair.client)
    pair.take(pair.server)
    return pair, pair.server


def _auth_sent() -> tuple[Pair, Side]:
    pair = _fresh()
    pair.dial()
    pair.move(pair.client)
    pair.move(pair.server)
    pair.take(pair.client)
    return pair, pair.client


def _logging_in(who: str, rounds: int) -> Scene:
    """So many rounds of EAP-MD5 have passed: of three, the last one is AUTH."""

    def scene() -> tuple[Pair, Side]:
        table = UserTable(parse_users(b"alice:secret"), Random(0).randbytes)
        users = EapOf(EapUsers(users=table, methods=(EapType.MD5_CHALLENGE,)))
        login = EapClient(EapLogin(user="alice", password="secret"))
        pair = Pair(
            client_config(timers=_TIMERS, proof=login),
            server_config(timers=_TIMERS, pad=(PadEntry(proof=Psk(PSK), demand=users),)),
        )
        pair.dial()
        for _ in range(2 + rounds):
            pair.move(pair.client)
            pair.move(pair.server)
        side: Side = getattr(pair, who)
        if side is pair.client:
            pair.take(side)
        return pair, side

    return scene


def _answered() -> tuple[Pair, Side]:
    pair = Pair(client_config(timers=_TIMERS, psk=b"x"), server_config(timers=_TIMERS))
    pair.dial()
    pair.flush()
    pair.server.forget()
    return pair, pair.server


def _established(who: str) -> Scene:
    def scene() -> tuple[Pair, Side]:
        pair = _fresh().connect()
        return pair, getattr(pair, who)

    return scene


def _busy(who: str, *, ike: bool) -> Scene:
    """With a request of its own under way."""

    def scene() -> tuple[Pair, Side]:
        pair = _fresh().connect()
        side: Side = getattr(pair, who)
        if ike:
            side.endpoint.rekey_ike(1, pair.now)
        else:
            side.endpoint.rekey_child(1, side.children[0].spi_in, pair.now)
        pair.take(side)
        return pair, side

    return scene


def _sharing(who: str) -> Scene:
    """Child SAs for several workers are being made."""

    def scene() -> tuple[Pair, Side]:
        pair = Pair(client_config(timers=_TIMERS), server_config(timers=_TIMERS), workers=(4, 4))
        pair.dial()
        for _ in range(3):
            pair.move(pair.client)
            pair.move(pair.server)
        side: Side = getattr(pair, who)
        pair.take(side)
        return pair, side

    return scene


def _contested() -> tuple[Pair, Side]:
    """Both rekey the IKE SA, and the client has answered the server's rekey."""
    pair = _fresh().connect()
    for side in (pair.client, pair.server):
        side.endpoint.rekey_ike(1, pair.now)
    pair.take(pair.client)
    pair.move(pair.server)
    pair.take(pair.client)
    return pair, pair.client


def _moving(*, proving: bool) -> Scene:
    """UPDATE_SA_ADDRESSES is under way, or the question whether it is true (RFC 4555)."""

    def scene() -> tuple[Pair, Side]:
        pair = _fresh().connect()
        pair.client.endpoint.local_addresses_changed([UdpAddress("203.0.113.50", 4500)], pair.now)
        if not proving:
            pair.take(pair.client)
            return pair, pair.client
        pair.move(pair.client)
        pair.take(pair.server)
        return pair, pair.server

    return scene


def _superseded() -> tuple[Pair, Side]:
    pair = _fresh().connect()
    pair.client.endpoint.rekey_ike(1, pair.now)
    pair.move(pair.client)
    pair.take(pair.server)
    return pair, pair.server


def _deleting() -> tuple[Pair, Side]:
    pair = _fresh().connect()
    pair.client.endpoint.close(1, pair.now)
    pair.take(pair.client)
    return pair, pair.client


_SCENES: dict[str, Scene] = {
    "InitSent": _init_sent,
    "ResumeSent": _resume_sent,
    "AwaitAuth": _await_auth,
    "AuthSent": _auth_sent,
    **{f"AwaitAuth, round {n} of EAP": _logging_in("server", n) for n in range(3)},
    **{f"AuthSent, round {n} of EAP": _logging_in("client", n) for n in range(3)},
    "Answered": _answered,
    "Established, initiator": _established("client"),
    "Established, responder": _established("server"),
    "Established, rekeying a child SA": _busy("server", ike=False),
    "Established, rekeying the IKE SA": _busy("client", ike=True),
    "Established, asking for more child SAs": _sharing("client"),
    "Established, asked for more child SAs": _sharing("server"),
    "Established, contested": _contested,
    "Established, has moved": _moving(proving=False),
    "Established, asks whether the peer has moved": _moving(proving=True),
    "Superseded": _superseded,
    "Deleting": _deleting,
}

_ANY = (TrafficSelector.from_network("0.0.0.0/0"),)
_TRANSFORMS = (Transform(1, 20, 128), Transform(2, 5), Transform(4, 31))
_ESP_TRANSFORMS = (Transform(1, 20, 128), Transform(5, 0))

_PAYLOADS: tuple[Payload, ...] = (
    SecurityAssociation((Proposal(1, ProtocolId.IKE, b"", _TRANSFORMS),)),
    SecurityAssociation((Proposal(1, ProtocolId.IKE, b"newspi!!", _TRANSFORMS),)),
    SecurityAssociation((Proposal(1, ProtocolId.ESP, b"spi!", _ESP_TRANSFORMS),)),
    SecurityAssociation((Proposal(1, ProtocolId.AH, b"spi!", (Transform(3, 12), Transform(5, 0))),)),
    SecurityAssociation((Proposal(9, 77, b"", ()),)),
    KeyExchange(31, b"\x09" + bytes(31)),
    KeyExchange(31, bytes(32)),
    KeyExchange(1025, b""),
    Nonce(bytes(32)),
    IdInitiator(2, b"client.example.org"),
    IdInitiator(222, b"\x00\xff\n" * 300),
    IdResponder(2, b"server.example.org"),
    Authentication(AuthMethod.SHARED_KEY, bytes(32)),
    Authentication(250, b""),
    Certificate(4, b"x"),
    CertificateRequest(4, b"x"),
    Eap(b"\x03\x01\x00\x04"),
    Eap(b"\x01\x01\x00\x06\x04\x00"),
    Eap(b"\x02\x01\x00\x05\x01"),
    TsInitiator(_ANY),
    TsResponder(_ANY),
    Delete(ProtocolId.IKE),
    Delete(ProtocolId.ESP, (b"spi!", b"spi!")),
    Delete(ProtocolId.AH, (b"spi!",)),
    Configuration(CfgType.REQUEST, ((1, b""), (8, b""), (3, b""))),
    Configuration(CfgType.REPLY, ((1, bytes(4)), (8, bytes(17)), (77, b"x"))),
    Configuration(250, ()),
    VendorId(b""),
    Unknown(33 - 20, False, b""),  # a number of IKEv1 (CVE-2015-3991)
    Unknown(200, False, b"x"),
    Unknown(200, True, b"x"),
)
_NOTIFIES: tuple[Payload, ...] = tuple(
    Notify(protocol, spi, type_, data)
    for type_ in (*NotifyType, 0, 8191, 65535)
    for protocol, spi, data in ((0, b"", b""), (3, b"spi!", b"\x00\x1f"))
)
_CHAINS: tuple[tuple[Payload, ...], ...] = (
    (),
    *((payload,) for payload in (*_PAYLOADS, *_NOTIFIES)),
    (Encrypted(PayloadType.NONE, b""),),
    (Encrypted(PayloadType.NOTIFY, bytes(41)),),
    (Encrypted(PayloadType.DELETE, bytes(60)),),
    (Delete(ProtocolId.IKE), Encrypted(PayloadType.NONE, bytes(41))),
    (EncryptedFragment(PayloadType.NOTIFY, 1, 2, bytes(41)),),
    (EncryptedFragment(PayloadType.NONE, 65535, 65535, b""),),
    (_PAYLOADS[0], _PAYLOADS[5], _PAYLOADS[8]),
    (_PAYLOADS[9], _PAYLOADS[12], _PAYLOADS[2], _PAYLOADS[17], _PAYLOADS[18]),
)
_EXCHANGES = (*(int(e) for e in ExchangeType), 0, 33, 240, 255)


def _fingerprint(side: Side) -> object:
    """All that a message could change."""
    return [(spi, id(state), type(state).__name__, state.deadline) for spi, state in _all(side)] + [
        (
            number,
            c.path,
            c.last_inbound,
            sorted(c.children),
            id(c.current),
            sorted(c.sas),
            None if c.current is None else _windows(c.current.sa),
        )
        for number, c in side.endpoint._hub.connections.items()
    ]


def _all(side: Side) -> list[tuple[bytes, State]]:
    return sorted(side.endpoint._hub.states.items())


def _windows(sa: IkeSa) -> tuple[int, int, int]:
    return sa.incoming.expected_id, sa.outgoing.next_id, id(sa.outgoing.pending)


def _headers(side: Side) -> Iterator[Header]:
    """Towards each IKE SA of the side, of every exchange and role, with message IDs in and out of the
    windows.
    """
    for spi, state in _all(side):
        sa = getattr(state, "_sa", None) or getattr(state, "sa", None)
        spi_i, spi_r = (sa.spi_i, sa.spi_r) if isinstance(sa, IkeSa) else (spi, b"somebody")
        for exchange, initiator, response, message_id in product(
            _EXCHANGES, (True, False), (True, False), (0, 1, 2, 3, 0xFFFFFFFF)
        ):
            yield Header(spi_i, spi_r, 0, exchange, initiator, response, message_id)


@pytest.mark.parametrize("name", _SCENES)
def test_nothing_unauthentic_moves_a_state(name: str) -> None:
    pair, side = _SCENES[name]()
    side.forget()
    path = path_to_server(4500)
    strangers = path._replace(remote=path.remote._replace(ip="203.0.113.99"))
    chance = Random(name)
    before, answers = _fingerprint(side), 0
    for header in _headers(side):
        for chain in chance.sample(_CHAINS, 12):
            side.endpoint.receive_datagram(emit_message(header, chain), strangers, pair.now)
        answers += len(side.endpoint.datagrams_to_send(pair.now))
        if name in ("InitSent", "ResumeSent"):
            continue  # they may start over, as often as RFC 7296 section 2.6 lets them, or without a ticket
        assert _fingerprint(side) == before
    side.collect()
    assert side.events == []
    left = "InitSent" if name == "ResumeSent" else name.split(",")[0]
    assert [type(state).__name__ for _, state in _all(side)].count(left) >= 1
    # Unknown IKE SAs, and forged wishes for a cookie or another group.
    assert answers <= 50 + MAX_COOKIES + MAX_GROUP_CHANGES


def _peer_sa(pair: Pair, side: Side, sa: IkeSa) -> IkeSa | None:
    """The peer's end of an IKE SA."""
    other = pair.server if side is pair.client else pair.client
    for state in other.states:
        theirs = getattr(state, "_sa", None) or getattr(state, "sa", None)
        if isinstance(theirs, IkeSa) and (theirs.spi_i, theirs.spi_r) == (sa.spi_i, sa.spi_r):
            return theirs
    return None


def _authentic(pair: Pair, side: Side, chance: Random) -> Datagram | None:
    """A message with the right keys from a peer that says anything at all."""
    ours = [getattr(s, "_sa", None) or getattr(s, "sa", None) for _, s in _all(side)]
    keyed = [sa for sa in ours if isinstance(sa, IkeSa)]
    if not keyed:
        return None
    sa = chance.choice(keyed)
    theirs = _peer_sa(pair, side, sa)
    if theirs is None:
        return None
    response = chance.random() < 0.4
    in_window = sa.outgoing.next_id if response else sa.incoming.expected_id
    header = Header(
        sa.spi_i,
        sa.spi_r,
        0,
        chance.choice((35, 36, 36, 37, 37, chance.choice(_EXCHANGES))),
        theirs.is_initiator,
        response,
        in_window if chance.random() < 0.95 else chance.randrange(4),
    )
    return theirs._protection.seal(header, _chain(side, chance)), path_to_server(4500)


def _chain(side: Side, chance: Random) -> Sequence[Payload]:
    """Payloads at random, in part those that make a good request, about SAs that exist and that do not."""
    spis = [spi.to_bytes(4) for c in side.endpoint._hub.connections.values() for spi in _spis_out(c.children)]
    about = chance.choice([*spis, b"nope"])
    good: list[Payload] = chance.choice(
        [
            [],
            [Delete(ProtocolId.ESP, (about,))],
            [
                Notify(ProtocolId.ESP, about, NotifyType.REKEY_SA, b""),
                SecurityAssociation((Proposal(1, ProtocolId.ESP, chance.randbytes(4), _ESP_TRANSFORMS),)),
                Nonce(chance.randbytes(32)),
                TsInitiator(_ANY),
                TsResponder(_ANY),
            ],
            [
                Notify.of(NotifyType.SA_RESOURCE_INFO, chance.randbytes(chance.choice((0, 4)))),
                SecurityAssociation((Proposal(1, ProtocolId.ESP, chance.randbytes(4), _ESP_TRANSFORMS),)),
                Nonce(chance.randbytes(32)),
                TsInitiator(_ANY),
                TsResponder(_ANY),
            ],
            [
                SecurityAssociation((Proposal(1, ProtocolId.IKE, chance.randbytes(8), _TRANSFORMS),)),
                Nonce(chance.randbytes(32)),
                KeyExchange(31, b"\x09" + bytes(31)),
            ],
        ]
    )
    stray = [chance.choice((*_PAYLOADS, *_NOTIFIES)) for _ in range(chance.choice((0, 0, 1, 1, 2, 5)))]
    mixed = [*good, *stray]
    chance.shuffle(mixed)
    return mixed


def _spis_out(children: object) -> list[int]:
    return [c.spi_out for c in children.values()] if isinstance(children, dict) else []


@pytest.mark.parametrize("name", _SCENES)
@pytest.mark.parametrize("seed", range(12))
def test_a_peer_that_says_anything_at_all(name: str, seed: int) -> None:
    """With the right keys: then much may change, but nothing escapes, and everything stays bounded."""
    chance = Random(f"{name} {seed}")
    pair, side = _SCENES[name]()
    side.forget()
    for _ in range(60):
        datagram = _authentic(pair, side, chance)
        if datagram is None:
            break
        side.endpoint.receive_datagram(datagram[0], datagram[1], pair.now)
        assert len(pair.take(side)) <= 3
        pair.now += chance.choice((0.0, 0.1, 5.0))
        side.endpoint.handle_timer(pair.now)
        assert len(side.states) <= 20
        assert all(len(c.children) <= 128 for c in side.endpoint._hub.connections.values())
    side.collect()
    assert len(side.told(ConnectionDown)) <= 1
    assert repr(side.events).isprintable()
    pair.wait(1_000.0, flush=False)
    side.endpoint.snapshot(pair.now)


@pytest.mark.parametrize("name", _SCENES)
@pytest.mark.parametrize("seed", range(4))
def test_datagrams_cut_and_flipped(name: str, seed: int) -> None:
    """What was sent in earnest, damaged on the way: dropped, whatever it was."""
    chance = Random(f"{name} {seed}")
    pair, side = _SCENES[name]()
    side.forget()
    before = _fingerprint(side)
    for data, path in pair.wire:
        for _ in range(60):
            damaged = bytearray(data)
            for _ in range(chance.choice((1, 1, 3))):
                damaged[chance.randrange(len(damaged))] ^= 1 << chance.randrange(8)
            cut = bytes(damaged[: chance.choice((len(damaged), chance.randrange(len(damaged))))])
            if _header_of(cut).spi_r == bytes(8):
                continue  # a first message is anybody's to write
            side.endpoint.receive_datagram(cut, path, pair.now)
    side.endpoint.datagrams_to_send(pair.now)
    if name != "InitSent":
        assert _fingerprint(side) == before


def _header_of(data: bytes) -> Header:
    return Header.parse(data.ljust(28, b"\x00"))


def test_every_state_is_here() -> None:
    """Whoever adds a state adds a scene."""
    assert {name.split(",")[0] for name in _SCENES} == {
        "InitSent",
        "ResumeSent",
        "AuthSent",
        "AwaitAuth",
        "Answered",
        "Established",
        "Superseded",
        "Deleting",
    }
    for name, scene in _SCENES.items():
        _, side = scene()
        assert name.split(",")[0] in side.state_names


def test_a_header_of_another_ike_sa() -> None:
    pair, side = _established("client")()
    state = side.ike
    header = state.sa._header(ExchangeType.INFORMATIONAL, 0, is_response=False)
    for wrong in (replace(header, spi_r=b"x" * 8), replace(header, spi_i=b"x" * 8)):
        turned = replace(wrong, is_initiator=False)
        side.endpoint.receive_datagram(emit_message(turned, []), path_to_server(4500), pair.now)
    assert side.ike is state
