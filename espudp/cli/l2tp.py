"""`--l2tp`: transport mode for the L2TP of xl2tpd, and its configuration (RFC 3193)."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, replace
from ipaddress import IPv4Network
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from espudp.cli import parsing
from espudp.errors import ConfigError
from espudp.host.options import Report, Reporter, Severity
from espudp.presets import Preset

if TYPE_CHECKING:
    from espudp.cli.ikev1 import ListenIkev1
    from espudp.cli.reach import Reach, ServedReach

PANEL = "L2TP"

L2tp = Annotated[
    bool, typer.Option("--l2tp", help="Transport mode for xl2tpd's L2TP.", rich_help_panel=PANEL)
]
L2tpConfig = Annotated[
    Path | None,
    typer.Option(metavar="DIR", help="Write xl2tpd's configuration there.", rich_help_panel=PANEL),
]
L2tpUser = Annotated[
    str | None, typer.Option(metavar="NAME", help="Our name for the server's PPP.", rich_help_panel=PANEL)
]

# Windows proposes AES with SHA-1 and MODP 2048, iOS and macOS also SHA-256, Android MODP 1024 and no other.
# In ESP no SHA-256, which Android offers before SHA-1: its kernels truncate that to 96 bits, not to 128.
CLIENTS = Preset(
    title="L2TP",
    ike=("aes256-aes128-sha256-sha1-modp2048", "aes256-sha256-sha1-modp1024"),
    esp=("aes128gcm16", "aes256-aes128-sha1"),
    force_encap=False,
)
SERVERS = replace(CLIENTS, ike=CLIENTS.ike[:1])

PORT, MAIN = "udp/1701", "main"


@dataclass(frozen=True)
class ServedL2tp:
    """Of who listens, as typed."""

    l2tp: L2tp = False
    l2tp_config: L2tpConfig = None

    def reach(self, reach: ServedReach) -> ServedReach:
        """L2TP and nothing else. Raises ConfigError for what contradicts it."""
        if not self.l2tp:
            _refuse_options(self.l2tp_config)
            return reach
        others = {
            "--subnet": reach.subnet,
            "--peer-subnet": reach.peer_subnet,
            "--split": reach.split,
            "--dns-domain": reach.dns_domain,
        }
        parsing.refuse_together("--l2tp", others, "what links of PPP reach is up to routes")
        # Behind a NAT, clients of Apple's and Android's send from a port of their choice.
        return replace(reach, transport=True, pool=None, dns=None, subnet=[PORT], peer_subnet=["udp"])

    def ikev1(self, v1: ListenIkev1) -> ListenIkev1:
        """Which is what the clients speak."""
        return replace(v1, ikev1=MAIN) if self.l2tp and v1.ikev1 is None else v1

    def product(self, product: Preset) -> Preset:
        """With algorithms that the clients of operating systems have, unless a product is named."""
        return CLIENTS if self.l2tp and not product.title else product

    @property
    def confined_port(self) -> int | None:
        """Of ours, from which nothing may go in the clear."""
        return _confined_port(wanted=self.l2tp)

    def prepare(self, reach: ServedReach, report: Reporter) -> None:
        """Write what is to be written, and say what is still to be done; `reach` is as typed.

        Raises ConfigError and HostError.
        """
        from espudp.host.l2tp import SERVER_NAME, server_files, write_files

        if not self.l2tp:
            return
        pools = reach.pools()
        pool = pools[0] if len(pools) == 1 else None
        if not isinstance(pool, IPv4Network):
            raise ConfigError(
                "--l2tp wants one pool, of IPv4, for the addresses that pppd gives",
                field="pool",
                remedy="name it with --pool, such as 10.99.0.0/24, or leave that out",
            )
        if self.l2tp_config is not None:
            folder = self.l2tp_config.absolute()
            write_files(folder, server_files(folder, pool, reach.servers()))
        _tell(self.l2tp_config, f"NAME {SERVER_NAME} PASSWORD *", report)

    def invitation(self) -> list[str]:
        """The words for who connects."""
        return ["--l2tp"] if self.l2tp else []


@dataclass(frozen=True)
class CallingL2tp:
    """Of who connects, as typed."""

    l2tp: L2tp = False
    l2tp_config: L2tpConfig = None
    l2tp_user: L2tpUser = None

    def reach(self, reach: Reach) -> Reach:
        """L2TP and nothing else. Raises ConfigError for what contradicts it."""
        if not self.l2tp:
            _refuse_options(self.l2tp_config, self.l2tp_user)
            return reach
        others = {"--subnet": reach.subnet, "--local-subnet": reach.local_subnet, "--vip": reach.vip}
        parsing.refuse_together("--l2tp", others, "what links of PPP reach is up to routes")
        return replace(reach, transport=True, subnet=[PORT], local_subnet=[PORT])

    def product(self, product: Preset) -> Preset:
        """With algorithms that servers of L2TP have, unless a product is named."""
        return SERVERS if self.l2tp and not product.title else product

    @property
    def confined_port(self) -> int | None:
        """Of ours, from which nothing may go in the clear."""
        return _confined_port(wanted=self.l2tp)

    def prepare(self, host: str, report: Reporter) -> None:
        """As that of who listens. Raises ConfigError and HostError."""
        from espudp.host.l2tp import client_files, write_files

        if not self.l2tp:
            return
        if self.l2tp_config is not None:
            if self.l2tp_user is None:
                raise ConfigError(
                    "pppd needs the name under which the server knows us",
                    field="l2tp-user",
                    remedy="give it with --l2tp-user NAME; the password goes to /etc/ppp/chap-secrets",
                )
            folder = self.l2tp_config.absolute()
            write_files(folder, client_files(folder, host, self.l2tp_user))
        _tell(self.l2tp_config, f"{self.l2tp_user or 'NAME'} * PASSWORD *", report)


def _confined_port(*, wanted: bool) -> int | None:
    from espudp.host.l2tp import L2TP_PORT

    return L2TP_PORT if wanted else None


def _refuse_options(*given: object) -> None:
    if any(option is not None for option in given):
        raise ConfigError(
            "options of L2TP without --l2tp do nothing", field="l2tp", remedy="add --l2tp, or leave them out"
        )


def _tell(folder: Path | None, secret: str, report: Reporter) -> None:
    from espudp.host.journal import runtime_directory
    from espudp.host.l2tp import daemon, missing

    if folder is None:
        report(Report("L2TP is xl2tpd's: --l2tp-config DIR writes its configuration."))
        return
    start = shlex.join(daemon(folder.absolute(), runtime_directory()))
    report(Report(f"L2TP: start `{start}`; /etc/ppp/chap-secrets has lines such as: {secret}"))
    if lacking := missing():
        text = f"This host has no {' and no '.join(lacking)}, without which there is no L2TP."
        report(Report(text, Severity.WARNING, "Install the distribution's packages: xl2tpd and ppp."))
