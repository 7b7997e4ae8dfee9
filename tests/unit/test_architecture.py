"""The rules of README's architecture, read off the source: who may import whom, what is banned where."""

import ast
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

# cli -> host -> tunnel (+ manual) -> { ike, esp } -> { offload, crypto, wire, timing } -> errors
BELOW: dict[str, set[str]] = {
    "errors": set(),
    "wire": {"errors"},
    "crypto": {"errors"},
    "timing": set(),
    "offload": {"wire", "errors"},
    "esp": {"offload", "crypto", "wire", "timing", "errors"},
    "ike": {"crypto", "wire", "timing", "errors"},
    "manual": {"ike", "esp", "crypto", "wire", "errors"},
    "tunnel": {"manual", "ike", "esp", "crypto", "wire", "errors"},
    "host": {"tunnel", "manual", "ike", "esp", "offload", "crypto", "wire", "errors"},
    "presets": set(),
    "cli": {"presets", "host", "tunnel", "manual", "ike", "esp", "crypto", "wire", "errors"},
    "__main__": {"cli"},
    # the public API: everything that needs no operating system
    "api": {"tunnel", "manual", "ike", "esp", "crypto", "wire", "errors"},
    "__init__": {"api"},
}

TOUCHES_THE_HOST = {
    *("asyncio", "concurrent", "ctypes", "fcntl", "io", "multiprocessing", "os", "pathlib"),
    *("random", "secrets", "select", "selectors", "shutil", "signal", "socket", "subprocess", "sys"),
    *("tempfile", "threading", "time", "uuid"),
}

# module -> the parts that may import it; a module that is not here is free to all
CONFINED: dict[str, set[str]] = {
    **{module: {"host", "cli"} for module in TOUCHES_THE_HOST},
    "cryptography": {"crypto"},
    "Crypto": {"crypto"},
    "OpenSSL": {"crypto"},
    "pytun": {"host"},
    "pyrad": {"host"},
    "pyroute2": {"host"},
    "uvloop": {"host"},
    "typer": {"cli"},
    "rich": {"cli"},
}

MAX_FILE_LINES = 600
MAX_FUNCTION_LINES = 60
MAX_ATTRIBUTES = 29


@dataclass(frozen=True)
class Source:
    """One file of the package: `espudp/wire/ip.py` has the part `wire`."""

    path: str
    text: str

    @property
    def part(self) -> str:
        return Path(self.path).parts[1].removesuffix(".py")

    @property
    def package(self) -> list[str]:
        return list(Path(self.path).parts[:-1])

    @property
    def tree(self) -> ast.Module:
        return ast.parse(self.text)


def imports(source: Source) -> Iterator[tuple[int, str]]:
    """Line and absolute name of all that is imported, deferred imports and those for types included."""
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            up = source.package[: len(source.package) - node.level + 1] if node.level else []
            base = ".".join([*up, *([node.module] if node.module else [])])
            for alias in node.names:
                yield node.lineno, f"{base}.{alias.name}"


def wrong_arrows(source: Source) -> Iterator[str]:
    allowed = BELOW[source.part] | {source.part, "__version__"}
    for line, name in imports(source):
        package, _, rest = name.partition(".")
        part = rest.split(".")[0]
        if package == "espudp" and part not in allowed:
            yield f"{source.path}:{line}: {source.part} imports {name}"


def confined_imports(source: Source) -> Iterator[str]:
    for line, name in imports(source):
        parts = CONFINED.get(name.split(".")[0])
        if parts is not None and source.part not in parts:
            yield f"{source.path}:{line}: {name} belongs to {', '.join(sorted(parts))}"


def guards_by_assert(source: Source) -> Iterator[str]:
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Assert):
            yield f"{source.path}:{node.lineno}: assert vanishes under python -O"


def swallowed_exceptions(source: Source) -> Iterator[str]:
    for node in ast.walk(source.tree):
        if isinstance(node, ast.ExceptHandler) and node.type is None:
            yield f"{source.path}:{node.lineno}: bare except"


def banned_calls(source: Source) -> Iterator[str]:
    banned = {"eval", "exec"} if source.part == "cli" else {"eval", "exec", "print", "input"}
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in banned:
            yield f"{source.path}:{node.lineno}: {node.func.id}()"


def clock_reads(source: Source) -> Iterator[str]:
    """A date is a value like others, and what certificates are judged by; today's comes as an argument."""
    if source.part in ("host", "cli"):
        return
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Attribute) and node.attr in ("now", "utcnow", "today", "fromtimestamp"):
            owner = node.value.attr if isinstance(node.value, ast.Attribute) else node.value
            name = owner.id if isinstance(owner, ast.Name) else owner
            if name in ("datetime", "date"):
                yield f"{source.path}:{node.lineno}: {name}.{node.attr}"


def unsettled_marks(source: Source) -> Iterator[str]:
    for number, line in enumerate(source.text.splitlines(), 1):
        for mark in ("TODO", "FIXME", "XXX", "NotImplementedError", "pragma: no cover"):
            if mark in line:
                yield f"{source.path}:{number}: {mark}"
        if line.rstrip().endswith(("# type: ignore", "# noqa")):
            yield f"{source.path}:{number}: a blanket ignore; name the rule"


def long_files(source: Source) -> Iterator[str]:
    if (lines := len(source.text.splitlines())) > MAX_FILE_LINES:
        yield f"{source.path}: {lines} lines, at most {MAX_FILE_LINES}"


