"""Known answers: the RFCs' own, kept in tests/vectors/crypto, and the shared ones beside the project."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from espudp.crypto.suites import EspSuite, parse_esp_suite
from tests.shared_vectors import shared_vectors

Vector = dict[str, Any]

_OWN = Path(__file__).resolve().parents[2] / "vectors" / "crypto"


def _load(path: Path) -> Any:
    return json.loads(path.read_text())


def own(name: str) -> list[Vector]:
    """Figures printed in an RFC or another public paper; the file says which."""
    vectors: list[Vector] = _load(_OWN / name)["vectors"]
    return vectors


def shared(*parts: str) -> list[Vector]:
    """A shared file's vectors. Skips the calling test where the data is missing."""
    vectors: list[Vector] = _load(shared_vectors(*parts))["vectors"]
    return vectors


def wycheproof(name: str) -> Iterator[tuple[Vector, Vector]]:
    """Each (group, test) of a Wycheproof file."""
    for group in _load(shared_vectors("prim", "wycheproof", f"{name}_test.json"))["testGroups"]:
        for test in group["tests"]:
            yield group, test


def by_id(vectors: list[Vector]) -> dict[str, Vector]:
    return {vector["id"]: vector for vector in vectors}


def unhex(text: str) -> bytes:
    return bytes.fromhex(text)


# One of each cipher, and of each HMAC: enough where the algorithm's own behaviour is the subject.
SOME_SUITES: list[EspSuite] = [
    parse_esp_suite(name)
    for name in (
        "aes128gcm16",
        "aes192gcm16",
        "aes256gcm16",
        "chacha20poly1305",
        "aes128-sha1",
        "aes128-sha256",
        "aes192-sha384",
        "aes256-sha512",
        "aes128gcm8",
        "aes256gcm12",
        "aes128ccm8",
        "aes192ccm12",
        "aes256ccm16",
        "aes128gmac",
        "aes192ctr-sha256",
        "3des-sha1",
        "null-sha384",
        "aes128-aesxcbc",
        "aes256ctr-aescmac",
    )
]

# The same with and without extended sequence numbers: where all key sizes with all MACs would take too long.
DISTINCT_SUITES: list[EspSuite] = [replace(suite, esn=esn) for suite in SOME_SUITES for esn in (False, True)]
