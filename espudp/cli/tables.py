"""A status snapshot for people. It is read as JSON, which is what came over the control socket."""

import time
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

Json = Mapping[str, Any]

# Between the two ends of a path.
ARROW = " -> "

_SI = ("", "k", "M", "G", "T", "P")
_STATE_STYLES = {"active": "green", "standby": "cyan", "lingering": "yellow", "expired": "red"}
_PHASE_STYLES = {"established": "green", "connecting": "yellow", "closing": "yellow"}


def process_view(process: Json) -> RenderableType:
    """Everything about one process."""
    tunnel = process["tunnel"]
    sas: dict[int, list[Json]] = defaultdict(list)
    for sa in tunnel["sas"]:
        sas[sa["connection"]].append(sa)
    known = {connection["connection"]: connection for connection in tunnel["connections"]}
    parts: list[RenderableType] = [_headline(process)]
    for number in sorted({*known, *sas}):
        inner = f"inner MTU {mtu}" if (mtu := tunnel["mtus"].get(str(number))) else ""
        connection = known.get(number)
        peer = _manual(number, sas[number], inner) if connection is None else _peer(number, connection, inner)
        parts.append(Padding(peer, (1, 0, 0, 2)))
        parts += [Padding(view, (0, 0, 0, 4)) for view in _pairs(sas[number], process)]
    if not known and not sas:
        parts.append(Text("  no peer", style="dim"))
    if len(process["workers"]) > 1:
        parts.append(Padding(_workers(process["workers"]), (1, 0, 0, 2)))
    for limit in process["limits"]:
        parts.append(Padding(Text.assemble(("slower than it could be  ", "bold"), limit), (1, 0, 0, 2)))
    if trouble := _drops(process):
        parts.append(Padding(Text.assemble(("dropped or refused  ", "bold"), trouble), (1, 0, 0, 2)))
    return Padding(Group(*parts), (0, 0, 1, 0))


def _headline(process: Json) -> Text:
    facts = [
        f"device {process['device']}",
        f"address {', '.join(process['addresses'])}" if process["addresses"] else "",
        f"MTU {process['mtu']}",
        f"offloads {' '.join(process['offloads'])}" if process["offloads"] else "no offloads",
        f"UDP {', '.join(map(str, process['ports']))}" if process["ports"] else "",
        "plain ESP" if process["plain_esp"] else "",
        f"routes {', '.join(process['routes'])}" if process["routes"] else "",
        " for ".join(", ".join(part) for part in _dns(process)),
        f"pid {process['pid']}",
        f"up {duration(max(0.0, time.time() - process['started']))}",
    ]
    return Text.assemble(
        (f"{process['name']} ", "bold"),
        (process["role"], "bold cyan"),
        f"  {'  '.join(f for f in facts if f)}",
    )


def _dns(process: Json) -> Iterator[list[str]]:
    """The servers that the peer offers, and what they are for."""
    if process["dns"]:
        yield [f"DNS {process['dns'][0]}", *process["dns"][1:]]
        if process["dns_domains"]:
            yield process["dns_domains"]


def _manual(number: int, sas: list[Json], inner: str) -> Text:
    """Of manual keys there is no connection in IKE's sense; the SAs know where the peer is."""
    local, _, remote = sas[0]["path"].partition(ARROW)
    where = "peer not heard of yet" if remote == "0.0.0.0" else f"{remote}  at {local}"
    return Text.assemble((f"#{-number} manual keys", "bold"), f"  {where}  {inner}")


def _peer(number: int, connection: Json, inner: str) -> RenderableType:
    phase = connection["phase"]
    remote = (connection["path"] or "").rpartition(ARROW)[2]
    head = Text.assemble(
        (f"#{number} ", "bold"),
        (connection["remote_identity"] or "the peer", "bold"),
        f"  {remote}  ",
        (phase, _PHASE_STYLES.get(phase, "")),
        f" {duration(connection['established_for'])}" if connection["established_for"] is not None else "",
    )
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column()
    for label, value in _facts(connection, inner):
        if value:
            grid.add_row(label, value)
    return Group(head, Padding(grid, (0, 0, 0, 2)))


def _facts(connection: Json, inner: str) -> Iterator[tuple[str, str]]:
    role = "initiator" if connection["initiator"] else "responder"
    local = (connection["path"] or "").partition(ARROW)[0]
    yield "we are", f"{role} {connection['local_identity']}" + (f" at {local}" if local else "")
    yield "NAT", nat(connection["nat"])
    yield "our address", ", ".join(connection["addresses"])
    yield "its address", ", ".join(connection["peer_addresses"])
    yield "inner MTU", inner.removeprefix("inner MTU ")
    if connection["suite"]:
        yield "IKE", _ike(connection)
        yield "IKE SPIs", f"{connection['spi_i']} {connection['spi_r']}"
    yield "it says it has", ", ".join(connection.get("vendor_ids", ()))
    timers = [
        f"heard {duration(connection['silent_for'])} ago" if connection["silent_for"] is not None else "",
        f"new keys in {duration(connection['rekey_in'])}" if connection["rekey_in"] is not None else "",
        f"ends in {duration(connection['expires_in'])}" if connection["expires_in"] is not None else "",
        f"requests under way: {connection['waiting']}" if connection["waiting"] else "",
    ]
    yield "IKE timers", ", ".join(timer for timer in timers if timer)


def _ike(connection: Json) -> str:
    """The suite, and of what is older the mode of phase 1, and what it does about NATs."""
    if connection.get("ike_version", 2) != 1:
        return str(connection["suite"])
    traversal = f", NAT traversal by {connection['nat_traversal']}" if connection["nat_traversal"] else ""
    return f"{connection['suite']}, IKEv1, {connection['exchange']} mode{traversal}"


