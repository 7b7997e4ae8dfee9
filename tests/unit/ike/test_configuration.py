"""The configuration payload: what is asked for, handed out, believed (RFC 7296 section 3.15, RFC 8598)."""

from collections.abc import Iterable
from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address, ip_network

import pytest

from espudp.ike.events import AddressAssigned, ConnectionDown
from espudp.ike.given import NOTHING, Given
from espudp.ike.handout import Handout, TrustAnchor, domain_name
from espudp.ike.identity import Identity
from espudp.ike.pool import AddressPool
from espudp.ike.v2 import configuration
from espudp.wire.ikev2.constants import CfgAttribute, CfgType, ExchangeType
from espudp.wire.ikev2.payloads import Configuration, Nonce, Payload, SecurityAssociation
from espudp.wire.selectors import TrafficSelector
from tests.unit.ike.pair import CLIENT_ID, Pair, client_child, client_config, server_config

BOTH = ("any4", "any6")
FOUR, SIX = IPv4Address("10.99.0.2").packed, IPv6Address("fd00::1").packed
DNS = (CfgAttribute.INTERNAL_IP4_DNS, b"\x0a\x01\x00\x35")
CORP = (CfgAttribute.INTERNAL_DNS_DOMAIN, b"corp.example")
HANDOUT = Handout(
    dns=("10.1.0.53", "fd00:1::35"),
    domains=("corp.example", "lab.test"),
    subnets=(ip_network("10.1.0.0/16"), ip_network("fd00:1::/48")),
    pools=(ip_network("10.99.0.0/24"), ip_network("fd00:99::/64")),
)


def reply(*attributes: tuple[int, bytes]) -> Configuration:
    return Configuration(CfgType.REPLY, tuple((int(kind), value) for kind, value in attributes))


def ask(*attributes: int) -> Configuration:
    return Configuration(CfgType.REQUEST, tuple((int(kind), b"") for kind in attributes))


# Who dials


def test_addresses_that_nobody_can_have_are_not_taken() -> None:
    given = reply(
        *((CfgAttribute.INTERNAL_IP4_ADDRESS, a) for a in (bytes(4), b"\x7f\0\0\x01", b"\xe0\0\0\x01")),
        (CfgAttribute.INTERNAL_IP4_ADDRESS, FOUR),
        (CfgAttribute.INTERNAL_IP4_ADDRESS, b""),
        DNS,
        (CfgAttribute.INTERNAL_IP4_DNS, b"\x7f\0\0\x01"),
        (CfgAttribute.INTERNAL_IP6_ADDRESS, SIX + b"\x80"),
        (CfgAttribute.INTERNAL_IP6_DNS, SIX),
        (CfgAttribute.INTERNAL_IP4_NBNS, FOUR),
        (99, b"what?"),
    )
    both = ("any6", "10.99.0.7")
    assert configuration.read_reply(given, both) == Given(("10.99.0.2", "fd00::1"), ("10.1.0.53", "fd00::1"))
    assert configuration.read_reply(given, ("any4",)).addresses == ("10.99.0.2",)
    assert configuration.read_reply(given, ()).addresses == ()
    assert configuration.read_reply(replace(given, cfg_type=CfgType.SET), both) == NOTHING
    assert configuration.read_reply(None, both) == NOTHING


def test_as_many_addresses_as_were_asked_for() -> None:
    given = reply(*((CfgAttribute.INTERNAL_IP4_ADDRESS, bytes([10, 99, 0, n])) for n in (2, 3, 3, 4)))
    assert configuration.read_reply(given, ("any4", "any4")).addresses == ("10.99.0.2", "10.99.0.3")


def test_what_is_asked_for() -> None:
    asked = configuration.request(("any4", "fd00::7"))
    assert asked.values(CfgAttribute.INTERNAL_IP4_ADDRESS) == (b"",)
    assert asked.values(CfgAttribute.INTERNAL_IP6_ADDRESS) == (b"\xfd" + bytes(14) + b"\x07\x80",)
    for attribute in (DNS[0], CfgAttribute.INTERNAL_IP6_SUBNET, CORP[0], CfgAttribute.APPLICATION_VERSION):
        assert asked.values(attribute) == (b"",)
    # RFC 8598 section 6: who has agreed to no domain takes no trust anchor.
    assert not asked.values(CfgAttribute.INTERNAL_DNSSEC_TA)
    assert configuration.wants_address(asked)
    assert not configuration.wants_address(replace(asked, cfg_type=CfgType.SET))
    assert not configuration.wants_address(ask(CfgAttribute.INTERNAL_IP4_DNS))
    assert not configuration.wants_address(None)


