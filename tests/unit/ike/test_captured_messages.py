"""Protected messages that other programs sent, opened with the keys that they had, and sealed again."""

import json
from typing import Any

import pytest

from espudp.crypto.ikekeys import IkeKeys, IkeSuite
from espudp.crypto.suites import DH, PRF, encr_by_keyword, integ_by_keyword
from espudp.ike.protect import Opened, Protection
from espudp.wire.ikev2.header import HEADER_OCTETS
from espudp.wire.ikev2.message import emit_payloads, parse_message
from espudp.wire.ikev2.payloads import (
    Authentication,
    Delete,
    Encrypted,
    EncryptedFragment,
    IdInitiator,
    IdResponder,
    SecurityAssociation,
    TsInitiator,
    TsResponder,
)
from tests.pcap import udp_datagrams
from tests.shared_vectors import shared_vectors


def opener(name: str, encr: tuple[str, str], integ: tuple[str, str], *, initiator: bool) -> Protection:
    """What opens the messages of the other side; keys are hexadecimal, the initiator's first."""
    head, *rest = name.split("-")
    cipher, mac = encr_by_keyword(head), integ_by_keyword(rest[0]) if rest else None
    assert cipher is not None
    ei, er, ai, ar = map(bytes.fromhex, (*encr, *integ))
    keys = IkeKeys(b"", ai, ar, ei, er, b"", b"")
    return Protection(IkeSuite(cipher, mac, PRF[0], DH[0]), keys, bytes, is_initiator=initiator)


def opened(protection: Protection, data: bytes) -> Opened | None:
    *_, last = parse_message(data).payloads
    assert isinstance(last, Encrypted | EncryptedFragment)
    return protection.open(data, last)


# espudp's names of what they use. HMAC-SHA1-160, which the third has, is RFC 4595's, for Fibre Channel alone.
CAPTURES = {
    "ikev2-decrypt-aes256cbc.pcapng": "aes256-sha256",
    "ikev2-decrypt-aes256gcm16.pcap": "aes256gcm16",
}


def session(capture: str) -> tuple[dict[str, Any], list[bytes]]:
    keys = json.loads(shared_vectors("pcap", "wireshark", f"{capture}.keys.json").read_text())
    datagrams = udp_datagrams(shared_vectors("pcap", "wireshark", capture))
    return keys, [d.data for d in datagrams if 500 in (d.sport, d.dport)]


@pytest.mark.parametrize("capture", CAPTURES)
def test_captured_sessions_open_with_their_keys(capture: str) -> None:
    keys, messages = session(capture)
    secrets = (keys["sk_ei"], keys["sk_er"]), (keys["sk_ai"], keys["sk_ar"])
    chains = []
    for data in messages[2:]:
        by_initiator = parse_message(data).header.is_initiator
        found = opened(opener(CAPTURES[capture], *secrets, initiator=not by_initiator), data)
        assert found is not None
        payloads = found.payloads()
        first, chain = emit_payloads(payloads)
        assert (first, chain) == (found.first_payload, found.data[: len(chain)])
        chains.append(payloads)
    request, answer, *deletes = chains
    assert {IdInitiator, Authentication, SecurityAssociation, TsInitiator} <= {type(p) for p in request}
    assert {IdResponder, Authentication, SecurityAssociation, TsResponder} <= {type(p) for p in answer}
    proofs = [p.data.hex() for chain in chains for p in chain if isinstance(p, Authentication)]
    assert keys["expected_auth_data"] in proofs
    assert all(isinstance(p, Delete) for chain in deletes for p in chain)


@pytest.mark.parametrize("capture", CAPTURES)
def test_they_open_with_no_other_keys_and_not_with_a_bit_changed(capture: str) -> None:
    keys, messages = session(capture)
    ours, macs = (keys["sk_ei"], keys["sk_er"]), (keys["sk_ai"], keys["sk_ar"])
    data = messages[2]
    right = opener(CAPTURES[capture], ours, macs, initiator=False)
    assert opened(right, data) is not None
    assert opened(opener(CAPTURES[capture], ours[::-1], macs[::-1], initiator=False), data) is None
    for index in (HEADER_OCTETS - 8, HEADER_OCTETS + 5, len(data) - 1):
        bent = data[:index] + bytes([data[index] ^ 1]) + data[index + 1 :]
        assert opened(right, bent) is None


ANDROID = {"AES-CBC-128": "aes128-sha1", "3DES": "3des-sha1"}


def test_messages_and_a_fragment_of_android() -> None:
    vectors = json.loads(shared_vectors("ike", "aosp_sk_skf.json").read_text())["vectors"]
    for vector in vectors:
        data = bytes.fromhex(vector["message"])
        by_initiator = parse_message(data).header.is_initiator
        same = (vector["sk_e"],) * 2, (vector["sk_a"],) * 2
        found = opened(opener(ANDROID[vector["encr"]], *same, initiator=not by_initiator), data)
        assert found is not None
        assert found.data.startswith(bytes.fromhex(vector["inner"]))
    assert {vector["encr"] for vector in vectors} == set(ANDROID)


def test_the_message_of_rfc_7634() -> None:
    (vector,) = json.loads(shared_vectors("ike", "rfc7634_ikev2.json").read_text())["vectors"]
    key = vector["encr_key"]
    data = bytes.fromhex(vector["message"])
    by_initiator = parse_message(data).header.is_initiator
    opening = opener("chacha20poly1305", (key, key), ("", ""), initiator=not by_initiator)
    found = opened(opening, data)
    assert found is not None
    assert found.data.hex() == vector["plaintext"]
