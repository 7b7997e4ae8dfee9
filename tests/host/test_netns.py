"""Namespaces without names: separate, connected, translated, and gone with what was in them."""

import errno
import os
import socket
import sys
import time
from pathlib import Path

import pytest

from espudp.errors import HostError
from espudp.host import netns
from espudp.host.netns import Namespace, Port, connect

pytestmark = pytest.mark.root


def own_namespace() -> int:
    return Path("/proc/thread-self/ns/net").stat().st_ino


def test_inside_and_out_again() -> None:
    home = own_namespace()
    with Namespace() as one, Namespace() as other:
        assert own_namespace() == home
        with one.inside():
            first = own_namespace()
            with other.inside():
                second = own_namespace()
            assert own_namespace() == first
        assert len({home, first, second}) == 3
        with pytest.raises(ValueError, match="of ours"), one.inside():
            raise ValueError("of ours")
        assert own_namespace() == home


def test_nothing_is_left_in_the_file_system() -> None:
    places = [Path("/run/netns"), Path("/var/run/netns")]
    before = [sorted(place.iterdir()) if place.exists() else None for place in places]
    mounts = Path("/proc/self/mounts").read_text()
    with Namespace():
        assert [sorted(place.iterdir()) if place.exists() else None for place in places] == before
        assert Path("/proc/self/mounts").read_text() == mounts


def test_a_process_starts_inside_in_a_group_of_its_own() -> None:
    show = "import os; print(os.stat('/proc/self/ns/net').st_ino, os.getpgrp() == os.getpid())"
    with Namespace() as namespace:
        process = namespace.start([sys.executable, "-c", show], stdout=-1)
        out, _ = process.communicate()
        with namespace.inside():
            assert out.decode().split() == [str(own_namespace()), "True"]


def test_a_process_ends_with_its_parent() -> None:
    """The child of a child that ends at once."""
    grandchild = "import time; time.sleep(60)"
    code = (
        "import os, sys; from espudp.host.netns import Namespace\n"
        f"print(Namespace().start([sys.executable, '-c', {grandchild!r}]).pid, flush=True); os._exit(0)"
    )
    with Namespace() as namespace:
        process = namespace.start([sys.executable, "-c", code], stdout=-1, cwd=Path(__file__).parents[2])
        out, _ = process.communicate()
    deadline = time.monotonic() + 10
    status = Path(f"/proc/{int(out)}/stat")
    while status.exists() and status.read_text().rpartition(")")[2].split()[0] != "Z":
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_masquerading_router() -> None:
    with Namespace() as client, Namespace() as router, Namespace() as server:
        connect(Port(client, "c0", "192.168.1.2/24"), Port(router, "r0", "192.168.1.1/24"))
        connect(Port(router, "r1", "203.0.113.1/24"), Port(server, "s0", "203.0.113.2/24"))
        client.add_default_route("192.168.1.1")
        router.set_sysctl("net/ipv4/ip_forward", "1")
        router.masquerade("r1")
        with client.inside():
            asking = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        with server.inside():
            answering = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        with asking, answering:
            answering.bind(("203.0.113.2", 4500))
            for end in (asking, answering):
                end.settimeout(5)
            asking.sendto(b"question", ("203.0.113.2", 4500))
            question, source = answering.recvfrom(100)
            assert (question, source[0]) == (b"question", "203.0.113.1")
            answering.sendto(b"answer", source)
            assert asking.recv(100) == b"answer"


def _server(namespace: Namespace, address: str) -> socket.socket:
    """The kernel takes an IPv6 address into use a moment after it has seen the carrier."""
    deadline = time.monotonic() + 5
    while True:
        try:
            with namespace.inside():
                return socket.create_server((address, 0), family=socket.AF_INET6)
        except OSError as error:
            if error.errno != errno.EADDRNOTAVAIL or time.monotonic() > deadline:
                raise
            time.sleep(0.01)


def test_ipv6_cables() -> None:
    with Namespace() as one, Namespace() as other:
        for namespace in (one, other):
            namespace.set_sysctl("net/ipv6/conf/default/accept_dad", "0")
        connect(Port(one, "a", "2001:db8::1/64"), Port(other, "b", "2001:db8::2/64"))
        with one.inside():
            sender = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
        with sender, _server(one, "2001:db8::1"), _server(other, "2001:db8::2"):
            sender.connect(("2001:db8::2", 9))
            assert sender.getsockname()[0] == "2001:db8::1"


def test_a_refusal_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(name: str, *arguments: int) -> None:
        raise PermissionError(1, os.strerror(1), name)

    monkeypatch.setattr(netns, "_call", refuse)
    with pytest.raises(HostError, match="make a network namespace: Operation not permitted") as caught:
        Namespace()
    assert "root" in caught.value.remedy
