"""`espudp status`: a snapshot as people and as programs see it."""

import copy
import json
from typing import Any

import pytest
from rich.console import Console

from espudp.cli import tables
from espudp.errors import ConfigError, HostError
from espudp.host import control
from tests.unit.cli.conftest import Program

IN, OUT = 0x983360BB, 0x619BBB09

SA: dict[str, Any] = {
    "connection": 1,
    "pair": IN,
    "direction": "in",
    "spi": IN,
    "suite": "aes128gcm16",
    "state": "active",
    "path": "192.168.77.2:4500 -> 203.0.113.2:4500",
    "local": ["10.99.0.2/32"],
    "remote": ["10.99.0.0/24", "10.1.0.0/16"],
    "inner_mtu": 1438,
    "sequence": 14304,
    "replay_window": 1024,
    "packets": 14300,
    "octets": 760_123,
    "lifetime": {
        "soft_seconds": 3000.0,
        "hard_seconds": 3600.0,
        "soft_bytes": 1_000_000,
        "hard_bytes": 2_000_000,
        "soft_packets": None,
        "hard_packets": 15_000,
    },
    "age": 65.0,
    "soft_seconds_left": 2935.0,
    "hard_seconds_left": 3535.0,
    "drops": {"replay": 3, "ICV": 1},
}

PROCESS: dict[str, Any] = {
    "name": "esp0",
    "role": "connect",
    "pid": 77,
    "started": 0.0,
    "device": "esp0",
    "mtu": 1438,
    "addresses": ["10.99.0.2/32"],
    "routes": ["10.1.0.0/16"],
    "ike_ports": [500],
    "plain_esp": False,
    "ports": [500, 4500],
    "dns": ["10.1.0.53"],
    "dns_domains": ["corp.example"],
    "send_errors": {"Network is unreachable": 2},
    "send_drops": {},
    "tun_errors": {},
    "offloads": ["CHECKSUM", "TSO4", "TSO6"],
    "limits": ["UDP goes through the TUN device packet by packet."],
    "workers": [
        {
            "worker": 0,
            "pid": 77,
            "silent": False,
            "cpu_seconds": 1.5,
            "memory_octets": 52_000_000,
            "handed_over": 0,
            "pairs": 1,
            "packets": {"in": 14300, "out": 14301},
            "octets": {"in": 760_123, "out": 760_456},
        }
    ],
    "tunnel": {
        "connections": [
            {
                "connection": 1,
                "phase": "established",
                "initiator": True,
                "local_identity": "me@example.org",
                "remote_identity": "gw.example.org",
                "path": "192.168.77.2:4500 -> 203.0.113.2:4500",
                "nat": {"local": True, "remote": False},
                "addresses": ["10.99.0.2"],
                "peer_addresses": [],
                "spi_i": "0011223344556677",
                "spi_r": "8899aabbccddeeff",
                "suite": "aes256gcm16-prfsha384-curve25519",
                "established_for": 65.0,
                "silent_for": 2.0,
                "rekey_in": 14335.0,
                "expires_in": 17215.0,
                "waiting": 1,
                "children": [],
            }
        ],
        "sas": [
            SA,
            {
                **SA,
                "direction": "out",
                "spi": OUT,
                "sequence": 67164,
                "packets": 67164,
                "replay_window": 0,
                "drops": {},
            },
        ],
        "mtus": {"1": 1438},
        "drops": {"cookie missing": 4, "runt": 0},
    },
}


def shown(process: dict[str, Any], width: int = 80) -> str:
    console = Console(width=width, no_color=True)
    with console.capture() as capture:
        console.print(tables.process_view(process))
    return capture.get()


def test_ikev1_is_told_from_ikev2() -> None:
    (connection,) = PROCESS["tunnel"]["connections"]
    v1 = {**connection, "ike_version": 1, "exchange": "aggressive", "nat_traversal": "RFC 3947"}
    v1["vendor_ids"] = ["strongSwan", "DPD"]
    process = {**PROCESS, "tunnel": {**PROCESS["tunnel"], "connections": [v1]}}
    assert "IKEv1, aggressive mode, NAT traversal by RFC 3947" in " ".join(shown(process, 160).split())
    assert "it says it has strongSwan, DPD" in " ".join(shown(process, 160).split())
    assert "IKEv1" not in shown(PROCESS, 160)
    assert "says" not in shown(PROCESS, 160)


@pytest.mark.parametrize("width", [80, 160])
def test_everything_is_shown(width: int) -> None:
    text = shown(PROCESS, width)
    assert max(map(len, text.splitlines())) <= width
    for fact in (
        *("esp0", "connect", "10.99.0.2", "UDP 500, 4500", "pid 77", "DNS 10.1.0.53 for corp.example"),
        *("gw.example.org", "me@example.org", "203.0.113.2:4500", "192.168.77.2:4500", "established"),
        *("this side", "1438", "aes256gcm16-prfsha384-curve25519", "0011223344556677", "8899aabbccddeeff"),
        *("heard 2 s ago", "new keys in 3 h 58 min", "ends in 4 h 46 min", "requests under way: 1"),
        *("aes128gcm16", "active", "10.99.0.2/32 <=> 10.99.0.0/24, 10.1.0.0/16"),
        *("983360bb", "619bbb09", "14304", "1024", "14300", "760 kB", "67164"),
        *("48 min", "58 min", "240 kB", "1.24 MB", "700 pkts"),
        *("offloads CHECKSUM TSO4 TSO6", "slower than it could be UDP goes through the TUN device packet by"),
        *("replay 3, ICV 1", "cookie missing 4", "sending: Network is unreachable 2"),
    ):
        assert fact in " ".join(text.split())
    assert "runt" not in text


