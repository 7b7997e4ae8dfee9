"""Key files: what is written is read back, and every mistake is named without showing a key."""

import hashlib
import ipaddress
import itertools
import re
from dataclasses import replace

import pytest

from espudp.crypto.random import Rng
from espudp.crypto.suites import ESP_SUITES, EspSuite, parse_esp_suite
from espudp.errors import ConfigError
from espudp.esp.sa import Lifetime
from espudp.manual import ManualConfig, ManualPair, emit_manual, generate_pair, parse_manual
from espudp.wire.address import UdpAddress
from espudp.wire.selectors import TrafficSelector

ENCRYPTION_KEY = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"
INTEGRITY_KEY = "202122232425262728292a2b2c2d2e2f303132333435363738393a3b3c3d3e3f"
OTHER_KEY = ENCRYPTION_KEY[::-1]

TEXT = f"""
suite = "aes256-sha256"
peer = "203.0.113.7:4501"
port = 4502
addresses = ["10.98.0.1"]
local = ["10.98.0.1/32", "10.1.0.0/16"]
remote = ["10.98.0.2/32"]
keepalive = true
replay_window = 64

[inbound]
spi = 0x1f2e3d4c
encryption_key = "{ENCRYPTION_KEY}"
integrity_key = "{INTEGRITY_KEY}"

[outbound]
spi = 0x01020304
encryption_key = "{OTHER_KEY}"
integrity_key = "{INTEGRITY_KEY}"

[lifetime]
soft_packets = 1000
hard_packets = 2000
"""


def seeded(seed: int = 1) -> Rng:
    counter = itertools.count()

    def rng(octets: int) -> bytes:
        return hashlib.shake_256(f"{seed}/{next(counter)}".encode()).digest(octets)

    return rng


def pair_of(suite: EspSuite, **changed: object) -> ManualPair:
    pair = ManualPair(
        suite=suite,
        server=UdpAddress("203.0.113.7", 4500),
        network=ipaddress.ip_network("10.98.0.0/30"),
        fresh_keys=suite.encr.counts,
    )
    return replace(pair, **changed)  # type: ignore[arg-type]


def test_every_field_is_read() -> None:
    config = parse_manual(TEXT)
    assert config.suite.name == "aes256-sha256"
    assert (config.spi_in, config.spi_out) == (0x1F2E3D4C, 0x01020304)
    assert config.keys_in.encr == bytes.fromhex(ENCRYPTION_KEY)
    assert config.keys_in.integ == bytes.fromhex(INTEGRITY_KEY)
    assert config.keys_out.encr == bytes.fromhex(OTHER_KEY)
    assert config.local == (
        TrafficSelector.from_network("10.98.0.1/32"),
        TrafficSelector.from_network("10.1.0.0/16"),
    )
    assert config.remote == (TrafficSelector.from_network("10.98.0.2/32"),)
    assert (config.peer, config.learn_peer) == (UdpAddress("203.0.113.7", 4501), False)
    assert (config.port, config.addresses) == (4502, ("10.98.0.1",))
    assert (config.keepalive, config.replay_window, config.fresh_keys) == (True, 64, False)
    assert config.lifetime == Lifetime(soft_packets=1000, hard_packets=2000)


def test_what_is_emitted_is_read_back() -> None:
    config = parse_manual(TEXT)
    assert parse_manual(emit_manual(config)) == config


@pytest.mark.parametrize("suite", ESP_SUITES, ids=lambda suite: suite.name)
def test_a_generated_pair_fits_together(suite: EspSuite) -> None:
    server, client = generate_pair(pair_of(suite), seeded())
    for config in (server, client):
        assert parse_manual(emit_manual(config)) == config
        assert config.suite == suite
    assert (server.spi_in, server.spi_out) == (client.spi_out, client.spi_in)
    assert (server.keys_in, server.keys_out) == (client.keys_out, client.keys_in)
    assert server.keys_in != server.keys_out
    assert (server.local, server.remote) == (client.remote, client.local)
    assert (server.learn_peer, client.learn_peer) == (True, False)
    assert (server.keepalive, client.keepalive) == (False, True)
    assert (server.addresses, client.addresses) == (("10.98.0.1",), ("10.98.0.2",))
    assert len(server.keys_in.encr) == suite.encr.keymat_octets


def test_subnets_of_a_pair_are_behind_the_right_ends() -> None:
    lan, office = TrafficSelector.from_network("10.1.0.0/16"), TrafficSelector.from_network("10.2.0.0/16")
    pair = pair_of(parse_esp_suite("aes128-sha256"), server_subnets=(lan,), client_subnets=(office,))
    server, client = generate_pair(pair, seeded())
    assert lan in server.local
    assert lan in client.remote
    assert office in client.local
    assert office in server.remote


def test_pairs_are_never_the_same() -> None:
    suite = parse_esp_suite("aes128-sha256")
    one, _ = generate_pair(pair_of(suite), seeded(1))
    other, _ = generate_pair(pair_of(suite), seeded(2))
    assert {one.spi_in, one.spi_out}.isdisjoint({other.spi_in, other.spi_out})
    assert one.keys_in != other.keys_in


def test_spis_keep_clear_of_the_reserved_ones() -> None:
    def zeros(octets: int) -> bytes:
        return bytes(octets)

    server, _ = generate_pair(pair_of(parse_esp_suite("aes128-sha256")), zeros)
    assert server.spi_in == 256


def test_an_inner_network_that_is_too_small_is_refused() -> None:
    pair = pair_of(parse_esp_suite("aes128-sha256"), network=ipaddress.ip_network("10.98.0.0/31"))
    with pytest.raises(ConfigError, match="no room for two addresses"):
        generate_pair(pair, seeded())


