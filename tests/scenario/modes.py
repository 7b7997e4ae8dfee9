"""The modes of IPsec that are tried at middleboxes: espudp's own, and two that are beyond help."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from espudp.ike.events import ConnectionDown, ConnectionUp
from tests.scenario.bare import AuthenticationHeader, Envelope, TransportMode, exchanged
from tests.scenario.lab import Lab, Terms
from tests.scenario.test_rekey import rekey_child, rekey_ike
from tests.sim.host import Host
from tests.sim.link import Quality, Segment
from tests.sim.middlebox import Middlebox
from tests.sim.traffic import Flow
from tests.sim.world import World

MakeBox = Callable[[World, Segment], Middlebox | None]

CONNECT_SECONDS = 60.0
INTERVAL = 0.25
SILENCE = 95.0  # more than carriers wait, and the usual keepalive


class Mode(Protocol):
    """A way to carry packets."""

    @property
    def name(self) -> str:
        """As the table has it."""

    def disturbance(self, make_box: MakeBox, addresses: Sequence[str]) -> str:
        """What goes wrong with clients at these addresses, behind such a box; "" if nothing does."""


@dataclass(frozen=True)
class Negotiated:
    """Clients of ours connect at once, transfer, rekey at once, are silent, and transfer again."""

    name: str
    terms: Terms = field(default_factory=Terms)
    natt_only: bool = False

    def disturbance(self, make_box: MakeBox, addresses: Sequence[str]) -> str:
        lab = Lab(terms=self.terms, quality=Quality(latency=0.01, jitter=0.02))
        box = make_box(lab.world, lab.net)
        clients = [lab.client(f"client-{ip}", behind=box, ip=ip) for ip in addresses]
        for client in clients:
            client.connect(self.terms.connection(client.name), lab.server_ip, natt_only=self.natt_only)
        return next(self._story(lab, clients), "")

    def _story(self, lab: Lab, clients: list[Host]) -> Iterator[str]:
        try:
            lab.world.run_until(lambda: all(client.up for client in clients), within=CONNECT_SECONDS)
        except AssertionError:
            yield "not all get a connection"
            return
        flows = [flow for client in clients for flow in lab.flows(client, interval=INTERVAL)]
        for action in (rekey_child, rekey_ike):
            yield from self._transfer(lab, flows, 2.0)
            for client in clients:
                action(client)
            yield from self._transfer(lab, flows, 6.0)
        lab.world.run(SILENCE)
        yield from self._transfer(lab, flows[1::2], 2.0)  # from the server, which finds what is still open
        yield from self._transfer(lab, flows, 2.0)
        if any(host.told(ConnectionDown) for host in (*clients, lab.server)):
            yield "a connection is gone"
        if any(len(client.told(ConnectionUp)) != 1 for client in clients):
            yield "a client had to come back"

    def _transfer(self, lab: Lab, flows: Sequence[Flow], seconds: float) -> Iterator[str]:
        for flow in flows:
            flow.start()
        lab.world.run(seconds)
        for flow in flows:
            flow.stop()
        lab.world.run(0.2)
        for flow in flows:
            tally = flow.tally
            if tally.lost or tally.duplicated or tally.damaged:
                yield f"{tally.lost} of {tally.sent} packets are lost, {tally.damaged} damaged"


@dataclass(frozen=True)
class ByHand:
    """Packets that no stack of ours makes, between hosts that have their keys by hand."""

    name: str
    envelope: Envelope

    def disturbance(self, make_box: MakeBox, addresses: Sequence[str]) -> str:
        return exchanged(self.envelope, make_box, addresses)


MODES: tuple[Mode, ...] = (
    Negotiated("IKEv2"),
    Negotiated("IKEv2 from port 4500 on", natt_only=True),
    ByHand("transport mode without UDP or NAT-OA", TransportMode()),
    ByHand("AH", AuthenticationHeader()),
)
