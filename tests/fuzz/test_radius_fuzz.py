"""RADIUS with garbage and with bent answers: passed over, and the answer behind them is found."""

import asyncio

from hypothesis import given, settings
from hypothesis import strategies as st

from espudp.host.radius import Radius, RadiusServer
from espudp.ike.eap.passthrough import Verdict
from tests.host.test_radius import QUESTION, SECRET, accept

SERVER = RadiusServer("127.0.0.1", secret=SECRET)
changes = st.lists(st.tuples(st.integers(0, 400), st.integers(1, 255)), min_size=1, max_size=4)


@settings(max_examples=150)
@given(st.lists(st.binary(max_size=80) | changes, max_size=8))
def test_what_is_no_answer_is_passed_over(noise: list[bytes | list[tuple[int, int]]]) -> None:
    async def run() -> Verdict:
        radius = Radius([SERVER])
        request = radius._request(SERVER, QUESTION, "192.0.2.7")
        (answer,) = accept(request.RequestPacket())
        heard: asyncio.Queue[bytes] = asyncio.Queue()
        for item in noise:
            heard.put_nowait(item if isinstance(item, bytes) else _bent(answer, item))
        heard.put_nowait(answer)
        found = await radius._answer(0, request, heard)
        assert heard.empty() or any(not isinstance(item, bytes) for item in noise)
        return found.verdict

    assert asyncio.run(run()) is Verdict.ACCEPT


def _bent(octets: bytes, changed: list[tuple[int, int]]) -> bytes:
    bent = bytearray(octets)
    for at, change in changed:
        bent[at % len(bent)] ^= change
    return bytes(bent)
