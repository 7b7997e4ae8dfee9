"""Peers that prove themselves by signature: every kind of key, both ways, and what does not pass."""

from collections.abc import Callable
from dataclasses import replace
from ipaddress import ip_network

import pytest

from espudp.crypto.signatures import PrivateKey
from espudp.ike.config import DYNAMIC, ChildConfig
from espudp.ike.credentials import Demand, Proof, Psk, PskOf, SignKey
from espudp.ike.events import ConnectionDown, ConnectionUp, Fault, PeerRefused
from espudp.ike.identity import Identity
from espudp.ike.pad import PadEntry, Pattern
from espudp.ike.v2 import signing
from espudp.wire.ikev2.constants import ExchangeType, NotifyType
from espudp.wire.ikev2.header import Header
from espudp.wire.ikev2.message import emit_message, parse_message
from espudp.wire.ikev2.payloads import Notify
from espudp.wire.selectors import TrafficSelector
from tests.scenario.credentials import CLIENT, SERVER, Person, authority, person, trust
from tests.scenario.lab import SERVER_IP, Lab, Terms
from tests.sim.host import IKE_PORT, Host
from tests.sim.ladder import Ladder
from tests.sim.link import Datagram

KINDS = ["RSA", "P-256", "P-384", "P-521", "Ed25519", "Ed448"]


def _lab(
    client: tuple[Proof, Demand], server: tuple[Proof, Demand], *, remote_identity: str | None = SERVER
) -> Lab:
    proof, demand = client
    entry = PadEntry(proof=server[0], demand=server[1])
    return Lab(terms=Terms(proof=proof, demand=demand, pad=(entry,), remote_identity=remote_identity))


def _down(lab: Lab) -> ConnectionDown:
    client = lab.client()
    client.connect(lab.terms.connection(client.name), lab.server.ip)
    lab.world.run_until(lambda: bool(client.told(ConnectionDown)), 200.0)
    assert not client.up
    assert not lab.server.told(ConnectionUp)
    return client.told(ConnectionDown)[0]


def _both(kind: str, **how: bool) -> Lab:
    client, server = person(kind, CLIENT, **how), person(kind, SERVER, **how)
    demand = trust(sha1=how.get("sha1", False))
    return _lab((client.proof, demand), (server.proof, demand))


@pytest.mark.parametrize("kind", KINDS)
def test_certificates(kind: str) -> None:
    lab = _both(kind)
    client = lab.client()
    ladder = Ladder(client, lab.server)
    lab.connect(client)
    assert all(flow.tally.perfect for flow in lab.exchange(client, 1.0))
    assert str(client.told(ConnectionUp)[0].remote_identity) == SERVER
    assert str(lab.server.told(ConnectionUp)[0].remote_identity) == CLIENT
    # Two exchanges, however many fragments the large ones take.
    exchanges = dict.fromkeys((s.left, s.exchange, s.message_id) for s in ladder.steps)
    assert list(exchanges) == [
        *((True, "IKE_SA_INIT", 0), (False, "IKE_SA_INIT", 0)),
        *((True, "IKE_AUTH", 1), (False, "IKE_AUTH", 1)),
    ]


def test_rsa_pss() -> None:
    lab = _both("RSA", pss=True)
    lab.connect(lab.client())


@pytest.mark.parametrize("kind", KINDS)
def test_raw_public_keys(kind: str) -> None:
    """RFC 7670: as simple as that, and the two are known by their keys."""
    client, server = person(kind, CLIENT), person(kind, SERVER)
    lab = _lab((client.raw, server.raw_demand), (server.raw, client.raw_demand), remote_identity=None)
    host = lab.client()
    lab.connect(host)
    for seen, whose in ((host, server), (lab.server, client)):
        fingerprint = whose.proof.private_key.public.fingerprint
        assert seen.told(ConnectionUp)[0].remote_identity == Identity.of_key(fingerprint)


def test_the_two_sides_may_differ() -> None:
    """A gateway with a certificate, and clients with a PSK (RFC 7296 section 2.15)."""
    server = person("P-256", SERVER)
    lab = _lab((Psk(b"secret"), trust()), (server.proof, PskOf(b"secret")))
    lab.connect(lab.client())
    assert str(lab.server.told(ConnectionUp)[0].remote_identity) == CLIENT


