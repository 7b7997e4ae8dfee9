"""Peers with certificates that prove nothing: refused on both sides, told of, counted, soon forgotten."""

from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509 import ocsp

from espudp.crypto.certificate import Refusal
from espudp.crypto.revocation import Revocation
from espudp.crypto.signatures import PrivateKey
from espudp.crypto.x509 import Trust
from espudp.ike.credentials import CertificateOf, SignKey
from espudp.ike.drop import Drop
from espudp.ike.events import ConnectionDown, ConnectionUp, Fault, PeerRefused
from espudp.ike.pad import PadEntry
from espudp.ike.v2 import auth
from espudp.wire.ikev2.constants import CertEncoding
from espudp.wire.ikev2.payloads import Certificate, CertificateRequest, Payload
from tests.scenario.credentials import CLIENT, SERVER
from tests.scenario.lab import Lab, Terms
from tests.sim.host import Host
from tests.sim.world import EPOCH
from tests.unit.crypto.certs import YEAR, Issuer, crl, issue, ocsp_response, root

FROM, UNTIL = EPOCH - YEAR, EPOCH + YEAR
VALID: dict[str, Any] = {"begin": FROM, "end": UNTIL}
DAY = timedelta(days=1)

CA = root("CN=Authority", **VALID)
SUB = CA.ca("CN=Below", **VALID)
OTHER = root("CN=Authority of others", **VALID)


def certificate_for(name: str, of: Issuer = CA, **how: Any) -> Issuer:
    return of.issue(f"CN={name}", f"{'email' if '@' in name else 'dns'}:{name}", **(VALID | how))


def proof(leaf: Issuer, *above: bytes, key: PrivateKey | None = None, **how: Any) -> SignKey:
    return SignKey(private_key=key or PrivateKey(leaf.key), certificates=(leaf.der, *above), **how)


GOOD = {name: proof(certificate_for(name)) for name in (SERVER, CLIENT)}


def lab_of(client: SignKey, server: SignKey, **trusted: Any) -> Lab:
    """The same CA on both sides; `trusted` is what Trust takes beside it."""
    demand = CertificateOf(Trust([CA.der], **trusted))
    entry = PadEntry(proof=server, demand=demand)
    return Lab(terms=Terms(proof=client, demand=demand, pad=(entry,)))


def attempt(lab: Lab) -> tuple[Host, ConnectionDown]:
    client = lab.client()
    client.connect(lab.terms.connection(client.name), lab.server.ip)
    lab.world.run_until(lambda: bool(client.told(ConnectionDown)), 200.0)
    (down,) = client.told(ConnectionDown)
    return client, down


def refused_by_the_server(client: SignKey, reason: Refusal, **trusted: Any) -> Lab:
    lab = lab_of(client, GOOD[SERVER], **trusted)
    _, down = attempt(lab)
    assert (down.fault, down.retry) == (Fault.AUTHENTICATION, False)  # RFC 7296: AUTHENTICATION_FAILED
    (told,) = lab.server.told(PeerRefused)
    assert told.reason
    assert told.detail
    assert not lab.server.told(ConnectionUp)
    assert lab.server.tunnel.snapshot(lab.world.now).drops[reason.value] == 1
    lab.world.run(60.0)
    assert lab.server.tunnel.snapshot(lab.world.now).connections == []
    return lab


def refused_by_the_client(server: SignKey, reason: Refusal, **trusted: Any) -> None:
    lab = lab_of(GOOD[CLIENT], server, **trusted)
    client, down = attempt(lab)
    assert (down.fault, down.retry) == (Fault.AUTHENTICATION, False)
    assert down.reason
    assert down.remedy
    assert not client.told(ConnectionUp)
    assert client.tunnel.snapshot(lab.world.now).drops[reason.value] == 1
    # RFC 7296 section 2.21.2: the server thought that it was well, and is told
    lab.world.run_until(lambda: bool(lab.server.told(ConnectionDown)), 10.0)


def nobody_came(lab: Lab) -> None:
    """And nobody stays."""
    assert not lab.server.told(ConnectionUp)
    lab.world.run(120.0)
    assert lab.server.tunnel.snapshot(lab.world.now).connections == []


def weak(name: str) -> SignKey:
    """A certificate with an RSA key of 1,024 bits; what it signs with is not looked at any more."""
    made = certificate_for(name, key=rsa.generate_private_key(65537, 1024))
    return proof(made, key=PrivateKey(rsa.generate_private_key(65537, 2048)))


