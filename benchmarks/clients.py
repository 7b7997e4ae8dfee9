"""Any number of IKE clients, without a tunnel device of their own."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from benchmarks.agent import Agent
from benchmarks.lab import Lab, TunnelError
from benchmarks.tunnels.base import Tunnel
from espudp.host.demo import SERVER_IP

# An initiator has as much to compute as a responder: one process of them could not keep it busy.
PROCESSES = 2


@contextmanager
def clients(lab: Lab, tunnel: Tunnel, count: int, seconds: float) -> Iterator[tuple[int, float]]:
    """Shake hands `count` times, or for so long; how many were served, and how many a second.

    They stay connected until the block's end. Raises TunnelError if nobody is served.
    """
    shares = [len(range(number, count, PROCESSES)) for number in range(PROCESSES)]
    with ExitStack() as stack:
        agents = [
            stack.enter_context(
                Agent(
                    *(lab, lab.client, "initiators"),
                    *(SERVER_IP, tunnel.ike_suite, tunnel.esp_suite, str(share), str(seconds)),
                )
            )
            for share in shares
        ]
        for agent in agents:
            agent.tell(tunnel.psk)
        said = [agent.answer() for agent in agents]
        served = sum(one["served"] for one in said)
        if not served:
            raise TunnelError(f"no handshake succeeds; {sum(one['refused'] for one in said)} were refused")
        yield served, sum(one["served"] / one["seconds"] for one in said)
