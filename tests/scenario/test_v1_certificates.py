"""Certificates in IKEv1's phase 1 as peers really show them: in any order, wrapped, many, or not at all."""

from collections.abc import Callable
from dataclasses import replace

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, pkcs7

from espudp.crypto.signatures import PrivateKey
from espudp.crypto.x509 import Trust
from espudp.ike.credentials import CertificateOf, SignKey
from espudp.ike.events import ConnectionDown, ConnectionUp, PeerRefused
from espudp.ike.ikev1_config import Ikev1Config, Mode
from espudp.ike.pad import PadEntry
from espudp.ike.v1 import aggressive_responder, attempt, main_responder, proof
from espudp.wire.ikev1.constants import CertEncoding, PayloadType
from espudp.wire.ikev1.message import parse_message
from espudp.wire.ikev1.payloads import Certificate, CertificateRequest, Payload
from tests.scenario.credentials import CLIENT, SERVER, authority, key, person, trust
from tests.scenario.lab import Lab
from tests.scenario.lab_v1 import TermsV1, lab_v1
from tests.sim.host import IKE_PORT, Host
from tests.sim.link import Datagram, Quality

MODES = pytest.mark.parametrize("mode", Mode)
Change = Callable[[list[Certificate]], list[Certificate]]


def _signer(name: str) -> SignKey:
    """With a CA between it and the one that is trusted."""
    middle = authority("CN=Authority").ca("CN=Middle")
    kind = "email" if "@" in name else "dns"
    made = middle.issue(f"CN={name}", f"{kind}:{name}", key=key("RSA", name))
    return SignKey(private_key=PrivateKey(made.key), certificates=(made.der, middle.der))


def _lab(mode: Mode, **more: object) -> Lab:
    entry = PadEntry(proof=_signer(SERVER), demand=trust())
    return lab_v1(terms=TermsV1(exchange=mode, proof=_signer(CLIENT), demand=trust(), pad=(entry,)), **more)  # type: ignore[arg-type]


def _reversed(shown: list[Certificate]) -> list[Certificate]:
    return shown[::-1]


def _wrapped(shown: list[Certificate]) -> list[Certificate]:
    found = [x509.load_der_x509_certificate(one.data) for one in shown]
    return [Certificate(CertEncoding.PKCS7_X509, pkcs7.serialize_certificates(found, Encoding.DER))]


def _beside_others(shown: list[Certificate]) -> list[Certificate]:
    noise = [Certificate(CertEncoding.PKCS7_X509, b"\x30\x03no!"), Certificate(CertEncoding.CRL, b"old")]
    return [*noise, shown[1], shown[1], shown[0]]


def _show(change: Change, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both sides show their certificates otherwise."""

    def prove(*args: object, **more: object) -> list[Payload]:
        said = proof.prove(*args, **more)  # type: ignore[arg-type]
        shown = [p for p in said if isinstance(p, Certificate)]
        return [*change(shown), *(p for p in said if not isinstance(p, Certificate))]

    for module in (attempt, main_responder, aggressive_responder):
        monkeypatch.setattr(module, "prove", prove)


@MODES
@pytest.mark.parametrize("change", [_reversed, _wrapped, _beside_others])
def test_in_any_order_and_encoding(mode: Mode, change: Change, monkeypatch: pytest.MonkeyPatch) -> None:
    _show(change, monkeypatch)
    lab = _lab(mode)
    client = lab.client()
    lab.connect(client)
    assert str(lab.server.told(ConnectionUp)[0].remote_identity) == CLIENT


@MODES
def test_without_any_it_is_told_what_is_missing(mode: Mode, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some send none where they have sent it before: nothing is kept of anybody's."""
    _show(lambda _shown: [], monkeypatch)
    lab = _lab(mode)
    client = lab.client()
    client.connect(lab.terms.connection(), lab.server_ip)
    lab.world.run_until(lambda: bool(client.told(ConnectionDown)), 60.0)
    if mode is Mode.AGGRESSIVE:
        down = client.told(ConnectionDown)[0]
        reason, remedy = down.reason, down.remedy
    else:
        refused = lab.server.told(PeerRefused)[0]
        reason, remedy = refused.reason, refused.detail
    assert "shows no certificate" in reason
    assert "send its certificate" in remedy


def _requests(lab: Lab, mode: Mode) -> tuple[list[CertificateRequest], list[CertificateRequest]]:
    """Of the client, and of the server."""
    sent: list[Datagram] = []
    client = lab.client()
    for host in (client, lab.server):
        host.on_send.append(sent.append)
    lab.connect(client)
    found: tuple[list[CertificateRequest], list[CertificateRequest]] = ([], [])
    for datagram in sent[: 4 if mode is Mode.MAIN else 2]:
        said = parse_message(datagram.payload).all(CertificateRequest)
        found[datagram.source.ip == lab.server_ip].extend(said)
    return found


@MODES
def test_each_side_asks_for_certificates_of_those_it_trusts(mode: Mode) -> None:
    lab = _lab(mode)
    lab.terms = replace(lab.terms, ikev1=Ikev1Config(fragments=False))
    here, there = _requests(lab, mode)
    wanted = CertificateRequest(CertEncoding.X509_SIGNATURE, _subject())
    assert here == there == [wanted]


def _subject() -> bytes:
    return x509.load_der_x509_certificate(authority("CN=Authority").der).subject.public_bytes()


def _trust_in(count: int) -> CertificateOf:
    others = [authority(f"CN=Authority number {n}, O=Example").der for n in range(count - 1)]
    return CertificateOf(Trust([authority("CN=Authority").der, *others]))


def test_too_many_authorities_to_name_are_any() -> None:
    demand = _trust_in(26)
    (one,) = proof.requests([demand])
    assert one == CertificateRequest(CertEncoding.X509_SIGNATURE, b"")
    assert len(proof.requests([_trust_in(25)])) == 25


def test_many_authorities_are_named_in_fragments() -> None:
    """Messages 3 and 4 of main mode, on a wire that carries none of IP's."""
    demand = _trust_in(25)
    server, client = person("RSA", SERVER), person("RSA", CLIENT)
    terms = TermsV1(proof=client.proof, demand=demand, pad=(PadEntry(proof=server.proof, demand=demand),))
    lab = lab_v1(terms=terms, quality=Quality(mtu=1280, fragments=False))
    host = lab.client(behind=lab.nat())
    sent = _fragments(host), _fragments(lab.server)
    lab.connect(host)
    assert [len(pieces) > 1 for pieces in sent] == [True, True]


def _fragments(host: Host) -> list[Datagram]:
    """Those that it sends from port 500."""
    sent: list[Datagram] = []

    def tap(datagram: Datagram) -> None:
        if datagram.source.port == IKE_PORT and datagram.payload[16] == PayloadType.FRAGMENT:
            sent.append(datagram)

    host.on_send.append(tap)
    return sent
