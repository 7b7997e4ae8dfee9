"""IKEv1's phase 1 between two of us: each mode, each proof, NAT or not, in any weather."""

from collections.abc import Sequence
from dataclasses import replace

import pytest

from espudp.crypto.ikev1keys import decrypt
from espudp.crypto.suites import encr_by_keyword
from espudp.ike.config import Encapsulation, Identity, Limits
from espudp.ike.credentials import Demand, Proof
from espudp.ike.events import ConnectionDown, ConnectionUp, Fault, IkeRekeyed, NatStatus, PeerRefused
from espudp.ike.ikev1_config import Ikev1Config, Ikev1Policy, Mode, NatTraversal
from espudp.ike.keylog import IsakmpKeyLog, KeyLogEntry
from espudp.ike.pad import PadEntry, Pattern
from espudp.ike.v1 import (
    aggressive_initiator,
    aggressive_responder,
    informational,
    main_initiator,
    main_responder,
    proof,
)
from espudp.ike.v1.attempt import Attempt
from espudp.ike.v1.main_responder import MAX_KEYS
from espudp.ike.v1.natt import FLAVOURS
from espudp.ike.v1.sa import Chain
from espudp.wire import natt
from espudp.wire.address import UdpAddress
from espudp.wire.ikev1.constants import ExchangeType, NotifyType, ProtocolId, name_of_notify
from espudp.wire.ikev1.header import HEADER_OCTETS
from espudp.wire.ikev1.message import emit_message, parse_message
from espudp.wire.ikev1.payloads import (
    Identification,
    Notification,
    Payload,
    SecurityAssociation,
    VendorId,
    body_of,
)
from tests.scenario.credentials import CLIENT, SERVER, person, trust
from tests.scenario.lab import CLIENT_IP, PSK, Lab, Terms, is_esp
from tests.scenario.lab_v1 import TermsV1, lab_v1
from tests.scenario.test_v1_dpd import connection_of
from tests.scenario.test_v1_xauth import ALICE, USERS, downs, pair_of
from tests.sim.host import IKE_PORT, NATT_PORT, Host
from tests.sim.link import Datagram, Quality

MODES = pytest.mark.parametrize("mode", Mode)


def _entry(proof: Proof, demand: Demand, **more: object) -> PadEntry:
    return PadEntry(proof=proof, demand=demand, **more)  # type: ignore[arg-type]


def _rsa(mode: Mode) -> TermsV1:
    server, client = person("RSA", SERVER), person("RSA", CLIENT)
    return TermsV1(exchange=mode, proof=client.proof, demand=trust(), pad=(_entry(server.proof, trust()),))


def _sent_by(host: Host) -> list[Datagram]:
    sent: list[Datagram] = []
    host.on_send.append(sent.append)
    return sent


def _works(lab: Lab, client: Host, within: float = 30.0) -> None:
    lab.connect(client, within=within)
    lab.world.run_until(lambda: lab.server.up, within)
    lab.world.run(1.0)
    assert all(flow.tally.perfect for flow in lab.exchange(client, 0.5))


@MODES
@pytest.mark.parametrize("behind", [False, True])
@pytest.mark.parametrize("proof", ["psk", "rsa"])
def test_each_mode_with_each_proof(mode: Mode, proof: str, behind: bool) -> None:
    lab = lab_v1(terms=_rsa(mode) if proof == "rsa" else TermsV1(exchange=mode))
    client = lab.client(behind=lab.nat() if behind else None)
    sent = _sent_by(client)
    _works(lab, client)
    (here,), (there,) = client.told(ConnectionUp), lab.server.told(ConnectionUp)
    assert here.ike_version == there.ike_version == 1
    assert (here.initiator, there.initiator) == (True, False)
    assert here.remote_identity == there.local_identity
    assert there.remote_identity == here.local_identity
    assert here.nat.local == there.nat.remote == behind
    # RFC 3947 section 4: the first message that nobody can read goes to port 4500, and all that follow.
    ports = [d.source.port for d in sent]
    plain = 2 if mode is Mode.MAIN else 1
    assert ports[:plain] == [IKE_PORT] * plain
    assert set(ports[plain:]) == {NATT_PORT}


