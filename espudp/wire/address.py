"""Where a datagram comes from and goes to."""

from typing import NamedTuple


class UdpAddress(NamedTuple):
    """One end of a UDP flow: a textual IPv4 or IPv6 address (no brackets, no zone) and a port.

    With port 0 it is one end of plain ESP, IP protocol 50, which has none.
    """

    ip: str
    port: int

    def __str__(self) -> str:
        if not self.port:
            return self.ip
        return f"[{self.ip}]:{self.port}" if ":" in self.ip else f"{self.ip}:{self.port}"


class Path(NamedTuple):
    """Both ends of a UDP flow, seen from here. Equal paths are one NAT mapping."""

    local: UdpAddress
    remote: UdpAddress

    def __str__(self) -> str:
        return f"{self.local} -> {self.remote}"