def broken(name: str) -> SignKey:
    made = certificate_for(name)
    bent = bytearray(made.der)
    bent[-1] ^= 1
    return SignKey(private_key=PrivateKey(made.key), certificates=(bytes(bent),))


def of_a_circle(name: str) -> SignKey:
    one, two = Issuer("CN=One"), Issuer("CN=Two")
    certified = issue(two, "CN=One", one.key, ca=True, **VALID)
    other_way = issue(one, "CN=Two", two.key, ca=True, **VALID)
    return proof(certificate_for(name, certified), certified.der, other_way.der)


def of_a_long_chain(name: str, links: int) -> SignKey:
    chain = [CA]
    for number in range(links):
        chain.append(chain[-1].ca(f"CN=Sub {number}", **VALID))
    return proof(certificate_for(name, chain[-1]), *(one.der for one in reversed(chain[1:])))


def large(name: str, *, names: int) -> SignKey:
    """A certificate for many names, of some 45 octets each."""
    more = [f"dns:host-{number:030}.example.org" for number in range(names)]
    return proof(CA.issue("CN=large", f"email:{name}", *more, **VALID))


BAD = [
    pytest.param(lambda name: proof(certificate_for(name, end=EPOCH - DAY)), Refusal.EXPIRED, id="expired"),
    pytest.param(
        lambda name: proof(certificate_for(name, begin=EPOCH + DAY)), Refusal.NOT_YET_VALID, id="too early"
    ),
    pytest.param(lambda name: proof(certificate_for(name, OTHER)), Refusal.UNKNOWN_ISSUER, id="another CA"),
    pytest.param(lambda name: proof(certificate_for("x" + name)), Refusal.NAME, id="another name"),
    pytest.param(broken, Refusal.BAD_SIGNATURE, id="a broken signature"),
    pytest.param(weak, Refusal.WEAK_KEY, id="1,024 bits"),
    pytest.param(of_a_circle, Refusal.LOOP, id="a circle"),
    pytest.param(partial(of_a_long_chain, links=12), Refusal.TOO_LONG, id="a long chain"),
    pytest.param(
        lambda name: proof(certificate_for(name, certificate_for("x" + name))),
        Refusal.UNKNOWN_ISSUER,
        id="no CA in between",
    ),
    pytest.param(
        lambda name: SignKey(private_key=GOOD[name].private_key, certificates=(b"\x30\x82\x01\x00garbage",)),
        Refusal.MALFORMED,
        id="garbage",
    ),
]


@pytest.mark.parametrize(("make", "reason"), BAD)
def test_a_client(make: Any, reason: Refusal) -> None:
    refused_by_the_server(make(CLIENT), reason)


@pytest.mark.parametrize(("make", "reason"), BAD)
def test_a_server(make: Any, reason: Refusal) -> None:
    refused_by_the_client(make(SERVER), reason)


def test_the_good_ones_are_let_in() -> None:
    lab = lab_of(GOOD[CLIENT], proof(certificate_for(SERVER, SUB), SUB.der))
    lab.connect(lab.client())


@pytest.mark.parametrize("more", [16, 99])
def test_more_certificates_than_any_chain_has(more: int) -> None:
    """The message is authentic, and is refused as a whole: INVALID_SYNTAX (RFC 7296 section 2.21.2)."""
    chain = (*GOOD[CLIENT].certificates, *[b"\x30" * 200] * more)
    lab = lab_of(replace(GOOD[CLIENT], certificates=chain), GOOD[SERVER])
    _, down = attempt(lab)
    assert down.fault is Fault.PROTOCOL
    assert "INVALID_SYNTAX" in down.reason
    nobody_came(lab)


def test_a_chain_of_a_hundred() -> None:
    """50 KB are not even put together from fragments."""
    lab = lab_of(of_a_long_chain(CLIENT, links=99), GOOD[SERVER])
    _, down = attempt(lab)
    assert down.fault is Fault.TIMEOUT
    assert lab.server.tunnel.snapshot(lab.world.now).drops[Drop.FRAGMENTS_TOO_MANY.value] > 0
    nobody_came(lab)


def test_a_certificate_as_large_as_any_and_a_larger_one() -> None:
    """What fits into a message is taken; what would need one of 64 KB does not come together again."""
    lab = lab_of(large(CLIENT, names=400), GOOD[SERVER])
    lab.connect(lab.client())
    lab = lab_of(large(CLIENT, names=1000), GOOD[SERVER])
    _, down = attempt(lab)
    assert down.fault is Fault.TIMEOUT
    nobody_came(lab)


