"""Hosts and ladders: what the scenarios see is what happened."""

import pytest

from espudp.errors import EspudpError
from espudp.ike.events import ConnectionUp
from tests.scenario.lab import Lab
from tests.sim.ladder import Ladder
from tests.sim.link import Datagram


def test_events_come_with_their_time() -> None:
    lab = Lab()
    client = lab.client()
    lab.connect(client)
    (when,) = (time for time, event in client.events if isinstance(event, ConnectionUp))
    assert when == lab.world.now
    assert client.connection == client.told(ConnectionUp)[0].connection
    assert client.up


def test_the_dead_neither_hear_nor_speak() -> None:
    lab = Lab()
    client = lab.client()
    lab.connect(client)
    sent: list[Datagram] = []
    client.on_send.append(sent.append)
    client.die()
    client.send_packets([bytes(20)])
    lab.world.run(300.0)
    assert sent == []
    client.revive()
    assert client.tunnel.poll_timer() is None


def test_a_ladder_shows_who_said_what() -> None:
    lab = Lab()
    client = lab.client()
    ladder = Ladder(client, lab.server)
    lab.connect(client)
    assert [step.left for step in ladder.steps] == [True, False, True, False]
    assert not ladder.matches("IKE_SA_INIT 0 request -->")
    assert str(ladder).splitlines()[1].split() == ["<--", "IKE_SA_INIT", "0", "response"]
    ladder.clear()
    assert ladder.matches("")


def test_a_clock_that_is_held_up_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    lab = Lab()
    host = lab.client()
    monkeypatch.setattr(host.tunnel, "poll_timer", lambda: lab.world.now)
    host.send_packets([])
    with pytest.raises(EspudpError, match="again and again"):
        lab.world.run(1.0)


def test_the_same_seed_gives_the_same_story() -> None:
    def story(seed: int) -> list[bytes]:
        lab = Lab(seed)
        lab.quality.loss = 0.3
        client = lab.client()
        sent: list[bytes] = []
        client.on_send.append(lambda datagram: sent.append(datagram.payload))
        lab.connect(client)
        return sent

    assert story(5) == story(5)
    assert story(5) != story(6)
