"""Certificates, raw public keys and names as strongSwan has them, in both roles; what either refuses."""

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import vici

from tests.interop.authority import Authority, authority, key_pem, new_key, of_kind, pem, public_pem
from tests.interop.caller import CallingSwan
from tests.interop.gateway import Gateway
from tests.interop.matrix import INITIATOR, RESPONDER
from tests.interop.peer import secret_file, start
from tests.interop.swan import ESPUDP_ID, SWAN_ID

pytestmark = [pytest.mark.strongswan, pytest.mark.namespaces, pytest.mark.tun]

Saw = Callable[[str], None]

initiator = pytest.mark.peer("strongSwan", INITIATOR)
responder = pytest.mark.peer("strongSwan", RESPONDER)


def certified(ours: Authority, swan_id: str = SWAN_ID) -> dict[str, Any]:
    """strongSwan proves itself by certificate."""
    return {"auth": "pubkey", "certs": [pem(ours.swan)], "id": swan_id}


def demanded(ours: Authority, espudp_id: str = ESPUDP_ID) -> dict[str, Any]:
    """strongSwan demands a certificate."""
    return {"auth": "pubkey", "cacerts": [pem(ours.root), *map(pem, ours.between)], "id": espudp_id}


class Named(NamedTuple):
    """What both sides are called: subjectAltNames, as espudp's options have them and as strongSwan does."""

    alternatives: tuple[str, str]
    names: tuple[str, str]


NAMES = {
    "FQDN": Named((f"dns:{ESPUDP_ID}", f"dns:{SWAN_ID}"), (ESPUDP_ID, SWAN_ID)),
    "e-mail": Named(("email:me@esp.example", "email:gw@swan.example"), ("me@esp.example", "gw@swan.example")),
    "IPv4 address": Named(("ip:192.168.77.2", "ip:203.0.113.2"), ("192.168.77.2", "203.0.113.2")),
    "IPv6 address": Named(("ip:fd00::2", "ip:fd00::1"), ("fd00::2", "fd00::1")),
    "DN": Named(
        (f"dns:{ESPUDP_ID}", f"dns:{SWAN_ID}"),
        (f"C=CH, O=Interop p256, CN={ESPUDP_ID}", f"C=CH, O=Interop p256, CN={SWAN_ID}"),
    ),
}  # fmt: skip

names = pytest.mark.parametrize("named", [pytest.param(named, id=name) for name, named in NAMES.items()])


@cache
def certificates_of(named: Named) -> Authority:
    espudp, swan = named.alternatives
    return authority(espudp=[espudp], swan=[swan])


@initiator
@pytest.mark.cell("names in certificates")
@names
def test_names_as_initiator(gateway: Gateway, tmp_path: Path, saw: Saw, named: Named) -> None:
    ours, (espudp, swan) = certificates_of(named), named.names
    gateway.swan.load_key(key_pem(ours.swan.key))
    gateway.serve(local=certified(ours, swan), remote=demanded(ours, espudp))
    identities = ["--id", espudp, "--remote-id", swan]
    with gateway.connected(tmp_path, *ours.arguments(tmp_path / "pki"), identities=identities, psk=None):
        (sa,) = gateway.swan.ike_sas()
        saw(f"{sa['remote-id']} and {sa['local-id']}")
        assert (sa["remote-id"], sa["local-id"]) == (espudp, swan)


@responder
@pytest.mark.cell("names in certificates")
@names
def test_names_as_responder(calling: CallingSwan, tmp_path: Path, saw: Saw, named: Named) -> None:
    ours, (espudp, swan) = certificates_of(named), named.names
    calling.swan.load_key(key_pem(ours.swan.key))
    arguments = [*ours.arguments(tmp_path / "pki"), "--local-id", espudp]
    with (
        calling.listening(tmp_path, *arguments, psk=None) as place,
        place.dialled(local=certified(ours, swan), remote=demanded(ours, espudp)),
    ):
        (sa,) = calling.swan.ike_sas()
        saw(f"{sa['remote-id']} and {sa['local-id']}")
        assert (sa["remote-id"], sa["local-id"]) == (espudp, swan)


# strongSwan knows the root alone, so the rest of each chain comes with the end entity.
CHAIN = 2


@cache
def chained() -> Authority:
    return authority(between=CHAIN)


def check_chain(log: str) -> None:
    assert log.count('received issuer cert "CN=Authority') >= CHAIN


def root_alone(ours: Authority) -> dict[str, Any]:
    return {"auth": "pubkey", "cacerts": [pem(ours.root)], "id": ESPUDP_ID}


def whole_chain(ours: Authority) -> dict[str, Any]:
    return {"auth": "pubkey", "certs": [pem(ours.swan), *map(pem, ours.between)], "id": SWAN_ID}


@initiator
@pytest.mark.cell("certificate chains")
def test_chains_as_initiator(gateway: Gateway, tmp_path: Path, saw: Saw) -> None:
    ours = chained()
    gateway.swan.load_key(key_pem(ours.swan.key))
    gateway.serve(local=whole_chain(ours), remote=root_alone(ours))
    before = len(gateway.swan.log)
    with gateway.connected(tmp_path, *ours.arguments(tmp_path / "pki"), psk=None):
        check_chain(gateway.swan.log[before:])
    saw(f"{CHAIN} authorities between the root and each end entity")


