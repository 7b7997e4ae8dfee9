"""Proposals: what an SA may be made of, and how two peers agree on it (RFC 7296 sections 2.7, 3.3).

A proposal names, for each kind of transform, the algorithms that would do, best first. Both sides end with
exactly one of each: the responder in `select_*`; the initiator, which checks that it was given something that
it offered, in `verify_*`. Nothing is accepted because of what it is, only because it is in a list.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self, TypeVar

from espudp.crypto.ikekeys import IkeSuite
from espudp.crypto.policy import SOUND_GROUPS
from espudp.crypto.suites import DH, Dh, Encr, EspSuite, Integ, Prf
from espudp.ike import proposal_text
from espudp.wire.ikev2.constants import ProtocolId, TransformType
from espudp.wire.ikev2.proposal import Proposal, Transform

# RFC 7296 section 3.3.2: number 0 stands for no integrity algorithm, no group and no ESN.
NONE = 0
ESN = 1

ESP_SPI_OCTETS = 4

_Kinds = dict[int, tuple[Transform, ...]]
_Row = TypeVar("_Row", Encr, Integ, Prf, Dh)


@dataclass(frozen=True, slots=True)
class IkeProposal:
    """Algorithms for an IKE SA. `integ` is empty exactly when the ciphers are AEAD."""

    encr: tuple[Encr, ...]
    integ: tuple[Integ, ...]
    prf: tuple[Prf, ...]
    dh: tuple[Dh, ...]

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `aes128gcm16-prfsha256-curve25519` or `aes256-aes128-sha256-modp2048`. Raises ConfigError.

        Where no PRF is named, it is the one of the integrity algorithm's hash.
        """
        found = proposal_text.read_ike(text)
        return cls(found.encr, found.integ, found.prf, tuple(g for g in found.dh if g is not None))

    def to_wire(self, number: int, spi: bytes = b"") -> Proposal:
        """The proposal to send; `spi` is empty in IKE_SA_INIT and 8 octets when an IKE SA is rekeyed."""
        return _wire(number, ProtocolId.IKE, spi, self._kinds())

    def _kinds(self) -> _Kinds:
        kinds: _Kinds = {
            TransformType.ENCR: _transforms(TransformType.ENCR, self.encr),
            TransformType.INTEG: _transforms(TransformType.INTEG, self.integ),
            TransformType.PRF: _transforms(TransformType.PRF, self.prf),
            TransformType.DH: _transforms(TransformType.DH, self.dh),
        }
        return kinds

    def __str__(self) -> str:
        """As `parse` reads it."""
        return "-".join(
            (*_keywords(self.encr), *_keywords(self.integ), *_keywords(self.prf), *_keywords(self.dh))
        )


