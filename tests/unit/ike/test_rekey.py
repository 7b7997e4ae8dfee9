"""Rekeys of child SAs and of the IKE SA, make before break; and those that the peer puts off or refuses."""

from collections.abc import Sequence
from dataclasses import replace

import pytest

from espudp.ike.config import Timers
from espudp.ike.events import (
    ChildInstalled,
    ChildRemoved,
    ConnectionDown,
    Diagnostic,
    Event,
    IkeRekeyed,
)
from espudp.ike.proposals import EspProposal, IkeProposal
from espudp.ike.v2.established import PATIENCE_SECONDS
from espudp.ike.v2.informational import CheckAlive
from espudp.wire.ikev2.constants import CfgType, ExchangeType, NotifyType, ProtocolId
from espudp.wire.ikev2.header import Header
from espudp.wire.ikev2.payloads import Configuration, Notify, Payload
from tests.unit.ike.pair import (
    ESP,
    FOREVER,
    IKE,
    PFS,
    Pair,
    Side,
    client_child,
    client_config,
    headers,
    server_config,
)

_GROUPS = EspProposal.parse("aes128gcm16-ecp256-curve25519")
_OTHER = EspProposal.parse("aes128gcm16-curve25519")
_LINGER = Timers().rekey_linger


def _pair(*, ours: EspProposal = ESP, theirs: EspProposal = ESP, timers: Timers | None = None) -> Pair:
    timers = timers or Timers(ike_lifetime=FOREVER)
    client = client_config(child=client_child(ours), timers=timers)
    return Pair(client, server_config(esp=(theirs,), timers=timers)).connect()


def _rekey_child(pair: Pair, side: Side) -> None:
    side.endpoint.rekey_child(1, list(side.connection.children)[-1], pair.now)


def _refuse(pair: Pair, asker: Side, notify: Notify) -> None:
    """The request that is on its way gets this answer."""
    other = pair.server if asker is pair.client else pair.client
    (request,) = pair.take(asker)
    header = replace(Header.parse(request[0]), is_response=True, is_initiator=other.ike.sa.is_initiator)
    path = other.connection.path
    pair.give(asker, (other.ike.sa._protection.seal(header, [notify]), path))


# Child SAs


@pytest.mark.parametrize("who", ["client", "server"])
@pytest.mark.parametrize("proposal", [ESP, PFS])
def test_make_before_break(who: str, proposal: EspProposal) -> None:
    pair = _pair(ours=proposal, theirs=proposal)
    asker, other = (pair.client, pair.server) if who == "client" else (pair.server, pair.client)
    old_here, old_there = asker.children[0], other.children[0]
    asker.forget()
    other.forget()
    _rekey_child(pair, asker)
    pair.move(asker)
    # The responder is ready to receive before it answers, and goes on sending on the old SA.
    (new_there,) = other.told(ChildInstalled)
    assert (new_there.replaces, new_there.standby) == (old_there.spi_in, True)
    assert not other.told(ChildRemoved)
    pair.move(other)
    # The initiator sends on the new one at once, and deletes the old one only then.
    (new_here,) = asker.told(ChildInstalled)
    assert (new_here.replaces, new_here.standby) == (old_here.spi_in, False)
    assert not asker.told(ChildRemoved)
    pair.flush()
    for side, old in ((asker, old_here), (other, old_there)):
        (removed,) = side.told(ChildRemoved)
        assert (removed.spi_in, removed.linger) == (old.spi_in, _LINGER)
    assert (new_here.local, new_here.remote) == (old_here.local, old_here.remote)
    assert new_here.keys_in != old_here.keys_in
    pair.agree()


def test_the_new_child_sa_is_found_by_its_own_spi() -> None:
    pair = _pair()
    for _ in range(5):
        _rekey_child(pair, pair.client)
        pair.flush()
        _rekey_child(pair, pair.server)
        pair.flush()
    assert len({c.spi_in for c in pair.client.told(ChildInstalled)}) == 11
    assert len(pair.client.children) == len(pair.server.children) == 1
    assert len(pair.client.endpoint._hub.child_spis) == 1
    pair.agree()


