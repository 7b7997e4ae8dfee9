"""What `connect` does before there is a connection: looking a name up, choosing an address, waiting."""

import asyncio
import socket
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from espudp.errors import HostError
from espudp.host.connect import RETRY_SECONDS_MAX, RETRY_SECONDS_MIN, ConnectSession
from espudp.host.options import ConnectOptions, Report, Severity
from espudp.ike.config import ChildConfig, ConnectionConfig, Identity
from espudp.ike.credentials import Psk, PskOf
from espudp.ike.events import ConnectionDown, ConnectionUp, Fault
from espudp.ike.ikev1_config import Ikev1Config
from espudp.ike.natd import NatStatus
from espudp.wire.address import Path, UdpAddress
from espudp.wire.selectors import TrafficSelector

CHILD = ChildConfig(remote=(TrafficSelector.from_network("10.0.0.0/8"),))
CONFIG = ConnectionConfig(
    local_identity=Identity.parse("@us"), proof=Psk(b"secret"), demand=PskOf(b"secret"), child=CHILD
)


class Session(ConnectSession):
    """With sockets, and without a device or a loop of its own."""

    def __init__(self, host: str, config: ConnectionConfig = CONFIG, **options: Any) -> None:
        self.said: list[Report] = []
        super().__init__(ConnectOptions(host=host, config=config, **options), self.said.append)
        self.delays: list[float] = []
        self.codes: list[int] = []
        self.mark = 0  # root's privilege

    def _dial_after(self, delay: float) -> None:
        self.delays.append(delay)
        self._current = None  # all that comes is about the next try

    def end(self, code: int) -> None:
        self.codes.append(code)


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What the name service says, one after another."""
    said: list[Any] = []

    async def getaddrinfo(*_: object, **__: object) -> Any:
        answer = said.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return [(0, 0, 0, "", (ip, 0)) for ip in answer]

    monkeypatch.setattr(asyncio.BaseEventLoop, "getaddrinfo", getaddrinfo)
    return said


NOT_FOUND = socket.gaierror(socket.EAI_NONAME, "Name or service not known")


def test_an_address_is_not_looked_up(answers: list[Any]) -> None:
    assert asyncio.run(Session("192.0.2.7")._look_up()) == ["192.0.2.7"]
    assert asyncio.run(Session("2001:DB8::7")._look_up()) == ["2001:db8::7"]


def test_a_name_that_was_never_found(answers: list[Any]) -> None:
    answers.append(NOT_FOUND)
    with pytest.raises(HostError, match=r"peer\.example was not found: Name or service not known") as caught:
        asyncio.run(Session("peer.example")._look_up())
    assert "spelling" in caught.value.remedy


def test_a_name_service_that_is_silent(answers: list[Any]) -> None:
    answers.append(TimeoutError())
    with pytest.raises(HostError, match="the name service does not answer"):
        asyncio.run(Session("peer.example")._look_up())


def test_a_name_is_looked_up_again_and_the_last_answer_kept(answers: list[Any]) -> None:
    session = Session("peer.example")
    answers += [["192.0.2.1", "192.0.2.1", "192.0.2.2"], NOT_FOUND, ["192.0.2.3"]]
    assert asyncio.run(session._look_up()) == ["192.0.2.1", "192.0.2.2"]
    assert asyncio.run(session._look_up()) == ["192.0.2.1", "192.0.2.2"]
    assert asyncio.run(session._look_up()) == ["192.0.2.3"]


def test_each_try_takes_the_next_address(answers: list[Any]) -> None:
    session = Session("peer.example", bind="127.0.0.1")
    sockets = session.open_sockets()
    answers += [["127.0.0.2", "::1", "127.0.0.3"]] * 3
    found = []
    for failures in range(3):
        session._failures = failures
        found.append(asyncio.run(session._find_peer())[0])
    assert found == ["127.0.0.2", "127.0.0.3", "127.0.0.3"]  # ::1 is not of the sockets' IP version
    sockets.close()


def test_no_address_of_our_ip_version(answers: list[Any]) -> None:
    session = Session("peer.example", bind="127.0.0.1")
    sockets = session.open_sockets()
    answers.append(["::1"])
    with pytest.raises(HostError, match="no address of the IP version"):
        asyncio.run(session._find_peer())
    sockets.close()


@pytest.mark.parametrize(
    ("options", "first", "then"),
    [
        ({}, 500, 4500),
        ({"port": 4600, "ike_port": 600}, 600, 4600),
        ({"port": 4600, "ike_port": None}, 4600, None),
    ],
)
def test_where_ike_starts_and_goes_on(options: dict[str, Any], first: int, then: int | None) -> None:
    """RFC 7296 section 2.23: from port 500 to 4500; `--port` alone: start there."""
    session = Session("127.0.0.2", bind="127.0.0.1", **options)
    sockets = session.open_sockets()
    remote_ip, way = asyncio.run(session._find_peer())
    path, float_path = session._paths_to(remote_ip, way)
    assert path.remote == UdpAddress("127.0.0.2", first)
    assert (float_path.remote.port if float_path else None) == then
    for used in filter(None, (path, float_path)):
        assert sockets.for_path(used) is not None
        assert used.local.ip == "127.0.0.1"
    sockets.close()


def _down(*, retry: bool) -> ConnectionDown:
    return ConnectionDown(1, "no answer", "Wait.", Fault.TIMEOUT, retry)


def _handle(session: Session, times: int, event: Callable[[], ConnectionDown]) -> None:
    for _ in range(times):
        session.handle(event())


def test_waits_grow_up_to_a_minute_and_are_shortened_by_chance() -> None:
    session = Session("192.0.2.7")
    _handle(session, 30, lambda: _down(retry=True))
    longest = [min(RETRY_SECONDS_MIN * 2**n, RETRY_SECONDS_MAX) for n in range(30)]
    assert all(most / 2 <= delay <= most for most, delay in zip(longest, session.delays, strict=True))
    assert len(set(session.delays)) == 30
    assert {said.severity for said in session.said} == {Severity.WARNING}
    assert session.said[0].remedy == "Wait."
    assert session.codes == []


@pytest.mark.parametrize(("wanted", "possible"), [(False, True), (True, False), (False, False)])
def test_the_end_where_another_try_is_not_wanted_or_makes_no_sense(wanted: bool, possible: bool) -> None:
    session = Session("192.0.2.7", retry=wanted)
    _handle(session, 1, lambda: _down(retry=possible))
    assert (session.codes, session.delays) == ([1], [])
    assert session.said[0].severity is Severity.ERROR
    assert session.said[0].text == "The connection did not come up: no answer."


def test_paths_are_told_apart_by_the_local_port() -> None:
    session = Session("127.0.0.2", bind="127.0.0.1")
    sockets = session.open_sockets()
    natt, plain = session._calling.natt[4], session._calling.plain[4]
    assert natt.port != plain.port
    path = Path(UdpAddress("127.0.0.1", natt.port), UdpAddress("127.0.0.2", 4500))
    assert sockets.for_path(path) is natt
    sockets.close()


# In words


UP = ConnectionUp(
    1,
    initiator=True,
    local_identity=Identity.parse("@us"),
    remote_identity=Identity.parse("@them"),
    suite_name="aes128-sha256-modp2048",
    path=Path(UdpAddress("192.0.2.1", 500), UdpAddress("192.0.2.7", 500)),
    nat=NatStatus(),
)


def _wonder(session: Session, *, up: bool = False, tried: int = 1) -> Report | None:
    loop = asyncio.new_event_loop()
    session._end = asyncio.Future(loop=loop)
    session._current = 1
    if up:
        session.handle(UP)
    session._wonder(tried, UP.path.remote)
    loop.close()
    return session.said[-1] if session.said else None


@pytest.mark.parametrize(("ikev1", "other"), [(None, "--ikev1 main"), (Ikev1Config(), "leave --ikev1 out")])
def test_silence_is_told_before_the_first_try_is_over(ikev1: Ikev1Config | None, other: str) -> None:
    said = _wonder(Session("192.0.2.7", config=replace(CONFIG, ikev1=ikev1)))
    assert said is not None
    assert "No answer from 192.0.2.7:500 yet" in said.text
    assert other in said.remedy
    assert _wonder(Session("192.0.2.7"), tried=7) is None  # that one is over, and why has been said


def test_a_peer_that_lets_us_wait_for_the_tunnel() -> None:
    said = _wonder(Session("192.0.2.7", config=replace(CONFIG, ikev1=Ikev1Config(pushed=True))), up=True)
    assert said is not None
    assert "has proved itself" in said.text
    assert "--mode-config pull" in said.remedy


def test_what_has_carried_nothing_yet_is_not_lost() -> None:
    """In IKEv1 the peer proves itself first, and may refuse the tunnel then."""
    session = Session("192.0.2.7")
    session.handle(UP)
    session.handle(_down(retry=False))
    assert session.said[-1].text == "The connection did not come up: no answer."


# Sent elsewhere


def _sent_to(gateway: str) -> ConnectionDown:
    return ConnectionDown(1, "the peer sends us away", "", Fault.PEER_REQUEST, retry=True, redirect=gateway)


def test_a_gateway_that_we_are_sent_to_is_dialled_at_once(answers: list[Any]) -> None:
    session = Session("peer.example")
    session._dialled = "192.0.2.1"
    session._on_down(_sent_to("gw2.example"))
    assert session.delays == [0.0]
    assert session.said[-1].text == "192.0.2.1 sends us to gw2.example."
    answers.append(["192.0.2.2"])
    assert asyncio.run(session._look_up_detour()) == ["192.0.2.2"]
    assert session._known == []


def test_a_gateway_that_is_not_found_is_forgotten(answers: list[Any]) -> None:
    session = Session("peer.example")
    session._end = asyncio.Future(loop=asyncio.new_event_loop())
    session._on_down(_sent_to("gw2.example"))
    answers.append(NOT_FOUND)
    asyncio.run(session._dial(0.0))
    assert session.said[-1].text.startswith("gw2.example, where the peer sends us, was not found; trying")
    assert session._detour == ""
    assert not session.codes


def test_whoever_fails_there_comes_back_to_the_peer() -> None:
    session = Session("peer.example")
    session._on_down(_sent_to("192.0.2.2"))
    session._on_down(ConnectionDown(2, "no answer", "", Fault.TIMEOUT, retry=True))
    assert session._detour == ""
    assert len(session.delays) == 2
