"""OpenVPN, with the data channel in user space."""

import datetime
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from benchmarks.lab import INNER_MTU, Lab, Program
from benchmarks.tunnels.base import Tunnel, absent, first_line
from espudp.host.demo import SERVER_IP

CIPHER = "AES-128-GCM"
SERVER_READY = "Initialization Sequence Completed"

COMMON = f"""
proto udp
port 1194
dev tun
disable-dco
topology subnet
tun-mtu {INNER_MTU}
data-ciphers {CIPHER}
"""
SERVER = """
server 10.97.0.0 255.255.255.0
dh none
"""
CLIENT = f"""
tls-client
pull
nobind
remote {SERVER_IP}
"""


class OpenVpn(Tunnel):
    """Two self-signed certificates that know each other by fingerprint."""

    name = "openvpn"
    title = "OpenVPN"
    inner_ip = "10.97.0.1"
    no_handshakes = "its handshake is TLS"

    def __init__(self) -> None:
        self._names = "server", "client"

    def missing(self) -> str:
        return absent("openvpn", "openvpn")

    def version(self) -> str:
        return " ".join(first_line("openvpn", "--version").split()[:2])

    @contextmanager
    def server(self, lab: Lab) -> Iterator[list[Program]]:
        keys = lab.directory / "openvpn"
        if not keys.exists():
            keys.mkdir(mode=0o700)
            for name in self._names:
                _make_certificate(keys, name)
        folder = lab.folder(self.name)
        with Program(
            lab.server, self._command(folder, keys, SERVER, *self._names), folder / "log"
        ) as program:
            program.wait_until(lambda: SERVER_READY in program.output, "its initialization")
            yield [program]

    @contextmanager
    def client(self, lab: Lab) -> Iterator[list[Program]]:
        folder, keys = lab.folder(self.name), lab.directory / "openvpn"
        argv = self._command(folder, keys, CLIENT, *reversed(self._names))
        with Program(lab.client, argv, folder / "log") as program:
            yield [program]

    @staticmethod
    def _command(folder: Path, keys: Path, text: str, ours: str, theirs: str) -> list[str]:
        identity = [
            f"cert {keys / ours}.crt",
            f"key {keys / ours}.key",
            f"peer-fingerprint {(keys / theirs).with_suffix('.fingerprint').read_text()}",
        ]
        conf = folder / "openvpn.conf"
        conf.write_text(COMMON + text + "\n".join(identity) + "\n")
        return ["openvpn", "--config", str(conf)]


def _make_certificate(folder: Path, name: str) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (folder / f"{name}.key").write_bytes(private)
    (folder / f"{name}.crt").write_bytes(certificate.public_bytes(pem))
    (folder / f"{name}.fingerprint").write_text(certificate.fingerprint(hashes.SHA256()).hex(":"))
