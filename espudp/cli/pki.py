"""`espudp pki`: a small CA for those who have none."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from espudp.cli.errors import reported
from espudp.cli.help import Group
from espudp.errors import ConfigError

if TYPE_CHECKING:
    from espudp.crypto.pki import Facts
    from espudp.host.pki import Authority, Record

app = typer.Typer(
    name="pki",
    cls=Group,
    rich_markup_mode=None,
    help="A small CA: certificates for gateways, hosts and people.",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Directory = Annotated[
    Path | None,
    typer.Option("--dir", metavar="DIR", help="Where the CA is.", show_default="/etc/espudp/pki"),
]
KeyType = Annotated[
    str, typer.Option(metavar="TYPE", help="p256, p384, p521, ed25519, rsa2048, rsa3072 or rsa4096.")
]

# As in espudp.crypto.pki and espudp.host.pki, which are not loaded for `--help`; a test compares them.
KEY_TYPE = "p256"
CA_DAYS, ISSUE_DAYS, OCSP_DAYS = 3650, 825, 7
LONGEST = 36500


@app.command()
@reported
def init(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="What it is called: a name, or a DN (O=Example, CN=CA).")
    ] = "espudp CA",
    directory: Directory = None,
    days: Annotated[int, typer.Option(min=1, max=LONGEST, help="How long it holds.")] = CA_DAYS,
    key_type: KeyType = KEY_TYPE,
) -> None:
    """Make a CA: its key, which never leaves this host, its certificate, and an empty CRL."""
    from espudp.host.pki import Authority, default_directory

    authority = Authority.make(directory or default_directory(), name, key_type, days, _now())
    until = f"{authority.facts.period.end:%Y-%m-%d}"
    typer.echo(f"Made the CA '{authority.facts.subject}' ({authority.facts.key}, until {until}).")
    typer.echo(f"  certificate, for every host: {authority.certificate_file}")
    typer.echo(f"  key, for nobody:             {authority.directory / 'ca.key'}")
    typer.echo("Next, a certificate for each of the two ends:")
    typer.echo(f"  espudp pki issue gw.example.org{_option(directory)}")
    typer.echo(f"  espudp pki issue me@example.org{_option(directory)}")


@app.command()
@reported
def issue(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="gw.example.org, me@example.org, 192.0.2.1, or a DN.")
    ],
    directory: Directory = None,
    san: Annotated[list[str] | None, typer.Option(metavar="NAME", help="Another name; repeatable.")] = None,
    days: Annotated[int, typer.Option(min=1, max=LONGEST, help="How long it holds.")] = ISSUE_DAYS,
    key_type: KeyType = KEY_TYPE,
    p12: Annotated[bool, typer.Option("--p12", help="In one file with a password too, for phones.")] = False,
    p12_password_file: Annotated[
        Path | None, typer.Option(metavar="FILE", help="That password.", show_default="a new one, printed")
    ] = None,
    renew: Annotated[bool, typer.Option("--renew", help="Replace one that still holds.")] = False,
) -> None:
    """Make a key and a certificate for a host or a person, who is then known by NAME."""
    from espudp.host import keyfiles
    from espudp.host.pki import Order

    password = None
    if p12_password_file is not None:
        password = keyfiles.read_secret(p12_password_file, what="password file").strip()
        if not password:
            raise ConfigError(
                f"the password file {p12_password_file} is empty",
                field="p12-password-file",
                remedy="Write a strong one into it, or leave the option out.",
            )
    authority = _authority(directory)
    order = Order(san=tuple(san or ()), key_type=key_type, days=days, renew=renew)
    issued = authority.issue(name, order, _now())
    facts = issued.record.facts
    typer.echo(f"Issued {_called(facts)} ({facts.key}, until {facts.period.end:%Y-%m-%d}).")
    typer.echo(f"  certificate: {issued.certificate}")
    typer.echo(f"  key:         {issued.key}")
    if p12 or password is not None:
        file, used = authority.export(issued, password)
        typer.echo(f"  both and the CA's: {file}")
        if password is None:
            typer.echo(f"  its password: {used.decode()}")
    own = f"--cert {issued.certificate.name} --key {issued.key.name} --ca ca.pem"
    typer.echo(f"There, with a copy of them, and of ca.pem and crl.pem in {authority.directory}:")
    if "@" not in name:
        typer.echo(f"  espudp listen {own} --crl crl.pem")
    typer.echo(f"  espudp connect SERVER {own}")


@app.command()
@reported
def show(
    what: Annotated[
        str | None, typer.Argument(metavar="NAME|FILE", help="One name, or a file with certificates.")
    ] = None,
    directory: Directory = None,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Show what the CA has issued, one of its certificates, or those in any file."""
    from espudp.host.certfiles import load_certificates
    from espudp.host.pki import facts_in

    if what is not None and Path(what).is_file():
        found = [facts_in(der) for der in load_certificates([Path(what)])]
        _print([_dump(facts) for facts in found], "certificates", as_json=as_json)
        return
    authority = _authority(directory)
    authority.keep_crl(_now())
    records = [one for one in authority.records(_now()) if what is None or one.is_called(what)]
    if what is not None:
        if not records:
            raise ConfigError(
                f"there is neither a certificate nor a file called '{what}'",
                field="name",
                remedy="See all there is: espudp pki show",
            )
        dumped = [_dump(one.facts) | {"state": one.state.value} for one in records]
        _print(dumped, "certificates", as_json=as_json)
        return
    _show_all(authority, records, as_json=as_json)


