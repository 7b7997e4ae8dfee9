"""Configuration: what is wrong is said at once, and secrets do not show."""

import pytest

from espudp.errors import ConfigError
from espudp.ike.config import DYNAMIC, ChildConfig, ConnectionConfig, Identity, ListenerConfig, Timers
from espudp.ike.credentials import Psk, PskOf
from espudp.ike.pad import PadEntry
from espudp.wire.selectors import TrafficSelector

_US, _PEER = Identity.parse("us"), Identity.parse("peer")
_CHILD = ChildConfig(remote=(TrafficSelector.from_network("10.0.0.0/8"),))


def test_secrets_do_not_show() -> None:
    connection = ConnectionConfig(
        local_identity=_US, proof=Psk(b"swordfish"), demand=PskOf(b"swordfish"), child=_CHILD
    )
    listener = ListenerConfig(local_identity=_US, pad=(PadEntry.of_psk(b"swordfish"),), child=_CHILD)
    assert "swordfish" not in repr(connection) + repr(listener)


def test_an_empty_psk() -> None:
    with pytest.raises(ConfigError, match="PSK is empty"):
        Psk(b"")
    with pytest.raises(ConfigError, match="PSK is empty"):
        PskOf(b"")
    with pytest.raises(ConfigError, match="lets nobody in"):
        ListenerConfig(local_identity=_US, pad=(), child=_CHILD)


def test_no_subnets_and_no_proposals() -> None:
    with pytest.raises(ConfigError, match="no subnet on the remote side"):
        ChildConfig(remote=())
    with pytest.raises(ConfigError, match="no ESP proposal"):
        ChildConfig(remote=(DYNAMIC,), proposals=())
    with pytest.raises(ConfigError, match="no IKE proposal"):
        ConnectionConfig(
            local_identity=_US, proof=Psk(b"x"), demand=PskOf(b"x"), child=_CHILD, ike_proposals=()
        )


def test_how_long_a_peer_may_be_silent() -> None:
    """What the documentation of the timers promises."""
    timers = Timers()
    waits = [
        min(timers.retransmit_initial * timers.retransmit_factor**n, timers.retransmit_max)
        for n in range(timers.retransmit_tries + 1)
    ]
    assert 60.0 < sum(waits) < 90.0
