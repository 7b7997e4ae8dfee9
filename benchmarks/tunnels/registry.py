"""All tunnels, in the order in which they are measured and shown."""

from benchmarks.targets import CROWD_PEERS
from benchmarks.tunnels.base import Tunnel
from benchmarks.tunnels.ceiling import Ceiling
from benchmarks.tunnels.direct import Direct
from benchmarks.tunnels.espudp import CrowdedEspudp, Espudp
from benchmarks.tunnels.openvpn import OpenVpn
from benchmarks.tunnels.strongswan import StrongSwan
from benchmarks.tunnels.wireguard import WireGuardGo

GCM, CBC = "aes128gcm16", "aes128-sha256"
# What is measured of variants, which are there to be compared with one other tunnel.
WORKERS = ("tcp", "four", "udp", "rtt", "memory", "start")
ALONE = ("tcp", "memory", "start")


def tunnels() -> list[Tunnel]:
    """Ours first."""
    return [
        Espudp("espudp", "espudp", GCM),
        CrowdedEspudp("espudp-1000", "espudp, 1,000 SAs", GCM, others=CROWD_PEERS, groups=ALONE),
        Espudp("espudp-workers", "espudp, 2 workers", GCM, options=("--workers", "2"), groups=WORKERS),
        StrongSwan("strongswan", "strongSwan", GCM),
        OpenVpn(),
        WireGuardGo(),
        Espudp("espudp-cbc", "espudp, CBC", CBC, groups=ALONE),
        StrongSwan("strongswan-cbc", "strongSwan, CBC", CBC, groups=ALONE),
        Ceiling(),
        Direct(),
    ]


def names() -> list[str]:
    """What they are called."""
    return [tunnel.name for tunnel in tunnels()]


def choose(peers: str) -> list[Tunnel]:
    """`all`; `none`: only ours; else espudp and those named. Raises KeyError for an unknown name."""
    known = {tunnel.name: tunnel for tunnel in tunnels()}
    if peers == "all":
        return list(known.values())
    if peers == "none":
        return [tunnel for tunnel in known.values() if isinstance(tunnel, Espudp)]
    named = {known[name].name for name in peers.split(",")} | {"espudp"}
    return [tunnel for tunnel in known.values() if tunnel.name in named]
