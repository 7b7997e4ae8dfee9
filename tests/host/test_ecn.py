"""DSCP and ECN through a real tunnel: what the kernels at both ends and a router between them make of it."""

import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from espudp.host.netns import Namespace
from tests.host.support import Network, Peer
from tests.host.wiretap import Wiretap, tcp_segment, udp_payload
from tests.reference import inner_reference

pytestmark = [pytest.mark.root, pytest.mark.tun, pytest.mark.namespaces]

EF = 46
NOT_ECT, ECT_1, ECT_0, CE = range(4)
PACKETS = 30
SERVER, SERVER6 = "203.0.113.7", "2001:db8:113::7"

# RFC 9293 section 3.1, RFC 3168 section 6.1
ACK, ECE, CWR = 0x10, 0x40, 0x80

INNER = {4: ("10.99.0.1", "10.99.0.2"), 6: ("fd00:99::1", "fd00:99::2")}


def tunnel(network: Network, outside: int, **options: Any) -> tuple[Peer, Peer]:
    """Both IP versions inside, one outside."""
    pool = ["10.99.0.0/24", "fd00:99::/64"]
    server = network.listen(pool=pool, host_options=options)
    client = network.connect(
        SERVER if outside == 4 else SERVER6,
        subnets=pool,
        request=["any4", "any6"],
        host_options=options,
    )
    return server, client


@contextmanager
def router_sets(router: Namespace, rule: str) -> Iterator[None]:
    """What the router does to packets with ESP in UDP for the server, as an nftables rule."""
    hook = "type filter hook forward priority 0"
    _nft(router, f"table inet congestion {{\nchain forward {{\n{hook}\n{rule}\n}}\n}}\n")
    try:
        yield
    finally:
        _nft(router, "delete table inet congestion")


