"""Vendor ids: what a peer speaks beyond the RFCs, and what it is (RFC 2408 section 3.16).

Most are the MD5 of a name, some with a version or capabilities behind it, which the name here leaves open.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Known:
    """A vendor id that we can tell."""

    name: str
    octets: bytes
    tail: int = 0
    """How many octets may follow that are not the same in all of them."""

    def matches(self, data: bytes) -> bool:
        """Whether `data`, a Vendor ID payload's, is this one."""
        return data.startswith(self.octets) and len(data) <= len(self.octets) + self.tail


def _md5(name: str, octets: str, tail: int = 0) -> Known:
    return Known(name, bytes.fromhex(octets), tail)


# NAT traversal: RFC 3947 section 3.1, and the drafts before it
RFC_3947: Final = _md5("RFC 3947", "4a131c81070358455c5728f20e95452f")
DRAFT_00: Final = _md5("draft-ietf-ipsec-nat-t-ike-00", "4485152d18b6bbcd0be8a8469579ddcc")
DRAFT_01: Final = _md5("draft-ietf-ipsec-nat-t-ike-01", "16f6ca16e4a4066d83821a0f0aeaa862")
DRAFT_02: Final = _md5("draft-ietf-ipsec-nat-t-ike-02", "cd60464335df21f87cfdb2fc68b6a448")
# Shipped by many, with the newline of whoever made the hash on a command line
DRAFT_02_NEWLINE: Final = _md5("draft-ietf-ipsec-nat-t-ike-02\n", "90cb80913ebb696e086381b5ec427b1f")
DRAFT_03: Final = _md5("draft-ietf-ipsec-nat-t-ike-03", "7d9419a65310ca6f2c179d9215529d56")
DRAFT_04: Final = _md5("draft-ietf-ipsec-nat-t-ike-04", "9909b64eed937c6573de52ace952fa6b")
DRAFT_05: Final = _md5("draft-ietf-ipsec-nat-t-ike-05", "80d0bb3def54565ee84645d4c85ce3ee")
DRAFT_06: Final = _md5("draft-ietf-ipsec-nat-t-ike-06", "4d1e0e136deafa34c4f3ea9f02ec7285")
DRAFT_07: Final = _md5("draft-ietf-ipsec-nat-t-ike-07", "439b59f8ba676c4c7737ae22eab8f582")
DRAFT_08: Final = _md5("draft-ietf-ipsec-nat-t-ike-08", "8f8d83826d246b6fc7a8a6a428c11de8")
DRAFT_09: Final = _md5("draft-ietf-ipsec-nat-t-ike-09", "42ea5b6f898d9773a575df26e7dd19e1")
# Apple's
DRAFT_UNNUMBERED: Final = _md5("draft-ietf-ipsec-nat-t-ike", "4df37928e9fc4fd1b3262170d515c662")
STENBERG_01: Final = _md5("draft-stenberg-ipsec-nat-traversal-01", "27bab5dc01ea0760ea4e3190ac27c0d0")
STENBERG_02: Final = _md5("draft-stenberg-ipsec-nat-traversal-02", "6105c422e76847e43f9684801292aecd")
ESP_THROUGH_NAT: Final = _md5("ESPThruNAT", "50760f624c63e5c53eea386c685ca083")
TESTING_NAT_T: Final = _md5("Testing NAT-T RFC", "c40fee00d5d39ddb1fc762e09b7cfea7")

NAT_TRAVERSAL: Final[tuple[Known, ...]] = (
    *(RFC_3947, DRAFT_09, DRAFT_08, DRAFT_07, DRAFT_06, DRAFT_05, DRAFT_04, DRAFT_03, DRAFT_02),
    *(DRAFT_02_NEWLINE, DRAFT_01, DRAFT_00, DRAFT_UNNUMBERED, STENBERG_02, STENBERG_01),
    *(ESP_THROUGH_NAT, TESTING_NAT_T),
)

