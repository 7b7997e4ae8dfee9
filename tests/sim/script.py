"""A peer played by hand, over `wire` and `crypto` alone: what other products send, said payload by payload.

It negotiates, and carries no ESP. A test gives it a script for what it answers (`answers`), or has it ask.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

from espudp.crypto.aead import make_opener, make_sealer
from espudp.crypto.auth import psk_auth
from espudp.crypto.dh import KeyPair, generate
from espudp.crypto.ikekeys import IkeKeys, IkeSuite, derive_ike_keys
from espudp.crypto.prf import prf
from espudp.crypto.suites import DH, dh_by_keyword, encr_by_keyword, prf_by_keyword
from espudp.ike.natd import natd_hash
from espudp.wire import natt
from espudp.wire.address import UdpAddress
from espudp.wire.ikev2.constants import (
    AuthMethod,
    CfgAttribute,
    CfgType,
    ExchangeType,
    IdType,
    NotifyType,
    ProtocolId,
    TransformType,
)
from espudp.wire.ikev2.header import Header
from espudp.wire.ikev2.message import (
    Message,
    emit_message,
    emit_payloads,
    fragment_aad,
    parse_message,
    parse_payloads,
    protected_aad,
)
from espudp.wire.ikev2.payloads import (
    Authentication,
    Configuration,
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
)
from espudp.wire.ikev2.proposal import Proposal, Transform
from espudp.wire.selectors import TrafficSelector
from tests.sim.link import Datagram, Link, Quality, Segment
from tests.sim.world import World

PSK = b"correct horse battery staple"
NONCE = b"a nonce of whoever plays by hand"
NO_SPI = bytes(8)

Answer = Callable[[Message], Sequence[Payload] | None]
"""What is answered to a request, once its inside is open; None: nothing at all."""


def suite(encr: str = "aes128gcm16", prf_name: str = "prfsha256", group: str = "curve25519") -> IkeSuite:
    """Of an AEAD, which is all that is played with."""
    cipher, function, dh = encr_by_keyword(encr), prf_by_keyword(prf_name), dh_by_keyword(group)
    assert cipher is not None
    assert function is not None
    assert dh is not None
    return IkeSuite(cipher, None, function, dh)


def ike_proposal(of: IkeSuite, number: int = 1) -> Proposal:
    """IKE: exactly this suite."""
    kinds = (
        Transform(TransformType.ENCR, of.encr.transform_id, of.encr.key_bits),
        Transform(TransformType.PRF, of.prf.transform_id),
        Transform(TransformType.DH, of.dh.transform_id),
    )
    return Proposal(number, ProtocolId.IKE, b"", kinds)


def esp_proposal(spi: int, *, group: int | None = None, number: int = 1, bits: int = 128) -> Proposal:
    """ESP: AES-GCM with an ICV of 16 octets, no ESN, and perhaps PFS."""
    kinds = [Transform(TransformType.ENCR, 20, bits), Transform(TransformType.ESN, 0)]
    kinds += [] if group is None else [Transform(TransformType.DH, group)]
    return Proposal(number, ProtocolId.ESP, spi.to_bytes(4), tuple(kinds))


def networks(*texts: str) -> tuple[TrafficSelector, ...]:
    return tuple(TrafficSelector.from_network(text) for text in texts)


@dataclass
class _Sa:
    """What the two have agreed on."""

    spi_i: bytes
    spi_r: bytes
    keys: IkeKeys
    peer_nonce: bytes


class Script:
    """One peer at one address. `heard` are the open messages of the other side, oldest first."""

    def __init__(
        self,
        world: World,
        segment: Segment,
        ip: str,
        *,
        identity: tuple[int, bytes] = (IdType.FQDN, b"gateway.example.org"),
        uses: IkeSuite | None = None,
        plain_port: int | None = 500,
        esp_bits: int = 128,
    ) -> None:
        """`plain_port`: where it answers plain IKE; None: on port 4500 only."""
        self.esp_bits = esp_bits
        self.heard: list[Message] = []
        self.answers: Answer = lambda _: ()
        self.identity = identity
        self.suite = uses or suite()
        self._world = world
        self._ip = ip
        self._plain_port = plain_port
        self._port = segment.attach(ip, self, Link(world, f"script {ip}", Quality()))
        self._rng = world.chance(f"script {ip}").randbytes
        self._pair: KeyPair = generate(self.suite.dh, self._rng)
        self._spi = self._rng(8)
        self._sa: _Sa | None = None
        self._is_initiator = False
        self._here = self._there = UdpAddress(ip, 4500)
        self._init = b""  # our own IKE_SA_INIT message, which we sign
        self._counter = 0
        self._sent: dict[int, bytes] = {}
        self._parts: dict[int, tuple[int, bytes]] = {}  # of one message in fragments, by number
        self._next_id = 0
        self._next_child = 0xC0FFEE00

    # What it has and says of itself

    def new_spi(self) -> int:
        """For one more child SA."""
        self._next_child += 1
        return self._next_child

    def proof(self) -> list[Payload]:
        """Its identity and its AUTH, with the PSK."""
        assert self._sa is not None
        kind = IdInitiator if self._is_initiator else IdResponder
        body = bytes([self.identity[0], 0, 0, 0]) + self.identity[1]
        sk_p = self._sa.keys.pi if self._is_initiator else self._sa.keys.pr
        signed = self._init + self._sa.peer_nonce + prf(self.suite.prf, sk_p, body)
        auth = psk_auth(self.suite.prf, PSK, signed)
        return [kind(*self.identity), Authentication(AuthMethod.SHARED_KEY, auth)]

    def address(self, ip: TrafficSelector) -> Configuration:
        """CFG_REPLY with one address."""
        given = (int(CfgAttribute.INTERNAL_IP4_ADDRESS), ip.first.packed)
        return Configuration(CfgType.REPLY, (given,))

    def child(
        self,
        theirs: Sequence[TrafficSelector],
        ours: Sequence[TrafficSelector],
        *,
        number: int = 1,
        group: int | None = None,
        nonce: bool = False,
    ) -> list[Payload]:
        """A child SA as an answer: SA, perhaps Nr and KEr, TSi, TSr."""
        payloads: list[Payload] = [
            SecurityAssociation(
                (esp_proposal(self.new_spi(), group=group, number=number, bits=self.esp_bits),)
            )
        ]
        if nonce:
            payloads.append(Nonce(NONCE))
        if group is not None:
            payloads.append(self.key_exchange(group))
        return [*payloads, TsInitiator(tuple(theirs)), TsResponder(tuple(ours))]

    def key_exchange(self, group: int) -> KeyExchange:
        """A fresh public value of a group."""
        row = next(row for row in DH if row.transform_id == group)
        return KeyExchange(group, generate(row, self._rng).public)

    # What it asks

    def dial(self, server: str, proposals: Sequence[Proposal] = (), extra: Sequence[Payload] = ()) -> None:
        """IKE_SA_INIT; from port 4500 at once, with the non-ESP marker."""
        self._is_initiator = True
        self._there = UdpAddress(server, 4500)
        header = Header(self._spi, NO_SPI, 0, ExchangeType.IKE_SA_INIT, True, False, 0)
        source, destination = (natd_hash(self._spi, NO_SPI, a) for a in (self._here, self._there))
        self._init = emit_message(
            header,
            [
                SecurityAssociation(tuple(proposals) or (ike_proposal(self.suite),)),
                KeyExchange(self.suite.dh.transform_id, self._pair.public),
                Nonce(NONCE),
                Notify.of(NotifyType.NAT_DETECTION_SOURCE_IP, source),
                Notify.of(NotifyType.NAT_DETECTION_DESTINATION_IP, destination),
                *extra,
            ],
        )
        self._next_id = 1
        self._send(self._init)

    def ask(self, exchange: int, payloads: Sequence[Payload], *, fragments: int = 0) -> None:
        """A request, perhaps with so many octets of payloads in a fragment (RFC 7383); its answer is the next
        that is `heard`.
        """
        number = self._next_id
        self._next_id += 1
        if not fragments:
            self._send(self._sealed(exchange, number, payloads, response=False))
            return
        header = self._header(exchange, number, response=False)
        first, inside = emit_payloads(payloads)
        parts = [inside[at : at + fragments] for at in range(0, len(inside), fragments)]
        for index, part in enumerate(parts, 1):
            aad = partial(fragment_aad, header, first, index, len(parts))
            self._send(self._seal(aad, part))

    def ask_for(
        self,
        local: str,
        remote: str,
        *,
        exchange: int = ExchangeType.IKE_AUTH,
        before: Sequence[Payload] = (),
        groups: Sequence[int | None] = (None,),
        fragments: int = 0,
    ) -> None:
        """IKE_AUTH, or one more child SA: a proposal for each of the groups, and KE of the first."""
        first = self.proof() if exchange == ExchangeType.IKE_AUTH else []
        nonce: list[Payload] = [] if exchange == ExchangeType.IKE_AUTH else [Nonce(NONCE)]
        sides: list[Payload] = [TsInitiator(networks(local)), TsResponder(networks(remote))]
        spi = self.new_spi()
        offer = SecurityAssociation(
            tuple(
                esp_proposal(spi, group=group, number=number, bits=self.esp_bits)
                for number, group in enumerate(groups, 1)
            )
        )
        ke: list[Payload] = [] if groups[0] is None else [self.key_exchange(groups[0])]
        self.ask(exchange, [*first, *before, offer, *nonce, *ke, *sides], fragments=fragments)

    # The wire

    def receive(self, datagram: Datagram) -> None:
        data, marked = datagram.payload, datagram.destination.port == 4500
        if marked:
            if natt.classify(data) is not natt.Kind.IKE:
                return
            data = data[len(natt.NON_ESP_MARKER) :]
        elif datagram.destination.port != self._plain_port:
            return
        self._here, self._there = datagram.destination, datagram.source
        message = parse_message(data)
        if message.header.exchange == ExchangeType.IKE_SA_INIT:
            self._initial(message, data)
        elif (opened := self._opened(message, data)) is None:
            return
        elif message.header.is_response:
            self.heard.append(opened)
        else:
            self._requested(opened)

    def _initial(self, message: Message, data: bytes) -> None:
        self.heard.append(message)
        ke, nonce = message.get(KeyExchange), message.get(Nonce)
        if ke is None or nonce is None:
            return
        header = message.header
        spi_r = header.spi_r if self._is_initiator else self._spi
        if not self._is_initiator:
            if ke.group != self.suite.dh.transform_id:
                wanted = self.suite.dh.transform_id.to_bytes(2)
                self._reply(header, [Notify.of(NotifyType.INVALID_KE_PAYLOAD, wanted)], NO_SPI)
                return
            self._init = self._reply(header, self._accepted(message), spi_r)
        nonces = (NONCE, nonce.data) if self._is_initiator else (nonce.data, NONCE)
        shared = self._pair.shared_secret(ke.data)
        keys = derive_ike_keys(self.suite, shared, *nonces, header.spi_i, spi_r)
        self._sa = _Sa(header.spi_i, spi_r, keys, nonce.data)

    def _accepted(self, message: Message) -> list[Payload]:
        """SA, KEr, Nr and the NAT detection of who sees none."""
        offer = message.get(SecurityAssociation)
        assert offer is not None
        wanted = set(ike_proposal(self.suite).transforms)
        number = next(p.number for p in offer.proposals if wanted <= set(p.transforms))
        hashes = (
            natd_hash(message.header.spi_i, self._spi, address) for address in (self._here, self._there)
        )
        source, destination = hashes
        return [
            SecurityAssociation((ike_proposal(self.suite, number),)),
            KeyExchange(self.suite.dh.transform_id, self._pair.public),
            Nonce(NONCE),
            Notify.of(NotifyType.NAT_DETECTION_SOURCE_IP, source),
            Notify.of(NotifyType.NAT_DETECTION_DESTINATION_IP, destination),
        ]

    def _reply(self, header: Header, payloads: Sequence[Payload], spi_r: bytes) -> bytes:
        answer = replace(header, spi_r=spi_r, is_initiator=False, is_response=True)
        message = emit_message(answer, payloads)
        self._send(message)
        return message

    def _requested(self, message: Message) -> None:
        """A request that is repeated gets the same answer again."""
        number = message.header.message_id
        if number not in self._sent:
            self.heard.append(message)
            payloads = self.answers(message)
            if payloads is None:
                return
            self._sent[number] = self._sealed(message.header.exchange, number, payloads, response=True)
        self._send(self._sent[number])

    def _sealed(self, exchange: int, number: int, payloads: Sequence[Payload], *, response: bool) -> bytes:
        first, inside = emit_payloads(payloads)
        return self._seal(
            partial(protected_aad, self._header(exchange, number, response=response), first), inside
        )

    def _header(self, exchange: int, number: int, *, response: bool) -> Header:
        assert self._sa is not None
        return Header(self._sa.spi_i, self._sa.spi_r, 0, exchange, self._is_initiator, response, number)

    def _seal(self, aad_of: Callable[[int], bytes], inside: bytes) -> bytes:
        assert self._sa is not None
        keys = self._sa.keys.initiator if self._is_initiator else self._sa.keys.responder
        sealer = make_sealer(self.suite.encr, None, keys, self._rng)
        self._counter += 1
        front = aad_of(sealer.iv_octets + len(inside) + 1 + sealer.icv_octets)
        return front + sealer.seal(self._counter, front, inside + b"\0")

    def _opened(self, message: Message, data: bytes) -> Message | None:
        """None for a fragment that is not the last to come."""
        sa, (outer,) = self._sa, message.payloads
        assert sa is not None
        assert isinstance(outer, Encrypted | EncryptedFragment)
        keys = sa.keys.responder if self._is_initiator else sa.keys.initiator
        opener = make_opener(self.suite.encr, None, keys)
        inside = opener.open(data[: len(data) - len(outer.body)], outer.body)
        assert inside is not None
        whole, first = inside[: -1 - inside[-1]], outer.first_payload
        if isinstance(outer, EncryptedFragment):
            self._parts[outer.number] = first, whole
            if len(self._parts) < outer.total:
                return None
            parts, self._parts = sorted(self._parts.items()), {}
            whole, first = b"".join(part for _, (_, part) in parts), parts[0][1][0]
        return Message(message.header, parse_payloads(first, whole))

    def _send(self, message: bytes) -> None:
        marked = natt.NON_ESP_MARKER + message if self._here.port == 4500 else message
        self._port.send(Datagram(self._here, self._there, marked))
