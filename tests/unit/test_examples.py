"""Every example runs, as its reader would run it, and says what its text promises."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

# What each one prints, in this order; "..." stands for anything.
SAYS = {
    "tunnel_in_memory.py": [
        *("server: delivers hello", "client: ConnectionUp", "client: child SA ..., SPI 0x... in"),
        *("client: IkeRekeyed", "client: down, ...", "server: ConnectionUp", "server: down, ..."),
    ],
    "users_by_ikev1.py": [
        *("client: IKEv1 with gateway.example", "client: has 10.99.0.2, and reads: Authorized users only."),
        *("client: aes... for 10.1.0.0/16", "server: IKEv1 with keyid:alice"),
        *("server: aes... for 10.99.0.2/32", "client: the peer refuses the XAUTH user alice"),
        "server: laptop.example: wrong user name or password",
    ],
    "transport_mode.py": [
        *("client 1: 192.168.1.2/32[udp/1701] <=> 198.51.100.1/32[udp/1701]", "client 2: 192.168.1.3/32"),
        "hello of 1 from port 1701, from 203.0.113.1, checksum right",
        "hello of 2 from port 1701, from 198.18.0.1, checksum right",
    ],
    "esp_by_hand.py": ["octets became", "opened: True", "replayed: []", "forged: []", "integrity 1"],
    "manual_keys.py": ["spi = 0x...", "server got ping", "answers to 203.0.113.9:61234", "client got pong"],
}


def test_every_example_is_here() -> None:
    assert {path.name for path in (ROOT / "examples").glob("*.py")} == set(SAYS)


@pytest.mark.parametrize("name", SAYS)
def test_the_example_runs(name: str) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", str(ROOT / "examples" / name)],
        env={"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    pattern = ".*".join(re.escape(line).replace(r"\.\.\.", ".*") for line in SAYS[name])
    assert re.search(pattern, done.stdout, re.DOTALL), done.stdout


def test_a_key_is_never_printed() -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "examples" / "manual_keys.py")],
        env={"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert not re.search(r"[0-9a-f]{32}", done.stdout)