def test_a_rekey_that_is_asked_for_twice_happens_once() -> None:
    pair = _pair()
    for _ in range(3):
        _rekey_child(pair, pair.client)
    pair.flush()
    assert len(pair.client.told(ChildInstalled)) == 2


def test_another_group_at_the_rekey() -> None:
    """What breaks iOS, macOS and Windows clients elsewhere: the group of the rekey is not the first one."""
    pair = _pair(ours=_GROUPS, theirs=_OTHER)
    pair.wire.clear()
    _rekey_child(pair, pair.client)
    pair.flush()
    assert len(pair.client.children) == 1
    pair.agree()
    theirs = _pair(ours=_OTHER, theirs=EspProposal.parse("aes128gcm16-ecp256-curve25519"))
    _rekey_child(theirs, theirs.server)
    theirs.flush()
    theirs.agree()


def test_the_group_that_the_peer_asks_for() -> None:
    pair = _pair(
        ours=EspProposal.parse("aes128gcm16-ecp384-ecp256"), theirs=EspProposal.parse("aes128gcm16-ecp256")
    )
    pair.wire.clear()
    _rekey_child(pair, pair.client)
    pair.flush()
    assert len(headers(pair.wire)) == 6  # refused, taken, the old one deleted
    pair.agree()


def test_a_group_that_keeps_changing() -> None:
    pair = _pair(ours=_GROUPS, theirs=_GROUPS)
    _rekey_child(pair, pair.client)
    for number in range(3):
        group = (31 if number % 2 else 19).to_bytes(2)
        _refuse(pair, pair.client, Notify.of(NotifyType.INVALID_KE_PAYLOAD, group))
    _refuse(pair, pair.client, Notify.of(NotifyType.INVALID_KE_PAYLOAD, (31).to_bytes(2)))
    assert pair.take(pair.client) == []
    assert "INVALID_KE_PAYLOAD" in pair.client.told(Diagnostic)[-1].text
    assert not pair.client.told(ConnectionDown)


@pytest.mark.parametrize("what", ["child", "ike"])
def test_a_peer_that_asks_for_the_group_that_it_got(what: str) -> None:
    pair = _pair(ours=_GROUPS, theirs=_GROUPS)
    if what == "child":
        _rekey_child(pair, pair.client)
    else:
        pair.client.endpoint.rekey_ike(1, pair.now)
    _refuse(pair, pair.client, Notify.of(NotifyType.INVALID_KE_PAYLOAD, (31).to_bytes(2)))
    assert pair.take(pair.client) == []
    assert "INVALID_KE_PAYLOAD" in pair.client.told(Diagnostic)[-1].text


def test_pfs_that_only_the_peer_wants() -> None:
    """We ask for none, and take any group: refusing it breaks tunnels at their first rekey."""
    pair = _pair(ours=PFS, theirs=ESP)
    _rekey_child(pair, pair.client)
    pair.flush()
    assert len(pair.server.told(ChildInstalled)) == 2
    pair.agree()


def test_pfs_that_the_peer_does_not_want() -> None:
    pair = _pair(ours=ESP, theirs=PFS)
    _rekey_child(pair, pair.client)
    pair.flush()
    assert "NO_PROPOSAL_CHOSEN" in pair.client.told(Diagnostic)[-1].text
    pair.agree()
    sent = len(pair.wire)
    pair.wait(29.0)
    assert len(pair.wire) == sent  # reported, and not tried again in a hurry
    pair.wait(200.0)
    assert 2 <= sum("NO_PROPOSAL" in d.text for d in pair.client.told(Diagnostic)) <= 8
    pair.agree()


def _ask_instead(pair: Pair, *, before: Sequence[Payload] = (), after: Sequence[Payload] = ()) -> None:
    """The client's request that has just been made goes out with more payloads."""
    pair.take(pair.client)
    ike = pair.client.ike
    assert ike.task is not None
    payloads = ike.task.request(ike, pair.now) or ()
    ike.sa.outgoing.pending = None
    pair.client.request(ExchangeType.CREATE_CHILD_SA, [*before, *payloads, *after], pair.now)


