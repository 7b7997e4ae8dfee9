"""Authentication over again, make before break, with strongSwan in both roles; no ping is lost meanwhile."""

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.interop.caller import GATEWAY, CallingSwan
from tests.interop.gateway import BEHIND_SWAN, Gateway
from tests.interop.lab import wait_until
from tests.interop.matrix import INITIATOR, RESPONDER
from tests.interop.swan import MANY, spis

pytestmark = [
    pytest.mark.strongswan,
    pytest.mark.namespaces,
    pytest.mark.tun,
    pytest.mark.cell("reauthentication"),
]

Saw = Callable[[str], None]


def settled(gateway_or_calling: Gateway | CallingSwan, before: set[str]) -> bool:
    """strongSwan has one IKE SA, none of those before."""
    now = spis(gateway_or_calling.swan, "ike")
    return len(now) == 2 and not now & before and len(gateway_or_calling.swan.child_sas()) == 1


@pytest.mark.peer("strongSwan", INITIATOR)
@pytest.mark.parametrize("wanted_by", ["espudp", "strongSwan"])
def test_as_initiator(gateway: Gateway, tmp_path: Path, saw: Saw, wanted_by: str) -> None:
    """strongSwan says by AUTH_LIFETIME (RFC 4478) how long it takes us for who we are."""
    gateway.serve(**({"reauth_time": "2s", "over_time": "10s"} if wanted_by == "strongSwan" else {}))
    proofs = gateway.swan.seen("authentication of 'espudp.example' with")
    with gateway.connected(tmp_path) as peer, gateway.net.client.pinging(BEHIND_SWAN) as there:
        before = spis(gateway.swan, "ike")
        if wanted_by == "espudp":
            peer.ask("reauthenticate")
        gateway.swan.wait_for("authentication of 'espudp.example' with", times=proofs + 2)
        wait_until(lambda: settled(gateway, before), "the old IKE SA to go")
        time.sleep(0.6)  # for more pings than are needed
        assert there.end() > MANY
        assert len(peer.tunnel()["connections"]) == 1
    saw("make before break, no ping lost")


@pytest.mark.peer("strongSwan", RESPONDER)
@pytest.mark.parametrize("order", ["make before break", "break before make"])
def test_as_responder(calling: CallingSwan, tmp_path: Path, saw: Saw, order: str) -> None:
    first = "yes" if order == "make before break" else "no"
    with (
        calling.swan.set_to(f"make_before_break = {first}"),
        calling.listening(tmp_path) as place,
        place.dialled() as address,
    ):
        before = spis(calling.swan, "ike")
        with calling.net.client.pinging(GATEWAY) as there:
            calling.swan.vici.rekey({"ike": "client", "reauth": "yes"})
            wait_until(lambda: settled(calling, before), "the old IKE SA to go")
            time.sleep(0.6)  # for more pings than are needed
            answered = there.end()
        assert first == "no" or answered > MANY
        assert place.net.server.ping(address)
        wait_until(lambda: len(place.peer.tunnel()["connections"]) == 1, "espudp to forget the old one")
    saw(order)


@pytest.mark.peer("strongSwan", RESPONDER)
@pytest.mark.cell("reauthentication", variant="espudp limits the time")
def test_strongswan_is_told_the_time(calling: CallingSwan, tmp_path: Path, saw: Saw) -> None:
    """RFC 4478: strongSwan repeats it long before that is over, as it does by itself."""
    with calling.listening(tmp_path, "--reauth", "8h") as place, place.dialled() as address:
        calling.swan.wait_for("received AUTH_LIFETIME of 28800s")
        place.check_traffic(address)
    saw("AUTH_LIFETIME understood")
