"""A session between two peers in memory, written as a capture, and what tshark makes of it with the keys."""

import struct
import subprocess
from collections.abc import Sequence
from ipaddress import ip_address
from pathlib import Path as FilePath
from typing import NamedTuple
from xml.etree import ElementTree

from espudp.crypto.aead import CipherKeys
from espudp.crypto.suites import Encr, Integ
from espudp.ike.keylog import ChildKeyLog, IkeKeyLog, IsakmpKeyLog, KeyLogEntry
from espudp.wire.address import Path

# https://www.tcpdump.org/linktypes.html
LINKTYPE_RAW_IP = 101


class Captured(NamedTuple):
    path: Path  # as its sender sees it
    payload: bytes


def checksum(data: bytes) -> int:
    total: int = sum(struct.unpack(f">{len(data) // 2}H", data))
    total = (total & 0xFFFF) + (total >> 16)
    return ~((total & 0xFFFF) + (total >> 16)) & 0xFFFF


def ipv4(source: str, destination: str, protocol: int, payload: bytes) -> bytes:
    addresses = ip_address(source).packed + ip_address(destination).packed
    front = struct.pack(">BBHHHBB", 0x45, 0, 20 + len(payload), 0, 0x4000, 64, protocol)
    return front + checksum(front + bytes(2) + addresses).to_bytes(2) + addresses + payload


def udp(source_port: int, destination_port: int, payload: bytes) -> bytes:
    return struct.pack(">HHHH", source_port, destination_port, 8 + len(payload), 0) + payload


def write_pcap(path: FilePath, captured: Sequence[Captured]) -> None:
    with path.open("wb") as file:
        file.write(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, LINKTYPE_RAW_IP))
        for second, ((local, remote), payload) in enumerate(captured):
            packet = ipv4(local.ip, remote.ip, 17, udp(local.port, remote.port, payload))
            file.write(struct.pack("<IIII", second, 0, len(packet), len(packet)) + packet)


# Wireshark's names for what we speak, in its two key tables. Its ESP table has no ChaCha20-Poly1305, AES-CCM
# and GMAC, and neither has MACs that are made of AES.
ESP_ENCR = {
    3: "TripleDES-CBC [RFC2451]",
    11: "NULL",
    12: "AES-CBC [RFC3602]",
    13: "AES-CTR [RFC3686]",
    18: "AES-GCM with 8 octet ICV [RFC4106]",
    19: "AES-GCM with 12 octet ICV [RFC4106]",
    20: "AES-GCM with 16 octet ICV [RFC4106]",
}
ESP_INTEG = {
    0: "NULL",
    2: "HMAC-SHA-1-96 [RFC2404]",
    12: "HMAC-SHA-256-128 [RFC4868]",
    13: "HMAC-SHA-384-192 [RFC4868]",
    14: "HMAC-SHA-512-256 [RFC4868]",
}
IKE_ENCR = {
    3: "3DES [RFC2451]",
    12: "AES-CBC-{bits} [RFC3602]",
    14: "AES-CCM-{bits} with 8 octet ICV [RFC5282]",
    15: "AES-CCM-{bits} with 12 octet ICV [RFC5282]",
    16: "AES-CCM-{bits} with 16 octet ICV [RFC5282]",
    18: "AES-GCM-{bits} with 8 octet ICV [RFC5282]",
    19: "AES-GCM-{bits} with 12 octet ICV [RFC5282]",
    20: "AES-GCM-{bits} with 16 octet ICV [RFC5282]",
}
IKE_INTEG = {
    0: "NONE [RFC4306]",
    2: "HMAC_SHA1_96 [RFC2404]",
    12: "HMAC_SHA2_256_128 [RFC4868]",
    13: "HMAC_SHA2_384_192 [RFC4868]",
    14: "HMAC_SHA2_512_256 [RFC4868]",
}


def _id(integ: Integ | None) -> int:
    return integ.transform_id if integ else 0


def _table(name: str, fields: Sequence[str]) -> list[str]:
    return ["-o", f"uat:{name}:{','.join(fields)}"]


def _text(*fields: str) -> list[str]:
    """Texts stand in quotes; the octets of the IKEv2 table do not."""
    return [f'"{field}"' for field in fields]


def _esp_row(
    source: str, destination: str, spi: int, encr: Encr, integ: Integ | None, keys: CipherKeys
) -> list[str]:
    row = _text("IPv4", source, destination, f"{spi:#010x}")
    row += _text(ESP_ENCR[encr.transform_id], f"0x{keys.encr.hex()}")
    row += _text(ESP_INTEG[_id(integ)], f"0x{keys.integ.hex()}" if integ else "")
    return _table("esp_sa", row)


def key_tables(keys: Sequence[KeyLogEntry]) -> list[str]:
    """tshark's options that give it the keys of a session."""
    options = []
    for entry in keys:
        match entry:
            case ChildKeyLog(path=(local, remote), suite=suite):
                options += _esp_row(
                    remote.ip, local.ip, entry.spi_in, suite.encr, suite.integ, entry.keys_in
                ) + _esp_row(local.ip, remote.ip, entry.spi_out, suite.encr, suite.integ, entry.keys_out)
            case IsakmpKeyLog(cookie_i=cookie, key=key):
                options += _table("ikev1_decryption_table", [cookie.hex(), key.hex()])
            case IkeKeyLog(keys=secret, suite=suite):
                encr = IKE_ENCR[suite.encr.transform_id].format(bits=suite.encr.key_bits)
                integ = IKE_INTEG[_id(suite.integ)]
                row = [entry.spi_i.hex(), entry.spi_r.hex(), secret.ei.hex(), secret.er.hex(), *_text(encr)]
                row += [secret.ai.hex(), secret.ar.hex(), *_text(integ)]
                options += _table("ikev2_decryption_table", row)
    return options


class Field(NamedTuple):
    """One field of a dissected packet: its value, and the line that Wireshark shows for it."""

    name: str
    value: str
    line: str


def tshark(capture: FilePath, keys: Sequence[KeyLogEntry]) -> list[list[Field]]:
    """What tshark sees in each packet of a capture when it has the keys, in the order of the packet."""
    checks = ["-o", "esp.enable_encryption_decode:TRUE", "-o", "esp.enable_authentication_check:TRUE"]
    done = subprocess.run(
        ["tshark", "-T", "pdml", "-r", str(capture), *checks, *key_tables(keys)],
        capture_output=True,
        timeout=60,
        check=True,
    )
    packets = ElementTree.fromstring(done.stdout).iter("packet")
    return [[_field(element) for element in packet.iter("field")] for packet in packets]


def _field(element: ElementTree.Element) -> Field:
    return Field(*(element.get(key, "") for key in ("name", "show", "showname")))
