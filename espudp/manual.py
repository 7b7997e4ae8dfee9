"""Manual keying (RFC 4301 section 4.5.1): both SAs of a tunnel from a TOML text, without IKE.

A file describes one end. Its fields, all of `[inbound]`, `[outbound]` and those marked * required:

    suite = "aes256-sha256"            * both directions
    peer = "203.0.113.7:4500"          * or "learn": wherever its first authentic packet comes from
    port = 4500                        our UDP port
    addresses = ["10.98.0.1"]          ours inside the tunnel
    local = ["10.98.0.1/32"]           * networks (selectors) at our end ...
    remote = ["10.98.0.2/32"]          * ... and at the peer's
    keepalive = false                  true at the end that is behind a NAT (RFC 3948 section 4)
    replay_window = 0                  in packets; 0: no anti-replay service, see below
    fresh_keys = false                 a promise that counter mode needs, see below

    [inbound]                          and [outbound] likewise, which is the peer's [inbound]
    spi = 0x1f2e3d4c
    encryption_key = "hex"             the cipher's key; AEAD: followed by the 4-octet salt
    integrity_key = "hex"              the HMAC's key; AEAD: none

    [lifetime]                         optional: soft_seconds, hard_seconds, soft_bytes, ...

Without IKE nobody makes new keys at a restart. So the sequence number starts again from 1 with the same
keys, which a replay window would take for an attack (RFC 4303 section 5 has it off for manual keys), and
which makes a counter-mode cipher repeat its nonces: RFC 8221 section 3 forbids those with manual keys.
`fresh_keys = true` promises new keys for every start and allows both.
"""

import ipaddress
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from espudp.crypto.aead import CipherKeys
from espudp.crypto.random import Rng
from espudp.crypto.suites import EspSuite, parse_esp_suite
from espudp.errors import ConfigError
from espudp.esp.replay import DEFAULT_WINDOW, MAX_WINDOW, MIN_WINDOW
from espudp.esp.sa import Lifetime
from espudp.wire.address import UdpAddress
from espudp.wire.selectors import TrafficSelector

LEARN = "learn"

# RFC 3948 section 2: the port of UDP-encapsulated ESP.
DEFAULT_PORT = 4500
MAX_PORT = 0xFFFF

# RFC 4303 section 2.1: 0 is for local use and 1 to 255 are reserved.
MIN_SPI = 0x100
MAX_SPI = 0xFFFFFFFF

NEW_PAIR = "Write a matching pair of files with `espudp keygen --manual`."


@dataclass(frozen=True, slots=True, kw_only=True)
class ManualConfig:
    """One end of a manually keyed tunnel. `keys_in` and `keys_out` hide themselves from `repr`."""

    suite: EspSuite
    spi_in: int
    spi_out: int
    keys_in: CipherKeys
    keys_out: CipherKeys
    local: tuple[TrafficSelector, ...]
    remote: tuple[TrafficSelector, ...]
    peer: UdpAddress | None
    """None: learn it from the first authentic packet, and follow it."""
    port: int = DEFAULT_PORT
    """Our UDP port."""
    addresses: tuple[str, ...] = ()
    """Ours inside the tunnel, without a prefix length."""
    keepalive: bool = False
    """We are behind a NAT, whose mapping is ours to keep (RFC 3948 section 4)."""
    replay_window: int = 0
    """In packets; 0: no anti-replay service."""
    fresh_keys: bool = False
    """The keys are new at every start."""
    lifetime: Lifetime = field(default_factory=Lifetime)

    @property
    def learn_peer(self) -> bool:
        """Whether the peer's address follows its authentic packets."""
        return self.peer is None


