"""wireguard-go, configured over its socket as https://www.wireguard.com/xplatform/ says."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from benchmarks.lab import INNER_MTU, Lab, Program, TunnelError
from benchmarks.tunnels.base import Tunnel, absent, first_line
from espudp.host.demo import SERVER_IP
from espudp.host.netns import Namespace

PORT = 51820
DEVICE = "wg0"


class WireGuardGo(Tunnel):
    """Keys of its own for each run."""

    name = "wireguard"
    title = "wireguard-go"
    inner_ip = "10.95.0.1"
    no_handshakes = "its handshake is Noise"

    def __init__(self) -> None:
        self._server_key, self._client_key = X25519PrivateKey.generate(), X25519PrivateKey.generate()

    def missing(self) -> str:
        return absent("wireguard-go", "wireguard-go")

    def version(self) -> str:
        return first_line("wireguard-go", "--version")

    @contextmanager
    def server(self, lab: Lab) -> Iterator[list[Program]]:
        peer = {"public_key": _public(self._client_key), "allowed_ip": "10.95.0.2/32"}
        ours = {"private_key": self._server_key.private_bytes_raw().hex(), "listen_port": str(PORT)}
        with self._run(lab, lab.server, f"{self.inner_ip}/24", {**ours, **peer}) as program:
            yield [program]

    @contextmanager
    def client(self, lab: Lab) -> Iterator[list[Program]]:
        endpoint = {"endpoint": f"{SERVER_IP}:{PORT}", "allowed_ip": f"{self.inner_ip}/32"}
        ours = {"private_key": self._client_key.private_bytes_raw().hex()}
        settings = {**ours, "public_key": _public(self._server_key), **endpoint}
        with self._run(lab, lab.client, "10.95.0.2/24", settings) as program:
            yield [program]

    @contextmanager
    def _run(
        self, lab: Lab, namespace: Namespace, address: str, settings: dict[str, str]
    ) -> Iterator[Program]:
        folder = lab.folder(self.name)
        run = folder / "run"
        run.mkdir()
        script = f"mount --bind {run} /run && exec wireguard-go --foreground {DEVICE}"
        # Otherwise it asks on a terminal whether one would not rather have the kernel's.
        env = {"WG_I_PREFER_BUGGY_USERSPACE_TO_POLISHED_KMOD": "1", "LOG_LEVEL": "error"}
        argv = ["unshare", "--mount", "sh", "-c", script]
        with Program(namespace, argv, folder / "log", env=env) as program:
            control = run / "wireguard" / f"{DEVICE}.sock"
            program.wait_until(lambda: _listens(control), "its socket")
            _configure(control, settings)
            namespace.set_mtu(DEVICE, INNER_MTU)
            namespace.add_address(DEVICE, address)
            yield program


def _listens(control: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as client:
        return client.connect_ex(str(control)) == 0


def _configure(control: Path, settings: dict[str, str]) -> None:
    lines = ["set=1", *(f"{key}={value}" for key, value in settings.items())]
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(5)
        client.connect(str(control))
        client.sendall("\n".join(lines).encode() + b"\n\n")
        answer = client.recv(4096).decode()
    if "errno=0" not in answer:
        raise TunnelError(f"wireguard-go refuses its configuration: {' '.join(answer.split())}")


def _public(key: X25519PrivateKey) -> str:
    return key.public_key().public_bytes_raw().hex()
