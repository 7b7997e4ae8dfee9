"""A benchmark run, short as it can be: real tunnels, real load, and nothing left behind."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchmarks.agent import Agent
from benchmarks.lab import ROOT, Lab, TunnelError, lab
from benchmarks.measure import FLOOD_PORT, first_answer
from benchmarks.responder import measure
from benchmarks.tunnels.base import Tunnel
from benchmarks.tunnels.registry import choose
from benchmarks.udp import Flood
from tests.host.support import descendants

pytestmark = [pytest.mark.root, pytest.mark.tun]

SERVER = "10.98.0.1"  # on the loopback device of the lab's server


def start(folder: Path, *arguments: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "benchmarks", "--quick", "--rounds", "1", *arguments],
        cwd=ROOT,
        env={**os.environ, "TMPDIR": str(folder)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def ours() -> Tunnel:
    (tunnel,) = choose("espudp")
    return tunnel


@pytest.mark.iperf3
def test_a_run(tmp_path: Path) -> None:
    folder, saved, plot = tmp_path / "tmp", tmp_path / "run.json", tmp_path / "plot.svg"
    folder.mkdir()
    files = ["--json", str(saved), "--plot", str(plot)]
    process = start(folder, "--peers", "ceiling", "--only", "tcp,rtt,memory,start", *files)
    out, err = process.communicate(timeout=120)
    assert (process.returncode, err) == (0, "")
    assert "TCP up, Gbit/s" in out
    assert "espudp / I/O ceiling: TCP up" in out
    espudp, ceiling = json.loads(saved.read_text())["tunnels"]
    assert (espudp["name"], ceiling["name"]) == ("espudp", "ceiling")
    for tunnel in (espudp, ceiling):
        assert tunnel["problems"] == []
        assert min(figure["median"] for figure in tunnel["figures"].values()) > 0
        assert {"tcp_up", "tcp_down", "rtt_idle", "cpu_client", "memory_server"} < set(tunnel["figures"])
    assert plot.read_text().startswith("<?xml")
    assert descendants(folder) == []
    assert list(folder.iterdir()) == []


@pytest.mark.iperf3
def test_ctrl_c_ends_everything(tmp_path: Path) -> None:
    process = start(tmp_path, "--peers", "espudp", "--only", "tcp")
    deadline = time.monotonic() + 60
    while not any("iperf3\0--client" in command for command in descendants(tmp_path)):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert (process.returncode, err.strip()) == (1, "Interrupted.")
    assert descendants(tmp_path) == []
    assert list(tmp_path.iterdir()) == []


def test_udp_is_counted() -> None:
    with lab() as place:
        with (
            Agent(place, place.server, "flood", "receive", SERVER, FLOOD_PORT) as receiver,
            Agent(place, place.server, "flood", "send", SERVER, FLOOD_PORT) as sender,
        ):
            receiver.answer()
            flood = Flood(sender, receiver, seconds=0.2)
            trial = flood.trial(64, 5000.0)
            rate = flood.highest_rate(1300, steps=2)
        assert trial.received == trial.sent == pytest.approx(1000, rel=0.1)
        assert rate > 1000


def test_handshakes_are_counted() -> None:
    with lab() as place:
        served = measure(ours(), place, seconds=0.5)
    assert served.handshakes >= 2
    assert served.rate > 2
    assert 0 < served.cpu_milliseconds < 500


def test_a_tunnel_that_does_not_come_up_says_so() -> None:
    with lab() as place, pytest.raises(TunnelError, match="gave up"):
        first_answer(place, "10.96.0.1", lambda: _give_up(place))


def _give_up(_: Lab) -> None:
    raise TunnelError("gave up")
