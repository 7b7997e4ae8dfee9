"""FreeRADIUS decides, espudp's client and gateway carry: each method, right and wrong passwords, both TLS."""

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from espudp.crypto.signatures import PrivateKey
from espudp.crypto.tls import TlsIdentity
from espudp.crypto.x509 import Trust
from espudp.host.radius import Radius, RadiusServer
from espudp.ike.eap.login import EapLogin
from espudp.ike.eap.method import Outcome
from espudp.ike.eap.passthrough import EapRadius, PassThrough
from espudp.ike.eap.peer import EapPeer
from espudp.ike.eap.tls import TlsSetup
from espudp.wire.eap import EapType
from tests.interop.freeradius import PASSWORD, SECRET, freeradius
from tests.unit.crypto import certs
from tests.unit.ike.eap.talk import chance

pytestmark = pytest.mark.freeradius

NOW = datetime.now(UTC)
TIME: dict[str, Any] = {"begin": NOW - timedelta(days=1), "end": NOW + timedelta(days=2)}
ROOT = certs.root(**TIME)
BETWEEN = ROOT.ca("CN=Between", **TIME)
SERVER = BETWEEN.issue("CN=radius", "dns:radius.example.org", **TIME)
ALICE = BETWEEN.issue("CN=alice", "email:alice@example.org", **TIME)
CLIENT = "192.0.2.7"


def tls(own: certs.Issuer = ALICE, server_name: str = "radius.example.org") -> TlsSetup:
    identity = TlsIdentity(certificates=(own.der, BETWEEN.der), key=PrivateKey(own.key))
    return TlsSetup(identity=identity, trust=Trust([ROOT.der]), clock=lambda: NOW, server_name=server_name)


async def _talk(peer: EapPeer, gateway: PassThrough, radius: Radius) -> None:
    said: bytes | None = gateway.start()
    while said is not None and (answer := peer.receive(said)) is not None:
        said = gateway.receive(answer)
        if gateway.question is not None:
            said = gateway.provide(await radius.ask(gateway.question, CLIENT))


def _conversation(port: int, login: EapLogin) -> tuple[EapPeer, PassThrough]:
    async def run() -> tuple[EapPeer, PassThrough]:
        radius = Radius([RadiusServer("127.0.0.1", port, SECRET)])
        peer, gateway = login.peer(chance(1), gateway_proven=True), EapRadius().server(chance(2))
        await _talk(peer, gateway, radius)
        return peer, gateway

    return asyncio.run(run())


@pytest.mark.parametrize("method", ["md5", "gtc", "mschapv2"])
def test_passwords(tmp_path: Path, method: str) -> None:
    with freeradius(tmp_path, method, SERVER, ROOT, BETWEEN) as server:
        peer, gateway = _conversation(server.port, EapLogin(user="alice", password=PASSWORD))
        assert peer.outcome is gateway.outcome is Outcome.SUCCESS, (peer.error, gateway.error)
        assert gateway.identity == b"alice"
        assert peer.msk == gateway.msk
        assert (gateway.msk is not None) == (method == "mschapv2")

        peer, gateway = _conversation(server.port, EapLogin(user="alice", password="guess"))
        assert peer.outcome is gateway.outcome is Outcome.FAILURE
        assert "RADIUS refused it" in str(gateway.error)
        assert gateway.msk is None


@pytest.mark.parametrize("version", ["1.2", "1.3"])
def test_certificates(tmp_path: Path, version: str) -> None:
    with freeradius(tmp_path, "tls", SERVER, ROOT, BETWEEN, tls=version) as server:
        peer, gateway = _conversation(server.port, EapLogin(user="alice", tls=tls()))
        assert peer.outcome is gateway.outcome is Outcome.SUCCESS, (peer.error, gateway.error)
        assert peer.msk
        assert peer.msk == gateway.msk

        stranger = certs.root("CN=Other", **TIME).issue("CN=alice", **TIME)
        peer, gateway = _conversation(server.port, EapLogin(user="alice", tls=tls(stranger)))
        assert peer.outcome is gateway.outcome is Outcome.FAILURE

        other = tls(server_name="other.example.org")
        peer, gateway = _conversation(server.port, EapLogin(user="alice", tls=other))
        assert peer.outcome is gateway.outcome is Outcome.FAILURE
        assert "other.example.org" in str(peer.error)


def test_both_sides_agree_on_a_method(tmp_path: Path) -> None:
    """FreeRADIUS would like MD5 best; the client has MSCHAPv2 only, and says so."""
    with freeradius(tmp_path, "md5", SERVER, ROOT, BETWEEN) as server:
        login = EapLogin(user="alice", password=PASSWORD, methods=(EapType.MSCHAPV2,))
        peer, gateway = _conversation(server.port, login)
        assert peer.outcome is gateway.outcome is Outcome.SUCCESS, (peer.error, gateway.error)
        assert peer.msk
        assert peer.msk == gateway.msk


def test_another_secret_gets_no_answer(tmp_path: Path) -> None:
    with freeradius(tmp_path, "md5", SERVER, ROOT, BETWEEN) as server:

        async def run() -> PassThrough:
            wrong = RadiusServer("127.0.0.1", server.port, b"not between us")
            gateway = EapRadius().server(chance(2))
            peer = EapLogin(user="alice", password=PASSWORD).peer(chance(1), gateway_proven=True)
            await _talk(peer, gateway, Radius([wrong], waits=(0.1, 0.1)))
            return gateway

        gateway = asyncio.run(run())
        assert gateway.outcome is Outcome.FAILURE
        assert "does not answer" in str(gateway.error)
