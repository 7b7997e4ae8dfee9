"""strongSwan's charon with userspace ESP (kernel-libipsec), in a namespace and on mounts of its own."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import vici

from tests.interop.lab import Namespace, Process, wait_until

PLUGINS = (
    "random nonce openssl aes sha1 sha2 hmac kdf gcm chapoly curve25519 gmp pem pkcs1 pkcs8 x509 pubkey "
    "kernel-libipsec kernel-netlink socket-default vici"
)

CONF = """
charon {{
  load_modular = no
  load = {plugins}
  install_routes = yes
  retransmit_timeout = 1
  retransmit_tries = 3
  filelog {{
    l {{
      path = /run/charon.log
      default = 1
      ike = 2
      cfg = 2
      flush_line = yes
    }}
  }}
}}
"""

START = "mount --bind {run} /run && mount --bind {conf} /etc/swanctl && exec /usr/lib/ipsec/charon"


class Charon:
    def __init__(self, log: Path, session: "vici.Session") -> None:
        self.log = log
        self.vici = session


@contextmanager
def charon(space: Namespace, folder: Path) -> Iterator[Charon]:
    run, conf = folder / "run", folder / "swanctl"
    for path in (run, conf):
        path.mkdir(parents=True)
    strongswan_conf = folder / "strongswan.conf"
    strongswan_conf.write_text(CONF.format(plugins=PLUGINS))
    argv = space.command("sh", "-c", START.format(run=run, conf=conf))
    with Process(argv, folder / "charon.out", {"STRONGSWAN_CONF": str(strongswan_conf)}):
        wait_until((run / "charon.vici").exists, "charon's vici socket")
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(str(run / "charon.vici"))
            yield Charon(run / "charon.log", vici.Session(connection))
