"""What users type, and what they are told about it."""

from collections.abc import Callable

import pytest

from espudp.cli import parsing
from espudp.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90", 90), ("90s", 90), ("1.5m", 90), ("8h", 28800), ("2d", 172800), (" 5 M ", 300)],
)
def test_durations(text: str, seconds: float) -> None:
    assert parsing.duration(text, "--dpd") == seconds


@pytest.mark.parametrize(
    ("text", "octets"),
    [("500000", 500_000), ("500k", 500_000), ("100M", 100_000_000), ("1.5g", 1_500_000_000)],
)
def test_sizes(text: str, octets: int) -> None:
    assert parsing.size(text, "--child-bytes") == octets


@pytest.mark.parametrize(("text", "dscp"), [("copy", None), (" Copy ", None), ("0", 0), ("63", 63)])
def test_dscp(text: str, dscp: int | None) -> None:
    assert parsing.dscp(text, "--dscp") == dscp


def test_networks_and_selectors() -> None:
    assert [str(n) for n in parsing.networks(["10.1.2.3/16", "fd00::1/64"], "--subnet")] == [
        "10.1.0.0/16",
        "fd00::/64",
    ]
    (selector,) = parsing.selectors(["10.1.2.3/16"], "--subnet")
    assert str(selector) == "10.1.0.0/16"
    assert selector.any_traffic


MISTAKES: list[tuple[Callable[[str, str], object], str]] = [
    (parsing.duration, "soon"),
    (parsing.duration, "0"),
    (parsing.duration, "-5s"),
    (parsing.duration, "5y"),
    (parsing.duration, ""),
    (parsing.size, "5h"),
    (parsing.size, "1e9"),
    (parsing.address, "10.0.0.0/8"),
    (parsing.address, "example.org"),
    (lambda text, option: parsing.networks([text], option), "10.0.0.0/33"),
    (lambda text, option: parsing.networks([text], option), "10.0.0"),
    (parsing.port, "0"),
    (parsing.port, "65536"),
    (parsing.port, "ipsec"),
    (parsing.dscp, "64"),
    (parsing.dscp, "-1"),
    (parsing.dscp, "0x2e"),
    (parsing.dscp, "ef"),
]


@pytest.mark.parametrize(("parse", "text"), MISTAKES)
def test_a_mistake_names_the_option_and_what_is_right(parse: Callable[[str, str], object], text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(text, "--the-option")
    assert str(caught.value).startswith("--the-option: ")
    assert text in str(caught.value)
    assert caught.value.remedy


def test_options_that_contradict_each_other() -> None:
    parsing.refuse_together("--manual", {"--psk": None}, "because")
    with pytest.raises(ConfigError, match="--psk and --port contradict --manual: because"):
        parsing.refuse_together("--manual", {"--psk": "x", "--id": None, "--port": 0}, "because")
