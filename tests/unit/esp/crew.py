"""A front and its workers in one process: what they tell each other is pickled, as between processes."""

import pickle
from collections import Counter
from collections.abc import Sequence

from espudp.esp import messages
from espudp.esp.front import Front
from espudp.esp.worker import Worker
from espudp.wire.address import Path
from espudp.wire.buffer import Buffer
from espudp.wire.train import Burst, Train
from espudp.wire.vnet import Frame
from tests.unit.crypto.seeded import seeded_rng


class Crew:
    """Messages wait until `carry` brings them to where they go."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.commands: list[tuple[int, bytes]] = []
        self.reports: list[tuple[int, bytes]] = []
        self.astray: list[tuple[int, bytes]] = []
        self.full: set[int] = set()
        self.steering: dict[int, bool] = {}
        self.handed: Counter[int] = Counter()
        """What was handed over, by receiver."""
        self.asked = 0
        """How often a worker has asked whether there are commands."""
        self.front = Front(seeded_rng(100), count, tell=self._tell, hand_over=self._hand_over)
        self.workers = {number: self.worker(number) for number in range(1, count)}
        self.sent: dict[int, list[Train]] = {number: [] for number in range(count)}
        self.delivered: dict[int, list[bytes]] = {number: [] for number in range(count)}

    def worker(self, number: int) -> Worker:
        """One that knows nothing yet."""
        return Worker(
            seeded_rng(100 + number),
            number,
            self.count,
            report=lambda report: self.reports.append((number, pickle.dumps(report))),
            hand_over=self._hand_over,
            catch_up=lambda now: self._catch_up(number, now),
        )

    def _catch_up(self, number: int, now: float) -> bool:
        self.asked += 1
        mine = [message for worker, message in self.commands if worker == number]
        self.commands = [(worker, message) for worker, message in self.commands if worker != number]
        for message in mine:
            self.workers[number].obey(pickle.loads(message), now)
        return bool(mine)

    def _tell(self, worker: int, command: messages.Command) -> None:
        if isinstance(command, messages.Steer):
            self.steering[worker] = command.by_return
        if worker:
            self.commands.append((worker, pickle.dumps(command)))

    def _hand_over(self, worker: int, astray: messages.Astray) -> bool:
        if worker in self.full:
            return False
        self.handed[worker] += 1
        self.astray.append((worker, pickle.dumps(_owned(astray))))
        return True

    def carry(self, now: float = 0.0) -> None:
        """Until all is quiet."""
        while self._carry_once(now):
            pass

    def _carry_once(self, now: float) -> bool:
        for number, worker in self.workers.items():
            while (event := worker.next_event()) is not None:
                self.reports.append((number, pickle.dumps(event)))
        commands, self.commands = self.commands, []
        reports, self.reports = self.reports, []
        astray, self.astray = self.astray, []
        for number, message in commands:
            self.workers[number].obey(pickle.loads(message), now)
        for number, message in reports:
            self.front.receive(number, pickle.loads(message), now)
        for number, message in astray:
            self._take_over(number, pickle.loads(message), now)
        return bool(commands or reports or astray)

    def _take_over(self, number: int, item: messages.Astray, now: float) -> None:
        if number:
            self.workers[number].take_over(item, now)
            self._collect(number, now)
            return
        with self.front.closed():
            if isinstance(item, messages.Outgoing):
                self.seal(0, [item.packet], now)
            else:
                self.open(0, item.datagrams, item.path, now, item.tos)

    def _collect(self, number: int, now: float) -> None:
        worker = self.workers[number]
        self.sent[number] += (train.copy() for train in worker.datagrams_to_send(now))
        self.delivered[number] += map(octets, worker.packets_to_deliver())

    def seal(self, number: int, packets: Sequence[Buffer | Frame], now: float = 0.0) -> None:
        """What one of them reads from its TUN queue."""
        if number:
            self.workers[number].receive_packets(packets, now)
            self._collect(number, now)
        else:
            self.sent[0] += (train.copy() for train in self.front.seal(packets, now))

    def open(
        self, number: int, datagrams: Sequence[Buffer], path: Path, now: float = 0.0, tos: int = 0
    ) -> None:
        """What one of them receives from its socket."""
        if number:
            self.workers[number].receive_datagrams(datagrams, path, now, tos)
            self._collect(number, now)
        else:
            self.delivered[0] += map(octets, self.front.open(datagrams, path, now, tos))


def _owned(astray: messages.Astray) -> messages.Astray:
    if isinstance(astray, messages.Outgoing):
        packet = astray.packet
        if isinstance(packet, Frame):
            return messages.Outgoing(packet.copy())
        return messages.Outgoing(bytes(packet))
    datagrams = astray.datagrams
    owned = datagrams.copy() if isinstance(datagrams, Burst) else [bytes(d) for d in datagrams]
    return messages.Incoming(owned, astray.path, astray.tos)


def octets(packet: Buffer | Frame) -> bytes:
    """A packet, whatever is left to do for it, copied."""
    return packet.packet if isinstance(packet, Frame) else bytes(packet)
