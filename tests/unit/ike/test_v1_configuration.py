"""Mode config: what is asked for, handed out, believed (draft-dukes-ike-mode-cfg-02), and Cisco's Unity."""

import random
from ipaddress import ip_address, ip_network

import pytest

from espudp.errors import ConfigError
from espudp.ike.given import NOTHING
from espudp.ike.handout import Handout
from espudp.ike.ikev1_config import Ikev1Policy
from espudp.ike.v1 import configuration, unity
from espudp.wire.ikev1.attributes import Attribute
from espudp.wire.ikev1.constants import CfgAttribute as A
from espudp.wire.ikev1.constants import CfgType
from espudp.wire.ikev1.payloads import Attributes, body_of

HANDOUT = Handout(
    dns=("10.1.0.53", "fd00:1::35"),
    domains=("corp.example", "lab.test"),
    subnets=(ip_network("10.1.0.0/16"), ip_network("fd00:1::/48"), ip_network("10.7.7.0/24")),
    pools=(ip_network("10.99.0.0/24"), ip_network("fd00:99::/64")),
)
POLICY = Ikev1Policy(banner="Be nice.\nThis means you.", backup_servers=("192.0.2.9", "gw2.example.org"))
BOTH = ("any4", "any6")
OURS = ("10.99.0.2", "fd00:99::2")


def _request(addresses: tuple[str, ...] = BOTH, *, cisco: bool = True) -> Attributes:
    return Attributes(CfgType.REQUEST, 3, configuration.request(addresses, cisco=cisco))


def _reply(*attributes: tuple[int, bytes]) -> Attributes:
    return Attributes(CfgType.REPLY, 3, tuple(Attribute(kind, value) for kind, value in attributes))


def test_what_is_asked_for() -> None:
    kinds = {attribute.type for attribute in _request().attributes}
    assert {A.INTERNAL_IP4_ADDRESS, A.INTERNAL_IP6_DNS, A.UNITY_SPLIT_INCLUDE, A.UNITY_BANNER} <= kinds
    assert A.UNITY_LOCAL_LAN not in kinds
    assert not any(kind >= A.UNITY_BANNER for kind in {a.type for a in _request(cisco=False).attributes})
    assert _request(("10.99.0.7",)).values(A.INTERNAL_IP4_ADDRESS) == (bytes([10, 99, 0, 7]),)
    assert not _request(("any4",)).values(A.INTERNAL_IP6_ADDRESS)


def test_both_sides() -> None:
    asked = _request()
    assert configuration.wanted_addresses(asked) == {4: [""], 6: [""]}
    told = Attributes(CfgType.REPLY, 3, configuration.reply(asked, OURS, HANDOUT, POLICY))
    given = configuration.read(told, BOTH)
    assert given.addresses == OURS
    assert given.dns == HANDOUT.dns
    assert given.domains == HANDOUT.domains
    assert given.banner == POLICY.banner
    assert set(given.subnets) == {"10.1.0.0/16", "fd00:1::/48", "10.7.7.0/24", "10.99.0.0/24"}
    assert [str(selector) for selector in given.split_include] == ["10.1.0.0/16", "10.7.7.0/24"]
    assert given.application == "espudp"
    # No gateway says what it was not asked for
    assert not told.values(A.UNITY_BACKUP_SERVERS)


def test_only_what_is_asked_for_is_answered() -> None:
    asked = Attributes(CfgType.REQUEST, 3, (Attribute(A.INTERNAL_IP4_DNS, b""), Attribute(99, b"")))
    told = configuration.reply(asked, (), HANDOUT, POLICY)
    assert [(a.type, a.value) for a in told] == [(A.INTERNAL_IP4_DNS, bytes([10, 1, 0, 53]))]
    assert not configuration.wants_address(asked)


def test_a_set_has_everything() -> None:
    told = Attributes(CfgType.SET, 3, tuple(configuration.everything(OURS, HANDOUT, POLICY, cisco=True)))
    assert told.values(A.UNITY_BACKUP_SERVERS) == (b"192.0.2.9,gw2.example.org",)
    assert told.number(A.UNITY_SAVE_PASSWORD) == 0
    assert configuration.read(told, BOTH).addresses == OURS
    ack = configuration.answer_to_set(told, configuration.is_known)
    assert (ack.cfg_type, ack.identifier) == (CfgType.ACK, 3)
    assert {a.type for a in ack.attributes} == {a.type for a in told.attributes}
    assert not any(a.value for a in ack.attributes)


def test_a_set_for_those_who_know_nothing_of_cisco() -> None:
    told = configuration.everything(OURS, HANDOUT, POLICY, cisco=False)
    assert max(attribute.type for attribute in told) < A.UNITY_BANNER


def test_unknown_attributes_of_a_set_are_not_acknowledged() -> None:
    told = Attributes(CfgType.SET, 3, (Attribute(99, b"x"), Attribute(A.UNITY_FIREWALL_TYPE, b"x")))
    assert configuration.answer_to_set(told, configuration.is_known).attributes == ()


