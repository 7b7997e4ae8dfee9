"""Distinguished names, as people write them and as peers send them."""

import pytest
from cryptography import x509
from cryptography.x509.name import _ASN1Type
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st

from espudp.crypto import dn
from espudp.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("C=CH, O=Example, CN=gw", "C=CH, O=Example, CN=gw"),
        ("/C=CH/O=Example/CN=gw", "C=CH, O=Example, CN=gw"),
        ("c=CH,o=Example,cn = gw ", "C=CH, O=Example, CN=gw"),
        ('O="Example, Inc", CN=gw', "O=Example\\, Inc, CN=gw"),
        ("emailAddress=me@example.org", "E=me@example.org"),
        ("DC=org, DC=example, CN=a + UID=7", "DC=org, DC=example, CN=a + UID=7"),
        ("CN=müller", "CN=m\\C3\\BCller"),
        ("2.5.4.3=gw", "CN=gw"),
        ("1.3.6.1.4.1.99999.1=x", "1.3.6.1.4.1.99999.1=x"),
        ('CN=" gw"', 'CN=" gw"'),
        ("CN=a\\=b\\+c\\\\d", "CN=a\\=b\\+c\\\\d"),
    ],
)
def test_written_and_shown(text: str, shown: str) -> None:
    name = dn.parse(text)
    assert dn.show(name) == shown
    assert dn.parse(shown) == name
    assert dn.looks_like_name(text)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("CN", "no '='"),
        ("CN=gw, example", "no '='"),
        ("CN=", "length"),
        ("C=Switzerland", "length"),
        ("X=1", "none of CN"),
        ('CN="gw', "quotation"),
        ("CN=gw\\", "escape"),
        ("CN=\\FF", "utf-8"),
        ("", "no '='"),
    ],
)
def test_what_is_no_name(text: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said) as error:
        dn.parse(text)
    assert "comma" in error.value.remedy


@pytest.mark.parametrize("text", ["gw.example.org", "a=b@example.org", "keyid:CN=gw", "x", "", "SN=1", "=CN"])
def test_what_does_not_look_like_a_name(text: str) -> None:
    assert not dn.looks_like_name(text)


def name_of(value: str, kind: _ASN1Type) -> bytes:
    return x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, value, kind)]).public_bytes()


def test_case_spaces_and_string_types_make_no_difference() -> None:
    printable, utf8 = (
        name_of("Example Inc", kind) for kind in (_ASN1Type.PrintableString, _ASN1Type.UTF8String)
    )
    assert printable != utf8
    assert dn.same(printable, utf8)
    assert dn.same(utf8, dn.parse("O=  EXAMPLE   inc"))
    assert not dn.same(utf8, dn.parse("O=ExampleInc"))
    assert not dn.same(dn.parse("O=a, CN=b"), dn.parse("CN=b, O=a"))
    assert dn.same(dn.parse("CN=b + UID=a"), dn.parse("UID=a + CN=b"))
    assert not dn.same(b"", b"")
    assert not dn.same(b"garbage", b"garbage")


@pytest.mark.parametrize(
    ("pattern", "name", "fits"),
    [
        ("O=Example, CN=*", "O=Example, CN=gw", True),
        ("O=Example, CN=*", "O=Example, OU=gw", False),
        ("O=Example, CN=*", "O=Example", False),
        ("CN=*", "CN=gw + UID=1", False),
        ("CN=* + UID=1", "CN=gw + UID=1", True),
        ("CN=gw*", "CN=gw1", False),
        ("CN=gw", "CN=*", False),
    ],
)
def test_patterns(pattern: str, name: str, fits: bool) -> None:
    assert dn.matches(dn.parse(pattern), dn.parse(name)) == fits


@given(st.binary(max_size=200))
def test_whatever_a_peer_sends_can_be_shown_and_compared(octets: bytes) -> None:
    for der in (octets, dn.parse("CN=gw") + octets, name_of("x" + octets.hex()[:60], _ASN1Type.UTF8String)):
        shown = dn.show(der)
        assert shown.isprintable()
        assert shown.isascii()
        dn.same(der, octets)


@given(st.lists(st.text(min_size=1, max_size=30), min_size=1, max_size=4))
def test_any_text_survives_being_shown(values: list[str]) -> None:
    name = x509.Name(
        [x509.NameAttribute(NameOID.ORGANIZATION_NAME, value) for value in values]
    ).public_bytes()
    assert dn.parse(dn.show(name)) == name