def parse_manual(text: str) -> ManualConfig:
    """Read one end's file. Raises ConfigError, which names the field and never shows a key."""
    try:
        document = tomllib.loads(text)
    except RecursionError:
        raise ConfigError("the key file is nested too deeply", field="manual", remedy=NEW_PAIR) from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"the key file is not TOML: {error}", field="manual", remedy=NEW_PAIR) from None
    table = _Table("", document)
    suite = parse_esp_suite(table.text("suite"))
    inbound, outbound = table.table("inbound"), table.table("outbound")
    config = ManualConfig(
        suite=suite,
        spi_in=inbound.integer("spi", MIN_SPI, MAX_SPI),
        spi_out=outbound.integer("spi", MIN_SPI, MAX_SPI),
        keys_in=_parse_keys(inbound, suite),
        keys_out=_parse_keys(outbound, suite),
        local=_parse_selectors(table, "local"),
        remote=_parse_selectors(table, "remote"),
        peer=_parse_peer(table),
        port=table.integer("port", 1, MAX_PORT, DEFAULT_PORT),
        addresses=tuple(_parse_address(table, item) for item in table.texts("addresses", required=False)),
        keepalive=table.flag("keepalive"),
        replay_window=_parse_replay_window(table),
        fresh_keys=table.flag("fresh_keys"),
        lifetime=_parse_lifetime(table.table("lifetime", required=False)),
    )
    table.finish()
    _check(config)
    return config


def _check(config: ManualConfig) -> None:
    """What no single field shows."""
    suite = config.suite
    if suite.encr.counts and not config.fresh_keys:
        raise ConfigError(
            f"{suite.name} would repeat its nonces when a host starts again with the same keys",
            field="suite",
            remedy="Take a CBC suite such as aes256-sha256 (RFC 8221 section 3), or promise new keys "
            "for every start: fresh_keys = true, which keygen --fresh-keys writes.",
        )
    if suite.encr.counts and config.keys_in.encr == config.keys_out.encr:
        raise ConfigError(
            f"both directions have the same key, and {suite.name} would use each nonce twice",
            field="encryption_key",
            remedy=NEW_PAIR,
        )
    if suite.esn and not config.replay_window:
        raise ConfigError(
            "extended sequence numbers need a replay window to be followed (RFC 4303 section 2.2.1)",
            field="replay_window",
            remedy="Set replay_window = 1024, or take the suite without -esn.",
        )


def _parse_keys(table: "_Table", suite: EspSuite) -> CipherKeys:
    encr = table.hex("encryption_key", suite.encr.keymat_octets, suite.name)
    integ = table.hex("integrity_key", suite.integ.key_octets, suite.name) if suite.integ else b""
    table.finish()
    return CipherKeys(encr, integ)


def _parse_selectors(table: "_Table", name: str) -> tuple[TrafficSelector, ...]:
    selectors = []
    for text in table.texts(name):
        try:
            selectors.append(TrafficSelector.from_network(text))
        except ValueError:
            raise table.wrong(name, f"'{text}' is not a network", "Write a network as 10.1.0.0/16.") from None
    if not selectors:
        raise table.wrong(name, "no network is listed", 'Write at least one, as in ["10.1.0.0/16"].')
    return tuple(selectors)


def _parse_address(table: "_Table", text: str) -> str:
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        raise table.wrong("addresses", f"'{text}' is not an IP address", "Write it as 10.98.0.1.") from None


def _parse_peer(table: "_Table") -> UdpAddress | None:
    text = table.text("peer")
    if text == LEARN:
        return None
    ip, _, port = text.rpartition(":")
    try:
        address = ipaddress.ip_address(ip.removeprefix("[").removesuffix("]"))
        if not 1 <= int(port) <= MAX_PORT:
            raise ValueError(port)
    except ValueError:
        raise table.wrong(
            "peer",
            f"'{text}' is not an address and a port",
            'Write "203.0.113.7:4500", "[2001:db8::7]:4500" or "learn".',
        ) from None
    return UdpAddress(str(address), int(port))


def _parse_replay_window(table: "_Table") -> int:
    window = table.integer("replay_window", 0, MAX_WINDOW, 0)
    if 0 < window < MIN_WINDOW:
        raise table.wrong(
            "replay_window", f"{window} is too small", f"Choose {MIN_WINDOW} to {MAX_WINDOW}, or 0 for none."
        )
    return window


