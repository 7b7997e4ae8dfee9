"""What ISAKMP SAs are made of, as phase 1 negotiates it (RFC 2409 section 5 and appendix A).

Each transform names one cipher, hash, group and way to authenticate. The initiator lists those that would do,
best first; the responder picks one and sends it back as it came.
"""

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice, product

from espudp.crypto.ikev1keys import Ikev1Suite, fits_phase_1, hash_by_keyword, hash_by_number
from espudp.crypto.suites import dh_by_id, encr_by_id
from espudp.errors import ConfigError
from espudp.ike.proposals import DEFAULT_IKE_PROPOSALS, IkeProposal
from espudp.ike.side_by_side import NOTHING_IN_COMMON, Line, side_by_side
from espudp.wire.ikev1.attributes import Attribute
from espudp.wire.ikev1.constants import (
    IkeAttribute,
    IkeEncryption,
    IsakmpTransform,
    LifeType,
    ProtocolId,
    name_of_auth_method,
)
from espudp.wire.ikev1.proposal import Proposal, Transform

# RFC 2409 appendix A by the numbers of IKEv2, and the other way round.
_ENCRYPTION = {12: IkeEncryption.AES, 3: IkeEncryption.TRIPLE_DES}
_ENCRYPTION_IN_V2: dict[int, int] = {v1: v2 for v2, v1 in _ENCRYPTION.items()}

# Every transform is some forty octets, and what is offered should fit in one packet.
_MAX_OFFERED = 24

# What can be said in four octets, in seconds
_LONGEST_LIFE = (1 << 32) - 1

# Our bounds on what of a peer's offer is looked at, and shown.
_MAX_TRANSFORMS = 128
_SHOWN = 8

# What is offered where nobody has named anything: few enough for one packet.
DEFAULT_OFFER = (IkeProposal.parse("aes256-aes128-sha256-sha512-ecp256-modp3072-modp2048"),)
# In aggressive mode, where there is no choice of groups: of the sound ones, the one that most gateways have.
DEFAULT_AGGRESSIVE_OFFER = (IkeProposal.parse("aes256-aes128-sha256-sha512-modp2048"),)

_KNOWN = frozenset(
    {
        IkeAttribute.ENCRYPTION,
        IkeAttribute.HASH,
        IkeAttribute.AUTHENTICATION,
        IkeAttribute.GROUP,
        IkeAttribute.LIFE_TYPE,
        IkeAttribute.LIFE_DURATION,
        IkeAttribute.KEY_LENGTH,
    }
)


@dataclass(frozen=True, slots=True)
class Terms:
    """One transform, understood."""

    suite: Ikev1Suite
    method: int


@dataclass(frozen=True, slots=True)
class Choice:
    """What was agreed on."""

    terms: Terms
    lifetime: float | None
    """In seconds, as the initiator wants it."""
    answer: Proposal
    """What the responder sends back."""


def suites_of(proposals: Sequence[IkeProposal]) -> Iterator[Ikev1Suite]:
    """The suites that IKEv1 can have, of those that are meant, best first."""
    for proposal in proposals:
        hashes = [row for prf in proposal.prf if (row := hash_by_keyword(prf.mac)) is not None]
        ciphers = [row for row in proposal.encr if fits_phase_1(row)]
        yield from (Ikev1Suite(*rows) for rows in product(ciphers, hashes, proposal.dh))


@lru_cache(maxsize=16)
def accepted_suites(proposals: tuple[IkeProposal, ...]) -> frozenset[Ikev1Suite]:
    """The same, for who answers: kept, since every stranger may ask."""
    return frozenset(suites_of(proposals))