def test_what_the_peer_protects_and_is() -> None:
    given = configuration.read_reply(
        reply(
            (CfgAttribute.INTERNAL_IP4_ADDRESS, FOUR),
            (CfgAttribute.INTERNAL_IP4_NETMASK, b"\xff\xff\xff\x00"),
            (CfgAttribute.INTERNAL_IP4_SUBNET, b"\x0a\x01\x02\x03\xff\xff\x00\x00"),
            (CfgAttribute.INTERNAL_IP6_SUBNET, SIX + b"\x30"),
            (CfgAttribute.APPLICATION_VERSION, b"Gate\x1b[31mway 3"),
        ),
        BOTH,
    )
    assert given.subnets == ("10.1.0.0/16", "fd00::/48", "10.99.0.0/24")
    assert given.application == "Gate[31mway 3"


@pytest.mark.parametrize(
    "attribute",
    [
        (CfgAttribute.INTERNAL_IP4_SUBNET, b"\x0a\x01\x00\x00\xff\x00\xff\x00"),
        (CfgAttribute.INTERNAL_IP4_SUBNET, b""),
        (CfgAttribute.INTERNAL_IP6_SUBNET, SIX + b"\x81"),
        (CfgAttribute.INTERNAL_IP4_NETMASK, b"\x00\xff\x00\x00"),
        (CfgAttribute.INTERNAL_IP4_NETMASK, b"\xff\xff\xff\xff"),
    ],
    ids=["mask with holes", "empty", "longer than an address", "netmask with holes", "of a host"],
)
def test_subnets_that_are_none(attribute: tuple[int, bytes]) -> None:
    given = reply((CfgAttribute.INTERNAL_IP4_ADDRESS, FOUR), attribute)
    assert configuration.read_reply(given, BOTH) == Given(("10.99.0.2",))


def test_split_dns() -> None:
    ta = (CfgAttribute.INTERNAL_DNSSEC_TA, b"\x04\xd2\x08\x02" + b"ABCDEF")
    given = configuration.read_reply(
        reply(
            ta,  # behind no domain
            DNS,
            CORP,
            ta,
            ta,
            (CfgAttribute.INTERNAL_DNS_DOMAIN, b"Lab.TEST."),
            (99, b""),
            ta,  # not right behind its domain
            (CfgAttribute.INTERNAL_DNS_DOMAIN, b"not a name"),
            ta,
        ),
        BOTH,
    )
    assert given.domains == ("corp.example", "lab.test")
    anchor = TrustAnchor("corp.example", 1234, 8, 2, b"ABCDEF")
    assert given.trust_anchors == (anchor, anchor)
    inside = [TrafficSelector.from_network("10.0.0.0/8")]
    assert given.beside(inside) == given
    assert given.beside(inside, anonymous=True) == Given(dns=given.dns)
    for network in ("0.0.0.0/0", "::/0"):
        everything = [*inside, TrafficSelector.from_network(network)]
        assert given.beside(everything) == Given(dns=given.dns)


def test_domains_without_a_server_mean_nothing() -> None:
    assert configuration.read_reply(reply(CORP), BOTH) == NOTHING


def test_what_a_peer_tells_is_bounded() -> None:
    many = configuration.read_reply(
        reply(
            *((CfgAttribute.INTERNAL_IP4_DNS, bytes([10, 0, 0, n])) for n in range(60)),
            *((CfgAttribute.INTERNAL_DNS_DOMAIN, b"d%d.test" % n) for n in range(60)),
            *((CfgAttribute.INTERNAL_IP4_SUBNET, bytes([10, n, 0, 0, 255, 255, 0, 0])) for n in range(80)),
            (CfgAttribute.APPLICATION_VERSION, b"x" * 500),
        ),
        BOTH,
    )
    sizes = (len(many.dns), len(many.domains), len(many.subnets), len(many.application))
    assert sizes == (8, 32, 64, 128)


