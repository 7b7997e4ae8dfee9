"""What ESP SAs are made of, as quick mode negotiates it (RFC 2407 section 4.5, RFC 2408 section 4.2).

A transform here is complete: cipher, MAC, group, mode and lifetime in one. The initiator lists those that
would do, best first; the responder picks one and sends it back as it came.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from espudp.crypto.policy import SOUND_GROUPS
from espudp.crypto.suites import Dh, Encr, EspSuite, Integ, dh_by_id, encr_by_id, integ_by_id, name_of
from espudp.ike.proposals import EspProposal
from espudp.ike.v1.life import Life, life_of
from espudp.wire.ikev1.attributes import Attribute
from espudp.wire.ikev1.constants import Encapsulation, IpsecAttribute, ProtocolId, name_of_protocol
from espudp.wire.ikev1.proposal import Proposal, Transform
from espudp.wire.ikev2.constants import TransformType

ESP_SPI_OCTETS = 4

# RFC 2407 section 4.4.4 and IANA, "IPSEC ESP Transform Identifiers": those numbers that are other ones in
# IKEv2. ChaCha20-Poly1305 has none here.
_GMAC, _GMAC_IN_V2 = 23, 21
_WITHOUT_NUMBER = frozenset({"chacha20poly1305", "aescmac", "curve25519", "curve448"})

# RFC 2407 section 4.5 and IANA, "Authentication Algorithm": IKEv2's numbers by those of IKEv1.
_INTEG = {1: 1, 2: 2, 3: 3, 4: 4, 5: 12, 6: 13, 7: 14, 9: 5}
_INTEG_IN_V1 = {v2: v1 for v1, v2 in _INTEG.items()}

# Our bounds: peers in the field send at most some thirty transforms, and a refusal shows the first few.
MAX_TRANSFORMS = 64
_SHOWN = 12

_LIFE = (IpsecAttribute.LIFE_TYPE, IpsecAttribute.LIFE_DURATION)
_KNOWN = frozenset(
    {
        *_LIFE,
        IpsecAttribute.GROUP,
        IpsecAttribute.ENCAPSULATION,
        IpsecAttribute.AUTHENTICATION,
        IpsecAttribute.KEY_LENGTH,
    }
)

# RFC 2407 section 4.5, RFC 3947 section 5.1, and the drafts before it
TUNNEL_MODES = (Encapsulation.TUNNEL, Encapsulation.UDP_TUNNEL, Encapsulation.UDP_TUNNEL_DRAFT)
TRANSPORT_MODES = (Encapsulation.TRANSPORT, Encapsulation.UDP_TRANSPORT, Encapsulation.UDP_TRANSPORT_DRAFT)
UDP_MODES = (*TUNNEL_MODES[1:], *TRANSPORT_MODES[1:])


@dataclass(frozen=True, slots=True)
class Terms:
    """One transform, understood. `mode` is the Encapsulation Mode attribute; None: it is absent."""

    suite: EspSuite
    group: Dh | None
    mode: int | None
    life: Life


@dataclass(frozen=True, slots=True)
class EspChoice:
    """What was agreed on. `peer_spi` is the SPI, 4 octets, that the peer receives on."""

    terms: Terms
    peer_spi: bytes
    number: int
    transform: Transform

    def to_wire(self, spi: bytes) -> tuple[Proposal, ...]:
        """The responder's answer: the transform as it was offered (RFC 2408 section 4.2), and our SPI."""
        return (Proposal(self.number, ProtocolId.ESP, spi, (self.transform,)),)


def offer_esp(
    proposals: Iterable[EspProposal], spi: bytes, *, group: Dh | None, mode: int, life: Life
) -> tuple[Proposal, ...]:
    """The content of the initiator's SA payload: nothing, if IKEv1 has no number for any of it.

    RFC 2409 section 5.5: with a KE payload, its group is in every transform.
    """
    suites = list(dict.fromkeys(suite for proposal in proposals for suite in _suites(proposal, group)))
    transforms = tuple(
        _transform(number, suite, group, mode, life)
        for number, suite in enumerate(suites[:MAX_TRANSFORMS], 1)
    )
    return (Proposal(1, ProtocolId.ESP, spi, transforms),) if transforms else ()