def test_a_client_with_another_key() -> None:
    server, client, other = person("P-256", SERVER), person("P-256", CLIENT), person("Ed25519", CLIENT)
    lab = _lab((client.raw, server.raw_demand), (server.raw, other.raw_demand), remote_identity=None)
    down = _down(lab)
    assert (down.fault, down.retry) == (Fault.AUTHENTICATION, False)
    (refused,) = lab.server.told(PeerRefused)
    assert "another public key" in refused.reason
    assert "--peer-key" in refused.detail


def test_a_server_with_another_key() -> None:
    server, client, other = person("P-256", SERVER), person("P-256", CLIENT), person("Ed25519", SERVER)
    lab = _lab((client.raw, other.raw_demand), (server.raw, client.raw_demand), remote_identity=None)
    host = lab.client()
    host.connect(lab.terms.connection(host.name), lab.server.ip)
    lab.world.run_until(lambda: bool(host.told(ConnectionDown)), 200.0)
    (down,) = host.told(ConnectionDown)
    assert down.fault is Fault.AUTHENTICATION
    assert "another public key" in down.reason
    # RFC 7296 section 2.21.2: the server thought that it was well, and is told
    lab.world.run_until(lambda: bool(lab.server.told(ConnectionDown)), 10.0)


def test_certificates_of_somebody_else() -> None:
    server, client = person("P-256", SERVER), person("P-256", CLIENT, of="CN=Nobody")
    lab = _lab((client.proof, trust()), (server.proof, trust()))
    assert _down(lab).fault is Fault.AUTHENTICATION
    assert lab.server.told(PeerRefused)[0].detail


def test_a_server_by_another_name() -> None:
    server, client = person("P-256", "other.example.org"), person("P-256", CLIENT)
    lab = _lab((client.proof, trust()), (server.proof, trust()))
    host = lab.client()
    host.connect(lab.terms.connection(host.name), lab.server.ip)
    lab.world.run_until(lambda: bool(host.told(ConnectionDown)), 200.0)
    (down,) = host.told(ConnectionDown)
    assert down.fault is Fault.AUTHENTICATION
    assert SERVER in down.reason
    assert "other.example.org" in down.reason
    assert "--remote-id" in down.remedy


def test_a_server_that_is_called_by_its_address() -> None:
    """It answers with the name that its certificate has, and the client hears which one that is."""
    server, client = person("P-256", SERVER), person("P-256", CLIENT)
    lab = _lab((client.proof, trust()), (server.proof, trust()), remote_identity=SERVER_IP)
    host = lab.client()
    host.connect(lab.terms.connection(host.name), lab.server.ip)
    lab.world.run_until(lambda: bool(host.told(ConnectionDown)), 200.0)
    assert str(lab.server.told(ConnectionUp)[0].local_identity) == SERVER
    (down,) = host.told(ConnectionDown)
    assert down.reason == f"the peer calls itself {SERVER}, and its certificate is not for {SERVER_IP}"
    assert down.remedy.endswith(f"--remote-id {SERVER}")


def test_a_client_by_another_name() -> None:
    server, client = person("P-256", SERVER), person("P-256", "somebody@example.org")
    assert _down(_lab((client.proof, trust()), (server.proof, trust()))).fault is Fault.AUTHENTICATION


def test_a_stolen_certificate() -> None:
    """The certificate is public; who shows it must have its key as well."""
    server, client, thief = person("P-256", SERVER), person("P-256", CLIENT), person("P-256", "t@example.org")
    stolen = type(client.proof)(private_key=thief.proof.private_key, certificates=client.proof.certificates)
    lab = _lab((stolen, trust()), (server.proof, trust()))
    assert _down(lab).fault is Fault.AUTHENTICATION
    assert "not of its key" in lab.server.told(PeerRefused)[0].reason


@pytest.mark.parametrize("wanted", ["PSK", "certificate"])
def test_the_wrong_method(wanted: str) -> None:
    server, client = person("P-256", SERVER), person("P-256", CLIENT)
    psk, certificate = (Psk(b"secret"), PskOf(b"secret")), (client.proof, trust())
    lab = _lab(certificate, psk) if wanted == "PSK" else _lab(psk, (server.proof, trust()))
    assert _down(lab).fault is Fault.AUTHENTICATION
    (refused,) = lab.server.told(PeerRefused)
    assert "same way to authenticate" in refused.detail


