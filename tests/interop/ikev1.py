"""What the tests of IKEv1 with strongSwan have in common."""

import functools
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from tests.interop.caller import POOL, SUBNET, Caller
from tests.interop.charon import Charon
from tests.interop.lab import wait_until
from tests.interop.peer import Espudp
from tests.interop.swan import IKE as IKE_OF_VERSION_2
from tests.interop.swan import suite_of

PEER = "strongSwan, IKEv1"

IKE, ESP = "aes128-sha256-modp2048", "aes128-sha256"

# Every cipher, hash and kind of group that phase 1 may have; PSKs in aggressive mode need one group.
IKE_NAMES = [
    "3des-sha1-modp1024",
    "aes128-sha1-modp1536",
    "aes192-sha384-modp3072",
    "aes256-sha512-modp4096",
    "aes256-sha256-ecp256",
    "aes256-sha384-ecp384",
    "aes128-sha256-ecp521",
]
ESP_NAMES = [
    *("3des-sha1", "aes128-sha1", "aes192-sha384", "aes256-sha512", "aes128-aesxcbc", "null-sha256"),
    *("aes128ctr-sha256", "aes128ccm16", "aes256gcm16"),
]
# Keys of phase 1's material alone, and with a Diffie-Hellman exchange of their own.
REKEYED = [("main", "aes128-sha256"), ("aggressive", "aes256gcm16-modp2048")]

MODES = ["main", "aggressive"]

# Without it strongSwan refuses to answer; RFC 2409 section 5.4 has PSKs and identities meet nowhere else.
AGGRESSIVE_PSK = "i_dont_care_about_security_and_use_aggressive_mode_psk = yes"

ACCEPTED = ["--ikev1", "main,aggressive"]
ACCEPTED += [word for ike in [IKE_OF_VERSION_2, IKE, *IKE_NAMES] for word in ("--ike-proposal", ike)]
ACCEPTED += [
    word for esp in [ESP, *ESP_NAMES, *(esp for _, esp in REKEYED)] for word in ("--esp-proposal", esp)
]

USER, PASSWORD = "alice", "correct horse battery staple"


def version_1(mode: str = "main", **more: Any) -> dict[str, Any]:
    """What a connection of strongSwan's has beside what it has in version 2."""
    return {"version": "1", "aggressive": "yes" if mode == "aggressive" else "no", **more}


@contextmanager
def dialled(
    place: Caller, mode: str = "main", *, ike: str = IKE, esp: str = ESP, **more: Any
) -> Iterator[str]:
    """strongSwan has connected with IKEv1, where it asks for one subnet at a time and for IPv4 alone."""
    children = {
        "net": {"remote_ts": [POOL], "esp_proposals": [esp]},
        "lan": {"remote_ts": [SUBNET], "esp_proposals": [esp]},
    }
    conn = version_1(mode, vips=["0.0.0.0"], children=children, **more)
    with place.dialled(ike=ike, esp=esp, **conn) as address:
        yield address


def check_suite(swan: Charon, peer: Espudp, esp: str) -> None:
    """Both have one child SA, of the same suite, and nine packets have gone each way."""
    (child,) = swan.child_sas()
    (inbound,), (outbound,) = peer.sas("in"), peer.sas("out")
    assert suite_of(child) == inbound["suite"] == esp
    assert (int(child["packets-in"]), int(child["packets-out"])) == (9, 9)
    assert (inbound["packets"], outbound["packets"]) == (9, 9)


def check_signature(swan: Charon, identity: str) -> None:
    """strongSwan has verified a signature of a bare hash (RFC 2409 section 5.1)."""
    assert f"authentication of '{identity}' with RSA_EMSA_PKCS1_NULL successful" in swan.log


def carrying(swan: Charon) -> dict[str, Any]:
    """The ISAKMP SA that has the child SAs: the one before it may linger."""
    (sa,) = (sa for sa in swan.ike_sas() if sa["state"] == "ESTABLISHED" and sa["child-sas"])
    return sa


def keys_of(swan: Charon, what: str) -> set[str]:
    """Cookies of that ISAKMP SA, or SPIs of the child SA in it that is not replaced: two of each."""
    sa = carrying(swan)
    if what == "ike":
        return {sa["initiator-spi"], sa["responder-spi"]}
    (child,) = (child for child in sa["child-sas"].values() if child["state"] == "INSTALLED")
    return {child["spi-in"], child["spi-out"]}


# What is renewed, and by whom. A gateway of strongSwan's that renews phase 1 forgets the address that it gave
# to its client, and refuses quick modes for it from then on.
REKEYS = (("child", True), ("child", False), ("ike", True), ("child", True), ("child", False), ("ike", False))


def check_rekeys(peer: Espudp, swan: Charon, rekeys: Sequence[tuple[str, bool]] = REKEYS) -> None:
    """Both phases, renewed by each side: by ours where it says True. What is replaced lingers on."""
    for what, ours in rekeys:
        before = keys_of(swan, what)
        if ours:
            peer.ask("rekey", what=what)
        else:
            _rekey(swan, what)
        wait_until(functools.partial(_both_have_new, peer, swan, what, before), f"new {what} SPIs")
        time.sleep(0.1)  # for some packets to cross under these keys


def _rekey(swan: Charon, what: str) -> None:
    sa = carrying(swan)
    swan.vici.rekey({"ike-id": sa["uniqueid"]} if what == "ike" else {"child": "net"})


def _both_have_new(peer: Espudp, swan: Charon, what: str, before: set[str]) -> bool:
    if what == "child":
        ours = {f"{sa['spi']:08x}" for sa in peer.tunnel()["sas"]}
    else:
        ours = {c[end] for c in peer.tunnel()["connections"] for end in ("spi_i", "spi_r")}
    try:
        now = keys_of(swan, what)
    except ValueError:  # two of them, or none
        return False
    return not now & before and now <= ours