def select_esp(
    offered: Sequence[Proposal],
    accepted: Sequence[EspProposal],
    *,
    modes: Sequence[int | None],
    with_key_exchange: bool,
) -> EspChoice | None:
    """The responder's choice: the first transform, by the initiator's order, that one of ours meets.

    `modes`: the encapsulation modes that would do here. None: nothing in common (NO-PROPOSAL-CHOSEN).
    """
    for proposal in _alone(offered):
        for transform in proposal.transforms:
            terms = read(transform)
            if terms is None or terms.mode not in modes or with_key_exchange != (terms.group is not None):
                continue
            if any(_meets(terms, ours) for ours in accepted):
                return EspChoice(terms, proposal.spi, proposal.number, transform)
    return None


def verify_esp(
    answer: Sequence[Proposal], offered: Sequence[EspProposal], *, group: Dh | None, mode: int
) -> EspChoice | None:
    """The initiator's check of the answer: one proposal with one transform, which we did offer.

    Peers number it anew, sort its attributes, and change its lifetime; that does no harm.
    """
    if len(answer) != 1 or len(answer[0].transforms) != 1:
        return None
    (proposal,) = answer
    terms = read(proposal.transforms[0])
    if terms is None or proposal.protocol != ProtocolId.ESP or len(proposal.spi) != ESP_SPI_OCTETS:
        return None
    if terms.group != group or terms.mode not in (mode, None):
        return None
    if not any(terms.suite in _suites(ours, group) for ours in offered):
        return None
    return EspChoice(terms, proposal.spi, proposal.number, proposal.transforms[0])


def read(transform: Transform) -> Terms | None:
    """What a transform of an ESP proposal says; None: something that we do not speak."""
    values: dict[int, int] = {}
    for attribute in transform.attributes:
        if attribute.type not in _KNOWN:
            return None
        if attribute.type in _LIFE:
            continue
        # RFC 2407 section 4.5.2: only the lifetime may be there several times.
        number = attribute.number
        if number is None or values.setdefault(attribute.type, number) != number:
            return None
    life, suite = life_of(transform.attributes), _suite(transform.id, values)
    group_number = values.get(IpsecAttribute.GROUP)
    group = None if group_number is None else dh_by_id(group_number)
    if life is None or suite is None or (group is None) != (group_number is None):
        return None
    return Terms(suite, group, values.get(IpsecAttribute.ENCAPSULATION), life)


def groups_of(proposals: Iterable[EspProposal]) -> list[Dh | None]:
    """The groups for PFS that IKEv1 has numbers for, best first; None stands for no PFS.

    Where PFS is optional it comes last: peers that are not told of PFS refuse it as often as not.
    """
    named = [group for proposal in proposals for group in proposal.dh]
    known = [group for group in named if group is None or group.keyword not in _WITHOUT_NUMBER]
    ordered = dict.fromkeys(known)
    return [None, *(g for g in ordered if g is not None)] if None in ordered else list(ordered)


def takes(proposal: EspProposal, group: Dh | None) -> bool:
    """Whether a proposal of ours goes with a group. Where we ask for no PFS and the peer does, any group that
    is sound will do.
    """
    return group in (proposal.dh if proposal.groups else (*SOUND_GROUPS, None))


def describe_mismatch(
    theirs: Sequence[Proposal], ours: Sequence[EspProposal], modes: Sequence[int | None]
) -> str:
    """What the peer offers above what is accepted here, for the one who has to make them agree."""
    offered = list(dict.fromkeys(text for proposal in theirs for text in _texts(proposal)))
    wanted = ", ".join(dict.fromkeys(mode_name(mode) for mode in modes if mode is not None))
    return "\n".join(
        (
            f"peer offers    {_list(offered)}",
            f"accepted here  {_list([str(proposal) for proposal in ours])} ({wanted})",
        )
    )


def mode_name(mode: int | None) -> str:
    """What people call an encapsulation mode, whichever of its numbers it has."""
    if mode is None:
        return "no mode"
    drafts = (Encapsulation.UDP_TUNNEL_DRAFT, Encapsulation.UDP_TRANSPORT_DRAFT)
    words = "transport" if mode in TRANSPORT_MODES else "tunnel" if mode in TUNNEL_MODES else f"mode {mode}"
    return words + (" in UDP" if mode in UDP_MODES else "") + (" of a draft" if mode in drafts else "")


