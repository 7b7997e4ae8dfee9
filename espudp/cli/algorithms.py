"""`espudp algorithms`."""

from __future__ import annotations

from collections.abc import Iterator

import typer

from espudp.cli.errors import reported


@reported
def algorithms() -> None:
    """List the words that proposals are made of, and what RFC 8247 (IKE) and RFC 8221 (ESP) say of each."""
    from espudp.crypto.policy import AUTH_METHODS, TABLE

    for kind, rules in TABLE.items():
        typer.echo(_line(kind, "IKE", "ESP"))
        for rule in rules:
            ike, esp = (level.value if level else "-" for level in (rule.ike, rule.esp))
            typer.echo(_line(f"  {rule.keyword}", ike, esp, _use(rule.keyword), rule.weakness))
        typer.echo()
    typer.echo(_line("authentication", "IKE"))
    for auth in AUTH_METHODS:
        typer.echo(_line(f"  {auth.name} ({auth.method})", auth.level.value, "", auth.weakness))


def _line(word: str, ike: str, esp: str = "", *remarks: str) -> str:
    return f"{word:<36}{ike:<12}{esp:<12}{', '.join(filter(None, remarks))}".rstrip()


def _use(keyword: str) -> str:
    if keyword in set(_offered()):
        return "offered"
    return "when named" if _is_spoken(keyword) else "not spoken"


def _offered() -> Iterator[str]:
    from espudp.ike.proposals import DEFAULT_ESP_PROPOSALS, DEFAULT_IKE_PROPOSALS

    for proposal in (*DEFAULT_IKE_PROPOSALS, *DEFAULT_ESP_PROPOSALS):
        yield from str(proposal).split("-")


def _is_spoken(keyword: str) -> bool:
    from espudp.crypto import suites

    finders = (suites.encr_by_keyword, suites.integ_by_keyword, suites.prf_by_keyword, suites.dh_by_keyword)
    return any(find(keyword) for find in finders)
