"""The versions of NAT traversal: vendor ids, payload numbers, hashes."""

from hashlib import md5

import pytest

from espudp.crypto.ikev1keys import digest, hash_by_keyword
from espudp.ike.ikev1_config import NatTraversal
from espudp.ike.natd import NatStatus
from espudp.ike.v1.natt import FLAVOURS, Sight, best
from espudp.ike.v1.vendor import Abilities, agreed, offered
from espudp.wire.address import Path, UdpAddress
from espudp.wire.ikev1.header import Header
from espudp.wire.ikev1.message import Message
from espudp.wire.ikev1.payloads import NatDiscovery, Payload, VendorId, type_of

US, PEER = UdpAddress("192.0.2.1", 500), UdpAddress("198.51.100.1", 500)
NATTED = UdpAddress("203.0.113.9", 31337)
EVERY = tuple(NatTraversal)


def _sight(keyword: str = "sha256") -> Sight:
    row = hash_by_keyword(keyword)
    assert row is not None
    return Sight(row, b"initiate", b"responds")


def _message(*payloads: Payload) -> Message:
    return Message(Header(b"initiate", b"responds", 0, 2, 0), payloads)


def test_the_vendor_ids_are_hashes_of_names() -> None:
    """RFC 3947 section 3.1."""
    names = {
        NatTraversal.RFC_3947: "RFC 3947",
        NatTraversal.DRAFT_02_NEWLINE: "draft-ietf-ipsec-nat-t-ike-02\n",
        NatTraversal.DRAFT_UNNUMBERED: "draft-ietf-ipsec-nat-t-ike",
    }
    for version, flavour in FLAVOURS.items():
        name = names.get(version, f"draft-ietf-ipsec-nat-t-ike-{version.value[-2:]}")
        assert flavour.vendor_id == md5(name.encode(), usedforsecurity=False).digest()
    assert list(FLAVOURS) == list(NatTraversal)


@pytest.mark.parametrize(
    ("numbers", "nat_d", "nat_oa", "modes", "floats"),
    [
        (("RFC 3947",), 20, 21, (3, 4), True),
        (("draft-08", "draft-07", "draft-06", "draft-05", "draft-04"), 15, 16, (3, 4), True),
        (("draft-03", "draft-02", "draft-02 with a newline"), 130, 131, (61443, 61444), True),
        (("draft without a number",), 15, None, (3, 4), True),
        (("draft-01", "draft-00"), 130, 131, (61443, 61444), False),
    ],
)
def test_the_numbers_of_each(
    numbers: tuple[str, ...], nat_d: int, nat_oa: int | None, modes: tuple[int, int], floats: bool
) -> None:
    """RFC 3947 sections 3.2, 5.1 and 5.2; those of the drafts are what was shipped."""
    for name in numbers:
        flavour = FLAVOURS[NatTraversal(name)]
        assert (flavour.nat_d, flavour.nat_oa) == (nat_d, nat_oa)
        assert (flavour.tunnel, flavour.transport, flavour.floats) == (*modes, floats)
        seen = _sight().payloads(flavour, Path(US, PEER))
        assert {type_of(payload) for payload in seen} == {nat_d}
        order = [_sight().of(PEER), _sight().of(US)]
        assert [payload.hash for payload in seen] == (order if nat_oa is not None else order[::-1])


def test_an_initiator_names_all_and_the_best_first() -> None:
    ids = [v.data for v in offered(EVERY, fragments=True)]
    known = [FLAVOURS[version].vendor_id for version in NatTraversal]
    assert [i for i in ids if i in known] == known


@pytest.mark.parametrize("version", NatTraversal)
def test_each_is_recognised_and_answered_alone(version: NatTraversal) -> None:
    theirs = _message(VendorId(FLAVOURS[version].vendor_id), VendorId(b"something else"))
    abilities = Abilities.of(theirs, EVERY, fragments=True)
    assert abilities.flavour == FLAVOURS[version]
    known = {flavour.vendor_id for flavour in FLAVOURS.values()}
    said = [v.data for v in agreed(abilities, fragments=True)]
    assert [data for data in said if data in known] == [FLAVOURS[version].vendor_id]


def test_the_best_common_one_counts() -> None:
    ids = [FLAVOURS[v].vendor_id for v in (NatTraversal.DRAFT_00, NatTraversal.DRAFT_03)]
    assert best(ids, EVERY) == FLAVOURS[NatTraversal.DRAFT_03]
    assert best(ids, (NatTraversal.RFC_3947,)) is None


def test_the_hash_is_the_one_that_was_agreed_on_and_the_peer_comes_first() -> None:
    """RFC 3947 section 3.2."""
    flavour = FLAVOURS[NatTraversal.RFC_3947]
    for keyword in ("md5", "sha1", "sha512"):
        row = hash_by_keyword(keyword)
        assert row is not None
        first, second = _sight(keyword).payloads(flavour, Path(US, PEER))
        seen = b"initiate" + b"responds" + bytes([198, 51, 100, 1]) + (500).to_bytes(2)
        assert first.hash == digest(row, seen)
        assert second.hash == digest(row, seen[:16] + bytes([192, 0, 2, 1]) + (500).to_bytes(2))


@pytest.mark.parametrize("version", NatTraversal)
def test_what_the_peer_sees_shows_where_the_nats_are(version: NatTraversal) -> None:
    flavour, sight = FLAVOURS[version], _sight()
    theirs = Path(PEER, US)

    def seen(path: Path, by: Path, *, claim: bool = False) -> NatStatus | None:
        return sight.detect(flavour, _message(*sight.payloads(flavour, by, claim=claim)), [path])

    assert seen(Path(US, PEER), theirs) == NatStatus()
    assert seen(Path(US, NATTED), theirs) == NatStatus(remote=True)
    assert seen(Path(UdpAddress("10.0.0.1", 500), PEER), theirs) == NatStatus(local=True)
    assert seen(Path(US, PEER), theirs, claim=True) == NatStatus(claimed=True)
    # Who claims one may be behind one.
    assert seen(Path(US, NATTED), theirs, claim=True) == NatStatus(remote=True)


def test_several_addresses_of_the_peer() -> None:
    flavour, sight = FLAVOURS[NatTraversal.RFC_3947], _sight()
    hashes = [sight.of(US), sight.of(UdpAddress("10.1.1.1", 500)), sight.of(PEER)]
    message = _message(*(NatDiscovery(hash_, flavour.nat_d) for hash_ in hashes))
    assert sight.detect(flavour, message, [Path(US, PEER)]) == NatStatus()


def test_the_number_of_another_version_means_nothing() -> None:
    sight, rfc = _sight(), FLAVOURS[NatTraversal.RFC_3947]
    payloads = sight.payloads(rfc, Path(PEER, US))
    for version in (NatTraversal.DRAFT_03, NatTraversal.DRAFT_08):
        assert sight.detect(FLAVOURS[version], _message(*payloads), [Path(US, PEER)]) is None
    assert sight.detect(rfc, _message(payloads[0]), [Path(US, PEER)]) is None
    assert sight.detect(rfc, _message(), [Path(US, PEER)]) is None


def test_no_version_in_common() -> None:
    theirs = _message(VendorId(FLAVOURS[NatTraversal.DRAFT_02].vendor_id))
    abilities = Abilities.of(theirs, (NatTraversal.RFC_3947,), fragments=False)
    assert abilities.flavour is None
    assert abilities == Abilities(theirs=(FLAVOURS[NatTraversal.DRAFT_02].vendor_id,))
