"""ike-scan's probes, answered as a responder should."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.interop.lab import SERVER_ADDRESS, Lab, lab
from tests.interop.matrix import RESPONDER
from tests.interop.peer import espudp

pytestmark = [
    pytest.mark.ike_scan,
    pytest.mark.namespaces,
    pytest.mark.tun,
    pytest.mark.peer("ike-scan", RESPONDER),
]

Saw = Callable[[str], None]


@pytest.fixture(scope="module")
def net() -> Iterator[Lab]:
    with lab() as net:
        yield net


def scanned(net: Lab, *options: str) -> str:
    """What ike-scan says of the server."""
    return net.client.run("ike-scan", "--retry=1", "--timeout=1000", *options, SERVER_ADDRESS)


# What ike-scan offers is AES-CBC or DES with HMAC-MD5 or HMAC-SHA1, groups 2, 5 and 14, and a KE of group 2.
ANSWERS = {
    "NO_PROPOSAL_CHOSEN": "aes256gcm16-prfsha384-curve25519",
    "INVALID_KE_PAYLOAD": "aes256-sha1-modp2048",
    "SA_INIT Handshake": "aes256-sha1-modp1024",
}


@pytest.mark.cell("IKEv2 probe")
@pytest.mark.parametrize(("said", "proposal"), [pytest.param(*item, id=item[0]) for item in ANSWERS.items()])
def test_ikev2(net: Lab, tmp_path: Path, saw: Saw, said: str, proposal: str) -> None:
    with espudp(net.server, tmp_path, "listen", "--ike-proposal", proposal) as peer:
        for options in (["--ikev2"], ["--ikev2", "--nat-t"]):
            assert said in scanned(net, *options)
        assert not peer.tunnel()["sas"]
    saw("at ports 500 and 4500")


@pytest.mark.cell("IKEv1 probe")
def test_ikev1(net: Lab, tmp_path: Path, saw: Saw) -> None:
    with espudp(net.server, tmp_path, "listen") as peer:
        for options in ([], ["--aggressive", "--id=x"]):
            assert "0 returned handshake; 0 returned notify" in scanned(net, *options)
        assert peer.tunnel()["drops"] == {"another major version": 2}
    saw("counted, not answered")
