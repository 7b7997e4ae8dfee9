"""The options that several commands have, and the configurations that they make."""

from __future__ import annotations

import hashlib
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypedDict

import typer

from espudp.cli import parsing
from espudp.errors import ConfigError
from espudp.host.options import WORKERS_MAX

if TYPE_CHECKING:
    from espudp.ike.config import ChildConfig, Identity, LifetimeConfig, Timers
    from espudp.ike.narrowing import Selector
    from espudp.ike.proposals import EspProposal, IkeProposal

WHO = "Who we are, and whom we let in"
CRYPTO, KEEPING, HOST = "Cryptography", "Keeping it up", "This host"

Bind = Annotated[
    str | None,
    typer.Option(metavar="ADDR", help="Local address.", show_default="every one", rich_help_panel=HOST),
]
Dev = Annotated[
    str, typer.Option(metavar="NAME", help="TUN device; %d: the first free number.", rich_help_panel=HOST)
]
Mtu = Annotated[
    int | None,
    typer.Option(
        metavar="OCTETS",
        min=576,
        max=65535,
        help="Of the TUN device.",
        show_default="measured",
        rich_help_panel=HOST,
    ),
]
Mark = Annotated[
    str | None,
    typer.Option(metavar="NUMBER", help="SO_MARK of outer packets, one bit.", rich_help_panel=HOST),
]
Dscp = Annotated[str, typer.Option(metavar="copy|0..63", help="DSCP of outer packets.", rich_help_panel=HOST)]
Workers = Annotated[
    int,
    typer.Option(
        metavar="N",
        min=0,
        max=WORKERS_MAX,
        help="Processes that share the load; 0: one a core.",
        rich_help_panel=HOST,
    ),
]
Rehearsal = Annotated[
    bool,
    typer.Option(
        "--rehearsal/--no-rehearsal",
        help="Keep the way of lone packets warm: shorter round trips for 3 % of a core.",
        rich_help_panel=HOST,
    ),
]
ControlName = Annotated[
    str | None, typer.Option(metavar="NAME", help="What `espudp status` calls it.", rich_help_panel=HOST)
]
Verbose = Annotated[
    bool, typer.Option("--verbose", "-v", help="Say more of what happens.", rich_help_panel=HOST)
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Only warnings and errors.", rich_help_panel=HOST)]

PskFile = Annotated[
    Path | None, typer.Option(metavar="FILE", help="Pre-shared key, mode 0600.", rich_help_panel=WHO)
]
Manual = Annotated[
    Path | None,
    typer.Option(metavar="FILE.toml", help="Keys of `espudp keygen`, and no IKE."),
]

IkeProposals = Annotated[
    list[str] | None,
    typer.Option(
        "--ike-proposal",
        metavar="P",
        help="Such as aes256-sha256-modp2048; repeatable.",
        rich_help_panel=CRYPTO,
    ),
]
EspProposals = Annotated[
    list[str] | None,
    typer.Option(
        "--esp-proposal", metavar="P", help="Such as aes128-sha256-esn; repeatable.", rich_help_panel=CRYPTO
    ),
]
ReplayWindow = Annotated[
    int, typer.Option(metavar="PACKETS", help="Anti-replay window; 0: none.", rich_help_panel=CRYPTO)
]

IkeLifetime = Annotated[
    str, typer.Option(metavar="TIME", help="New IKE keys after it.", rich_help_panel=KEEPING)
]
ChildLifetime = Annotated[
    str, typer.Option(metavar="TIME", help="New ESP keys after it.", rich_help_panel=KEEPING)
]
ChildBytes = Annotated[
    str | None,
    typer.Option(
        metavar="SIZE", help="... or so much traffic.", show_default="no limit", rich_help_panel=KEEPING
    ),
]
ChildPackets = Annotated[
    int | None, typer.Option(metavar="NUMBER", help="... or so many packets.", min=2, rich_help_panel=KEEPING)
]
Dpd = Annotated[
    str,
    typer.Option(metavar="TIME", help="Silence before the peer is asked; 0: never.", rich_help_panel=KEEPING),
]
Reauth = Annotated[
    str | None,
    typer.Option(
        metavar="TIME", help="Proofs again after it.", show_default="never", rich_help_panel=KEEPING
    ),
]
Mobike = Annotated[
    bool, typer.Option("--mobike/--no-mobike", help="Move with addresses.", rich_help_panel=KEEPING)
]

# What holds unless an option says otherwise; the same as in ike/config.py and ike/lifetimes.py.
IKE_LIFETIME, CHILD_LIFETIME, DPD, REPLAY_WINDOW = "4h", "50m", "30s", 1024
DEVICE, DSCP, WORKERS = "esp%d", "copy", 1

# An SA ends this much later than new keys are asked for, relative to its age then.
HARD_FACTOR = 1.2


@dataclass(frozen=True)
class Keeping:
    """How long keys live, when a silent peer is asked, and whether the tunnel moves with it, as typed."""

    ike_lifetime: IkeLifetime = IKE_LIFETIME
    child_lifetime: ChildLifetime = CHILD_LIFETIME
    child_bytes: ChildBytes = None
    child_packets: ChildPackets = None
    dpd: Dpd = DPD
    reauth: Reauth = None
    mobike: Mobike = True

    def timers(self) -> Timers:
        """Raises ConfigError."""
        from espudp.ike.config import LifetimeConfig, Timers

        soft = parsing.duration(self.ike_lifetime, "--ike-lifetime")
        never = self.dpd.strip() in ("0", "0s")
        return Timers(
            ike_lifetime=LifetimeConfig(soft_seconds=soft, hard_seconds=soft * HARD_FACTOR),
            dpd_interval=0.0 if never else parsing.duration(self.dpd, "--dpd"),
            reauth=None if self.reauth is None else parsing.duration(self.reauth, "--reauth"),
        )

    def lifetime(self) -> LifetimeConfig:
        """Of the child SAs. Raises ConfigError."""
        from espudp.ike.config import LifetimeConfig

        seconds = parsing.duration(self.child_lifetime, "--child-lifetime")
        octets = parsing.size(self.child_bytes, "--child-bytes") if self.child_bytes else None
        return LifetimeConfig(
            soft_seconds=seconds,
            hard_seconds=seconds * HARD_FACTOR,
            soft_bytes=octets,
            hard_bytes=_later(octets),
            soft_packets=self.child_packets,
            hard_packets=_later(self.child_packets),
        )


def _later(soft: int | None) -> int | None:
    return None if soft is None else int(soft * HARD_FACTOR) + 1


@dataclass(frozen=True)
class Algorithms:
    """What may be negotiated, as typed."""

    ike: list[str] | None
    esp: list[str] | None
    replay_window: int

    def ike_proposals(self) -> tuple[IkeProposal, ...]:
        """Raises ConfigError."""
        from espudp.ike.proposals import DEFAULT_IKE_PROPOSALS, IkeProposal

        return parsing.each(self.ike or (), IkeProposal.parse, DEFAULT_IKE_PROPOSALS)

    def esp_proposals(self) -> tuple[EspProposal, ...]:
        """Raises ConfigError."""
        from espudp.ike.proposals import DEFAULT_ESP_PROPOSALS, EspProposal

        return parsing.each(self.esp or (), EspProposal.parse, DEFAULT_ESP_PROPOSALS)

    def child(
        self, local: tuple[Selector, ...], remote: tuple[Selector, ...], lifetime: LifetimeConfig
    ) -> ChildConfig:
        """Raises ConfigError."""
        from espudp.esp.replay import MAX_WINDOW, MIN_WINDOW
        from espudp.ike.config import ChildConfig

        if self.replay_window and not MIN_WINDOW <= self.replay_window <= MAX_WINDOW:
            raise ConfigError(
                f"--replay-window: {self.replay_window} packets are not possible",
                field="replay-window",
                remedy=f"choose {MIN_WINDOW} to {MAX_WINDOW}, or 0 for none",
            )
        return ChildConfig(
            local=local,
            remote=remote,
            proposals=self.esp_proposals(),
            lifetime=lifetime,
            replay_window=self.replay_window,
        )


class _HostOptions(TypedDict):
    bind: str | None
    device: str
    mtu: int | None
    mark: int | None
    dscp: int | None
    workers: int
    rehearsal: bool
    name: str | None


@dataclass(frozen=True)
class OnThisHost:
    """Sockets, device and name, as typed."""

    bind: Bind = None
    dev: Dev = DEVICE
    mtu: Mtu = None
    mark: Mark = None
    dscp: Dscp = DSCP
    workers: Workers = WORKERS
    rehearsal: Rehearsal = True
    control_name: ControlName = None

    def host_options(self) -> _HostOptions:
        """The fields of HostOptions. Raises ConfigError."""
        return {
            "bind": self.bind_address(),
            "device": self.dev,
            "mtu": self.mtu,
            "mark": self._mark(),
            "dscp": parsing.dscp(self.dscp, "--dscp"),
            "workers": self.workers,
            "rehearsal": self.rehearsal,
            "name": parsing.control_name(self.control_name, "--control-name") if self.control_name else None,
        }

    def bind_address(self) -> str | None:
        """Raises ConfigError."""
        return None if self.bind is None else parsing.address(self.bind, "--bind")

    def _mark(self) -> int | None:
        """Decimal or 0x hexadecimal. Raises ConfigError."""
        if self.mark is None:
            return None
        try:
            number = int(self.mark, 0)
        except ValueError:
            number = 0
        if not 0 < number <= 0xFFFFFFFF:
            raise ConfigError(
                f"--mark: '{self.mark}' is not a mark",
                field="mark",
                remedy="write a number such as 0x20000000, best of one bit that nothing else uses",
            )
        return number


def default_identity() -> Identity:
    """Ours as a client: the host's name, and something that tells it from other hosts of that name.

    An address would not do: clients behind different NATs share the private ones, and a responder takes two
    peers of one identity for the same one, come back.
    """
    from espudp.ike.config import Identity

    name = "".join(c for c in socket.gethostname() if c.isascii() and (c.isalnum() or c in "-.")) or "espudp"
    try:
        machine = Path("/etc/machine-id").read_bytes().strip()
    except OSError:
        machine = b""
    # Hashed, since machine-id(5) asks not to show it on a network.
    suffix = hashlib.sha256(b"espudp identity " + machine).hexdigest()[:8] if machine else ""
    return Identity.parse(f"{name}-{suffix}" if suffix else name)
