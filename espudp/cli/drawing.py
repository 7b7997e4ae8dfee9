"""The demo's result: the topology, with what was measured where."""

from collections.abc import Iterator

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from espudp.cli.tables import octets
from espudp.host.demo import CLIENT_IP, LAN_IP, OUTSIDE_IP, SERVER_IP, DemoResult

# Columns at which the three boxes, the tunnel's two legs and the tap begin.
_CLIENT, _ROUTER, _SERVER = 2, 28, 55
_CLIENT_LEG, _SERVER_LEG, _TAP = 11, 64, 52
_WIDTH = 78


def draw(result: DemoResult) -> RenderableType:
    """The picture and the findings."""
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="bold", no_wrap=True)
    grid.add_column(no_wrap=True)
    grid.add_column(style="dim")
    for label, value, remark in _findings(result):
        grid.add_row(f"  {label}", value, remark)
    verdict = ("everything held", "bold green") if result.ok else ("it failed", "bold red")
    picture = Text("\n".join(_picture(result)), no_wrap=True, overflow="ignore")
    return Group(Text(), picture, Text(), grid, Text(), Text.assemble("  ", verdict))


def _picture(result: DemoResult) -> Iterator[str]:
    link = result.link
    tunnel = f" ESP tunnel, {result.suite} ".center(_SERVER_LEG - _CLIENT_LEG - 1, "═")
    measured = f"round trip {result.rtt_ms:.2f} ms, TCP {result.throughput_gbps:.2f} Gbit/s"
    seen = f"{link.natt} packets, UDP 4500" if not link.strays else f"{len(link.strays)} strays"
    outer = f".{LAN_IP.rpartition('.')[2]}", OUTSIDE_IP
    ends = "╭──────────────────╮", "╰────────┬─────────╯"
    middle = "╭───────────────────╮", "╰───────────────────╯"

    yield _line((_CLIENT, ends[0]), (_ROUTER, middle[0]), (_SERVER, ends[0]))
    yield _line(*_boxes("client", "router", "server"))
    yield _line(*_boxes("espudp connect", "NAT", "espudp listen"))
    wires = (_CLIENT + 19, "├──────┤"), (_ROUTER + 20, "├───┬──┤")
    yield _line(*_boxes(CLIENT_IP, f"{outer[0]}{outer[1]:>15}", SERVER_IP), *wires)
    yield _line((_CLIENT, ends[1]), (_ROUTER, middle[1]), (_SERVER, ends[1]), (_TAP, "│"))
    inner = (_CLIENT_LEG + 2, result.client_address), (_SERVER_LEG + 2, result.server_address)
    yield _line((_CLIENT_LEG, "│"), (_TAP, "│"), (_SERVER_LEG, "│"), *inner)
    yield _line((_CLIENT_LEG, f"╰{tunnel}╯"), (_TAP, "╪"))
    yield _line((_CLIENT_LEG + 4, measured), (_TAP, "│"))
    yield _line((_TAP, "╰ outside link:"))
    yield _line((_TAP + 2, seen))
    yield _line((_TAP + 2, f"{link.plaintext} in the clear"))


def _boxes(client: str, router: str, server: str) -> tuple[tuple[int, str], ...]:
    """One line of text in each of the three."""
    return (_CLIENT, f"│{client:^18}│"), (_ROUTER, f"│{router:^19}│"), (_SERVER, f"│{server:^18}│")


def _line(*pieces: tuple[int, str]) -> str:
    """Pieces of text at their columns, the later ones on top."""
    line = [" "] * _WIDTH
    for column, text in pieces:
        line[column : column + len(text)] = text
    return "".join(line[:_WIDTH]).rstrip()


def _findings(result: DemoResult) -> Iterator[tuple[str, str, str]]:
    link = result.link
    yield "suite", result.suite or "-", f"IKE {result.ike_suite}"
    yield "NAT detected", result.nat or "-", f"the server sees the client at {result.mapping}"
    yield "inner MTU", str(result.mtu or "-"), "worked out from the path and the suite"
    yield "round trip", f"{result.rtt_ms:.2f} ms", f"median of {result.pings} pings"
    yield "throughput", f"{result.throughput_gbps:.2f} Gbit/s", f"{octets(result.transferred)} of TCP, intact"
    yield (
        "outside link",
        f"{link.natt} packets",
        f"UDP 4500, {octets(link.octets)}; and {link.ike} of UDP 500",
    )
    yield "in the clear", str(link.plaintext), "packets outside UDP 500 and 4500, or inner octets"