def test_a_configuration_payload_in_a_rekey() -> None:
    """MikroTik's."""
    pair = _pair()
    _rekey_child(pair, pair.client)
    _ask_instead(pair, after=[Configuration(CfgType.REQUEST, ((1, b""), (3, b"")))])
    pair.flush()
    assert len(pair.server.told(ChildInstalled)) == 2
    pair.agree()


@pytest.mark.parametrize(
    "rekey",
    [
        Notify(ProtocolId.NONE, b"", NotifyType.REKEY_SA, b""),
        Notify(ProtocolId.IKE, bytes(8), NotifyType.REKEY_SA, b""),
        Notify(ProtocolId.ESP, b"", NotifyType.REKEY_SA, b""),
        Notify(ProtocolId.AH, b"\xde\xad\xbe\xef", NotifyType.REKEY_SA, b""),
        Notify(ProtocolId.ESP, b"\xde\xad\xbe\xef", NotifyType.REKEY_SA, b""),
    ],
)
def test_a_rekey_of_something_that_does_not_exist(rekey: Notify) -> None:
    """CVE-2023-38710: nothing that was not looked at comes back."""
    pair = _pair()
    pair.client.endpoint.create_child(1, client_child(), pair.now)
    _ask_instead(pair, before=[rekey])
    pair.move(pair.client)
    assert len(pair.server.children) == 1
    pair.move(pair.server)
    assert "CHILD_SA_NOT_FOUND" in pair.client.told(Diagnostic)[-1].text
    pair.agree()


# Put off, and refused


def test_temporary_failure_is_not_retried_at_once() -> None:
    pair = _pair()
    _rekey_child(pair, pair.client)
    _refuse(pair, pair.client, Notify.of(NotifyType.TEMPORARY_FAILURE))
    assert pair.take(pair.client) == []
    due = pair.client.endpoint.poll_timer()
    assert due is not None
    assert 5.0 <= due - pair.now <= 15.0
    # The server has not seen the refused request, so that its window is one behind.
    pair.server.ike.sa.incoming.expected_id += 1
    pair.wait(15.0)
    assert len(pair.client.told(ChildInstalled)) == 2
    pair.agree()


def test_temporary_failure_for_minutes() -> None:
    """RFC 7296 section 2.25: then the two are out of step, and the IKE SA is closed."""
    pair = _pair()
    started = pair.now
    _rekey_child(pair, pair.client)
    while pair.client.state_names == ["Established"]:
        _refuse(pair, pair.client, Notify.of(NotifyType.TEMPORARY_FAILURE))
        due = pair.client.endpoint.poll_timer()
        assert due is not None
        pair.now = due
        pair.client.endpoint.handle_timer(pair.now)
    assert PATIENCE_SECONDS < pair.now - started < PATIENCE_SECONDS + 30.0
    pair.wait(5.0, flush=False)
    assert pair.client.told(ConnectionDown)[0].retry


def test_temporary_failures_far_apart_are_no_sign_of_trouble() -> None:
    pair = _pair()
    for _ in range(3):
        pair.client.ike.postpone(CheckAlive(), pair.now)
        pair.client.ike.later.clear()
        pair.now += 10 * PATIENCE_SECONDS
    assert pair.client.state_names == ["Established"]
    assert pair.client.ike.farewell is None


@pytest.mark.parametrize(
    "error", [NotifyType.NO_ADDITIONAL_SAS, NotifyType.NO_PROPOSAL_CHOSEN, NotifyType.TS_UNACCEPTABLE, 8190]
)
def test_a_peer_that_does_not_rekey(error: int) -> None:
    pair = _pair()
    _rekey_child(pair, pair.client)
    _refuse(pair, pair.client, Notify.of(error))
    assert pair.take(pair.client) == []
    pair.client.endpoint.rekey_ike(1, pair.now)
    _refuse(pair, pair.client, Notify.of(error))
    assert pair.take(pair.client) == []
    assert len(pair.client.told(Diagnostic)) == 2
    assert len(pair.client.children) == 1
    assert pair.client.state_names == ["Established"]


