"""Windows of one, byte-identical answers, back-off (RFC 7296 sections 2.1 to 2.3)."""

import pytest

from espudp.ike.config import Timers
from espudp.ike.exchange import Arrival, IncomingRequests, OutgoingRequests, Retransmission, patience

_TIMERS = Timers(retransmit_initial=1.0, retransmit_factor=2.0, retransmit_max=5.0, retransmit_tries=4)


def test_each_wait_is_longer_than_the_last_up_to_a_limit() -> None:
    retransmission = Retransmission(_TIMERS, 100.0)
    at = []
    while True:
        at.append(retransmission.deadline)
        assert not retransmission.is_due(retransmission.deadline - 0.001)
        assert retransmission.is_due(retransmission.deadline)
        if not retransmission.advance(retransmission.deadline):
            break
    assert at == [101.0, 103.0, 107.0, 112.0, 117.0]
    assert patience(_TIMERS) == at[-1] - 100.0


def test_requests_are_numbered_and_one_at_a_time() -> None:
    requests = OutgoingRequests(first_id=1)
    assert not requests.awaits(1, 35)
    requests.start(35, _TIMERS, 0.0)
    assert requests.awaits(1, 35)
    assert not requests.awaits(1, 36)
    assert not requests.awaits(0, 35)
    assert not requests.awaits(2, 35)
    requests.finish()
    assert requests.next_id == 2
    assert not requests.awaits(1, 35)


def test_a_repetition_is_octet_for_octet_the_last_request() -> None:
    requests = IncomingRequests()
    assert requests.classify(0, b"first") is Arrival.NEW
    assert requests.classify(1, b"second") is Arrival.OUTSIDE
    requests.answered(b"first")
    assert requests.classify(0, b"first") is Arrival.REPEATED
    assert requests.classify(0, b"forged") is Arrival.OUTSIDE
    assert requests.classify(1, b"second") is Arrival.NEW
    requests.answered(b"second")
    assert requests.classify(0, b"first") is Arrival.OUTSIDE


@pytest.mark.parametrize("message_id", [-1, 2, 0xFFFF_FFFF])
def test_nothing_before_the_first_request_is_a_repetition(message_id: int) -> None:
    assert IncomingRequests().classify(message_id, b"") is Arrival.OUTSIDE


def test_message_ids_do_not_wrap() -> None:
    requests = IncomingRequests(first_id=0x1_0000_0000)
    assert requests.classify(0, b"x") is Arrival.OUTSIDE
    assert requests.classify(0x1_0000_0000, b"x") is Arrival.OUTSIDE
