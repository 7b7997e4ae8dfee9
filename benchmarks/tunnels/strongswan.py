"""strongSwan with its own userspace ESP, kernel-libipsec."""

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.figures import GROUPS
from benchmarks.lab import SERVER_INSIDE, Lab, Program, TunnelError
from benchmarks.tunnels.base import Tunnel, absent, first_line
from espudp.host.demo import SERVER_IP
from espudp.host.netns import Namespace

PLUGINS = Path("/usr/lib/ipsec/plugins")
CHARON = "/usr/lib/ipsec/charon"
PSK = "benchmark: any will do, nobody attacks it"
IKE_SUITE = "aes128gcm16-prfsha256-curve25519"

# Of several implementations of a cipher the first is used: as by default, aesni's, which is also the fastest.
CONF = """
charon {
  load_modular = no
  load = aesni openssl random nonce aes sha1 sha2 hmac kdf gcm curve25519 kernel-libipsec kernel-netlink \
socket-default vici
}
"""

CONNECTIONS = """
connections {{
  bench {{
    version = 2
    encap = yes
    proposals = {ike}
    {ends}
    local {{ auth = psk
      id = {local} }}
    remote {{ auth = psk
      id = {remote} }}
    children {{ bench {{ {selectors}
      esp_proposals = {esp} }} }}
  }}
}}
secrets {{ ike {{ secret = "{psk}" }} }}
"""
POOL_RANGE = "10.98.128.0/17"
POOL = """
pools {{ clients {{ addrs = {pool} }} }}
"""


class StrongSwan(Tunnel):
    """One ESP suite. The client gets a virtual address, as espudp's does."""

    inner_ip = SERVER_INSIDE  # it takes traffic to an address of the host's, and gives its device none
    ike_suite = IKE_SUITE
    psk = PSK

    def __init__(self, name: str, title: str, suite: str, *, groups: Collection[str] = GROUPS) -> None:
        self.name = name
        self.title = title
        self.esp_suite = suite
        self.groups = groups

    def missing(self) -> str:
        wanted = {
            "strongswan-charon": CHARON,
            "strongswan-swanctl": str(PLUGINS / "libstrongswan-vici.so"),
            "libcharon-extra-plugins": str(PLUGINS / "libstrongswan-kernel-libipsec.so"),
            "libstrongswan-standard-plugins": str(PLUGINS / "libstrongswan-openssl.so"),
        }
        return " ".join(package for package, path in wanted.items() if absent(package, path))

    def version(self) -> str:
        return first_line("swanctl", "--version")

    @contextmanager
    def server(self, lab: Lab) -> Iterator[list[Program]]:
        ends = f"local_addrs = {SERVER_IP}\n    pools = clients"
        folder = lab.folder(self.name)
        with self._charon(lab.server, folder) as program:
            text = self._connections(ends, "server", "%any", f"local_ts = {self.inner_ip}/32")
            self._load(lab, folder, text + POOL.format(pool=POOL_RANGE))
            yield [program]

    @contextmanager
    def client(self, lab: Lab) -> Iterator[list[Program]]:
        folder = lab.folder(self.name)
        with self._charon(lab.client, folder) as program:
            ends = f"remote_addrs = {SERVER_IP}\n    vips = 0.0.0.0"
            text = self._connections(ends, "client", "server", f"remote_ts = {self.inner_ip}/32")
            self._load(lab, folder, text)
            self._swanctl(lab, folder, "--initiate", "--child", "bench")
            yield [program]

    def _connections(self, ends: str, local: str, remote: str, selectors: str) -> str:
        names = {"ike": IKE_SUITE, "esp": self.esp_suite, "psk": PSK}
        return CONNECTIONS.format(ends=ends, local=local, remote=remote, selectors=selectors, **names)

    @staticmethod
    @contextmanager
    def _charon(namespace: Namespace, folder: Path) -> Iterator[Program]:
        """In mounts of its own, since it keeps a socket and a pid file in /run."""
        run, conf = folder / "run", folder / "strongswan.conf"
        run.mkdir()
        conf.write_text(CONF)
        script = f"mount --bind {run} /run && exec {CHARON}"
        argv = ["unshare", "--mount", "sh", "-c", script]
        with Program(namespace, argv, folder / "charon.log", env={"STRONGSWAN_CONF": str(conf)}) as program:
            program.wait_until((run / "charon.vici").exists, "charon's socket")
            yield program

    def _load(self, lab: Lab, folder: Path, text: str) -> None:
        (folder / "swanctl.conf").write_text(text)
        self._swanctl(lab, folder, "--load-all", "--file", str(folder / "swanctl.conf"))

    @staticmethod
    def _swanctl(lab: Lab, folder: Path, *arguments: str) -> None:
        argv = ["swanctl", *arguments, "--uri", f"unix://{folder}/run/charon.vici"]
        # Its socket is a file: the namespace does not matter.
        with Program(lab.client, argv, folder / "swanctl.log") as program:
            program.process.wait(30)
            if program.process.returncode:
                raise TunnelError(f"swanctl {arguments[0]}: {program.last_words()}")
