"""strongSwan's charon with userspace ESP (kernel-libipsec), in a namespace and on mounts of its own."""

import os
import re
import signal
import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import vici

from tests.interop.lab import Namespace, Process, wait_until
from tests.interop.no_esp import shim

# A line break would end the value.
PLUGINS = (
    "random nonce openssl aes sha1 sha2 md5 mgf1 hmac xcbc cmac ctr ccm gcm chapoly kdf curve25519 gmp "
    "pem pkcs1 pkcs8 x509 pubkey constraints revocation kernel-libipsec kernel-netlink socket-default vici "
    "resolve eap-identity eap-mschapv2 eap-md5 eap-gtc eap-tls xauth-generic"
)

CONF = """
charon {{
  load_modular = no
  load = {plugins}
  retransmit_timeout = 1
  retransmit_tries = 2
  filelog {{
    log {{
      path = /run/charon.log
      default = 1
      flush_line = yes
    }}
  }}
  {settings}
}}
"""

# Who proved what to whom: an identity, "(myself)" if it is charon's, and a method.
AUTHENTICATED = re.compile(
    r"authentication of '(.+)'( \(myself\))? with (.+?)(?: successful)?$", re.MULTILINE
)

# `ip netns exec` gives the process mounts of its own, so these are seen by nobody else.
START = "mount --bind {run} /run && exec /usr/lib/ipsec/charon"


class Charon:
    """One running charon, spoken to over vici."""

    def __init__(self, process: Process, log: Path, conf: Path, connection: socket.socket) -> None:
        self.process = process
        self._log = log
        self._conf = conf
        self.vici = vici.Session(connection)

    @property
    def log(self) -> str:
        return self._log.read_text(errors="replace")

    def seen(self, text: str) -> int:
        """How often the log has a text."""
        return self.log.count(text)

    def wait_for(self, text: str, *, times: int = 1, seconds: float = 15.0) -> None:
        wait_until(lambda: self.seen(text) >= times, f"charon to log {text!r} {times}x", seconds=seconds)

    def forget_credentials(self) -> None:
        """Keys, certificates, CRLs and secrets: all that was loaded, and what was learnt from peers."""
        self.vici.clear_creds()

    def load_psk(self, psk: str, *owners: str) -> None:
        self.vici.load_shared({"id": "psk", "type": "ike", "data": psk, "owners": list(owners)})

    def load_key(self, pem: str) -> None:
        """A private key; which identity it is for follows from certificates and public keys."""
        self.vici.load_key({"type": "any", "data": pem})

    def load_crl(self, pem: str) -> None:
        self.vici.load_cert({"type": "X509_CRL", "data": pem})

    def load_eap(self, user: str, password: str) -> None:
        self.vici.load_shared({"id": f"eap {user}", "type": "eap", "data": password, "owners": [user]})

    @contextmanager
    def set_to(self, *settings: str) -> Iterator[None]:
        """Lines of strongswan.conf's section `charon` that hold until the end of the block."""
        self._reload(settings)
        try:
            yield
        finally:
            self._reload(())

    def _reload(self, settings: Sequence[str]) -> None:
        self._conf.write_text(CONF.format(plugins=PLUGINS, settings="\n  ".join(settings)))
        self.vici.reload_settings()

    def proofs(self) -> str:
        """The methods by which the two sides proved themselves last: the peer's, and charon's own."""
        found = AUTHENTICATED.findall(self.log)
        peer = [method for _, myself, method in found if not myself]
        own = [method for _, myself, method in found if myself]
        return f"espudp by {peer[-1]}, strongSwan by {own[-1]}"

    def load(self, name: str, conn: Mapping[str, Any]) -> None:
        self.vici.load_conn({name: {"version": "2", "encap": "yes", **conn}})

    def initiate(self, child: str) -> None:
        """Bring a child SA up; an error of vici's says why if it does not."""
        for _ in self.vici.initiate({"child": child, "timeout": "15000", "loglevel": "0"}):
            pass

    def terminate(self, name: str, *, what: str = "ike") -> None:
        """Delete an `ike` or a `child` by its name, and wait until it is gone."""
        for _ in self.vici.terminate({what: name, "timeout": "10000", "loglevel": "0"}):
            pass

    def rekey(self, what: str, name: str) -> None:
        """Start the rekeying of an `ike` or a `child` by its name."""
        self.vici.rekey({what: name})

    def ike_sas(self) -> list[dict[str, Any]]:
        """Every IKE SA but half-open ones, as `swanctl --list-sas` shows it."""
        listed = [_plain(sa) for entry in self.vici.list_sas() for sa in entry.values()]
        return [sa for sa in listed if sa["state"] != "CONNECTING"]

    def child_sas(self) -> list[dict[str, Any]]:
        """Every child SA that carries traffic."""
        children = [child for sa in self.ike_sas() for child in sa["child-sas"].values()]
        return [child for child in children if child["state"] == "INSTALLED"]

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Neither hears nor says anything."""
        os.kill(self.process.pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(self.process.pid, signal.SIGCONT)


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value]


@contextmanager
def charon(space: Namespace, folder: Path, *, negotiates_only: bool = False) -> Iterator[Charon]:
    """Run charon in a namespace until the end of the block. Told so, it has the kernel's ESP, which is only
    pretended (no_esp.c), and so modes that its own has not.
    """
    run = folder / "run"
    run.mkdir(parents=True)
    strongswan_conf = folder / "strongswan.conf"
    plugins = PLUGINS.replace("kernel-libipsec ", "") if negotiates_only else PLUGINS
    strongswan_conf.write_text(CONF.format(plugins=plugins, settings=""))
    environment = {"STRONGSWAN_CONF": str(strongswan_conf)}
    if negotiates_only:
        environment["LD_PRELOAD"] = str(shim(folder))
    argv = space.command("sh", "-c", START.format(run=run))
    with (
        Process(argv, folder / "charon.out", environment) as process,
        socket.socket(socket.AF_UNIX) as connection,
    ):
        connection.settimeout(30)
        # There first, and listened to a moment later
        wait_until(lambda: not connection.connect_ex(str(run / "charon.vici")), "charon's vici socket")
        yield Charon(process, run / "charon.log", strongswan_conf, connection)
