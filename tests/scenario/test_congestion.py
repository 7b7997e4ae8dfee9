"""Routers that report congestion or change the treatment, and what the inner packets say afterwards."""

from collections.abc import Callable
from ipaddress import ip_address

import pytest

from espudp.ike.events import AddressAssigned
from espudp.wire import ecn
from espudp.wire.ip import UDP, build_ip, build_udp
from tests.reference import inner_reference
from tests.scenario.lab import POOL, SERVER_INSIDE, Lab, Terms
from tests.sim.host import Host
from tests.sim.link import Datagram, Quality

POOL6, SERVER_INSIDE6 = "fd00:99::/64", "fd00:99::1"
EF = 46 << 2
EVERY_ECN = (ecn.NOT_ECT, ecn.ECT_1, ecn.ECT_0, ecn.CE)


def packet(source: str, destination: str, tos: int, number: int) -> bytes:
    ends = ip_address(source).packed, ip_address(destination).packed
    udp = build_udp(*ends, 1000 + number, 2000, b"payload")[-15:]
    return build_ip(*ends, UDP, udp, tos=tos)


def connected(workers: int, quality: Quality) -> tuple[Lab, Host]:
    """With both versions inside, and NAT between."""
    terms = Terms(pool=(POOL, POOL6), request=("any4", "any6"), workers=workers)
    lab = Lab(terms=terms, quality=quality)
    client = lab.client(behind=lab.nat())
    lab.connect(client)
    return lab, client


def traffic(client: Host) -> tuple[list[bytes], list[bytes]]:
    """Packets of every ECN and of two treatments, all mixed; from the client, and for it."""
    there: list[bytes] = []
    back: list[bytes] = []
    for number in range(32):
        tos = EVERY_ECN[number % 4] | (EF if number % 3 else 0)
        for ours in client.told(AddressAssigned)[-1].addresses:
            theirs = SERVER_INSIDE6 if ":" in ours else SERVER_INSIDE
            there.append(packet(ours, theirs, tos, number))
            back.append(packet(theirs, ours, tos, number))
    return there, back


def carried(
    lab: Lab, sender: Host, receiver: Host, packets: list[bytes]
) -> tuple[list[Datagram], list[bytes]]:
    """What is outside and what arrives, for packets that are sent together."""
    outside: list[Datagram] = []
    arrived: list[bytes] = []
    sender.on_send.append(outside.append)
    receiver.on_packet.append(arrived.append)
    sender.send_packets(packets)
    lab.world.run(1.0)
    sender.on_send.remove(outside.append)
    receiver.on_packet.remove(arrived.append)
    return outside, arrived


REMARKS: dict[str, Callable[[int], int]] = {
    "nothing": lambda tos: tos,
    "congestion": lambda tos: tos | ecn.CE,
    "ECT(1)": lambda tos: tos & ~ecn.ECN | ecn.ECT_1 if tos & ecn.ECN == ecn.ECT_0 else tos,
    "bleached": lambda tos: 0,
    "another treatment": lambda tos: 8 << 2 | tos & ecn.ECN,
}


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("remark", REMARKS)
def test_news_of_the_outer_path_reaches_the_inner_packets(remark: str, workers: int) -> None:
    quality = Quality()
    lab, client = connected(workers, quality)
    quality.remark = REMARKS[remark]
    for sender, receiver, packets in zip(
        (client, lab.server), (lab.server, client), traffic(client), strict=True
    ):
        outside, arrived = carried(lab, sender, receiver, packets)
        assert sorted(d.tos for d in outside) == sorted(map(inner_reference.tos, packets))
        seen = (inner_reference.with_ecn(p, REMARKS[remark](inner_reference.tos(p))) for p in packets)
        expected = [packet for packet in seen if packet is not None]
        assert (arrived if workers == 1 else sorted(arrived)) == (
            expected if workers == 1 else sorted(expected)
        )
        lost = len(packets) - len(expected)
        assert receiver.tunnel.snapshot(lab.world.now).drops.get("congestion", 0) == lost
        assert (lost > 0) is (remark == "congestion")
