"""How the two sides prove who they are: the options of connect and listen, and what they make."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from espudp.cli import options, parsing
from espudp.cli.options import WHO
from espudp.errors import ConfigError
from espudp.host.options import Report, Reporter, Severity

if TYPE_CHECKING:
    from collections.abc import Iterable

    from espudp.cli.eap import ConnectEap, ListenEap
    from espudp.crypto.signatures import PublicKey
    from espudp.ike.config import Identity
    from espudp.ike.credentials import CertificateOf, Demand, Proof, SignKey
    from espudp.ike.pad import PadEntry
    from espudp.ike.proposals import EspProposal, IkeProposal
    from espudp.ike.xauth import XauthUsers


Psk = Annotated[
    str | None,
    typer.Option(
        metavar="S",
        envvar="ESPUDP_PSK",
        help="The key itself; process lists show it.",
        rich_help_panel=WHO,
    ),
]
Cert = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Our certificate and those above it.", rich_help_panel=WHO),
]
Key = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Our private key, mode 0600.", rich_help_panel=WHO),
]
KeyPassword = Annotated[
    Path | None,
    typer.Option("--key-password-file", metavar="FILE", help="What opens it.", rich_help_panel=WHO),
]
Cas = Annotated[
    list[Path] | None,
    typer.Option(metavar="FILE", help="CA of the peers' certificates; repeatable.", rich_help_panel=WHO),
]
Crls = Annotated[
    list[Path] | None,
    typer.Option(metavar="FILE", help="What the CA has revoked; repeatable.", rich_help_panel=WHO),
]
Revocation = Annotated[
    str,
    typer.Option(
        metavar="if-given|required|off", help="Whether certificates may be revoked.", rich_help_panel=WHO
    ),
]
Ocsps = Annotated[
    list[Path] | None,
    typer.Option(metavar="FILE", help="OCSP response about --cert; repeatable.", rich_help_panel=WHO),
]
PeerKeys = Annotated[
    list[str] | None,
    typer.Option(
        metavar="KEY|FILE", help="What `espudp keygen` printed at the peer; repeatable.", rich_help_panel=WHO
    ),
]
RsaPss = Annotated[bool, typer.Option("--rsa-pss", help="Sign with RSA-PSS.", rich_help_panel=WHO)]
AllowSha1 = Annotated[
    bool,
    typer.Option("--allow-sha1", help="RSA with SHA-1, for peers that have no better.", rich_help_panel=WHO),
]
Anonymous = Annotated[
    bool, typer.Option("--anonymous", help="Prove nothing (RFC 7619).", rich_help_panel=WHO)
]
AllowAnonymous = Annotated[
    bool,
    typer.Option("--allow-anonymous", help="Ask the peer for no proof (RFC 7619).", rich_help_panel=WHO),
]

BothProofs = Annotated[
    bool,
    typer.Option(
        "--both-proofs",
        help="Clients prove themselves, and then log in with EAP (RFC 4739).",
        rich_help_panel=WHO,
    ),
]
Connections = Annotated[
    Path | None,
    typer.Option(metavar="FILE.toml", help="Several ways in, each with its own names.", rich_help_panel=WHO),
]


def identity_of(own: Proof) -> Identity | None:
    """What we are called where nobody says: the first name in our certificate, else the key itself."""
    from espudp.ike.config import Identity
    from espudp.ike.credentials import SignKey

    if not isinstance(own, SignKey):
        return None
    if own.certificates:
        from espudp.crypto.x509 import names_of

        return Identity(*names_of(own.certificates[0])[0])
    return Identity.of_key(own.private_key.public.fingerprint)


def certified(identity: Identity, own: Proof) -> Identity:
    """The identity as our certificate has it, if there is one. Raises ConfigError if it has it not."""
    from espudp.ike.config import Identity
    from espudp.ike.credentials import SignKey

    if not isinstance(own, SignKey) or not own.certificates:
        return identity
    from espudp.crypto.x509 import names_of, same_name

    names = names_of(own.certificates[0])
    for name in names:
        if same_name(name, (identity.type, identity.data)):
            return Identity(*name)
    raise ConfigError(
        f"our certificate is not for {identity}",
        field="id",
        remedy=f"use one of its names: {', '.join(str(Identity(*name)) for name in names)}",
    )


def tell_weaknesses(report: Reporter, proposals: Iterable[IkeProposal | EspProposal]) -> None:
    """Which of the algorithms that may be agreed on are weak, and why: said at the start."""
    from espudp.crypto.policy import warnings_about

    weak = dict.fromkeys(line for proposal in proposals for line in warnings_about(str(proposal)))
    if weak:
        remedy = "Take it out of the proposals as soon as the peers can do without."
        report(Report(f"Weak, and may be agreed on: {'; '.join(weak)}.", Severity.WARNING, remedy))


def tell_cautions(report: Reporter, proofs: Iterable[Proof], demands: Iterable[Demand]) -> None:
    """What holds no longer by the clock here, and what is weaker than it might be: said at the start."""
    from espudp.ike.credentials import CertificateOf, NoDemand, SignKey

    said: dict[str, None] = {}
    for proof in proofs:
        if isinstance(proof, SignKey) and proof.certificates:
            said |= dict.fromkeys(_out_of_time(proof, None))
    for demand in demands:
        if isinstance(demand, CertificateOf):
            said |= dict.fromkeys(_out_of_time(None, demand))
            if demand.sha1:
                said["Signatures with SHA-1 are taken: who finds a collision can pose as a peer."] = None
        if isinstance(demand, NoDemand):
            said["No proof is asked for: anybody may be at the other end."] = None
    for text in said:
        report(Report(text, Severity.WARNING))


def _out_of_time(own: SignKey | None, demand: CertificateOf | None) -> tuple[str, ...]:
    from espudp.crypto.x509 import Trust
    from espudp.host import certfiles

    certificate = None if own is None else certfiles.OwnCertificate(own.private_key, own.certificates)
    trust = demand.trust if demand is not None and isinstance(demand.trust, Trust) else None
    return certfiles.warnings(certificate, trust, datetime.now(UTC))


@dataclass(frozen=True)
class Authentication:
    """What connect and listen have in common, as typed."""

    psk_file: options.PskFile = None
    cert: Cert = None
    key: Key = None
    key_password: KeyPassword = None
    ocsp: Ocsps = None
    ca: Cas = None
    crl: Crls = None
    revocation: Revocation = "if-given"
    peer_key: PeerKeys = None
    rsa_pss: RsaPss = False
    allow_sha1: AllowSha1 = False
    anonymous: Anonymous = False
    allow_anonymous: AllowAnonymous = False
    both_proofs: BothProofs = False

    def sign_key(self) -> SignKey | None:
        """Our certificate or raw key, if one is named or a raw key is what is missing. Raises ConfigError."""
        from espudp.host import keyfiles
        from espudp.ike.credentials import SignKey

        if self.cert is not None:
            from espudp.host import certfiles  # what it needs is large, and most need none of it

            own = certfiles.load_own(self.cert, self.key, self.key_password)
            return SignKey(
                private_key=own.private_key,
                certificates=own.certificates,
                ocsp=certfiles.load_ocsp_responses(self.ocsp or ()),
                pss=self.rsa_pss,
                sha1=self.allow_sha1,
            )
        if self.key is None:
            return None
        key = keyfiles.read_private_key(self.key, self.key_password)
        return SignKey(private_key=key, pss=self.rsa_pss, sha1=self.allow_sha1)

    def raw_key(self) -> SignKey:
        """The key that `espudp keygen` keeps. Raises ConfigError."""
        from espudp.host import keyfiles
        from espudp.ike.credentials import SignKey

        return SignKey(private_key=keyfiles.read_private_key(keyfiles.default_key_file()))

    def trusted(self) -> CertificateOf | None:
        """Whose certificates are taken. Raises ConfigError."""
        if not self.ca:
            parsing.refuse_alone({"--crl": self.crl}, "--ca", "there is no CA whose list it might be")
            return None
        from espudp.crypto.revocation import Revocation as Needed
        from espudp.host import certfiles
        from espudp.ike.credentials import CertificateOf

        needed = parsing.choice(self.revocation, {m.value: m for m in Needed}, "--revocation")
        return CertificateOf(certfiles.load_trust(self.ca, self.crl or (), needed), self.allow_sha1)

    def peer_keys(self) -> list[PublicKey]:
        """Raises ConfigError."""
        from espudp.host import keyfiles

        return [key for text in self.peer_key or () for key in keyfiles.read_public_keys(text)]


@dataclass(frozen=True)
class ConnectAuthentication(Authentication):
    """Of connect."""

    psk: Psk = field(default=None, repr=False)

    def proofs(
        self, eap: ConnectEap, gateway: str | None, *, hybrid: bool = False
    ) -> tuple[Proof, Demand, tuple[Proof, ...]]:
        """As `pair`, and what we prove besides. Raises ConfigError."""
        from espudp.ike.credentials import EapClient

        if not self.both_proofs:
            return *self.pair(eap, gateway, hybrid=hybrid), ()
        login = eap.login(None, None, gateway)
        if login is None:
            raise ConfigError(
                "--both-proofs: there is no second one",
                field="both-proofs",
                remedy="add --eap-user NAME --eap-password-file FILE",
            )
        return *self.pair(type(eap)(), gateway), (EapClient(login),)

    def pair(self, eap: ConnectEap, gateway: str | None, *, hybrid: bool = False) -> tuple[Proof, Demand]:
        """What we prove ourselves with to `gateway` (None: to anybody), and the peer itself. `hybrid`: where
        the peer has a certificate, we need nothing but what we log in with after it.

        Raises ConfigError.
        """
        from espudp.ike.credentials import CertificateOf, NoProof, Psk, PskOf

        key = self._psk()
        proof, demand = self._proof(eap, gateway), self._demand(eap)
        if key is not None and proof is not None and demand is not None:
            raise ConfigError(
                "a pre-shared key has nothing to do beside all that proves both sides already",
                field="psk",
                remedy="leave it out",
            )
        if key is not None:
            return proof or Psk(key), demand or PskOf(key)
        if proof is None and self.peer_key:
            proof = self.raw_key()
        if proof is None and hybrid and isinstance(demand, CertificateOf):
            proof = NoProof()
        if proof is None and demand is None:
            raise ConfigError(
                "no pre-shared key is given",
                field="psk",
                remedy="name its file with --psk-file; `espudp listen` on the other host makes one",
            )
        if proof is None:
            raise ConfigError(
                "we have nothing to prove ourselves with",
                field="cert",
                remedy="add --cert FILE --key FILE, --key FILE, --psk-file FILE or --eap-user NAME",
            )
        if demand is None:
            raise ConfigError(
                "it is not said what the peer is known by",
                field="ca",
                remedy="name the CA of its certificate with --ca FILE, or its public key with --peer-key KEY",
            )
        return proof, demand

    def _psk(self) -> bytes | None:
        from espudp.host import keyfiles

        if self.psk is not None:
            parsing.refuse_together("--psk", {"--psk-file": self.psk_file}, "there is one key")
            return self.psk.encode()
        return None if self.psk_file is None else keyfiles.read_psk(self.psk_file)

    def _proof(self, eap: ConnectEap, gateway: str | None) -> Proof | None:
        from espudp.ike.credentials import EapClient, NoProof

        own, trusted = self.sign_key(), self.trusted()
        login = eap.login(own, None if trusted is None else trusted.trust, gateway)
        if login is not None:
            parsing.refuse_together("--eap-user", {"--anonymous": self.anonymous or None}, "it is a name")
            return EapClient(login)
        if self.anonymous:
            parsing.refuse_together(
                "--anonymous", {"--cert": self.cert, "--key": self.key}, "it proves nothing"
            )
            return NoProof()
        return own

    def _demand(self, eap: ConnectEap) -> Demand | None:
        from espudp.ike.credentials import ByEap, NoDemand, RawKeyOf

        trusted, keys = self.trusted(), self.peer_keys()
        if eap.eap_only:
            parsing.refuse_together("--eap-only", {"--peer-key": self.peer_key}, "EAP-TLS goes by --ca")
            return ByEap()
        if self.allow_anonymous:
            parsing.refuse_together(
                "--allow-anonymous", {"--ca": self.ca, "--peer-key": self.peer_key}, "it asks for no proof"
            )
            return NoDemand()
        if trusted is not None:
            parsing.refuse_together("--ca", {"--peer-key": self.peer_key}, "the peer has one of the two")
            return trusted
        if len(keys) > 1:
            raise ConfigError(
                f"{len(keys)} public keys are named, and there is one peer",
                field="peer-key",
                remedy="leave the others out",
            )
        return RawKeyOf(keys[0]) if keys else None


@dataclass(frozen=True)
class ListenAuthentication(Authentication):
    """Of listen."""

    connections: Connections = None

    @property
    def is_silent(self) -> bool:
        """Whether nothing is said of one way in, so that a PSK is made if there is no other."""
        return not any(
            (self.psk_file, self.cert, self.key, self.ca, self.peer_key, self.anonymous, self.allow_anonymous)
        )

    def psk(self) -> bytes | None:
        """Raises ConfigError."""
        from espudp.host import keyfiles

        return None if self.psk_file is None else keyfiles.read_psk(self.psk_file)

    def entries(
        self,
        psk: bytes | None,
        local: Identity | None,
        eap: ListenEap,
        xauth: XauthUsers | None = None,
    ) -> tuple[PadEntry, ...]:
        """Who may come, and how. `local` is our identity where the user has given one. With `xauth`, who has
        one of the keys or certificates logs in as well, and who knows ours needs neither (hybrid
        authentication). Raises ConfigError.
        """
        if xauth is not None:
            return self._with_login(psk, local, eap, xauth)
        return self._entries(psk, local, eap)

    def _with_login(
        self, psk: bytes | None, local: Identity | None, eap: ListenEap, xauth: XauthUsers
    ) -> tuple[PadEntry, ...]:
        from espudp.ike.credentials import CertificateOf, NoDemand, Psk, PskOf
        from espudp.ike.pad import PadEntry

        key = self.sign_key()
        certified_key = key if key is not None and key.certificates else None
        needs_more = not eap.is_silent or self.ca or self.peer_key or self.allow_anonymous
        entries = list(self._entries(psk, local, eap)) if needs_more or (psk and not certified_key) else []
        for index, entry in enumerate(entries):
            if isinstance(entry.demand, PskOf | CertificateOf):
                proof = Psk(entry.demand.key) if isinstance(entry.demand, PskOf) else entry.proof
                entries[index] = replace(entry, proof=proof, xauth=xauth)
        if psk is not None and not any(isinstance(entry.demand, PskOf) for entry in entries):
            entries.append(replace(PadEntry.of_psk(psk), local_identity=local, xauth=xauth))
        if certified_key is not None and not any(isinstance(e.demand, CertificateOf) for e in entries):
            name = identity_of(certified_key) if local is None else certified(local, certified_key)
            entries.append(PadEntry(proof=certified_key, demand=NoDemand(), xauth=xauth, local_identity=name))
        if not any(entry.xauth for entry in entries):
            raise ConfigError(
                "those who log in by XAUTH do not know us by anything",
                field="xauth-users",
                remedy="add --cert FILE --key FILE for us, or a --psk-file FILE for the group",
            )
        return tuple(entries)

    def _entries(self, psk: bytes | None, local: Identity | None, eap: ListenEap) -> tuple[PadEntry, ...]:
        from espudp.ike.credentials import ByEap, EapOf, NoDemand, NoProof, Psk, PskOf, RawKeyOf
        from espudp.ike.pad import PadEntry

        trusted, keys, key = self.trusted(), self.peer_keys(), self.sign_key()
        own: Proof | None = NoProof() if self.anonymous else key
        backend = eap.backend(key, None if trusted is None else trusted.trust, self.ca or ())
        if keys and own is None:
            own = self.raw_key()
        login: list[Demand] = [EapOf(backend)] if backend is not None else []
        if self.both_proofs and not login:
            raise ConfigError(
                "--both-proofs: there is no second one",
                field="both-proofs",
                remedy="add --eap-users FILE or --radius HOST",
            )
        if self.both_proofs:
            parsing.refuse_together("--both-proofs", {"--eap-only": eap.eap_only or None}, "EAP comes second")
        further = tuple(login) if self.both_proofs else ()
        demands: list[Demand] = [RawKeyOf(key) for key in keys]
        demands += [trusted] if trusted is not None else []
        demands += [] if self.both_proofs else login
        demands += [NoDemand()] if self.allow_anonymous else []
        if demands and own is None:
            raise ConfigError(
                "we have nothing to prove ourselves with to those who come",
                field="cert",
                remedy="add --cert FILE --key FILE, or --key FILE",
            )
        if psk is None and not demands:
            raise ConfigError(
                "it is not said what those who come are known by",
                field="ca",
                remedy="add --ca FILE, --peer-key KEY, --psk-file FILE or --eap-users FILE",
            )
        name = identity_of(own) if own is not None else None
        if local is not None and own is not None:
            name = certified(local, own)
        entries = [
            PadEntry(
                proof=ByEap() if eap.eap_only and isinstance(demand, EapOf) else own,
                demand=demand,
                further=further,
                local_identity=name,
            )
            for demand in demands
            if own is not None
        ]
        if psk is not None:
            # Beside other ways in a PSK is for both sides; alone with a certificate it is for the peers.
            proof = own if own is not None and not demands else Psk(psk)
            ours = name if proof is own else local
            entries.append(PadEntry(proof=proof, demand=PskOf(psk), further=further, local_identity=ours))
        return tuple(entries)