def to_offer(proposals: Sequence[IkeProposal], *, one_group: bool) -> tuple[Ikev1Suite, ...]:
    """The suites that we offer. `one_group`: only of the first group, whose public value goes along.

    Raises ConfigError where there is none.
    """
    if proposals is DEFAULT_IKE_PROPOSALS:
        proposals = DEFAULT_AGGRESSIVE_OFFER if one_group else DEFAULT_OFFER
    found = list(suites_of(proposals))
    if not found:
        raise ConfigError(
            "none of the IKE proposals is one of IKEv1",
            field="ike-proposal",
            remedy="Name one such as aes256-sha256-modp2048: IKEv1 has CBC and HMAC alone.",
        )
    group = found[0].dh
    return tuple(islice((s for s in found if not one_group or s.dh == group), _MAX_OFFERED))


def offer(
    suites: Iterable[Ikev1Suite], methods: Sequence[int], lifetime: float | None
) -> tuple[Proposal, ...]:
    """The content of the initiator's SA payload: one proposal (RFC 2409 section 5)."""
    wanted = list(product(suites, methods))
    transforms = [
        Transform(number, IsakmpTransform.KEY_IKE, _attributes(Terms(suite, method), lifetime))
        for number, (suite, method) in enumerate(wanted, 1)
    ]
    return (Proposal(1, ProtocolId.ISAKMP, b"", tuple(transforms)),)


def select(
    offered: Sequence[Proposal],
    accepted: Collection[Ikev1Suite],
    methods: Sequence[int],
    *,
    group_octets: int | None = None,
) -> Choice | None:
    """The responder's choice: the first transform of the initiator that we meet, of those with the method
    that we like best. None: there is none. `group_octets`: the size of the public value that came along.
    """
    possible: dict[int, Choice] = {}
    for proposal, transform in _transforms(offered):
        terms = _understood(transform)
        if terms is None or terms.suite not in accepted or terms.method not in methods:
            continue
        if group_octets in (None, terms.suite.dh.public_octets):
            answer = Proposal(proposal.number, proposal.protocol, proposal.spi, (transform,))
            possible.setdefault(terms.method, Choice(terms, _lifetime(transform), answer))
    return next((possible[method] for method in methods if method in possible), None)


def verify(answer: Sequence[Proposal], suites: Sequence[Ikev1Suite], methods: Sequence[int]) -> Choice | None:
    """The initiator's check of the answer; None: it is nothing that we have offered."""
    if len(answer) != 1 or len(answer[0].transforms) != 1 or answer[0].protocol != ProtocolId.ISAKMP:
        return None
    transform = answer[0].transforms[0]
    terms = _understood(transform)
    if terms is None or terms.suite not in suites or terms.method not in methods:
        return None
    return Choice(terms, _lifetime(transform), answer[0])


def _transforms(offered: Sequence[Proposal]) -> list[tuple[Proposal, Transform]]:
    pairs = ((p, t) for p in offered if p.protocol == ProtocolId.ISAKMP for t in p.transforms)
    return list(islice(pairs, _MAX_TRANSFORMS))


def _attributes(terms: Terms, lifetime: float | None) -> tuple[Attribute, ...]:
    suite = terms.suite
    encryption = _ENCRYPTION[suite.encr.transform_id]
    found = [Attribute.of(IkeAttribute.ENCRYPTION, encryption)]
    if suite.encr.key_bits is not None:
        found.append(Attribute.of(IkeAttribute.KEY_LENGTH, suite.encr.key_bits))
    found += [
        Attribute.of(IkeAttribute.HASH, suite.hash.number),
        Attribute.of(IkeAttribute.GROUP, suite.dh.transform_id),
        Attribute.of(IkeAttribute.AUTHENTICATION, terms.method),
    ]
    if lifetime is not None:
        found.append(Attribute.of(IkeAttribute.LIFE_TYPE, LifeType.SECONDS))
        found.append(Attribute.of(IkeAttribute.LIFE_DURATION, min(int(lifetime), _LONGEST_LIFE)))
    return tuple(found)


