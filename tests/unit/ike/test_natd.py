"""NAT detection hashes, against those of real exchanges (RFC 7296 section 2.23)."""

import json

import pytest

from espudp.ike.natd import NatStatus, detect, natd_data, natd_hash
from espudp.wire.address import Path, UdpAddress
from tests.shared_vectors import shared_vectors

_SPI_I, _SPI_R = bytes(range(8)), bytes(range(8, 16))
_HERE, _THERE, _MAPPED = (
    UdpAddress("192.0.2.1", 500),
    UdpAddress("2001:db8::2", 500),
    UdpAddress("192.0.2.9", 40000),
)


def test_hashes_of_real_exchanges() -> None:
    vectors = json.loads(shared_vectors("natd", "natd_from_captures.json").read_text())["vectors"]
    ours = [v for v in vectors if v["version"] == 2]
    assert len(ours) > 3
    for v in ours:
        address = UdpAddress(v["ip"], v["port"])
        made = natd_hash(bytes.fromhex(v["spi_i"]), bytes.fromhex(v["spi_r"]), address)
        assert (made.hex() == v["data"]) == v["matches_packet_headers"], v


def _seen(path: Path, *, sent_on: Path, force_encap: bool = False) -> NatStatus | None:
    source, destination = natd_data(_SPI_I, _SPI_R, sent_on, force_encap=force_encap)
    return detect(_SPI_I, _SPI_R, path, [bytes(20), source], [destination])


def test_no_nat() -> None:
    assert _seen(Path(_THERE, _HERE), sent_on=Path(_HERE, _THERE)) == NatStatus(local=False, remote=False)


def test_the_sender_is_behind_a_nat() -> None:
    assert _seen(Path(_THERE, _MAPPED), sent_on=Path(_HERE, _THERE)) == NatStatus(local=False, remote=True)


def test_the_receiver_is_behind_a_nat() -> None:
    assert _seen(Path(_MAPPED, _HERE), sent_on=Path(_HERE, _THERE)) == NatStatus(local=True, remote=False)


def test_a_port_makes_a_difference_too() -> None:
    path = Path(_THERE, UdpAddress(_HERE.ip, 1024))
    assert _seen(path, sent_on=Path(_HERE, _THERE)) == NatStatus(local=False, remote=True)


def test_forced_encapsulation_looks_like_a_nat() -> None:
    status = _seen(Path(_THERE, _HERE), sent_on=Path(_HERE, _THERE), force_encap=True)
    assert status == NatStatus(local=False, remote=True)


@pytest.mark.parametrize(("sources", "destinations"), [([], []), ([bytes(20)], []), ([], [bytes(20)])])
def test_a_peer_without_nat_traversal(sources: list[bytes], destinations: list[bytes]) -> None:
    assert detect(_SPI_I, _SPI_R, Path(_HERE, _THERE), sources, destinations) is None


def test_hashes_of_any_length_do_no_harm() -> None:
    assert detect(_SPI_I, _SPI_R, Path(_HERE, _THERE), [b""], [bytes(300)]) == NatStatus(
        local=True, remote=True
    )


@pytest.mark.parametrize(
    ("status", "text"),
    [
        (NatStatus(), "none"),
        (NatStatus(local=True), "this side"),
        (NatStatus(remote=True), "the peer"),
        (NatStatus(local=True, remote=True), "both sides"),
    ],
)
def test_text(status: NatStatus, text: str) -> None:
    assert str(status) == text
