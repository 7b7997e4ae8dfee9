"""`espudp algorithms`: every word that a proposal may have, and what to think of it."""

import re

from espudp.crypto.policy import POLICY
from tests.unit.cli.conftest import Program


def test_every_algorithm_has_its_line(program: Program) -> None:
    outcome = program("algorithms")
    assert outcome.code == 0
    rows = [re.split(r" {2,}", line.strip()) for line in outcome.out.splitlines()]
    lines = {row[0]: row for row in rows}
    assert set(POLICY) <= lines.keys()
    assert lines["aes256gcm16"][1:] == ["SHOULD", "MUST", "offered"]
    assert lines["aes128ccm8"][1:] == ["SHOULD", "SHOULD", "when named"]
    assert lines["modp1024"][1:3] == ["SHOULD NOT", "SHOULD NOT"]
    assert lines["modp1024"][3].startswith("when named, has a prime so small")
    assert lines["md5"][3].startswith("not spoken, rests on MD5")
    assert lines["prfsha1"][1:] == ["MUST-", "-", "when named"]
    assert lines["ECDSA with P-256 and SHA-256 (9)"][1:] == ["SHOULD"]
    assert lines["NULL (13)"][-1].startswith("proves nothing")


def test_the_mistake_of_a_proposal_is_helped_by_the_list(program: Program) -> None:
    outcome = program("connect", "h", "--psk", "x" * 20, "--esp-proposal", "aes129")
    assert outcome.code == 2
    assert "espudp algorithms" in outcome.err
