"""A server that restarts and has forgotten everybody (RFC 6290): its clients are back at once."""

import pytest

from espudp.ike.events import ConnectionDown, ConnectionUp
from tests.scenario.lab import SERVER_IP, Lab, Terms

_SECRET = bytes(range(32))


def _restarted(*, secret: bytes, busy: bool) -> float:
    """How long a client is without a tunnel, in seconds from the server's return."""
    lab = Lab(terms=Terms(secret=secret))
    client = lab.client()
    client.keep_up(lab.terms.connection(), SERVER_IP, pause=0.0)
    lab.world.run_until(lambda: client.up, 10.0)
    lab.world.run(10.0)
    flow, _ = lab.flows(client)
    lab.server.die()
    lab.server.revive()
    back = lab.world.now
    if busy:
        flow.start()
    lab.world.run_until(lambda: len(client.told(ConnectionUp)) == 2, 300.0)
    flow.stop()
    assert len(client.told(ConnectionDown)) == 1
    took = lab.world.now - back
    assert all(flow.tally.perfect for flow in lab.exchange(client))
    return took


def test_a_busy_client_is_back_after_three_round_trips() -> None:
    """INVALID_SPI for its ESP, the token for its question, and the handshake."""
    assert _restarted(secret=_SECRET, busy=True) < 0.2


def test_an_idle_client_is_back_as_soon_as_it_asks() -> None:
    assert _restarted(secret=_SECRET, busy=False) < 31.0


@pytest.mark.parametrize("busy", [False, True])
def test_without_a_secret_it_takes_the_patience_of_a_client(busy: bool) -> None:
    assert 70.0 < _restarted(secret=b"", busy=busy) < 120.0
