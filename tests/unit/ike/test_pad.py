"""Which entry of the peer authorization database a peer comes by."""

from ipaddress import ip_network

import pytest

from espudp.errors import ConfigError
from espudp.ike.config import DYNAMIC, ChildConfig, ListenerConfig
from espudp.ike.credentials import NoProof, PskOf
from espudp.ike.identity import Identity
from espudp.ike.pad import PadEntry, Pattern, candidates

HERE = Identity.parse("gw.example.org")


def _entry(name: str, *peers: str, networks: tuple[str, ...] = (), local: str | None = None) -> PadEntry:
    return PadEntry(
        name=name,
        proof=NoProof(),
        demand=PskOf(b"x"),
        peers=tuple(map(Pattern.parse, peers or ("*",))),
        networks=tuple(map(ip_network, networks)),
        local_identity=None if local is None else Identity.parse(local),
    )


def _names(
    entries: list[PadEntry], peer: str, *, ip: str = "192.0.2.1", wanted: str | None = None
) -> list[str]:
    ours = None if wanted is None else Identity.parse(wanted)
    return [e.name for e in candidates(entries, Identity.parse(peer), ip, ours, HERE)]


@pytest.mark.parametrize(
    ("pattern", "peer", "fits"),
    [
        ("*", "a.example.org", True),
        ("%any", "192.0.2.1", True),
        ("*.example.org", "a.example.org", True),
        ("*.example.org", "example.org", False),
        ("*.example.org", ".example.org", False),
        ("*.example.org", "a.example.org.evil.net", False),
        ("*.example.org", "a@b.example.org", False),
        ("*@example.org", "a@example.org", True),
        ("*@example.org", "a@b.example.org", False),
        ("*@example.org", "a.example.org", False),
        ("a.example.org", "a.example.org", True),
        ("a.example.org", "A.example.org", True),
        ("*.example.org", "b.EXAMPLE.org", True),
        ("keyid:office", "keyid:office", True),
        ("keyid:office", "office", False),
    ],
)
def test_patterns(pattern: str, peer: str, fits: bool) -> None:
    assert bool(Pattern.parse(pattern).fit(Identity.parse(peer))) == fits


@pytest.mark.parametrize("text", ["", "* ", "a b", "*a b"])
def test_patterns_that_are_none(text: str) -> None:
    if text.strip() == "*":
        assert Pattern.parse(text) == Pattern()
        return
    with pytest.raises(ConfigError):
        Pattern.parse(text)


def test_the_closest_fit() -> None:
    entries = [_entry("all"), _entry("domain", "*.example.org"), _entry("one", "a.example.org")]
    assert _names(entries, "a.example.org") == ["one"]
    assert _names(entries, "b.example.org") == ["domain"]
    assert _names(entries, "b.example.net") == ["all"]
    assert _names(entries[1:], "b.example.net") == []


def test_by_address() -> None:
    entries = [_entry("all"), _entry("office", networks=("192.0.2.0/24", "2001:db8::/32"))]
    assert _names(entries, "a") == ["office", "all"]
    assert _names(entries, "a", ip="2001:db8::1") == ["office", "all"]
    assert _names(entries, "a", ip="198.51.100.1") == ["all"]
    assert _names(entries[1:], "a", ip="198.51.100.1") == []


def test_by_the_identity_that_is_wanted_of_us() -> None:
    entries = [
        _entry("usual"),
        _entry("red", local="red.example.org"),
        _entry("blue", local="blue.example.org"),
    ]
    assert _names(entries, "a", wanted="blue.example.org")[0] == "blue"
    assert _names(entries, "a", wanted="gw.example.org")[0] == "usual"
    assert _names(entries, "a", wanted="green.example.org")[0] == "usual"
    assert _names(entries, "a") == ["usual", "red", "blue"]


def test_a_pool_that_the_listener_has_not() -> None:
    entry = PadEntry(proof=NoProof(), demand=PskOf(b"x"), pool=(ip_network("10.1.0.0/24"),))
    child = ChildConfig(remote=(DYNAMIC,))
    with pytest.raises(ConfigError, match="none of the pools"):
        ListenerConfig(local_identity=HERE, pad=(entry,), child=child, pool=(ip_network("10.99.0.0/24"),))
    config = ListenerConfig(
        local_identity=HERE, pad=(entry,), child=child, pool=(*entry.pool, ip_network("10.99.0.0/24"))
    )
    assert config.by(entry).pool == entry.pool
