"""scapy's IKEv2 layer reads what we write, and we read what it writes: an independent judge of the layout."""

import pytest
from scapy.contrib import ikev2 as scapy_ikev2
from scapy.packet import Packet

from espudp.wire.ikev2.header import Header
from espudp.wire.ikev2.message import emit_message, parse_message
from espudp.wire.ikev2.payloads import (
    Authentication,
    Certificate,
    CertificateRequest,
    Configuration,
    Delete,
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
    VendorId,
)
from espudp.wire.ikev2.proposal import Proposal, Transform
from espudp.wire.selectors import TrafficSelector

HEADER = Header(b"initiatr", b"respondr", 0, 35, is_initiator=False, is_response=True, message_id=7)

PAYLOADS: list[Payload] = [
    SecurityAssociation(
        (
            Proposal(1, 3, b"\xc0\xff\xee\x01", (Transform(1, 20, 256), Transform(5, 0))),
            Proposal(2, 3, b"\xc0\xff\xee\x01", (Transform(1, 12, 128), Transform(3, 12), Transform(5, 1))),
        )
    ),
    KeyExchange(31, b"\x09" * 32),
    Nonce(b"\x07" * 32),
    IdInitiator(2, b"a.example"),
    IdResponder(3, b"b@example"),
    Certificate(4, b"\x30\x00"),
    CertificateRequest(4, b"\x11" * 20),
    Authentication(2, b"\xaa" * 20),
    Notify.of(16393, protocol=3, spi=b"\xc0\xff\xee\x02"),
    Notify.of(16388, b"\x55" * 20),
    Delete(3, (b"\xc0\xff\xee\x03", b"\xc0\xff\xee\x04")),
    VendorId(b"espudp"),
    Configuration(1, ((1, b""), (3, b"\x01\x02\x03\x04"))),
    TsInitiator((TrafficSelector.from_network("10.0.0.0/8"),)),
    TsResponder((TrafficSelector.from_network("192.0.2.1"), TrafficSelector.from_network("2001:db8::/32"))),
]


def layers(packet: Packet) -> list[str]:
    return [layer.__name__ for layer in packet.layers()]


def test_scapy_reads_what_we_write() -> None:
    data = emit_message(HEADER, PAYLOADS)
    packet = scapy_ikev2.IKEv2(data)
    assert layers(packet) == [
        "IKEv2", "IKEv2_SA", "IKEv2_KE", "IKEv2_Nonce", "IKEv2_IDi", "IKEv2_IDr", "IKEv2_CERT",
        "IKEv2_CERTREQ", "IKEv2_AUTH", "IKEv2_Notify", "IKEv2_Notify", "IKEv2_Delete", "IKEv2_VendorID",
        "IKEv2_CP", "IKEv2_TSi", "IKEv2_TSr",
    ]  # fmt: skip
    assert (packet.id, packet.length, packet.exch_type) == (7, len(data), 35)
    assert packet.flags == "Response"
    assert packet["IKEv2_KE"].group == 31
    assert packet["IKEv2_Nonce"].nonce == b"\x07" * 32
    assert packet["IKEv2_IDi"].ID == b"a.example"
    assert packet["IKEv2_AUTH"].load == b"\xaa" * 20
    assert packet["IKEv2_Notify"].SPI == b"\xc0\xff\xee\x02"
    assert packet["IKEv2_Delete"].SPI == [b"\xc0\xff\xee\x03", b"\xc0\xff\xee\x04"]
    assert packet["IKEv2_TSr"].number_of_TSs == 2
    proposal = packet["IKEv2_SA"].prop
    assert (proposal.proposal, proposal.proto, proposal.trans_nb) == (1, 3, 2)
    assert proposal.SPI == b"\xc0\xff\xee\x01"
    assert proposal.payload.trans_nb == 3


@pytest.mark.parametrize(
    ("protected", "layer"),
    [
        (Encrypted(35, b"\x11" * 40), "IKEv2_Encrypted"),
        (EncryptedFragment(35, 1, 3, b"\x11" * 40), "IKEv2_Encrypted_Fragment"),
    ],
)
def test_scapy_reads_our_encrypted_payloads(protected: Payload, layer: str) -> None:
    packet = scapy_ikev2.IKEv2(emit_message(HEADER, [protected]))
    assert packet[layer].next_payload == 35
    assert packet[layer].load == b"\x11" * 40


def test_we_read_what_scapy_writes() -> None:
    aes = scapy_ikev2.IKEv2_Transform(transform_type=1, transform_id=12, length=12, key_length=256)
    hmac = scapy_ikev2.IKEv2_Transform(transform_type=3, transform_id=12)
    proposal = scapy_ikev2.IKEv2_Proposal(proto=3, SPI=b"\xc0\xff\xee\x01", trans_nb=2, trans=aes / hmac)
    packet = (
        scapy_ikev2.IKEv2(init_SPI=b"initiatr", resp_SPI=b"respondr", exch_type=35, flags="Response", id=7)
        / scapy_ikev2.IKEv2_SA(prop=proposal)
        / scapy_ikev2.IKEv2_KE(group=31, ke=b"\x09" * 32)
        / scapy_ikev2.IKEv2_Nonce(nonce=b"\x07" * 32)
        / scapy_ikev2.IKEv2_Notify(type=16390, notify=b"cookie")
        / scapy_ikev2.IKEv2_VendorID(vendorID=b"scapy")
    )
    message = parse_message(bytes(packet))
    assert message.payloads == (
        SecurityAssociation(
            (Proposal(1, 3, b"\xc0\xff\xee\x01", (Transform(1, 12, 256), Transform(3, 12))),)
        ),
        KeyExchange(31, b"\x09" * 32),
        Nonce(b"\x07" * 32),
        Notify.of(16390, b"cookie"),
        VendorId(b"scapy"),
    )
