"""Tunnels of two processes with algorithms for old peers and for special ones."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.host.support import Network, ping, transfer

pytestmark = [pytest.mark.root, pytest.mark.tun]


@pytest.fixture
def network(tmp_path: Path) -> Iterator[Network]:
    with Network.make(tmp_path) as made:
        yield made


@pytest.mark.parametrize(
    ("ike", "esp", "warned"),
    [
        (
            "3des-sha1-modp1024",
            "null-sha256",
            ["3des has blocks", "modp1024 has a prime", "null encrypts nothing"],
        ),
        (
            "aes128gcm8-prfaescmac-modp2048s256",
            "aes256gmac-esn",
            ["aes128gcm8", "modp2048s256", "aes256gmac"],
        ),
        ("aes256ccm8-prfaesxcbc-curve448", "aes128ctr-aesxcbc", []),
        ("aes192ctr-aescmac-modp6144", "aes256ccm12-esn", []),
    ],
)
def test_traffic_flows_and_what_is_weak_is_told_once(
    network: Network, ike: str, esp: str, warned: list[str]
) -> None:
    """RFC 8221, RFC 8247."""
    server, client = network.listen(ike=[ike], esp=[esp]), network.connect(ike=[ike], esp=[esp])
    assert ping(network.client, "10.99.0.1", tries=3) == 3
    data = bytes(range(256)) * 2000
    assert transfer(network.client, network.server, "10.99.0.1", data) == data
    assert transfer(network.server, network.client, "10.99.0.2", data) == data
    assert client.ask("rekey", what="child") == {"connections": [1]}
    for peer in (client, server):
        peer.wait_for("detail: New ESP keys")
        lines = [line for line in peer.output.splitlines() if line.startswith("warning: This is weak: ")]
        assert len(lines) == len(warned)
        for line, words in zip(lines, warned, strict=True):
            assert words in line
            assert line.endswith("| Take it out of the proposals as soon as the peer can do without.")
