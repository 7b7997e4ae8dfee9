"""IKE messages that are larger than the way is wide (RFC 7383): 255 subnets on either side make IKE_AUTH as
long as a chain of certificates does, in both directions.
"""

from collections import defaultdict
from dataclasses import replace
from functools import partial

import pytest

from espudp.ike.events import ConnectionDown, ConnectionUp, IkeRekeyed
from espudp.wire import natt
from espudp.wire.ikev2.constants import ExchangeType, PayloadType
from espudp.wire.ikev2.header import HEADER_OCTETS, Header
from tests.scenario.lab import SERVER_IP, Lab, Terms
from tests.sim.host import NATT_PORT, Host
from tests.sim.link import Datagram, Quality

_HERE = tuple(f"172.16.{number}.0/24" for number in range(255))
_THERE = tuple(f"10.{number}.0.0/24" for number in range(255))
_CLIENT = Terms(local=_HERE, remote=_THERE, request=())
_SERVER = Terms(local=_THERE, remote=_HERE, pool=())

# RFC 791, RFC 768, RFC 3948, and RFC 7383 section 2.5
_IP_UDP_MARKER = 20 + 8 + 4
_NUMBER_AT = HEADER_OCTETS + 4


def _lab(seed: int = 0, *, ike: str = "aes128gcm16-prfsha256-curve25519", **wire: float) -> Lab:
    quality = replace(Quality(fragments=False), **wire)  # type: ignore[arg-type]
    return Lab(seed, replace(_CLIENT, ike=(ike,)), replace(_SERVER, ike=(ike,)), quality)


def _ike(datagram: Datagram) -> tuple[Header, bytes] | None:
    message = datagram.payload
    if datagram.source.port == NATT_PORT:
        if natt.classify(message) is not natt.Kind.IKE:
            return None
        message = message[len(natt.NON_ESP_MARKER) :]
    return Header.parse(message), message


class _Ear:
    """The fragments that two hosts send from now on, by who, exchange and direction."""

    def __init__(self, *hosts: Host) -> None:
        self.fragments: dict[tuple[str, int, bool], list[bytes]] = defaultdict(list)
        self.longest = 0
        for host in hosts:
            host.on_send.append(partial(self._saw, host.name))

    def _saw(self, name: str, datagram: Datagram) -> None:
        ike = _ike(datagram)
        if ike is not None and ike[0].next_payload == PayloadType.SKF:
            self.fragments[name, ike[0].exchange, ike[0].is_response].append(ike[1])
            self.longest = max(self.longest, datagram.ip_octets)

    def totals(self, name: str, *, response: bool, exchange: int = ExchangeType.IKE_AUTH) -> list[int]:
        """The totals that fragments of messages announced, in order of appearance."""
        sent = self.fragments[name, exchange, response]
        return list(dict.fromkeys(int.from_bytes(m[_NUMBER_AT + 2 :][:2]) for m in sent))


def _fine(lab: Lab, client: Host) -> None:
    (here,), (there,) = client.children(), lab.server.children()
    assert (here.spi_in, here.spi_out) == (there.spi_out, there.spi_in)
    assert len(here.local) == len(here.remote) == len(there.local) == 255
    assert not client.told(ConnectionDown) + lab.server.told(ConnectionDown)


def _rekey_child(host: Host) -> None:
    spi = host.children()[0].spi_in
    host.do(lambda tunnel: tunnel.rekey_child(host.connection, spi, host.world.now))


@pytest.mark.parametrize("mtu", [1280, 1500])
def test_a_long_handshake_goes_through_at_the_first_try(mtu: int) -> None:
    """Who knows nothing of the way uses fragments of 1280 octets (RFC 7383 section 2.5.1)."""
    lab = _lab(mtu=mtu)
    client = lab.client()
    ear = _Ear(client, lab.server)
    before = lab.world.now
    lab.connect(client)
    assert lab.world.now - before < 0.1
    assert 1240 <= ear.longest <= 1280
    assert ear.totals("client", response=False) == ear.totals("server", response=True) == [8]
    assert client.link.counts["too big"] == 0
    _fine(lab, client)


