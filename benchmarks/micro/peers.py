"""Two data paths with child SAs between them, and nothing in between."""

import os
from ipaddress import ip_address

from espudp import ChildKeys, CipherKeys, DataPath, EspSuite, Lifetime, Path, TrafficSelector, UdpAddress
from espudp.wire.vnet import Offload

SENDER, RECEIVER = UdpAddress("192.0.2.1", 4500), UdpAddress("192.0.2.2", 4500)
THERE, BACK = Path(SENDER, RECEIVER), Path(RECEIVER, SENDER)
EVERY_OFFLOAD = Offload.CHECKSUM | Offload.TSO4 | Offload.TSO6 | Offload.USO4 | Offload.USO6

_EVERYTHING = (TrafficSelector.from_network("0.0.0.0/0"), TrafficSelector.from_network("::/0"))
_FIRST_PEER = int(ip_address("10.128.0.0"))
_FIRST_SPI = 0x1000
_INNER_MTU = 1400


def peer_address(number: int) -> str:
    """Inside the tunnel, of the peer of that number."""
    return str(ip_address(_FIRST_PEER + number))


def pair(suite: EspSuite, sas: int = 1) -> tuple[DataPath, DataPath]:
    """A sender with so many child SAs and their receiver; one takes everything, several a peer each."""
    sender, receiver = DataPath(os.urandom), DataPath(os.urandom)
    for end in (sender, receiver):
        end.set_offloads(EVERY_OFFLOAD)
    for number in range(sas):
        here = _EVERYTHING if sas == 1 else (TrafficSelector.from_network(f"{peer_address(number)}/32"),)
        keys = new_keys(suite)
        sender.install(child(suite, keys, THERE, number, _EVERYTHING, here), 0.0)
        receiver.install(child(suite, keys, BACK, number, here, _EVERYTHING), 0.0)
    return sender, receiver


def new_keys(suite: EspSuite) -> CipherKeys:
    """Random ones."""
    integ = os.urandom(suite.integ.key_octets) if suite.integ else b""
    return CipherKeys(os.urandom(suite.encr.keymat_octets), integ)


def child(
    suite: EspSuite,
    keys: CipherKeys,
    path: Path,
    number: int,
    local: tuple[TrafficSelector, ...] = _EVERYTHING,
    remote: tuple[TrafficSelector, ...] = _EVERYTHING,
) -> ChildKeys:
    """One child SA with the same keys and the same SPI both ways."""
    return ChildKeys(
        connection=number + 1,
        spi_in=_FIRST_SPI + number,
        spi_out=_FIRST_SPI + number,
        suite=suite,
        keys_in=keys,
        keys_out=keys,
        local=local,
        remote=remote,
        path=path,
        lifetime=Lifetime(),
        follow_peer=False,
        inner_mtu=_INNER_MTU,
        replaces=None,
    )