def _parse_lifetime(table: "_Table") -> Lifetime:
    limits = {
        field.name: table.integer(field.name, 1, 1 << 63)
        for field in fields(Lifetime)
        if table.has(field.name)
    }
    table.finish()
    for unit in ("seconds", "bytes", "packets"):
        soft, hard = limits.get(f"soft_{unit}"), limits.get(f"hard_{unit}")
        if soft is not None and hard is not None and soft >= hard:
            raise table.wrong(
                f"soft_{unit}", f"{soft} does not come before hard_{unit}, {hard}", "Choose a lower one."
            )
    return Lifetime(**limits)


class _Table:
    """One TOML table whose fields are asked for by name and type; `finish` refuses those nobody asked for."""

    def __init__(self, name: str, content: Mapping[str, Any]) -> None:
        self._name = name
        self._left = dict(content)

    def wrong(self, field: str, problem: str, remedy: str) -> ConfigError:
        where = f"[{self._name}] {field}" if self._name else field
        return ConfigError(f"{where}: {problem}", field=field, remedy=remedy)

    def has(self, name: str) -> bool:
        return name in self._left

    def _take(self, name: str, kind: type, meaning: str) -> Any:
        if name not in self._left:
            raise self.wrong(name, "missing from the key file", NEW_PAIR)
        value = self._left.pop(name)
        # The type alone, never the value: it may be a key. In Python, True is an int, and not here.
        if type(value) is not kind:
            raise self.wrong(
                name, f"must be {meaning}", f"Write it as espudp keygen does: {name} = {_SAMPLES[kind]}."
            )
        return value

    def text(self, name: str) -> str:
        return str(self._take(name, str, "text in quotes"))

    def texts(self, name: str, *, required: bool = True) -> list[str]:
        if not required and not self.has(name):
            return []
        items = self._take(name, list, "a list of texts")
        if not all(isinstance(item, str) for item in items):
            raise self.wrong(name, "must be a list of texts", f"Write it as {name} = {_SAMPLES[list]}.")
        return [str(item) for item in items]

    def flag(self, name: str) -> bool:
        return bool(self._take(name, bool, "true or false")) if self.has(name) else False

    def integer(self, name: str, low: int, high: int, default: int | None = None) -> int:
        if default is not None and not self.has(name):
            return default
        value = int(self._take(name, int, "a whole number"))
        if not low <= value <= high:
            raise self.wrong(name, f"{value} is out of range", f"Choose a number from {low} to {high}.")
        return value

    def hex(self, name: str, octets: int, suite: str) -> bytes:
        text = self.text(name)
        try:
            key = bytes.fromhex(text)
        except ValueError:
            raise self.wrong(
                name, "is not hexadecimal", f"Write {octets} octets as {2 * octets} digits."
            ) from None
        if len(key) != octets:
            raise self.wrong(name, f"has {len(key)} octets, and {suite} takes {octets}", NEW_PAIR)
        return key

    def table(self, name: str, *, required: bool = True) -> "_Table":
        """A table within; an empty one where it may be missing and is."""
        if not required and not self.has(name):
            return _Table(name, {})
        return _Table(name, self._take(name, dict, "a table"))

    def finish(self) -> None:
        for name in self._left:
            raise self.wrong(
                name, "is not a field of a key file", "Look at one that `espudp keygen --manual` writes."
            )


_SAMPLES = {str: '"..."', list: '["...", "..."]', bool: "true", int: "1", dict: "{ ... }"}


