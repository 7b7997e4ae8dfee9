"""`--manual FILE` of connect and listen: the same for both, since such a tunnel has no initiator."""

from collections.abc import Mapping
from pathlib import Path

from espudp.cli import parsing
from espudp.cli.options import OnThisHost
from espudp.host.options import Reporter


def run_file(
    file: Path, given: Mapping[str, object], here: OnThisHost, report: Reporter, *, forward: bool
) -> int:
    """Run until it ends; the exit code. `given`: options that only IKE has a use for. Raises ConfigError."""
    parsing.refuse_together("--manual", given, "the key file says all of that, and there is no IKE")
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
        ManualOptions(config=parse_manual(text), forward=forward, **here.host_options()), report
    )
