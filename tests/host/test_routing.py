"""Which networks go into the tunnel."""

from collections.abc import Iterable, Sequence
from ipaddress import ip_network
from typing import cast

import pytest

from espudp.host.guard import Guard
from espudp.host.netconf import Flow, NetConf, Network
from espudp.host.routing import Routing
from espudp.wire.selectors import TrafficSelector


class Recorder:
    """A network configuration that only notes the routes, and a guard that knows of the same flows."""

    def __init__(self) -> None:
        self.routes: set[str] = set()
        self.flows: set[str] = set()
        self.accepted: list[str] = []

    def set_routes(
        self, device: str, networks: Iterable[Network], *, mark: int, sources: Sequence[str] = ()
    ) -> None:
        self.routes = {str(network) for network in networks}

    def set_flows(
        self, device: str, flows: Iterable[Flow], *, mark: int, stand_ins: Sequence[Network]
    ) -> None:
        self.flows = {f"{flow.local} {flow.remote}" for flow in flows}

    def protect(self, flows: Iterable[Flow]) -> None:
        assert {f"{flow.local} {flow.remote}" for flow in flows} == self.flows

    def accept_outer(self, peer: str, mark: int) -> None:
        self.accepted.append(peer)

    def own_addresses(self) -> list[str]:
        return ["10.3.0.1"]


def routing_of(conf: Recorder, only: tuple[Network, ...] | None = None) -> Routing:
    return Routing(cast(NetConf, conf), cast(Guard, conf), "esp0", 1, only)


def networks(*texts: str) -> tuple[Network, ...]:
    return tuple(ip_network(text) for text in texts)


def selectors(*texts: str) -> tuple[TrafficSelector, ...]:
    return tuple(TrafficSelector.from_network(text) for text in texts)


@pytest.mark.parametrize(
    ("only", "carried", "routed"),
    [
        (None, ["10.1.0.0/16", "fd00::/8"], {"10.1.0.0/16", "fd00::/8"}),
        (["10.1.0.0/16", "10.2.0.0/16"], ["0.0.0.0/0"], {"10.1.0.0/16", "10.2.0.0/16"}),
        (["10.0.0.0/8"], ["10.1.0.0/16", "192.168.0.0/24"], {"10.1.0.0/16"}),
        (["fd00::/8"], ["0.0.0.0/0", "::/0"], {"fd00::/8"}),
        (["fd00::/8"], ["0.0.0.0/0"], set()),
    ],
)
def test_routes_may_be_narrower_than_what_is_negotiated(
    only: list[str] | None, carried: list[str], routed: set[str]
) -> None:
    conf = Recorder()
    routing = routing_of(conf, None if only is None else networks(*only))
    routing.add((1, 2), selectors("0.0.0.0/0", "::/0"), selectors(*carried))
    assert conf.routes == routed


def test_each_child_sa_has_its_routes() -> None:
    conf = Recorder()
    routing = routing_of(conf)
    routing.add((1, 2), selectors("10.3.0.0/16"), selectors("10.1.0.0/16"))
    routing.add((1, 3), selectors("10.3.0.0/16"), selectors("10.2.0.0/16"))
    assert conf.routes == {"10.1.0.0/16", "10.2.0.0/16"}
    routing.remove((1, 2))
    assert conf.routes == {"10.2.0.0/16"}


def ported(text: str, protocol: int, port: int | None = None) -> TrafficSelector:
    whole = TrafficSelector.from_network(text)
    return TrafficSelector(whole.first, whole.last, protocol, *((0, 65535) if port is None else (port, port)))


def test_child_sas_in_transport_mode_have_flows() -> None:
    conf = Recorder()
    routing = routing_of(conf)
    routing.peers_come_and_go = True
    local = (ported("192.0.2.1", 17, 1701), *selectors("2001:db8::1"))
    remote = (ported("192.0.2.7", 17), ported("192.0.2.7", 6), *selectors("2001:db8::7"))
    routing.add_flows((1, 2), local, remote)
    routing.add_flows((2, 3), local[:1], (ported("192.0.2.8", 17),))
    assert conf.flows == {
        "192.0.2.1/32[udp/1701] 192.0.2.7/32[udp/any]",
        "192.0.2.1/32[udp/1701] 192.0.2.8/32[udp/any]",
        "2001:db8::1/128 2001:db8::7/128",
    }
    assert routing.has_ipv6
    assert not conf.routes
    routing.peer_at("192.0.2.8")
    assert conf.accepted == [], "its outer packets are no UDP of port 1701"
    routing.peer_at("2001:db8::7")
    assert conf.accepted == ["2001:db8::7"]
    routing.add_flows((3, 4), (ported("192.0.2.1", 17),), (ported("192.0.2.9", 17),))
    routing.peer_at("192.0.2.9")
    assert conf.accepted == ["2001:db8::7", "192.0.2.9"], "ESP in UDP is one of those flows"
    routing.remove_connection(3)
    routing.remove_connection(1)
    assert conf.flows == {"192.0.2.1/32[udp/1701] 192.0.2.8/32[udp/any]"}
    assert not routing.has_ipv6
    routing.remove((2, 3))
    assert conf.flows == set()


def test_who_dials_keeps_flows_in_the_tunnel_until_the_peer_is_back() -> None:
    conf = Recorder()
    routing = routing_of(conf)
    routing.add_flows((1, 2), selectors("192.0.2.1"), selectors("192.0.2.7"))
    routing.remove_connection(1)
    assert conf.flows == {"192.0.2.1/32 192.0.2.7/32"}
    routing.add_flows((2, 3), selectors("192.0.2.1"), selectors("192.0.2.8"))
    assert conf.flows == {"192.0.2.1/32 192.0.2.8/32"}
