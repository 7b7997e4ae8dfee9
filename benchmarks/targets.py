"""What espudp must reach beside the others, and whether it does."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.figures import (
    RTT_IDLE,
    TCP_DOWN,
    TCP_FOUR,
    TCP_UP,
    UDP_LARGE,
    UDP_SMALL,
    Figure,
    Results,
    by_name,
    ratio,
)

# "No slower" and "no worse" leave so much to chance; "times as fast" and "beats" leave nothing.
NOISE = 0.03

PEERS = ("strongswan", "openvpn", "wireguard")
# Both directions of a single TCP flow: ours, the other's, how many times as fast.
THROUGHPUT = (
    ("espudp", "strongswan", 6.5),
    ("espudp-cbc", "strongswan-cbc", 5.0),
    ("espudp", "openvpn", 5.5),
    ("espudp", "wireguard", 5.8),
    ("espudp", "ceiling", 0.3),
)
BOTH_WAYS = ((TCP_UP, "up"), (TCP_DOWN, "down"))


@dataclass(frozen=True)
class Ratio:
    """One comparison. `found` is None where one of the two was not measured."""

    what: str
    target: float
    found: float | None
    at_most: bool = False
    """The target is a bound from above."""
    noise: float = 0.0

    @property
    def holds(self) -> bool | None:
        """None where nothing was found."""
        if self.found is None:
            return None
        if self.at_most:
            return self.found <= self.target * (1 + self.noise)
        return self.found >= self.target * (1 - self.noise)

    def to_json(self) -> dict[str, Any]:
        """For programs."""
        bound = "at most" if self.at_most else "at least"
        return {
            "what": self.what,
            "bound": bound,
            "target": self.target,
            "found": self.found,
            "holds": self.holds,
        }


def ratios(results: Sequence[Results]) -> list[Ratio]:
    """All comparisons of whatever was measured; those that lack a tunnel are left out."""
    found = by_name(results)
    compared = [
        Ratio(f"{_titles(found, one, other)}, TCP {way}", target, _ratio(found, one, other, figure))
        for one, other, target in THROUGHPUT
        if one in found and other in found
        for figure, way in BOTH_WAYS
    ]
    if "espudp" not in found:
        return compared
    ours = found["espudp"]
    four = ratio(ours.median(TCP_FOUR), ours.median(TCP_UP))
    compared.append(Ratio("espudp, four flows / one flow", 1.0, four, noise=NOISE))
    if "espudp-1000" in found:
        for figure, way in BOTH_WAYS:
            crowd = _ratio(found, "espudp-1000", "espudp", figure)
            compared.append(Ratio(f"espudp, 1,000 SAs / one, TCP {way}", 1.0, crowd, noise=NOISE))
    compared += [
        Ratio(f"{_titles(found, 'espudp', peer)}, {figure.title}", 1.0, _ratio(found, "espudp", peer, figure))
        for figure in (UDP_SMALL, UDP_LARGE)
        for peer in PEERS
        if peer in found
    ]
    return compared + _round_trips(found)


def _round_trips(found: Mapping[str, Results]) -> list[Ratio]:
    peers = {peer: found[peer].median(RTT_IDLE) for peer in PEERS if peer in found}
    measured = {peer: value for peer, value in peers.items() if value is not None}
    if not measured:
        return []
    best = min(measured, key=lambda peer: measured[peer])
    compared = _ratio(found, "espudp", best, RTT_IDLE)
    return [
        Ratio(f"{_titles(found, 'espudp', best)}, {RTT_IDLE.title}", 1.0, compared, at_most=True, noise=NOISE)
    ]


def _ratio(found: Mapping[str, Results], one: str, other: str, figure: Figure) -> float | None:
    return ratio(found[one].median(figure), found[other].median(figure))


def _titles(found: Mapping[str, Results], one: str, other: str) -> str:
    return f"{found[one].title} / {found[other].title}"