@app.command()
@reported
def revoke(
    name: Annotated[
        str | None, typer.Argument(metavar="NAME|SERIAL", help="Whose; without one, the CRL is made anew.")
    ] = None,
    directory: Directory = None,
) -> None:
    """Take back every certificate of a name: it is put on the CRL, which listeners have to be given."""
    authority, now = _authority(directory), _now()
    if name is None:
        authority.write_crl(authority.revoked(), now)
    for record in authority.revoke(name, now) if name is not None else ():
        typer.echo(f"Revoked {_called(record.facts)}, serial {record.serial}.")
    typer.echo(f"The CRL holds until {authority.crl_end():%Y-%m-%d}: {authority.crl_file}")
    typer.echo("Copy it over the one that listeners have, who notice by themselves:")
    typer.echo(f"  espudp listen ... --crl {authority.crl_file.name}")


@app.command()
@reported
def ocsp(
    name: Annotated[str, typer.Argument(metavar="NAME|SERIAL", help="Whose.")],
    directory: Directory = None,
    days: Annotated[int, typer.Option(min=1, max=LONGEST, help="How long it holds.")] = OCSP_DAYS,
) -> None:
    """Say, signed by the CA, that a certificate is not revoked: for its owner to show to peers."""
    for file in _authority(directory).answer(name, days, _now()):
        typer.echo(f"Wrote {file}, which holds for {days} days. Its owner shows it:")
        typer.echo(f"  espudp listen ... --ocsp {file.name}")


def _show_all(authority: Authority, records: list[Record], *, as_json: bool) -> None:
    facts = authority.facts
    if as_json:
        issued = [_dump(one.facts) | {"state": one.state.value} for one in records]
        crl_end = authority.crl_end().isoformat()
        typer.echo(json.dumps({"ca": _dump(facts), "crl_until": crl_end, "certificates": issued}, indent=2))
        return
    typer.echo(
        f"CA '{facts.subject}' ({facts.key}, until {facts.period.end:%Y-%m-%d}) in {authority.directory}"
    )
    typer.echo(f"CRL until {authority.crl_end():%Y-%m-%d}, with {len(authority.revoked())} on it")
    if not records:
        typer.echo("Nothing has been issued: espudp pki issue NAME")
        return
    from rich.console import Console
    from rich.table import Table

    table = Table("name", "key", "until", "state", "serial", box=None, pad_edge=False)
    for one in records:
        until = f"{one.facts.period.end:%Y-%m-%d}"
        table.add_row(_called(one.facts), one.facts.key, until, one.state.value, one.serial)
    Console().print(table)


def _print(dumped: list[dict[str, Any]], title: str, *, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps({title: dumped}, indent=2))
        return
    for number, one in enumerate(dumped):
        if number:
            typer.echo()
        for key, value in one.items():
            text = ", ".join(value) if isinstance(value, list) else value
            if text not in ("", False):
                typer.echo(f"{key.replace('_', ' ') + ':':14}{'yes' if text is True else text}")


def _dump(facts: Facts) -> dict[str, Any]:
    return {
        "subject": facts.subject,
        "names": list(facts.names),
        "issuer": facts.issuer,
        "serial": f"{facts.serial:x}",
        "from": facts.period.begin.isoformat(),
        "until": facts.period.end.isoformat(),
        "key": facts.key,
        "ca": facts.is_ca,
        "sha256": facts.fingerprint.hex(),
    }


def _called(facts: Facts) -> str:
    return ", ".join(facts.names) or facts.subject


def _authority(directory: Path | None) -> Authority:
    from espudp.host.pki import Authority, default_directory

    return Authority(directory or default_directory())


def _option(directory: Path | None) -> str:
    return f" --dir {directory}" if directory else ""


def _now() -> datetime:
    return datetime.now(UTC)
