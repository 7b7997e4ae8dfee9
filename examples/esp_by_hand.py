"""ESP sealed and opened by hand: the data path alone, with keys from nowhere in particular and no IKE."""

import os

from espudp import (
    ChildKeys,
    CipherKeys,
    DataPath,
    Lifetime,
    Path,
    TrafficSelector,
    UdpAddress,
    parse_esp_suite,
)

LEFT = UdpAddress("192.0.2.1", 4500)
RIGHT = UdpAddress("192.0.2.2", 4500)
PACKET = bytes.fromhex("45000019000040004011d1120a0000010a000002") + b"hello"

suite = parse_esp_suite("aes256gcm16")
there, back = (CipherKeys(os.urandom(suite.encr.keymat_octets)) for _ in range(2))
left_net, right_net = ((TrafficSelector.from_network(net),) for net in ("10.0.0.1/32", "10.0.0.2/32"))


def child(path: Path, spi_in: int, spi_out: int, keys_in: CipherKeys, keys_out: CipherKeys) -> ChildKeys:
    """The two SAs of one end."""
    return ChildKeys(
        connection=1,
        spi_in=spi_in,
        spi_out=spi_out,
        suite=suite,
        keys_in=keys_in,
        keys_out=keys_out,
        local=left_net if path.local == LEFT else right_net,
        remote=right_net if path.local == LEFT else left_net,
        path=path,
        lifetime=Lifetime(),
        follow_peer=False,
        inner_mtu=1400,
        replaces=None,
    )


left, right = DataPath(os.urandom), DataPath(os.urandom)
left.install(child(Path(LEFT, RIGHT), 0x1001, 0x2002, back, there), now=0.0)
right.install(child(Path(RIGHT, LEFT), 0x2002, 0x1001, there, back), now=0.0)

for path, datagrams, _ in left.seal([PACKET], now=0.0):
    print(f"sealed: {path}, {len(PACKET)} octets became {len(datagrams[0])}")
    print(f"opened: {right.open(datagrams, Path(RIGHT, LEFT), now=0.0) == [PACKET]}")
    print(f"replayed: {right.open(datagrams, Path(RIGHT, LEFT), now=0.0)}")
    forged = bytearray(datagrams[0])
    forged[7] += 1
    print(f"forged: {right.open([forged], Path(RIGHT, LEFT), now=0.0)}")
print("drops:", ", ".join(f"{reason.value} {count}" for reason, count in right.drops.items()))
