"""Demultiplexing of a NAT traversal port (RFC 3948 section 2)."""

import re

import pytest

from espudp.wire.buffer import Buffer
from espudp.wire.natt import KEEPALIVE, NON_ESP_MARKER, Kind, classify, spi_of
from tests.pcap import udp_datagrams
from tests.shared_vectors import shared_vectors


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (KEEPALIVE, Kind.KEEPALIVE),
        (b"", Kind.RUNT),
        (b"\x00", Kind.RUNT),
        (b"\xfe", Kind.RUNT),
        (b"\xff\xff", Kind.RUNT),
        (bytes(3), Kind.RUNT),
        # the marker alone is a (hopeless) IKE message, never an SPI
        (NON_ESP_MARKER, Kind.IKE),
        (NON_ESP_MARKER + b"\x01\x02\x03", Kind.IKE),
        (NON_ESP_MARKER + b"\x01" * 28, Kind.IKE),
        # an ESP header is 8 octets
        (b"\x00\x00\x01\x00" + bytes(3), Kind.RUNT),
        (b"\x00\x00\x01\x00" + bytes(4), Kind.ESP),
        (b"\x00\x00\x00\x01" + bytes(4), Kind.ESP),
        (b"\xff" * 8, Kind.ESP),
        (b"\xff" * 1400, Kind.ESP),
    ],
)
@pytest.mark.parametrize("as_buffer", [bytes, bytearray, memoryview])
def test_classify(
    data: bytes, kind: Kind, as_buffer: type[bytes] | type[bytearray] | type[memoryview]
) -> None:
    buffer: Buffer = as_buffer(data)
    assert classify(buffer) is kind


def test_the_spi_is_the_first_four_octets() -> None:
    assert spi_of(bytes.fromhex("c0ffee01 00000001 aa")) == 0xC0FFEE01
    assert spi_of(memoryview(bytes.fromhex("00000100 00000001"))) == 0x100


def test_a_captured_session_on_port_4500_falls_apart_as_tcpdump_says() -> None:
    def told(data: bytes) -> str:
        kind = classify(data)
        return f"ESP {spi_of(data):#x}" if kind is Kind.ESP else kind.name

    capture = udp_datagrams(shared_vectors("pcap", "tcpdump", "isakmp4500.pcap"))
    ours = [told(datagram.data) for datagram in capture if datagram.dport == 4500]
    reference = shared_vectors("pcap", "tcpdump", "isakmp4.out").read_text()
    theirs = []
    for line in reference.splitlines():
        if spi := re.search(r"UDP-encap: ESP\(spi=(\w+)", line):
            theirs.append(f"ESP {spi[1]}")
        elif "isakmp-nat-keep-alive" in line:
            theirs.append("KEEPALIVE")
        elif "NONESP-encap" in line:
            theirs.append("IKE")
    assert ours == theirs
    assert {"IKE", "KEEPALIVE", "ESP 0xf4dc0ae5"} <= set(ours)