# RFC 3706 section 5.1: behind it the major version and the minor
DPD: Final = Known("DPD", bytes.fromhex("afcad71368a1f1c96b8696fc7757"), 2)
DPD_1_0: Final = DPD.octets + b"\x01\x00"
# draft-beaulieu-ike-xauth-02 section 2.1
XAUTH: Final = Known("XAUTH", bytes.fromhex("09002689dfd6b712"))
# Cisco's attributes of mode config; behind it a version
UNITY: Final = Known("Cisco Unity", bytes.fromhex("12f5f28c457168a9702d9fe274cc"), 2)
UNITY_1_0: Final = UNITY.octets + b"\x01\x00"
# Cisco's and Microsoft's; Cisco has capabilities behind it: which modes a sender means it for
FRAGMENTATION: Final = _md5("FRAGMENTATION", "4048b7d56ebce88525e7de7f00d6c2d3", 4)
FRAGMENTATION_MAIN_AND_AGGRESSIVE: Final = FRAGMENTATION.octets + b"\x80\0\0\0"
_FRAGMENTATION_BIT: Final = 0x80

# [MS-IKEE] section 1.7: with a number behind it that says which Windows
WINDOWS: Final = _md5("MS NT5 ISAKMPOAKLEY", "1e2b516905991c7d7c96fcbfb587e461", 4)

ALL: Final[tuple[Known, ...]] = (
    *NAT_TRAVERSAL,
    *(DPD, XAUTH, UNITY, FRAGMENTATION, WINDOWS),
    _md5("Vid-Initial-Contact", "26244d38eddb61b3172a36e3d0cfb819"),
    _md5("MS-Negotiation Discovery Capable", "fb1de3cdf341b7ea16b7e5be0855f120"),
    _md5("MS-MamieExists", "214ca4faffa7f32d6748e5303395ae83"),
    _md5("IKE CGA version 1", "e3a5966a76379fe707228231e5ce8652"),
    _md5("GSSAPI", "621b04bb09882ac1e15935fefa24aeee"),
    _md5("strongSwan", "882fe56d6fd20dbc2251613b2ebe5beb"),
    Known("Openswan or libreswan", b"OE", 10),
    Known("OpenPGP", b"OpenPGP", 8),
    _md5("KAME/racoon", "7003cbc1097dbe9c2600ba6983bc8b35", 4),
    Known("Cisco concentrator", bytes.fromhex("1f07f70eaa6514d3b0fa96542a50"), 2),
    Known("Check Point", bytes.fromhex("f4ed19e0c114eb516faaac0ee37daf2807b4381f"), 20),
    Known("FortiGate", bytes.fromhex("8299031757a36082c6a621de"), 4),
    Known("SonicWall", bytes.fromhex("5b362bc820f6"), 2),
    Known("Juniper", bytes.fromhex("699369228741c6d4ca094c93e242c9de19e7b7c6"), 8),
    Known("SSH heartbeats", b"HeartBeat_Notify", 8),
)


def name_of_vendor_id(data: bytes) -> str | None:
    """What a Vendor ID payload says, for status; None where nobody here knows."""
    return next((known.name.replace("\n", r"\n") for known in ALL if known.matches(data)), None)


def named(all_data: Iterable[bytes]) -> list[str]:
    """The names of those that have one, in their order and each once."""
    names = (name_of_vendor_id(data) for data in all_data)
    return list(dict.fromkeys(name for name in names if name is not None))


def says_fragmentation(data: bytes) -> bool:
    """Whether a Vendor ID payload says that main and aggressive mode may come in fragments.

    Microsoft sends the hash alone. Of Cisco's capabilities one bit stands for both modes.
    """
    if not FRAGMENTATION.matches(data):
        return False
    capabilities = data[len(FRAGMENTATION.octets) :]
    return not capabilities or bool(capabilities[0] & _FRAGMENTATION_BIT)
