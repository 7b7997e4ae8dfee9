"""TCP through a tunnel that goes on while something happens to the network below it."""

import socket
import threading
import time

from espudp.host.netns import Namespace

SERVER_INSIDE = "10.99.0.1"

_BLOCK = 8192


def _numbered(offset: int) -> bytes:
    return offset.to_bytes(8) * (_BLOCK // 8)


class Download:
    """TCP from a server to a client, as long as it is not stopped; what arrives is what was sent."""

    def __init__(self, server: Namespace, client: Namespace, server_inside: str = SERVER_INSIDE) -> None:
        with server.inside():
            self._listening = socket.create_server((server_inside, 0))
        self._stop = threading.Event()
        self.sent = self.received = 0
        self.mangled = False
        threads = [threading.Thread(target=self._serve)]
        with client.inside():
            address = (server_inside, self._listening.getsockname()[1])
            threads[0].start()
            self._connection = socket.create_connection(address, timeout=10)
        threads.append(threading.Thread(target=self._receive))
        threads[1].start()
        self._threads = threads

    def _serve(self) -> None:
        self._listening.settimeout(10)
        connection, _ = self._listening.accept()
        with connection:
            while not self._stop.is_set():
                connection.sendall(_numbered(self.sent))
                self.sent += len(_numbered(self.sent))
                time.sleep(0.002)

    def _receive(self) -> None:
        self._connection.settimeout(30)
        pending = b""
        while chunk := self._connection.recv(65536):
            pending += chunk
            while len(pending) >= _BLOCK:
                self.mangled |= pending[:_BLOCK] != _numbered(self.received)
                self.received += _BLOCK
                pending = pending[_BLOCK:]

    def goes_on(self, seconds: float = 15.0) -> float:
        """Wait for as much as was under way, and more, to arrive; how long that took."""
        start, goal = time.monotonic(), self.sent + (1 << 20)
        while self.received < goal:
            assert time.monotonic() < start + seconds, f"{self.received} of {goal}"
            time.sleep(0.01)
        return time.monotonic() - start

    def end(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(30)
        self._connection.close()
        self._listening.close()
        assert self.received == self.sent
        assert not self.mangled
