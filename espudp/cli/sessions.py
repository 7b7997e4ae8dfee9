"""What a session may become beside a tunnel: options of connect and listen."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

import typer

Redirect = Annotated[bool, typer.Option(help="Go where the peer sends us (RFC 5685).")]
RedirectTo = Annotated[
    list[str] | None, typer.Option(metavar="HOST", help="Send clients to this gateway; repeatable.")
]
RedirectAbove = Annotated[int, typer.Option(metavar="NUMBER", help="... when there are so many.", min=0)]


@dataclass(frozen=True)
class Calling:
    """Of who connects."""

    redirect: Redirect = True

    def settings(self) -> dict[str, Any]:
        """For ConnectionConfig."""
        return {"follow_redirects": self.redirect}


@dataclass(frozen=True)
class Serving:
    """Of who listens."""

    redirect_to: RedirectTo = None
    redirect_above: RedirectAbove = 0

    def settings(self) -> dict[str, Any]:
        """For ListenerConfig."""
        return {"redirect_to": tuple(self.redirect_to or ()), "redirect_above": self.redirect_above}