# RFC 7427 and peers without it


def _without_hashes(datagram: bytes) -> bytes:
    """An IKE_SA_INIT message from which somebody has taken SIGNATURE_HASH_ALGORITHMS."""
    message = parse_message(datagram)
    kept = [
        p
        for p in message.payloads
        if not (isinstance(p, Notify) and p.type == NotifyType.SIGNATURE_HASH_ALGORITHMS)
    ]
    return emit_message(message.header, kept)


def _tamper(host: Host, change: Callable[[bytes], bytes]) -> None:
    """Change every IKE_SA_INIT message that reaches this host."""
    deliver = host.receive

    def receive(datagram: Datagram) -> None:
        payload = datagram.payload
        if datagram.source.port == IKE_PORT and Header.parse(payload).exchange == ExchangeType.IKE_SA_INIT:
            payload = change(payload)
        deliver(datagram._replace(payload=payload))

    host.receive = receive  # type: ignore[method-assign]


@pytest.mark.parametrize("kind", ["RSA", "P-256"])
@pytest.mark.parametrize("victim", ["client", "server"])
def test_rfc_7427_cannot_be_talked_away(kind: str, victim: str) -> None:
    """Who takes the notify away changes what is signed, and so nobody believes the other."""
    lab = _both(kind)
    client = lab.client()
    _tamper(client if victim == "client" else lab.server, _without_hashes)
    client.connect(lab.terms.connection(client.name), lab.server.ip)
    lab.world.run_until(lambda: bool(client.told(ConnectionDown)), 200.0)
    assert not client.told(ConnectionUp)
    assert client.told(ConnectionDown)[0].fault is Fault.AUTHENTICATION


@pytest.mark.parametrize("kind", ["RSA", "P-256", "P-384", "P-521"])
def test_peers_of_before_rfc_7427(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signing, "announced", lambda message: frozenset())
    lab = _both(kind)
    lab.connect(lab.client())


def test_rsa_with_sha1_only_where_both_ask_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signing, "announced", lambda message: frozenset())
    lab = _both("RSA", sha1=True)
    lab.connect(lab.client())
    client, server = person("RSA", CLIENT, sha1=True), person("RSA", SERVER, sha1=True)
    strict = _lab((client.proof, trust(sha1=True)), (server.proof, trust()))
    assert _down(strict).fault is Fault.AUTHENTICATION
    assert "--allow-sha1" in strict.server.told(PeerRefused)[0].detail


# Several ways in


def _listener(*entries: PadEntry) -> Terms:
    return Terms(pad=entries)


def test_each_comes_by_its_own_entry() -> None:
    server, client = person("P-256", SERVER), person("P-256", CLIENT)
    raw = person("Ed25519", "raw@example.org")
    entries = (
        PadEntry(proof=server.proof, demand=trust(), name="certificates"),
        PadEntry(proof=server.raw, demand=raw.raw_demand, name="raw keys"),
        PadEntry.of_psk(b"its own", Identity.parse("psk@example.org")),
    )
    lab = Lab(terms=_listener(*entries))
    ways: list[tuple[str, Person | bytes]] = [
        ("client", client),
        ("raw", raw),
        ("psk", b"its own"),
    ]
    for number, (name, who) in enumerate(ways):
        host = lab.client(name, number=10 + number)
        if isinstance(who, bytes):
            terms = Terms(psk=who)
        elif name == "raw":
            terms = Terms(proof=who.raw, demand=server.raw_demand, remote_identity=None)
        else:
            terms = Terms(proof=who.proof, demand=trust())
        host.connect(terms.connection(name), lab.server.ip)
        lab.world.run_until(lambda host=host: host.up, 30.0)  # type: ignore[misc]
    known = [str(up.remote_identity) for up in lab.server.told(ConnectionUp)]
    assert known[0] == CLIENT
    assert known[1].startswith("keyid:SHA256:")
    assert known[2] == "psk@example.org"


