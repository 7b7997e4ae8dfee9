"""ESP packets that others have published, opened and sealed octet for octet."""

import json

import pytest

from espudp.crypto.aead import CipherKeys
from espudp.crypto.suites import EspSuite, parse_esp_suite
from espudp.esp.datapath import DataPath
from espudp.esp.drops import Drop
from espudp.esp.sa import ChildKeys
from tests.pcap import ip_packets
from tests.shared_vectors import shared_vectors
from tests.unit.crypto.seeded import fixed_rng
from tests.unit.crypto.vectors import Vector, own, shared, unhex
from tests.unit.esp.peers import LEFT_SPI, TO_RIGHT, datagrams, left_keys, selectors

EVERYTHING = selectors("0.0.0.0/0", "::/0")
# `a % 2**64` is an IV that counts from the sequence number 0.
IVS = 1 << 64


def published(suite: EspSuite, key: CipherKeys, spi: int, sequence: int) -> ChildKeys:
    """Both ways with the published key, one packet short of the published sequence number."""
    return left_keys(
        suite,
        keys_in=key,
        keys_out=key,
        spi_in=spi,
        spi_out=spi,
        local=EVERYTHING,
        remote=EVERYTHING,
        sent=sequence - 1,
        received=sequence - 1,
        # One of the packets is a SYN for an MSS of 1460.
        inner_mtu=1500,
    )


def path_with(keys: ChildKeys, first_iv: int = 0) -> DataPath:
    """`first_iv` is that of the first packet it will send, which is not random here."""
    path = DataPath(fixed_rng(((first_iv - keys.sent - 1) % IVS).to_bytes(8, "big")))
    path.install(keys, 0.0)
    return path


def check_both_ways(keys: ChildKeys, iv: bytes, packet: bytes, esp: bytes) -> None:
    path = path_with(keys, int.from_bytes(iv, "big"))
    assert datagrams(path.seal([packet], 0.0)) == [esp]
    assert path.open([esp], TO_RIGHT, 0.0) == [packet]
    assert path.open([esp], TO_RIGHT, 0.0) == []
    assert path.drops == {Drop.REPLAY: 1}


def test_rfc_7634_appendix_a() -> None:
    vector = next(v for v in own("rfc7634.json") if v["id"] == "rfc7634-A")
    header = unhex(vector["aad"])
    keys = published(
        parse_esp_suite("chacha20poly1305"),
        CipherKeys(unhex(vector["key"])),
        int.from_bytes(header[:4], "big"),
        int.from_bytes(header[4:], "big"),
    )
    packet = unhex(vector["plaintext"])[:84]
    check_both_ways(keys, unhex(vector["iv"]), packet, header + unhex(vector["body"]))


MCGREW = [f"mcgrew-gcm-{number}" for number in range(1, 8)]


@pytest.mark.parametrize("name", MCGREW)
def test_gcm_esp_with_and_without_esn(name: str) -> None:
    vector = next(v for v in shared("esp", "mcgrew_gcm_esp.json") if v["id"] == name)
    suite = parse_esp_suite(f"aes{vector['encr'][-3:]}gcm16" + ("-esn" if vector["esn"] else ""))
    sequence = int((vector["seq_hi"] or "") + vector["seq_lo"], 16)
    key = CipherKeys(unhex(vector["encr_key"]) + unhex(vector["salt"]))
    esp = unhex(vector["esp"])
    # Some of these have reserved SPIs, which `Sad` refuses and the SA alone does not look at.
    inbound = path_with(published(suite, key, LEFT_SPI, sequence))._children.sad.find(LEFT_SPI)
    assert inbound is not None
    inbound.spi = int(vector["spi"], 16)
    assert inbound.open(esp[:-1] + bytes([esp[-1] ^ 1])) is Drop.INTEGRITY
    assert inbound.open(esp) == unhex(vector["padded_plaintext"])
    assert inbound.window.highest == sequence
    assert inbound.open(esp) is Drop.REPLAY


def dpdk(name: str) -> Vector:
    return next(v for v in shared("esp", "dpdk_ipsec.json") if v["id"] == f"dpdk-pkt_{name}")


@pytest.mark.parametrize(("name", "suite"), [("aes_128_gcm", "aes128gcm16"), ("aes_256_gcm", "aes256gcm16")])
def test_gcm_tunnel_packets_of_dpdk(name: str, suite: str) -> None:
    vector = dpdk(name)
    packet, esp = unhex(vector["input_ip_packet"]), unhex(vector["output_ip_packet"])[20:]
    key = CipherKeys(unhex(vector["encr_key"]) + unhex(vector["salt"]))
    spi, sequence = int.from_bytes(esp[:4], "big"), int.from_bytes(esp[4:8], "big")
    check_both_ways(published(parse_esp_suite(suite), key, spi, sequence), unhex(vector["iv"]), packet, esp)


def test_cbc_tunnel_packet_of_dpdk() -> None:
    vector = dpdk("aes_128_cbc_hmac_sha256")
    packet, esp = unhex(vector["input_ip_packet"]), unhex(vector["output_ip_packet"])[20:]
    key = CipherKeys(unhex(vector["encr_key"]), unhex(vector["integ_key"]))
    path = path_with(left_keys(parse_esp_suite("aes128-sha256"), keys_in=key, keys_out=key))
    # Its SPI is a reserved one, which the SA by itself does not look at.
    inbound = path._children.sad.find(LEFT_SPI)
    assert inbound is not None
    opened = inbound.open(esp)
    assert opened == packet + bytes(range(1, 13)) + b"\x0c\x04"


def test_a_capture_of_packetgen() -> None:
    capture = shared_vectors("pcap", "packetgen", "esp4-gcm.pcapng")
    (sa,) = json.loads(capture.with_name("esp4-gcm.pcapng.keys.json").read_text())["sas"]
    sealed, clear, other = ip_packets(capture)
    key = CipherKeys(unhex(sa["encr_key"]) + unhex(sa["salt"]))
    path = path_with(published(parse_esp_suite("aes128gcm16"), key, int(sa["spi"], 16), 1))
    assert path.open([other[20:], sealed[20:]], TO_RIGHT, 0.0) == [clear]
    assert path.drops == {Drop.UNKNOWN_SPI: 1}
