"""The DNS servers of a peer, in use: in files of the test's own, never in the machine's /etc/resolv.conf."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from espudp.errors import HostError
from espudp.host import dns as module
from espudp.host.dns import Dns, Wanted
from espudp.host.journal import Journal
from espudp.host.netconf import NetConf
from espudp.host.netns import Namespace
from espudp.host.resolvconf import ResolvConf
from tests.host.support import PROJECT, Network, Peer

FORMER = "# by hand\nnameserver 192.0.2.53\nnameserver 192.0.2.54\nsearch home.example\noptions edns0\n"
ALL = Wanted(("10.1.0.53", "fd00:1::35"))
CORP = Wanted(("10.1.0.53",), ("corp.example", "lab.test"))

# What a program runs in to have an /etc/resolv.conf of its own.
OWN_FILE = ("unshare", "--mount", "sh", "-c", 'mount --bind "$0" /etc/resolv.conf && exec "$@"')


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "etc" / "resolv.conf"
    path.parent.mkdir()
    path.write_text(FORMER)
    path.chmod(0o664)
    return path


@pytest.fixture
def runtime(tmp_path: Path) -> Path:
    path = tmp_path / "run"
    path.mkdir()
    return path


@pytest.fixture(autouse=True)
def the_machines_own() -> Iterator[None]:
    """Is as it was."""
    path = Path("/etc/resolv.conf")

    def look() -> tuple[int, int, bytes] | None:
        return (path.lstat().st_ino, path.lstat().st_mtime_ns, path.read_bytes()) if path.exists() else None

    before = look()
    yield
    assert look() == before


def lines(file: Path) -> list[str]:
    return file.read_text().splitlines()[1:]


def use(runtime: Path, file: Path, wanted: Wanted = ALL, name: str = "esp0") -> tuple[NetConf, Dns]:
    conf = NetConf(runtime, name)
    dns = Dns(conf, name, file)
    dns.set(wanted)
    return conf, dns


def kill(conf: NetConf) -> None:
    """What SIGKILL does."""
    conf._journal.release()
    conf._netlink.close()


def test_all_names_go_to_the_servers_of_the_peer_and_back(runtime: Path, file: Path) -> None:
    conf, dns = use(runtime, file)
    expected = ["nameserver 10.1.0.53", "nameserver fd00:1::35", "search home.example", "options edns0"]
    assert lines(file) == expected
    assert file.read_text().startswith("# Made by espudp (esp0, process ")
    assert file.stat().st_mode & 0o777 == 0o664
    assert dns.way == str(file)
    dns.clear()
    assert (file.read_text(), dns.way) == (FORMER, "")
    assert dns.set(ALL) == ""
    conf.close()
    assert file.read_text() == FORMER
    assert [path.name for path in file.parent.iterdir()] == ["resolv.conf"]
    assert not list(runtime.iterdir())


def test_resolv_conf_knows_no_split_dns(runtime: Path, file: Path) -> None:
    conf, dns = use(runtime, file)
    remark = dns.set(CORP)
    assert remark.endswith("10.1.0.53 is asked for all names, not just corp.example, lab.test")
    assert lines(file)[:3] == ["nameserver 10.1.0.53", "nameserver 192.0.2.53", "nameserver 192.0.2.54"]
    assert dns.set(CORP) == ""  # told once
    dns.set(Wanted(()))
    assert file.read_text() == FORMER
    conf.close()


def test_a_symbolic_link_is_one_again(runtime: Path, file: Path) -> None:
    real = file.rename(file.with_name("real"))
    file.symlink_to("real")
    conf, _ = use(runtime, file)
    assert not file.is_symlink()
    assert real.read_text() == FORMER
    conf.close()
    assert os.readlink(file) == "real"


def test_where_there_was_no_file_there_is_none_again(runtime: Path, file: Path) -> None:
    file.unlink()
    conf, _ = use(runtime, file)
    assert lines(file) == ["nameserver 10.1.0.53", "nameserver fd00:1::35"]
    conf.close()
    assert not file.exists()


def test_after_a_kill_the_next_start_puts_it_back(runtime: Path, file: Path) -> None:
    conf, _ = use(runtime, file)
    kill(conf)
    assert "10.1.0.53" in file.read_text()
    again = NetConf(runtime, "esp7")
    assert again.recovered == [f"name servers in {file}"]
    assert file.read_text() == FORMER
    again.close()


def test_what_somebody_else_has_written_since_stays(runtime: Path, file: Path) -> None:
    conf, dns = use(runtime, file)
    file.write_text("nameserver 198.51.100.53\n")
    dns.clear()
    conf.close()
    assert file.read_text() == "nameserver 198.51.100.53\n"


@pytest.mark.parametrize("first_leaves_first", [True, False])
def test_two_tunnels_one_file(runtime: Path, file: Path, first_leaves_first: bool) -> None:
    first, _ = use(runtime, file)
    one = file.read_text()
    second, _ = use(runtime, file, CORP, "esp1")
    two = file.read_text()
    assert one != two
    assert lines(file)[1] == "nameserver 192.0.2.53"  # not a server of the first tunnel
    if first_leaves_first:
        first.close()
        assert file.read_text() == two
        second.close()
    else:
        second.close()
        assert file.read_text() == one
        first.close()
    assert file.read_text() == FORMER


def test_a_file_that_cannot_be(runtime: Path, file: Path) -> None:
    file.write_bytes(b"#" * 70_000)
    conf = NetConf(runtime, "esp0")
    with pytest.raises(HostError, match="cannot be read: File too large"):
        Dns(conf, "esp0", file).set(ALL)
    file.unlink()
    file.mkdir()
    with pytest.raises(HostError, match="cannot be read: Is a directory"):
        Dns(conf, "esp0", file).set(ALL)
    conf.close()


def test_octets_that_are_no_text_survive(runtime: Path, file: Path) -> None:
    former = b"nameserver 192.0.2.53\n# \xff\xfe caf\xe9\n"
    file.write_bytes(former)
    conf, _ = use(runtime, file)
    kill(conf)
    assert json.loads((runtime / "esp0.journal").read_text().splitlines()[1])["made"]["kind"] == "resolv.conf"
    NetConf(runtime, "esp0").close()
    assert file.read_bytes() == former


def test_a_kill_between_journal_and_file(runtime: Path, file: Path) -> None:
    journal = Journal.claim(runtime, "esp0")
    journal.record(ResolvConf.of(file).saying("ours", ["nameserver 10.1.0.53"]))
    journal.release()
    NetConf(runtime, "esp0").close()
    assert file.read_text() == FORMER


@pytest.mark.root
def test_the_file_of_another_network_is_left_alone(runtime: Path, file: Path) -> None:
    with Namespace() as namespace, namespace.inside():
        conf = NetConf(runtime, "esp0")
        with pytest.raises(HostError, match="belongs to another network namespace") as caught:
            Dns(conf, "esp0", file).set(ALL)
        assert "/netns/NAME/resolv.conf" in caught.value.remedy
        conf.close()
    assert file.read_text() == FORMER


IN_PLACE = """
import os, sys
from pathlib import Path
from espudp.host.dns import Dns, Wanted
from espudp.host.netconf import NetConf
conf = NetConf(Path(sys.argv[1]), "esp0")
Dns(conf, "esp0").set(Wanted(("10.1.0.53",)))
print(Path("/etc/resolv.conf").read_text().splitlines()[1])
if sys.argv[2] == "close":
    conf.close()
