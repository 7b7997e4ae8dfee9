"""Two whole peers in one process: IKEv2 negotiates, packets flow, the keys change, both close.

Nothing here touches the operating system. Where this program hands datagrams across and lets `now` grow, a
real host has a socket and a clock.
"""

import os
from ipaddress import ip_network

from espudp import (
    DYNAMIC,
    ChildConfig,
    ChildInstalled,
    ConnectionConfig,
    ConnectionDown,
    Frame,
    Identity,
    ListenerConfig,
    PadEntry,
    Path,
    Psk,
    PskOf,
    TrafficSelector,
    Tunnel,
    UdpAddress,
)

CLIENT = UdpAddress("192.0.2.1", 4500)
SERVER = UdpAddress("198.51.100.1", 4500)
PSK = os.urandom(32)


def exchange(client: Tunnel, server: Tunnel, now: float) -> None:
    """Carry datagrams across, both ways, until both peers are silent."""
    busy = True
    while busy:
        busy = False
        for sender, receiver in ((client, server), (server, client)):
            for path, datagrams, _ in sender.datagrams_to_send(now):
                receiver.receive_datagrams(datagrams, Path(path.remote, path.local), now)
                busy = True


def tell(name: str, tunnel: Tunnel) -> None:
    while (event := tunnel.next_event()) is not None:
        match event:
            case ChildInstalled():
                print(f"{name}: child SA {event.suite.name}, SPI {event.spi_in:#010x} in")
            case ConnectionDown():
                print(f"{name}: down, {event.reason}")
            case _:
                print(f"{name}: {type(event).__name__}")


def ipv4(source: str, destination: str, text: bytes) -> bytes:
    """An IPv4 packet of protocol 253, for experiments (RFC 3692). No tunnel looks at its checksum."""
    addresses = b"".join(bytes(map(int, address.split("."))) for address in (source, destination))
    return b"\x45\x00" + (20 + len(text)).to_bytes(2) + b"\x00\x00\x40\x00\x40\xfd\x00\x00" + addresses + text


def main() -> None:
    pool = ip_network("10.99.0.0/24")
    listener = ListenerConfig(
        local_identity=Identity.parse("server.example"),
        pad=(PadEntry.of_psk(PSK),),
        child=ChildConfig(local=(TrafficSelector.from_network(str(pool)),), remote=(DYNAMIC,)),
        pool=(pool,),
    )
    wanted = ConnectionConfig(
        local_identity=Identity.parse("client.example"),
        remote_identity=Identity.parse("server.example"),
        proof=Psk(PSK),
        demand=PskOf(PSK),
        child=ChildConfig(remote=(TrafficSelector.from_network("10.99.0.0/24"),)),
    )
    now = 0.0
    server = Tunnel(os.urandom, listener=listener)
    client = Tunnel(os.urandom)
    connection = client.connect(wanted, Path(CLIENT, SERVER), None, now)
    exchange(client, server, now)

    client.receive_packets([ipv4("10.99.0.2", "10.99.0.1", b"hello")], now)
    exchange(client, server, now)
    for packet in server.packets_to_deliver():
        if not isinstance(packet, Frame):  # which would come, too, if offloads were set
            print(f"server: delivers {bytes(packet[20:]).decode()}")

    now += 1.0
    client.rekey_ike(connection, now)
    exchange(client, server, now)
    client.close(connection, now)
    exchange(client, server, now)
    tell("client", client)
    tell("server", server)


if __name__ == "__main__":
    main()