def _alone(offered: Sequence[Proposal]) -> Iterator[Proposal]:
    """The ESP proposals that do not come with AH or IPComp, which share their number (RFC 2408 4.2)."""
    numbers = [proposal.number for proposal in offered]
    for proposal in offered:
        fits = proposal.protocol == ProtocolId.ESP and len(proposal.spi) == ESP_SPI_OCTETS
        if fits and numbers.count(proposal.number) == 1:
            yield proposal


def _meets(terms: Terms, ours: EspProposal) -> bool:
    suite = terms.suite
    has_integ = suite.integ in ours.integ if suite.integ is not None else not ours.integ
    return suite.encr in ours.encr and has_integ and takes(ours, terms.group)


def _suites(proposal: EspProposal, group: Dh | None) -> list[EspSuite]:
    """Each of the proposal's suites that IKEv1 has numbers for; none, if it does not take the group."""
    if not takes(proposal, group):
        return []
    integs: Sequence[Integ | None] = proposal.integ or (None,)
    return [
        EspSuite(encr, integ)
        for encr in proposal.encr
        for integ in integs
        if not {encr.keyword, "" if integ is None else integ.keyword} & _WITHOUT_NUMBER
    ]


def _transform(number: int, suite: EspSuite, group: Dh | None, mode: int, life: Life) -> Transform:
    attributes = [
        *life.attributes(),
        Attribute.of(IpsecAttribute.ENCAPSULATION, mode),
    ]
    if group is not None:
        attributes.append(Attribute.of(IpsecAttribute.GROUP, group.transform_id))
    if suite.integ is not None:
        attributes.append(Attribute.of(IpsecAttribute.AUTHENTICATION, _INTEG_IN_V1[suite.integ.transform_id]))
    if suite.encr.key_bits is not None:
        attributes.append(Attribute.of(IpsecAttribute.KEY_LENGTH, suite.encr.key_bits))
    return Transform(number, _encr_number(suite.encr), tuple(attributes))


def _encr_number(encr: Encr) -> int:
    return _GMAC if encr.transform_id == _GMAC_IN_V2 else encr.transform_id


def _number_in_v2(transform_id: int) -> int | None:
    """None for the numbers that mean something else there."""
    if transform_id == _GMAC:
        return _GMAC_IN_V2
    return None if transform_id in (_GMAC_IN_V2, 28) else transform_id


def _suite(transform_id: int, values: dict[int, int]) -> EspSuite | None:
    number, integ_number = _number_in_v2(transform_id), values.get(IpsecAttribute.AUTHENTICATION)
    encr = None if number is None else encr_by_id(number, values.get(IpsecAttribute.KEY_LENGTH))
    integ = None if integ_number is None else integ_by_id(_INTEG.get(integ_number, 0))
    if encr is None or (integ is None) != (integ_number is None) or encr.is_aead != (integ is None):
        return None
    return EspSuite(encr, integ)


def _texts(proposal: Proposal) -> Iterator[str]:
    if proposal.protocol != ProtocolId.ESP:
        yield name_of_protocol(proposal.protocol)
        return
    for transform in proposal.transforms:
        values = transform.values
        number = _number_in_v2(transform.id)
        bits = values.get(IpsecAttribute.KEY_LENGTH)
        words = [f"transform {transform.id}" if number is None else name_of(TransformType.ENCR, number, bits)]
        if (integ := values.get(IpsecAttribute.AUTHENTICATION)) is not None:
            known = _INTEG.get(integ)
            words.append(f"auth{integ}" if known is None else name_of(TransformType.INTEG, known))
        if (group := values.get(IpsecAttribute.GROUP)) is not None:
            words.append(name_of(TransformType.DH, group))
        yield f"{'-'.join(words)} ({mode_name(values.get(IpsecAttribute.ENCAPSULATION))})"


def _list(texts: Sequence[str]) -> str:
    more = [f"and {len(texts) - _SHOWN} more"] if len(texts) > _SHOWN else []
    return ", ".join([*texts[:_SHOWN], *more]) or "nothing"