def _understood(transform: Transform) -> Terms | None:
    """None for algorithms that are not spoken here, and for attributes that nobody knows."""
    values = transform.values
    if transform.id != IsakmpTransform.KEY_IKE or any(kind not in _KNOWN for kind in values):
        return None
    encryption = _ENCRYPTION_IN_V2.get(values.get(IkeAttribute.ENCRYPTION) or 0)
    encr = None if encryption is None else encr_by_id(encryption, values.get(IkeAttribute.KEY_LENGTH))
    hash_ = hash_by_number(values.get(IkeAttribute.HASH) or 0)
    group = dh_by_id(values.get(IkeAttribute.GROUP) or 0)
    method = values.get(IkeAttribute.AUTHENTICATION)
    if encr is None or hash_ is None or group is None or method is None:
        return None
    return Terms(Ikev1Suite(encr, hash_, group), method)


def _lifetime(transform: Transform) -> float | None:
    """RFC 2409 appendix A: a type, and the duration that follows it."""
    kind: int | None = None
    for attribute in transform.attributes:
        if attribute.type == IkeAttribute.LIFE_TYPE:
            kind = attribute.number
        elif attribute.type == IkeAttribute.LIFE_DURATION and kind == LifeType.SECONDS:
            return None if not attribute.number else float(attribute.number)
    return None


# For people

_KINDS = ("encryption", "hash", "group", "proof")
_Names = tuple[str, str, str, str]
"""Of one transform, in that order."""


def describe_mismatch(
    offered: Sequence[Proposal], accepted: Sequence[IkeProposal], methods: Sequence[int]
) -> str:
    """Of each kind what both sides have, so that a person sees where they part; and where they have
    something of each in common, but not in one transform, the peer's transforms.
    """
    theirs = [_names(transform) for _, transform in _transforms(offered)]
    ours = [_names_of(*pair) for pair in product(suites_of(accepted), methods)]
    table: list[Line] = [("", "peer offers", "accepted here", "")]
    for kind, *names in zip(_KINDS, _columns(theirs), _columns(ours), strict=True):
        common = not set(names[0]).isdisjoint(names[1])
        table.append((kind, _some(names[0]), _some(names[1]), "" if common else NOTHING_IN_COMMON))
    text = side_by_side(table)
    if any(mark for *_, mark in table):
        return text
    lines = [f"  {', '.join(names)}" for names in theirs[:_SHOWN]]
    return "\n".join([text, "but in none of the peer's transforms all of it:", *lines])


def describe_offer(suites: Sequence[Ikev1Suite], methods: Sequence[int]) -> list[str]:
    """One line for each suite."""
    ways = " or ".join(map(name_of_auth_method, methods)) or "nobody"
    return [f"{suite.name} by {ways}" for suite in suites]


def _columns(transforms: Sequence[_Names]) -> Sequence[Sequence[str]]:
    return [list(dict.fromkeys(names)) for names in zip(*transforms, strict=True)] or [[]] * len(_KINDS)


def _some(names: Sequence[str]) -> str:
    more = [f"and {len(names) - _SHOWN} more"] if len(names) > _SHOWN else []
    return ", ".join([*names[:_SHOWN], *more]) or "nothing"


def _names_of(suite: Ikev1Suite, method: int) -> _Names:
    return suite.encr.keyword, suite.hash.keyword, suite.dh.keyword, name_of_auth_method(method)


def _names(transform: Transform) -> _Names:
    """What nobody here knows by its number."""
    values = transform.values
    terms = _understood(transform)
    if terms is not None:
        return _names_of(terms.suite, terms.method)
    numbers = [values.get(kind) for kind in (IkeAttribute.ENCRYPTION, IkeAttribute.HASH, IkeAttribute.GROUP)]
    cipher, hash_, group = (f"number {number}" for number in numbers)
    if (bits := values.get(IkeAttribute.KEY_LENGTH)) is not None:
        cipher += f" with {bits} bits"
    return cipher, hash_, group, name_of_auth_method(values.get(IkeAttribute.AUTHENTICATION) or 0)
