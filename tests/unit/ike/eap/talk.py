"""Two ends of an EAP conversation, each of which hears what the other says."""

from collections.abc import Callable, Iterator
from random import Random
from typing import Protocol

from espudp.ike.eap.login import EapLogin, EapUsers
from espudp.ike.eap.peer import EapPeer
from espudp.ike.eap.server import EapServer
from espudp.ike.eap.users import User, UserTable
from espudp.wire.eap import EapPacket, EapType

PASSWORD = "correct horse"
USERS = (
    User.of_password("alice", PASSWORD),
    User.of_nt_hash("norbert", User.of_password("", PASSWORD).nt_hash),
    User.of_password("jürgen", "schön€"),
)


class Server(Protocol):
    def start(self) -> bytes: ...
    def receive(self, packet: bytes) -> bytes | None: ...


def chance(seed: int = 1) -> Callable[[int], bytes]:
    return Random(seed).randbytes


def login(user: str = "alice", password: str = PASSWORD, *methods: EapType) -> EapPeer:
    config = EapLogin(user=user, password=password, methods=methods)
    return config.peer(chance(2), gateway_proven=True)


def service(*methods: EapType) -> EapServer:
    users = UserTable(USERS, chance(3))
    config = EapUsers(users=users, methods=methods)
    return config.server(chance(4))


def packets(peer: EapPeer, server: Server) -> Iterator[EapPacket]:
    """All packets of a conversation, the server's first."""
    said: bytes | None = server.start()
    while said is not None:
        yield EapPacket.parse(said)
        answer = peer.receive(said)
        if answer is None:
            return
        yield EapPacket.parse(answer)
        said = server.receive(answer)


def talk(peer: EapPeer, server: Server) -> list[EapPacket]:
    return list(packets(peer, server))
