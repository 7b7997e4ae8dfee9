"""Two hosts that know each other by key, by certificate, or by name and password: as their users type it."""

import shlex
from pathlib import Path

import pytest

from tests.host.support import Network, Peer, ping

pytestmark = [pytest.mark.root, pytest.mark.tun]

SERVER = "203.0.113.7"


def _run(network: Network, who: str, *arguments: str) -> str:
    """A command that ends, on `server` or `client`; the last line that it prints."""
    peer = Peer.run(network, getattr(network, who), who, "espudp", *arguments)
    assert peer.end() == 0
    return peer.output.splitlines()[-1].strip()


def _listen(network: Network, *arguments: str) -> Peer:
    return Peer.run(network, network.server, "server", "espudp", "listen", *arguments)


def _carries(network: Network, server: Peer, *connect: str) -> None:
    """The client connects, packets pass, and both end well."""
    peer = Peer.run(network, network.client, "client", "espudp", "connect", *connect)
    peer.wait_for("Connected to")
    assert ping(network.client, "10.99.0.1", tries=3) == 3
    assert (peer.stop(), server.stop()) == (0, 0)


def test_public_keys(network: Network) -> None:
    """Each host's key is told to the other; the printed line is what the client types."""
    server = _listen(network, "--peer-key", _run(network, "client", "keygen"))
    assert server.end() != 0  # the server has no key yet, and says how to make one
    assert "espudp keygen" in server.output
    _run(network, "server", "keygen")
    server = _listen(network, "--peer-key", _run(network, "client", "keygen"))
    words = shlex.split(server.wait_for("espudp connect"))
    _carries(network, server, *words[2:])
    assert "keyid:SHA256:" in server.output


@pytest.fixture
def pki(network: Network, tmp_path: Path) -> Path:
    """A CA of our own, a gateway and a client, made by the program itself."""
    folder = tmp_path / "pki"
    for words in (("init",), ("issue", SERVER), ("issue", "me@example.org")):
        _run(network, "server", "pki", *words, "--dir", str(folder))
    return folder


def _own(folder: Path, name: str) -> tuple[str, ...]:
    files = (f"{name}.pem", f"{name}.key", "ca.pem")
    return tuple(
        w
        for option, f in zip(("--cert", "--key", "--ca"), files, strict=True)
        for w in (option, str(folder / f))
    )


def test_certificates(network: Network, pki: Path) -> None:
    server = _listen(network, *_own(pki, SERVER), "--crl", str(pki / "crl.pem"))
    server.wait_for("Listening on")
    _carries(network, server, SERVER, *_own(pki, "me@example.org"))
    assert "me@example.org" in server.output


def test_two_proofs(network: Network, pki: Path, tmp_path: Path) -> None:
    """A certificate, and a name and password after it (RFC 4739)."""
    users, password = tmp_path / "users", tmp_path / "password"
    for file, text in ((users, "alice:secret\n"), (password, "secret\n")):
        file.write_text(text)
        file.chmod(0o600)
    server = _listen(network, *_own(pki, SERVER), "--eap-users", str(users), "--both-proofs")
    server.wait_for("Listening on")
    login = ("--eap-user", "alice", "--eap-password-file", str(password), "--both-proofs")
    _carries(network, server, SERVER, *_own(pki, "me@example.org"), *login)