@dataclass(frozen=True, slots=True)
class EspProposal:
    """Algorithms for a child SA. `integ` is empty exactly when the ciphers are AEAD.

    `dh` holds the groups for perfect forward secrecy, with None among them where it is optional. `(None,)`:
    it is not asked for.
    """

    encr: tuple[Encr, ...]
    integ: tuple[Integ, ...]
    dh: tuple[Dh | None, ...] = (None,)
    esn: tuple[bool, ...] = (False,)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `aes128-sha256-esn`, `aes256gcm16-ecp384` (PFS) or `aes256gcm16-ecp384-none` (optional PFS).

        `esn-noesn` offers both. Raises ConfigError.
        """
        found = proposal_text.read_esp(text)
        return cls(found.encr, found.integ, found.dh or (None,), found.esn or (False,))

    def to_wire(self, number: int, spi: bytes, *, pfs: bool = True) -> Proposal:
        """The proposal to send, with the SPI (4 octets) that we want to receive on.

        pfs=False leaves the groups out, as IKE_AUTH must: it carries no KE payload (RFC 7296 section 1.2).
        """
        return _wire(number, ProtocolId.ESP, spi, self._kinds(pfs))

    @property
    def groups(self) -> tuple[Dh, ...]:
        """The groups for PFS, best first."""
        return tuple(group for group in self.dh if group is not None)

    def only(self, suite: EspSuite) -> "EspProposal | None":
        """What is left when it has to come to `suite`; None: nothing."""
        integ = () if suite.integ is None else (suite.integ,)
        has_integ = suite.integ in self.integ if self.integ else not integ
        if suite.encr not in self.encr or suite.esn not in self.esn or not has_integ:
            return None
        return EspProposal((suite.encr,), integ, self.dh, (suite.esn,))

    def _kinds(self, pfs: bool) -> _Kinds:
        kinds: _Kinds = {
            TransformType.ENCR: _transforms(TransformType.ENCR, self.encr),
            TransformType.INTEG: _transforms(TransformType.INTEG, self.integ),
            TransformType.ESN: tuple(Transform(TransformType.ESN, ESN if esn else NONE) for esn in self.esn),
        }
        if pfs and self.groups:
            kinds[TransformType.DH] = _transforms(TransformType.DH, self.dh)
        return kinds

    def __str__(self) -> str:
        """As `parse` reads it."""
        words = _keywords(self.encr) + _keywords(self.integ)
        if self.groups:
            words += _keywords(self.dh)
        if self.esn != (False,):
            words += ["esn" if esn else "noesn" for esn in self.esn]
        return "-".join(words)


@dataclass(frozen=True, slots=True)
class IkeChoice:
    """What was agreed on for an IKE SA. `peer_spi`: 8 octets when rekeying, else empty."""

    suite: IkeSuite
    number: int
    peer_spi: bytes
    transforms: tuple[Transform, ...]

    def to_wire(self, spi: bytes = b"") -> Proposal:
        """The responder's answer, with the transforms exactly as they were offered."""
        return Proposal(self.number, ProtocolId.IKE, spi, self.transforms)


@dataclass(frozen=True, slots=True)
class EspChoice:
    """What was agreed on for a child SA. `dh` is the group for PFS, None without; `peer_spi` 4 octets."""

    suite: EspSuite
    dh: Dh | None
    number: int
    peer_spi: bytes
    transforms: tuple[Transform, ...]

    def to_wire(self, spi: bytes) -> Proposal:
        """The responder's answer, with the transforms exactly as they were offered."""
        return Proposal(self.number, ProtocolId.ESP, spi, self.transforms)


def offer_ike(proposals: Sequence[IkeProposal], spi: bytes = b"") -> tuple[Proposal, ...]:
    """The content of the initiator's SA payload, numbered from 1 (RFC 7296 section 3.3.1)."""
    return tuple(p.to_wire(number, spi) for number, p in enumerate(proposals, 1))


def offer_esp(proposals: Sequence[EspProposal], spi: bytes, *, pfs: bool = True) -> tuple[Proposal, ...]:
    """The content of the initiator's SA payload for a child SA; pfs=False in IKE_AUTH."""
    return tuple(p.to_wire(number, spi, pfs=pfs) for number, p in enumerate(proposals, 1))


def select_ike(
    offered: Sequence[Proposal],
    accepted: Sequence[IkeProposal],
    *,
    spi_octets: int = 0,
    ke_group: int | None = None,
) -> IkeChoice | None:
    """The responder's choice: the first proposal of the initiator, by its order, that one of ours meets.

    `spi_octets` is 0 in IKE_SA_INIT and 8 in CREATE_CHILD_SA. `ke_group` is the group of the KE payload that
    came along: where both sides accept it, it is taken, and spares INVALID_KE_PAYLOAD and a round trip.
    None: no common proposal (NO_PROPOSAL_CHOSEN).
    """
    for proposal in offered:
        if proposal.protocol != ProtocolId.IKE or len(proposal.spi) != spi_octets:
            continue
        for ours in accepted:
            chosen = _select(proposal, ours._kinds(), ke_group)
            if chosen is not None:
                return IkeChoice(
                    _ike_suite(ours, chosen), proposal.number, proposal.spi, tuple(chosen.values())
                )
    return None


