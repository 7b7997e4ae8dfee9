"""Finds the shared conformance data, which lies beside the project and not in it."""

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
IN_CI = os.environ.get("CI", "").lower() not in ("", "0", "false", "no")


def shared_vectors(*parts: str) -> Path:
    """The path of a file or folder below `$ESPUDP_VECTORS`, or `../shared/vectors` from the project root.

    Where it is missing the test is skipped with the reason; in CI it fails instead, so that a
    whole suite cannot go quiet unnoticed.
    """
    folder = Path(os.environ.get("ESPUDP_VECTORS") or ROOT.parent / "shared" / "vectors")
    path = folder.joinpath(*parts)
    if path.exists():
        return path
    reason = f"no {'/'.join(parts)} in {folder}; set ESPUDP_VECTORS to where the shared vectors are"
    if IN_CI:
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)
