"""The presets are data that holds together: readable, not weak, and each with its sources."""

import re
from pathlib import Path

import pytest

from espudp.ike.proposals import EspProposal, IkeProposal
from espudp.presets import PRESETS, Preset, products

SOURCE = Path(products.__file__).read_text()

WEAK = ("3des", "modp1024", "modp1536", "null", "-sha1-modp1024")


def block(name: str) -> str:
    """What stands in the source from `_NAME: Final = Preset(` to its end."""
    start = SOURCE.index(f"_{name.upper()}: Final = Preset(")
    return SOURCE[start : SOURCE.index("\n)\n", start)]


def test_the_products_of_the_issue_are_all_there() -> None:
    assert list(PRESETS) == [
        *("windows", "ios", "macos", "android", "strongswan", "aws", "azure", "gcp", "cisco", "fortigate"),
        *("mikrotik", "fritzbox", "cloudflare"),
    ]


@pytest.mark.parametrize("preset", PRESETS.values(), ids=PRESETS)
def test_its_proposals_can_be_negotiated(preset: Preset) -> None:
    assert all(IkeProposal.parse(text).dh for text in preset.ike)
    assert all(EspProposal.parse(text) for text in preset.esp)
    assert all(IkeProposal.parse(text) for text in preset.weak)


@pytest.mark.parametrize("preset", PRESETS.values(), ids=PRESETS)
def test_nothing_weak_is_offered_unless_it_is_named(preset: Preset) -> None:
    offered = {word for text in (*preset.ike, *preset.esp) for word in text.split("-")}
    assert not offered & set(WEAK)
    for text in preset.weak:
        assert set(text.split("-")) & set(WEAK), text


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_says_where_it_is_from(name: str) -> None:
    """The Apple ones share a page, which stands above both."""
    said = block(name) + (SOURCE[: SOURCE.index("_IOS")] if name in ("ios", "macos") else "")
    assert re.search(r"# .*https://", said)
    assert re.search(r"# .*(https://|RFC \d+|The (same|first|second) (page|book))", said)


@pytest.mark.parametrize("preset", PRESETS.values(), ids=PRESETS)
def test_advice_is_one_line(preset: Preset) -> None:
    assert "\n" not in preset.advice
    assert not preset.advice or preset.advice.endswith(".")
