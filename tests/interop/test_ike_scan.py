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


@pytest.mark.cell("IKEv1 probe", variant="switched off")
def test_ikev1_is_off(net: Lab, tmp_path: Path, saw: Saw) -> None:
    with espudp(net.server, tmp_path, "listen") as peer:
        for options in ([], ["--aggressive", "--id=x"]):
            assert "0 returned handshake; 0 returned notify" in scanned(net, *options)
        assert peer.tunnel()["drops"] == {"another major version": 2}
    saw("counted, not answered")


# What ike-scan offers in IKEv1 is 3DES or DES with HMAC-MD5 or HMAC-SHA1, groups 1 and 2, and a PSK.
SCANNED = ("--ike-proposal", "3des-sha1-modp1024")
# What is said of a mode that is off
UNSUPPORTED = "Notify message 29 (UNSUPPORTED-EXCHANGE-TYPE)"
CHOSEN = "Enc=3DES Hash=SHA1 Auth=PSK Group=2:modp1024 LifeType=Seconds LifeDuration"
# Each says what it knows by a vendor id: RFC 3947, DPD, XAUTH.
KNOWN_IDS = ("4a131c81070358455c5728f20e95452f", "afcad71368a1f1c96b8696fc77570100", "09002689dfd6b712")


@pytest.mark.cell("IKEv1 probe")
@pytest.mark.parametrize(
    "options",
    [
        pytest.param((), id="main mode"),
        pytest.param(
            [word for id_ in KNOWN_IDS for word in ("--vendor", id_)], id="main mode with vendor ids"
        ),
        pytest.param(("--nat-t",), id="main mode at port 4500"),
    ],
)
def test_main_mode(net: Lab, tmp_path: Path, saw: Saw, options: tuple[str, ...]) -> None:
    with espudp(net.server, tmp_path, "listen", "--ikev1", "main", *SCANNED) as peer:
        said = scanned(net, *options)
        assert "Main Mode Handshake returned" in said
        assert CHOSEN in said
        assert "1 returned handshake; 0 returned notify" in said
        assert UNSUPPORTED in scanned(net, "--aggressive", "--id=x")
        assert not peer.tunnel()["sas"]
    saw(f"handshake, {said.count('VID=')} vendor ids")


@pytest.mark.cell("IKEv1 probe", variant="aggressive mode")
def test_aggressive_mode(net: Lab, tmp_path: Path, saw: Saw) -> None:
    with espudp(net.server, tmp_path, "listen", "--ikev1", "aggressive", *SCANNED) as peer:
        said = scanned(net, "--aggressive", "--id=somebody", "--dhgroup=2")
        assert "Aggressive Mode Handshake returned" in said
        assert CHOSEN in said
        for part in ("KeyExchange(128 bytes)", "Nonce(", "ID(Type=", "Hash(20 bytes)"):
            assert part in said
        assert UNSUPPORTED in scanned(net)
        assert not peer.tunnel()["sas"]
    saw("answered with our proof, as RFC 2409 has it")


@pytest.mark.cell("IKEv1 probe", variant="nothing of ours offered")
def test_a_probe_that_offers_nothing_of_ours(net: Lab, tmp_path: Path, saw: Saw) -> None:
    with espudp(net.server, tmp_path, "listen", "--ikev1", "main,aggressive"):
        for options in ([], ["--aggressive", "--id=x"]):
            assert "NO-PROPOSAL-CHOSEN" in scanned(net, *options)
    saw("NO-PROPOSAL-CHOSEN")
