"""A tunnel whose child SAs are spread over workers, in one process; chance decides who meets what first."""

from collections import deque
from collections.abc import Sequence
from functools import partial
from random import Random

from espudp.esp import messages
from espudp.esp.elsewhere import FRONT
from espudp.esp.front import Front
from espudp.esp.worker import Worker
from espudp.ike.config import ListenerConfig
from espudp.tunnel import Tunnel, TunnelSnapshot
from espudp.wire.address import Path
from espudp.wire.buffer import Buffer
from espudp.wire.train import Train
from espudp.wire.vnet import Frame


class Team(Tunnel):
    """What one worker has for another is carried there before anything leaves the host."""

    def __init__(
        self, chance: Random, *, listener: ListenerConfig | None, path_mtu: int, workers: int
    ) -> None:
        self._chance = chance
        self._mail: deque[tuple[int, messages.Command | messages.Report | messages.Astray]] = deque()
        self.front = Front(chance.randbytes, workers, tell=self._post, hand_over=self._hand_over)
        super().__init__(
            chance.randbytes, listener=listener, path_mtu=path_mtu, workers=workers, esp=self.front
        )
        self.others = {
            number: Worker(
                chance.randbytes,
                number,
                workers,
                report=partial(self._post, -number),
                hand_over=self._hand_over,
            )
            for number in range(1, workers)
        }

    def _post(self, number: int, message: messages.Command | messages.Report | messages.Astray) -> None:
        """To a worker, or with a negative number from it."""
        self._mail.append((number, message))

    def _hand_over(self, number: int, astray: messages.Astray) -> bool:
        if isinstance(astray, messages.Outgoing):
            packet = astray.packet
            astray = messages.Outgoing(packet.copy() if isinstance(packet, Frame) else bytes(packet))
        self._post(number, astray)
        return True

    def _carry_mail(self, now: float) -> None:
        while True:
            for number, worker in self.others.items():
                while (event := worker.next_event()) is not None:
                    self._post(-number, event)
            if not self._mail:
                break
            self._deliver(*self._mail.popleft(), now)
        self.attend(now)
        if self._mail:
            self._carry_mail(now)

    def _deliver(
        self, number: int, message: messages.Command | messages.Report | messages.Astray, now: float
    ) -> None:
        if number < 0:
            self.front.receive(-number, message, now)  # type: ignore[arg-type]
        elif isinstance(message, messages.Steer):
            pass  # chance does
        elif not isinstance(message, messages.Outgoing | messages.Incoming):
            self.others[number].obey(message, now)  # type: ignore[arg-type]
        elif number != FRONT:
            self.others[number].take_over(message, now)
        else:
            with self.front.closed():
                if isinstance(message, messages.Outgoing):
                    super().receive_packets([message.packet], now)
                else:
                    super().receive_datagrams(message.datagrams, message.path, now, message.tos)

    # What a tunnel does

    def _somebody(self) -> int:
        return self._chance.randrange(len(self.others) + 1)

    def receive_datagrams(self, datagrams: Sequence[Buffer], path: Path, now: float, tos: int = 0) -> None:
        number = FRONT if path.local.port in self._ike_ports else self._somebody()
        if number == FRONT:
            super().receive_datagrams(datagrams, path, now, tos)
        else:
            self.others[number].receive_datagrams(datagrams, path, now, tos)

    def receive_packets(self, packets: Sequence[Buffer | Frame], now: float) -> None:
        number = self._somebody()
        if number == FRONT:
            super().receive_packets(packets, now)
        else:
            self.others[number].receive_packets(packets, now)

    def poll_timer(self) -> float | None:
        timers = (super().poll_timer(), *(worker.poll_timer() for worker in self.others.values()))
        return min((timer for timer in timers if timer is not None), default=None)

    def handle_timer(self, now: float) -> None:
        for worker in self.others.values():
            worker.handle_timer(now)
        self._carry_mail(now)
        super().handle_timer(now)

    def datagrams_to_send(self, now: float) -> list[Train]:
        self._carry_mail(now)
        trains = super().datagrams_to_send(now)
        return trains + [train for worker in self.others.values() for train in worker.datagrams_to_send(now)]

    def packets_to_deliver(self) -> list[Buffer | Frame]:
        packets = super().packets_to_deliver()
        return packets + [packet for worker in self.others.values() for packet in worker.packets_to_deliver()]

    def snapshot(self, now: float) -> TunnelSnapshot:
        self.front.ask()
        self._carry_mail(now)
        return super().snapshot(now)
