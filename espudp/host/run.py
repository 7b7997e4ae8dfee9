"""The three ways to run a peer: each call returns the process's exit code when the session is over.

They need the main thread, because signals end them: SIGINT, SIGTERM and SIGHUP say DELETE to the peers, undo
every change to the host, and make the code 0. What cannot begin raises ConfigError or HostError; what goes
wrong later is reported, and makes the code 1.
"""

from espudp.host.connect import ConnectSession
from espudp.host.listen import ListenSession
from espudp.host.manual import ManualSession
from espudp.host.options import ConnectOptions, ListenOptions, ManualOptions, Reporter
from espudp.host.session import run_session


def run_connect(options: ConnectOptions, report: Reporter) -> int:
    """Dial a peer and keep the connection up."""
    return run_session(ConnectSession(options, report))


def run_listen(options: ListenOptions, report: Reporter) -> int:
    """Serve whoever proves to be a peer."""
    return run_session(ListenSession(options, report))


def run_manual(options: ManualOptions, report: Reporter) -> int:
    """Carry traffic under the keys of a file."""
    return run_session(ManualSession(options, report))
