"""Messages that other programs sent, and what crashed other programs."""

import json
from pathlib import Path
from typing import Any

import pytest

from espudp.errors import WireError
from espudp.wire.ikev2.header import Header
from espudp.wire.ikev2.message import (
    emit_message,
    emit_payloads,
    parse_message,
    parse_payloads,
    protected_aad,
)
from espudp.wire.ikev2.payloads import (
    Authentication,
    Delete,
    Eap,
    Encrypted,
    EncryptedFragment,
    IdInitiator,
    KeyExchange,
    Nonce,
    Notify,
    SecurityAssociation,
    TsInitiator,
    Unknown,
)
from tests.pcap import udp_datagrams
from tests.shared_vectors import shared_vectors

# The exchange types of each capture, as tshark lists them
IKEV2_CAPTURES = {
    "wireshark/ikev2-decrypt-3des-sha1_160.pcap": [34, 34, 35, 35, 37, 37],
    "wireshark/ikev2-decrypt-aes256cbc.pcapng": [34, 34, 35, 35],
    "wireshark/ikev2-decrypt-aes256gcm16.pcap": [34, 34, 35, 35, 37, 37],
    "scapy/ikev2_notify_redirect.pcap": [34, 34, 34, 34],
}


def vector(folder: str, name: str) -> Any:
    return json.loads(shared_vectors(folder, name).read_text())


def ike_messages(*parts: str) -> list[bytes]:
    return [d.data for d in udp_datagrams(shared_vectors(*parts)) if 500 in (d.sport, d.dport)]


@pytest.mark.parametrize("capture", IKEV2_CAPTURES)
def test_captured_messages_parse_and_are_written_octet_by_octet(capture: str) -> None:
    messages = ike_messages("pcap", *capture.split("/"))
    assert [Header.parse(data).exchange for data in messages] == IKEV2_CAPTURES[capture]
    for data in messages:
        message = parse_message(data)
        assert emit_message(message.header, message.payloads) == data
        if message.header.exchange != 34:
            (sk,) = message.payloads
            assert isinstance(sk, Encrypted)
            aad = protected_aad(message.header, sk.first_payload, len(sk.body))
            assert aad + sk.body == data


def test_what_is_in_a_captured_handshake() -> None:
    messages = ike_messages("pcap", "wireshark", "ikev2-decrypt-aes256gcm16.pcap")
    offer, answer = map(parse_message, messages[:2])
    assert (offer.header.is_initiator, offer.header.is_response) == (True, False)
    assert (answer.header.is_initiator, answer.header.is_response) == (False, True)
    assert offer.header.spi_r == bytes(8)
    assert offer.header.spi_i == answer.header.spi_i
    offered, accepted = offer.get(SecurityAssociation), answer.get(SecurityAssociation)
    assert offered == accepted
    assert accepted is not None
    (proposal,) = accepted.proposals
    assert [(t.type, t.id, t.key_bits) for t in proposal.transforms] == [
        (1, 20, 256),
        (2, 5, None),
        (4, 19, None),
    ]
    public = offer.get(KeyExchange)
    assert public is not None
    assert (public.group, len(public.data)) == (19, 64)
    nonce = answer.get(Nonce)
    assert nonce is not None
    assert len(nonce.data) == 32
    assert [n.type for n in offer.notifies()] == [16388, 16389, 16431]


def test_captured_nat_detection_hashes() -> None:
    """The hashes that were taken from the captures by other means."""
    wanted = {16388: "SOURCE", 16389: "DEST"}
    for entry in vector("natd", "natd_from_captures.json")["vectors"]:
        if entry["version"] != 2:
            continue
        found = {
            (wanted[notify.type], notify.data.hex())
            for data in ike_messages(*entry["file"].split("/"))
            for notify in parse_message(data).notifies()
            if notify.type in wanted
        }
        assert (entry["type"], entry["data"]) in found


def test_captured_redirects() -> None:
    # RFC 5685: REDIRECT_SUPPORTED in the request, REDIRECT in the answer
    messages = ike_messages("pcap", "scapy", "ikev2_notify_redirect.pcap")
    assert parse_message(messages[0]).notify(16406) is not None
    redirects = [n for n in parse_message(messages[1]).notifies() if n.type == 16407]
    assert len(redirects) == 1
    assert redirects[0].data[:2] == b"\x03\x1c"  # an FQDN of 28 octets, and then the nonce


