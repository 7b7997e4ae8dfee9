"""`espudp listen`."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from espudp.cli import options, parsing, presets
from espudp.cli.authentication import ListenAuthentication, tell_cautions, tell_weaknesses
from espudp.cli.carriage import Carriage
from espudp.cli.console import reporter
from espudp.cli.eap import ListenEap
from espudp.cli.errors import reported
from espudp.cli.grouped import grouped
from espudp.cli.ikev1 import ListenIkev1
from espudp.cli.l2tp import ServedL2tp
from espudp.cli.manual import run_file
from espudp.cli.options import WHO, Algorithms, Keeping, OnThisHost
from espudp.cli.reach import ServedReach
from espudp.cli.sessions import Serving
from espudp.host.options import IKE_PORT, NATT_PORT, Report, Reporter, Severity

if TYPE_CHECKING:
    from espudp.host.options import ListenOptions
    from espudp.ike.config import ChildConfig, Identity, ListenerConfig
    from espudp.ike.pad import PadEntry

LocalId = Annotated[
    str | None,
    typer.Option(metavar="ID", help="Our identity.", show_default="our address", rich_help_panel=WHO),
]


@reported
@grouped
def listen(
    context: typer.Context,
    port: Annotated[int, typer.Option(metavar="PORT", help="UDP port of ESP and IKE.")] = NATT_PORT,
    ike_port: Annotated[int, typer.Option(metavar="PORT", help="UDP port of plain IKE; 0: none.")] = IKE_PORT,
    *,
    reach: ServedReach,
    who: ListenAuthentication,
    eap: ListenEap,
    v1: ListenIkev1,
    l2tp: ServedL2tp,
    local_id: LocalId = None,
    manual: options.Manual = None,
    ike_proposal: options.IkeProposals = None,
    esp_proposal: options.EspProposals = None,
    carriage: Carriage,
    sessions: Serving,
    forward: Annotated[bool, typer.Option(help="Switch IP forwarding on.")] = True,
    keeping: Keeping,
    replay_window: options.ReplayWindow = options.REPLAY_WINDOW,
    here: OnThisHost,
    verbose: options.Verbose = False,
    quiet: options.Quiet = False,
) -> None:
    """Serve any number of peers.

    Without --psk-file a strong key is made and kept, and the command for the other host printed. Each of
    --pool, --subnet, --peer-subnet, --dns, --dns-domain, --split and the proposals may be given several
    times.
    """
    report = reporter(verbose=verbose, quiet=quiet)
    if manual is not None:
        raise typer.Exit(run_file(context, manual, here, carriage, report, forward=forward))
    v1 = l2tp.ikev1(v1)
    presets.check_version(reach.product, v1.ikev1)
    asked = _Asked(
        ports=(port, ike_port),
        reach=l2tp.reach(reach),
        who=who,
        eap=eap,
        v1=v1,
        l2tp=l2tp,
        local_id=local_id,
        algorithms=presets.algorithms(l2tp.product(reach.product), ike_proposal, esp_proposal, replay_window),
        keeping=keeping,
        carriage=carriage,
        sessions=sessions,
        forward=forward,
        here=here,
    )
    presets.advise(reach.product, report)
    l2tp.prepare(reach, report)
    raise typer.Exit(_serve(asked, report))


@dataclass(frozen=True, kw_only=True)
class _Asked:
    """What the user asks for."""

    ports: tuple[int, int]  # of ESP and IKE, of plain IKE or 0
    reach: ServedReach
    who: ListenAuthentication
    eap: ListenEap
    v1: ListenIkev1
    l2tp: ServedL2tp
    local_id: str | None
    algorithms: Algorithms
    keeping: Keeping
    carriage: Carriage
    sessions: Serving
    forward: bool
    here: OnThisHost

    def listen_options(self, address: str, psk: bytes | None) -> ListenOptions:
        """Raises ConfigError."""
        from espudp.host.options import ListenOptions

        port, ike_port = self.ports
        return ListenOptions(
            config=self._config(address, psk),
            port=parsing.port(port, "--port"),
            ike_port=parsing.port(ike_port, "--ike-port") if ike_port else None,
            forward=self.forward,
            radius=self.eap.radius_servers(),
            routes=self.reach.routes(),
            confined_port=self.l2tp.confined_port,
            **self.here.host_options(),
        )

    def _config(self, address: str, psk: bytes | None) -> ListenerConfig:
        from espudp.ike.config import Identity, ListenerConfig

        named = None if self.local_id is None else Identity.parse(self.local_id)
        reach = self.reach
        child = reach.child(self.algorithms, self.keeping)
        return ListenerConfig(
            local_identity=named or Identity.parse(address),
            pad=self._ways_in(psk, named, child),
            child=child,
            ike_proposals=self.algorithms.ike_proposals(),
            pool=reach.pools(),
            dns=reach.servers(),
            dns_domains=reach.domains(),
            split=reach.told(),
            encap=self.carriage.encapsulation(),
            timers=self.keeping.timers(),
            mobike=self.keeping.mobike,
            ikev1=self.v1.policy(),
            **self.sessions.settings(),
        )

    def _ways_in(self, psk: bytes | None, named: Identity | None, child: ChildConfig) -> tuple[PadEntry, ...]:
        from espudp.cli.connections import read_connections

        path = self.who.connections
        others = () if path is None else read_connections(path, child)
        if others and psk is None and self.who.is_silent and self.eap.is_silent:
            return others
        return (*self.who.entries(psk, named, self.eap, self.v1.users()), *others)

    def invitation(self, address: str) -> list[str]:
        """The words after `espudp connect` on the other host, but for the key."""
        port, ike_port = self.ports
        words = [address]
        if port != NATT_PORT or ike_port != IKE_PORT:
            words += ["--port", str(port)]
            words += ["--ike-port", str(ike_port)] if ike_port not in (0, port) else []
        if self.local_id is not None:
            words += ["--remote-id", self.local_id]
        words += [*self.l2tp.invitation(), *self.v1.invitation()]
        for name, proposals in (
            ("--ike-proposal", self.algorithms.ike),
            ("--esp-proposal", self.algorithms.esp),
        ):
            words += [word for proposal in proposals or () for word in (name, proposal)]
        if any(":" in text for text in self.reach.pool or ()):
            subnets = [*(self.reach.pool or ()), *(self.reach.subnet or ())]
            words += [word for text in subnets for word in ("--subnet", text)]
        return words


def _serve(asked: _Asked, report: Reporter) -> int:
    from espudp.host import keyfiles
    from espudp.host.addresses import outward_address
    from espudp.host.run import run_listen

    proposals = asked.algorithms.ike_proposals(), asked.algorithms.esp_proposals()
    tell_weaknesses(report, [p for each in proposals for p in each])
    address = asked.here.bind_address() or outward_address()
    words = asked.invitation(address)
    if not (asked.who.is_silent and asked.eap.is_silent) or asked.who.connections is not None:
        options = asked.listen_options(address, asked.who.psk())
        entries = options.config.pad
        open_to_all = [e.demand for e in entries if e.xauth is None]
        tell_cautions(report, [e.proof for e in entries], open_to_all)
        asked.v1.check(options.config, report)
        return run_listen(options, _first_news(report, partial(_invite_by_key, words, options)))
    anyone = asked.listen_options(address, psk=b"any")  # mistakes come before a key is made
    asked.v1.check(anyone.config, report)
    path = keyfiles.default_psk_file()
    psk, made = keyfiles.obtain_psk(path)
    invite = partial(_invite, words, path, psk if made else None)
    return run_listen(asked.listen_options(address, psk), _first_news(report, invite))


def _first_news(report: Reporter, invite: Callable[[], None]) -> Reporter:
    """Reports, and invites after the first news: that we listen."""
    invitations = iter([invite])

    def report_and_invite(news: Report) -> None:
        report(news)
        if news.severity is Severity.INFO and (invitation := next(invitations, None)):
            invitation()

    return report_and_invite


def _invite_by_key(words: list[str], options: ListenOptions) -> None:
    """Say how those connect whose public key we have."""
    from espudp.host import keyfiles
    from espudp.ike.credentials import RawKeyOf, SignKey

    entries = options.config.pad
    proofs = [e.proof for e in entries if isinstance(e.demand, RawKeyOf) and isinstance(e.proof, SignKey)]
    if proofs and not proofs[0].certificates:
        typer.echo("On the hosts whose public keys are named here:")
        public = keyfiles.show_public_key(proofs[0].private_key.public)
        typer.echo(f"    espudp connect {shlex.join([*words, '--peer-key', public])}")


def _invite(words: list[str], path: Path, psk: bytes | None) -> None:
    """Say how to connect, in a line that works when it is pasted on the other host.

    A key made just now is in it, if a terminal is what we write to: the person in front of it is the one who
    needs the key, now and once. Into a log goes the line with the file, which is to be copied.
    """
    if psk is not None:
        typer.echo(f"Made a strong pre-shared key: {path}")
    if psk is not None and sys.stdout.isatty():
        typer.echo("On the other host:")
        typer.echo(f"    espudp connect {shlex.join([*words, '--psk', psk.decode()])}")
        typer.echo(f"or, so that no process list shows the key, with a copy of {path} (chmod 600) there:")
    else:
        typer.echo(f"On the other host, with a copy of {path} (chmod 600) there:")
    typer.echo(f"    espudp connect {shlex.join([*words, '--psk-file', str(path)])}")
