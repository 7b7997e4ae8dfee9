"""FreeRADIUS on loopback: one process with a configuration of its own, for one user."""

import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives import serialization

from tests.interop.lab import Namespace, wait_until
from tests.unit.crypto.certs import Issuer

SECRET = b"between us"
PASSWORD = "correct horse"

CONF = """
name = radius
prefix = {directory}
logdir = {directory}
run_dir = {directory}
libdir = /usr/lib/freeradius
max_requests = 1024
log {{
  destination = files
  file = {directory}/log
  auth = yes
}}
security {{
  allow_vulnerable_openssl = yes
}}
client loopback {{
  ipaddr = 127.0.0.1
  secret = "{secret}"
  require_message_authenticator = yes
}}
modules {{
  files {{
    usersfile = {directory}/users
  }}
  pap {{
  }}
  mschap {{
  }}
  eap {{
    default_eap_type = {method}
    md5 {{
    }}
    gtc {{
      auth_type = PAP
    }}
    mschapv2 {{
      send_error = yes
    }}
    tls-config common {{
      private_key_file = {directory}/key.pem
      certificate_file = {directory}/cert.pem
      ca_file = {directory}/ca.pem
      tls_min_version = "{tls}"
      tls_max_version = "{tls}"
      fragment_size = 1024
      ecdh_curve = ""
    }}
    tls {{
      tls = common
    }}
  }}
}}
server default {{
  listen {{
    type = auth
    ipaddr = 127.0.0.1
    port = {port}
  }}
  authorize {{
    eap {{
      ok = return
    }}
    files
    pap
  }}
  authenticate {{
    Auth-Type PAP {{
      pap
    }}
    mschap
    eap
  }}
}}
"""

USERS = """
"alice" Cleartext-Password := "{password}"
        Reply-Message := "Hello, %{{User-Name}}"
"""


@dataclass(frozen=True)
class FreeRadius:
    """One that runs."""

    port: int
    log: Path


def free_port() -> int:
    """A port of UDP on loopback that nobody has at the moment."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


@contextmanager
def freeradius(
    directory: Path,
    method: str,
    own: Issuer,
    ca: Issuer,
    *between: Issuer,
    tls: str = "1.2",
    space: Namespace | None = None,
) -> Iterator[FreeRadius]:
    """A server that asks for `method` first, with a certificate of its own that `ca` vouches for."""
    port = free_port()
    pem = serialization.Encoding.PEM
    (directory / "ca.pem").write_bytes(ca.certificate.public_bytes(pem))
    chain = [own.certificate, *(issuer.certificate for issuer in between)]
    (directory / "cert.pem").write_bytes(b"".join(certificate.public_bytes(pem) for certificate in chain))
    key = own.key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (directory / "key.pem").write_bytes(key)
    (directory / "users").write_text(USERS.format(password=PASSWORD))
    fields = {"directory": directory, "method": method, "port": port, "tls": tls, "secret": SECRET.decode()}
    (directory / "radiusd.conf").write_text(CONF.format(**fields))
    # It runs as root and reads what only its owner may
    directory.chmod(0o700)
    log = directory / "output"
    with log.open("wb") as output:
        argv = ["freeradius", "-X", "-d", str(directory)]
        argv = argv if space is None else list(space.command(*argv))
        process = subprocess.Popen(argv, stdout=output, stderr=subprocess.STDOUT)
        try:
            wait_until(lambda: _ready(process, log), "FreeRADIUS to be ready")
            yield FreeRadius(port, log)
        finally:
            process.terminate()
            process.wait(timeout=10)


def _ready(process: "subprocess.Popen[bytes]", log: Path) -> bool:
    text = log.read_text(errors="replace")
    if process.poll() is not None:
        raise AssertionError(f"FreeRADIUS ended:\n{text[-3000:]}")
    return "Ready to process requests" in text
