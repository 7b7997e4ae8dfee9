"""`listen --connections FILE.toml`: several ways in, each with its own identity, proofs, peers and subnets.

    [office]
    from = ["192.0.2.0/24"]
    psk-file = "office.psk"

    [staff]
    peers = ["*@example.org"]
    id = "vpn.example.org"
    cert = "vpn.pem"
    key = "vpn.key"
    ca = ["ca.pem"]
    subnet = ["10.1.0.0/16"]

The words of a table are those of the command line, without the dashes; files are looked for beside the file.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from espudp.cli import parsing
from espudp.cli.authentication import ListenAuthentication
from espudp.cli.carriage import Carriage
from espudp.cli.eap import ListenEap
from espudp.cli.ikev1 import ListenIkev1
from espudp.cli.options import Keeping
from espudp.cli.reach import ANY, ServedReach
from espudp.cli.selectors import flows
from espudp.cli.sessions import Serving
from espudp.errors import ConfigError

if TYPE_CHECKING:
    from espudp.ike.config import ChildConfig
    from espudp.ike.pad import PadEntry

OPTION = "--connections"

# Far more than anybody writes by hand.
MAX_OCTETS = 1 << 20

# What is a file, or a list of them; and what `peer-key` is if it is not a key.
_FILES = {"psk_file", "cert", "key", "key_password", "eap_users", "xauth_users"}
_LISTS_OF_FILES = {"ca", "crl"}
_LISTS = {"peer_key", "eap_method"}
_SWITCHES = {"rsa_pss", "allow_sha1", "anonymous", "allow_anonymous", "both_proofs", "eap_only", "xauth_chap"}
_TEXTS = {"revocation"}
# Options of `listen` that a table cannot have.
_OF_ALL = (ListenEap, ListenIkev1, ServedReach, Carriage, Serving, Keeping)
# As on the command line, where the field is called otherwise.
_FIELDS = {"key-password-file": "key_password"}


def read_connections(path: Path, child: ChildConfig) -> tuple[PadEntry, ...]:
    """The ways in of a file. `child` is what those carry that name no subnet. Raises ConfigError."""
    try:
        with path.open("rb") as file:
            tables = tomllib.loads(file.read(MAX_OCTETS).decode())
    except OSError as error:
        raise _wrong(f"{path} cannot be read: {error.strerror}", "Check its name.") from None
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise _wrong(
            f"{path} is not TOML: {error}", "Write [name], and lines such as: cert = 'gw.pem'"
        ) from None
    if not tables:
        raise _wrong(f"{path} is empty", "Write a table for each way in: [name]")
    entries: list[PadEntry] = []
    for name, table in tables.items():
        if not isinstance(table, dict):
            raise _wrong(f"{path}: {name} is not in a table", "Write [name] above it.")
        try:
            entries += _entries(name, dict(table), path.parent, child)
        except ConfigError as error:
            raise ConfigError(f"{path}, [{name}]: {error}", field=error.field, remedy=error.remedy) from None
    return tuple(entries)


def _entries(name: str, table: dict[str, Any], folder: Path, child: ChildConfig) -> list[PadEntry]:
    from espudp.ike.identity import Identity
    from espudp.ike.pad import Pattern

    peers = [Pattern.parse(text) for text in _texts(table, "peers")] or [Pattern()]
    networks = parsing.networks(_texts(table, "from"), "from")
    inside = _child(table, child)
    pool = parsing.networks(_texts(table, "pool"), "pool")
    local = _text(table, "id")
    who = ListenAuthentication(**_options(ListenAuthentication, table, folder))
    eap = ListenEap(**_options(ListenEap, table, folder))
    v1 = ListenIkev1(**_options(ListenIkev1, table, folder))
    if table:
        raise _without_meaning(next(iter(table)))
    named = None if local is None else Identity.parse(local)
    made = who.entries(who.psk(), named, eap, v1.users())
    return [
        replace(entry, name=name, peers=tuple(peers), networks=networks, child=inside, pool=pool)
        for entry in made
    ]


def _child(table: dict[str, Any], child: ChildConfig) -> ChildConfig | None:
    """What a way in carries; None: the same as the others."""
    from espudp.ike.narrowing import DYNAMIC
    from espudp.wire.transport import Mode

    subnets = _texts(table, "subnet")
    if "transport" in table and _switch(table, "transport"):
        ours = flows(subnets or (ANY,), "subnet")
        return replace(child, local=ours, remote=(DYNAMIC,), mode=Mode.TRANSPORT)
    if not subnets:
        return None
    if child.mode is Mode.TRANSPORT:
        return replace(child, local=flows(subnets, "subnet"))
    return replace(child, local=parsing.selectors(subnets, "subnet"))


def _options(kind: type[Any], table: dict[str, Any], folder: Path) -> Mapping[str, Any]:
    """The fields of a group of options that a table has, taken out of it."""
    found: dict[str, Any] = {}
    names = {field.name for field in fields(kind)}
    for word in list(table):
        field = _FIELDS.get(word, word.replace("-", "_"))
        read = _reader(field, folder)
        if field in names and read is not None:
            found[field] = read(table, word)
    return found


def _reader(field: str, folder: Path) -> Callable[[dict[str, Any], str], Any] | None:
    if field in _FILES:
        return lambda table, word: folder / _required(table, word)
    if field in _LISTS_OF_FILES:
        return lambda table, word: [folder / text for text in _texts(table, word)]
    if field == "peer_key":
        return lambda table, word: [_beside(text, folder) for text in _texts(table, word)]
    if field in _LISTS:
        return _texts
    if field in _SWITCHES:
        return _switch
    return _required if field in _TEXTS else None


def _beside(text: str, folder: Path) -> str:
    """A public key as it is, a file with such in the folder."""
    file = folder / text
    return str(file) if len(text) < 256 and file.is_file() else text


def _required(table: dict[str, Any], word: str) -> str:
    text = _text(table, word)
    if not text:
        raise _wrong(f"{word} is empty", f"Leave it out, or write {word} = '...'")
    return text


def _text(table: dict[str, Any], word: str) -> str | None:
    value = table.pop(word, None)
    if value is not None and not isinstance(value, str):
        raise _wrong(f"{word} is not a text", f"Write {word} = '...'")
    return value


def _texts(table: dict[str, Any], word: str) -> list[str]:
    """One text, or a list of them."""
    value = table.pop(word, [])
    values = [value] if isinstance(value, str) else value
    if not isinstance(values, list) or not all(isinstance(text, str) for text in values):
        raise _wrong(f"{word} is not a list of texts", f"Write {word} = ['...', '...']")
    return values


def _switch(table: dict[str, Any], word: str) -> bool:
    value = table.pop(word)
    if not isinstance(value, bool):
        raise _wrong(f"{word} is neither true nor false", f"Write {word} = true")
    return value


def _without_meaning(word: str) -> ConfigError:
    of_all = (field.name for kind in _OF_ALL for field in fields(kind))
    if word.replace("-", "_") in of_all:
        return _wrong(f"'{word}' is the same for all ways in", f"Give it to `listen` as --{word}.")
    return _wrong(f"'{word}' means nothing here", "Write the words that `listen` has.")


def _wrong(what: str, remedy: str) -> ConfigError:
    return ConfigError(what, field=OPTION, remedy=remedy)
