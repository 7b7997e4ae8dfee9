"""strongSwan connects to an espudp that each test starts for itself."""

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from tests.interop.caller import BEHIND, GATEWAY, Caller, CallingSwan
from tests.interop.lab import wait_until
from tests.interop.matrix import RESPONDER
from tests.interop.swan import MANY, spis

pytestmark = [
    pytest.mark.strongswan,
    pytest.mark.namespaces,
    pytest.mark.tun,
    pytest.mark.peer("strongSwan", RESPONDER),
]

Saw = Callable[[str], None]


@pytest.mark.cell("two workers")
def test_the_child_sas_of_several_workers(calling: CallingSwan, tmp_path: Path, saw: Saw) -> None:
    """Two child SAs with different selectors, each at a worker of its own, before and after rekeys."""
    with calling.listening(tmp_path, "--workers", "2") as place, place.dialled() as address:
        place.swan.initiate("lan")
        client, server = place.net.client, place.net.server
        assert {sa["pair"] % 2 for sa in place.peer.sas()} == {0, 1}
        with client.pinging(GATEWAY) as near, client.pinging(BEHIND) as far, server.pinging(address) as back:
            for name in ("net", "lan", "net", "lan"):
                renewed = partial(_renewed, place, spis(place.swan, "child"))
                place.swan.rekey("child", name)
                wait_until(renewed, f"new SPIs of {name}")
                time.sleep(0.1)
            assert min(near.end(), far.end(), back.end()) > MANY
        assert {sa["pair"] % 2 for sa in place.peer.sas()} == {0, 1}
        assert all(sa["drops"] == {} for sa in place.peer.tunnel()["sas"])
        saw("a child SA at each, before and after rekeys")


def _renewed(place: Caller, before: set[str]) -> bool:
    """One of the two child SAs has been replaced, and the old one is gone."""
    now = spis(place.swan, "child")
    return len(now) == 4 and len(now & before) == 2 and len(place.peer.sas()) == 2


@pytest.mark.cell("DELETE")
def test_espudp_ends_and_says_so(calling: CallingSwan, tmp_path: Path, saw: Saw) -> None:
    """SIGTERM deletes the SAs at the peer."""
    with calling.listening(tmp_path) as place:
        place.dial()
        assert place.net.client.ping(GATEWAY)
        assert place.peer.process.stop() == 0
        wait_until(lambda: not place.swan.ike_sas(), "strongSwan to hear of the DELETE", seconds=3)
        saw("said at SIGTERM")