@pytest.mark.parametrize("mtu", [576, 1000])
@pytest.mark.parametrize("ike", ["aes128gcm16-prfsha256-curve25519", "aes256-sha256-prfsha256-curve25519"])
def test_what_gets_no_answer_is_cut_into_smaller_pieces(mtu: int, ike: str) -> None:
    """RFC 7383 section 2.5.2: after two tries, 576 octets; and the answer comes in the same size at once."""
    lab = _lab(ike=ike, mtu=mtu)
    client = lab.client()
    ear = _Ear(client, lab.server)
    before = lab.world.now
    lab.connect(client)
    assert lab.world.now - before < 2.0
    assert ear.totals("client", response=False) == [8, 18]
    assert len(ear.totals("server", response=True)) == 1
    assert client.link.counts["too big"] > 0
    _fine(lab, client)


@pytest.mark.parametrize(("mtu", "total"), [(1400, 7), (600, 17), (300, 41), (9000, None)])
def test_a_path_mtu_that_is_known_is_used(mtu: int, total: int | None) -> None:
    lab = _lab(mtu=mtu)
    client = lab.client()
    client.do(lambda tunnel: tunnel.set_path_mtu(SERVER_IP, mtu))
    ear = _Ear(client, lab.server)
    before = lab.world.now
    lab.connect(client)
    assert lab.world.now - before < 0.1
    assert ear.totals("client", response=False) == ([] if total is None else [total])
    _fine(lab, client)


def test_the_size_that_works_is_kept_and_lives_through_a_rekey() -> None:
    lab = _lab(mtu=600)
    client = lab.client()
    lab.connect(client)
    ear = _Ear(client, lab.server)
    client.do(
        lambda tunnel: tunnel.rekey_child(client.connection, client.children()[0].spi_in, lab.world.now)
    )
    lab.world.run(5.0)
    assert ear.totals("client", response=False, exchange=ExchangeType.CREATE_CHILD_SA) == [18]
    client.do(lambda tunnel: tunnel.rekey_ike(client.connection, lab.world.now))
    lab.world.run(5.0)
    assert client.told(IkeRekeyed)
    _rekey_child(lab.server)
    lab.world.run(5.0)
    assert ear.totals("server", response=False, exchange=ExchangeType.CREATE_CHILD_SA) == [7, 18]
    lab.world.run(10.0)
    _fine(lab, client)


def test_fragments_are_sent_again_octet_for_octet() -> None:
    lab = _lab(mtu=400)  # nothing gets through
    client = lab.client()
    ear = _Ear(client)
    client.connect(lab.terms.connection(), SERVER_IP)
    lab.world.run(200.0)
    sent = ear.fragments["client", ExchangeType.IKE_AUTH, False]
    sets: dict[tuple[int, int], set[bytes]] = defaultdict(set)
    for message in sent:
        number, total = (int.from_bytes(message[_NUMBER_AT + at :][:2]) for at in (0, 2))
        sets[number, total].add(message)
    assert all(len(octets) == 1 for octets in sets.values())
    assert len(sent) == 2 * 8 + 9 * 18
    assert client.told(ConnectionDown)


@pytest.mark.parametrize("seed", range(8))
def test_fragments_get_lost_and_come_twice_and_late(seed: int) -> None:
    lab = _lab(seed, mtu=576 if seed % 2 else 1280, loss=0.03, duplicate=0.2, jitter=0.3)
    client = lab.client(behind=lab.nat() if seed % 3 else None)
    client.keep_up(lab.terms.connection(), SERVER_IP)
    lab.world.run_until(lambda: client.up, within=300.0)
    lab.world.run(30.0)
    (here,) = client.children()
    assert here.spi_out in {child.spi_in for child in lab.server.children()}
    assert len(client.told(ConnectionUp)) == 1


def test_a_short_handshake_has_no_fragments() -> None:
    """RFC 7383 section 2.4: there is no point in them."""
    lab = Lab()
    client = lab.client()
    ear = _Ear(client, lab.server)
    lab.connect(client)
    assert not ear.fragments
    assert all(flow.tally.perfect for flow in lab.exchange(client))
