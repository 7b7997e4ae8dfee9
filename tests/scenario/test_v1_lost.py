"""IKEv1's phase 1 where one message gets lost: who repeats what, and from which port to which."""

import pytest

from espudp.ike.events import ConnectionUp
from espudp.ike.ikev1_config import Mode
from espudp.ike.pad import PadEntry
from espudp.wire.address import Path, UdpAddress
from tests.scenario.credentials import CLIENT, SERVER, person, trust
from tests.scenario.lab import Lab
from tests.scenario.lab_v1 import TermsV1, lab_v1
from tests.scenario.test_v1_xauth import downs, pair_of
from tests.sim.host import IKE_PORT, NATT_PORT, Host
from tests.sim.link import Datagram

_MESSAGES = [(Mode.MAIN, number) for number in range(6)] + [(Mode.AGGRESSIVE, number) for number in range(3)]


def _sent_by(*hosts: Host) -> list[Datagram]:
    sent: list[Datagram] = []
    for host in hosts:
        host.on_send.append(sent.append)
    return sent


def _lose(host: Host, number: int) -> None:
    """Of what the host sends, this one, from 0."""
    carry, seen = host.link.carry, list[Datagram]()

    def carry_all_but_one(datagram: Datagram, deliver: object) -> None:
        if datagram.source.ip == host.ip:
            seen.append(datagram)
        if datagram.source.ip != host.ip or len(seen) != number + 1:
            carry(datagram, deliver)  # type: ignore[arg-type]

    host.link.carry = carry_all_but_one  # type: ignore[method-assign]


def _terms(mode: Mode, proof: str) -> TermsV1:
    if proof == "psk":
        return TermsV1(exchange=mode)
    server, client = person("RSA", SERVER), person("RSA", CLIENT)
    return TermsV1(
        exchange=mode, proof=client.proof, demand=trust(), pad=(PadEntry(proof=server.proof, demand=trust()),)
    )


def _agrees(lab: Lab, client: Host, *, behind: bool) -> None:
    lab.world.run(1.0)
    (here,), (there,) = client.told(ConnectionUp), lab.server.told(ConnectionUp)
    assert (here.nat.local, here.nat.remote) == (there.nat.remote, there.nat.local) == (behind, False)
    assert here.path.local.port == there.path.local.port == NATT_PORT
    assert all(flow.tally.perfect for flow in lab.exchange(client, 0.5))


@pytest.mark.parametrize(("mode", "number"), _MESSAGES)
@pytest.mark.parametrize("behind", [False, True])
@pytest.mark.parametrize("proof", ["psk", "rsa"])
def test_each_message_may_get_lost(mode: Mode, number: int, behind: bool, proof: str) -> None:
    lab = lab_v1(terms=_terms(mode, proof))
    client = lab.client(behind=lab.nat() if behind else None)
    _lose(lab.server if number % 2 else client, number // 2)
    client.connect(lab.terms.connection(), lab.server_ip)
    lab.world.run_until(lambda: client.up and lab.server.up, 10.0)
    _agrees(lab, client, behind=behind)


def test_the_last_message_of_who_then_has_to_wait() -> None:
    """In aggressive mode with a login the gateway has the next word, and repeats its message 2 from port 500;
    the client's message 3 was meant for port 4500, and goes there again.
    """
    pair = pair_of(mode=Mode.AGGRESSIVE)
    pair.dial(port=IKE_PORT)
    pair.move(pair.client)
    pair.move(pair.server)
    ((_, path),) = pair.take(pair.client)
    assert path.local.port == NATT_PORT
    pair.wait(10.0)
    assert not downs(pair)
    for side in (pair.client, pair.server):
        (up,) = side.told(ConnectionUp)
        assert up.path.local.port == up.path.remote.port == NATT_PORT
        assert not up.nat.found
    sent = [(seen.local.port, seen.remote.port) for _, seen in pair.wire]
    assert sent.count((IKE_PORT, IKE_PORT)) == 3  # message 1, and message 2 twice


def test_a_gateway_that_repeats_its_fourth_message() -> None:
    """Some do where the fifth gets lost; that goes from port 4500 to port 4500 again."""
    lab = lab_v1()
    client = lab.client(behind=lab.nat())
    _lose(client, 2)
    sent, told = _sent_by(client), _sent_by(lab.server)
    client.connect(lab.terms.connection(), lab.server_ip)
    lab.world.run_until(lambda: len(sent) == 3, 5.0)
    fourth, now = told[1].payload, lab.world.now
    path = Path(UdpAddress(client.ip, IKE_PORT), UdpAddress(lab.server_ip, IKE_PORT))
    client.do(lambda tunnel: tunnel.receive_datagrams([fourth], path, now))
    assert sent[3].payload == sent[2].payload
    assert (sent[3].source.port, sent[3].destination.port) == (NATT_PORT, NATT_PORT)
    lab.world.run_until(lambda: client.up, 5.0)
    _agrees(lab, client, behind=True)