@MODES
@pytest.mark.parametrize("plain", [False, True])
def test_over_ipv6(mode: Mode, plain: bool) -> None:
    lab = lab_v1(terms=TermsV1(exchange=mode, plain_esp=plain), server_ip="2001:db8::1")
    client = lab.client(ip="2001:db8:7::7")
    _works(lab, client)
    assert client.told(ConnectionUp)[0].nat == NatStatus(claimed=not plain)


@pytest.mark.parametrize("proved_by", ["psk", "rsa"])
def test_aggressive_mode_whose_third_message_is_in_the_clear(
    proved_by: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As RFC 2409 section 5.4 has it, and racoon: what is encrypted first is quick mode. INITIAL-CONTACT has
    no protection there, and does not count.
    """

    def seal(chain: Chain, exchange: int, payloads: Sequence[Payload], *, commit: bool = False) -> bytes:
        if exchange != ExchangeType.AGGRESSIVE:
            return sealed(chain, exchange, payloads, commit=commit)
        return emit_message(chain._sa.header(exchange, 0), payloads)

    sealed = Chain.seal
    monkeypatch.setattr(Chain, "seal", seal)
    lab = lab_v1(terms=_rsa(Mode.AGGRESSIVE) if proved_by == "rsa" else TermsV1(exchange=Mode.AGGRESSIVE))
    client = lab.client(behind=lab.nat())
    _works(lab, client)
    client.die()
    client.revive()
    _works(lab, client)
    assert not lab.server.told(ConnectionDown)


def test_both_versions_at_one_listener() -> None:
    lab = lab_v1()
    old, new = lab.client("old", number=7), lab.client("new", number=8)
    lab.connect(old)
    terms = Terms(ike=lab.terms.ike, esp=lab.terms.esp, remote=("10.0.0.0/8",))
    new.connect(terms.connection("new"), lab.server_ip)
    lab.world.run_until(lambda: new.up, 30.0)
    assert [e.ike_version for e in lab.server.told(ConnectionUp)] == [1, 2]
    assert old.address != new.address


@MODES
def test_a_wrong_psk(mode: Mode) -> None:
    lab = lab_v1(terms=TermsV1(exchange=mode), server=TermsV1(psk=b"another"))
    client = lab.client()
    client.connect(lab.terms.connection(), lab.server_ip)
    lab.world.run_until(lambda: bool(client.told(ConnectionDown)), 120.0)
    (down,) = client.told(ConnectionDown)
    assert down.fault is Fault.AUTHENTICATION
    assert "PSK" in down.reason + down.remedy
    if mode is Mode.MAIN:
        assert "PSK" in lab.server.told(PeerRefused)[0].reason
    assert not lab.server.told(ConnectionUp)


def test_a_certificate_that_is_not_trusted_is_told_under_protection() -> None:
    """By a message that the client can read, so that it need not guess."""
    terms = _rsa(Mode.MAIN)
    stranger = person("RSA", CLIENT, of="CN=Another")
    lab = lab_v1(terms=replace(terms, proof=stranger.proof), server=terms)
    client = lab.client()
    client.connect(lab.terms.connection(), lab.server_ip)
    lab.world.run_until(lambda: bool(client.told(ConnectionDown)), 30.0)
    assert client.told(ConnectionDown)[0].fault is Fault.AUTHENTICATION
    assert "AUTHENTICATION_FAILED" in client.told(ConnectionDown)[0].reason


def test_no_common_proposal_is_told_with_both_sides_offers() -> None:
    lab = lab_v1(server=TermsV1(ike=("aes256-sha512-modp2048",)))
    client = lab.client()
    client.connect(lab.terms.connection(), lab.server_ip)
    lab.world.run_until(lambda: bool(client.told(ConnectionDown)), 120.0)
    (down,), refused = client.told(ConnectionDown), lab.server.told(PeerRefused)[0]
    assert down.fault is Fault.PROPOSAL
    assert "aes128-sha256-curve25519" in down.remedy
    assert [line for line in refused.detail.splitlines() if "nothing in common" in line]
    assert "curve25519" in refused.detail
    assert "modp2048" in refused.detail


def test_a_mode_that_is_not_wanted() -> None:
    lab = lab_v1(
        terms=TermsV1(exchange=Mode.AGGRESSIVE, ikev1_policy=Ikev1Policy(modes=frozenset({Mode.MAIN})))
    )
    client = lab.client()
    client.connect(lab.terms.connection(), lab.server_ip)
    lab.world.run_until(lambda: bool(client.told(ConnectionDown)), 120.0)
    (down,) = client.told(ConnectionDown)
    assert "UNSUPPORTED_EXCHANGE_TYPE" in down.reason
    assert (down.remedy, down.retry) == ("Try --ikev1 main.", False)
    (refused,) = lab.server.told(PeerRefused)  # though the client has asked more than once
    assert "aggressive" in refused.reason


@pytest.mark.parametrize(("protocol", "port"), [(0, 0), (17, 500), (17, 0), (17, 4500)])
@MODES
def test_identities_with_a_protocol_and_a_port(
    mode: Mode, protocol: int, port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """RFC 2407 section 4.6.2 wants none or 17/500, others have 17/0: they mean nothing, and are signed."""
    for module in (aggressive_initiator, aggressive_responder, main_initiator, main_responder, proof):
        monkeypatch.setattr(
            module, "identification", lambda who: Identification(who.type, who.data, protocol, port)
        )
    lab = lab_v1(terms=TermsV1(exchange=mode))
    client = lab.client(behind=lab.nat())
    _works(lab, client)
    assert str(lab.server.told(ConnectionUp)[0].remote_identity) == "client@example.org"


def test_a_private_address_for_a_name() -> None:
    """As those without a name have it: the one that the host has behind its NAT, twice the same here."""
    lab = lab_v1(terms=TermsV1(pad=(replace(PadEntry.of_psk(PSK), peers=(Pattern.parse("192.168.1.7"),)),)))
    one, other = lab.client(behind=lab.nat()), lab.client("other", behind=lab.nat("198.51.100.2"))
    config = replace(lab.terms.connection(), local_identity=Identity.parse("192.168.1.7"))
    for client in (one, other):
        client.connect(config, lab.server_ip)
        lab.world.run_until(lambda client=client: client.up, 10.0)  # type: ignore[misc]
    lab.world.run(1.0)
    assert not lab.server.told(ConnectionDown)
    for client in (one, other):
        assert all(flow.tally.perfect for flow in lab.exchange(client, 0.5))


@pytest.mark.parametrize(
    ("doi", "situation", "notify"),
    [(7, 1, "DOI_NOT_SUPPORTED"), (1, 3, "SITUATION_NOT_SUPPORTED")],
)
def test_another_domain_of_interpretation(doi: int, situation: int, notify: str) -> None:
    """RFC 2407 section 4.2, RFC 2408 section 5.4."""
    pair = pair_of(mode=Mode.MAIN)
    pair.dial(port=IKE_PORT)
    ((octets, path),) = pair.take(pair.client)
    message = parse_message(octets)
    sa, *others = message.payloads
    assert isinstance(sa, SecurityAssociation)
    odd = replace(sa, body=doi.to_bytes(4) + situation.to_bytes(4) + sa.body[8:])
    pair.give(pair.server, (emit_message(message.header, [odd, *others]), path))
    ((answer, _),) = pair.take(pair.server)
    (told,) = parse_message(answer).all(Notification)
    assert name_of_notify(told.type) == notify


def test_nobody_answers() -> None:
    lab = lab_v1()
    client = lab.client()
    lab.server.die()
    client.connect(lab.terms.connection(), lab.server_ip)
    lab.world.run_until(lambda: bool(client.told(ConnectionDown)), 300.0)
    (down,) = client.told(ConnectionDown)
    assert down.fault is Fault.TIMEOUT
    assert down.retry


def test_the_psk_is_found_by_where_the_peer_is_or_else_tried() -> None:
    """In main mode no name is known when the key is needed."""
    psks = (b"one", b"two", b"three")
    pad = tuple(
        replace(PadEntry.of_psk(psk), peers=(Pattern.parse(f"client{n}@example.org"),))
        for n, psk in enumerate(psks)
    )
    lab = lab_v1(terms=TermsV1(pad=pad))
    for n, psk in enumerate(psks):
        client = lab.client(f"client{n}", number=7 + n)
        client.connect(replace(lab.terms, psk=psk).connection(client.name), lab.server_ip)
        lab.world.run(5.0)
        assert client.up
    # Who knows a key of somebody else does not become that somebody, nor anybody.
    thief = lab.client("client0", number=20)
    thief.connect(replace(lab.terms, psk=b"two").connection("client0"), lab.server_ip)
    lab.world.run(100.0)
    assert not thief.told(ConnectionUp)
    assert len(lab.server.told(ConnectionUp)) == 3


def test_in_aggressive_mode_the_psk_is_found_by_name() -> None:
    """And whether a name is known is not told: what a stranger gets is no other than what everybody gets."""
    pad = tuple(
        replace(
            PadEntry.of_psk(b"key %d" % n),
            peers=(Pattern.parse(f"client{n}@example.org"),),
            local_identity=Identity.parse("gateway.of.this.way.in"),
        )
        for n in range(3)
    )
    lab = lab_v1(terms=TermsV1(exchange=Mode.AGGRESSIVE, pad=pad, remote_identity=None))
    told = _sent_by(lab.server)
    answers = []
    for n in range(4):
        client = lab.client(f"client{n}", number=7 + n)
        seen = len(told)
        client.connect(replace(lab.terms, psk=b"key %d" % n).connection(client.name), lab.server_ip)
        lab.world.run(5.0)
        assert client.up == (n < 3)
        message = parse_message(told[seen].payload)
        answers.append([(type(p), len(body_of(p))) for p in message.payloads])
    assert answers == [answers[0]] * 4


def test_one_of_many_psks() -> None:
    """Wherever the peers are: their names come after their keys."""
    pad = tuple(
        replace(PadEntry.of_psk(b"key %d" % n), peers=(Pattern.parse(f"client{n}@example.org"),))
        for n in range(MAX_KEYS + 1)
    )
    lab = lab_v1(terms=TermsV1(pad=pad))
    for n in (0, MAX_KEYS - 1, MAX_KEYS):
        client = lab.client(f"client{n}", number=7 + n)
        client.connect(replace(lab.terms, psk=b"key %d" % n).connection(client.name), lab.server_ip)
        lab.world.run(5.0)
        assert client.up == (n < MAX_KEYS)


@MODES
def test_a_gateway_that_only_claims_a_nat(mode: Mode) -> None:
    terms = TermsV1(exchange=mode, plain_esp=True)
    server = replace(terms, encap=Encapsulation.ALWAYS)
    lab = lab_v1(terms=terms, server=server)
    client = lab.client()
    sent = _sent_by(client)
    _works(lab, client)
    assert client.told(ConnectionUp)[0].nat == NatStatus(claimed=True)
    assert any(map(is_esp, sent))


@MODES
def test_without_a_nat_esp_goes_plain_where_that_is_possible(mode: Mode) -> None:
    lab = lab_v1(terms=TermsV1(exchange=mode, plain_esp=True))
    client = lab.client()
    sent = _sent_by(client)
    _works(lab, client)
    assert not any(map(is_esp, sent))
    assert {d.source.port for d in sent if d.protocol == 17} == {IKE_PORT}


@MODES
@pytest.mark.parametrize("version", NatTraversal)
@pytest.mark.parametrize("theirs", [False, True])
def test_every_version_of_nat_traversal(mode: Mode, version: NatTraversal, theirs: bool) -> None:
    """Whichever side knows only that one."""
    only = (version,)
    terms = TermsV1(exchange=mode)
    server = (
        terms
        if not theirs
        else replace(terms, ikev1_policy=Ikev1Policy(modes=frozenset(Mode), nat_traversal=only))
    )
    if not theirs:
        terms = replace(terms, ikev1=Ikev1Config(nat_traversal=only))
    lab = lab_v1(terms=terms, server=server)
    client = lab.client(behind=lab.nat())
    sent = _sent_by(client)
    _works(lab, client)
    (snapshot,) = client.tunnel.snapshot(lab.world.now).connections
    assert snapshot.nat_traversal == version.value
    floats = version not in (NatTraversal.DRAFT_00, NatTraversal.DRAFT_01)
    assert any(d.source.port == NATT_PORT for d in sent) == floats


def test_two_sides_with_several_versions_take_the_best_of_them() -> None:
    ours = (NatTraversal.DRAFT_02, NatTraversal.DRAFT_03, NatTraversal.DRAFT_00)
    terms = TermsV1(ikev1=Ikev1Config(nat_traversal=ours))
    lab = lab_v1(terms=terms)
    client = lab.client(behind=lab.nat())
    _works(lab, client)
    (snapshot,) = lab.server.tunnel.snapshot(lab.world.now).connections
    assert snapshot.nat_traversal == "draft-03"
    drafts = "draft-ietf-ipsec-nat-t-ike-"
    assert {f"{drafts}02", f"{drafts}03", f"{drafts}00", "DPD", "XAUTH"} <= set(snapshot.vendor_ids)


@pytest.mark.parametrize("late", ["client", "server"])
def test_vendor_ids_that_come_beside_the_public_value(late: str) -> None:
    """As Cisco's routers send all of them but those of NAT traversal."""
    pair = pair_of(mode=Mode.MAIN)
    pair.dial(port=IKE_PORT)
    later: list[VendorId] = []
    for number in range(4):
        here, there = (pair.client, pair.server) if number % 2 == 0 else (pair.server, pair.client)
        ((octets, path),) = pair.take(here)
        message = parse_message(octets)
        if (here is pair.client) == (late == "client"):
            early = {flavour.vendor_id for flavour in FLAVOURS.values()}
            moved = [v for v in message.all(VendorId) if v.data not in early]
            payloads = [*(p for p in message.payloads if p not in moved), *later]
            later = moved
            octets = emit_message(message.header, payloads)
        pair.give(there, (octets, path))
    pair.flush()
    assert not downs(pair)
    for side in (pair.client, pair.server):
        assert side.endpoint._v1 is not None
        (connection,) = side.endpoint._v1._hub.connections.values()
        abilities = connection.phase1.sa.abilities
        assert (abilities.dpd, abilities.xauth, abilities.unity, abilities.fragments) == (True,) * 4
        assert abilities.flavour == FLAVOURS[NatTraversal.RFC_3947]


def test_a_peer_without_nat_traversal_where_esp_has_to_go_in_udp() -> None:
    lab = lab_v1(terms=TermsV1(ikev1=Ikev1Config(nat_traversal=())))
    client = lab.client()
    client.connect(lab.terms.connection(), lab.server_ip)
    lab.world.run_until(lambda: bool(client.told(ConnectionDown)), 120.0)
    assert "NAT traversal" in client.told(ConnectionDown)[0].reason


@MODES
@pytest.mark.parametrize("seed", range(12))
def test_a_third_of_everything_gets_lost(mode: Mode, seed: int) -> None:
    lab = lab_v1(seed, TermsV1(exchange=mode), quality=Quality(loss=0.3))
    client = lab.client(behind=lab.nat() if seed % 2 else None)
    client.keep_up(lab.terms.connection(), lab.server.ip)
    _agree(lab, client)


@MODES
@pytest.mark.parametrize("seed", range(12))
def test_lost_and_twice_and_late(mode: Mode, seed: int) -> None:
    terms = _rsa(mode) if seed % 3 == 0 else TermsV1(exchange=mode)
    lab = lab_v1(seed, terms, quality=Quality(loss=0.15, duplicate=0.3, jitter=0.5))
    client = lab.client()
    client.keep_up(lab.terms.connection(), lab.server.ip)
    _agree(lab, client)


@MODES
@pytest.mark.parametrize("seed", range(8))
def test_damaged(mode: Mode, seed: int) -> None:
    """After phase 1: whoever can damage that can prevent a connection, as no proof covers all of it."""
    quality = Quality(corrupt=0.2, duplicate=0.3, spares=_is_phase_1)
    lab = lab_v1(seed, TermsV1(exchange=mode), quality=quality)
    client = lab.client()
    client.keep_up(lab.terms.connection(), lab.server.ip)
    _agree(lab, client)


def _is_phase_1(datagram: Datagram) -> bool:
    marker = 0 if datagram.source.port == IKE_PORT else len(natt.NON_ESP_MARKER)
    return datagram.payload[marker + 18] in (ExchangeType.MAIN, ExchangeType.AGGRESSIVE)


def _agree(lab: Lab, client: Host) -> None:
    """Up on both sides, with SAs that agree, and traffic goes through them both ways."""
    lab.world.run_until(lambda: client.up, 400.0)
    lab.quality.loss = lab.quality.corrupt = 0.0
    lab.world.run(60.0)
    assert client.up
    here, there = client.children(client.connection), lab.server.children()
    assert {(c.spi_in, c.spi_out) for c in here} <= {(c.spi_out, c.spi_in) for c in there}
    lab.quality.duplicate = lab.quality.jitter = 0.0
    for flow in lab.exchange(client, 0.5):
        assert flow.tally.lost == 0


@MODES
@pytest.mark.parametrize("ours", [False, True])
def test_phase_1_is_renewed_and_no_packet_lost(mode: Mode, ours: bool) -> None:
    lab = lab_v1(terms=TermsV1(exchange=mode))
    client = lab.client(behind=lab.nat())
    _works(lab, client)
    side = client if ours else lab.server
    children = client.children()
    flows = lab.flows(client)
    for flow in flows:
        flow.start()
    for _ in range(3):
        side.do(lambda tunnel: tunnel.rekey_ike(side.connection, lab.world.now))
        lab.world.run(5.0)
    for flow in flows:
        flow.stop()
    lab.world.run(2.0)
    assert all(flow.tally.perfect for flow in flows)
    assert len(client.told(IkeRekeyed)) == len(lab.server.told(IkeRekeyed)) == 3
    assert client.children() == children
    assert len(client.told(ConnectionUp)) == len(lab.server.told(ConnectionUp)) == 1


def test_a_client_that_comes_back_takes_the_place_of_itself() -> None:
    """INITIAL-CONTACT, RFC 2407 section 4.6.3.3."""
    lab = lab_v1()
    client = lab.client()
    lab.connect(client)
    client.die()
    client.revive()
    _works(lab, client)
    assert len(lab.server.told(ConnectionDown)) == 1
    assert len(lab.server.children()) == 1


@pytest.mark.parametrize("behind", [False, True])
def test_initial_contact_in_a_message_of_its_own(behind: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """As racoon says it, behind phase 1, or behind quick mode where messages overtake each other."""
    monkeypatch.setattr(Attempt, "_initial_contact", lambda _self, _sa: [])
    lab = lab_v1()
    client = lab.client(behind=lab.nat() if behind else None)
    lab.connect(client)
    client.die()
    lab.world.run(1.0)
    client.revive()
    client.connect(lab.terms.connection(), lab.server_ip)
    lab.world.run(5.0)
    assert len(lab.server.children()) == 2
    connection = connection_of(client)
    assert connection.current is not None
    spi = connection.current.sa.cookie_i + connection.current.sa.cookie_r
    said = Notification(ProtocolId.ISAKMP, spi, NotifyType.INITIAL_CONTACT)
    client.do(lambda _: informational.send(connection.current, [said]))  # type: ignore[arg-type]
    lab.world.run(1.0)
    (there,) = lab.server.children()
    assert (there.spi_out, there.spi_in) == (client.children()[-1].spi_in, client.children()[-1].spi_out)
    assert not client.told(ConnectionDown)
    assert all(flow.tally.perfect for flow in lab.exchange(client, 0.5))


def test_a_full_listener_refuses_who_is_new_and_no_renewal() -> None:
    lab = lab_v1(terms=TermsV1(limits=Limits(connections_max=1)))
    client, other = lab.client(), lab.client("other", number=9)
    lab.connect(client)
    other.connect(lab.terms.connection("other"), lab.server_ip)
    lab.world.run_until(lambda: bool(other.told(ConnectionDown)), 30.0)
    assert "no room" in lab.server.told(PeerRefused)[0].reason
    client.do(lambda tunnel: tunnel.rekey_ike(client.connection, lab.world.now))
    lab.world.run(5.0)
    assert len(client.told(IkeRekeyed)) == len(lab.server.told(IkeRekeyed)) == 1
    assert not client.told(ConnectionDown)


def test_who_has_been_called_does_not_come_back_by_another_way_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who knows the key of everybody at our listener is not the gateway that we have logged in to."""
    monkeypatch.setattr(Attempt, "_initial_contact", lambda _self, _sa: [])
    users = replace(PadEntry.of_psk(b"of the gateway"), xauth=USERS)
    lab = lab_v1(terms=TermsV1(psk=b"of the gateway", ikev1=Ikev1Config(xauth=ALICE), pad=(users,)))
    ours = TermsV1(psk=b"of everybody", pool=(), request=(), remote_identity=None)
    client = Host(lab.world, lab.net, CLIENT_IP, name="client", listener=ours.listener())
    lab.connect(client)
    lab.server.connect(replace(ours.connection(), local_identity=Identity.parse(SERVER)), client.ip)
    lab.world.run(5.0)
    assert len(client.told(ConnectionUp)) == 2
    assert not client.told(IkeRekeyed)


def test_five_clients_behind_one_nat() -> None:
    lab = lab_v1()
    nat = lab.nat()
    clients = [lab.client(f"client{n}", behind=nat, number=10 + n) for n in range(5)]
    for client in clients:
        client.connect(lab.terms.connection(client.name), lab.server_ip)
    lab.world.run_until(lambda: all(c.up for c in clients), 60.0)
    lab.world.run(2.0)
    for client in clients:
        assert all(flow.tally.perfect for flow in lab.exchange(client, 0.5))
    assert not lab.server.told(ConnectionDown)


@MODES
def test_an_address_that_goes_while_we_call(mode: Mode) -> None:
    lab = lab_v1(terms=TermsV1(exchange=mode))
    client = lab.client()
    client.connect(lab.terms.connection(), lab.server_ip)
    client.do(lambda tunnel: tunnel.local_addresses_changed([UdpAddress("192.0.2.77", 4500)], lab.world.now))
    (down,) = client.told(ConnectionDown)
    assert "is gone" in down.reason
    assert down.retry
    lab.world.run(5.0)
    assert not client.told(ConnectionUp)


@MODES
def test_the_key_log_opens_what_was_captured(mode: Mode) -> None:
    """As Wireshark does, which needs the key, and finds the IV itself."""
    lab, keys, sent = lab_v1(terms=TermsV1(exchange=mode)), list[KeyLogEntry](), list[Datagram]()
    client = lab.client()
    client.tunnel._ike._hub._key_log = keys.append
    client.on_send.append(sent.append)
    lab.connect(client)
    (log,) = (entry for entry in keys if isinstance(entry, IsakmpKeyLog))
    assert log.cookie_i == sent[0].payload[:8]
    protected = sent[2 if mode is Mode.MAIN else 1].payload[len(natt.NON_ESP_MARKER) :]
    ciphertext = protected[HEADER_OCTETS:]
    aes = encr_by_keyword("aes128")
    assert aes is not None
    # All but the first block, whose IV is of the public values.
    plain = decrypt(aes, log.key, ciphertext[:16], ciphertext[16:])
    assert (b"ample.org" in plain) == (mode is Mode.MAIN)
    assert log.key.hex() not in repr(log)
