"""Transport mode behind a NAT: two hosts speak from the same port to one server, and it can tell them apart.

This is what L2TP/IPsec is built on: UDP port 1701 goes inside ESP from host to host, by the addresses that
the hosts have, and nothing else does. The server is shown the client that came later by an address that
stands in for that of the NAT.
"""

import os
import struct
from ipaddress import ip_address

from espudp import (
    ChildConfig,
    ChildInstalled,
    ChildMode,
    ConnectionConfig,
    Dynamic,
    Frame,
    Identity,
    ListenerConfig,
    PadEntry,
    Path,
    Psk,
    PskOf,
    Tunnel,
    UdpAddress,
)

SERVER = UdpAddress("198.51.100.1", 4500)
# What each client sends from, and what the NAT makes of it.
NAT = {
    UdpAddress("192.168.1.2", 4500): UdpAddress("203.0.113.1", 4500),
    UdpAddress("192.168.1.3", 4500): UdpAddress("203.0.113.1", 61234),
}
BACK = {outside: inside for inside, outside in NAT.items()}

UDP, L2TP = 17, 1701
ONLY_L2TP = ChildConfig(
    local=(Dynamic(UDP, L2TP, L2TP),), remote=(Dynamic(UDP, L2TP, L2TP),), mode=ChildMode.TRANSPORT
)
PSK = os.urandom(32)


def exchange(clients: dict[UdpAddress, Tunnel], server: Tunnel, now: float) -> None:
    """Carry datagrams through the NAT, both ways, until all are silent."""
    busy = True
    while busy:
        busy = False
        for client in clients.values():
            for path, datagrams, _ in client.datagrams_to_send(now):
                server.receive_datagrams(datagrams, Path(SERVER, NAT[path.local]), now)
                busy = True
        for path, datagrams, _ in server.datagrams_to_send(now):
            inside = BACK[path.remote]
            clients[inside].receive_datagrams(datagrams, Path(inside, SERVER), now)
            busy = True


def ones_complement_sum(octets: bytes) -> int:
    """RFC 1071; 0xFFFF over everything that a right checksum is part of."""
    octets += bytes(len(octets) % 2)
    total: int = sum(struct.unpack(f"!{len(octets) // 2}H", octets))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total


def pseudo_header(addresses: bytes, octets: int) -> bytes:
    return addresses + bytes([0, UDP]) + octets.to_bytes(2)


def datagram(source: str, destination: str, port: int, text: bytes) -> bytes:
    """An IPv4 packet with UDP from `port` to the same port, checksums and all."""
    addresses = ip_address(source).packed + ip_address(destination).packed
    octets = 8 + len(text)
    udp = port.to_bytes(2) * 2 + octets.to_bytes(2) + bytes(2) + text
    checksum = 0xFFFF - ones_complement_sum(pseudo_header(addresses, octets) + udp)
    header = b"\x45\x00" + (20 + octets).to_bytes(2) + bytes([0, 0, 0x40, 0, 64, UDP])
    own = 0xFFFF - ones_complement_sum(header + addresses)
    return header + own.to_bytes(2) + addresses + udp[:6] + checksum.to_bytes(2) + text


def show(server: Tunnel) -> None:
    for packet in server.packets_to_deliver():
        if isinstance(packet, Frame):  # only if offloads were set
            continue
        octets = bytes(packet)
        source, udp = ip_address(octets[12:16]), octets[20:]
        right = ones_complement_sum(pseudo_header(octets[12:20], len(udp)) + udp) == 0xFFFF
        print(f"server: {udp[8:].decode()}, from {source}, checksum {'right' if right else 'wrong'}")


def main() -> None:
    now = 0.0
    listener = ListenerConfig(
        local_identity=Identity.parse("server.example"), pad=(PadEntry.of_psk(PSK),), child=ONLY_L2TP
    )
    server = Tunnel(os.urandom, listener=listener)
    clients = {address: Tunnel(os.urandom) for address in NAT}
    for number, (address, client) in enumerate(clients.items(), 1):
        wanted = ConnectionConfig(
            local_identity=Identity.parse(f"client{number}.example"),
            remote_identity=Identity.parse("server.example"),
            proof=Psk(PSK),
            demand=PskOf(PSK),
            request_addresses=(),
            child=ONLY_L2TP,
        )
        client.connect(wanted, Path(address, SERVER), None, now)
        exchange(clients, server, now)
        while (event := client.next_event()) is not None:
            if isinstance(event, ChildInstalled):
                print(f"client {number}: {event.local[0]} <=> {event.remote[0]}")

    for number, (address, client) in enumerate(clients.items(), 1):
        for port in (L2TP, 53):
            text = f"hello of {number} from port {port}".encode()
            client.receive_packets([datagram(address.ip, SERVER.ip, port, text)], now)
    exchange(clients, server, now)
    show(server)


if __name__ == "__main__":
    main()
