"""`espudp demo` without the demo: the drawing, the JSON, and what is said to those who are not root."""

import json
import os
import signal
from collections.abc import Iterator

import pytest
from rich.console import Console

from espudp.cli.drawing import draw
from espudp.errors import HostError
from espudp.host import demo as engine
from espudp.host.demo import DemoOptions, DemoResult, Progress
from espudp.host.tap import Count
from tests.unit.cli.conftest import Program

RESULT = DemoResult(
    suite="aes128gcm16",
    ike_suite="aes256gcm16-prfsha384-curve25519",
    nat="initiator",
    mapping="203.0.113.1:4500",
    server_address="10.99.0.1",
    client_address="10.99.0.2",
    mtu=1438,
    pings=20,
    rtt_ms=0.1649,
    transferred=300_000_000,
    throughput_gbps=0.7654321,
    link=Count(natt=264_237, ike=2, strays=(), plaintext=0, octets=350_000_000, missed=0),
)


@pytest.fixture(autouse=True)
def signals() -> Iterator[None]:
    former = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    yield
    for number, handler in former.items():
        signal.signal(number, handler)


def shown(result: DemoResult) -> str:
    console = Console(width=80, no_color=True)
    with console.capture() as capture:
        console.print(draw(result))
    return capture.get()


def test_the_drawing_has_all_that_was_measured_and_is_straight() -> None:
    text = shown(RESULT)
    lines = text.splitlines()
    assert max(map(len, lines)) <= 80
    for fact in (
        *("client", "router", "server", "espudp connect", "espudp listen", "NAT"),
        *("192.168.77.2", "203.0.113.1", "203.0.113.2", "10.99.0.1", "10.99.0.2", "aes128gcm16"),
        *("0.16 ms", "0.77 Gbit/s", "264237 packets", "0 in the clear", "initiator", "everything held"),
    ):
        assert fact in text
    legs = [line.index("│ 10.99.0.2") for line in lines if "│ 10.99.0.2" in line]
    assert lines[5][legs[0]] == "┬"
    assert lines[7][legs[0]] == "╰"


def test_the_longest_suite_fits() -> None:
    assert "aes256-sha512-esn" in shown(DemoResult(suite="aes256-sha512-esn"))


def program_with(monkeypatch: pytest.MonkeyPatch, result: DemoResult) -> list[DemoOptions]:
    asked: list[DemoOptions] = []

    def run(options: DemoOptions, progress: Progress) -> DemoResult:
        asked.append(options)
        progress("a step")
        return result

    monkeypatch.setattr(engine, "run_demo", run)
    return asked


def test_json(program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = program_with(monkeypatch, RESULT)
    outcome = program("demo", "--json", "--suite", "AES256-SHA512", "--megabytes", "5")
    assert asked == [DemoOptions(suite="aes256-sha512", octets=5_000_000)]
    assert outcome.code == 0
    assert len(outcome.out.splitlines()) == 1
    said = json.loads(outcome.out)
    assert said["ok"] is True
    assert (said["suite"], said["nat"], said["plaintext_leaked"]) == ("aes128gcm16", "initiator", 0)
    assert (said["rtt_ms"], said["throughput_gbps"]) == (0.165, 0.765)
    assert said["packets"] == {"udp_4500": 264_237, "udp_500": 2, "other": 0, "not_inspected": 0}


def test_what_did_not_hold_is_said_and_makes_it_a_failure(
    program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    program_with(monkeypatch, DemoResult(problems=["plaintext on the outside link, 3 times"]))
    outcome = program("demo")
    assert outcome.code == 1
    assert "it failed" in outcome.out
    assert "Plaintext on the outside link, 3 times." in outcome.err
    outcome = program("demo", "--json")
    assert outcome.code == 1
    assert json.loads(outcome.out)["ok"] is False


def test_without_root_it_says_what_is_missing_and_how_to_get_it(
    program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    outcome = program("demo")
    assert outcome.code == 1
    assert "The demo needs root" in outcome.err
    assert "sudo espudp demo" in outcome.err


def test_an_unknown_suite(program: Program) -> None:
    outcome = program("demo", "--suite", "rot13")
    assert outcome.code == 2
    assert "rot13" in outcome.err


def test_a_failure_to_set_up(program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(options: DemoOptions, progress: Progress) -> DemoResult:
        raise HostError("no NAT in this kernel", remedy="load it")

    monkeypatch.setattr(engine, "run_demo", run)
    outcome = program("demo", "--json")
    assert outcome.code == 1
    assert json.loads(outcome.out)["ok"] is False
    assert json.loads(outcome.out)["problems"] == ["no NAT in this kernel"]
    assert "Load it" in outcome.err


@pytest.mark.parametrize(
    ("client", "server", "word"),
    [
        ((True, False), (False, True), "initiator"),
        ((False, True), (True, False), "responder"),
        ((True, True), (True, True), "both"),
        ((False, False), (False, False), "none"),
        ((True, False), (False, False), "disputed"),
    ],
)
def test_both_peers_findings_make_one_word(
    client: tuple[bool, bool], server: tuple[bool, bool], word: str
) -> None:
    ours, theirs = ({"local": local, "remote": remote} for local, remote in (client, server))
    assert engine.nat_word(ours, theirs) == word
