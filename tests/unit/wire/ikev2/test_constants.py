"""The numbers, against another program's copy of the registry; and names that never fail."""

from collections.abc import Callable
from enum import IntEnum

import pytest
from scapy.contrib import ikev2 as theirs

from espudp.wire.ikev2 import constants as c

NAMES: list[Callable[[int], str]] = [
    c.name_of_exchange,
    c.name_of_payload,
    c.name_of_protocol,
    c.name_of_transform_type,
    c.name_of_id_type,
    c.name_of_auth_method,
    c.name_of_notify,
    c.name_of_cfg_type,
    c.name_of_cfg_attribute,
    c.name_of_ts_type,
]


def plain(name: str) -> str:
    """A name without the prefixes that scapy puts in front of some of them."""
    name = name.upper().replace("-", "_").replace(" ", "_")
    for prefix in ("IV2_NOTIFY_", "NOTIFY_", "CFG_", "TS_"):
        name = name.removeprefix(prefix)
    return name


@pytest.mark.parametrize(
    ("ours", "registry"),
    [
        (c.ExchangeType, theirs.IKEv2ExchangeTypes),
        (c.NotifyType, theirs.IKEv2NotifyMessageTypes),
        (c.CfgType, theirs.IKEv2ConfigurationPayloadCFGTypes),
        (c.CfgAttribute, theirs.IKEv2ConfigurationAttributeTypes),
    ],
)
def test_our_names_are_those_of_scapy(ours: type[IntEnum], registry: dict[int, str]) -> None:
    assert {plain(ours(number).name) for number in registry} == {plain(name) for name in registry.values()}
    for number, name in registry.items():
        assert plain(ours(number).name) == plain(name), number


@pytest.mark.parametrize(
    ("ours", "registry", "elsewhere"),
    [
        # substructures, which scapy treats as payloads
        (c.PayloadType, theirs.IKEv2PayloadTypes, {2, 3}),
        (c.AuthMethod, theirs.IKEv2AuthenticationTypes, {0}),
    ],
)
def test_our_numbers_are_those_of_scapy(
    ours: type[IntEnum], registry: dict[int, str], elsewhere: set[int]
) -> None:
    assert {int(member) for member in ours} == set(registry) - elsewhere


def test_errors_end_where_status_types_begin() -> None:
    # RFC 7296 section 3.10.1: 0 - 16383 and 16384 - 65535
    assert c.is_error(c.NotifyType.TEMPORARY_FAILURE)
    assert c.is_error(16383)
    assert not c.is_error(c.NotifyType.INITIAL_CONTACT)
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
    assert c.name_of_payload(15) == "payload 15"
    assert c.name_of_exchange(34) == "IKE_SA_INIT"