@responder
@pytest.mark.cell("certificate chains")
def test_chains_as_responder(calling: CallingSwan, tmp_path: Path, saw: Saw) -> None:
    ours = chained()
    calling.swan.load_key(key_pem(ours.swan.key))
    arguments = ours.arguments(tmp_path / "pki")
    with calling.listening(tmp_path, *arguments, psk=None) as place:
        before = len(calling.swan.log)
        with place.dialled(local=whole_chain(ours), remote=root_alone(ours)):
            check_chain(calling.swan.log[before:])
    saw(f"{CHAIN} authorities between the root and each end entity")


# Raw public keys (RFC 7670): strongSwan finds its own by what it is told to prove itself with.
RAW = {"RSA": "rsa", "ECDSA P-256": "p256", "Ed25519": "ed25519"}

raw_keys = pytest.mark.parametrize("kind", [pytest.param(kind, id=name) for name, kind in RAW.items()])


class RawKeys:
    """A key for each side, known to the other."""

    def __init__(self, folder: Path, kind: str) -> None:
        espudp, swan = new_key(kind), new_key(kind)
        self.swan_key = key_pem(swan)
        self.local = {"auth": "pubkey", "pubkeys": [public_pem(swan)], "id": SWAN_ID}
        self.remote = {"auth": "pubkey", "pubkeys": [public_pem(espudp)], "id": ESPUDP_ID}
        peer = folder / "peer.pem"
        peer.write_text(public_pem(swan))
        own = secret_file(folder / "own.pem", key_pem(espudp))
        self.arguments = ["--key", str(own), "--peer-key", str(peer)]


@initiator
@pytest.mark.cell("raw public keys (RFC 7670)")
@raw_keys
def test_raw_keys_as_initiator(gateway: Gateway, tmp_path: Path, saw: Saw, kind: str) -> None:
    keys = RawKeys(tmp_path, kind)
    gateway.swan.load_key(keys.swan_key)
    gateway.serve(local=keys.local, remote=keys.remote)
    with gateway.connected(tmp_path, *keys.arguments, psk=None) as peer:
        gateway.check_traffic(peer)
        saw(gateway.swan.proofs())


@responder
@pytest.mark.cell("raw public keys (RFC 7670)")
@raw_keys
def test_raw_keys_as_responder(calling: CallingSwan, tmp_path: Path, saw: Saw, kind: str) -> None:
    keys = RawKeys(tmp_path, kind)
    calling.swan.load_key(keys.swan_key)
    with (
        calling.listening(tmp_path, *keys.arguments, psk=None) as place,
        place.dialled(local=keys.local, remote=keys.remote) as address,
    ):
        place.check_traffic(address)
        saw(calling.swan.proofs())


@initiator
@pytest.mark.cell("PSK of one side, certificate of the other")
def test_mixed_as_initiator(gateway: Gateway, tmp_path: Path, saw: Saw) -> None:
    ours = of_kind("p256")
    gateway.swan.load_key(key_pem(ours.swan.key))
    gateway.serve(local=certified(ours))
    ours.arguments(tmp_path / "pki")
    with gateway.connected(tmp_path, "--ca", str(tmp_path / "pki" / "ca.pem")):
        saw(gateway.swan.proofs())
        assert gateway.swan.proofs() == "espudp by pre-shared key, strongSwan by ECDSA_WITH_SHA256_DER"


class Bad(NamedTuple):
    """What is wrong with strongSwan's certificate, and what espudp says of it."""

    said: str
    expired: bool = False
    revoked: bool = False
    another_ca: bool = False


BAD = {
    "expired": Bad("expired at", expired=True),
    "revoked": Bad("was revoked by", revoked=True),
    "of another CA": Bad("is not by the key of", another_ca=True),
}

badly = pytest.mark.parametrize("bad", [pytest.param(bad, id=name) for name, bad in BAD.items()])


def badly_certified(folder: Path, bad: Bad) -> tuple[Authority, list[str]]:
    """What strongSwan has, and espudp's arguments."""
    ours = authority(expired=bad.expired)
    arguments = ours.arguments(folder / "pki")
    if bad.revoked:
        crl = folder / "ca.crl"
        crl.write_text(ours.crl(ours.swan))
        arguments += ["--crl", str(crl)]
    if bad.another_ca:
        (folder / "pki" / "ca.pem").write_text(pem(authority().root))
    return ours, arguments


@initiator
@pytest.mark.cell("certificates that espudp refuses")
@badly
def test_bad_certificates_as_initiator(gateway: Gateway, tmp_path: Path, saw: Saw, bad: Bad) -> None:
    ours, arguments = badly_certified(tmp_path, bad)
    gateway.swan.load_key(key_pem(ours.swan.key))
    gateway.serve(local=certified(ours), remote=demanded(ours))
    argv = gateway.arguments(*arguments)
    with start(gateway.net.client, tmp_path, *argv, psk=None) as process:
        assert process.wait() == 1
        assert bad.said in process.output
        assert "Traceback" not in process.output
    gateway.check_gone()
    saw(f"told: {bad.said}")


@responder
@pytest.mark.cell("certificates that espudp refuses")
@badly
def test_bad_certificates_as_responder(calling: CallingSwan, tmp_path: Path, saw: Saw, bad: Bad) -> None:
    ours, arguments = badly_certified(tmp_path, bad)
    calling.swan.load_key(key_pem(ours.swan.key))
    with calling.listening(tmp_path, *arguments, psk=None) as place:
        with pytest.raises(vici.exception.CommandException):
            place.dial(local=certified(ours), remote=demanded(ours))
        place.peer.wait_for(bad.said)
        assert not place.peer.tunnel()["connections"]
    saw(f"AUTHENTICATION_FAILED; told: {bad.said}")
