"""Which mode of IPsec crosses which middlebox: each is tried with five clients at once, and with one.

python -m tests.scenario.crossings README.md
"""

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from tests.scenario.modes import MODES, Mode
from tests.sim.firewall import NoFragments, NoUdp
from tests.sim.ipsec_nat import Helper, Natd, PassThrough, SpiNat
from tests.sim.link import Segment
from tests.sim.middlebox import Middlebox
from tests.sim.nat import CarrierNat, Nat, NatKind, StaticNat
from tests.sim.world import World

BEGIN, END = "<!-- what `pytest tests/scenario` tries -->", "<!-- the end of what crosses -->"

PUBLIC, OTHER_PUBLIC = "198.51.100.1", "198.51.100.2"
PRIVATE_NETWORK, PUBLIC_NETWORK = "192.168.1", "198.51.100"
CLIENTS = 5
FIRST_CLIENT = 10


class Outcome(Enum):
    """How many clients behind one middlebox are not disturbed by it and each other."""

    ALL = "yes"
    ONE = "one"
    NONE = "-"


@dataclass(frozen=True, slots=True)
class Place:
    """Where clients are: behind what, and in which network."""

    name: str
    make: Callable[[World, Segment], Middlebox | None]
    network: str = PRIVATE_NETWORK

    def addresses(self, clients: int) -> list[str]:
        """Of so many clients."""
        return [f"{self.network}.{FIRST_CLIENT + number}" for number in range(clients)]


def _one_to_one(world: World, net: Segment) -> Middlebox:
    numbers = range(FIRST_CLIENT, FIRST_CLIENT + CLIENTS)
    return StaticNat(world, net, {f"{PRIVATE_NETWORK}.{n}": f"{PUBLIC_NETWORK}.{100 + n}" for n in numbers})


def _double(world: World, net: Segment) -> Middlebox:
    carrier = Nat(world, net, PUBLIC, kind=NatKind.SYMMETRIC)
    return Nat(world, carrier.inside, "100.64.0.7")


PLACES = (
    Place("none", lambda _world, _net: None, PUBLIC_NETWORK),
    Place("1:1 NAT", _one_to_one),
    Place("port-restricted NAT", lambda world, net: Nat(world, net, PUBLIC)),
    Place("symmetric NAT", lambda world, net: Nat(world, net, PUBLIC, kind=NatKind.SYMMETRIC)),
    Place("two NATs", _double),
    Place("carrier, 30 s", lambda world, net: CarrierNat(world, net, [PUBLIC, OTHER_PUBLIC])),
    Place("natd", lambda world, net: Natd(world, net, PUBLIC)),
    Place("SPI matching", lambda world, net: SpiNat(world, net, PUBLIC)),
    Place("pass-through", lambda world, net: PassThrough(world, net, PUBLIC)),
    Place("helper on 500", lambda world, net: Helper(world, net, PUBLIC)),
    Place("no fragments", NoFragments, PUBLIC_NETWORK),
    Place("no UDP", NoUdp, PUBLIC_NETWORK),
)


def outcome(mode: Mode, place: Place) -> Outcome:
    """What a mode comes to, somewhere."""
    for clients, found in ((CLIENTS, Outcome.ALL), (1, Outcome.ONE)):
        if not mode.disturbance(place.make, place.addresses(clients)):
            return found
    return Outcome.NONE


def markdown(found: dict[tuple[str, str], Outcome]) -> Iterator[str]:
    """The table, one row for each mode and one column for each place."""
    yield f"| | {' | '.join(place.name for place in PLACES)} |"
    yield f"| --- {'| :---: ' * len(PLACES)}|"
    for mode in MODES:
        cells = (found[mode.name, place.name].value for place in PLACES)
        yield f"| {mode.name} | {' | '.join(cells)} |"


def shown(text: str) -> dict[tuple[str, str], Outcome]:
    """What a text shows between the marks; raises ValueError where there is nothing."""
    _, begin, rest = text.partition(BEGIN)
    table, end, _ = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"the marks {BEGIN} and {END} are missing")
    head, _, *rows = ([cell.strip() for cell in line.split("|")[1:-1]] for line in table.split("\n")[1:-1])
    return {
        (row[0], name): Outcome(cell) for row in rows for name, cell in zip(head[1:], row[1:], strict=True)
    }


def replaced(text: str, lines: Sequence[str]) -> str:
    """The text with these lines between the marks."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return "\n".join([f"{before}{BEGIN}", *lines, f"{END}{after}"])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("file", type=Path, help="has the two marks in it")
    path = parser.parse_args().file
    text = path.read_text()
    if BEGIN not in text or END not in text:
        sys.exit(f"{path}: the marks {BEGIN} and {END} are missing.")
    found = {(mode.name, place.name): outcome(mode, place) for mode in MODES for place in PLACES}
    path.write_text(replaced(text, list(markdown(found))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