def test_counter_mode_needs_the_promise_of_fresh_keys() -> None:
    """RFC 8221 section 3."""
    suite = parse_esp_suite("aes128gcm16")
    with pytest.raises(ConfigError, match="would repeat its nonces") as caught:
        generate_pair(pair_of(suite, fresh_keys=False), seeded())
    assert "aes256-sha256" in caught.value.remedy
    server, _ = generate_pair(pair_of(suite), seeded())
    with pytest.raises(ConfigError, match="would repeat its nonces"):
        parse_manual(emit_manual(server).replace("fresh_keys = true", "fresh_keys = false"))


def test_counter_mode_refuses_one_key_for_both_directions() -> None:
    server, _ = generate_pair(pair_of(parse_esp_suite("aes128gcm16")), seeded())
    same = replace(server, keys_out=server.keys_in)
    with pytest.raises(ConfigError, match="both directions have the same key"):
        parse_manual(emit_manual(same))


def test_esn_needs_a_replay_window() -> None:
    server, _ = generate_pair(pair_of(parse_esp_suite("aes128-sha256-esn")), seeded())
    with pytest.raises(ConfigError, match="replay window"):
        parse_manual(emit_manual(replace(server, replay_window=0)))


def test_ipv6_inside_and_outside() -> None:
    pair = pair_of(
        parse_esp_suite("aes128-sha256"),
        server=UdpAddress("2001:db8::7", 4500),
        network=ipaddress.ip_network("fd00:98::/126"),
    )
    server, client = generate_pair(pair, seeded())
    assert server.addresses == ("fd00:98::1",)
    again = parse_manual(emit_manual(client))
    assert again.peer == UdpAddress("2001:db8::7", 4500)


def test_keys_are_in_no_repr() -> None:
    shown = repr(parse_manual(TEXT))
    for key in (ENCRYPTION_KEY, INTEGRITY_KEY, OTHER_KEY):
        assert key not in shown
        assert repr(bytes.fromhex(key)) not in shown


MISTAKES = [
    ('suite = "aes256-sha256"', "suite = 7", "suite: must be text"),
    ('suite = "aes256-sha256"', "", "suite: missing"),
    ('suite = "aes256-sha256"', 'suite = "rot13"', "rot13"),
    ('suite = "aes256-sha256"', 'suite = "aes128-sha256"', "has 32 octets, and aes128-sha256 takes 16"),
    ('peer = "203.0.113.7:4501"', 'peer = "203.0.113.7"', "not an address and a port"),
    ('peer = "203.0.113.7:4501"', 'peer = "example.org:4500"', "not an address and a port"),
    ('peer = "203.0.113.7:4501"', 'peer = "203.0.113.7:70000"', "not an address and a port"),
    ("port = 4502", "port = 0", "port: 0 is out of range"),
    ("port = 4502", "port = true", "port: must be a whole number"),
    ("port = 4502", "prot = 4502", "prot: is not a field"),
    ('addresses = ["10.98.0.1"]', 'addresses = ["10.98.0.1/24"]', "not an IP address"),
    ('addresses = ["10.98.0.1"]', "addresses = [1]", "must be a list of texts"),
    ('remote = ["10.98.0.2/32"]', "remote = []", "no network is listed"),
    ('remote = ["10.98.0.2/32"]', 'remote = ["10.98.0.2/33"]', "'10.98.0.2/33' is not a network"),
    ("keepalive = true", "keepalive = 1", "keepalive: must be true or false"),
    ("replay_window = 64", "replay_window = -1", "out of range"),
    ("replay_window = 64", "replay_window = 16", "too small"),
    ("spi = 0x1f2e3d4c", "spi = 255", r"\[inbound\] spi: 255 is out of range"),
    ("spi = 0x01020304", "spi = 0x100000000", r"\[outbound\] spi: 4294967296 is out of range"),
    ("[outbound]", "[outbuond]", "outbound: missing"),
    ("hard_packets = 2000", "hard_packets = 1000", "soft_packets: 1000 does not come before"),
    ("hard_packets = 2000", "hard_pakets = 2000", r"\[lifetime\] hard_pakets: is not a field"),
    ("[inbound]", "[inbound", "is not TOML"),
    ("port = 4502", "port = " + "[" * 5000, "nested too deeply"),
    (f'encryption_key = "{OTHER_KEY}"', f'encryption_key = "{OTHER_KEY[2:]}"', "has 31 octets"),
    (f'encryption_key = "{OTHER_KEY}"', f'encryption_key = "x{OTHER_KEY[1:]}"', "is not hexadecimal"),
    (f'encryption_key = "{OTHER_KEY}"', f"encryption_key = 0x{OTHER_KEY[:8]}", "must be text"),
]


@pytest.mark.parametrize(("right", "wrong", "said"), MISTAKES, ids=[wrong[:40] for _, wrong, _ in MISTAKES])
def test_a_mistake_is_named_and_no_key_is_shown(right: str, wrong: str, said: str) -> None:
    assert right in TEXT
    with pytest.raises(ConfigError, match=said) as caught:
        parse_manual(TEXT.replace(right, wrong))
    told = f"{caught.value} {caught.value.remedy}"
    assert caught.value.remedy
    assert not re.search("|".join((ENCRYPTION_KEY[2:], INTEGRITY_KEY[2:], OTHER_KEY[2:])), told)


def test_the_files_of_a_pair_say_what_the_fields_mean() -> None:
    config: ManualConfig
    for config in generate_pair(pair_of(parse_esp_suite("aes128-sha256")), seeded()):
        text = emit_manual(config)
        assert text.startswith("#")
        assert "restart" in text
