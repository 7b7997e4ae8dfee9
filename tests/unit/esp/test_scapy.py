"""scapy opens what we seal, and we open what scapy seals: an independent implementation of ESP."""

from typing import Any

import pytest
from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.ipsec import ESP, IPSecIntegrityError, SecurityAssociation
from scapy.packet import Raw

from espudp.crypto.suites import EspSuite, Mode, parse_esp_suite
from espudp.esp.drops import Drop
from tests.unit.crypto.vectors import DISTINCT_SUITES
from tests.unit.esp.peers import (
    LEFT6,
    RIGHT6,
    RIGHT_SPI,
    TO_LEFT,
    both,
    datagrams,
    left_keys,
    plain,
    right_path,
    udp,
)

CIPHERS = {
    Mode.GCM: "AES-GCM",
    Mode.CHACHA20_POLY1305: "CHACHA20-POLY1305",
    Mode.CCM: "AES-CCM",
    Mode.GMAC: "AES-NULL-GMAC",
    Mode.CBC: "AES-CBC",
    Mode.CTR: "AES-CTR",
    Mode.TRIPLE_DES: "3DES",
    Mode.NULL: "NULL",
}
INTEGRITY = {
    "sha1": "HMAC-SHA1-96",
    "sha256": "SHA2-256-128",
    "sha384": "SHA2-384-192",
    "sha512": "SHA2-512-256",
    "aescmac": "AES-CMAC-96",
}
HIGH = 7
OUTER = IP(src="192.0.2.1", dst="198.51.100.2")

# scapy knows whole ICVs of combined modes, and no AES-XCBC-MAC.
KNOWN = [
    suite
    for suite in DISTINCT_SUITES
    if (suite.encr.icv_octets == 16 if suite.integ is None else suite.integ.keyword in INTEGRITY)
]
every_suite = pytest.mark.parametrize("suite", KNOWN, ids=lambda suite: suite.name)
PACKETS = [udp(61), udp(1400), udp(62, src=LEFT6, dst=RIGHT6)]


def start_of(suite: EspSuite) -> int:
    """Both ends begin behind this number; with ESN its high half is one that must not go unnoticed."""
    return HIGH << 32 | 100 if suite.esn else 100


def scapy_sa(suite: EspSuite) -> Any:
    keys = left_keys(suite).keys_out
    association: Any = SecurityAssociation  # which has no type hints
    return association(
        ESP,
        spi=RIGHT_SPI,
        seq_num=101,
        crypt_algo=CIPHERS[suite.encr.mode],
        crypt_key=keys.encr,
        auth_algo=INTEGRITY[suite.integ.keyword] if suite.integ else None,
        auth_key=keys.integ or None,
        tunnel_header=OUTER,
        esn_en=suite.esn,
        esn=HIGH if suite.esn else 0,
    )


@every_suite
def test_scapy_opens_what_we_seal(suite: EspSuite) -> None:
    left, _ = both(suite, sent=start_of(suite))
    for packet, datagram in zip(PACKETS, datagrams(left.seal(PACKETS, 0.0)), strict=True):
        outer = IP(bytes(OUTER.copy() / ESP(datagram)))
        assert bytes(scapy_sa(suite).decrypt(outer)) == packet
        forged = IP(bytes(OUTER.copy() / ESP(datagram[:-1] + bytes([datagram[-1] ^ 1]))))
        with pytest.raises(IPSecIntegrityError):
            scapy_sa(suite).decrypt(forged)


@every_suite
def test_we_open_what_scapy_seals(suite: EspSuite) -> None:
    right = right_path(suite, received=start_of(suite))
    sa = scapy_sa(suite)
    for packet in PACKETS:
        layer = IP(packet) if packet[0] >> 4 == 4 else IPv6(packet)
        datagram = bytes(sa.encrypt(layer)[ESP])
        assert right.open([datagram], TO_LEFT, 0.0) == [packet]
        assert right.open([datagram], TO_LEFT, 0.0) == []
    assert right.drops == {Drop.REPLAY: len(PACKETS)}


def test_a_packet_made_by_scapy_from_scratch() -> None:
    suite = parse_esp_suite("aes256gcm16")
    packet = IP(src="10.1.0.1", dst="10.2.0.1") / UDP(sport=7, dport=9) / Raw(b"hello")
    datagram = bytes(scapy_sa(suite).encrypt(packet)[ESP])
    (opened,) = plain(right_path(suite, received=100).open([datagram], TO_LEFT, 0.0))
    assert IP(opened)[Raw].load == b"hello"
