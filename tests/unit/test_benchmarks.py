"""The benchmarks run, and measure something. How much is for a quiet machine to say."""

import pytest

from benchmarks import __main__ as command
from benchmarks import esp, handshakes
from espudp import parse_esp_suite


@pytest.mark.parametrize("name", ["aes128gcm16", "aes256-sha512-esn"])
def test_esp(name: str) -> None:
    figures = esp.measure(parse_esp_suite(name), 0.001)
    assert figures.suite == name
    assert min(figures.seal, figures.open, figures.cipher) > 0


def test_handshakes() -> None:
    proposal = handshakes.proposals()[0]
    assert handshakes.measure(proposal, 0.001).per_second > 1


def test_the_command_prints_its_tables(capsys: pytest.CaptureFixture[str]) -> None:
    command.main(["--no-demo", "--seconds", "0.001"])
    out = capsys.readouterr().out
    assert "aes128gcm16" in out
    assert "curve25519" in out