def select_esp(
    offered: Sequence[Proposal],
    accepted: Sequence[EspProposal],
    *,
    pfs: bool = True,
    ke_group: int | None = None,
) -> EspChoice | None:
    """The responder's choice for a child SA, as in `select_ike`. pfs=False in IKE_AUTH: without groups.

    Where we ask for no PFS and the peer does, any group that is sound is taken: refusing it is what breaks
    tunnels at their first rekey. Where we ask for PFS, a peer without it finds no common proposal.
    """
    for proposal in offered:
        if proposal.protocol != ProtocolId.ESP or len(proposal.spi) != ESP_SPI_OCTETS:
            continue
        if not pfs:
            proposal = _without_groups(proposal)
        for ours in accepted:
            kinds = ours._kinds(pfs)
            if pfs and not ours.groups:
                kinds[TransformType.DH] = _transforms(TransformType.DH, (*SOUND_GROUPS, None))
            chosen = _select(proposal, kinds, ke_group)
            if chosen is not None:
                return _esp_choice(proposal, ours, chosen)
    return None


def verify_ike(
    answer: Sequence[Proposal], offered: Sequence[IkeProposal], *, spi_octets: int | None = None
) -> IkeChoice | None:
    """The initiator's check of the answer: one proposal, one transform of each kind, each offered.

    `spi_octets`: 8 when an IKE SA is rekeyed. None: something that we did not offer (RFC 7296 section 3.3.6).
    """
    proposal, ours = _answered(answer, offered)
    if proposal is None or ours is None or proposal.protocol != ProtocolId.IKE:
        return None
    if spi_octets is not None and len(proposal.spi) != spi_octets:
        return None
    chosen = _verify(proposal, ours._kinds())
    if chosen is None:
        return None
    return IkeChoice(_ike_suite(ours, chosen), proposal.number, proposal.spi, tuple(chosen.values()))


def verify_esp(
    answer: Sequence[Proposal], offered: Sequence[EspProposal], *, pfs: bool = True
) -> EspChoice | None:
    """The initiator's check of the responder's choice for a child SA; pfs=False in IKE_AUTH."""
    proposal, ours = _answered(answer, offered)
    if proposal is None or ours is None or proposal.protocol != ProtocolId.ESP:
        return None
    if len(proposal.spi) != ESP_SPI_OCTETS:
        return None
    chosen = _verify(proposal, ours._kinds(pfs))
    return None if chosen is None else _esp_choice(proposal, ours, chosen)


def _wire(number: int, protocol: int, spi: bytes, kinds: _Kinds) -> Proposal:
    return Proposal(number, protocol, spi, tuple(t for transforms in kinds.values() for t in transforms))


def _transforms(kind: int, rows: Sequence[Encr | Integ | Prf | Dh | None]) -> tuple[Transform, ...]:
    return tuple(
        Transform(kind, NONE)
        if row is None
        else Transform(kind, row.transform_id, row.key_bits if isinstance(row, Encr) else None)
        for row in rows
    )


def _keywords(rows: Sequence[Encr | Integ | Prf | Dh | None]) -> list[str]:
    return ["none" if row is None else row.keyword for row in rows]


def _without_groups(proposal: Proposal) -> Proposal:
    kept = tuple(t for t in proposal.transforms if t.type != TransformType.DH)
    return Proposal(proposal.number, proposal.protocol, proposal.spi, kept)


def _select(proposal: Proposal, kinds: _Kinds, ke_group: int | None) -> dict[int, Transform] | None:
    """One transform of each kind that the proposal has, or None where a kind has none in common with ours."""
    # RFC 7296 section 3.3.6: a transform type that we do not understand makes the proposal unacceptable.
    offered_kinds = dict.fromkeys(t.type for t in proposal.transforms)
    if any(kind not in kinds for kind in offered_kinds):
        return None
    chosen: dict[int, Transform] = {}
    for kind, ours in kinds.items():
        offered = [t for t in proposal.transforms if t.type == kind]
        if kind not in offered_kinds:
            # CVE-2016-5391: nothing that we need may be missing. "None" is as good as absent.
            if ours and not any(_is_nothing(t) for t in ours):
                return None
            continue
        common = [t for t in offered if t in ours or (not ours and _is_nothing(t))]
        if not common:
            return None
        chosen[kind] = next((t for t in common if kind == TransformType.DH and t.id == ke_group), common[0])
    return chosen