def test_who_is_named_is_not_let_in_as_somebody() -> None:
    """The PSK of everybody does not open the door of one who has its own."""
    entries = (
        PadEntry.of_psk(b"everybody's"),
        PadEntry(
            proof=Psk(b"its own"), demand=PskOf(b"its own"), peers=(Pattern.parse("client@example.org"),)
        ),
    )
    lab = Lab(terms=Terms(psk=b"everybody's"), server_terms=_listener(*entries))
    assert _down(lab).fault is Fault.AUTHENTICATION


def test_several_identities_of_one_listener() -> None:
    """Each with its own certificate; the client says whom it means to talk to (IDr)."""
    client = person("P-256", CLIENT)
    colours = {name: person("P-256", name) for name in ("red.example.org", "blue.example.org")}
    entries = tuple(
        PadEntry(proof=who.proof, demand=trust(), local_identity=Identity.parse(name))
        for name, who in colours.items()
    )
    lab = Lab(terms=_listener(*entries))
    for number, name in enumerate(colours):
        host = lab.client(f"{name}-client", number=20 + number)
        terms = Terms(proof=client.proof, demand=trust(), remote_identity=name)
        host.connect(terms.connection("client"), lab.server.ip)
        lab.world.run_until(lambda host=host: host.up, 30.0)  # type: ignore[misc]
        assert str(host.told(ConnectionUp)[0].remote_identity) == name
        assert str(lab.server.told(ConnectionUp)[-1].local_identity) == name


def test_all_names_of_our_certificate_are_ours() -> None:
    """RFC 7296 section 2.15: the client has dialled one of several names that one certificate has."""
    issued = authority("CN=Authority").issue("CN=gw", f"dns:{SERVER}", "dns:alias.example.org")
    proof = SignKey(private_key=PrivateKey(issued.key), certificates=(issued.der,))
    entry = PadEntry(proof=proof, demand=trust(), local_identity=Identity.parse(SERVER))
    for wanted in (SERVER, "alias.example.org", "ALIAS.example.org"):
        terms = Terms(proof=person("P-256", CLIENT).proof, demand=trust(), remote_identity=wanted)
        lab = Lab(terms=terms, server_terms=_listener(entry))
        lab.connect(lab.client())
        assert str(lab.server.told(ConnectionUp)[0].local_identity) == wanted
    stranger = Terms(proof=person("P-256", CLIENT).proof, demand=trust(), remote_identity="x.example.org")
    lab = Lab(terms=stranger, server_terms=_listener(entry))
    host = lab.client()
    host.connect(stranger.connection(host.name), lab.server.ip)
    lab.world.run_until(lambda: bool(host.told(ConnectionDown)), 200.0)
    assert host.told(ConnectionDown)[0].fault is Fault.AUTHENTICATION


@pytest.mark.parametrize(("ip", "comes_in"), [("198.51.100.7", True), ("198.51.100.70", False)])
def test_by_where_the_peer_is(ip: str, comes_in: bool) -> None:
    office = PadEntry(
        proof=Psk(b"secret"), demand=PskOf(b"secret"), networks=(ip_network("198.51.100.0/28"),)
    )
    lab = Lab(terms=Terms(psk=b"secret"), server_terms=_listener(office))
    host = lab.client(ip=ip)
    host.connect(lab.terms.connection(host.name), lab.server.ip)
    lab.world.run_until(lambda: host.up or bool(host.told(ConnectionDown)), 200.0)
    assert host.up == comes_in


def test_each_entry_has_its_own_subnets() -> None:
    inside = ChildConfig(local=(TrafficSelector.from_network("10.7.0.0/16"),), remote=(DYNAMIC,))
    entries = (
        PadEntry.of_psk(b"everybody's"),
        replace(PadEntry.of_psk(b"its own", Identity.parse("boss@example.org")), child=inside),
    )
    lab = Lab(terms=_listener(*entries))
    for name, psk, subnet in (("client", b"everybody's", "10.1.0.0/16"), ("boss", b"its own", "10.7.0.0/16")):
        host = lab.client(name, number=30 + len(name))
        terms = Terms(psk=psk, esp=("aes128gcm16",), remote=("10.0.0.0/8",))
        host.connect(terms.connection(name), lab.server.ip)
        lab.world.run_until(lambda host=host: host.up, 30.0)  # type: ignore[misc]
        assert subnet in [str(s) for s in host.children()[0].remote]