def test_what_each_worker_does_and_costs() -> None:
    process = copy.deepcopy(PROCESS)
    assert "handed over" not in shown(process)  # one process is no crowd
    other = {"worker": 1, "pid": 4_194_304, "cpu_seconds": 12345.6, "handed_over": 123_456_789}
    process["workers"].append({**process["workers"][0], **other, "packets": {"in": 10**10, "out": 10**10}})
    text = shown(process)
    assert max(map(len, text.splitlines())) <= 80
    assert "1 4194304 12345.6 s 52 MB 1 10000000000 10000000000 123456789" in " ".join(text.split())
    assert "worker 1" in text  # whose the pair is: its inbound SPI is odd
    process["workers"][1]["silent"] = True
    assert "1 4194304 no answer 1 10000000000" in " ".join(shown(process).split())


def test_a_peer_that_is_being_dialled() -> None:
    process = copy.deepcopy(PROCESS)
    process["tunnel"]["sas"] = []
    process["tunnel"]["connections"][0] |= {
        **{"phase": "connecting", "remote_identity": "", "local_identity": "", "path": None, "nat": None},
        **{"established_for": None, "silent_for": None, "rekey_in": None, "expires_in": None, "suite": ""},
    }
    assert "#1 the peer" in shown(process)
    assert "connecting" in shown(process)


def test_manual_keys_and_an_expired_sa() -> None:
    process = copy.deepcopy(PROCESS)
    process["tunnel"]["connections"] = []
    for sa in process["tunnel"]["sas"]:
        unlimited = dict.fromkeys(SA["lifetime"])
        sa |= {"connection": -1, "state": "expired", "hard_seconds_left": None, "lifetime": unlimited}
        sa |= {"soft_seconds_left": -1.0}
    text = shown(process)
    assert "#1 manual keys  203.0.113.2:4500  at 192.168.77.2:4500" in text
    assert "expired" in text
    assert "due" in text
    assert "never" in text


def test_a_manual_peer_that_is_to_be_learnt() -> None:
    process = copy.deepcopy(PROCESS)
    process["tunnel"]["connections"] = []
    for sa in process["tunnel"]["sas"]:
        sa["path"] = "0.0.0.0:4500 -> 0.0.0.0"
    assert "manual keys  peer not heard of yet" in shown(process)


def test_a_name_is_no_path(program: Program) -> None:
    outcome = program("status", "../esp0")
    assert outcome.code == 2
    assert "cannot name a process" in outcome.err


def test_no_peer() -> None:
    process = copy.deepcopy(PROCESS)
    process["tunnel"] |= {"connections": [], "sas": []}
    process["offloads"] = []
    assert "no peer" in shown(process)
    assert "no offloads" in shown(process)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.4, "0 s"),
        (119, "119 s"),
        (120, "2 min"),
        (7199, "119 min"),
        (7200, "2 h 0 min"),
        (200_000, "2 d 7 h"),
    ],
)
def test_durations(seconds: float, text: str) -> None:
    assert tables.duration(seconds) == text


@pytest.mark.parametrize(
    ("number", "text"),
    [(0, "0 B"), (999, "999 B"), (1000, "1 kB"), (999_950, "1 MB"), (12_345_678, "12.3 MB")],
)
def test_octets(number: int, text: str) -> None:
    assert tables.octets(number) == text


def test_the_json_is_what_the_process_said(program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str | None, str]] = []

    def request(name: str | None, command: str) -> list[dict[str, Any]]:
        asked.append((name, command))
        return [PROCESS]

    monkeypatch.setattr(control, "request", request)
    assert json.loads(program("status", "--json").out) == {"processes": [PROCESS]}
    assert "gw.example.org" in program("status", "esp0").out
    assert asked == [(None, "status"), ("esp0", "status")]


def test_nothing_runs(program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control, "request", lambda name, command: [])
    outcome = program("status")
    assert (outcome.code, outcome.out) == (0, "No espudp is running on this host.\n")
    assert json.loads(program("status", "--json").out) == {"processes": []}


@pytest.mark.parametrize(("error", "code"), [(ConfigError("no esp9"), 2), (HostError("may not"), 1)])
def test_what_goes_wrong(
    program: Program, monkeypatch: pytest.MonkeyPatch, error: Exception, code: int
) -> None:
    def request(name: str | None, command: str) -> list[dict[str, Any]]:
        raise error

    monkeypatch.setattr(control, "request", request)
    assert program("status", "esp9").code == code
