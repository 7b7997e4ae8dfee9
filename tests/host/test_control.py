"""The control socket, with clients that behave and clients that do not."""

import asyncio
import json
import os
import socket
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any

import pytest
import uvloop

from espudp.errors import ConfigError, HostError
from espudp.host.control import CLIENTS_MAX, REQUEST_OCTETS_MAX, Arguments, ControlServer, plain, request
from espudp.wire.address import Path as UdpPath
from espudp.wire.address import UdpAddress
from espudp.wire.selectors import TrafficSelector


def _fail(_: Arguments) -> object:
    raise ConfigError("That cannot be done.", remedy="Do something else.")


def _handlers() -> dict[str, Any]:
    return {"status": lambda arguments: {"asked": dict(arguments)}, "fail": _fail}


@contextmanager
def _running(directory: Path, name: str) -> Iterator[None]:
    """A server in a thread of its own, as in another process."""
    ready, over = threading.Event(), asyncio.Event()
    loop = uvloop.new_event_loop()

    async def serve() -> None:
        server = ControlServer(directory, name, _handlers())
        await server.start()
        ready.set()
        await over.wait()
        await server.close()

    thread = threading.Thread(target=loop.run_until_complete, args=[serve()])
    thread.start()
    assert ready.wait(5)
    try:
        yield
    finally:
        loop.call_soon_threadsafe(over.set)
        thread.join()
        loop.close()


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ESPUDP_RUNTIME_DIR", str(tmp_path))
    return tmp_path


def _exchange(path: Path, *lines: bytes) -> list[dict[str, Any]]:
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(5)
        client.connect(str(path))
        client.sendall(b"".join(lines))
        client.shutdown(socket.SHUT_WR)
        with client.makefile("rb") as answers:
            return [json.loads(line) for line in answers]


def test_a_request_and_its_answer(directory: Path) -> None:
    with _running(directory, "esp0"):
        assert request("esp0", "status", connection=3) == [
            {"name": "esp0", "asked": {"command": "status", "connection": 3}}
        ]
    assert list(directory.iterdir()) == []


def test_without_a_name_all_processes_are_asked(directory: Path) -> None:
    with _running(directory, "esp0"), _running(directory, "esp1"):
        assert [answer["name"] for answer in request(None, "status")] == ["esp0", "esp1"]


def test_nobody_runs(directory: Path) -> None:
    assert request(None, "status") == []
    with pytest.raises(ConfigError, match="No espudp called esp7"):
        request("esp7", "status")


def test_the_socket_of_a_killed_process_is_cleared_away(directory: Path) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(directory / "esp0.sock"))
    assert request(None, "status") == []
    assert list(directory.iterdir()) == []
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(directory / "esp0.sock"))
    with _running(directory, "esp0"):
        assert request("esp0", "status")


def test_only_its_owner_may_ask(directory: Path) -> None:
    umask = os.umask(0o022)
    os.umask(umask)
    with _running(directory, "esp0"):
        assert stat.S_IMODE((directory / "esp0.sock").stat().st_mode) == 0o600
    assert os.umask(umask) == umask


def test_a_refusal_has_two_sentences(directory: Path) -> None:
    with _running(directory, "esp0"), pytest.raises(HostError, match="That cannot be done") as caught:
        request("esp0", "fail")
    assert caught.value.remedy == "Do something else."


@pytest.mark.parametrize(
    "line",
    [
        *(b"", b"garbage", b"[]", b"7", b"{}", b"\xff\xfe", b"[" * 4000),
        *(b'{"command": "explode"}', b'{"command": []}'),
    ],
)
def test_garbage_is_answered_and_the_next_request_served(directory: Path, line: bytes) -> None:
    with _running(directory, "esp0"):
        answers = _exchange(directory / "esp0.sock", line + b"\n", b'{"command": "status"}\n')
    assert [answer["ok"] for answer in answers] == [False, True]
    assert answers[0]["remedy"] == "The commands are fail, status."


def test_a_line_without_end_is_hung_up_on(directory: Path) -> None:
    with _running(directory, "esp0"):
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(5)
            client.connect(str(directory / "esp0.sock"))
            client.sendall(b"x" * (REQUEST_OCTETS_MAX * 2 + 10))
            with suppress(ConnectionResetError):
                assert client.recv(100) == b""
        assert request("esp0", "status")


def test_the_number_of_clients_is_bounded(directory: Path) -> None:
    with _running(directory, "esp0"):
        clients = [socket.socket(socket.AF_UNIX) for _ in range(CLIENTS_MAX + 1)]
        for client in clients:
            client.settimeout(5)
            client.connect(str(directory / "esp0.sock"))
        assert clients[-1].recv(1) == b""
        clients[0].sendall(b'{"command": "status"}\n')
        assert b'"ok": true' in clients[0].recv(1000)
        for client in clients:
            client.close()


def test_a_process_that_does_not_answer(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("espudp.host.control.ANSWER_SECONDS", 0.05)
    with socket.socket(socket.AF_UNIX) as stuck:
        stuck.bind(str(directory / "esp0.sock"))
        stuck.listen()
        with pytest.raises(HostError, match="does not answer"):
            request("esp0", "status")


class Colour(Enum):
    RED = "red"


@dataclass(frozen=True)
class Thing:
    name: str
    secret: bytes = field(repr=False)
    parts: tuple[object, ...] = ()


def test_plain_values_show_no_secret() -> None:
    here = UdpPath(UdpAddress("::1", 1), UdpAddress("127.0.0.1", 2))
    network = TrafficSelector.from_network("10.0.0.0/8")
    thing = Thing("x", b"key", (b"\x01\xff", Colour.RED, here, network, None))
    assert plain({"thing": thing, 7: {1.5}}) == {
        "thing": {"name": "x", "parts": ["01ff", "red", "[::1]:1 -> 127.0.0.1:2", "10.0.0.0/8", None]},
        "7": [1.5],
    }
