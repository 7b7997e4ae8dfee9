"""What vendor ids tell of a peer."""

from espudp.ike.ikev1_config import NatTraversal
from espudp.ike.v1.vendor import Abilities
from espudp.wire.ikev1 import vendor_ids as known
from espudp.wire.ikev1.constants import ExchangeType
from espudp.wire.ikev1.header import Header
from espudp.wire.ikev1.message import Message
from espudp.wire.ikev1.payloads import VendorId

_HEADER = Header(b"initiate", bytes(8), 13, ExchangeType.MAIN, 0)


def _said(*data: bytes) -> Message:
    return Message(_HEADER, tuple(map(VendorId, data)))


def test_all_versions_of_nat_traversal_are_told_by_name_though_not_all_are_spoken() -> None:
    said = [vendor.octets for vendor in known.NAT_TRAVERSAL]
    abilities = Abilities.of(_said(*said), tuple(NatTraversal), fragments=True)
    assert set(abilities.names) == {vendor.name.replace("\n", r"\n") for vendor in known.NAT_TRAVERSAL}
    assert abilities.flavour is not None
    assert abilities.flavour.version is NatTraversal.RFC_3947
    unspoken = (
        known.DRAFT_09,
        known.STENBERG_01,
        known.STENBERG_02,
        known.ESP_THROUGH_NAT,
        known.TESTING_NAT_T,
    )
    abilities = Abilities.of(_said(*(v.octets for v in unspoken)), tuple(NatTraversal), fragments=True)
    assert abilities.names == tuple(vendor.name for vendor in unspoken)
    assert abilities.flavour is None


def test_what_later_messages_say_is_added_once() -> None:
    first = Abilities.of(_said(known.DPD_1_0, b"what nobody knows"), (), fragments=True)
    assert first.names == ("DPD",)
    later = first.also(_said(known.DPD_1_0, known.XAUTH.octets), fragments=True)
    assert later.names == ("DPD", "XAUTH")


def test_a_peer_that_says_much_is_not_kept_in_full() -> None:
    many = [known.DPD_1_0 + bytes([i]) for i in range(250)]
    abilities = Abilities.of(_said(*many), (), fragments=True)
    assert len(abilities.also(_said(*reversed(many)), fragments=True).theirs) == 40
    assert Abilities.of(_said(bytes(65)), (), fragments=True).theirs == ()
