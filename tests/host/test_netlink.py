"""The messages to the kernel, against pyroute2's idea of them."""

from typing import Any

import pytest
from pyroute2.netlink.rtnl.fibmsg import fibmsg
from pyroute2.netlink.rtnl.ifaddrmsg import ifaddrmsg
from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg
from pyroute2.netlink.rtnl.rtmsg import rtmsg

from espudp.host.netlink import DeviceAddress, Netlink, Route, Rule


class Recorder(Netlink):
    """Sends nothing."""

    def __init__(self) -> None:
        self.sent: list[bytes] = []

    def _request(self, body: bytes, kind: int, flags: int) -> list[bytes]:
        self.sent.append(body)
        return []


def read(kind: type, body: bytes) -> tuple[Any, dict[str, Any]]:
    """The fields of a message and its attributes, as pyroute2 reads them."""
    header = (len(body) + 16).to_bytes(4, "little") + bytes(12)
    message = kind(header + body)
    message.decode()
    return message, {name: value for name, value in message["attrs"]}


@pytest.mark.parametrize(
    ("address", "prefix_route", "family", "own", "length", "flags"),
    [("10.7.0.1/24", False, 2, "10.7.0.1", 24, 0x202), ("2001:db8::7/64", True, 10, "2001:db8::7", 64, 0x02)],
)
def test_an_address(address: str, prefix_route: bool, family: int, own: str, length: int, flags: int) -> None:
    recorder = Recorder()
    recorder.add_address(DeviceAddress(7, address, prefix_route))
    message, attributes = read(ifaddrmsg, recorder.sent[0])
    assert (message["family"], message["prefixlen"], message["index"]) == (family, length, 7)
    assert attributes == {"IFA_LOCAL": own, "IFA_ADDRESS": own, "IFA_FLAGS": flags}


@pytest.mark.parametrize(
    ("route", "fields", "expected"),
    [
        (
            Route("10.0.0.0/9", 7, 0x2000_0007, "10.9.9.9"),
            {"family": 2, "dst_len": 9, "table": 0, "proto": 4, "type": 1, "scope": 253},
            {"RTA_TABLE": 0x2000_0007, "RTA_OIF": 7, "RTA_DST": "10.0.0.0", "RTA_PREFSRC": "10.9.9.9"},
        ),
        (
            Route("::/0", 7),
            {"family": 10, "dst_len": 0, "table": 0, "proto": 4, "type": 1, "scope": 0},
            {"RTA_TABLE": 254, "RTA_OIF": 7},
        ),
    ],
)
def test_a_route(route: Route, fields: dict[str, int], expected: dict[str, Any]) -> None:
    recorder = Recorder()
    recorder.add_route(route)
    recorder.delete_route(route)
    for sent in recorder.sent:
        message, attributes = read(rtmsg, sent)
        assert {name: message[name] for name in fields} == fields
        assert attributes == expected


@pytest.mark.parametrize(
    ("rule", "fields", "expected"),
    [
        (
            Rule(20_016, 254, "10.0.0.0/9", suppress_prefix=9),
            {"family": 2, "dst_len": 9, "action": 1, "flags": 0},
            {"FRA_PRIORITY": 20_016, "FRA_TABLE": 254, "FRA_DST": "10.0.0.0", "FRA_SUPPRESS_PREFIXLEN": 9},
        ),
        (
            Rule(20_257, 0x2000_0007, "::/0", unless_mark=0x2000_0000),
            {"family": 10, "dst_len": 0, "action": 1, "flags": 0},
            {
                "FRA_PRIORITY": 20_257,
                "FRA_TABLE": 0x2000_0007,
                "FRA_FWMARK": 0,
                "FRA_FWMASK": 0x2000_0000,
            },
        ),
    ],
)
def test_a_rule(rule: Rule, fields: dict[str, int], expected: dict[str, Any]) -> None:
    recorder = Recorder()
    recorder.add_rule(rule)
    message, attributes = read(fibmsg, recorder.sent[0])
    assert {name: message[name] for name in fields} == fields
    assert attributes == expected


def test_a_link() -> None:
    recorder = Recorder()
    recorder.set_link(7, gso_max_segs=44)
    recorder.set_link(7, queue_packets=4096)
    read_back = [read(ifinfmsg, sent) for sent in recorder.sent]
    assert [message["index"] for message, _ in read_back] == [7, 7]
    assert [attributes for _, attributes in read_back] == [{"IFLA_GSO_MAX_SEGS": 44}, {"IFLA_TXQLEN": 4096}]
