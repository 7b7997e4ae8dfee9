"""Traffic selector narrowing (RFC 7296 section 2.9)."""

import pytest

from espudp.ike.narrowing import DYNAMIC, MAX_SELECTORS, describe_no_common, narrow, pairs, resolve
from espudp.wire.selectors import TrafficSelector


def _ts(*cidrs: str) -> tuple[TrafficSelector, ...]:
    return tuple(TrafficSelector.from_network(c) for c in cidrs)


@pytest.mark.parametrize(
    ("proposed", "configured", "narrowed"),
    [
        # The examples of RFC 7296 section 2.9: the whole, a part, a part of each.
        (["198.51.100.0/24"], ["198.51.100.0/24"], ["198.51.100.0/24"]),
        (["0.0.0.0/0"], ["198.51.100.0/24"], ["198.51.100.0/24"]),
        (["198.51.100.0/24"], ["0.0.0.0/0"], ["198.51.100.0/24"]),
        (["198.51.100.43/32", "198.51.100.0/24"], ["198.51.100.0/25"], ["198.51.100.0/25"]),
        (["10.0.0.0/8"], ["10.1.0.0/16", "10.2.0.0/16"], ["10.1.0.0/16", "10.2.0.0/16"]),
        (["10.2.0.0/16", "10.1.0.0/16"], ["10.0.0.0/8"], ["10.2.0.0/16", "10.1.0.0/16"]),
        (["0.0.0.0/0", "::/0"], ["2001:db8::/32"], ["2001:db8::/32"]),
        (["0.0.0.0/0"], ["0.0.0.0/0", "10.0.0.0/8"], ["0.0.0.0/0"]),
        (["10.0.0.0/8", "10.0.0.0/8"], ["10.0.0.0/8"], ["10.0.0.0/8"]),
    ],
)
def test_narrowed(proposed: list[str], configured: list[str], narrowed: list[str]) -> None:
    assert narrow(_ts(*proposed), _ts(*configured)) == _ts(*narrowed)


@pytest.mark.parametrize(
    ("proposed", "configured"),
    [
        (["10.0.0.0/8"], ["192.168.0.0/16"]),
        (["0.0.0.0/0"], ["::/0"]),
        ([], ["0.0.0.0/0"]),
        (["0.0.0.0/0"], []),
    ],
)
def test_nothing_in_common(proposed: list[str], configured: list[str]) -> None:
    assert narrow(_ts(*proposed), _ts(*configured)) is None


def test_protocol_and_ports_are_narrowed_too() -> None:
    (net,) = _ts("10.0.0.0/8")
    tcp = TrafficSelector(net.first, net.last, 6, 0, 1023)
    web = TrafficSelector(net.first, net.last, 0, 80, 80)
    assert narrow([tcp], [web]) == (TrafficSelector(net.first, net.last, 6, 80, 80),)


def test_the_packet_that_asked_stays_within() -> None:
    packet = TrafficSelector(*(_ts("10.1.2.3/32")[0].first,) * 2, 6, 443, 443)
    narrowed = narrow([packet, *_ts("10.0.0.0/8")], _ts("10.1.0.0/16"))
    assert narrowed is not None
    assert any(selector.contains(packet) for selector in narrowed)


def test_the_result_fits_in_a_payload() -> None:
    many = _ts(*(f"10.{i}.0.0/24" for i in range(256)), *(f"11.{i}.0.0/24" for i in range(256)))
    assert len(narrow(many, _ts("0.0.0.0/0")) or ()) == MAX_SELECTORS


def test_dynamic_is_the_virtual_address() -> None:
    assert resolve((DYNAMIC,), ["10.99.0.2"]) == _ts("10.99.0.2/32")
    assert resolve((DYNAMIC, *_ts("10.1.0.0/16")), ["10.99.0.2", "2001:db8::2"]) == _ts(
        "10.99.0.2/32", "2001:db8::2/128", "10.1.0.0/16"
    )
    assert resolve((DYNAMIC,), []) == ()


def test_an_address_that_is_not_assigned_yet() -> None:
    assert resolve((DYNAMIC,), ["any4", "any6"]) == _ts("0.0.0.0/0", "::/0")


def test_pairs_are_of_one_version() -> None:
    both = list(pairs(_ts("10.1.0.0/16", "fd00::/8"), _ts("10.2.0.0/16", "10.3.0.0/16", "fd01::/16")))
    assert [(str(ours), str(theirs)) for ours, theirs in both] == [
        ("10.1.0.0/16", "10.2.0.0/16"),
        ("10.1.0.0/16", "10.3.0.0/16"),
        ("fd00::/8", "fd01::/16"),
    ]


def test_both_sides_line_against_line() -> None:
    text = describe_no_common(
        _ts("10.5.0.0/16"), _ts("10.99.0.2/32"), _ts("10.1.0.0/16"), _ts("10.99.0.2/32")
    )
    lines = text.splitlines()
    assert "10.5.0.0/16" in lines[1]
    assert "10.1.0.0/16" in lines[1]
    assert lines[1].endswith("nothing in common")
    assert not lines[2].endswith("nothing in common")


def test_an_endless_proposal_stays_readable() -> None:
    text = describe_no_common(_ts(*(f"10.{i}.0.0/16" for i in range(200))), (), (), ())
    assert "and 192 more" in text
