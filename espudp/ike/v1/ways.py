"""How the two sides of phase 1 prove themselves: what the Authentication Method attribute stands for.

IKEv1 agrees on the way together with the algorithms, before anybody has said who they are. So a listener
takes what some entry of its peer authorization database can do for that address, and finds the entry later.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from ipaddress import ip_address

from espudp.crypto.signatures import RSA
from espudp.errors import ConfigError
from espudp.ike.config import ConnectionConfig
from espudp.ike.credentials import CertificateOf, Demand, NoDemand, NoProof, Proof, Psk, PskOf, SignKey
from espudp.ike.identity import Identity
from espudp.ike.pad import PadEntry
from espudp.wire.ikev1.constants import AuthMethod


@dataclass(frozen=True, slots=True)
class Way:
    """One method. Who does not sign proves with a hash that it has the key, or is who began."""

    method: int
    psk: bool = False
    initiator_signs: bool = False
    responder_signs: bool = False
    login: bool = False
    """The initiator logs in by XAUTH afterwards."""

    def signs(self, *, initiator: bool) -> bool:
        """Whether that side proves itself by a signature."""
        return self.initiator_signs if initiator else self.responder_signs


_PSK = Way(AuthMethod.PSK, psk=True)
_PSK_LOGIN = Way(AuthMethod.XAUTH_INIT_PSK, psk=True, login=True)
_RSA = Way(AuthMethod.RSA_SIGNATURE, initiator_signs=True, responder_signs=True)
_RSA_LOGIN = Way(AuthMethod.XAUTH_INIT_RSA, initiator_signs=True, responder_signs=True, login=True)
_HYBRID = Way(AuthMethod.HYBRID_INIT_RSA, responder_signs=True, login=True)

WAYS = {way.method: way for way in (_PSK, _PSK_LOGIN, _RSA, _RSA_LOGIN, _HYBRID)}


def way_to_call(config: ConnectionConfig) -> Way:
    """The one that we offer. Raises ConfigError where IKEv1 has none such."""
    login = config.ikev1 is not None and config.ikev1.xauth is not None
    ways = _possible(config.proof, config.demand)
    if isinstance(config.proof, NoProof) and isinstance(config.demand, CertificateOf) and login:
        ways = (_HYBRID,)
    for way in ways:
        if way.login == login:
            return way
    raise ConfigError(
        "IKEv1 has no such way for the two sides to prove themselves",
        field="ikev1",
        remedy="Both need the same PSK, or both an RSA certificate; with --xauth-user the peer's is enough.",
    )


def _possible(proof: Proof, demand: Demand) -> tuple[Way, ...]:
    if isinstance(proof, Psk) and isinstance(demand, PskOf) and proof.key == demand.key:
        return _PSK, _PSK_LOGIN
    if isinstance(proof, SignKey) and isinstance(demand, CertificateOf) and _can_sign(proof):
        return _RSA, _RSA_LOGIN
    return ()


def _can_sign(proof: SignKey) -> bool:
    """RFC 2409 section 5.1: of what is left in use, RSA; and the certificate has to be shown."""
    return proof.private_key.public.kind == RSA and bool(proof.certificates)


def ways_in(entry: PadEntry) -> tuple[Way, ...]:
    """Those by which peers may come by this entry, best first: with XAUTH, if that is wanted of them."""
    if entry.further:
        return ()
    if entry.xauth is not None and isinstance(entry.demand, NoDemand):
        hybrid = isinstance(entry.proof, SignKey) and _can_sign(entry.proof)
        return (_HYBRID,) if hybrid else ()
    ways = _possible(entry.proof, entry.demand)
    return tuple(sorted(ways, key=lambda way: way.login != (entry.xauth is not None)))


def entries_for(
    entries: Iterable[PadEntry], way: Way | None, ip: str, identity: Identity | None = None
) -> list[PadEntry]:
    """The entries by which who is at this address may come, best first; None: by any way, under any name.

    Before the name is known those come first that are for where the peer is. Of those for a name only the
    ones count that fit it most closely, whatever their way: who is named in one does not come in by another
    that is for everybody, where somebody else might take its name.
    """
    here = [entry for entry in entries if _is_here(entry, ip)]
    if identity is not None:
        fits = [entry.fit(identity, ip) for entry in here]
        best = max(fits, default=0)
        here = [entry for entry, fit in zip(here, fits, strict=True) if fit and fit == best]
    fitting = (e for e in here if (way in ways_in(e) if way else ways_in(e)))
    return sorted(fitting, key=lambda entry: not entry.networks)


def methods_for(entries: Sequence[PadEntry]) -> list[int]:
    """The methods by which one may come by any of these entries, best first."""
    return list(dict.fromkeys(way.method for entry in entries for way in ways_in(entry)))


def _is_here(entry: PadEntry, ip: str) -> bool:
    return not entry.networks or any(ip_address(ip) in network for network in entry.networks)