@pytest.mark.parametrize("who", ["client", "server"])
def test_the_peer_does_not_know_the_child_sa(who: str) -> None:
    """RFC 7296 section 2.25: silently gone, and a new one from scratch."""
    pair = _pair()
    asker, other = (pair.client, pair.server) if who == "client" else (pair.server, pair.client)
    lost = other.children[0]
    other.connection.children.clear()
    _rekey_child(pair, asker)
    pair.flush()
    assert [c.replaces for c in asker.children] == [None]
    assert lost.spi_in not in {c.spi_in for c in other.children[1:]}
    assert len(asker.connection.children) == len(other.connection.children) == 1


def test_a_child_sa_that_the_peer_may_not_know_yet_is_not_rekeyed() -> None:
    """Our answer to its rekey may be on its way still: the rekey waits until the old one is deleted."""
    pair = _pair()
    _rekey_child(pair, pair.client)
    pair.move(pair.client)
    (answer,) = pair.take(pair.server)
    new = pair.server.children[-1]
    pair.server.endpoint.rekey_child(1, new.spi_in, pair.now)
    assert pair.take(pair.server) == []
    pair.give(pair.client, answer)
    pair.flush()
    pair.wait(20.0)
    assert len(pair.server.told(ChildInstalled)) == 3
    pair.agree()


def test_an_old_child_sa_that_the_peer_forgets_to_delete() -> None:
    pair = _pair()
    old = pair.server.children[0]
    _rekey_child(pair, pair.client)
    pair.move(pair.client)
    (answer,) = pair.take(pair.server)
    pair.give(pair.client, answer)
    pair.take(pair.client)  # the Delete is lost
    pair.client.ike.sa.outgoing.pending = None
    pair.client.ike.task = None
    assert old in pair.server.children
    pair.wait(200.0)
    assert old not in pair.server.children
    assert len(pair.server.children) == 1


# The IKE SA


@pytest.mark.parametrize("who", ["client", "server"])
def test_the_ike_sa_is_replaced_and_its_children_stay(who: str) -> None:
    pair = _pair()
    asker = pair.client if who == "client" else pair.server
    before = pair.client.ike.sa
    children = pair.client.children
    asker.endpoint.rekey_ike(1, pair.now)
    asker.endpoint.rekey_ike(1, pair.now)
    pair.flush()
    assert len(pair.client.told(IkeRekeyed)) == len(pair.server.told(IkeRekeyed)) == 1
    after = pair.client.ike.sa
    assert {before.spi_i, before.spi_r}.isdisjoint({after.spi_i, after.spi_r})
    assert asker.ike.sa.is_initiator
    assert pair.client.children == children
    assert before.sk_d != after.sk_d == pair.server.ike.sa.sk_d
    pair.agree()
    # Message IDs start over, in both directions (RFC 7296 section 1.3.2).
    pair.wire.clear()
    for side in (pair.client, pair.server):
        side.endpoint.check_alive(1, pair.now)
        pair.flush()
    assert {h.message_id for h in headers(pair.wire)} == {0}
    _rekey_child(pair, pair.client)
    pair.flush()
    _rekey_child(pair, pair.server)
    pair.flush()
    pair.agree()
    pair.wait(100.0)
    assert len(pair.client.states) == len(pair.server.states) == 1


def test_the_new_ike_sa_may_have_another_suite() -> None:
    """SKEYSEED is made with the PRF of the old one (RFC 7296 section 2.18)."""
    other = IkeProposal.parse("aes256-sha512-prfsha384-ecp256")
    pair = Pair(client_config(ike=(IKE,)), server_config(ike=(IKE, other))).connect()
    pair.client.connection.policy = client_config(ike=(other,))
    pair.client.endpoint.rekey_ike(1, pair.now)
    pair.flush()
    assert pair.client.told(IkeRekeyed)[0].suite_name == "aes256-sha512-prfsha384-ecp256"
    pair.agree()


