"""`--manual FILE` of connect and listen: the same for both, since such a tunnel has no initiator."""

from pathlib import Path

import typer

from espudp.cli import parsing
from espudp.cli.carriage import Carriage
from espudp.cli.options import OnThisHost
from espudp.host.options import Reporter

# What has a meaning beside a key file; everything else is said in it, or is IKE's.
_BESIDE = {
    *("manual", "bind", "dev", "mtu", "mark", "dscp", "rehearsal", "control_name"),
    *("verbose", "quiet", "forward", "encap"),
}


def run_file(
    context: typer.Context,
    file: Path,
    here: OnThisHost,
    carriage: Carriage,
    report: Reporter,
    *,
    forward: bool = False,
) -> int:
    """Run until it ends; the exit code. Raises ConfigError."""
    parsing.refuse_together(
        "--manual", _idle_options(context), "the key file says all of that, and there is no IKE"
    )
    from espudp.errors import ConfigError
    from espudp.host import keyfiles
    from espudp.host.options import ManualOptions
    from espudp.host.run import run_manual
    from espudp.manual import NEW_PAIR, parse_manual

    try:
        text = keyfiles.read_secret(file, what="key file").decode()
    except UnicodeDecodeError:
        raise ConfigError(f"the key file {file} is not text", field="manual", remedy=NEW_PAIR) from None
    return run_manual(
        ManualOptions(
            config=parse_manual(text), plain=carriage.is_never, forward=forward, **here.host_options()
        ),
        report,
    )


def _idle_options(context: typer.Context) -> dict[str, object]:
    """What was typed and would have no effect."""
    idle: dict[str, object] = {}
    for parameter in context.command.params:
        name = parameter.name or ""
        source = context.get_parameter_source(name)
        if source is not None and source.name == "COMMANDLINE" and name not in _BESIDE:
            typed = parameter.opts[0]
            idle[typed if typed.startswith("-") else typed.upper()] = context.params[name]
    return idle
