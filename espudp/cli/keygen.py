"""`espudp keygen`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from espudp.cli import parsing
from espudp.cli.errors import reported
from espudp.errors import ConfigError

if TYPE_CHECKING:
    from espudp.manual import ManualPair
    from espudp.wire.address import UdpAddress

# RFC 8221 section 3: AES-CBC is what suits manual keys.
SUITE = "aes256-sha256"
NETWORK = "10.98.0.0/30"
SERVER_FILE, CLIENT_FILE = "server.toml", "client.toml"


@reported
def keygen(
    key: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Where our private key is kept.", show_default="/etc/espudp/key"),
    ] = None,
    psk: Annotated[bool, typer.Option("--psk", help="Make and print a strong pre-shared key.")] = False,
    manual: Annotated[
        bool, typer.Option("--manual", help="A pair of key files for two hosts without IKE.")
    ] = False,
    server: Annotated[
        str | None,
        typer.Option(metavar="ADDR[:PORT]", help="Where the server is reached.", show_default="this host"),
    ] = None,
    suite: Annotated[str, typer.Option(metavar="NAME", help="Such as aes128-sha256.")] = SUITE,
    network: Annotated[str, typer.Option(metavar="CIDR", help="Inside the tunnel, for both ends.")] = NETWORK,
    server_subnet: Annotated[
        list[str] | None, typer.Option(metavar="CIDR", help="Behind the server.")
    ] = None,
    client_subnet: Annotated[
        list[str] | None, typer.Option(metavar="CIDR", help="Behind the client.")
    ] = None,
    fresh_keys: Annotated[
        bool, typer.Option("--fresh-keys", help="The pair serves for one start only; AES-GCM needs that.")
    ] = False,
    directory: Annotated[
        Path, typer.Option("--out", "-o", metavar="DIR", help="Where to write the two files.")
    ] = Path(),
    force: Annotated[bool, typer.Option("--force", help="Overwrite them.")] = False,
) -> None:
    """Print our public key, for `--peer-key` on the other host; a key is made if there is none.

    With --psk a pre-shared key is made instead, and printed. With --manual the keys of a tunnel without IKE
    are made: two files, mode 0600, one for the server, which waits, and one for the client, which knows where
    the server is and may be behind a NAT.
    """
    from espudp.host import keyfiles

    if psk:
        typer.echo(keyfiles.generate_psk().decode())
        return
    if not manual:
        path = key or keyfiles.default_key_file()
        own, made = keyfiles.obtain_key(path)
        if made:
            typer.echo(f"Made a private key: {path}", err=True)
        typer.echo(keyfiles.show_public_key(own.public))
        return
    from espudp.crypto.suites import parse_esp_suite
    from espudp.manual import ManualPair

    pair = ManualPair(
        suite=parse_esp_suite(suite),
        server=_server_address(server),
        network=parsing.networks([network], "--network")[0],
        server_subnets=parsing.selectors(server_subnet or (), "--server-subnet"),
        client_subnets=parsing.selectors(client_subnet or (), "--client-subnet"),
        fresh_keys=fresh_keys,
    )
    _write(pair, directory, force=force)


def _write(pair: ManualPair, directory: Path, *, force: bool) -> None:
    from espudp.host import keyfiles
    from espudp.manual import emit_manual, generate_pair

    files = directory / SERVER_FILE, directory / CLIENT_FILE
    if not force:
        for file in files:  # all or none
            if file.exists():
                raise ConfigError(
                    f"{file} exists already",
                    field="out",
                    remedy="choose another directory with --out, or --force",
                )
    for file, config in zip(files, generate_pair(pair, os.urandom), strict=True):
        keyfiles.write_secret(file, emit_manual(config).encode(), overwrite=force)
    server_file, client_file = files
    typer.echo(f"On {pair.server.ip}, the server:    espudp listen --manual {server_file}")
    typer.echo(f"On the other host, with a copy there: espudp connect --manual {client_file}")


def _server_address(text: str | None) -> UdpAddress:
    from espudp.host.addresses import outward_address
    from espudp.manual import DEFAULT_PORT
    from espudp.wire.address import UdpAddress

    if text is None:
        return UdpAddress(outward_address(), DEFAULT_PORT)
    ip, colon, port = text.rpartition(":")
    if not colon or (":" in ip and not ip.endswith("]")):  # no port, or a bare IPv6 address
        ip, port = text, str(DEFAULT_PORT)
    ip = parsing.address(ip.removeprefix("[").removesuffix("]"), "--server")
    return UdpAddress(ip, parsing.port(port, "--server"))
