"""Users of a group log in by IKEv1 (XAUTH), and are told what goes into the tunnel (mode config).

As in tunnel_in_memory.py nothing here touches the operating system. With `proof=NoProof()` and a certificate
for the gateway it would be hybrid authentication, and nobody would need the key of a group.
"""

import os
from ipaddress import ip_network

from espudp import (
    DYNAMIC,
    AddressAssigned,
    ChildConfig,
    ChildInstalled,
    ConnectionConfig,
    ConnectionDown,
    ConnectionUp,
    Identity,
    Ikev1Config,
    Ikev1Mode,
    Ikev1Policy,
    ListenerConfig,
    PadEntry,
    Path,
    PeerRefused,
    Psk,
    PskOf,
    TrafficSelector,
    Tunnel,
    UdpAddress,
    UserTable,
    XauthLogin,
    XauthUsers,
    parse_users,
)

GATEWAY = UdpAddress("198.51.100.1", 4500)
GROUP_KEY = os.urandom(32)
USERS = b"alice:open sesame\nbob:$NT$" + b"0" * 32 + b"\n"


def gateway() -> Tunnel:
    """Lets users of the group in, in main mode, and carries what is for its office."""
    office, pool = ip_network("10.1.0.0/16"), ip_network("10.99.0.0/24")
    users = XauthUsers(users=UserTable(parse_users(USERS), os.urandom))
    config = ListenerConfig(
        local_identity=Identity.parse("gateway.example"),
        pad=(PadEntry(proof=Psk(GROUP_KEY), demand=PskOf(GROUP_KEY), xauth=users),),
        child=ChildConfig(local=(TrafficSelector.from_network(str(office)),), remote=(DYNAMIC,)),
        pool=(pool,),
        split=(office,),
        ikev1=Ikev1Policy(modes=frozenset({Ikev1Mode.MAIN}), banner="Authorized users only."),
    )
    return Tunnel(os.urandom, listener=config)


def user(password: str) -> ConnectionConfig:
    """Asks for everything, as clients of such gateways do, and sends what it is told of."""
    return ConnectionConfig(
        local_identity=Identity.parse("laptop.example"),
        proof=Psk(GROUP_KEY),
        demand=PskOf(GROUP_KEY),
        child=ChildConfig(remote=(TrafficSelector.from_network("0.0.0.0/0"),)),
        request_addresses=("any4",),
        ikev1=Ikev1Config(xauth=XauthLogin(user="alice", password=password)),
    )


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
            case ConnectionUp():
                print(f"{name}: IKEv{event.ike_version} with {event.remote_identity}")
            case AddressAssigned():
                print(f"{name}: has {event.addresses[0]}, and reads: {event.banner}")
            case ChildInstalled():
                print(f"{name}: {event.suite.name} for {event.remote[0]}")
            case ConnectionDown() | PeerRefused():
                print(f"{name}: {event.reason}")


def main() -> None:
    server = gateway()
    for number, password in enumerate(("open sesame", "guessed")):
        client = Tunnel(os.urandom)
        path = Path(UdpAddress(f"192.0.2.{1 + number}", 4500), GATEWAY)
        client.connect(user(password), path, None, now=float(number))
        exchange(client, server, now=float(number))
        server.handle_timer(now=number + 1.5)  # who has a wrong password is told a second later
        exchange(client, server, now=number + 1.5)
        tell("client", client)
        tell("server", server)


if __name__ == "__main__":
    main()
