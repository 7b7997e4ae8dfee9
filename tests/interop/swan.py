"""What all strongSwan test files have in common: names, addresses, suites."""

import time

from espudp import IkeProposal
from espudp.crypto.suites import ESP_SUITES, EspSuite
from espudp.wire.ikev2.constants import ExchangeType
from espudp.wire.ikev2.header import Header
from espudp.wire.ikev2.message import emit_message
from espudp.wire.ikev2.payloads import KeyExchange, Nonce, SecurityAssociation
from tests.interop.charon import Charon
from tests.interop.lab import wait_until
from tests.interop.peer import Espudp

ESPUDP_ID, SWAN_ID = "espudp.example", "swan.example"

IKE, ESP = "aes128gcm16-prfsha256-curve25519", "aes128gcm16"


def _wanted(suite: EspSuite) -> bool:
    """Every cipher, and every integrity algorithm with one of them; libipsec refuses ESN and has no GMAC."""
    if suite.esn or suite.encr.keyword.endswith("gmac"):
        return False
    return suite.integ is None or suite.integ.keyword == "sha256" or suite.encr.keyword == "aes128"


ESP_NAMES = [suite.name for suite in ESP_SUITES if _wanted(suite)]

# Every group, PRF, cipher and integrity algorithm of IKE at least once; as both espudp and strongSwan
# write them.
IKE_NAMES = [
    "aes128-sha1-prfsha1-modp2048",
    "aes192-sha256-prfsha256-modp3072",
    "aes256-sha384-prfsha384-modp4096",
    "aes256-sha512-prfsha512-ecp256",
    "aes128gcm16-prfsha256-ecp384",
    "aes256gcm16-prfsha384-ecp521",
    "chacha20poly1305-prfsha512-curve25519",
    "aes128ctr-aescmac-prfaescmac-curve448",
    "aes192ctr-aesxcbc-prfaesxcbc-modp2048s256",
    "aes256ctr-sha256-prfsha256-modp6144",
    "3des-sha1-prfsha1-modp1024",
    "aes128ccm16-prfsha256-modp8192",
    "aes192ccm12-prfsha256-modp1536",
    "aes256ccm8-prfsha384-modp2048s224",
    "aes192gcm12-prfaesxcbc-modp1024s160",
    "aes256gcm8-prfaescmac-ecp256",
]

# ESP keys from the IKE SA's material alone, and with a Diffie-Hellman exchange of their own.
REKEYED = ["aes128gcm16", "aes128gcm16-curve25519", "aes256-sha256", "aes256-sha256-modp2048"]

# Pings that a test with rekeys must have seen answered, to have tested anything.
MANY = 20


def suite_of(child: dict[str, str]) -> str:
    """The ESP suite of a child SA that strongSwan lists, by espudp's name."""
    integ = {
        "HMAC_SHA1_96": "-sha1",
        "HMAC_SHA2_256_128": "-sha256",
        "HMAC_SHA2_384_192": "-sha384",
        "HMAC_SHA2_512_256": "-sha512",
        "AES_XCBC_96": "-aesxcbc",
        "AES_CMAC_96": "-aescmac",
        None: "",
    }[child.get("integ-alg")]
    bits, name = child.get("encr-keysize", ""), child["encr-alg"]
    if name.startswith("AES_"):
        cipher = name.removeprefix("AES_").removeprefix("CBC").replace("_", "").lower()
        return f"aes{bits}{cipher}{integ}"
    return f"{name.removesuffix('_CBC').replace('_', '').lower()}{integ}"


def esp_algorithms(child: dict[str, str]) -> str:
    """What strongSwan says that a child SA uses: cipher, HMAC, group of a rekey."""
    parts = [child["encr-alg"], child.get("encr-keysize", ""), child.get("integ-alg", "")]
    return "-".join(filter(None, [*parts, child.get("dh-group", "")]))


def ike_algorithms(sa: dict[str, str]) -> str:
    """What strongSwan says that an IKE SA uses."""
    parts = [sa["encr-alg"], sa.get("encr-keysize", ""), sa.get("integ-alg", ""), sa["prf-alg"]]
    return "-".join(filter(None, [*parts, sa["dh-group"]]))


def wait_for_new_keys(peer: Espudp, swan: Charon, what: str, before: set[str]) -> None:
    """Until both ends have exactly one SA, and its SPIs are none of those `before`."""

    def changed() -> bool:
        now = spis(swan, what)
        return len(now) == 2 and not now & before and len(peer.sas()) == 1

    wait_until(changed, f"new {what} SPIs")


def spis(swan: Charon, what: str) -> set[str]:
    """SPIs of the IKE SAs, or of the child SAs, that strongSwan has: two of each."""
    if what == "ike":
        return {sa[end] for sa in swan.ike_sas() for end in ("initiator-spi", "responder-spi")}
    return {child[end] for child in swan.child_sas() for end in ("spi-in", "spi-out")}


def check_rekeys(peer: Espudp, swan: Charon, *, ike: str, child: str) -> None:
    """Both kinds of rekeying, started by each side."""
    for what, name in (("child", child), ("ike", ike), ("child", child)):
        before = spis(swan, what)
        peer.ask("rekey", what=what)
        wait_for_new_keys(peer, swan, what, before)
        time.sleep(0.1)  # for some packets to cross under these keys
        before = spis(swan, what)
        swan.rekey(what, name)
        wait_for_new_keys(peer, swan, what, before)
        time.sleep(0.1)


def half_open(number: int) -> bytes:
    """An IKE_SA_INIT request of somebody who never comes back; the public value is X25519's base point."""
    proposal = IkeProposal.parse(IKE)
    payloads = (
        SecurityAssociation((proposal.to_wire(1),)),
        KeyExchange(proposal.dh[0].transform_id, (9).to_bytes(32, "little")),
        Nonce(bytes(32)),
    )
    header = Header(number.to_bytes(8), bytes(8), 0, ExchangeType.IKE_SA_INIT, True, False, 0)
    return emit_message(header, payloads)
