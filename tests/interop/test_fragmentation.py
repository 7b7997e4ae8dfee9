"""IKE fragmentation (RFC 7383): chains of certificates that fit in no datagram, strongSwan in both roles."""

import re
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from tests.interop.authority import Authority, authority, key_pem, pem
from tests.interop.caller import CallingSwan
from tests.interop.gateway import Gateway
from tests.interop.matrix import INITIATOR, RESPONDER
from tests.interop.swan import ESPUDP_ID, SWAN_ID, check_rekeys

pytestmark = [pytest.mark.strongswan, pytest.mark.namespaces, pytest.mark.tun]

Saw = Callable[[str], None]

initiator = pytest.mark.peer("strongSwan", INITIATOR)
responder = pytest.mark.peer("strongSwan", RESPONDER)

# Five certificates each way; strongSwan takes no chain longer than seven.
BETWEEN, UNITS, OCTETS = 4, 8, 8000

# What IPv4 promises to carry, and what strongSwan takes unless told.
sizes = pytest.mark.parametrize("size", ["576", "1280"])


@cache
def long_chain() -> Authority:
    return authority("rsa", between=BETWEEN, units=UNITS)


def certified(ours: Authority) -> dict[str, Any]:
    return {"auth": "pubkey", "certs": [pem(ours.swan), *map(pem, ours.between)], "id": SWAN_ID}


def demanded(ours: Authority) -> dict[str, Any]:
    return {"auth": "pubkey", "cacerts": [pem(ours.root)], "id": ESPUDP_ID}


def reassembled(log: str) -> tuple[int, int]:
    """Octets of the largest message that strongSwan put together, and of the largest that it took apart."""
    received = re.findall(r"reassembled fragmented IKE message \((\d+) bytes\)", log)
    sent = re.findall(r"splitting IKE message \((\d+) bytes\) into \d+ fragments", log)
    return max(map(int, received)), max(map(int, sent))


@initiator
@pytest.mark.cell("IKE fragmentation (RFC 7383)")
@sizes
def test_fragments_as_initiator(gateway: Gateway, tmp_path: Path, saw: Saw, size: str) -> None:
    ours = long_chain()
    gateway.swan.load_key(key_pem(ours.swan.key))
    with gateway.swan.set_to(f"fragment_size = {size}"):
        gateway.serve(local=certified(ours), remote=demanded(ours), fragmentation="yes")
        before = len(gateway.swan.log)
        with gateway.connected(tmp_path, *ours.arguments(tmp_path / "pki"), psk=None) as peer:
            received, sent = reassembled(gateway.swan.log[before:])
            assert min(received, sent) > OCTETS
            check_rekeys(peer, gateway.swan, ike="gateway", child="net")
    saw(f"messages of {OCTETS} octets and more both ways")


@responder
@pytest.mark.cell("IKE fragmentation (RFC 7383)")
@sizes
def test_fragments_as_responder(calling: CallingSwan, tmp_path: Path, saw: Saw, size: str) -> None:
    ours = long_chain()
    calling.swan.load_key(key_pem(ours.swan.key))
    with (
        calling.swan.set_to(f"fragment_size = {size}"),
        calling.listening(tmp_path, *ours.arguments(tmp_path / "pki"), psk=None) as place,
    ):
        before = len(calling.swan.log)
        with place.dialled(local=certified(ours), remote=demanded(ours), fragmentation="yes"):
            received, sent = reassembled(calling.swan.log[before:])
            assert min(received, sent) > OCTETS
            check_rekeys(place.peer, place.swan, ike="client", child="net")
    saw(f"messages of {OCTETS} octets and more both ways")