def test_revoked_by_crl() -> None:
    bad = certificate_for(CLIENT)
    refused_by_the_server(proof(bad), Refusal.REVOKED, crls=[crl(CA, bad, begin=EPOCH - DAY)])


def test_revoked_by_ocsp_in_band() -> None:
    """RFC 4806: who sends along that it was revoked is told so; who sends nothing is asked for more."""
    good, bad = certificate_for(CLIENT), certificate_for(CLIENT)
    times: dict[str, Any] = {"begin": EPOCH - DAY, "end": EPOCH + DAY}
    revoked = ocsp_response(bad, CA, ocsp.OCSPCertStatus.REVOKED, **times)
    refused_by_the_server(proof(bad, ocsp=(revoked,)), Refusal.REVOKED)
    refused_by_the_server(proof(good), Refusal.UNCHECKED, revocation=Revocation.REQUIRED)
    server = certificate_for(SERVER)
    lab = lab_of(
        proof(good, ocsp=(ocsp_response(good, CA, **times),)),
        proof(server, ocsp=(ocsp_response(server, CA, **times),)),
        revocation=Revocation.REQUIRED,
    )
    lab.connect(lab.client())


# What is asked for, and where it is


@pytest.mark.parametrize("encoding", [CertEncoding.HASH_AND_URL, CertEncoding.HASH_AND_URL_BUNDLE])
def test_certificates_somewhere_else_are_not_fetched(
    encoding: CertEncoding, monkeypatch: pytest.MonkeyPatch
) -> None:
    """RFC 7296 section 3.6: nobody has said HTTP_CERT_LOOKUP_SUPPORTED, and so nobody looks one up."""
    elsewhere = bytes(20) + b"http://192.0.2.1/certificate"

    def certificates(ours: SignKey) -> list[Payload]:
        return [Certificate(encoding, elsewhere)] if ours is GOOD[CLIENT] else actual(ours)

    actual = auth._certificates
    monkeypatch.setattr(auth, "_certificates", certificates)
    lab = lab_of(GOOD[CLIENT], GOOD[SERVER])
    _, down = attempt(lab)
    assert down.fault is Fault.AUTHENTICATION
    (told,) = lab.server.told(PeerRefused)
    assert "no certificate" in told.reason
    assert lab.server.tunnel.snapshot(lab.world.now).drops[Drop.UNPROVED.value] == 1


def requests_of(count: int, octets: int) -> list[Payload]:
    return [CertificateRequest(CertEncoding.X509_SIGNATURE, bytes(octets)) for _ in range(count)]


@pytest.mark.parametrize(
    "flood",
    [
        pytest.param(requests_of(1, 20 * 1000), id="1,000 authorities"),
        pytest.param(requests_of(8, 20), id="8 requests"),
        pytest.param(requests_of(1, 19), id="half a hash"),
        pytest.param([CertificateRequest(200, b"x")], id="an unknown encoding"),
    ],
)
def test_requests_for_certificates_of_nobody(flood: list[Payload], monkeypatch: pytest.MonkeyPatch) -> None:
    """They are hints: what we have is sent, once, whoever they name."""
    monkeypatch.setattr(auth, "requests", lambda demands: flood)
    lab = lab_of(GOOD[CLIENT], GOOD[SERVER])
    lab.connect(lab.client())


def test_a_flood_of_requests_for_certificates(monkeypatch: pytest.MonkeyPatch) -> None:
    """More payloads than any message has: nobody reads them, and nothing stays."""
    monkeypatch.setattr(auth, "requests", lambda demands: requests_of(100, 20 * 15))
    lab = lab_of(GOOD[CLIENT], GOOD[SERVER])
    client = lab.client()
    client.connect(lab.terms.connection(client.name), lab.server.ip)
    lab.world.run(300.0)
    assert not client.told(ConnectionUp)
    nobody_came(lab)


def test_a_listener_names_a_bounded_number_of_authorities() -> None:
    """Strangers get that answer, to a message that is no longer than it (RFC 7296 section 2.6)."""
    many = [root(f"CN=Authority {number}", CA.key, **VALID) for number in range(100)]
    wanted = auth.requests([CertificateOf(Trust([one.der for one in (CA, *many)]))])
    assert sum(len(one.data) for one in wanted if isinstance(one, CertificateRequest)) <= 25 * 20
