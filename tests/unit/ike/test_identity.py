"""Identities as users write them, and their comparison (RFC 7296 section 3.5)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from espudp.errors import ConfigError
from espudp.ike.identity import MAX_OCTETS, NOBODY, Identity
from espudp.wire.ikev2.constants import IdType


@pytest.mark.parametrize(
    ("text", "id_type", "data"),
    [
        ("192.0.2.1", IdType.IPV4_ADDR, bytes([192, 0, 2, 1])),
        ("2001:db8::1", IdType.IPV6_ADDR, bytes.fromhex("20010db8000000000000000000000001")),
        ("vpn.example.org", IdType.FQDN, b"vpn.example.org"),
        ("@vpn.example.org", IdType.FQDN, b"vpn.example.org"),
        ("road@example.org", IdType.RFC822_ADDR, b"road@example.org"),
        ("keyid:office 7", IdType.KEY_ID, b"office 7"),
        ("#00ff7f", IdType.KEY_ID, b"\x00\xff\x7f"),
        ("  client-1 ", IdType.FQDN, b"client-1"),
        ("CN=gw", IdType.DER_ASN1_DN, bytes.fromhex("300d310b300906035504030c026777")),
        (
            "E=a@b.org",
            IdType.DER_ASN1_DN,
            bytes.fromhex("30183116301406092a864886f70d01090116076140622e6f7267"),
        ),
        ("a=b@example.org", IdType.RFC822_ADDR, b"a=b@example.org"),
    ],
)
def test_parse(text: str, id_type: int, data: bytes) -> None:
    assert Identity.parse(text) == Identity(id_type, data)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "@",
        "%any",
        "#0",
        "#xy",
        "keyid:",
        "CN=",
        "CN=a, b",
        "C=CHE",
        "two words",
        "müller",
        "a" * (MAX_OCTETS + 1),
    ],
)
def test_what_is_no_identity(text: str) -> None:
    with pytest.raises(ConfigError) as error:
        Identity.parse(text)
    assert error.value.remedy


@pytest.mark.parametrize(
    "text",
    [
        *("192.0.2.1", "2001:db8::1", "vpn.example.org", "a@b.org", "keyid:office", "#00ff"),
        *(
            "C=CH, O=Example\\, Inc, CN=gw",
            "DC=org, DC=example, CN=me + UID=7",
            "CN=m\\C3\\BCller",
            "1.2.3=x",
        ),
    ],
)
def test_text_and_back(text: str) -> None:
    assert str(Identity.parse(text)) == text


def test_nobody_is_no_name_that_anybody_could_have() -> None:
    assert str(NOBODY) == "anonymous (ID_NULL)"
    assert str(Identity(IdType.FQDN, str(NOBODY).encode())) != str(NOBODY)


def test_equality_is_type_and_octets() -> None:
    """CVE-2013-6075: a prefix is not the identity; and no type is read as another."""
    name = Identity.parse("vpn.example.org")
    assert name != Identity(IdType.FQDN, b"vpn.example.or")
    assert name != Identity(IdType.FQDN, b"VPN.example.org")
    assert name != Identity(IdType.KEY_ID, name.data)


@pytest.mark.parametrize(
    ("written", "sent", "meant"),
    [
        ("O=Example, CN=gw", "o=EXAMPLE,cn=Gw", True),
        ("O=Example, CN=*", "O=Example, CN=gw", True),
        ("O=Example, CN=*", "O=Example, OU=x, CN=gw", False),
        ("O=Example, CN=*", "O=Other, CN=gw", False),
        ("CN=gw, O=Example", "O=Example, CN=gw", False),
        ("gw.example.org", "gw.example.org", True),
        ("gw.example.org", "GW.Example.org", True),
        ("alice@example.org", "alice@EXAMPLE.org", True),
        ("alice@example.org", "Alice@example.org", False),
        ("keyid:gw", "keyid:GW", False),
        ("CN=gw", "keyid:CN=gw", False),
    ],
)
def test_what_a_user_meant(written: str, sent: str, meant: bool) -> None:
    assert Identity.parse(written).means(Identity.parse(sent)) == meant


@given(st.integers(0, 255), st.binary(max_size=64))
def test_any_identity_of_a_peer_can_be_shown(id_type: int, data: bytes) -> None:
    """CVE-2015-3204: what a peer says goes into logs; it must not fail there nor control the terminal."""
    text = str(Identity(id_type, data))
    assert text.isprintable()
    assert text.isascii()
