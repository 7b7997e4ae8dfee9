"""Who the two sides are: signatures, certificates, raw public keys, with strongSwan in both roles."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.interop.authority import Authority, key_pem, of_kind, pem
from tests.interop.caller import CallingSwan
from tests.interop.gateway import Gateway
from tests.interop.matrix import INITIATOR, RESPONDER
from tests.interop.swan import ESPUDP_ID, SWAN_ID

pytestmark = [pytest.mark.strongswan, pytest.mark.namespaces, pytest.mark.tun]

Saw = Callable[[str], None]

initiator = pytest.mark.peer("strongSwan", INITIATOR)
responder = pytest.mark.peer("strongSwan", RESPONDER)

OWN_ID, PEER_ID = ["--id", ESPUDP_ID], ["--remote-id", SWAN_ID]


def certified(ours: Authority, auth: str = "pubkey", swan_id: str = SWAN_ID) -> dict[str, Any]:
    """strongSwan proves itself by certificate."""
    chain = [pem(one) for one in (ours.swan, *reversed(ours.between))]
    return {"auth": auth, "certs": chain, "id": swan_id}


def demanded(ours: Authority, auth: str = "pubkey", espudp_id: str = ESPUDP_ID) -> dict[str, Any]:
    """strongSwan demands a certificate; a scheme is meant for AUTH alone, not for the chain too."""
    auth = auth if auth == "pubkey" else f"ike:{auth}"
    return {"auth": auth, "cacerts": [pem(ours.root)], "id": espudp_id}


class Way(NamedTuple):
    """Keys of one kind on both sides, and what has them used as they are to be used."""

    kind: str
    method: str  # in charon's log, of both sides
    auth: str = "pubkey"
    options: tuple[str, ...] = ()


# RFC 7427
SIGNATURES = {
    "RSA": Way("rsa", "RSA_EMSA_PKCS1_SHA2_", "rsa-sha256-sha384-sha512"),
    "RSA-PSS": Way("rsa", "RSA_EMSA_PSS_SHA2_256", "rsa/pss-sha256", ("--rsa-pss",)),
    "ECDSA P-256": Way("p256", "ECDSA_WITH_SHA256_DER"),
    "ECDSA P-384": Way("p384", "ECDSA_WITH_SHA384_DER"),
    "ECDSA P-521": Way("p521", "ECDSA_WITH_SHA512_DER"),
    "Ed25519": Way("ed25519", "ED25519"),
    "Ed448": Way("ed448", "ED448"),
}

# RFC 7296 section 3.8 and RFC 4754: methods 1, 9, 10 and 11
OLDER = {
    "RSA": Way("rsa", "RSA signature", options=("--allow-sha1",)),
    "ECDSA P-256": Way("p256", "ECDSA-256 signature"),
    "ECDSA P-384": Way("p384", "ECDSA-384 signature"),
    "ECDSA P-521": Way("p521", "ECDSA-521 signature"),
}


def ways(table: dict[str, Way]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("way", [pytest.param(way, id=name) for name, way in table.items()])


def check_as_initiator(gateway: Gateway, folder: Path, saw: Saw, way: Way) -> None:
    ours = of_kind(way.kind)
    gateway.swan.load_key(key_pem(ours.swan.key))
    gateway.serve(local=certified(ours, way.auth), remote=demanded(ours, way.auth))
    arguments = [*ours.arguments(folder / "pki"), *way.options]
    with gateway.connected(folder, *arguments, identities=[*OWN_ID, *PEER_ID], psk=None) as peer:
        gateway.check_traffic(peer)
        saw(gateway.swan.proofs())
        assert gateway.swan.proofs().count(way.method) == 2


def check_as_responder(calling: CallingSwan, folder: Path, saw: Saw, way: Way) -> None:
    ours = of_kind(way.kind)
    calling.swan.load_key(key_pem(ours.swan.key))
    arguments = [*ours.arguments(folder / "pki"), *way.options]
    local, remote = certified(ours, way.auth), demanded(ours, way.auth)
    with (
        calling.listening(folder, *arguments, psk=None) as place,
        place.dialled(local=local, remote=remote) as address,
    ):
        place.check_traffic(address)
        saw(calling.swan.proofs())
        assert calling.swan.proofs().count(way.method) == 2


@initiator
@pytest.mark.cell("signatures (RFC 7427)")
@ways(SIGNATURES)
def test_signatures_as_initiator(gateway: Gateway, tmp_path: Path, saw: Saw, way: Way) -> None:
    check_as_initiator(gateway, tmp_path, saw, way)


@responder
@pytest.mark.cell("signatures (RFC 7427)")
@ways(SIGNATURES)
def test_signatures_as_responder(calling: CallingSwan, tmp_path: Path, saw: Saw, way: Way) -> None:
    check_as_responder(calling, tmp_path, saw, way)


@initiator
@pytest.mark.cell("signatures without RFC 7427")
@ways(OLDER)
def test_older_signatures_as_initiator(gateway: Gateway, tmp_path: Path, saw: Saw, way: Way) -> None:
    with gateway.swan.set_to("signature_authentication = no"):
        check_as_initiator(gateway, tmp_path, saw, way)


@responder
@pytest.mark.cell("signatures without RFC 7427")
@ways(OLDER)
def test_older_signatures_as_responder(calling: CallingSwan, tmp_path: Path, saw: Saw, way: Way) -> None:
    with calling.swan.set_to("signature_authentication = no"):
        check_as_responder(calling, tmp_path, saw, way)
