"""`listen --l2tp`, and what operating systems offer it in main mode and quick mode, in their order.

The clients are ours in all but their offers, vendor ids, identities and ports.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import pytest

from espudp.cli.l2tp import CLIENTS
from espudp.ike.config import Identity, Mode
from espudp.ike.events import ChildInstalled, ConnectionDown, ConnectionUp
from espudp.ike.ikev1_config import Ikev1Policy
from espudp.ike.narrowing import Dynamic
from espudp.ike.v1 import attempt, quick_initiator
from espudp.wire import ip
from espudp.wire.ikev1 import vendor_ids as known
from espudp.wire.ikev1.attributes import Attribute
from espudp.wire.ikev1.constants import (
    AuthMethod,
    Encapsulation,
    IkeAttribute,
    IkeEncryption,
    IkeHash,
    IpsecAttribute,
    IsakmpTransform,
    LifeType,
    ProtocolId,
)
from espudp.wire.ikev1.payloads import VendorId
from espudp.wire.ikev1.proposal import Proposal, Transform
from tests.scenario.lab import NAT_IP, SERVER_IP, Lab
from tests.scenario.lab_v1 import TermsV1, lab_v1
from tests.scenario.test_transport import Stack, turned, udp
from tests.sim.host import Host

L2TP = 1701

# IANA: groups of phase 1
MODP1024, MODP1536, MODP2048, ECP256, ECP384 = 2, 5, 14, 19, 20
# RFC 2407 sections 4.4.4 and 4.5, RFC 4868: ciphers and MACs of ESP
ESP_DES, ESP_3DES, ESP_NULL, ESP_AES = 2, 3, 11, 12
HMAC_MD5, HMAC_SHA1, HMAC_SHA256, HMAC_SHA384, HMAC_SHA512 = 1, 2, 5, 6, 7

DES, TDES, AES = IkeEncryption.DES, IkeEncryption.TRIPLE_DES, IkeEncryption.AES
MD5, SHA1, SHA256 = IkeHash.MD5, IkeHash.SHA1, IkeHash.SHA2_256
SHA384, SHA512 = IkeHash.SHA2_384, IkeHash.SHA2_512

# What Windows says beside what everybody does; the first one nobody has explained in public.
WINDOWS_VENDOR_IDS = (
    bytes.fromhex("01528bbbc00696121849ab9a1c5b2a5100000001"),
    known.WINDOWS.octets + bytes.fromhex("00000009"),
    known.RFC_3947.octets,
    known.DRAFT_02_NEWLINE.octets,
    known.FRAGMENTATION.octets,
    bytes.fromhex("fb1de3cdf341b7ea16b7e5be0855f120"),
    bytes.fromhex("26244d38eddb61b3172a36e3d0cfb819"),
    bytes.fromhex("e3a5966a76379fe707228231e5ce8652"),
)
RACOON_VENDOR_IDS = (
    known.RFC_3947.octets,
    *(draft.octets for draft in (known.DRAFT_08, known.DRAFT_03, known.DRAFT_02_NEWLINE, known.DRAFT_00)),
    known.FRAGMENTATION_MAIN_AND_AGGRESSIVE,
    known.DPD_1_0,
)


@dataclass(frozen=True, kw_only=True)
class System:
    """How one operating system calls."""

    name: str
    vendor_ids: tuple[bytes, ...]
    ike: tuple[tuple[int, int, int, int], ...]  # cipher, key bits, hash, group
    esp: tuple[tuple[int, int, int], ...]  # cipher, key bits, MAC
    apart: bool = False  # each transform of ESP in a proposal of its own
    seconds: int
    kilobytes: int = 0
    port: int = L2TP
    suites: tuple[str, str]  # what is to be agreed on

    def phase_1(self, *_: object) -> tuple[Proposal, ...]:
        """In place of our own offer."""
        transforms = [
            Transform(
                number,
                IsakmpTransform.KEY_IKE,
                (
                    Attribute.of(IkeAttribute.ENCRYPTION, cipher),
                    *([Attribute.of(IkeAttribute.KEY_LENGTH, bits)] if bits else []),
                    Attribute.of(IkeAttribute.HASH, hash_),
                    Attribute.of(IkeAttribute.GROUP, group),
                    Attribute.of(IkeAttribute.AUTHENTICATION, AuthMethod.PSK),
                    Attribute.of(IkeAttribute.LIFE_TYPE, LifeType.SECONDS),
                    Attribute(IkeAttribute.LIFE_DURATION, (28_800).to_bytes(4)),
                ),
            )
            for number, (cipher, bits, hash_, group) in enumerate(self.ike, 1)
        ]
        return (Proposal(1, ProtocolId.ISAKMP, b"", tuple(transforms)),)

    def quick(self, _: object, spi: bytes, **__: object) -> tuple[Proposal, ...]:
        """Likewise."""
        transforms = [
            Transform(1 if self.apart else number, cipher, self._attributes(bits, mac))
            for number, (cipher, bits, mac) in enumerate(self.esp, 1)
        ]
        groups = [(t,) for t in transforms] if self.apart else [tuple(transforms)]
        return tuple(Proposal(number, ProtocolId.ESP, spi, group) for number, group in enumerate(groups, 1))

    def _attributes(self, bits: int, mac: int) -> tuple[Attribute, ...]:
        lives = [(LifeType.SECONDS, self.seconds), (LifeType.KILOBYTES, self.kilobytes)]
        found = [Attribute.of(IpsecAttribute.ENCAPSULATION, Encapsulation.UDP_TRANSPORT)]
        for kind, value in lives:
            if value:
                found.append(Attribute.of(IpsecAttribute.LIFE_TYPE, kind))
                found.append(Attribute(IpsecAttribute.LIFE_DURATION, value.to_bytes(4)))
        if bits:
            found.append(Attribute.of(IpsecAttribute.KEY_LENGTH, bits))
        return (*found, Attribute.of(IpsecAttribute.AUTHENTICATION, mac))

    def offered(self, *_: object, **__: object) -> list[VendorId]:
        """Likewise."""
        return [VendorId(octets) for octets in self.vendor_ids]


WINDOWS_10 = System(
    name="Windows 10",
    vendor_ids=WINDOWS_VENDOR_IDS,
    ike=(
        (AES, 256, SHA1, ECP384),
        (AES, 128, SHA1, ECP256),
        (AES, 256, SHA1, MODP2048),
        (TDES, 0, SHA1, MODP2048),
        (TDES, 0, SHA1, MODP1024),
    ),
    esp=(
        (ESP_AES, 256, HMAC_SHA1),
        (ESP_AES, 128, HMAC_SHA1),
        (ESP_3DES, 0, HMAC_SHA1),
        (ESP_DES, 0, HMAC_SHA1),
        (ESP_NULL, 0, HMAC_SHA1),
    ),
    apart=True,
    seconds=3600,
    kilobytes=250_000,
    suites=("aes256-sha1-modp2048", "aes256-sha1"),
)
APPLE = System(
    name="iOS and macOS",
    vendor_ids=RACOON_VENDOR_IDS,
    ike=(
        *((AES, 256, hash_, MODP2048) for hash_ in (SHA256, SHA1, MD5, SHA512)),
        *((AES, 256, hash_, group) for group in (MODP1536, MODP1024) for hash_ in (SHA256, SHA1, MD5)),
        *((AES, 128, hash_, MODP1024) for hash_ in (SHA1, MD5)),
        *((TDES, 0, hash_, MODP1024) for hash_ in (SHA1, MD5)),
    ),
    esp=tuple(
        (cipher, bits, mac)
        for cipher, bits in ((ESP_AES, 256), (ESP_AES, 128), (ESP_3DES, 0))
        for mac in (HMAC_SHA1, HMAC_MD5)
    ),
    seconds=3600,
    port=52_113,
    suites=("aes256-sha256-modp2048", "aes256-sha1"),
)
ANDROID = System(
    name="Android",
    vendor_ids=RACOON_VENDOR_IDS,
    ike=tuple(
        (cipher, bits, hash_, MODP1024)
        for cipher, bits in ((AES, 256), (AES, 128), (TDES, 0), (DES, 0))
        for hash_ in (SHA384, SHA256, SHA512, SHA1, MD5)
    ),
    esp=tuple(
        (cipher, bits, mac)
        for cipher, bits in ((ESP_AES, 256), (ESP_AES, 128), (ESP_3DES, 0), (ESP_DES, 0))
        for mac in (HMAC_SHA512, HMAC_SHA384, HMAC_SHA256, HMAC_SHA1, HMAC_MD5)
    ),
    seconds=28_800,
    port=56_322,
    suites=("aes256-sha256-modp1024", "aes256-sha1"),
)

SYSTEMS = pytest.mark.parametrize("system", [WINDOWS_10, APPLE, ANDROID], ids=lambda s: s.name)


def disguise(monkeypatch: pytest.MonkeyPatch, system: System) -> None:
    """Whoever calls from now on offers what this system does."""
    monkeypatch.setattr(attempt, "offer", system.phase_1)
    monkeypatch.setattr(attempt, "offered", system.offered)
    monkeypatch.setattr(quick_initiator, "offer_esp", system.quick)


def l2tp_lab() -> Lab:
    own = Dynamic(ip.UDP, L2TP, L2TP)
    terms = TermsV1(mode=Mode.TRANSPORT, ike=CLIENTS.ike, esp=CLIENTS.esp, pool=(), request=())
    served = replace(terms, local=(own,), remote=(Dynamic(ip.UDP),), ikev1_policy=Ikev1Policy())
    return lab_v1(terms=replace(terms, remote=(own,)), server=served)


def call(lab: Lab, client: Host, system: System) -> None:
    """Under its own address, which is what such clients call themselves, whoever answers."""
    local = Dynamic(ip.UDP, system.port, system.port)
    terms = replace(lab.terms, local=(local,), remote_identity=None)
    config = replace(terms.connection(), local_identity=Identity.parse(client.ip))
    client.connect(config, lab.server_ip)
    lab.world.run_until(lambda: client.up, 30.0)


def talk(lab: Lab, clients: Sequence[Host], server: Stack, system: System) -> None:
    """A question of each client at once, and the answers."""
    stacks = [Stack(client) for client in clients]
    for client in clients:
        client.send_packets([udp(client.ip, SERVER_IP, sport=system.port, payload=client.name.encode())])
    lab.world.run(1.0)
    questions = server.take()
    assert {q[28:] for q in questions} == {client.name.encode() for client in clients}
    lab.server.send_packets([turned(question, question[28:]) for question in questions])
    lab.world.run(1.0)
    for client, stack in zip(clients, stacks, strict=True):
        assert [packet[28:] for packet in stack.take()] == [client.name.encode()]
        client.on_packet.remove(stack._take)


@SYSTEMS
def test_two_of_a_kind_behind_one_nat(monkeypatch: pytest.MonkeyPatch, system: System) -> None:
    disguise(monkeypatch, system)
    lab = l2tp_lab()
    nat, server = lab.nat(), Stack(lab.server)
    clients = [lab.client(f"client-{n}", behind=nat, number=n) for n in (2, 3)]
    for client in clients:
        call(lab, client, system)
    talk(lab, clients, server, system)
    ups, children = lab.server.told(ConnectionUp), lab.server.told(ChildInstalled)
    assert [str(up.remote_identity) for up in ups] == [client.ip for client in clients]
    assert {(up.suite_name, child.suite.name) for up, child in zip(ups, children, strict=True)} == {
        system.suites
    }
    for child in children:
        client = clients[children.index(child)]
        assert [(s.protocol, s.ports) for s in child.local] == [(ip.UDP, (L2TP, L2TP))]
        assert [(s.protocol, s.ports) for s in child.remote] == [(ip.UDP, (system.port, system.port))]
        assert child.transport is not None
        assert (child.transport.remote, child.transport.remote_there) == (NAT_IP, client.ip)


@SYSTEMS
def test_its_keys_are_renewed_when_it_likes(monkeypatch: pytest.MonkeyPatch, system: System) -> None:
    """L2TP knows nothing of it."""
    disguise(monkeypatch, system)
    lab = l2tp_lab()
    server, client = Stack(lab.server), lab.client(behind=lab.nat())
    call(lab, client, system)
    for _ in range(2):
        (child,) = client.children()
        client.do(lambda tunnel, c=child: tunnel.rekey_child(c.connection, c.spi_in, lab.world.now))  # type: ignore[misc]
        lab.world.run(2.0)
        talk(lab, [client], server, system)
        client.do(lambda tunnel: tunnel.rekey_ike(client.connection, lab.world.now))
        lab.world.run(2.0)
        talk(lab, [client], server, system)
    assert not lab.server.told(ConnectionDown)
    assert len(lab.server.told(ConnectionUp)) == 1


@SYSTEMS
def test_the_same_private_address_at_two_homes(monkeypatch: pytest.MonkeyPatch, system: System) -> None:
    """And each says that it is new here (INITIAL-CONTACT): that ends only what came from the same place."""
    disguise(monkeypatch, system)
    lab = l2tp_lab()
    server = Stack(lab.server)
    homes = [lab.nat(), lab.nat("198.51.100.2")]
    clients = [lab.client(f"at-{n}", behind=home, number=7) for n, home in enumerate(homes)]
    for client in clients:
        call(lab, client, system)
    talk(lab, clients, server, system)
    assert not lab.server.told(ConnectionDown)
    assert clients[0].ip == clients[1].ip