def emit_manual(config: ManualConfig) -> str:
    """The text that `parse_manual` reads back as the same configuration. It contains the keys."""
    lines = [
        "# One end of a manually keyed espudp tunnel. Secret: keep it readable by its owner alone.",
        f'suite = "{config.suite.name}"',
        f'peer = "{config.peer if config.peer else LEARN}"',
        f"port = {config.port}",
        f"addresses = {_emit_list(config.addresses)}",
        f"local = {_emit_list(config.local)}",
        f"remote = {_emit_list(config.remote)}",
        f"keepalive = {_emit_flag(config.keepalive)}  # true at the end that is behind a NAT",
        f"replay_window = {config.replay_window}  # 0: off, for a restart begins again at number 1",
        f"fresh_keys = {_emit_flag(config.fresh_keys)}  # true: a promise to make new keys for every start",
        *_emit_sa("inbound", config.spi_in, config.keys_in),
        *_emit_sa("outbound", config.spi_out, config.keys_out),
    ]
    limits = [
        f"{f.name} = {value}"
        for f in fields(Lifetime)
        if (value := getattr(config.lifetime, f.name)) is not None
    ]
    return "\n".join([*lines, *(["", "[lifetime]", *limits] if limits else []), ""])


def _emit_list(items: tuple[object, ...]) -> str:
    return "[" + ", ".join(f'"{item}"' for item in items) + "]"


def _emit_flag(flag: bool) -> str:
    return "true" if flag else "false"


def _emit_sa(name: str, spi: int, keys: CipherKeys) -> list[str]:
    lines = ["", f"[{name}]", f"spi = 0x{spi:08x}", f'encryption_key = "{keys.encr.hex()}"']
    return [*lines, f'integrity_key = "{keys.integ.hex()}"'] if keys.integ else lines


@dataclass(frozen=True, slots=True, kw_only=True)
class ManualPair:
    """What the two files of a pair have in common, apart from what chance gives them."""

    suite: EspSuite
    server: UdpAddress
    """Where the first end is reached; the second one is learnt, since it may be behind a NAT."""
    network: ipaddress.IPv4Network | ipaddress.IPv6Network
    """Inside the tunnel: the first two addresses of it."""
    server_subnets: tuple[TrafficSelector, ...] = ()
    client_subnets: tuple[TrafficSelector, ...] = ()
    fresh_keys: bool = False
    """The promise to make a new pair for every start: see the top of this file."""


def generate_pair(pair: ManualPair, rng: Rng) -> tuple[ManualConfig, ManualConfig]:
    """Both ends of a new tunnel, server first, with fresh keys and SPIs. Raises ConfigError."""
    if pair.network.num_addresses < 4:
        raise ConfigError(
            f"{pair.network} has no room for two addresses",
            field="network",
            remedy="Take a /30 (IPv6: /126) or more.",
        )
    suite, base = pair.suite, pair.network.network_address
    server_ip, client_ip = str(base + 1), str(base + 2)
    server_side = (TrafficSelector.from_network(server_ip), *pair.server_subnets)
    client_side = (TrafficSelector.from_network(client_ip), *pair.client_subnets)
    to_server, to_client = _generate_keys(suite, rng), _generate_keys(suite, rng)
    spi_server, spi_client = _generate_spi(rng), _generate_spi(rng)
    window = DEFAULT_WINDOW if suite.esn or pair.fresh_keys else 0
    server = ManualConfig(
        suite=suite,
        spi_in=spi_server,
        spi_out=spi_client,
        keys_in=to_server,
        keys_out=to_client,
        local=server_side,
        remote=client_side,
        peer=None,
        port=pair.server.port,
        addresses=(server_ip,),
        replay_window=window,
        fresh_keys=pair.fresh_keys,
    )
    client = ManualConfig(
        suite=suite,
        spi_in=spi_client,
        spi_out=spi_server,
        keys_in=to_client,
        keys_out=to_server,
        local=client_side,
        remote=server_side,
        peer=pair.server,
        addresses=(client_ip,),
        keepalive=True,
        replay_window=window,
        fresh_keys=pair.fresh_keys,
    )
    _check(server)
    return server, client


def _generate_keys(suite: EspSuite, rng: Rng) -> CipherKeys:
    return CipherKeys(rng(suite.encr.keymat_octets), rng(suite.integ.key_octets) if suite.integ else b"")


def _generate_spi(rng: Rng) -> int:
    return MIN_SPI + int.from_bytes(rng(8)) % (MAX_SPI - MIN_SPI + 1)
