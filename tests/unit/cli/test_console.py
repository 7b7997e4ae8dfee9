"""What a running peer says, when nobody listens any more."""

import subprocess
import sys

_TALK = """
from espudp.cli.console import reporter
from espudp.host.options import Report, Severity
report = reporter(verbose=True, quiet=False)
input()
for _ in range(3):
    report(Report("news", Severity.INFO, "and more"))
report(Report("trouble", Severity.WARNING))
"""


def test_a_reader_that_goes_away() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", _TALK],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as talker:
        assert talker.stdout is not None
        talker.stdout.close()
        talker.stdout = None
        _, complaints = talker.communicate("go\n", timeout=60.0)
    assert (talker.returncode, complaints) == (0, "espudp: Trouble.\n")
