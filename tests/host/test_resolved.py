"""systemd-resolved itself, with a bus and mounts of the test's own, is told of the peer's DNS servers."""

import json
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.conftest import resolved_root
from tests.host.support import Network, Peer

pytestmark = [pytest.mark.tun, pytest.mark.namespaces, pytest.mark.resolved]

BUS = """
<busconfig>
  <type>system</type>
  <listen>unix:path=/run/dbus/system_bus_socket</listen>
  <auth>EXTERNAL</auth>
  <policy context="default">
    <allow user="*"/> <allow own="*"/> <allow send_destination="*"/>
    <allow receive_type="method_call"/> <allow receive_type="method_return"/>
    <allow receive_type="error"/> <allow receive_type="signal"/>
    <allow send_requested_reply="true" send_type="method_return"/>
    <allow send_requested_reply="true" send_type="error"/>
  </policy>
</busconfig>
"""

# $0: a folder of ours, with the bus's configuration and a resolv.conf; $1: where systemd-resolved is; then
# the program. It wants a user of its name, which the machine may not have.
START = """
set -e
mount -t tmpfs tmpfs /run
mkdir -p /run/dbus /run/systemd/resolve
for file in passwd group; do
    cp /etc/$file /run/$file
    mount --bind /run/$file /etc/$file
done
grep -q ^systemd-resolve: /etc/group || echo systemd-resolve:x:65501: >>/etc/group
grep -q ^systemd-resolve: /etc/passwd || echo systemd-resolve:x:65501:65501::/:/bin/false >>/etc/passwd
chown systemd-resolve:systemd-resolve /run/systemd/resolve
mount --bind "$0/resolv.conf" /etc/resolv.conf
dbus-daemon --config-file="$0/bus.conf" --nofork --nopidfile --nosyslog >"$0/bus.log" 2>&1 &
echo $! >>"$0/pids"
while [ ! -S /run/dbus/system_bus_socket ]; do sleep 0.05; done
"$1/lib/systemd/systemd-resolved" >"$0/resolved.log" 2>&1 &
echo $! >>"$0/pids"
while [ ! -S /run/systemd/resolve/io.systemd.Resolve ]; do sleep 0.05; done
shift
exec "$@"
"""

Told = Callable[[Peer], str]


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """What the bus and systemd-resolved need; they end with the test."""
    folder = tmp_path / "resolved"
    folder.mkdir()
    (folder / "bus.conf").write_text(BUS)
    (folder / "resolv.conf").write_text("nameserver 127.0.0.53\n")
    yield folder
    pids = folder / "pids"
    for pid in pids.read_text().split() if pids.exists() else ():
        os.kill(int(pid), signal.SIGKILL)


@pytest.fixture
def network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Network]:
    monkeypatch.setenv("PATH", f"{resolved_root()}/usr/bin:{os.environ['PATH']}")
    with Network.make(tmp_path) as made:
        yield made


def connect(network: Network, folder: Path, **options: object) -> Peer:
    arguments = {"mode": "connect", "host": "203.0.113.7", "host_options": {"dns": True}, **options}
    peer = Peer.run(
        network,
        network.client,
        "client",
        "tests.host.peer_process",
        json.dumps(arguments),
        before=("unshare", "--mount", "sh", "-c", START, str(folder), str(resolved_root())),
    )
    peer.wait_for("Connected to")
    return peer


def ask(folder: Path, what: str) -> str:
    """What `resolvectl` says of the device, in the mounts of the bus."""
    bus = (folder / "pids").read_text().split()[0]
    command = [
        "nsenter",
        f"--target={bus}",
        "--mount",
        "--net",
        f"{resolved_root()}/usr/bin/resolvectl",
        what,
    ]
    return subprocess.run(command, capture_output=True, text=True, timeout=20, check=True).stdout


def of_device(said: str) -> str:
    """The line of the tunnel's device; "" where there is none."""
    lines = [line.partition("): ")[2] for line in said.splitlines() if "(esp0)" in line]
    return lines[0] if lines else ""


def test_the_domains_of_the_peer_for_its_servers(network: Network, folder: Path) -> None:
    network.listen(dns=["10.1.0.53"], dns_domains=["corp.example", "lab.test"])
    peer = connect(network, folder)
    assert "DNS 10.1.0.53 for corp.example, lab.test (systemd-resolved)" in peer.output
    assert of_device(ask(folder, "dns")) == "10.1.0.53"
    assert of_device(ask(folder, "domain")) == "~corp.example ~lab.test"
    assert of_device(ask(folder, "default-route")) == "no"
    assert (folder / "resolv.conf").read_text() == "nameserver 127.0.0.53\n"
    peer.stop()
    assert of_device(ask(folder, "dns")) == ""


def test_domains_of_our_own_choice(network: Network, folder: Path) -> None:
    """For a peer that knows nothing of RFC 8598."""
    network.listen(dns=["10.1.0.53"], dns_domains=["com"])
    peer = connect(network, folder, host_options={"dns": True, "dns_domains": ["corp.example"]})
    assert of_device(ask(folder, "domain")) == "~corp.example"
    assert "The peer is espudp." in peer.output
    peer.stop()


def test_everything_for_its_servers_and_nothing_after_a_kill(network: Network, folder: Path) -> None:
    network.listen(dns=["10.1.0.53"])
    peer = connect(network, folder)
    assert of_device(ask(folder, "domain")) == "~."
    assert of_device(ask(folder, "default-route")) == "yes"
    peer.kill()
    assert of_device(ask(folder, "dns")) == ""


def test_when_the_peer_goes_its_servers_go(network: Network, folder: Path) -> None:
    server = network.listen(dns=["10.1.0.53"])
    peer = connect(network, folder)
    server.stop()
    peer.wait_for("trying again")
    assert of_device(ask(folder, "dns")) == ""
    peer.stop()
