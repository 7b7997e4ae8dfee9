"""TCP traffic to measure with: `python -m espudp.host.traffic send|receive ADDRESS PORT OCTETS SECONDS`.

Both ends are processes of their own, so that neither waits for the other's interpreter. The receiver checks
every octet and prints what it measured as one JSON object. `MARKER` recurs at every 64 octets: whoever sees
the stream in the clear anywhere will find it.
"""

import json
import socket
import sys
import time

# Recognisable, and 64 octets with its padding: some whole copy is in every packet.
MARKER = b"espudp demo: this must never be seen on the outside link"
PATTERN = MARKER.ljust(64, b".") * (1 << 13)
CHUNK_OCTETS = len(PATTERN)
TWICE = PATTERN + PATTERN
CONNECT_SECONDS = 10.0


def send(address: str, port: int, octets: int, seconds: float) -> None:
    """Connect, and send so many octets, or for so long, whichever ends first."""
    deadline = time.monotonic() + seconds
    with socket.create_connection((address, port), timeout=CONNECT_SECONDS) as stream:
        stream.settimeout(seconds)
        while octets > 0 and time.monotonic() < deadline:
            stream.sendall(PATTERN[:octets])
            octets -= CHUNK_OCTETS


def receive(address: str, port: int, seconds: float) -> dict[str, float | int | bool]:
    """Accept one connection, and measure from its first octet to its last. Raises TimeoutError."""
    with socket.create_server((address, port), backlog=1) as listener:
        listener.settimeout(CONNECT_SECONDS)
        stream, _ = listener.accept()
    with stream:
        stream.settimeout(seconds)
        received, intact, started = 0, True, 0.0
        while data := stream.recv(CHUNK_OCTETS):
            started = started or time.monotonic()
            at = received % CHUNK_OCTETS
            intact = intact and data == TWICE[at : at + len(data)]
            received += len(data)
        elapsed = time.monotonic() - started if started else 0.0
    return {"octets": received, "seconds": elapsed, "intact": intact}


def main() -> None:
    """The command line above; one line on standard error if it goes wrong."""
    role, address, port, octets, seconds = sys.argv[1:]
    try:
        if role == "send":
            send(address, int(port), int(octets), float(seconds))
        else:
            sys.stdout.write(json.dumps(receive(address, int(port), float(seconds))) + "\n")
    except OSError as error:
        sys.exit(f"{role}: {error}")


if __name__ == "__main__":
    main()