def test_the_group_of_the_new_ike_sa_is_the_one_that_the_peer_took() -> None:
    client = client_config(ike=(IkeProposal.parse("aes128gcm16-prfsha256-curve25519-ecp256"),))
    server = server_config(ike=(IkeProposal.parse("aes128gcm16-prfsha256-ecp256"),))
    pair = Pair(client, server).connect()
    pair.wire.clear()
    pair.client.endpoint.rekey_ike(1, pair.now)
    pair.flush()
    assert len(pair.wire) == 4
    pair.agree()


def test_the_group_that_the_peer_wants_for_the_new_ike_sa() -> None:
    both = IkeProposal.parse("aes128gcm16-prfsha256-curve25519-ecp256")
    pair = Pair(client_config(ike=(both,)), server_config(ike=(both,))).connect()
    pair.server.connection.policy = server_config(ike=(IkeProposal.parse("aes128gcm16-prfsha256-ecp256"),))
    pair.client.endpoint.rekey_ike(1, pair.now)
    pair.flush()
    assert pair.client.told(IkeRekeyed)
    pair.agree()


def test_what_waits_is_done_over_the_new_ike_sa() -> None:
    pair = _pair()
    pair.client.endpoint.rekey_ike(1, pair.now)
    pair.client.endpoint.create_child(1, client_child(remote="10.1.7.0/24"), pair.now)
    pair.client.endpoint.rekey_child(1, pair.client.children[0].spi_in, pair.now)
    pair.flush()
    assert len(pair.client.children) == 2
    pair.agree()


def test_the_responder_asks_nothing_over_the_new_ike_sa_before_the_peer_has_it() -> None:
    pair = _pair()
    pair.client.endpoint.rekey_ike(1, pair.now)
    pair.move(pair.client)
    pair.server.endpoint.check_alive(1, pair.now)
    (answer,) = pair.take(pair.server)
    assert Header.parse(answer[0]).exchange == ExchangeType.CREATE_CHILD_SA
    pair.now += 5.0
    pair.server.endpoint.handle_timer(pair.now)
    assert pair.take(pair.server) == []
    pair.give(pair.client, answer)
    pair.wire.clear()
    pair.flush()
    assert sum(h.spi_i == pair.client.ike.sa.spi_i and not h.is_response for h in headers(pair.wire)) == 1
    pair.agree()


def test_an_old_ike_sa_that_is_never_deleted() -> None:
    pair = _pair()
    pair.client.endpoint.rekey_ike(1, pair.now)
    pair.move(pair.client)
    pair.move(pair.server)
    pair.take(pair.client)
    (gone,) = (s for s in pair.client.states if type(s).__name__ == "Deleting")
    pair.client.endpoint._hub.discard(gone.local_spi)
    assert "Superseded" in pair.server.state_names
    pair.wait(300.0)
    assert pair.server.state_names == pair.client.state_names == ["Established"]
    pair.agree()


def test_the_peer_piles_up_ike_sas() -> None:
    pair = _pair()
    for _ in range(40):
        pair.client.endpoint.rekey_ike(1, pair.now)
        pair.move(pair.client)
        pair.move(pair.server)
        pair.take(pair.client)
        for state in pair.client.states:
            if type(state).__name__ == "Deleting":
                pair.client.endpoint._hub.discard(state.local_spi)
    assert len(pair.server.states) <= 16


def _kinds(events: list[Event]) -> list[str]:
    return [type(e).__name__ for e in events]


def test_a_rekey_says_nothing_but_what_it_is() -> None:
    pair = _pair()
    pair.client.forget()
    pair.client.endpoint.rekey_ike(1, pair.now)
    pair.flush()
    _rekey_child(pair, pair.client)
    pair.flush()
    pair.client.collect()
    assert _kinds(pair.client.events) == ["IkeRekeyed", "ChildInstalled", "ChildRemoved"]
