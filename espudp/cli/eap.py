"""EAP: the options of connect and listen, and what they make."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from espudp.cli import parsing
from espudp.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from espudp.host.radius import RadiusServer
    from espudp.ike.config import Identity
    from espudp.ike.credentials import SignKey, Trust
    from espudp.ike.eap.login import EapLogin, EapUsers
    from espudp.ike.eap.passthrough import EapRadius
    from espudp.wire.eap import EapType

EAP = "Logging in with EAP"

User = Annotated[str | None, typer.Option(metavar="NAME", help="Log in by this name.", rich_help_panel=EAP)]
PasswordFile = Annotated[
    Path | None, typer.Option(metavar="FILE", help="Its password, mode 0600.", rich_help_panel=EAP)
]
Methods = Annotated[
    list[str] | None,
    typer.Option(
        metavar="tls|mschapv2|md5|gtc",
        help="Only this, and in this order; repeatable.",
        rich_help_panel=EAP,
    ),
]
ServerName = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="What EAP-TLS's server must be.", rich_help_panel=EAP),
]
Only = Annotated[
    bool,
    typer.Option("--eap-only", help="EAP-TLS proves the gateway as well (RFC 5998).", rich_help_panel=EAP),
]
LeaveProof = Annotated[
    bool,
    typer.Option(
        "--eap-only", help="Prove ourselves to users by EAP-TLS alone (RFC 5998).", rich_help_panel=EAP
    ),
]
Users = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Who may log in: NAME:PASSWORD, mode 0600.", rich_help_panel=EAP),
]
RadiusServers = Annotated[
    list[str] | None,
    typer.Option(metavar="HOST[:PORT]", help="RADIUS server that decides; repeatable.", rich_help_panel=EAP),
]
RadiusSecret = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="The secret shared with it, mode 0600.", rich_help_panel=EAP),
]


def _methods(texts: list[str] | None) -> tuple[EapType, ...]:
    if not texts:
        return ()
    from espudp.ike.eap.login import METHODS_BY_NAME  # with it come TLS and what MSCHAPv2 needs

    return tuple(dict.fromkeys(parsing.choice(text, METHODS_BY_NAME, "--eap-method") for text in texts))


@dataclass(frozen=True)
class ConnectEap:
    """Of connect."""

    eap_user: User = None
    eap_password_file: PasswordFile = None
    eap_method: Methods = None
    eap_server_name: ServerName = None
    eap_only: Only = False

    def identity(self) -> Identity | None:
        """What we call ourselves in IKE: gateways that do not ask for a name in EAP take this one."""
        from espudp.ike.config import Identity

        if self.eap_user is None:
            return None
        try:
            return Identity.parse(self.eap_user)
        except ConfigError:
            return Identity.of_user(self.eap_user.encode())

    def login(self, own: SignKey | None, trust: Trust | None, gateway: str | None) -> EapLogin | None:
        """What we log in to `gateway` with, if we do: `own` with certificates, and `trust` for those of the
        other side, make EAP-TLS possible. Raises ConfigError."""
        if self.eap_user is None:
            needless = {
                "--eap-password-file": self.eap_password_file,
                "--eap-method": self.eap_method,
                "--eap-server-name": self.eap_server_name,
                "--eap-only": self.eap_only,
            }
            parsing.refuse_alone(needless, "--eap-user", "nobody logs in")
            return None
        from espudp.host import eapfiles
        from espudp.ike.eap.login import EapLogin

        tls = None
        if own is not None and own.certificates and trust is not None:
            # Where nothing else proves the gateway, any certificate of its CA would not do
            name = self.eap_server_name or (gateway if self.eap_only else None)
            tls = eapfiles.tls_setup(own.private_key, own.certificates, trust, server_name=name)
        elif self.eap_only:
            raise ConfigError(
                "only EAP-TLS proves the gateway as well as us",
                field="eap-only",
                remedy="add --cert FILE --key FILE --ca FILE, or leave --eap-only out",
            )
        path = self.eap_password_file
        return EapLogin(
            user=self.eap_user,
            password=None if path is None else eapfiles.read_password(path),
            tls=tls,
            methods=_methods(self.eap_method),
        )


@dataclass(frozen=True)
class ListenEap:
    """Of listen."""

    eap_users: Users = None
    eap_method: Methods = None
    eap_only: LeaveProof = False
    radius: RadiusServers = None
    radius_secret_file: RadiusSecret = None

    @property
    def is_silent(self) -> bool:
        """Whether nobody logs in by EAP."""
        return not (
            self.eap_users or self.eap_method or self.eap_only or self.radius or self.radius_secret_file
        )

    def backend(
        self, own: SignKey | None, trust: Trust | None, ca: Sequence[Path]
    ) -> EapUsers | EapRadius | None:
        """Who decides on logins, if anybody logs in. EAP-TLS is spoken where it is named, with `own`
        certificates, and `trust` in the CAs of the files `ca`. Raises ConfigError."""
        from espudp.ike.eap.passthrough import EapRadius

        if self.eap_only and [text.lower() for text in self.eap_method or ()] != ["tls"]:
            raise ConfigError(
                "only EAP-TLS proves the gateway as well as its users",
                field="eap-only",
                remedy="add --eap-method tls and no other method, or leave --eap-only out",
            )
        if self.radius:
            parsing.refuse_together(
                "--radius",
                {"--eap-users": self.eap_users, "--eap-method": self.eap_method},
                "the RADIUS server knows the users, and chooses the method",
            )
            return EapRadius()
        methods = _methods(self.eap_method)
        return self._users(methods, own, trust, ca) if self.eap_users or methods else None

    def _users(
        self, methods: tuple[EapType, ...], own: SignKey | None, trust: Trust | None, ca: Sequence[Path]
    ) -> EapUsers:
        from espudp.host import certfiles, eapfiles
        from espudp.ike.eap.login import PASSWORD_METHODS, EapUsers
        from espudp.wire.eap import EapType

        if self.eap_users is None and set(methods) & set(PASSWORD_METHODS):
            raise ConfigError(
                "there are no users who could have passwords",
                field="eap-users",
                remedy="name a file of lines NAME:PASSWORD with --eap-users",
            )
        users = eapfiles.no_users() if self.eap_users is None else eapfiles.read_users(self.eap_users)
        tls = None
        if EapType.TLS in methods and own is not None and own.certificates and trust is not None:
            authorities = certfiles.load_certificates(ca)
            tls = eapfiles.tls_setup(own.private_key, own.certificates, trust, authorities=authorities)
        return EapUsers(users=users, tls=tls, methods=methods)

    def radius_servers(self) -> tuple[RadiusServer, ...]:
        """Whom the logins are left to; empty: nobody. Raises ConfigError."""
        if not self.radius:
            parsing.refuse_alone(
                {"--radius-secret-file": self.radius_secret_file}, "--radius", "it is shared with nobody"
            )
            return ()
        if self.radius_secret_file is None:
            raise ConfigError(
                "no secret is shared with the RADIUS server",
                field="radius-secret-file",
                remedy="write it into a file of mode 0600, and name that with --radius-secret-file",
            )
        from espudp.host import eapfiles

        return eapfiles.read_radius(self.radius, self.radius_secret_file)
