"""Vendor ids against the names that they are hashes of, and against other people's list."""

import json
import re
from hashlib import md5

import pytest

from espudp.wire.ikev1 import vendor_ids as v
from tests.shared_vectors import shared_vectors

NOT_MD5 = {
    *("DPD", "XAUTH", "Cisco Unity", "Openswan or libreswan", "OpenPGP", "Cisco concentrator"),
    *("Check Point", "FortiGate", "SonicWall", "Juniper", "SSH heartbeats"),
}


@pytest.mark.parametrize("known", v.ALL, ids=lambda known: known.name.strip())
def test_most_are_the_hash_of_their_name(known: v.Known) -> None:
    assert (md5(known.name.encode()).digest() == known.octets) != (known.name in NOT_MD5)
    assert v.name_of_vendor_id(known.octets) == known.name.replace("\n", "\\n")


def test_xauth_is_the_front_of_a_hash() -> None:
    assert md5(b"draft-ietf-ipsra-isakmp-xauth-06.txt").digest().startswith(v.XAUTH.octets)
    assert md5(b"CISCO-UNITY").digest().startswith(v.UNITY.octets)


def test_all_of_nat_traversal() -> None:
    listed = json.loads(shared_vectors("vendor-ids", "natt_vendor_ids.json").read_text())["vectors"]
    ours = {known.octets.hex(): known.name for known in v.NAT_TRAVERSAL}
    assert ours == {entry["vid"]: entry["md5_input"] for entry in listed}


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("Dead Peer Detection", v.DPD),
        ("XAUTH", v.XAUTH),
        ("Cisco Unity", v.UNITY),
        ("IKE Fragmentation", v.FRAGMENTATION),
        ("MS NT5 ISAKMPOAKLEY", v.WINDOWS),
    ],
)
def test_what_ike_scan_calls_them(theirs: str, ours: v.Known) -> None:
    lines = shared_vectors("vendor-ids", "ike-vendor-ids").read_text().splitlines()
    patterns = [line.split("\t")[-1] for line in lines if line.split("\t")[0] == theirs]
    assert patterns
    sent = {v.DPD: v.DPD_1_0, v.UNITY: v.UNITY_1_0}.get(ours, ours.octets)
    assert any(re.search(pattern, sent.hex()) for pattern in patterns)


def test_versions_behind_an_id() -> None:
    assert v.name_of_vendor_id(v.WINDOWS.octets + b"\0\0\0\x08") == "MS NT5 ISAKMPOAKLEY"
    assert v.name_of_vendor_id(v.DPD_1_0) == "DPD"
    assert v.name_of_vendor_id(v.UNITY_1_0) == "Cisco Unity"
    assert v.name_of_vendor_id(v.RFC_3947.octets + b"\0") is None
    assert v.name_of_vendor_id(v.RFC_3947.octets[:-1]) is None
    assert v.name_of_vendor_id(b"") is None
    assert v.name_of_vendor_id(bytes(60000)) is None


def test_names_come_once_and_in_order() -> None:
    data = [v.DPD_1_0, b"?", v.RFC_3947.octets, v.DPD_1_0]
    assert v.named(data) == ["DPD", "RFC 3947"]


@pytest.mark.parametrize(
    ("capabilities", "said"),
    [
        (b"", True),  # Microsoft
        (b"\x80\0\0\0", True),
        (b"\xc0\0\0\0", True),
        (b"\x40\0\0\0", False),  # base mode, which nobody speaks
        (b"\0\0\0\0", False),
        (b"\x80\0\0\0\0", False),
    ],
)
def test_fragmentation(capabilities: bytes, said: bool) -> None:
    assert v.says_fragmentation(v.FRAGMENTATION.octets + capabilities) is said
    assert not v.says_fragmentation(v.DPD_1_0)