def _verify(proposal: Proposal, kinds: _Kinds) -> dict[int, Transform] | None:
    chosen = {t.type: t for t in proposal.transforms}
    if len(chosen) != len(proposal.transforms):
        return None
    return _select(proposal, kinds, None)


def _is_nothing(transform: Transform) -> bool:
    """No integrity algorithm beside an AEAD, no group, no ESN: the same as leaving the transform out."""
    kinds = (TransformType.INTEG, TransformType.DH, TransformType.ESN)
    return transform.id == NONE and transform.key_bits is None and transform.type in kinds


def _ike_suite(ours: IkeProposal, chosen: dict[int, Transform]) -> IkeSuite:
    integ = chosen.get(TransformType.INTEG)
    return IkeSuite(
        encr=_encr(ours.encr, chosen),
        integ=None if integ is None or integ.id == NONE else _row(ours.integ, integ),
        prf=_row(ours.prf, chosen[TransformType.PRF]),
        dh=_row(ours.dh, chosen[TransformType.DH]),
    )


def _esp_choice(proposal: Proposal, ours: EspProposal, chosen: dict[int, Transform]) -> EspChoice:
    integ, group = chosen.get(TransformType.INTEG), chosen.get(TransformType.DH)
    esn = chosen.get(TransformType.ESN)
    suite = EspSuite(
        encr=_encr(ours.encr, chosen),
        integ=None if integ is None or integ.id == NONE else _row(ours.integ, integ),
        esn=esn is not None and esn.id == ESN,
    )
    dh = None if group is None or group.id == NONE else _row(DH, group)
    return EspChoice(suite, dh, proposal.number, proposal.spi, tuple(chosen.values()))


def _encr(rows: Sequence[Encr], chosen: dict[int, Transform]) -> Encr:
    transform = chosen[TransformType.ENCR]
    return next(r for r in rows if (r.transform_id, r.key_bits) == (transform.id, transform.key_bits))


def _row(rows: Sequence[_Row], transform: Transform) -> _Row:
    return next(row for row in rows if row.transform_id == transform.id)


_P = TypeVar("_P", IkeProposal, EspProposal)


def _answered(answer: Sequence[Proposal], offered: Sequence[_P]) -> tuple[Proposal | None, _P | None]:
    # RFC 7296 section 3.3.1: the answer is one proposal, with the number of the one that it accepts.
    if len(answer) != 1 or not 1 <= answer[0].number <= len(offered):
        return None, None
    return answer[0], offered[answer[0].number - 1]


_GROUPS = "curve25519-ecp256-ecp384-modp3072-modp4096-modp2048-ecp521-curve448-modp6144-modp8192"

# RFC 8247 and RFC 8221: what MUST and SHOULD be there, strongest first, nothing that is on its way out.
DEFAULT_IKE_PROPOSALS = (
    IkeProposal.parse(f"aes256gcm16-chacha20poly1305-aes128gcm16-prfsha384-prfsha512-prfsha256-{_GROUPS}"),
    IkeProposal.parse(f"aes256-aes192-aes128-sha384-sha512-sha256-prfsha384-prfsha512-prfsha256-{_GROUPS}"),
)
DEFAULT_ESP_PROPOSALS = (
    EspProposal.parse(f"aes256gcm16-chacha20poly1305-aes128gcm16-{_GROUPS}-none-esn-noesn"),
    EspProposal.parse(f"aes256-aes192-aes128-sha384-sha512-sha256-{_GROUPS}-none-esn-noesn"),
)
