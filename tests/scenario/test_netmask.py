"""INTERNAL_IP4_NETMASK (RFC 7296 section 3.15.1): the size of the network that a virtual address is in."""

from collections.abc import Sequence
from dataclasses import replace
from ipaddress import ip_address

import pytest

from espudp.ike.config import ConnectionConfig
from espudp.ike.events import AddressAssigned, ConnectionDown
from espudp.wire.ikev2.constants import CfgAttribute, CfgType, ExchangeType
from espudp.wire.ikev2.message import Message
from espudp.wire.ikev2.payloads import Configuration, Payload
from tests.scenario.lab import POOL, Terms
from tests.scenario.test_products import USES, Gateway, Place, caller, dialling

ADDRESS, MASK = int(CfgAttribute.INTERNAL_IP4_ADDRESS), int(CfgAttribute.INTERNAL_IP4_NETMASK)


class MaskingGateway(Gateway):
    """Gives an address, and this netmask with it."""

    mask = b""

    def answer(self, message: Message) -> Sequence[Payload]:
        said = super().answer(message)
        if message.header.exchange != ExchangeType.IKE_AUTH:
            return said
        address = ip_address("10.99.0.2").packed
        return [*said, Configuration(CfgType.REPLY, ((ADDRESS, address), (MASK, self.mask)))]


@pytest.fixture
def place() -> Place:
    return Place()


def dialling_for_an_address() -> ConnectionConfig:
    return replace(dialling("azure", ("10.99.0.2/32",)), request_addresses=("any4",))


@pytest.mark.parametrize(
    ("pools", "mask"),
    [
        ((POOL,), "255.255.255.0"),
        (("10.98.0.0/20",), "255.255.240.0"),
        ((POOL, "fd00:99::/64"), "255.255.255.0"),
    ],
)
def test_who_asks_gets_that_of_the_pool(place: Place, pools: tuple[str, ...], mask: str) -> None:
    place.listen(Terms(pool=pools).listener())
    peer = caller(place)
    asked = Configuration(CfgType.REQUEST, ((ADDRESS, b""), (MASK, b"")))
    peer.ask_for("0.0.0.0/0", "0.0.0.0/0", before=[asked])
    place.world.run(1.0)
    given = peer.heard[-1].get(Configuration)
    assert given is not None
    assert given.values(MASK) == (ip_address(mask).packed,)
    assert len(given.values(ADDRESS)) == 1


def test_who_does_not_ask_gets_none(place: Place) -> None:
    place.listen(Terms().listener())
    peer = caller(place)
    peer.ask_for("0.0.0.0/0", "0.0.0.0/0", before=[Configuration(CfgType.REQUEST, ((ADDRESS, b""),))])
    place.world.run(1.0)
    given = peer.heard[-1].get(Configuration)
    assert given is not None
    assert len(given.values(ADDRESS)) == 1
    assert not given.values(MASK)


@pytest.mark.parametrize(
    ("mask", "subnets"),
    [
        ("255.255.255.0", (POOL,)),
        ("255.255.255.255", ()),
        ("255.0.255.0", ()),  # which is none
    ],
)
def test_what_a_gateway_gives(place: Place, mask: str, subnets: tuple[str, ...]) -> None:
    """Section 3.15.2: with its address it says what is behind the gateway; nothing follows from it."""
    gateway = MaskingGateway(place, uses=USES["azure"], esp_bits=256)
    gateway.mask = ip_address(mask).packed
    client = place.dial(dialling_for_an_address())
    (assigned,) = client.told(AddressAssigned)
    assert assigned.addresses == ("10.99.0.2",)
    assert assigned.subnets == subnets
    assert len(client.children()) == 1
    assert not client.told(ConnectionDown)
