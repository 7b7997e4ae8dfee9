"""The numbers, against another program's copies of the registries; and names that never fail."""

from collections.abc import Callable
from enum import IntEnum

import pytest
from scapy.layers import isakmp as theirs

from espudp.wire.ikev1 import constants as c
from espudp.wire.ikev1.vendor_ids import named

NAMES: list[Callable[[int], str]] = [
    *(c.name_of_exchange, c.name_of_payload, c.name_of_protocol, c.name_of_id_type, c.name_of_auth_method),
    *(c.name_of_encapsulation, c.name_of_notify, c.name_of_cfg_type, c.name_of_cfg_attribute),
]

PHASE_1, PHASE_2 = theirs.ISAKMPTransformNum, theirs.IPSECTransformNum


@pytest.mark.parametrize(
    ("ours", "registry", "only_theirs", "only_ours"),
    [
        (c.IkeEncryption, PHASE_1[1][1], set(), set()),
        (c.IkeHash, PHASE_1[2][1], set(), set()),
        (c.LifeType, PHASE_2[1][1], {0}, set()),
        # of the drafts
        (c.Encapsulation, PHASE_2[4][1], {0}, {61443, 61444}),
        # signatures for ESP, and ElGamal: nobody has spoken them; RFC 4754
        (c.IpsecAuthentication, PHASE_2[5][1], {10}, set()),
        (c.AuthMethod, PHASE_1[3][1], {6, 7, 8}, {9, 10, 11}),
    ],
)
def test_values_of_attributes_are_those_of_scapy(
    ours: type[IntEnum], registry: dict[int, str], only_theirs: set[int], only_ours: set[int]
) -> None:
    assert {int(member) for member in ours} - only_ours == set(registry) - only_theirs


def test_attributes_are_those_of_scapy() -> None:
    assert {int(member) for member in c.IkeAttribute} == set(PHASE_1)
    assert {int(member) for member in c.IpsecAttribute} >= set(PHASE_2)


def test_payloads_exchanges_and_protocols_are_those_of_scapy() -> None:
    assert set(theirs.ISAKMP_payload_type) <= {int(member) for member in c.PayloadType}
    assert set(theirs.ISAKMP_exchange_type) - {0} <= {int(member) for member in c.ExchangeType}
    assert set(theirs.ISAKMP_protos) - {5} == {int(member) for member in c.ProtocolId} - {0}


def test_vendor_ids_are_those_of_scapy() -> None:
    names = named(theirs.ISAKMP_VENDOR_IDS)
    assert names == ["XAUTH", "DPD", "FRAGMENTATION", "RFC 3947", r"draft-ietf-ipsec-nat-t-ike-02\n"]


def test_errors_end_where_status_types_begin() -> None:
    # RFC 2408 section 3.14.1: 1 - 16383 and 16384 - 65535
    assert c.is_error(c.NotifyType.UNEQUAL_PAYLOAD_LENGTHS)
    assert c.is_error(16383)
    assert not c.is_error(c.NotifyType.CONNECTED)
    assert not c.is_error(65535)


@pytest.mark.parametrize("name_of", NAMES)
def test_every_number_has_a_name(name_of: Callable[[int], str]) -> None:
    names = {name_of(number) for number in (-1, *range(65536), 1 << 40)}
    assert len(names) == 65538
    assert all(names)


def test_names() -> None:
    assert c.name_of_notify(14) == "NO_PROPOSAL_CHOSEN"
    assert c.name_of_notify(8190) == "error 8190"
    assert c.name_of_notify(40960) == "status 40960"
    assert c.name_of_exchange(2) == "MAIN"
    assert c.name_of_encapsulation(61443) == "UDP_TUNNEL_DRAFT"
