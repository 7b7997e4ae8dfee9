"""Client identifiers of quick mode, and the traffic that they stand for."""

from ipaddress import ip_address

import pytest

from espudp.errors import ConfigError, PeerError
from espudp.ike.v1.client_ids import at, identification_of, is_name, selector_of
from espudp.wire.ikev1.constants import IdType, NotifyType
from espudp.wire.ikev1.payloads import Identification
from espudp.wire.selectors import TrafficSelector


def network(text: str, protocol: int = 0, port: int | None = None) -> TrafficSelector:
    whole = TrafficSelector.from_network(text)
    ports = (0, 65535) if port is None else (port, port)
    return TrafficSelector(whole.first, whole.last, protocol, *ports)


@pytest.mark.parametrize(
    ("selector", "kind", "data"),
    [
        (network("10.1.0.7/32"), IdType.IPV4_ADDR, "0a010007"),
        (network("10.1.0.0/16"), IdType.IPV4_ADDR_SUBNET, "0a010000ffff0000"),
        (network("0.0.0.0/0"), IdType.IPV4_ADDR_SUBNET, "0000000000000000"),
        (
            TrafficSelector(ip_address("10.0.0.1"), ip_address("10.0.0.9")),
            IdType.IPV4_ADDR_RANGE,
            "0a0000010a000009",
        ),
        (network("fd00::1/128"), IdType.IPV6_ADDR, "fd000000000000000000000000000001"),
        (network("fd00::/16"), IdType.IPV6_ADDR_SUBNET, "fd00" + "00" * 14 + "ffff" + "00" * 14),
        (network("::/0"), IdType.IPV6_ADDR_SUBNET, "00" * 32),
    ],
)
def test_there_and_back(selector: TrafficSelector, kind: int, data: str) -> None:
    found = identification_of(selector)
    assert (found.id_type, found.data.hex(), found.protocol, found.port) == (kind, data, 0, 0)
    assert selector_of(found) == selector


def test_a_protocol_and_a_port() -> None:
    l2tp = network("192.0.2.1/32", 17, 1701)
    found = identification_of(l2tp)
    assert (found.protocol, found.port) == (17, 1701)
    assert selector_of(found) == l2tp


def test_some_of_the_ports_cannot_be_said() -> None:
    some = TrafficSelector(ip_address("10.0.0.1"), ip_address("10.0.0.1"), 6, 80, 90)
    with pytest.raises(ConfigError) as caught:
        identification_of(some)
    assert caught.value.remedy


def test_bits_of_the_host_are_no_part_of_a_subnet() -> None:
    sloppy = Identification(IdType.IPV4_ADDR_SUBNET, bytes.fromhex("0a010203ffff0000"))
    assert selector_of(sloppy) == network("10.1.0.0/16")


@pytest.mark.parametrize(
    ("kind", "data"),
    [
        (IdType.IPV4_ADDR, ""),
        (IdType.IPV4_ADDR, "0a0100"),
        (IdType.IPV4_ADDR_SUBNET, "0a010000"),
        (IdType.IPV4_ADDR_SUBNET, "0a010000ff00ff00"),
        (IdType.IPV4_ADDR_RANGE, "0a0000090a000001"),
        (IdType.IPV6_ADDR_SUBNET, "fd00"),
        (IdType.FQDN, "66"),
        (IdType.DER_ASN1_DN, ""),
        (IdType.KEY_ID, ""),
        (0, ""),
        (200, "0a010007"),
    ],
)
def test_what_tells_no_traffic_is_refused(kind: int, data: str) -> None:
    with pytest.raises(PeerError) as caught:
        selector_of(Identification(kind, bytes.fromhex(data)))
    assert caught.value.notify == NotifyType.INVALID_ID_INFORMATION


def test_names_in_transport_mode_stand_for_where_the_peer_is() -> None:
    name = Identification(IdType.FQDN, b"laptop", 17, 1701)
    assert is_name(name)
    assert at(name, "203.0.113.9") == network("203.0.113.9/32", 17, 1701)
    assert not is_name(Identification(IdType.IPV4_ADDR, bytes(4)))
