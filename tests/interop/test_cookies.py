"""Cookies (RFC 7296 section 2.6), past a number of half-open IKE SAs, with strongSwan in both roles."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.interop.caller import GATEWAY, CallingSwan
from tests.interop.gateway import BEHIND_SWAN, gateway_swan
from tests.interop.lab import SERVER_ADDRESS, Namespace
from tests.interop.matrix import INITIATOR, RESPONDER
from tests.interop.swan import half_open

pytestmark = [
    pytest.mark.strongswan,
    pytest.mark.namespaces,
    pytest.mark.tun,
    pytest.mark.cell("COOKIE"),
]

Saw = Callable[[str], None]

ASKED = "IKE_SA_INIT response 0 [ N(COOKIE) ]"
SEEN = "brought back while 40 others are half-open"

# Who has too many of them at one address is not answered at all, so they come from the server's own.
FLOODER = """
import socket, sys
for number, line in enumerate(sys.stdin, 2):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        s.bind((f"127.0.0.{number}", 0))
        s.sendto(bytes.fromhex(line), (sys.argv[1], 500))
"""


def flood(server: Namespace) -> None:
    requests = "\n".join(half_open(number).hex() for number in range(1, 41))
    server.run(sys.executable, "-c", FLOODER, SERVER_ADDRESS, text=requests)


@pytest.mark.peer("strongSwan", INITIATOR)
def test_strongswan_s_cookie(tmp_path: Path, saw: Saw) -> None:
    """It goes on to ask for some time, which other tests do not expect: it has a charon of its own."""
    with gateway_swan(tmp_path / "charon") as gateway:
        gateway.serve()
        flood(gateway.net.server)
        with gateway.connected(tmp_path):
            assert gateway.swan.seen("parsed IKE_SA_INIT request 0 [ N(COOKIE) ") == 1
            assert gateway.net.client.ping(BEHIND_SWAN)
    saw(SEEN)


@pytest.mark.peer("strongSwan", RESPONDER)
def test_espudp_s_cookie(calling: CallingSwan, tmp_path: Path, saw: Saw) -> None:
    with calling.listening(tmp_path) as place:
        flood(place.net.server)
        asked = place.swan.seen(ASKED)
        with place.dialled():
            assert place.swan.seen(ASKED) == asked + 1
            assert place.net.client.ping(GATEWAY)
    saw(SEEN)
