"""`espudp demo` for real: it holds, it notices when something does not, and it leaves nothing behind."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from espudp.errors import HostError
from espudp.host import demo
from espudp.host.demo import DemoOptions, run_demo
from espudp.host.netns import Namespace
from tests.host.support import descendants

pytestmark = [pytest.mark.root, pytest.mark.tun]

PROJECT = Path(__file__).parents[2]
NOBODY = 65534


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """Where the demo puts its files; empty again at the end."""
    yield tmp_path
    assert list(tmp_path.iterdir()) == []


def start(folder: Path, *arguments: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "espudp", "demo", "--json", *arguments],
        cwd=PROJECT,
        env={**os.environ, "TMPDIR": str(folder)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize("suite", ["aes128gcm16", "aes128-sha256", "chacha20poly1305", "aes256-sha512-esn"])
def test_all_of_it_holds(folder: Path, suite: str) -> None:
    process = start(folder, "--suite", suite, "--megabytes", "20")
    out, err = process.communicate(timeout=60)
    said = json.loads(out)
    assert (process.returncode, err, said["problems"]) == (0, "", [])
    assert said["ok"] is True
    assert (said["suite"], said["nat"], said["plaintext_leaked"]) == (suite, "initiator", 0)
    assert said["bytes"] == 20_000_000
    assert said["pings"] == 20
    assert 0 < said["rtt_ms"] < 1000
    assert said["throughput_gbps"] > 0
    # Each train of 64 KB at most; two messages of IKE_SA_INIT on port 500.
    assert said["packets"]["udp_4500"] > 20_000_000 / (1 << 16)
    assert (said["packets"]["udp_500"], said["packets"]["other"]) == (2, 0)
    assert descendants(folder) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("step", ["starting", "sending"])
def test_interrupted_it_leaves_nothing_behind(folder: Path, number: int, step: str) -> None:
    process = start(folder)
    deadline = time.monotonic() + 20
    wanted = "listen" if step == "starting" else "send"
    while not any(wanted in command.split("\0") for command in descendants(folder)):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(number)
    out, err = process.communicate(timeout=15)
    assert (process.returncode, out, err) == (130, "", "")
    assert descendants(folder) == []


def test_killed_it_takes_its_processes_with_it(tmp_path: Path) -> None:
    process = start(tmp_path)
    deadline = time.monotonic() + 20
    while not any("connect" in command.split("\0") for command in descendants(tmp_path)):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.kill()
    process.communicate()
    while descendants(tmp_path):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_without_root() -> None:
    # All is imported before: perhaps nobody may read the modules.
    first = "import os, espudp.host.demo; from espudp.cli.main import app"
    first += f"; app(['keygen', '--psk'], standalone_mode=False); os.setresuid({NOBODY}, {NOBODY}, {NOBODY})"
    code = f"{first}; app(['demo', '--json'])"
    found = subprocess.run(
        [sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True, check=False
    )
    assert found.returncode == 1
    assert "needs root" in found.stderr
    assert "sudo espudp demo" in found.stderr
    assert "Traceback" not in found.stderr


def test_a_listener_that_does_not_start_is_explained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(demo, "POOL", "10.99.0.0/33")
    with pytest.raises(HostError, match=r"`espudp listen` did not start: .*10\.99\.0\.0/33"):
        run_demo(DemoOptions(suite="aes128gcm16"), lambda step: None)
    assert list(tmp_path.iterdir()) == []


def test_what_does_not_hold_is_a_problem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the NAT, and with a secret that is in every packet, both are noticed."""
    with_nat = demo.laboratory

    @contextmanager
    def without_nat() -> Iterator[demo.Laboratory]:
        with with_nat() as made:
            made.server.add_default_route(demo.OUTSIDE_IP)
            yield made

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(demo, "laboratory", without_nat)
    monkeypatch.setattr(Namespace, "masquerade", lambda self, interface: None)
    monkeypatch.setattr(demo, "MARKER", b"\0\0\0")
    result = run_demo(DemoOptions(suite="aes128gcm16", octets=1_000_000), lambda step: None)
    assert not result.ok
    assert any("the peers found: none" in problem for problem in result.problems)
    assert any("plaintext on the outside link" in problem for problem in result.problems)
    assert result.link.plaintext > 0
