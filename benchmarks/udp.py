"""The highest rate of UDP packets that a tunnel carries."""

import time
from dataclasses import dataclass

from benchmarks.agent import Agent
from benchmarks.search import highest_rate

LOSS_MAX = 0.001
# A rate counts as carried if one of so many trials carried it: a lapse of the machine is not the tunnel's.
ATTEMPTS = 2
# What comes later than so much of the trial's time after its end was queued up, not carried.
LATE_MAX = 0.05
# A sender that cannot keep up has not shown that the rate is carried.
SENT_MIN = 0.98

# When nothing more has come for so long, what was on the way has arrived or is lost.
SETTLED_SECONDS = 0.05


@dataclass(frozen=True)
class Trial:
    """What went in and what came out."""

    seconds: float
    """For which the sender sent."""
    sent: int
    received: int
    late: float
    """Seconds from the end of sending to the last arrival."""

    def carried(self, rate: float) -> bool:
        """Whether it was `rate` packets per second that went in, and whether they came out in time."""
        return (
            self.sent >= rate * self.seconds * SENT_MIN
            and self.received >= self.sent * (1 - LOSS_MAX)
            and self.late <= self.seconds * LATE_MAX
        )

    @property
    def delivered(self) -> float:
        """Packets per second."""
        return self.received / (self.seconds + max(0.0, self.late))


class Flood:
    """A sender and a receiver, both `benchmarks.flood`."""

    def __init__(self, sender: Agent, receiver: Agent, seconds: float) -> None:
        self._sender = sender
        self._receiver = receiver
        self._seconds = seconds

    def highest_rate(self, octets: int, steps: int) -> float:
        """Packets per second of so many octets of payload, that lose less than `LOSS_MAX`."""
        return highest_rate(
            lambda rate: any(self.trial(octets, rate).carried(rate) for _ in range(ATTEMPTS)),
            self.trial(octets, 0.0).delivered,
            steps,
        )

    def trial(self, octets: int, rate: float) -> Trial:
        """Send at a rate, 0 being as fast as possible, and wait for what comes."""
        self._receiver.ask("")
        said = self._sender.ask(f"{octets} {rate} {self._seconds}")
        received, last = 0, 0.0
        while True:
            time.sleep(SETTLED_SECONDS)
            news = self._receiver.ask("")
            if not news["received"]:
                return Trial(said["seconds"], said["sent"], received, last - said["ended"])
            received += news["received"]
            last = news["last"]
