"""A kernel without PPP, made to have some: for a pppd that xl2tpd starts."""

from pathlib import Path

from tests.interop.lab import run

SOURCE = Path(__file__).with_suffix(".c")


def shim(folder: Path) -> Path:
    """The library to preload, compiled into a folder."""
    library = folder / "no_ppp.so"
    run(["cc", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-o", str(library), str(SOURCE), "-ldl"])
    return library
