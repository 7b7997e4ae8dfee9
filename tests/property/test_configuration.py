"""The configuration payload with whatever attributes a peer with the keys may send."""

from ipaddress import ip_address, ip_network

from hypothesis import given, settings
from hypothesis import strategies as st

from espudp.errors import PeerError, WireError
from espudp.ike.handout import Handout, domain_name
from espudp.ike.identity import Identity
from espudp.ike.pool import MAX_ADDRESSES, AddressPool
from espudp.ike.v2 import configuration
from espudp.wire.buffer import Reader, Writer
from espudp.wire.ikev2.constants import CfgAttribute, CfgType
from espudp.wire.ikev2.payloads import Configuration

PEER = Identity.parse("peer.example.org")
HANDOUT = Handout(
    dns=("10.1.0.53", "fd00:1::35"),
    domains=("corp.example",),
    subnets=(ip_network("10.1.0.0/16"), ip_network("fd00:1::/48")),
    pools=(ip_network("10.99.0.0/28"),),
)

_SIZES = st.sampled_from([0, 0, 4, 4, 5, 8, 16, 17, 17, 255])
_VALUES = _SIZES.flatmap(lambda octets: st.binary(min_size=octets, max_size=octets))
_KINDS = st.one_of(st.sampled_from([int(kind) for kind in CfgAttribute]), st.integers(0, 0x7FFF))
PAYLOADS = st.builds(
    Configuration,
    st.one_of(st.sampled_from([int(kind) for kind in CfgType]), st.integers(0, 255)),
    st.lists(st.tuples(_KINDS, _VALUES), max_size=24).map(tuple),
)


def received(sent: Configuration) -> Configuration | None:
    """As it comes out of the parser; None where that refuses it."""
    writer = Writer()
    sent.emit(writer)
    try:
        return Configuration.parse(Reader(writer.getvalue()))
    except WireError:
        return None


@settings(max_examples=400)
@given(PAYLOADS)
def test_what_a_gateway_says_is_usable_or_left_out(sent: Configuration) -> None:
    payload = received(sent)
    if payload is None:
        return
    told = configuration.read_reply(payload, ("any4", "any4", "any6"))
    assert sum(ip_address(address).version == 4 for address in told.addresses) <= 2
    assert sum(ip_address(address).version == 6 for address in told.addresses) <= 1
    assert not any(ip_address(address).is_loopback for address in (*told.addresses, *told.dns))
    assert all(domain_name(domain.encode()) == domain for domain in told.domains)
    assert {anchor.domain for anchor in told.trust_anchors} <= set(told.domains)
    assert all(ip_network(subnet).num_addresses > 1 for subnet in told.subnets)
    assert told.application.isprintable()


@settings(max_examples=400)
@given(PAYLOADS)
def test_what_a_client_asks_for_is_answered_within_bounds(sent: Configuration) -> None:
    payload = received(sent)
    if payload is None:
        return
    pool = AddressPool([ip_network("10.99.0.0/28"), ip_network("fd00:99::/64")])
    addresses: tuple[str, ...] = ()
    if configuration.wants_address(payload):
        try:
            addresses = configuration.assign(payload, pool, (PEER, b""), 1, pool.networks)
        except PeerError:
            return
    assert pool.leased == len(addresses) <= 2 * MAX_ADDRESSES
    for answer in configuration.answer(payload, addresses, HANDOUT):
        assert answer.cfg_type in (CfgType.REPLY, CfgType.ACK)
        asked = {type_ for type_, _ in payload.attributes}
        assert {type_ for type_, _ in answer.attributes} <= asked
        assert received(answer) == answer
