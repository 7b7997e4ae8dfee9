"""`--preset`: what the product at the other end wants otherwise. Options that are given count instead."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer

from espudp.cli.options import Algorithms
from espudp.cli.selectors import selectors
from espudp.errors import ConfigError
from espudp.host.options import NATT_PORT, Report, Reporter
from espudp.presets import PRESETS, Preset

if TYPE_CHECKING:
    from espudp.cli.parsing import Network

_HELP = f"What the peer is: {', '.join(PRESETS)}."

PresetName = Annotated[str | None, typer.Option("--preset", metavar="PRODUCT", help=_HELP)]
PresetNames = Annotated[list[str] | None, typer.Option("--preset", metavar="PRODUCT", help=_HELP)]

# In aggressive mode of IKEv1 one group is offered, and this one is what old gateways have, too.
_COMMON_GROUP = "modp2048"

NONE = Preset(title="", ike=(), esp=(), force_encap=False)


def named(name: str | None) -> Preset:
    """Raises ConfigError."""
    if name is None:
        return NONE
    preset = PRESETS.get(name.strip().lower())
    if preset is None:
        raise ConfigError(
            f"--preset: there is none for '{name[:40]}'",
            field="preset",
            remedy=f"choose one of {', '.join(PRESETS)}, or leave it out",
        )
    return preset


def together(names: Sequence[str] | None) -> Preset:
    """What suits peers of all these products. Raises ConfigError."""
    presets = [named(name) for name in names or ()]
    if not presets:
        return NONE
    return Preset(
        title=", ".join(preset.title for preset in presets),
        ike=_merged(preset.ike for preset in presets),
        esp=_merged(preset.esp for preset in presets),
        ikev1_only=any(preset.ikev1_only for preset in presets),
        any_to_any=all(preset.any_to_any for preset in presets),
        single_pair=all(preset.single_pair for preset in presets),
        advice=" ".join(dict.fromkeys(preset.advice for preset in presets if preset.advice)),
    )


def algorithms(
    preset: Preset, ike: list[str] | None, esp: list[str] | None, window: int, *, one_group: bool = False
) -> Algorithms:
    """What is typed, else what the product takes, else what suits most. `one_group`: there is no choice of
    groups. Raises ConfigError.
    """
    if one_group and not ike:
        ike = [_of_one_group(text) for text in preset.ike]
    return Algorithms(ike or list(preset.ike), esp or list(preset.esp), window)


def _of_one_group(text: str) -> str:
    from espudp.ike.proposals import IkeProposal

    proposal = IkeProposal.parse(text)
    group = tuple(dh for dh in proposal.dh if dh.keyword == _COMMON_GROUP)
    return str(replace(proposal, dh=group or proposal.dh))


def check_version(preset: Preset, ikev1: str | None) -> None:
    """Raises ConfigError for a product that does not speak what is to be spoken."""
    if preset.ikev1_only and ikev1 is None:
        raise ConfigError(
            f"{preset.title} speaks IKEv1 alone",
            field="preset",
            remedy="add --ikev1 main, or --ikev1 aggressive for a user of its own",
        )


def ports(preset: Preset, natt: int | None, plain: int | None) -> tuple[int | None, int | None]:
    """Of the peer, as typed: with the first alone the exchange begins there."""
    if natt is None and plain is None and preset.start_on_4500:
        return NATT_PORT, None
    return natt, plain


def routes(preset: Preset, typed: list[str] | None, option: str) -> tuple[Network, ...] | None:
    """What goes into a tunnel that is negotiated for everything; None: whatever is negotiated. Raises
    ConfigError.
    """
    if not preset.any_to_any:
        return None
    wanted = tuple(network for selector in selectors(typed or (), option) for network in selector.networks())
    if not wanted:
        raise ConfigError(
            f"{preset.title} negotiates 0.0.0.0/0, and it is not said what is to go into the tunnel",
            field=option,
            remedy=f"name the networks behind it with {option}, 0.0.0.0/0 if it is to be everything",
        )
    return wanted


def advise(preset: Preset, report: Reporter) -> None:
    """What to do at the other side, in a line."""
    if preset.advice:
        report(Report(f"{preset.title}: {preset.advice}"))


def _merged(proposals: Iterable[tuple[str, ...]]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(proposal for each in proposals for proposal in each))
