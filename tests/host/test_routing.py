"""Which networks go into the tunnel."""

from collections.abc import Iterable, Sequence
from ipaddress import ip_network
from typing import cast

import pytest

from espudp.host.netconf import NetConf, Network
from espudp.host.routing import Routing
from espudp.wire.selectors import TrafficSelector


class Recorder:
    """A network configuration that only notes the routes."""

    def __init__(self) -> None:
        self.routes: set[str] = set()

    def set_routes(
        self, device: str, networks: Iterable[Network], *, mark: int, sources: Sequence[str] = ()
    ) -> None:
        self.routes = {str(network) for network in networks}

    def own_addresses(self) -> list[str]:
        return ["10.3.0.1"]


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
    routing = Routing(cast(NetConf, conf), "esp0", 1, None if only is None else networks(*only))
    routing.add((1, 2), selectors("0.0.0.0/0", "::/0"), selectors(*carried))
    assert conf.routes == routed


def test_each_child_sa_has_its_routes() -> None:
    conf = Recorder()
    routing = Routing(cast(NetConf, conf), "esp0", 1)
    routing.add((1, 2), selectors("10.3.0.0/16"), selectors("10.1.0.0/16"))
    routing.add((1, 3), selectors("10.3.0.0/16"), selectors("10.2.0.0/16"))
    assert conf.routes == {"10.1.0.0/16", "10.2.0.0/16"}
    routing.remove((1, 2))
    assert conf.routes == {"10.2.0.0/16"}