@pytest.mark.parametrize(
    "name", [b"corp.example", b"A.b", b"_dmarc.x", b"xn--bcher-kva.test", b"x" * 63 + b".y."]
)
def test_domain_names(name: bytes) -> None:
    assert domain_name(name) == name.decode().lower().rstrip(".")


@pytest.mark.parametrize(
    "name",
    [b"", b".", b"a..b", b".a", b"-a.b", b"a b", b"a;b", b"x" * 64, b"a." * 128, b"\xc3\xa4.de", b"a\0"],
)
def test_what_is_no_domain_name(name: bytes) -> None:
    assert domain_name(name) is None


# Who listens


def test_only_what_was_asked_for_is_handed_out() -> None:
    asked = ask(CfgAttribute.INTERNAL_IP4_ADDRESS, CfgAttribute.INTERNAL_IP4_NBNS, 23456)
    assert configuration.reply(asked, ("10.99.0.2",), HANDOUT).attributes == ((1, FOUR),)


def test_all_that_can_be_handed_out() -> None:
    asked = ask(*CfgAttribute)
    given = configuration.reply(asked, ("10.99.0.2", "10.99.0.3", "fd00::1"), HANDOUT)
    assert given.values(CfgAttribute.INTERNAL_IP4_NETMASK) == (b"\xff\xff\xff\x00",)
    supported = given.values(CfgAttribute.SUPPORTED_ATTRIBUTES)[0]
    assert int(CfgAttribute.INTERNAL_DNS_DOMAIN).to_bytes(2) in supported
    assert not given.values(CfgAttribute.INTERNAL_DNSSEC_TA)
    assert configuration.read_reply(given, ("any4", "any4", "any6")) == Given(
        ("10.99.0.2", "10.99.0.3", "fd00::1"),
        HANDOUT.dns,
        HANDOUT.domains,
        (),
        ("10.1.0.0/16", "fd00:1::/48", "10.99.0.0/24"),
        "espudp",
    )


def test_domains_go_only_to_who_knows_a_server() -> None:
    asked = ask(CfgAttribute.INTERNAL_IP4_ADDRESS, CfgAttribute.INTERNAL_DNS_DOMAIN)
    assert not configuration.reply(asked, (), HANDOUT).values(CfgAttribute.INTERNAL_DNS_DOMAIN)


def test_several_addresses_but_not_the_whole_pool() -> None:
    pool = AddressPool([ip_network("10.99.0.0/24"), ip_network("fd00:99::/64")])
    asked = ask(*[CfgAttribute.INTERNAL_IP4_ADDRESS] * 200, CfgAttribute.INTERNAL_IP6_ADDRESS)
    given = configuration.assign(asked, pool, (CLIENT_ID, b""), 1, pool.networks)
    assert given == (*(f"10.99.0.{n}" for n in (2, 3, 4, 5)), "fd00:99::2")
    pool.release(1)
    assert pool.leased == 0
    # It has them again when it comes back, and others do not as long as there are fresh ones.
    other = Identity.parse("other"), b""
    assert configuration.assign(ask(1), pool, other, 2, pool.networks) == ("10.99.0.6",)
    assert configuration.assign(ask(1), pool, (CLIENT_ID, b""), 3, pool.networks) == ("10.99.0.5",)


# Whole endpoints


def split_listener() -> Pair:
    server = replace(server_config(), dns_domains=("corp.example",), split=(ip_network("10.1.0.0/16"),))
    return Pair(client_config(addresses=("any4", "any4")), server)


def test_both_ends_agree_on_it() -> None:
    pair = split_listener()
    pair.dial()
    pair.flush()
    (assigned,) = pair.client.told(AddressAssigned)
    assert assigned == AddressAssigned(
        1,
        ("10.99.0.2", "10.99.0.3"),
        ("10.1.0.53",),
        ("corp.example",),
        (),
        ("10.1.0.0/16",),
        "espudp",
    )
    pair.agree()
    (child,) = pair.client.children
    assert [str(s) for s in child.local] == ["10.99.0.2/32", "10.99.0.3/32"]