def _workers(workers: list[Json]) -> Table:
    """What each process does, and what it costs."""
    table = Table(box=None, padding=(0, 1, 0, 0), header_style="dim")
    for heading in ("worker", "pid", "CPU", "memory", "pairs", "packets in", "out", "handed over"):
        table.add_column(heading, justify="right", no_wrap=True)
    for worker in workers:
        cost = f"{worker['cpu_seconds']:.1f} s", octets(worker["memory_octets"])
        if worker["silent"]:
            cost = "no answer", ""
        packets = (str(worker["packets"][way]) for way in ("in", "out"))
        who = str(worker["worker"]), str(worker["pid"])
        table.add_row(*who, *cost, str(worker["pairs"]), *packets, str(worker["handed_over"]))
    return table


def _pairs(sas: list[Json], process: Json) -> Iterator[RenderableType]:
    """Each pair of SAs: what the two have in common, then a line for each direction."""
    workers = len(process["workers"])
    pairs: dict[int, list[Json]] = defaultdict(list)
    for sa in sas:
        pairs[sa["pair"]].append(sa)
    for pair in sorted(pairs.values(), key=lambda pair: -pair[0]["age"]):
        first = pair[0]
        state = first["state"]
        yield Text.assemble(
            ("ESP ", "bold"),
            (first["suite"], "bold"),
            "  ",
            (state, _STATE_STYLES.get(state, "")),
            f" {duration(first['age'])}  {', '.join(first['local'])} <=> {', '.join(first['remote'])}",
            f"  {carriage(first['path'], process['ike_ports'])}",
            f"  worker {first['pair'] % workers}" if workers > 1 else "",
        )
        yield Padding(_pair_table(pair), (0, 0, 0, 2))
        for sa in pair:
            if dropped := _reasons(sa["drops"]):
                yield Text(f"  {sa['direction']} dropped: {dropped}", style="yellow")


def _pair_table(pair: list[Json]) -> Table:
    table = Table(box=None, padding=(0, 1, 0, 0), header_style="dim")
    table.add_column("", no_wrap=True, min_width=3)
    table.add_column("SPI", no_wrap=True)
    for heading in ("sequence", "window", "packets", "bytes", "dropped", "new keys", "ends"):
        table.add_column(heading, justify="right", no_wrap=True)
    for sa in sorted(pair, key=lambda sa: str(sa["direction"])):
        window = str(sa["replay_window"] or "off") if sa["direction"] == "in" else ""
        counted = str(sa["packets"]), octets(sa["octets"]), str(sum(sa["drops"].values()))
        numbers = f"{sa['spi']:08x}", str(sa["sequence"]), window
        table.add_row(sa["direction"], *numbers, *counted, *_left(sa))
    return table


def _left(sa: Json) -> tuple[str, str]:
    """What is left of the soft and the hard lifetime: of time, bytes and packets, one a line."""
    lines: tuple[list[str], list[str]] = ([], [])
    for kind, column in zip(("soft", "hard"), lines, strict=True):
        if (seconds := sa[f"{kind}_seconds_left"]) is not None:
            column.append(duration(seconds) if seconds > 0 else "due")
        limits = sa["lifetime"]
        if (limit := limits[f"{kind}_bytes"]) is not None:
            column.append(octets(max(0, limit - sa["octets"])))
        if (limit := limits[f"{kind}_packets"]) is not None:
            column.append(f"{max(0, limit - sa['packets'])} pkts")
    return "\n".join(lines[0]) or "never", "\n".join(lines[1]) or "never"


def _drops(process: Json) -> str:
    """Of the whole process, beside what the SAs count themselves."""
    counted = {**process["tunnel"]["drops"], **process["send_drops"]}
    for kind in ("send_errors", "tun_errors"):
        label = "sending" if kind == "send_errors" else "TUN"
        counted |= {f"{label}: {reason}": count for reason, count in process[kind].items()}
    return _reasons(counted)


def _reasons(counted: Mapping[str, int]) -> str:
    return ", ".join(f"{reason} {count}" for reason, count in counted.items() if count)


def carriage(path: str, ike_ports: Collection[int]) -> str:
    """How ESP travels by a path: its ends have a port where there is UDP."""
    local = path.partition(ARROW)[0]
    if local.count(":") != 1 and not local.startswith("["):
        return "plain ESP"
    port = local.rpartition(":")[2]
    return f"UDP {port}, non-IKE marker" if int(port) in ike_ports else f"UDP {port}"


def nat(status: Json | None) -> str:
    """Which side a NAT hides."""
    if status is None:
        return ""
    sides = [
        side for side, hidden in (("this side", status["local"]), ("the peer", status["remote"])) if hidden
    ]
    return " and ".join(sides) if sides else "none"


def duration(seconds: float) -> str:
    """Such as `42 s`, `12 min` or `3 h 20 min`."""
    if seconds < 1:
        return "0 s"
    if seconds < 120:
        return f"{seconds:.0f} s"
    minutes = int(seconds / 60)
    if minutes < 120:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes} min"
    return f"{hours // 24} d {hours % 24} h"


def octets(number: float) -> str:
    """With three digits and a prefix, such as `12.3 MB`."""
    if number < 1000:
        return f"{number:.0f} B"
    power = 0
    while number >= 999.5 and power < len(_SI) - 1:
        number /= 1000
        power += 1
    return f"{number:.3g} {_SI[power]}B"
