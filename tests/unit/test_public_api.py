"""What `import espudp` gives, and what it costs."""

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import espudp

ROOT = Path(__file__).parents[2]


def test_every_public_name_exists_once() -> None:
    assert len(set(espudp.__all__)) == len(espudp.__all__)
    assert [name for name in espudp.__all__ if not hasattr(espudp, name)] == []


def test_a_name_that_is_none_is_an_error_like_any_other() -> None:
    assert set(espudp.__all__) <= set(dir(espudp))
    for name in ("Nonsense", "_nonsense", "__nonsense__"):
        with pytest.raises(AttributeError, match=name):
            getattr(espudp, name)


def test_the_version_is_the_package_s() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert espudp.__version__ == project["version"]


def test_embedding_a_tunnel_loads_nothing_of_the_host() -> None:
    # Not `socket`: the x509 of the cryptography package loads it, for a function of email.utils.
    heavy = "{'asyncio', 'espudp.host', 'pyroute2', 'pytun', 'typer', 'uvloop'}"
    program = f"import sys; from espudp import *; print(*{heavy} & set(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.split() == []