def test_no_split_dns_where_everything_goes_through_the_tunnel() -> None:
    everything = (TrafficSelector.from_network("0.0.0.0/0"),)
    server = server_config()
    server = replace(server, dns_domains=("com",), child=replace(server.child, local=everything))
    pair = Pair(client_config(child=client_child(remote="0.0.0.0/0")), server)
    pair.dial()
    pair.flush()
    (assigned,) = pair.client.told(AddressAssigned)
    assert (assigned.dns, assigned.domains) == (("10.1.0.53",), ())


def answered(pair: Pair, exchange: ExchangeType, payloads: list[Payload]) -> list[Configuration]:
    """What the server's answer to a request of the client's says about configuration."""
    said: list[Configuration] = []
    sa = pair.client.ike.sa
    opened = sa.accept

    def watch(*arguments: object) -> object:
        received = opened(*arguments)  # type: ignore[arg-type]
        if received is not None:
            said.extend(received.message.all(Configuration))
        return received

    sa.accept = watch  # type: ignore[method-assign, assignment]
    pair.client.request(exchange, payloads, pair.now)
    pair.flush()
    return said


def in_turn(pair: Pair, asked: Configuration) -> list[Configuration]:
    return answered(pair, ExchangeType.INFORMATIONAL, [asked])


def test_a_peer_that_asks_again_gets_what_it_has() -> None:
    pair = split_listener().connect()
    (given,) = in_turn(pair, ask(CfgAttribute.INTERNAL_IP4_ADDRESS, CfgAttribute.APPLICATION_VERSION))
    assert given.values(1) == (FOUR, IPv4Address("10.99.0.3").packed)
    assert given.values(CfgAttribute.APPLICATION_VERSION) == (b"espudp",)
    (version,) = in_turn(pair, ask(CfgAttribute.APPLICATION_VERSION))
    assert version.attributes == ((7, b"espudp"),)
    assert len(pair.server.connection.peer.addresses) == 2


def test_nobody_configures_us_and_is_told_so() -> None:
    pair = split_listener().connect()
    pushed = Configuration(CfgType.SET, ((CfgAttribute.INTERNAL_IP4_ADDRESS, FOUR), (99, b"?")))
    assert in_turn(pair, pushed) == [Configuration(CfgType.ACK)]
    assert in_turn(pair, Configuration(CfgType.ACK)) == []
    assert in_turn(pair, Configuration(17)) == []
    assert pair.server.connection.addresses == ()
    pair.agree()


def requested_child(pair: Pair) -> Iterable[Payload]:
    """CREATE_CHILD_SA as the client would send it."""
    from espudp.ike.v2.child_exchange import CreateChild

    task = CreateChild(pair.config.child)
    payloads = task.request(pair.client.ike, pair.now)
    assert payloads is not None
    assert {type(p) for p in payloads} >= {SecurityAssociation, Nonce}
    return payloads


def test_a_configuration_payload_beside_a_child_sa() -> None:
    """Some peers ask for their address whenever they make one."""
    pair = split_listener().connect()
    asked = ask(CfgAttribute.INTERNAL_IP4_ADDRESS, CfgAttribute.INTERNAL_IP4_DNS)
    (given,) = answered(pair, ExchangeType.CREATE_CHILD_SA, [asked, *requested_child(pair)])
    assert given.values(1) == (FOUR, IPv4Address("10.99.0.3").packed)
    assert given.values(3) == (b"\x0a\x01\x00\x35",)
    assert len(pair.server.children) == 2


def test_malformed_attributes_end_it() -> None:
    """RFC 7296 section 2.21.3: INVALID_SYNTAX, which is fatal."""
    pair = split_listener().connect()
    broken = Configuration(CfgType.REQUEST, ((CfgAttribute.INTERNAL_IP4_ADDRESS, b"\x0a"),))
    assert in_turn(pair, broken) == []
    assert pair.server.told(ConnectionDown)[0].reason.startswith("the peer broke the protocol")
