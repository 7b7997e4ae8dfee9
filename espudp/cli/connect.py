"""`espudp connect`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from espudp.cli import options, parsing, presets
from espudp.cli.authentication import (
    ConnectAuthentication,
    certified,
    identity_of,
    tell_cautions,
    tell_weaknesses,
)
from espudp.cli.carriage import ALWAYS, AUTO, Carriage
from espudp.cli.console import reporter
from espudp.cli.eap import ConnectEap
from espudp.cli.errors import reported
from espudp.cli.grouped import grouped
from espudp.cli.ikev1 import ConnectIkev1
from espudp.cli.l2tp import CallingL2tp
from espudp.cli.manual import run_file
from espudp.cli.options import KEEPING, WHO, Algorithms, Keeping, OnThisHost
from espudp.cli.reach import Reach
from espudp.cli.sessions import Calling
from espudp.errors import ConfigError
from espudp.host.options import IKE_PORT, NATT_PORT, Reporter

if TYPE_CHECKING:
    from espudp.host.options import ConnectOptions
    from espudp.ike.config import ConnectionConfig, Identity
    from espudp.ike.credentials import Demand, Proof

ANYBODY = "%any"


Host = Annotated[str | None, typer.Argument(metavar="HOST", help="Name or address of the peer.")]
LocalId = Annotated[
    str | None,
    typer.Option(
        "--id", metavar="ID", help="Our identity.", show_default="the host's name", rich_help_panel=WHO
    ),
]
RemoteId = Annotated[
    str | None,
    typer.Option(
        metavar="ID", help="What the peer must be.", show_default="HOST with --ca", rich_help_panel=WHO
    ),
]
Port = Annotated[int | None, typer.Option(metavar="P", help="Peer's UDP port; alone: start there.")]
IkePort = Annotated[int | None, typer.Option(metavar="P", help="Peer's UDP port of plain IKE.")]
Retry = Annotated[bool, typer.Option(help="Reconnect when it is lost.", rich_help_panel=KEEPING)]


@reported
@grouped
def connect(
    context: typer.Context,
    host: Host = None,
    *,
    who: ConnectAuthentication,
    eap: ConnectEap,
    v1: ConnectIkev1,
    local_id: LocalId = None,
    remote_id: RemoteId = None,
    reach: Reach,
    l2tp: CallingL2tp,
    port: Port = None,
    ike_port: IkePort = None,
    manual: options.Manual = None,
    ike_proposal: options.IkeProposals = None,
    esp_proposal: options.EspProposals = None,
    carriage: Carriage,
    sessions: Calling,
    retry: Retry = True,
    keeping: Keeping,
    replay_window: options.ReplayWindow = options.REPLAY_WINDOW,
    here: OnThisHost,
    verbose: options.Verbose = False,
    quiet: options.Quiet = False,
) -> None:
    """Bring a tunnel to HOST up, and keep it up until Ctrl-C or SIGTERM.

    --subnet, --local-subnet, --vip and the proposals may be given several times.
    """
    report = reporter(verbose=verbose, quiet=quiet)
    if manual is not None:
        raise typer.Exit(run_file(context, manual, here, carriage, report))
    from espudp.host.run import run_connect

    product = l2tp.product(reach.product)
    wanted = _Asked(
        host=host,
        who=who,
        eap=eap,
        v1=v1,
        identities=(local_id, remote_id),
        reach=l2tp.reach(reach),
        l2tp=l2tp,
        ports=presets.ports(reach.product, port, ike_port),
        algorithms=presets.algorithms(
            product, ike_proposal, esp_proposal, replay_window, one_group=v1.offers_one_group
        ),
        keeping=keeping,
        carriage=carriage,
        sessions=sessions,
        retry=retry,
        here=here,
    ).connect_options()
    presets.advise(reach.product, report)
    l2tp.prepare(wanted.host, report)
    _tell_cautions(wanted.config, report)
    v1.check(wanted.config, report)
    raise typer.Exit(run_connect(wanted, report))


def _tell_cautions(config: ConnectionConfig, report: Reporter) -> None:
    tell_weaknesses(report, [*config.ike_proposals, *config.child.proposals])
    tell_cautions(report, [config.proof], [config.demand])


@dataclass(frozen=True, kw_only=True)
class _Asked:
    """What the user asks for."""

    host: str | None
    who: ConnectAuthentication
    eap: ConnectEap
    v1: ConnectIkev1
    identities: tuple[str | None, str | None]  # ours, the peer's
    reach: Reach
    l2tp: CallingL2tp
    ports: tuple[int | None, int | None]  # the peer's: of ESP and IKE, of plain IKE
    algorithms: Algorithms
    keeping: Keeping
    carriage: Carriage
    sessions: Calling
    retry: bool
    here: OnThisHost

    def connect_options(self) -> ConnectOptions:
        """Raises ConfigError."""
        from espudp.host.options import ConnectOptions

        if not self.host:
            raise ConfigError(
                "it is not said whom to connect to", field="host", remedy="write `espudp connect HOST ...`"
            )
        port, ike_port = self._peer_ports()
        return ConnectOptions(
            host=self.host,
            config=self._config(),
            port=port,
            ike_port=ike_port,
            routes=self.reach.routes(),
            confined_port=self.l2tp.confined_port,
            dns=self.reach.dns,
            dns_domains=self.reach.domains(),
            retry=self.retry,
            **self.here.host_options(),
        )

    def _peer_ports(self) -> tuple[int, int | None]:
        port, ike_port = self.ports
        if port is None and ike_port is None:
            return NATT_PORT, IKE_PORT
        natt = NATT_PORT if port is None else parsing.port(port, "--port")
        return natt, parsing.port(ike_port, "--ike-port") if ike_port else None

    def _config(self) -> ConnectionConfig:
        from espudp.ike.config import ConnectionConfig

        _, remote_id = self.identities
        meant = None if remote_id == ANYBODY else remote_id or self.host
        presets.check_version(self.reach.product, self.v1.ikev1)
        self.v1.refuse(self.who, self.eap, self.sessions, self.keeping)
        ikev1 = self.v1.config()
        hybrid = ikev1 is not None and ikev1.xauth is not None
        proof, demand, further = self.who.proofs(self.eap, meant, hybrid=hybrid)
        user = self.eap.identity()
        child = self.reach.child(self.algorithms, self.keeping)
        return ConnectionConfig(
            local_identity=self._local_identity(proof),
            remote_identity=self._remote_identity(demand),
            proof=proof,
            demand=demand,
            further=tuple((user, second) for second in further if user is not None),
            child=child,
            ike_proposals=self.algorithms.ike_proposals(),
            request_addresses=self.reach.virtual_addresses(),
            encap=self.carriage.encapsulation(default=ALWAYS if self.reach.product.force_encap else AUTO),
            timers=self.keeping.timers(),
            mobike=self.keeping.mobike,
            ikev1=ikev1,
            **self.sessions.settings(),
        )

    def _local_identity(self, proof: Proof) -> Identity:
        from espudp.ike.config import Identity
        from espudp.ike.credentials import EapClient

        local_id, _ = self.identities
        named = self.v1.identity(local_id, proof)
        if named is not None:
            return named
        if local_id is not None:
            return certified(Identity.parse(local_id), proof)
        user = self.eap.identity() if isinstance(proof, EapClient) else None
        return user or identity_of(proof) or options.default_identity()

    def _remote_identity(self, demand: Demand) -> Identity | None:
        """Who has any certificate of a CA is not yet the peer that is meant: that is HOST."""
        from espudp.ike.config import Identity
        from espudp.ike.credentials import CertificateOf

        _, remote_id = self.identities
        if remote_id is None and isinstance(demand, CertificateOf):
            remote_id = self.host
        return None if remote_id in (None, ANYBODY) else Identity.parse(remote_id)