def long_functions(source: Source) -> Iterator[str]:
    for node in ast.walk(source.tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            if lines > MAX_FUNCTION_LINES:
                yield f"{source.path}:{node.lineno}: {node.name}: {lines} lines, at most {MAX_FUNCTION_LINES}"


def crowded_classes(source: Source) -> Iterator[str]:
    for cls in (node for node in ast.walk(source.tree) if isinstance(node, ast.ClassDef)):
        names = {
            node.attr
            for node in ast.walk(cls)
            if isinstance(node, ast.Attribute)
            and isinstance(node.ctx, ast.Store)
            and isinstance(node.value, ast.Name)
            and node.value.id == "self"
        }
        fields = (node.target for node in cls.body if isinstance(node, ast.AnnAssign))
        names |= {field.id for field in fields if isinstance(field, ast.Name)}
        if len(names) > MAX_ATTRIBUTES:
            yield f"{source.path}:{cls.lineno}: {cls.name}: {len(names)} attributes, at most {MAX_ATTRIBUTES}"


Rule = Callable[[Source], Iterator[str]]
RULES: list[Rule] = [
    *(wrong_arrows, confined_imports, guards_by_assert, swallowed_exceptions, banned_calls, clock_reads),
    unsettled_marks,
    *(long_files, long_functions, crowded_classes),
]


def sources(*folders: str) -> list[Source]:
    paths = (path for folder in folders for path in sorted((ROOT / folder).rglob("*.py")))
    return [Source(str(path.relative_to(ROOT)), path.read_text()) for path in paths]


@pytest.mark.parametrize("rule", RULES)
def test_the_package_keeps_the_rule(rule: Rule) -> None:
    found = sources("espudp")
    assert {source.part for source in found} >= {"errors", "wire", "crypto", "esp", "ike", "host", "cli"}
    assert [breach for source in found for breach in rule(source)] == []


def test_the_map_of_ikev1_names_every_module() -> None:
    """Forty of them are too many to find the way by their names alone."""
    folder = ROOT / "espudp/ike/v1"
    map_ = ast.get_docstring(ast.parse((folder / "__init__.py").read_text())) or ""
    words = set(re.findall(r"\w+", map_))
    assert {file.stem for file in folder.glob("*.py")} - words == {"__init__"}


def test_no_file_of_the_project_is_too_long() -> None:
    everything = sources("espudp", "tests", "examples", "benchmarks")
    assert [breach for source in everything for breach in long_files(source)] == []


LONG_BODY = "def f():\n" + "    x = 1\n" * MAX_FUNCTION_LINES
MANY_FIELDS = "class C:\n" + "".join(f"    f{n}: int\n" for n in range(MAX_ATTRIBUTES + 1))


@pytest.mark.parametrize(
    ("rule", "path", "text"),
    [
        (wrong_arrows, "espudp/ike/a.py", "from espudp.esp.sa import ChildKeys"),
        (wrong_arrows, "espudp/ike/v2/a.py", "from ...esp import sa"),
        (wrong_arrows, "espudp/esp/a.py", "import espudp.ike"),
        (wrong_arrows, "espudp/esp/a.py", "def f():\n    from espudp import ike"),
        (wrong_arrows, "espudp/crypto/a.py", "from espudp.wire import buffer"),
        (wrong_arrows, "espudp/wire/a.py", "from espudp import crypto"),
        (wrong_arrows, "espudp/tunnel.py", "from .host import tun"),
        (wrong_arrows, "espudp/host/a.py", "from ..cli import main"),
        (confined_imports, "espudp/tunnel.py", "import time"),
        (confined_imports, "espudp/ike/a.py", "from os import urandom"),
        (confined_imports, "espudp/esp/a.py", "def f():\n    import cryptography.hazmat"),
        (confined_imports, "espudp/ike/a.py", "import pyroute2.netns"),
        (guards_by_assert, "espudp/esp/a.py", "assert icv == expected"),
        (swallowed_exceptions, "espudp/esp/a.py", "try:\n    f()\nexcept:\n    pass"),
        (banned_calls, "espudp/host/a.py", "print(1)"),
        (banned_calls, "espudp/cli/a.py", "eval('1')"),
        (clock_reads, "espudp/ike/a.py", "from datetime import datetime\ndatetime.now()"),
        (clock_reads, "espudp/crypto/a.py", "import datetime\ndatetime.datetime.now(datetime.UTC)"),
        (clock_reads, "espudp/crypto/a.py", "from datetime import date\nclock = date.today"),
        (unsettled_marks, "espudp/esp/a.py", "x = 1  # TO" + "DO"),
        (unsettled_marks, "espudp/esp/a.py", "x = 1  # type: " + "ignore"),
        (long_files, "espudp/esp/a.py", "x = 1\n" * (MAX_FILE_LINES + 1)),
        (long_functions, "espudp/esp/a.py", LONG_BODY),
        (crowded_classes, "espudp/esp/a.py", MANY_FIELDS),
    ],
)
def test_the_rule_sees_a_breach(rule: Rule, path: str, text: str) -> None:
    assert list(rule(Source(path, text)))


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("espudp/cli/a.py", "import time\nfrom espudp.host import driver\nprint(time.time())"),
        ("espudp/crypto/a.py", "from cryptography.hazmat.primitives import hashes"),
        ("espudp/ike/v2/a.py", "from ...wire.ikev2 import message\nfrom ..events import Event"),
        ("espudp/tunnel.py", "from espudp.ike import endpoint\nfrom espudp.esp import datapath"),
        ("espudp/host/a.py", "from espudp import __version__\nimport pytun"),
        ("espudp/host/a.py", "from datetime import UTC, datetime\ndatetime.now(UTC)"),
        ("espudp/crypto/a.py", "from datetime import datetime\nvalid = lambda at: at > datetime(2026, 1, 1)"),
    ],
)
def test_the_rules_let_good_source_pass(path: str, text: str) -> None:
    assert [breach for rule in RULES for breach in rule(Source(path, text))] == []
