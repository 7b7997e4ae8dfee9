"""IKE SAs that begin without a child SA (RFC 6023)."""

from dataclasses import replace

import pytest

from espudp.ike.config import ConnectionConfig
from espudp.ike.events import ChildInstalled, ConnectionDown, ConnectionUp, Fault, PeerAddressAssigned
from espudp.wire.ikev2.constants import NotifyType
from espudp.wire.ikev2.message import parse_message
from tests.scenario.lab import SERVER_IP, Lab, Terms
from tests.sim.host import IKE_PORT, Host
from tests.sim.ladder import Ladder
from tests.sim.link import Datagram, Quality


def _config(lab: Lab) -> ConnectionConfig:
    return replace(lab.terms.connection(), childless=True)


def _connect(lab: Lab, client: Host, within: float = 30.0) -> None:
    client.connect(_config(lab), SERVER_IP)
    lab.world.run_until(lambda: client.up, within)


def _serve(lab: Lab, **changes: object) -> None:
    listener = lab.server._listener
    assert listener is not None
    lab.server._listener = replace(listener, **changes)  # type: ignore[arg-type]
    lab.server.revive()


@pytest.mark.parametrize("behind_nat", [False, True])
def test_the_child_sa_follows(behind_nat: bool) -> None:
    lab = Lab()
    client = lab.client(behind=lab.nat() if behind_nat else None)
    ladder = Ladder(client, lab.server)
    _connect(lab, client)
    lab.world.run(1.0)
    assert ladder.matches("""
        IKE_SA_INIT 0 request      -->
                                   <--  IKE_SA_INIT 0 response
        IKE_AUTH 1 request         -->
                                   <--  IKE_AUTH 1 response
        CREATE_CHILD_SA 2 request  -->
                                   <--  CREATE_CHILD_SA 2 response
    """), ladder
    assert client.address == "10.99.0.2"
    assert lab.server.told(PeerAddressAssigned)[0].addresses == ("10.99.0.2",)
    assert len(client.told(ConnectionUp)) == len(lab.server.told(ConnectionUp)) == 1
    assert all(flow.tally.perfect for flow in lab.exchange(client))


def test_the_first_child_sa_has_a_key_exchange_of_its_own() -> None:
    lab = Lab(terms=Terms(esp=("aes128gcm16-curve25519",)))
    client = lab.client()
    _connect(lab, client)
    assert all(flow.tally.perfect for flow in lab.exchange(client))


def test_a_peer_that_cannot_gets_what_it_knows() -> None:
    """Section 3: never without the notify."""
    lab = Lab()
    _serve(lab, childless=False)
    client = lab.client()
    ladder = Ladder(client, lab.server)
    _connect(lab, client)
    assert "CREATE_CHILD_SA" not in {step.exchange for step in ladder.steps}


def test_what_the_responder_says() -> None:
    """Section 4: with the protocol ID of IKE."""
    said: list[bytes] = []

    def hear(datagram: Datagram) -> None:
        if datagram.source.port == IKE_PORT:
            said.append(datagram.payload)

    for offered in (True, False):
        lab = Lab()
        _serve(lab, childless=offered)
        lab.server.on_send.append(hear)
        lab.connect(lab.client())
        notify = parse_message(said.pop()).notify(NotifyType.CHILDLESS_IKEV2_SUPPORTED)
        assert (notify is not None) is offered
        assert notify is None or notify.protocol == 1


def test_a_responder_that_does_not_want_it_refuses_it() -> None:
    """Section 3: INVALID_SYNTAX for who asks without being told that it may."""
    lab = Lab()
    client = lab.client()
    client.connect(_config(lab), SERVER_IP)
    lab.server.on_send.append(lambda _: _forbid(lab))
    lab.world.run(5.0)
    assert not client.told(ConnectionUp)
    (down,) = client.told(ConnectionDown)
    assert "INVALID_SYNTAX" in down.reason


def _forbid(lab: Lab) -> None:
    """The listener changes its mind after IKE_SA_INIT."""
    for state in lab.server.tunnel._ike._hub.states.values():
        caller = getattr(state, "_caller", None)
        if caller is not None:
            caller.config = replace(caller.config, childless=False)


def test_a_child_sa_that_is_refused_ends_it_as_ever() -> None:
    lab = Lab(terms=Terms(esp=("aes256gcm16",)), server_terms=Terms())
    client = lab.client()
    client.connect(_config(lab), SERVER_IP)
    lab.world.run(5.0)
    (down,) = client.told(ConnectionDown)
    assert down.fault is Fault.PROPOSAL
    assert not lab.server.tunnel.snapshot(lab.world.now).connections


def test_a_pair_for_each_selector() -> None:
    nets = ("10.1.0.0/24", "10.2.0.0/24")
    lab = Lab(terms=Terms(remote=nets), server_terms=Terms(local=nets))
    client = lab.client()
    config = _config(lab)
    client.connect(replace(config, child=replace(config.child, single_pair=True)), SERVER_IP)
    lab.world.run(5.0)
    assert len(client.children()) == len(lab.server.children()) == 2


@pytest.mark.parametrize("seed", range(15))
def test_in_bad_weather(seed: int) -> None:
    lab = Lab(seed, quality=Quality(loss=0.3, duplicate=0.2))
    client = lab.client()
    _connect(lab, client, within=120.0)
    lab.world.run(30.0)
    lab.quality.loss = 0.0
    assert len(client.told(ChildInstalled)) == 1
    assert all(flow.tally.lost == 0 for flow in lab.exchange(client, seconds=0.5))


def test_no_address_is_left() -> None:
    """The answer carries the error, and the peer is told in words."""
    lab = Lab(server_terms=Terms(pool=("10.99.0.0/30",)))
    first, second = lab.client("first", number=7), lab.client("second", number=8)
    for client in (first, second):
        client.connect(replace(lab.terms.connection(client.name), childless=True), SERVER_IP)
        lab.world.run(5.0)
    assert first.up
    assert not second.up
    assert second.told(ConnectionDown)
