"""What a session may become beside a tunnel: options of connect and listen."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

import typer

from espudp.errors import ConfigError

Childless = Annotated[
    bool, typer.Option("--childless", help="Authenticate first, and then make the child SA (RFC 6023).")
]
Resume = Annotated[bool, typer.Option(help="Resume a session that broke off by its ticket (RFC 5723).")]
Tickets = Annotated[bool, typer.Option(help="Give clients tickets to resume sessions with (RFC 5723).")]
Redirect = Annotated[bool, typer.Option(help="Go where the peer sends us (RFC 5685).")]
RedirectTo = Annotated[
    list[str] | None, typer.Option(metavar="HOST", help="Send clients to this gateway; repeatable.")
]
RedirectAbove = Annotated[int, typer.Option(metavar="NUMBER", help="... when there are so many.", min=0)]


@dataclass(frozen=True)
class Calling:
    """Of who connects."""

    childless: Childless = False
    resume: Resume = True
    redirect: Redirect = True

    def settings(self) -> dict[str, Any]:
        """For ConnectionConfig."""
        return {
            "childless": self.childless,
            "resume": self.resume,
            "follow_redirects": self.redirect,
        }


@dataclass(frozen=True)
class Serving:
    """Of who listens."""

    tickets: Tickets = True
    redirect_to: RedirectTo = None
    redirect_above: RedirectAbove = 0

    def settings(self) -> dict[str, Any]:
        """For ListenerConfig. Raises ConfigError."""
        if self.redirect_above and not self.redirect_to:
            raise ConfigError(
                "it is not said where clients are to go",
                field="redirect-above",
                remedy="Name another gateway with --redirect-to HOST.",
            )
        return {
            "tickets": self.tickets,
            "redirect_to": tuple(self.redirect_to or ()),
            "redirect_above": self.redirect_above,
        }