else:
    os._exit(9)
"""


@pytest.mark.namespaces
@pytest.mark.parametrize("end", ["close", "die"])
def test_a_file_that_is_mounted_is_written_in_place(runtime: Path, file: Path, end: str) -> None:
    """As in containers and with ip-netns(8): it cannot be replaced."""
    inode = file.stat().st_ino
    words = [*OWN_FILE, str(file), sys.executable, "-c", IN_PLACE, str(runtime)]
    done = subprocess.run([*words, end], cwd=PROJECT, capture_output=True, text=True, timeout=30, check=False)
    assert (done.stdout, done.stderr) == ("nameserver 10.1.0.53\n", "")
    assert file.stat().st_ino == inode
    if end == "die":
        assert lines(file)[0] == "nameserver 10.1.0.53"
        again = subprocess.run([*words, "close"], cwd=PROJECT, capture_output=True, timeout=30, check=False)
        assert again.returncode == 0
    assert file.read_text() == FORMER


# systemd-resolved, as it is asked


RECORDER = """#!/bin/sh
echo "$@" >> "$RESOLVECTL_LOG"
case "$1" in "$RESOLVECTL_REFUSES") echo "Failed to set DNS configuration: no" >&2; exit 1;; esac
"""


@pytest.fixture
def resolvectl(tmp_path: Path, file: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A program of that name that notes what it is told; the file leads to systemd-resolved."""
    program = tmp_path / "bin" / "resolvectl"
    program.parent.mkdir()
    program.write_text(RECORDER)
    program.chmod(0o755)
    log = tmp_path / "log"
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    monkeypatch.setenv("RESOLVECTL_LOG", str(log))
    monkeypatch.setattr(module, "_resolved_is_here", lambda: True)
    file.write_text("nameserver 127.0.0.53\noptions edns0 trust-ad\n")
    return log


