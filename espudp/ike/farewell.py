"""How a connection ends: what is told of it, decided long before it is."""

from dataclasses import dataclass

from espudp.ike.events import ConnectionDown, Fault


@dataclass(frozen=True, slots=True)
class Farewell:
    """What ConnectionDown is going to say."""

    fault: Fault
    reason: str
    remedy: str = ""
    retry: bool = False
    redirect: str = ""

    def event(self, number: int) -> ConnectionDown:
        """ConnectionDown of the connection with this number."""
        return ConnectionDown(number, self.reason, self.remedy, self.fault, self.retry, self.redirect)
