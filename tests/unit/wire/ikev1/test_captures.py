"""Messages that other programs sent, one whole negotiation decrypted, and what crashed other programs."""

import json
from collections.abc import Iterator

import pytest
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.x509 import load_der_x509_certificate

from espudp.crypto.ikev1keys import (
    Ikev1Suite,
    decrypt,
    digest,
    exchange_iv,
    hash_by_number,
    last_block,
    phase_1_iv,
)
from espudp.crypto.suites import dh_by_id, encr_by_keyword
from espudp.errors import WireError
from espudp.wire.ikev1 import constants as c
from espudp.wire.ikev1 import payloads as p
from espudp.wire.ikev1.header import Header
from espudp.wire.ikev1.message import Message, emit_message, open_message, parse_message
from espudp.wire.ikev1.vendor_ids import named
from espudp.wire.natt import Kind, classify
from tests.pcap import UdpDatagram, udp_datagrams
from tests.shared_vectors import shared_vectors

CERTS = ("pcap", "wireshark", "ikev1-certs.pcap")
NAT = ("pcap", "tcpdump", "isakmp4500.pcap")


def messages(*parts: str) -> Iterator[tuple[UdpDatagram, Message]]:
    """Every message of IKEv1 in a capture, without the marker that stands in front of it on port 4500."""
    for datagram in udp_datagrams(shared_vectors(*parts)):
        data = datagram.data
        if 4500 in (datagram.sport, datagram.dport):
            if classify(data) is not Kind.IKE:
                continue
            data = data[4:]
        yield datagram, parse_message(data)


def kinds(message: Message) -> list[str]:
    return [type(payload).__name__ for payload in message.payloads]


@pytest.mark.parametrize("capture", ["libreswan", "tcpdump", "wireshark"])
def test_captured_messages_parse_and_are_written_octet_by_octet(capture: str) -> None:
    seen = 0
    for path in sorted(shared_vectors("pcap", capture).glob("*.pcap")):
        for datagram in udp_datagrams(path):
            data = datagram.data
            if datagram.dport != 500 or Header.parse(data).major != 1:
                continue
            message = parse_message(data)
            seen += 1
            if not message.header.encrypted:
                assert emit_message(message.header, message.payloads) == data
            for sa in message.all(p.SecurityAssociation):
                assert p.SecurityAssociation.of(sa.proposals).body == sa.body
    assert seen >= 4


def test_a_negotiation_through_a_nat() -> None:
    """Main mode on port 500, the 5th message and all behind it on 4500 (RFC 3947 section 4). Its keys are
    lost: what is encrypted stays so, and its form is all that can be looked at.
    """
    seen = list(messages(*NAT))
    assert [m.header.exchange for _, m in seen] == [2] * 6 + [32] * 8 + [5]
    assert [d.dport for d, _ in seen] == [500] * 4 + [4500] * 11
    assert [m.header.encrypted for _, m in seen] == [False] * 4 + [True] * 11
    assert all(len(m.body) % 8 == 0 for _, m in seen if m.header.encrypted)
    ids = [m.header.message_id for _, m in seen]
    assert ids == [0] * 6 + [2340325703] * 8 + [45991503]
    offer, choice = (m.get(p.SecurityAssociation) for _, m in seen[:2])
    assert offer is not None
    assert choice is not None
    (chosen,) = choice.proposals[0].transforms
    assert chosen.values in [t.values for t in offer.proposals[0].transforms]
    assert "RFC 3947" in named(v.data for v in seen[1][1].all(p.VendorId))


def test_nat_discovery_of_the_capture() -> None:
    vectors = json.loads(shared_vectors("natd", "natd_from_captures.json").read_text())["vectors"]
    ours = [v for v in vectors if v["version"] == 1]
    assert ours
    sent = [d.hash for _, m in messages(*NAT) for d in m.all(p.NatDiscovery)]
    md5 = hash_by_number(1)
    assert md5 is not None
    for vector in ours:
        address = bytes(map(int, vector["ip"].split("."))) + vector["port"].to_bytes(2)
        made = digest(md5, bytes.fromhex(vector["spi_i"] + vector["spi_r"]) + address)
        assert bytes.fromhex(vector["data"]) in sent
        assert (made.hex() == vector["data"]) is vector["matches_packet_headers"]


