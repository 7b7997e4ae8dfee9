"""How packets travel between the two hosts: `--encap`, on both commands."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from espudp.cli import parsing

if TYPE_CHECKING:
    from espudp.ike.encapsulation import Encapsulation

AUTO, ALWAYS, NEVER = "auto", "always", "never"
OPTION = "--encap"

Encap = Annotated[
    str | None,
    typer.Option(
        OPTION, metavar=f"{AUTO}|{ALWAYS}|{NEVER}", help="ESP in UDP; auto: if need be.", show_default=AUTO
    ),
]
# What it was called before there was anything but UDP.
ForceEncap = Annotated[bool, typer.Option("--force-encap", hidden=True)]


@dataclass(frozen=True)
class Carriage:
    """As typed."""

    encap: Encap = None
    force_encap: ForceEncap = False

    def encapsulation(self, *, default: str = AUTO) -> Encapsulation:
        """Raises ConfigError."""
        from espudp.ike.encapsulation import Encapsulation

        if self.force_encap:
            parsing.refuse_together("--force-encap", {OPTION: self.encap}, f"it says {OPTION} {ALWAYS}")
            return Encapsulation.ALWAYS
        wishes = {wish.value: wish for wish in Encapsulation}
        return parsing.choice(default if self.encap is None else self.encap, wishes, OPTION)

    @property
    def is_never(self) -> bool:
        """Whether ESP in UDP is out of the question. Raises ConfigError."""
        return self.encapsulation().value == NEVER
