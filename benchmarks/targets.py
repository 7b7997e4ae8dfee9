"""What espudp must reach beside the others, and whether it does."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.figures import (
    MEMORY_SERVER,
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
    slope,
)

# "No slower" and "no worse" leave so much to chance; "times as fast" and "beats" leave nothing.
NOISE = 0.03

OURS, CROWDED = "espudp", "espudp-1000"
PEERS = ("strongswan", "openvpn", "wireguard")
# Both directions of a single TCP flow: ours, the other's, how many times as fast.
THROUGHPUT = (
    (OURS, "strongswan", 6.5),
    ("espudp-cbc", "strongswan-cbc", 5.0),
    (OURS, "openvpn", 5.5),
    (OURS, "wireguard", 5.8),
    (OURS, "ceiling", 0.3),
)


# The peers of `espudp-1000` beside the one that is measured.
CROWD_PEERS = 999
# A connection with its IKE SA and its pair of ESP SAs.
PEER_KILOBYTES = 20.0

Found = Mapping[str, Results]


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
    """All comparisons of what was measured."""
    found = by_name(results)
    compared = [*_throughput(found), *_scale(found), *_packet_rates(found), *_round_trips(found)]
    return [one for one in compared if one.found is not None]


def _throughput(found: Found) -> Iterator[Ratio]:
    for one, other, target in THROUGHPUT:
        for figure in (TCP_UP, TCP_DOWN):
            yield Ratio(_what(found, one, other, figure), target, _ratio(found, one, other, figure))


def _scale(found: Found) -> Iterator[Ratio]:
    """With more flows, and with more SAs."""
    four = ratio(_median(found, OURS, TCP_FOUR), _median(found, OURS, TCP_UP))
    yield Ratio(f"{OURS}, 4 flows / 1", 1.0, four, noise=NOISE)
    for figure in (TCP_UP, TCP_DOWN):
        yield Ratio(
            _what(found, CROWDED, OURS, figure), 1.0, _ratio(found, CROWDED, OURS, figure), noise=NOISE
        )
    megabytes = slope(
        _median(found, CROWDED, MEMORY_SERVER), _median(found, OURS, MEMORY_SERVER), CROWD_PEERS
    )
    kilobytes = None if megabytes is None else megabytes * 1000
    yield Ratio(f"{OURS}, KB of memory for each further peer", PEER_KILOBYTES, kilobytes, at_most=True)


def _packet_rates(found: Found) -> Iterator[Ratio]:
    for figure in (UDP_SMALL, UDP_LARGE):
        for peer in PEERS:
            yield Ratio(_what(found, OURS, peer, figure), 1.0, _ratio(found, OURS, peer, figure))


def _round_trips(found: Found) -> Iterator[Ratio]:
    peers = {peer: value for peer in PEERS if (value := _median(found, peer, RTT_IDLE)) is not None}
    if peers:
        best = min(peers, key=lambda peer: peers[peer])
        compared = _ratio(found, OURS, best, RTT_IDLE)
        yield Ratio(_what(found, OURS, best, RTT_IDLE), 1.0, compared, at_most=True, noise=NOISE)


def _median(found: Found, name: str, figure: Figure) -> float | None:
    return found[name].median(figure) if name in found else None


def _ratio(found: Found, one: str, other: str, figure: Figure) -> float | None:
    return ratio(_median(found, one, figure), _median(found, other, figure))


def _what(found: Found, one: str, other: str, figure: Figure) -> str:
    titles = [found[name].title if name in found else name for name in (one, other)]
    return f"{' / '.join(titles)}: {figure.title}"