def _nft(namespace: Namespace, text: str) -> None:
    nft = namespace.start(["nft", text], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    output, _ = nft.communicate(timeout=10)
    assert nft.returncode == 0, output.decode()


def marked(outside: int, *, seen: str = "") -> str:
    """CE for all packets, or for those with the ECN field `seen`."""
    header = "ip" if outside == 4 else "ip6"
    return f"udp dport 4500 {f'{header} ecn {seen} ' if seen else ''}{header} ecn set ce"


class Socket:
    """A UDP socket that says and sees the traffic class."""

    def __init__(self, namespace: Namespace, version: int, address: str) -> None:
        with namespace.inside():
            self._socket = socket.socket(
                socket.AF_INET if version == 4 else socket.AF_INET6, socket.SOCK_DGRAM
            )
        self._level = socket.IPPROTO_IP if version == 4 else socket.IPPROTO_IPV6
        self._field = socket.IP_TOS if version == 4 else socket.IPV6_TCLASS
        self._socket.setsockopt(self._level, socket.IP_RECVTOS if version == 4 else socket.IPV6_RECVTCLASS, 1)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        self._socket.bind((address, 0))
        self._socket.settimeout(5)

    def __enter__(self) -> "Socket":
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    @property
    def address(self) -> Any:
        return self._socket.getsockname()

    def send(self, to: Any, tos: int, count: int, octets: int = 600) -> None:
        self._socket.setsockopt(self._level, self._field, tos)
        for _ in range(count):
            self._socket.sendto(bytes(octets), to)

    def traffic_classes(self, count: int) -> list[int]:
        """Of the next packets to come in."""
        found = []
        for _ in range(count):
            _, control, _, _ = self._socket.recvmsg(2000, 100)
            ((_, _, data),) = control
            found.append(int.from_bytes(data, "little"))
        return found

    def is_silent(self) -> bool:
        self._socket.settimeout(0.3)
        try:
            self._socket.recv(2000)
        except TimeoutError:
            return True
        return False


def outer_classes(packets: list[bytes]) -> set[int]:
    """Traffic classes of the ESP to or from port 4500: not of IKE, which begins with four zeros."""
    esp = [packet for packet in packets if (udp_payload(packet, 4500) or bytes(4))[:4] != bytes(4)]
    return {inner_reference.tos(packet) for packet in esp}


@pytest.mark.parametrize("outside", [4, 6])
def test_both_fields_go_out_and_marks_come_in(network: Network, outside: int) -> None:
    server, _ = tunnel(network, outside)
    for inside, (there, here) in INNER.items():
        with (
            Socket(network.server, inside, there) as listening,
            Socket(network.client, inside, here) as calling,
        ):
            for ecn in (ECT_0, ECT_1, NOT_ECT, CE):
                tap = Wiretap(network.router, "r0")
                calling.send(listening.address, EF << 2 | ecn, PACKETS)
                assert listening.traffic_classes(PACKETS) == [EF << 2 | ecn] * PACKETS
                assert outer_classes(tap.packets()) == {EF << 2 | ecn}
            with router_sets(network.router, marked(outside)):
                for ecn in (ECT_0, ECT_1):
                    calling.send(listening.address, EF << 2 | ecn, PACKETS)
                    assert listening.traffic_classes(PACKETS) == [EF << 2 | CE] * PACKETS
                # Not willing to hear of congestion: its packets are lost instead (RFC 6040 section 4.2).
                calling.send(listening.address, EF << 2 | NOT_ECT, PACKETS)
                assert listening.is_silent()
            # What the network makes of the outer DSCP is not the inner packet's (RFC 4301 section 5.1.2).
            with router_sets(
                network.router, f"udp dport 4500 {'ip' if outside == 4 else 'ip6'} dscp set cs1"
            ):
                calling.send(listening.address, EF << 2 | ECT_0, PACKETS)
                assert listening.traffic_classes(PACKETS) == [EF << 2 | ECT_0] * PACKETS
    assert server.ask("status")["tunnel"]["drops"]["congestion"] == len(INNER) * PACKETS


def test_a_set_dscp_covers_that_of_the_packets(network: Network) -> None:
    tunnel(network, 4, dscp=8)
    there, here = INNER[4]
    with Socket(network.server, 4, there) as listening, Socket(network.client, 4, here) as calling:
        tap = Wiretap(network.router, "r0")
        calling.send(listening.address, EF << 2 | ECT_0, PACKETS)
        assert listening.traffic_classes(PACKETS) == [EF << 2 | ECT_0] * PACKETS
        assert outer_classes(tap.packets()) == {8 << 2 | ECT_0}


def test_packets_of_different_classes_keep_theirs_and_their_order(network: Network) -> None:
    tunnel(network, 4)
    there, here = INNER[4]
    classes = [(n % 5 % 3) << 2 | (ECT_0 if n % 7 < 4 else NOT_ECT) for n in range(100)]
    with Socket(network.server, 4, there) as listening, Socket(network.client, 4, here) as calling:
        for tos in classes:
            calling.send(listening.address, tos, 1)
        assert listening.traffic_classes(len(classes)) == classes


@pytest.mark.parametrize("inside", [4, 6])
def test_tcp_hears_of_congestion_on_the_outer_path(network: Network, inside: int) -> None:
    tunnel(network, 4)
    there, here = INNER[inside]
    for namespace in (network.client, network.server):
        namespace.set_sysctl("net/ipv4/tcp_ecn", "1")
    arriving = Wiretap(network.server, "esp0")
    with router_sets(network.router, marked(4, seen="ect0")):
        assert transfer(network.client, network.server, here, there, bytes(1 << 20)) == 1 << 20
    segments = [segment for segment in map(tcp_segment, arriving.packets()) if segment is not None]
    from_client = [s for s in segments if s.destination == socket.inet_pton(family(inside), there)]
    from_server = [s for s in segments if s.destination == socket.inet_pton(family(inside), here)]
    assert {s.ecn for s in from_client if s.octets} == {CE}
    # RFC 3168 section 6.1.3: the receiver echoes it, and section 6.1.2: the sender says that it heard.
    assert any(s.flags & (ECE | ACK) == ECE | ACK for s in from_server)
    assert any(s.flags & CWR and s.octets for s in from_client)


def family(version: int) -> socket.AddressFamily:
    return socket.AF_INET if version == 4 else socket.AF_INET6


def transfer(sender: Namespace, receiver: Namespace, source: str, address: str, data: bytes) -> int:
    """Send data over TCP; how much arrives."""
    received = 0
    with receiver.inside():
        listening = socket.create_server((address, 0), family=family(6 if ":" in address else 4))
    with listening:
        listening.settimeout(10)

        def receive() -> None:
            nonlocal received
            connection, _ = listening.accept()
            with connection:
                connection.settimeout(10)
                while chunk := connection.recv(65536):
                    received += len(chunk)

        thread = threading.Thread(target=receive)
        thread.start()
        with sender.inside():
            calling = socket.create_connection(
                (address, listening.getsockname()[1]), timeout=10, source_address=(source, 0)
            )
        with calling:
            calling.sendall(data)
        thread.join()
    return received