def test_resolved_gets_the_domains_for_this_link_only(runtime: Path, file: Path, resolvectl: Path) -> None:
    before = file.read_text()
    conf, dns = use(runtime, file, CORP)
    assert dns.way == "systemd-resolved"
    dns.set(ALL)
    conf.close()
    assert resolvectl.read_text().splitlines() == [
        "dns esp0 10.1.0.53",
        "domain esp0 ~corp.example ~lab.test",
        "default-route esp0 no",
        "revert esp0",
        "dns esp0 10.1.0.53 fd00:1::35",
        "domain esp0 ~.",
        "default-route esp0 yes",
    ]
    assert file.read_text() == before


def test_resolved_may_refuse(
    runtime: Path, file: Path, resolvectl: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RESOLVECTL_REFUSES", "domain")
    conf = NetConf(runtime, "esp0")
    with pytest.raises(HostError, match="refuses `resolvectl domain`: Failed to set DNS configuration: no"):
        Dns(conf, "esp0", file).set(ALL)
    assert resolvectl.read_text().splitlines()[-1] == "revert esp0"
    conf.close()


def test_a_stub_without_its_server_is_a_file_like_any_other(runtime: Path, file: Path) -> None:
    file.write_text("nameserver 127.0.0.53\n")
    conf, dns = use(runtime, file)
    assert dns.way == str(file)
    conf.close()
    assert file.read_text() == "nameserver 127.0.0.53\n"


# Whole peers


def client(network: Network, file: Path, **options: object) -> Peer:
    arguments = {"mode": "connect", "host": "203.0.113.7", "host_options": {"dns": True}, **options}
    peer = Peer.run(
        network,
        network.client,
        "client",
        "tests.host.peer_process",
        json.dumps(arguments),
        before=(*OWN_FILE, str(file)),
    )
    peer.wait_for("Connected to")
    return peer


@pytest.mark.tun
@pytest.mark.namespaces
def test_a_connection_sets_them_and_its_end_does_not_leave_them(network: Network, file: Path) -> None:
    server = network.listen(dns=["10.1.0.53"], dns_domains=["corp.example"])
    peer = client(network, file)
    assert "DNS 10.1.0.53 for corp.example (/etc/resolv.conf)" in peer.output
    assert "warning: /etc/resolv.conf knows no split DNS" in peer.output
    assert lines(file)[0] == "nameserver 10.1.0.53"
    status = peer.ask("status")
    assert (status["dns"], status["dns_domains"]) == (["10.1.0.53"], ["corp.example"])
    peer.kill()
    assert lines(file)[0] == "nameserver 10.1.0.53"
    again = client(network, file)
    assert lines(file)[0] == "nameserver 10.1.0.53"
    server.stop()  # says DELETE: the name service is what it was until the server is back
    again.wait_for("trying again")
    assert file.read_text() == FORMER
    again.stop()
    assert file.read_text() == FORMER


@pytest.mark.tun
@pytest.mark.namespaces
def test_no_dns(network: Network, file: Path) -> None:
    network.listen(dns=["10.1.0.53"])
    peer = client(network, file, host_options={"dns": False})
    assert "DNS 10.1.0.53 (offered, not set)" in peer.output
    assert file.read_text() == FORMER


@pytest.mark.tun
def test_a_whole_tunnel_for_ipv4_alone_is_warned_about(network: Network) -> None:
    network.listen(subnets=["0.0.0.0/0"])
    peer = network.connect(subnets=["0.0.0.0/0"])
    peer.wait_for("warning: IPv6 goes around the tunnel")
    peer.stop()


@pytest.mark.tun
@pytest.mark.namespaces
def test_as_long_as_everything_goes_into_the_tunnel_so_do_names(network: Network, file: Path) -> None:
    server = network.listen(dns=["10.1.0.53"], dns_domains=["com"], subnets=["0.0.0.0/0"])
    peer = client(network, file, subnets=["0.0.0.0/0"])
    assert "DNS 10.1.0.53 (/etc/resolv.conf)" in peer.output  # RFC 8598 section 2: no split DNS
    server.stop()
    peer.wait_for("trying again")
    assert lines(file) == ["nameserver 10.1.0.53", "search home.example", "options edns0"]
    peer.stop()
    assert file.read_text() == FORMER
