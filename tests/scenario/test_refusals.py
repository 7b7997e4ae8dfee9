"""How two peers do not come together, and what each of them can tell its user."""

import pytest

from espudp.ike.config import DYNAMIC, Limits, Timers
from espudp.ike.events import ConnectionDown, ConnectionUp, Fault, PeerRefused
from tests.scenario.lab import FOREVER, POOL, Lab, Terms
from tests.sim.host import Host


def _refused(lab: Lab, client: Host, within: float = 200.0) -> ConnectionDown:
    client.connect(lab.terms.connection(client.name), lab.server.ip)
    lab.world.run_until(lambda: bool(client.told(ConnectionDown)), within)
    lab.world.run(60.0)
    assert not client.up
    assert not lab.server.up
    (down,) = client.told(ConnectionDown)
    assert down.reason
    return down


def test_the_two_psks_differ() -> None:
    lab = Lab(server_terms=Terms(psk=b"another one"))
    down = _refused(lab, lab.client())
    assert down.fault is Fault.AUTHENTICATION
    assert not down.retry
    assert down.remedy
    (refused,) = lab.server.told(PeerRefused)
    assert "client@example.org" in refused.reason + refused.detail
    assert not lab.server.told(ConnectionUp)


def test_no_common_ike_proposal() -> None:
    lab = Lab(
        terms=Terms(ike=("aes256-sha256-modp2048",)),
        server_terms=Terms(ike=("aes128gcm16-prfsha256-ecp256",)),
    )
    down = _refused(lab, lab.client())
    assert down.fault is Fault.PROPOSAL
    assert not down.retry
    refused = {(event.reason, event.detail) for event in lab.server.told(PeerRefused)}
    ((reason, detail),) = refused
    assert "no common" in reason
    for ours_and_theirs in ("aes256", "aes128gcm16", "modp2048", "ecp256"):
        assert ours_and_theirs in detail


def test_no_common_esp_proposal() -> None:
    lab = Lab(terms=Terms(esp=("aes256-sha256",)), server_terms=Terms(esp=("aes128gcm16",)))
    down = _refused(lab, lab.client())
    assert down.fault is Fault.PROPOSAL
    shown = [str(event) for _, event in lab.server.events]
    assert any("aes256" in text and "aes128gcm16" in text for text in shown)


def test_no_common_subnet() -> None:
    lab = Lab(terms=Terms(remote=("172.16.0.0/12",)), server_terms=Terms(local=(POOL,), remote=(DYNAMIC,)))
    down = _refused(lab, lab.client())
    assert down.fault is Fault.SELECTORS
    shown = [str(event) for _, event in lab.server.events]
    assert any("172.16.0.0/12" in text and POOL in text for text in shown)


def test_nobody_there() -> None:
    lab = Lab()
    lab.server.die()
    down = _refused(lab, lab.client())
    assert down.fault is Fault.TIMEOUT
    assert down.retry


def test_a_flood_of_strangers_leaves_nothing_behind() -> None:
    """Half-open IKE SAs end by themselves, and a friend gets in meanwhile."""
    terms = Terms(
        limits=Limits(cookie_threshold=8), timers=Timers(half_open_timeout=20.0, ike_lifetime=FOREVER)
    )
    lab = Lab(terms=terms)
    for number in range(100, 140):
        stranger = lab.client(f"stranger {number}", number=number)
        stranger.connect(terms.connection(), lab.server.ip)
        stranger.die()
    lab.world.run(1.0)
    lab.connect(lab.client())
    lab.world.run(60.0)
    assert len(lab.server.told(ConnectionUp)) == 1
    assert lab.server.tunnel.snapshot(lab.world.now).connections


@pytest.mark.parametrize("seed", range(5))
def test_closing(seed: int) -> None:
    lab = Lab(seed)
    client = lab.client()
    lab.connect(client)
    closer, other = (client, lab.server) if seed % 2 else (lab.server, client)
    closer.do(lambda tunnel: tunnel.close_all(lab.world.now))
    lab.world.run(5.0)
    assert [down.fault for down in closer.told(ConnectionDown)] == [Fault.LOCAL_REQUEST]
    assert [down.fault for down in other.told(ConnectionDown)] == [Fault.PEER_REQUEST]
    lab.world.run(300.0)  # in which the last answer could be repeated
    assert client.tunnel.poll_timer() is None
    assert lab.server.tunnel.poll_timer() is None
