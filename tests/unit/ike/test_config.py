"""Configuration: what is wrong is said at once, and secrets do not show."""

import pytest

from espudp.errors import ConfigError
from espudp.ike.config import DYNAMIC, ChildConfig, ConnectionConfig, Identity, ListenerConfig, Timers
from espudp.wire.selectors import TrafficSelector

_US, _PEER = Identity.parse("us"), Identity.parse("peer")
_CHILD = ChildConfig(remote=(TrafficSelector.from_network("10.0.0.0/8"),))


def test_secrets_do_not_show() -> None:
    connection = ConnectionConfig(local_identity=_US, psk=b"swordfish", child=_CHILD)
    listener = ListenerConfig(local_identity=_US, psks=((None, b"swordfish"),), child=_CHILD)
    assert "swordfish" not in repr(connection) + repr(listener)


def test_the_psk_of_a_peer() -> None:
    listener = ListenerConfig(local_identity=_US, psks=((None, b"any"), (_PEER, b"own")), child=_CHILD)
    assert listener.psk_for(_PEER) == b"own"
    assert listener.psk_for(Identity.parse("other")) == b"any"
    named = ListenerConfig(local_identity=_US, psks=((_PEER, b"own"),), child=_CHILD)
    assert named.psk_for(Identity.parse("other")) is None


def test_an_empty_psk() -> None:
    with pytest.raises(ConfigError, match="PSK is empty"):
        ConnectionConfig(local_identity=_US, psk=b"", child=_CHILD)
    with pytest.raises(ConfigError, match="PSK is empty"):
        ListenerConfig(local_identity=_US, psks=((None, b""),), child=_CHILD)
    with pytest.raises(ConfigError, match="lets nobody in"):
        ListenerConfig(local_identity=_US, psks=(), child=_CHILD)


def test_no_subnets_and_no_proposals() -> None:
    with pytest.raises(ConfigError, match="no subnet on the remote side"):
        ChildConfig(remote=())
    with pytest.raises(ConfigError, match="no ESP proposal"):
        ChildConfig(remote=(DYNAMIC,), proposals=())
    with pytest.raises(ConfigError, match="no IKE proposal"):
        ConnectionConfig(local_identity=_US, psk=b"x", child=_CHILD, ike_proposals=())


def test_how_long_a_peer_may_be_silent() -> None:
    """What the documentation of the timers promises."""
    timers = Timers()
    waits = [
        min(timers.retransmit_initial * timers.retransmit_factor**n, timers.retransmit_max)
        for n in range(timers.retransmit_tries + 1)
    ]
    assert 60.0 < sum(waits) < 90.0