def test_decrypted_chains_of_android() -> None:
    by_id = {v["id"]: v for v in vector("ike", "aosp_sk_skf.json")["vectors"]}
    for entry in by_id.values():
        data = bytes.fromhex(entry["message"])
        message = parse_message(data)
        assert emit_message(message.header, message.payloads) == data
        if entry.get("skf"):
            (fragment,) = message.payloads
            assert isinstance(fragment, EncryptedFragment)
            assert [fragment.number, fragment.total] == entry["fragment"]
            assert fragment.first_payload == 0
            continue
        (sk,) = message.payloads
        assert isinstance(sk, Encrypted)
        inner = bytes.fromhex(entry["inner"])
        payloads = parse_payloads(sk.first_payload, inner, outer=1)
        assert emit_payloads(payloads) == (sk.first_payload, inner)

    auth = by_id["aosp-sk-aescbc128-sha1"]
    chain = parse_payloads(35, bytes.fromhex(auth["inner"]))
    assert [type(p).__name__ for p in chain] == [
        "IdInitiator", "IdResponder", "Authentication", "SecurityAssociation",
        "TsInitiator", "TsResponder", "Notify", "Notify",
    ]  # fmt: skip
    assert chain[0] == IdInitiator(1, bytes([10, 80, 80, 13]))
    assert isinstance(chain[2], Authentication)
    assert chain[2].method == 2
    assert isinstance(chain[4], TsInitiator)
    assert [str(s) for s in chain[4].selectors] == ["0.0.0.0/0"]
    assert chain[6:] == (Notify.of(16384), Notify.of(16385, b"\x00\x00\x00\x01"))
    (eap,) = parse_payloads(48, bytes.fromhex(by_id["aosp-sk-3des-sha1"]["inner"]))
    assert isinstance(eap, Eap)


def test_rfc7634_inner_chain() -> None:
    (entry,) = vector("ike", "rfc7634_ikev2.json")["vectors"]
    data = bytes.fromhex(entry["message"])
    (sk,) = parse_message(data).payloads
    assert isinstance(sk, Encrypted)
    assert protected_aad(Header.parse(data), sk.first_payload, len(sk.body)).hex() == entry["aad"]
    plaintext = bytes.fromhex(entry["plaintext"])
    assert plaintext[-1] == 0  # the pad length
    assert parse_payloads(sk.first_payload, plaintext[:-1]) == (Notify.of(16385, b"\x00\x00\x00\x0a"),)


IKED_TYPES = {
    "sa_pld": 33, "saxform_pld": 33, "ke_pld": 34, "nonce_pld": 40, "id_pld": 35, "certreq_pld": 38,
    "auth_pld": 39, "delete_pld": 42, "vendor_pld": 43, "ts_pld": 44, "cp_pld": 47,
}  # fmt: skip


def test_seeds_of_iked() -> None:
    """What OpenIKED's own parser test starts from before it mutates it."""
    texts = vector("malformed/iked", "iked_parser_seeds.json")["payloads"]
    seeds = {name: bytes.fromhex(text) for name, text in texts.items()}
    for name, first in IKED_TYPES.items():
        payloads = parse_payloads(first, seeds[name])
        assert payloads
        assert not any(isinstance(p, Unknown) for p in payloads)
        assert emit_payloads(payloads) == (first, seeds[name])
    deletes = parse_payloads(42, seeds["delete_pld"])
    assert [type(p) for p in deletes] == [Delete, Delete]
    whole = parse_message(seeds["valid_packet"])
    assert emit_message(whole.header, whole.payloads) == seeds["valid_packet"]
    # Concatenated, their headers do not add up to a chain: two in one, a size that is 8 short, an EAP
    # message shorter than its payload
    for name, first in {"notify_pld": 41, "cert_pld": 37, "eap_pld": 48}.items():
        with pytest.raises(WireError):
            parse_payloads(first, seeds[name])


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("ikev2pI2-segfault.pcapng", "SA: marker 46 where 3 is due"),
        ("isakmp-delete-segfault.pcap", "IKE version 11.14"),
        ("isakmp-identification-segfault.pcap", "IKE version 1.0"),
        ("isakmp-pointer-loop.pcap", "IKE version 1.0"),
    ],
)
def test_what_crashed_tcpdump(name: str, why: str) -> None:
    (data,) = (d.data for d in udp_datagrams(shared_vectors("malformed", "tcpdump", name)))
    with pytest.raises(WireError, match=why):
        parse_message(data)


def with_our_version(name: str) -> bytes:
    (data,) = (d.data for d in udp_datagrams(shared_vectors("malformed", "tcpdump", name)))
    return data[:17] + b"\x20" + data[18:24] + len(data).to_bytes(4, "big") + data[28:]


def test_what_crashed_tcpdump_with_our_version_in_it() -> None:
    for name, why in {
        "isakmp-delete-segfault.pcap": "payload 12: needs 540 octets",
        "isakmp-pointer-loop.pcap": "payload 8: needs 2 octets",
    }.items():
        with pytest.raises(WireError, match=why):
            parse_message(with_our_version(name))
    # Types of IKEv1 in a message of IKEv2 mean nothing (CVE-2015-3991)
    (identification,) = parse_message(with_our_version("isakmp-identification-segfault.pcap")).payloads
    assert isinstance(identification, Unknown)
    assert identification.type == 5


@pytest.mark.parametrize("capture", ["libreswan", "tcpdump", "wireshark"])
def test_messages_of_ikev1_are_told_by_their_header_and_left_alone(capture: str) -> None:
    folder: Path = shared_vectors("pcap", capture)
    seen = 0
    for path in sorted(folder.glob("*.pcap")):
        for datagram in udp_datagrams(path):
            if 500 not in (datagram.sport, datagram.dport) or Header.parse(datagram.data).major != 1:
                continue
            seen += 1
            with pytest.raises(WireError, match="IKE version 1"):
                parse_message(datagram.data)
    assert seen >= 4
