"""The program as a function: what it is asked to run is caught instead of run."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from typer.testing import CliRunner

from espudp.cli import errors
from espudp.cli.main import app
from espudp.host import run
from espudp.host.keyfiles import CONFIG_VARIABLE
from espudp.host.options import ConnectOptions, HostOptions, ListenOptions, ManualOptions, Report, Reporter


@dataclass
class Outcome:
    """What one command line led to."""

    code: int
    out: str
    err: str


@dataclass
class Program:
    """`espudp`, with sessions that end at once, after the reports in `says`, with `code`."""

    ran: list[HostOptions] = field(default_factory=list)
    says: list[Report] = field(default_factory=list)
    code: int = 0

    def __call__(self, *arguments: str, env: dict[str, str] | None = None) -> Outcome:
        result = CliRunner().invoke(app, arguments, env={"ESPUDP_PSK": "", **(env or {})})
        assert "Traceback" not in result.output
        return Outcome(result.exit_code, result.stdout, result.stderr)

    def session(self, options: HostOptions, report: Reporter) -> int:
        self.ran.append(options)
        for said in self.says:
            report(said)
        return self.code

    @property
    def listened(self) -> ListenOptions:
        (options,) = self.ran
        assert isinstance(options, ListenOptions)
        return options

    @property
    def connected(self) -> ConnectOptions:
        (options,) = self.ran
        assert isinstance(options, ConnectOptions)
        return options

    @property
    def carried(self) -> ManualOptions:
        (options,) = self.ran
        assert isinstance(options, ManualOptions)
        return options


@pytest.fixture
def program(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Program]:
    program = Program()
    for name in ("run_listen", "run_connect", "run_manual"):
        monkeypatch.setattr(run, name, program.session)
    monkeypatch.setenv(CONFIG_VARIABLE, str(tmp_path / "etc"))
    with contextlib.chdir(tmp_path):
        yield program
    errors.show_tracebacks(False)


@pytest.fixture
def psk_file(tmp_path: Path) -> str:
    path = tmp_path / "psk"
    path.write_text("correct horse battery staple\n")
    path.chmod(0o600)
    return str(path)
