"""What xl2tpd and pppd are to be told when espudp is the IPsec below them: L2TP/IPsec (RFC 3193)."""

import os
import shutil
from collections.abc import Mapping
from ipaddress import IPv4Network
from pathlib import Path

from espudp.errors import ConfigError, HostError

# RFC 2661 section 8.1
L2TP_PORT = 1701

CONF, OPTIONS = "xl2tpd.conf", "options.xl2tpd"
# Of the running daemon. Its own folder for them, /run/xl2tpd, is there only once its service has run.
CONTROL, PID = "xl2tpd-control", "xl2tpd.pid"
# Where the daemons are, which not every user's PATH has.
SYSTEM_PATH = "/usr/local/sbin:/usr/sbin:/sbin"

# The name of our side in the second column of /etc/ppp/chap-secrets.
SERVER_NAME = "l2tp"

WRITTEN = "Written by espudp"

# 1500 octets less IPv6, UDP, ESP, UDP, L2TP and PPP are some 1380; paths of fewer octets are common, and
# with 1280 IPv6 works inside (RFC 8200 section 5).
LINK_OCTETS = 1280

# A peer that is gone is noticed within two minutes. Compression and MPPE are left to IPsec.
COMMON = f"""\
noccp
nodeflate
nobsdcomp
mtu {LINK_OCTETS}
mru {LINK_OCTETS}
lcp-echo-interval 30
lcp-echo-failure 4
"""


def server_files(folder: Path, pool: IPv4Network, dns: tuple[str, ...] = ()) -> dict[str, str]:
    """The LNS: its end of each link has the pool's first address, the clients have the others.

    Raises ConfigError for a pool without room.
    """
    if pool.prefixlen > 30:
        raise ConfigError(
            f"the pool {pool} has no addresses for us and for a client",
            field="pool",
            remedy="Name one with a prefix of 30 bits or less.",
        )
    conf = f"""\
; {WRITTEN}: the LNS behind `espudp listen --l2tp`.
[global]
port = {L2TP_PORT}

[lns default]
ip range = {pool[2]}-{pool[-2]}
local ip = {pool[1]}
name = {SERVER_NAME}
length bit = yes
pppoptfile = {folder / OPTIONS}
"""
    options = f"# {WRITTEN}: pppd for each client. Names and passwords are in /etc/ppp/chap-secrets.\n"
    options += "auth\nrequire-mschap-v2\n" + "".join(f"ms-dns {server}\n" for server in dns) + COMMON
    return {CONF: conf, OPTIONS: options}


def client_files(folder: Path, host: str, user: str) -> dict[str, str]:
    """The LAC, which dials, and again whenever the link is lost.

    Raises ConfigError for a name that pppd's file of options cannot hold.
    """
    if not user or not user.isprintable() or set(user) & set(" \t\"'\\#"):
        raise ConfigError(
            "the name for L2TP is not one that pppd can read",
            field="l2tp-user",
            remedy="Give the name under which the server knows you, without spaces and quotes.",
        )
    conf = f"""\
; {WRITTEN}: the LAC behind `espudp connect --l2tp`.
[global]
port = {L2TP_PORT}

[lac espudp]
lns = {host}
autodial = yes
redial = yes
redial timeout = 5
length bit = yes
pppoptfile = {folder / OPTIONS}
"""
    options = f"# {WRITTEN}: pppd of the client. The password is in /etc/ppp/chap-secrets.\n"
    return {CONF: conf, OPTIONS: options + f"user {user}\nnoauth\nrefuse-pap\n" + COMMON}


def daemon(folder: Path, run: Path) -> list[str]:
    """The command that runs xl2tpd in the foreground with the files of `folder`; its own go to `run`."""
    return ["xl2tpd", "-D", "-c", f"{folder / CONF}", "-C", f"{run / CONTROL}", "-p", f"{run / PID}"]


def missing() -> list[str]:
    """The programs of L2TP that this host lacks."""
    path = f"{os.environ.get('PATH', '')}:{SYSTEM_PATH}"
    return [name for name in ("xl2tpd", "pppd") if shutil.which(name, path=path) is None]


def write_files(folder: Path, files: Mapping[str, str]) -> None:
    """Write them for everybody to read; none has a secret in it.

    Raises ConfigError where a file is there that is not ours, before any is written, and HostError.
    """
    try:
        folder.mkdir(mode=0o755, parents=True, exist_ok=True)
        for name in files:
            _check_ours(folder / name)
        for name, text in files.items():
            aside = folder / f".{name}.{os.getpid()}"
            aside.write_text(text)
            aside.replace(folder / name)
    except OSError as error:
        raise HostError(
            f"xl2tpd's configuration could not be written to {folder}: {error.strerror}.",
            remedy="Run espudp as root, or choose a directory of yours.",
        ) from None


def _check_ours(path: Path) -> None:
    try:
        first = path.read_bytes().split(b"\n", 1)[0]
    except FileNotFoundError:
        return
    if WRITTEN.encode() not in first:
        raise ConfigError(
            f"{path} is not one that espudp wrote, and is left as it is",
            field="l2tp-config",
            remedy="Name another directory, or move that file away.",
        )
