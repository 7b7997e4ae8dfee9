"""Every state of a phase 1 meets every message of it, whole and disguised as others: nothing escapes, and the
two come together all the same.
"""

from collections.abc import Iterator
from dataclasses import replace

import pytest

from espudp.ike.events import ConnectionDown, ConnectionUp
from espudp.ike.ikev1_config import Mode
from espudp.wire import natt
from espudp.wire.ikev1.constants import ExchangeType
from espudp.wire.ikev1.header import HEADER_OCTETS, Header
from tests.scenario.lab import Lab
from tests.scenario.lab_v1 import TermsV1, lab_v1
from tests.sim.host import NATT_PORT
from tests.sim.link import Datagram

# Of which a handshake with mode config and quick mode has no more.
_STAGES = 12


def _lab(mode: Mode) -> Lab:
    return lab_v1(5, TermsV1(exchange=mode))


def _conversation(mode: Mode) -> list[Datagram]:
    """All messages of both sides, from the first one to the last of quick mode."""
    lab, sent = _lab(mode), list[Datagram]()
    client = lab.client()
    for host in (client, lab.server):
        host.on_send.append(sent.append)
    lab.connect(client)
    lab.world.run(1.0)
    return sent


def _disguises(datagram: Datagram) -> Iterator[Datagram]:
    """It and what it is not."""
    yield datagram
    marker = b"" if datagram.source.port != NATT_PORT else natt.NON_ESP_MARKER
    octets = datagram.payload[len(marker) :]
    header, body = Header.parse(octets), octets[HEADER_OCTETS:]
    others = [
        replace(header, encrypted=not header.encrypted),
        replace(header, message_id=header.message_id ^ 1),
        replace(header, cookie_i=bytes(8)),
        replace(header, cookie_r=bytes(8)),
        replace(header, cookie_r=header.cookie_i, cookie_i=header.cookie_r),
        replace(header, next_payload=132),
        *(replace(header, exchange=kind) for kind in ExchangeType if kind != header.exchange),
    ]
    for other in others:
        yield datagram._replace(payload=marker + other.emit() + body)


@pytest.mark.parametrize("mode", Mode)
@pytest.mark.parametrize("stage", range(_STAGES))
def test_every_state_meets_every_message(mode: Mode, stage: int) -> None:
    conversation = _conversation(mode)
    assert len(conversation) <= _STAGES
    for message in conversation:
        _meets(mode, stage, message)


def _meets(mode: Mode, stage: int, message: Datagram) -> None:
    """So many messages have been sent when this one comes in all its disguises."""
    lab, seen = _lab(mode), list[Datagram]()
    client = lab.client()
    for host in (client, lab.server):
        host.on_send.append(seen.append)
    client.connect(lab.terms.connection(), lab.server_ip)
    lab.world.run_until(lambda: len(seen) > stage or client.up, 5.0)
    victim = lab.server if message.destination.ip == lab.server_ip else client
    for odd in _disguises(message):
        victim.receive(odd)
    lab.world.run(10.0)
    assert client.up
    assert lab.server.up
    assert len(client.told(ConnectionUp)) == len(lab.server.told(ConnectionUp)) == 1
    assert not client.told(ConnectionDown)
    assert not lab.server.told(ConnectionDown)
