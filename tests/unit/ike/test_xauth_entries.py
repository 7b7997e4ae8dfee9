"""Ways in that take a login by XAUTH are for IKEv1: nobody comes by them with IKEv2."""

import random

from espudp.ike.credentials import NoDemand, NoProof, Psk, PskOf
from espudp.ike.eap.users import User, UserTable
from espudp.ike.events import ConnectionDown, ConnectionUp, Fault, PeerRefused
from espudp.ike.identity import NOBODY
from espudp.ike.pad import PadEntry
from espudp.ike.xauth import XauthUsers
from tests.unit.ike.pair import PSK, Pair, client_config, server_config

USERS = XauthUsers(users=UserTable([User.of_password("alice", "secret")], random.Random(1).randbytes))


def test_a_group_key_alone_is_not_enough() -> None:
    entry = PadEntry(proof=Psk(PSK), demand=PskOf(PSK), xauth=USERS)
    pair = Pair(server=server_config(pad=(entry,)))
    pair.dial()
    pair.flush()
    assert [down.fault for down in pair.client.told(ConnectionDown)] == [Fault.AUTHENTICATION]
    assert not pair.server.told(ConnectionUp)
    (refused,) = pair.server.told(PeerRefused)
    assert "log in by XAUTH" in refused.detail


def test_who_proves_nothing_is_not_let_in() -> None:
    entry = PadEntry(proof=NoProof(), demand=NoDemand(), xauth=USERS)
    pair = Pair(
        client_config(identity=NOBODY, proof=NoProof(), demand=NoDemand(), remote_identity=None),
        server_config(pad=(entry,)),
    )
    pair.dial()
    pair.flush()
    assert pair.client.told(ConnectionDown)
    assert not pair.server.told(ConnectionUp)


def test_other_ways_in_stay_open() -> None:
    open_to_all = PadEntry(proof=Psk(PSK), demand=PskOf(PSK))
    closed = PadEntry(proof=Psk(b"group"), demand=PskOf(b"group"), xauth=USERS)
    Pair(server=server_config(pad=(closed, open_to_all))).connect()
