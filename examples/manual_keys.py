"""Two hosts with manual keys: a matching pair of key files, and a tunnel without any IKE.

`espudp keygen --manual` writes such files; `espudp listen --manual` and `espudp connect --manual` run them.
"""

import os
from ipaddress import ip_network

from espudp import (
    Frame,
    ManualPair,
    Path,
    Tunnel,
    UdpAddress,
    emit_manual,
    generate_pair,
    parse_esp_suite,
    parse_manual,
)

SERVER = UdpAddress("198.51.100.1", 4500)
CLIENT_SEEN_AS = UdpAddress("203.0.113.9", 61234)  # what the client's NAT makes of it
UNKNOWN = UdpAddress("0.0.0.0", 0)

pair = ManualPair(suite=parse_esp_suite("aes256-sha256"), server=SERVER, network=ip_network("10.98.0.0/30"))
server_file, client_file = (emit_manual(end) for end in generate_pair(pair, os.urandom))
print("".join(line + "\n" for line in server_file.splitlines() if "key = " not in line))

now = 0.0
server, client = Tunnel(os.urandom), Tunnel(os.urandom)
server.install_manual(parse_manual(server_file), Path(SERVER, UNKNOWN), now)
client.install_manual(parse_manual(client_file), Path(UdpAddress("192.168.1.5", 4500), SERVER), now)


def delivered(tunnel: Tunnel) -> str:
    """What stands behind the IP headers. Frames would come, too, if offloads were set."""
    packets = tunnel.packets_to_deliver()
    return "".join(bytes(packet[20:]).decode() for packet in packets if not isinstance(packet, Frame))


ping = bytes.fromhex("45000018000040004001266a0a6200020a620001") + b"ping"
pong = bytes.fromhex("45000018000040004001266a0a6200010a620002") + b"pong"

client.receive_packets([ping], now)
for train in client.datagrams_to_send(now):
    server.receive_datagrams(train.datagrams, Path(SERVER, CLIENT_SEEN_AS), now)
print("server got", delivered(server))

server.receive_packets([pong], now)
for train in server.datagrams_to_send(now):
    print("server answers to", train.path.remote)
    client.receive_datagrams(train.datagrams, Path(UdpAddress("192.168.1.5", 4500), SERVER), now)
print("client got", delivered(client))
