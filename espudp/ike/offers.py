"""What differs between two sides' proposals, line against line: the explanation of "no common proposal"."""

from collections.abc import Sequence

from espudp.crypto.suites import name_of
from espudp.ike.side_by_side import NOTHING_IN_COMMON, Line, side_by_side
from espudp.wire.ikev2.constants import TransformType
from espudp.wire.ikev2.proposal import Proposal, Transform

_KINDS = {
    int(TransformType.ENCR): "encryption",
    int(TransformType.INTEG): "integrity",
    int(TransformType.PRF): "PRF",
    int(TransformType.DH): "group",
    int(TransformType.ESN): "ESN",
}
_MAX_PROPOSALS = 4
_MAX_NAMES = 12

_Names = dict[int, list[str]]


def describe_mismatch(theirs: Sequence[Proposal], ours: Sequence[Proposal]) -> str:
    """Each proposal of the peer beside the one of ours that comes closest, and where the two part.

    Both are in wire form, so that what the peer names and we do not know is shown as well.
    """
    table: list[Line] = []
    for position, proposal in enumerate(theirs[:_MAX_PROPOSALS], 1):
        names = _names(proposal)
        pairs = [(number, _names(own)) for number, own in enumerate(ours, 1)]
        if not pairs:
            break
        number, own = min(
            pairs, key=lambda pair: (len(_differing(names, pair[1])), len(names.keys() ^ pair[1]))
        )
        heads = f"peer's proposal {position} of {len(theirs)}", f"accepted here ({number} of {len(ours)})"
        table.append(("", *heads, ""))
        differing = _differing(names, own)
        for kind in sorted({*names, *own}, key=_order):
            mark = NOTHING_IN_COMMON if kind in differing else ""
            table.append((_KINDS.get(kind, f"transform {kind}"), _list(names, kind), _list(own, kind), mark))
    if not table:
        return "the peer offers no proposal" if ours else "nothing is accepted here"
    return side_by_side(table)


def describe_offer(proposal: Proposal) -> str:
    """One proposal as users write it, numbers that nobody knows included."""
    names = _names(proposal)
    return "-".join(name for kind in sorted(names, key=_order) for name in names[kind]) or "nothing"


def _names(proposal: Proposal) -> _Names:
    names: _Names = {}
    for transform in proposal.transforms:
        names.setdefault(transform.type, []).append(_name(transform))
    return names


def _name(transform: Transform) -> str:
    return name_of(transform.type, transform.id, transform.key_bits)


def _differing(theirs: _Names, ours: _Names) -> set[int]:
    """The kinds in which the two have nothing in common; being left out equals naming "none"."""
    return {kind for kind in {*theirs, *ours} if not _options(theirs, kind) & _options(ours, kind)}


def _options(names: _Names, kind: int) -> set[str]:
    absent = name_of(kind, 0, None) if kind in _KINDS else ""
    return set(names.get(kind, [absent]))


def _list(names: _Names, kind: int) -> str:
    found = names.get(kind, ["-"])
    more = [f"and {len(found) - _MAX_NAMES} more"] if len(found) > _MAX_NAMES else []
    return ", ".join(found[:_MAX_NAMES] + more)


def _order(kind: int) -> int:
    kinds = list(_KINDS)
    return kinds.index(kind) if kind in kinds else len(kinds) + kind
