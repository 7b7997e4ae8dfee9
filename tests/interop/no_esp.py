"""A kernel without ESP, made to say yes: for daemons that need one to speak IKE at all."""

from pathlib import Path

from tests.interop.lab import run

SOURCE = Path(__file__).with_suffix(".c")


def shim(folder: Path) -> Path:
    """The library to preload, compiled into a folder."""
    library = folder / "no_esp.so"
    run(["cc", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-o", str(library), str(SOURCE), "-ldl"])
    return library