def negotiated(seen: list[Message]) -> Ikev1Suite:
    """The suite that the second message chose: 3DES, MD5 and MODP-1024."""
    sa = seen[1].get(p.SecurityAssociation)
    assert sa is not None
    (transform,) = sa.proposals[0].transforms
    assert transform.values == {11: 1, 12: 28800, 1: 5, 2: 1, 3: 3, 4: 2}
    encr, hash_, dh = encr_by_keyword("3des"), hash_by_number(1), dh_by_id(2)
    assert encr is not None
    assert hash_ is not None
    assert dh is not None
    return Ikev1Suite(encr, hash_, dh)


def decrypted() -> list[Message]:
    """Main mode and quick mode of ikev1-certs. A message that was sent twice comes once."""
    key = bytes.fromhex(
        json.loads(shared_vectors(*CERTS[:-1], f"{CERTS[-1]}.keys.json").read_text())["encryption_key"]
    )
    seen = [message for _, message in messages(*CERTS)]
    suite = negotiated(seen)
    ke_i, ke_r = (m.get(p.KeyExchange) for m in seen[2:4])
    assert ke_i is not None
    assert ke_r is not None
    iv, opened = phase_1_iv(suite, ke_i.data, ke_r.data), []
    for at, message in enumerate(seen[4:], 4):
        if message in seen[:at]:
            continue
        header = message.header
        if header.message_id and not seen[at - 1].header.message_id:
            iv = exchange_iv(suite, iv, header.message_id)
        opened.append(open_message(header, decrypt(suite.encr, key, iv, message.body)))
        iv = last_block(suite.encr, message.body)
    return opened


def test_a_negotiation_with_certificates_decrypts() -> None:
    id_i, id_r, *quick = decrypted()
    assert kinds(id_i) == ["Identification", "Certificate", "CertificateRequest", "Signature"]
    assert kinds(id_r) == ["Identification", "Certificate", "Signature"]
    both = ["Hash", "SecurityAssociation", "Nonce", "KeyExchange", "Identification", "Identification"]
    assert [kinds(message) for message in quick] == [both, both, ["Hash"]]
    assert [len(message.after_hash) for message in quick] == [228, 228, 0]
    for sa in (message.get(p.SecurityAssociation) for message in quick[:2]):
        assert sa is not None
        assert [proposal.protocol for proposal in sa.proposals] == [3]


def test_its_signatures_are_those_of_a_bare_hash() -> None:
    """RFC 2409 section 5.1: PKCS #1, without the name of the hash; so 16 octets of MD5 come out."""
    for message in decrypted()[:2]:
        certificate, signature = message.get(p.Certificate), message.get(p.Signature)
        assert certificate is not None
        assert signature is not None
        assert certificate.encoding == 4
        key = load_der_x509_certificate(certificate.data).public_key()
        assert isinstance(key, RSAPublicKey)
        hashed = key.recover_data_from_signature(signature.data, PKCS1v15(), None)
        assert len(hashed) == 16
        identity = message.get(p.Identification)
        assert identity is not None
        assert identity.id_type == c.IdType.IPV4_ADDR


def test_a_wrong_key_gives_no_payloads() -> None:
    seen = [message for _, message in messages(*CERTS)]
    suite = negotiated(seen)
    plaintext = decrypt(suite.encr, b"\x01" * 24, bytes(8), seen[4].body)
    with pytest.raises(WireError):
        open_message(seen[4].header, plaintext)


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("isakmp-delete-segfault.pcap", "IKE version 11.14"),
        ("isakmp-pointer-loop.pcap", "a length field of 0 in a message of 30 octets"),
    ],
)
def test_what_crashed_tcpdump(name: str, why: str) -> None:
    (data,) = (d.data for d in udp_datagrams(shared_vectors("malformed", "tcpdump", name)))
    with pytest.raises(WireError, match=why):
        parse_message(data)
    # The same with a version and a length that let it in
    with pytest.raises(WireError, match=r"^(DELETE|HASH): "):
        parse_message(
            data[:17] + b"\x10" + data[18:19] + b"\0" + data[20:24] + len(data).to_bytes(4) + data[28:]
        )


def test_what_crashed_tcpdump_and_is_in_order() -> None:
    (data,) = (
        d.data
        for d in udp_datagrams(shared_vectors("malformed", "tcpdump", "isakmp-identification-segfault.pcap"))
    )
    (identity,) = parse_message(data).payloads
    assert isinstance(identity, p.Identification)
    assert emit_message(parse_message(data).header, [identity]) == data