@pytest.mark.parametrize(
    "value", [b"", b"\x0a", bytes(3), bytes(5), bytes(60_000), bytes(4), b"\x7f\0\0\1", b"\xe0\0\0\1"]
)
def test_addresses_that_are_none(value: bytes) -> None:
    told = _reply((A.INTERNAL_IP4_ADDRESS, value), (A.INTERNAL_IP4_DNS, value))
    assert configuration.read(told, ("any4",)) == NOTHING


def test_no_more_addresses_are_taken_than_were_asked_for() -> None:
    told = _reply(*((A.INTERNAL_IP4_ADDRESS, bytes([10, 0, 0, n])) for n in range(1, 200)))
    assert configuration.read(told, ("any4",)).addresses == ("10.0.0.1",)
    assert configuration.read(told, ("any6",)).addresses == ()


def test_an_ipv6_address_with_and_without_a_prefix_length() -> None:
    packed = ip_address("fd00::5").packed
    for value in (packed, packed + b"\x40"):
        assert configuration.read(_reply((A.INTERNAL_IP6_ADDRESS, value)), BOTH).addresses == ("fd00::5",)
    assert not configuration.read(_reply((A.INTERNAL_IP6_ADDRESS, packed + b"\x40\0")), BOTH).addresses


def test_too_much_of_everything() -> None:
    told = _reply(
        *((A.INTERNAL_IP4_DNS, bytes([10, 0, 0, n])) for n in range(1, 250)),
        *((A.INTERNAL_IP4_SUBNET, bytes([10, n, 0, 0, 255, 255, 0, 0])) for n in range(250)),
        (
            A.UNITY_SPLIT_INCLUDE,
            b"".join(bytes([10, n, m, 0, 255, 255, 255, 0]) + bytes(6) for n in range(250) for m in range(9)),
        ),
        (A.UNITY_SPLIT_DNS, b",".join(b"d%d.example" % n for n in range(1000))),
        (A.UNITY_BANNER, b"line\n" * 10_000),
        (A.APPLICATION_VERSION, b"v" * 60_000),
    )
    given = configuration.read(told, ("any4",))
    assert (len(given.dns), len(given.subnets), len(given.split_include)) == (8, 64, 0)
    assert len(given.domains) == 32
    assert len(given.banner.splitlines()) == 50
    assert len(given.application) == 128


def test_garbage_in_every_attribute() -> None:
    rng = random.Random(5)
    for _ in range(300):
        attributes = tuple(Attribute(kind, rng.randbytes(rng.randrange(40))) for kind in A)
        told = Attributes(rng.choice(list(CfgType)), 3, attributes)
        given = configuration.read(told, BOTH)
        assert given.banner.replace("\n", "").isprintable()
        configuration.reply(told, OURS, HANDOUT, POLICY)
        configuration.wanted_addresses(told)
        configuration.answer_to_set(told, configuration.is_known)


def test_a_search_domain_alone_limits_nothing() -> None:
    dns = (A.INTERNAL_IP4_DNS, bytes([10, 1, 0, 53]))
    default, split = (A.UNITY_DEFAULT_DOMAIN, b"corp.example"), (A.UNITY_SPLIT_DNS, b"a.example, b.example\0")
    assert configuration.read(_reply(dns, default), BOTH).domains == ()
    assert configuration.read(_reply(split, default), BOTH).domains == ()
    expected = ("a.example", "b.example", "corp.example")
    assert configuration.read(_reply(dns, split, default), BOTH).domains == expected


def test_networks_that_are_none() -> None:
    holes = bytes([10, 0, 0, 0, 255, 0, 255, 0]) + bytes(6)
    right = bytes([10, 9, 1, 2, 255, 255, 0, 0]) + bytes(6)
    found = unity.read_networks([holes + right + right[:5], b"", right])
    assert [str(selector) for selector in found] == ["10.9.0.0/16"]


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (b"Welcome", "Welcome"),
        (b"one\r\ntwo\rthree\n", "one\ntwo\nthree"),
        (b"\n\n  indented\tby tabs \n\n", "  indented by tabs"),
        (b"\x1b]0;title\x07red\x1b[31m\x9b2J", "]0;titlered[31m\N{REPLACEMENT CHARACTER}2J"),
        ("\N{RIGHT-TO-LEFT OVERRIDE}Gr\u00fc\u00dfe\u2028".encode(), "Gr\u00fc\u00dfe"),
        (b"\0\0", ""),
    ],
)
def test_banners(value: bytes, shown: str) -> None:
    assert unity.banner_text(value) == shown


def test_a_banner_that_nobody_would_read() -> None:
    with pytest.raises(ConfigError, match="banner"):
        Ikev1Policy(banner="x" * 5000)


def test_what_goes_over_the_wire_is_small() -> None:
    told = Attributes(CfgType.REPLY, 3, configuration.reply(_request(), OURS, HANDOUT, POLICY))
    assert len(body_of(told)) < 500
