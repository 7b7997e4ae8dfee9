"""The TUN device, against the kernel's own."""

import errno
import os
import socket
from collections.abc import Iterator

import pytest
import pytun
from pyroute2 import IPRoute

from espudp.errors import ConfigError, HostError
from espudp.host.netlink import DeviceAddress, Netlink
from espudp.host.netns import Namespace
from espudp.host.tun import TunDevice
from espudp.offload import finished
from espudp.wire.buffer import Buffer
from espudp.wire.vnet import Frame

pytestmark = [pytest.mark.root, pytest.mark.tun]


@pytest.fixture
def namespace() -> Iterator[Namespace]:
    with Namespace() as made, made.inside():
        yield made


@pytest.fixture(params=[True, False], ids=["offload", "plain"])
def device(namespace: Namespace, request: pytest.FixtureRequest) -> Iterator[TunDevice]:
    made = TunDevice("esp%d", 1400, offload=request.param)
    made.up()
    netlink = Netlink()
    netlink.add_address(DeviceAddress(socket.if_nametoindex(made.name), "10.7.0.1/24", prefix_route=True))
    netlink.close()
    yield made
    made.close()


def whole(packet: Buffer | Frame) -> bytes:
    """As it would leave without offloads."""
    return bytes(finished(packet) if isinstance(packet, Frame) else packet)


def test_a_pattern_becomes_the_first_free_number(device: TunDevice) -> None:
    second = TunDevice("esp%d", 1300)
    assert (device.name, second.name) == ("esp0", "esp1")
    assert (device.mtu, second.mtu) == (1400, 1300)
    second.close()


def test_packets_come_in_batches_and_in_order(device: TunDevice) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        for number in range(10):
            sender.sendto(bytes([number]) * 100, ("10.7.0.2", 9))
    first = [whole(packet) for packet in device.read_batch(4)]
    assert [packet[-1] for packet in first] == [0, 1, 2, 3]
    assert all(packet[0] == 0x45 and len(packet) == 128 for packet in first)
    assert [whole(packet)[-1] for packet in device.read_batch(64)] == [4, 5, 6, 7, 8, 9]
    assert device.read_batch(64) == []


def test_an_idle_device_sends_nothing_of_its_own(device: TunDevice) -> None:
    with IPRoute() as ip:
        addresses = {a.get_attr("IFA_ADDRESS") for a in ip.get_addr(label=device.name)}
    assert addresses == {"10.7.0.1"}
    assert device.read_batch(64) == []


def test_what_is_written_arrives_and_what_is_not_ip_is_counted(device: TunDevice) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver:
        receiver.bind(("10.7.0.1", 0))
        receiver.settimeout(2)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            sender.bind(("10.7.0.1", 0))
            sender.sendto(b"hello", ("10.7.0.2", receiver.getsockname()[1]))
        packet = whole(device.read_batch(1)[0])
        back = packet[:12] + packet[16:20] + packet[12:16] + packet[20:26] + b"\0\0" + packet[28:]
        device.write_batch([b"\x00not IP", memoryview(back), b""])
        assert receiver.recv(100) == b"hello"
    assert sum(device.write_errors.values()) == 2
    assert device.write_errors[errno.EINVAL] == 2


def test_a_device_that_is_down_refuses_packets_without_raising(namespace: Namespace) -> None:
    down = TunDevice("esp%d", 1400)
    down.write_batch([bytes([0x45]) + bytes(27)])
    assert down.write_errors == {errno.EIO: 1}
    assert down.read_batch(1) == []
    down.close()


def test_a_removed_device_is_said_to_be(device: TunDevice) -> None:
    with IPRoute() as ip:
        ip.link("del", index=socket.if_nametoindex(device.name))
    with pytest.raises(HostError, match="esp0 was removed"):
        device.read_batch(1)


def test_a_name_in_use(device: TunDevice) -> None:
    with pytest.raises(HostError, match="Device or resource busy") as caught:
        TunDevice(device.name, 1400)
    assert "--dev" in caught.value.remedy


@pytest.mark.parametrize("name", ["", "much-too-long-for-it", "a/b", "with space", "ü"])
def test_an_impossible_name(name: str) -> None:
    with pytest.raises(ConfigError, match="cannot be the name"):
        TunDevice(name, 1400)


@pytest.mark.parametrize(
    ("code", "said", "remedy"),
    [
        (errno.ENOENT, "/dev/net/tun is missing", "modprobe tun"),
        (errno.ENODEV, "/dev/net/tun is missing", "mknod"),
        (errno.EPERM, "not permitted", "CAP_NET_ADMIN"),
        (errno.EINVAL, "Invalid argument", "another kind"),
    ],
)
def test_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch, code: int, said: str, remedy: str) -> None:
    def refuse(**_: object) -> None:
        raise pytun.Error(code, os.strerror(code))

    told: list[str] = []
    monkeypatch.setattr(pytun, "TunTapDevice", refuse)
    with pytest.raises(HostError, match=said) as caught:
        TunDevice("esp0", 1400, on_limit=told.append)
    assert remedy in caught.value.remedy
    assert told == []


def test_a_name_of_an_interface_of_another_kind(namespace: Namespace) -> None:
    with pytest.raises(HostError, match="could not be made") as caught:
        TunDevice("lo", 1400)
    assert "another kind" in caught.value.remedy
