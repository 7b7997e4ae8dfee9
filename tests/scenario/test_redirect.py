"""Gateways that send their clients to other gateways (RFC 5685): before, during and after authentication."""

from dataclasses import replace

import pytest

from espudp.ike.config import ConnectionConfig, ListenerConfig
from espudp.ike.events import ChildInstalled, ConnectionDown, ConnectionUp, Diagnostic, Fault
from tests.scenario.lab import SERVER_IP, Lab, Terms
from tests.sim.host import Host
from tests.sim.ladder import Ladder

_OTHER_IP = "203.0.113.2"
_NAMES = {"gw2.example.org": _OTHER_IP, "gw1.example.org": SERVER_IP}


def _lab(there: str = _OTHER_IP, **first: object) -> tuple[Lab, Host]:
    """Two gateways; the first sends its clients to the second unless `first` says otherwise."""
    lab = Lab()
    _configure(lab.server, **(first or {"redirect_to": (there,)}))
    other = Host(lab.world, lab.net, _OTHER_IP, name="other", listener=Terms().listener())
    return lab, other


def _configure(host: Host, **changes: object) -> None:
    listener = host._listener
    assert listener is not None
    host._listener = replace(listener, **changes)  # type: ignore[arg-type]
    host.revive()


def _dial(lab: Lab, client: Host, *, follow: bool = True) -> None:
    """As a host does: goes where it is sent, with the same configuration."""
    config = replace(lab.terms.connection(client.name), follow_redirects=follow)

    def go(event: object) -> None:
        if isinstance(event, ConnectionDown) and event.redirect:
            there = _NAMES.get(event.redirect, event.redirect)
            client.connect(replace(config, redirected_from=here[-1]), there)
            here.append(there)

    here = [SERVER_IP]
    client.on_event.append(go)
    client.connect(config, SERVER_IP)


@pytest.mark.parametrize("there", [_OTHER_IP, "gw2.example.org"])
def test_in_ike_sa_init(there: str) -> None:
    lab, other = _lab(there)
    client = lab.client()
    ladder = Ladder(client, lab.server)
    _dial(lab, client)
    lab.world.run_until(lambda: client.up, 5.0)
    assert [step.exchange for step in ladder.steps if not step.left] == ["IKE_SA_INIT"]
    assert not lab.server.told(ConnectionUp)
    assert not lab.server.tunnel._ike._hub.states
    assert other.told(ConnectionUp)
    (down,) = client.told(ConnectionDown)
    assert (down.redirect, down.retry) == (there, True)


def test_an_ipv6_gateway() -> None:
    there = "2001:db8::2"
    lab, _ = _lab(there)
    client = lab.client()
    client.connect(lab.terms.connection(), SERVER_IP)
    lab.world.run(5.0)
    assert client.told(ConnectionDown)[0].redirect == there


def test_only_above_so_many_connections() -> None:
    lab, other = _lab(redirect_to=(_OTHER_IP,), redirect_above=1)
    first, second = lab.client("first", number=7), lab.client("second", number=8)
    for client in (first, second):
        _dial(lab, client)
        lab.world.run_until(lambda client=client: client.up, 5.0)  # type: ignore[misc]
    assert len(lab.server.told(ConnectionUp)) == len(other.told(ConnectionUp)) == 1


def test_in_ike_auth_by_who_the_client_is() -> None:
    """Section 6: both are authenticated, there is no child SA, and the client deletes the IKE SA."""
    lab, other = _lab(redirect_to=())
    listener = lab.server._listener
    assert listener is not None
    _configure(lab.server, pad=(replace(listener.pad[0], redirect_to="gw2.example.org"),))
    client = lab.client()
    ladder = Ladder(client, lab.server)
    _dial(lab, client)
    lab.world.run_until(lambda: client.up, 5.0)
    lab.world.run(1.0)
    answers = [step.exchange for step in ladder.steps if not step.left]
    assert answers == ["IKE_SA_INIT", "IKE_AUTH", "INFORMATIONAL"]
    assert not lab.server.told(ChildInstalled)
    assert len(lab.server.told(ConnectionDown)) == 1
    assert other.told(ConnectionUp)


def test_in_a_session() -> None:
    """Section 5: the client answers, leaves, and its traffic goes on over the other gateway."""
    lab, other = _lab(redirect_to=())
    client = lab.client()
    _dial(lab, client)
    lab.world.run_until(lambda: client.up, 5.0)
    number = lab.server.connection
    lab.server.do(lambda tunnel: tunnel.redirect(number, "gw2.example.org", lab.world.now))
    lab.world.run_until(lambda: bool(other.told(ConnectionUp)), 5.0)
    lab.world.run(1.0)
    assert client.up
    assert [down.fault for down in lab.server.told(ConnectionDown)] == [Fault.PEER_REQUEST]
    assert not lab.server.tunnel.snapshot(lab.world.now).connections


def test_a_client_that_does_not_leave_is_shown_out() -> None:
    lab, _ = _lab(redirect_to=())
    client = lab.client()
    _dial(lab, client)
    lab.world.run_until(lambda: client.up, 5.0)
    # It said that it would go, and then stays.
    (connection,) = client.tunnel._ike._hub.connections.values()
    policy = connection.policy
    assert isinstance(policy, ConnectionConfig)
    connection.policy = replace(policy, follow_redirects=False)
    number = lab.server.connection
    lab.server.do(lambda tunnel: tunnel.redirect(number, _OTHER_IP, lab.world.now))
    lab.world.run(10.0)
    assert client.up
    assert any(_OTHER_IP in note.text for note in client.told(Diagnostic))
    lab.world.run(30.0)
    assert lab.server.told(ConnectionDown)
    assert client.told(ConnectionDown)


# What is not followed


def test_a_client_that_follows_nobody_is_served() -> None:
    lab, _ = _lab()
    client = lab.client()
    _dial(lab, client, follow=False)
    lab.world.run_until(lambda: client.up, 5.0)
    number = lab.server.connection
    lab.server.do(lambda tunnel: tunnel.redirect(number, _OTHER_IP, lab.world.now))
    lab.world.run(60.0)
    assert not client.told(ConnectionDown)


def test_circles_come_to_an_end() -> None:
    """Section 7: five times in five minutes, and then no more."""
    lab, other = _lab()
    listener: ListenerConfig | None = other._listener
    assert listener is not None
    # Each sends who comes from the other to a third name for it.
    _NAMES.update({"a.example.org": SERVER_IP, "b.example.org": _OTHER_IP})
    _configure(lab.server, redirect_to=("b.example.org",))
    _configure(other, redirect_to=("a.example.org",))
    client = lab.client()
    _dial(lab, client)
    lab.world.run(100.0)
    *followed, last = client.told(ConnectionDown)
    assert len(followed) == 5
    assert all(down.redirect for down in followed)
    assert last.redirect == ""
    assert not last.retry
    assert "circles" in last.remedy


def test_never_back_to_where_the_client_comes_from() -> None:
    lab, other = _lab()
    _configure(other, redirect_to=(SERVER_IP,))
    client = lab.client()
    _dial(lab, client)
    lab.world.run_until(lambda: client.up, 5.0)
    assert other.told(ConnectionUp)


def test_the_other_gateway_must_prove_to_be_the_same_peer() -> None:
    """Section 3: the same PAD entry counts."""
    lab, other = _lab()
    listener = Terms(psk=b"another key altogether").listener()
    other._listener = listener
    other.revive()
    client = lab.client()
    _dial(lab, client)
    lab.world.run(5.0)
    assert not client.told(ConnectionUp)
    assert client.told(ConnectionDown)[-1].fault is Fault.AUTHENTICATION
