"""IKEv1: the options of connect and listen, and what they make."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from espudp.cli import parsing
from espudp.errors import ConfigError
from espudp.host.options import Report, Reporter, Severity

if TYPE_CHECKING:
    from espudp.cli.authentication import ConnectAuthentication
    from espudp.cli.eap import ConnectEap
    from espudp.cli.options import Keeping
    from espudp.cli.sessions import Calling
    from espudp.ike.config import ConnectionConfig, Identity, ListenerConfig
    from espudp.ike.credentials import Proof
    from espudp.ike.ikev1_config import Ikev1Config, Ikev1Policy, Mode
    from espudp.ike.xauth import XauthLogin, XauthUsers

IKEV1 = "IKEv1"

# RFC 2409 section 5.4: the hash that a gateway sends at once can be tried against guesses of the key, and the
# identities stand beside it.
CAUTION = (
    "Aggressive mode with a pre-shared key: who asks the gateway once, or listens, can guess the key "
    "offline, and reads both identities. Everybody who has the key of a group can pose as its gateway, and "
    "gets the passwords of its users."
)
REMEDY = "Take main mode, or certificates; or make the key long and random: openssl rand -base64 32."

PULL, PUSH = "pull", "push"
NEEDED = "--ikev1 main"

# A name without a domain, which is no host's. As @NAME or keyid:NAME it is what it says.
_GROUP = re.compile(r"[\w-]+", re.ASCII)

ModeToCall = Annotated[
    str | None,
    typer.Option(
        "--ikev1",
        metavar="main|aggressive",
        help="Speak IKEv1. Aggressive with a pre-shared key lets it be guessed offline.",
        rich_help_panel=IKEV1,
    ),
]
ModesToServe = Annotated[
    str | None,
    typer.Option(
        "--ikev1",
        metavar="main,aggressive",
        help="Serve IKEv1 too, in these modes. Aggressive with a pre-shared key lets it be guessed offline.",
        rich_help_panel=IKEV1,
    ),
]
User = Annotated[
    str | None, typer.Option(metavar="NAME", help="Log in by this name (XAUTH).", rich_help_panel=IKEV1)
]
PasswordFile = Annotated[
    Path | None, typer.Option(metavar="FILE", help="Its password, mode 0600.", rich_help_panel=IKEV1)
]
Domain = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="Its domain, for gateways that ask.", rich_help_panel=IKEV1),
]
Users = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE", help="Who may log in by XAUTH: NAME:PASSWORD, mode 0600.", rich_help_panel=IKEV1
    ),
]
Chap = Annotated[
    bool,
    typer.Option("--xauth-chap", help="Ask for RADIUS-CHAP, not passwords.", rich_help_panel=IKEV1),
]
Direction = Annotated[
    str,
    typer.Option(
        "--mode-config", metavar="pull|push", help="Who begins with virtual addresses.", rich_help_panel=IKEV1
    ),
]
Banner = Annotated[
    str | None,
    typer.Option(metavar="TEXT", help="What users of Cisco's clients read.", rich_help_panel=IKEV1),
]


def _modes(text: str) -> tuple[Mode, ...]:
    from espudp.ike.ikev1_config import Mode

    names = {mode.value: mode for mode in Mode}
    return tuple(dict.fromkeys(parsing.choice(word, names, "--ikev1") for word in text.split(",")))


def _is_pushed(text: str) -> bool:
    return parsing.choice(text, {PULL: False, PUSH: True}, "--mode-config")


@dataclass(frozen=True)
class ConnectIkev1:
    """Of connect."""

    ikev1: ModeToCall = None
    xauth_user: User = None
    xauth_password_file: PasswordFile = None
    xauth_domain: Domain = None
    mode_config: Direction = PULL

    def config(self) -> Ikev1Config | None:
        """Raises ConfigError."""
        pushed = _is_pushed(self.mode_config)
        if self.ikev1 is None:
            alone = {"--xauth-user": self.xauth_user, "--mode-config": pushed or None}
            parsing.refuse_alone(alone, NEEDED, "IKEv2 does that otherwise")
        from espudp.ike.ikev1_config import Ikev1Config

        login = self.login()
        if self.ikev1 is None:
            return None
        modes = _modes(self.ikev1)
        if len(modes) > 1:
            raise ConfigError(
                "phase 1 goes by one mode", field="ikev1", remedy="write --ikev1 main or --ikev1 aggressive"
            )
        return Ikev1Config(mode=modes[0], xauth=login, pushed=pushed)

    @property
    def offers_one_group(self) -> bool:
        """Aggressive mode has a public value in the first message (RFC 2409 section 5.1). Raises
        ConfigError.
        """
        from espudp.ike.ikev1_config import Mode

        return self.ikev1 is not None and Mode.AGGRESSIVE in _modes(self.ikev1)

    def login(self) -> XauthLogin | None:
        """What we log in with. Raises ConfigError."""
        if self.xauth_user is None:
            needless = {
                "--xauth-password-file": self.xauth_password_file,
                "--xauth-domain": self.xauth_domain,
            }
            parsing.refuse_alone(needless, "--xauth-user", "nobody logs in")
            return None
        from espudp.host import eapfiles
        from espudp.ike.xauth import XauthLogin

        path = self.xauth_password_file
        password = "" if path is None else eapfiles.read_password(path)
        return XauthLogin(user=self.xauth_user, password=password, domain=self.xauth_domain or "")

    def refuse(
        self, who: ConnectAuthentication, eap: ConnectEap, sessions: Calling, keeping: Keeping
    ) -> None:
        """What only IKEv2 has. What it merely does better, such as MOBIKE, is not there, and that is all.
        Raises ConfigError.
        """
        if self.ikev1 is None:
            return
        alien = {
            "--eap-user": eap.eap_user,
            "--eap-only": eap.eap_only,
            "--both-proofs": who.both_proofs,
            "--peer-key": who.peer_key,
            "--anonymous": who.anonymous,
            "--allow-anonymous": who.allow_anonymous,
            "--rsa-pss": who.rsa_pss,
            "--childless": sessions.childless,
            "--reauth": keeping.reauth,
        }
        given = [option for option, value in alien.items() if value]
        if given:
            raise ConfigError(
                f"{' and '.join(given)}: IKEv1 does not have that",
                field="ikev1",
                remedy=_INSTEAD.get(given[0], "leave it out, or take IKEv2, without --ikev1"),
            )

    def identity(self, typed: str | None, proof: Proof) -> Identity | None:
        """What we call ourselves, where that is another thing than in IKEv2: a group, which is a plain word,
        or the user; None: it is not.
        """
        from espudp.ike.config import Identity
        from espudp.ike.credentials import NoProof, Psk
        from espudp.ike.ikev1_config import Mode

        if self.ikev1 is None:
            return None
        if typed is not None:
            is_group = Mode.AGGRESSIVE in _modes(self.ikev1) and isinstance(proof, Psk)
            return Identity.parse(f"keyid:{typed}") if is_group and _GROUP.fullmatch(typed) else None
        if self.xauth_user is not None and isinstance(proof, NoProof):
            return Identity.of_user(self.xauth_user.encode())
        return None

    def check(self, config: ConnectionConfig, report: Reporter) -> None:
        """What is weak about it is said at the start. Raises ConfigError for what IKEv1 cannot."""
        from espudp.ike.credentials import Psk
        from espudp.ike.ikev1_config import Mode

        if config.ikev1 is None:
            return
        # These are a part of IKEv1, which is loaded where it is spoken, and not before
        from espudp.ike.v1.phase1_proposals import to_offer
        from espudp.ike.v1.ways import way_to_call

        is_aggressive = config.ikev1.mode is Mode.AGGRESSIVE
        way_to_call(config)
        to_offer(config.ike_proposals, one_group=is_aggressive)
        if is_aggressive and isinstance(config.proof, Psk):
            report(Report(CAUTION, Severity.WARNING, REMEDY))


_INSTEAD = {
    "--eap-user": "log in with --xauth-user NAME --xauth-password-file FILE",
    "--both-proofs": "add --xauth-user NAME --xauth-password-file FILE: it comes after the other proof",
    "--peer-key": "name a certificate with --cert and --key, or a key with --psk-file",
    "--reauth": "leave it out: every new phase 1 proves both sides again (--ike-lifetime)",
}


@dataclass(frozen=True)
class ListenIkev1:
    """Of listen."""

    ikev1: ModesToServe = None
    xauth_users: Users = None
    xauth_chap: Chap = False
    mode_config: Direction = PULL
    banner: Banner = None

    def policy(self) -> Ikev1Policy | None:
        """Raises ConfigError."""
        from espudp.ike.ikev1_config import Ikev1Policy

        push = _is_pushed(self.mode_config)
        if self.ikev1 is None:
            alone = {"--xauth-users": self.xauth_users, "--mode-config": push, "--banner": self.banner}
            parsing.refuse_alone(alone, NEEDED, "IKEv2 does that otherwise")
            return None
        return Ikev1Policy(modes=frozenset(_modes(self.ikev1)), push=push, banner=self.banner or "")

    def users(self) -> XauthUsers | None:
        """Who may log in, if anybody is to. Raises ConfigError."""
        if self.xauth_users is None:
            parsing.refuse_alone({"--xauth-chap": self.xauth_chap}, "--xauth-users", "nobody is asked")
            return None
        from espudp.host import eapfiles
        from espudp.ike.xauth import XauthUsers

        return XauthUsers(users=eapfiles.read_users(self.xauth_users), chap=self.xauth_chap)

    def check(self, config: ListenerConfig, report: Reporter) -> None:
        """What is weak about it is said at the start. Raises ConfigError if nobody can come."""
        from espudp.ike.credentials import PskOf
        from espudp.ike.ikev1_config import Mode

        if config.ikev1 is None:
            return
        from espudp.ike.v1.phase1_proposals import to_offer
        from espudp.ike.v1.ways import ways_in

        to_offer(config.ike_proposals, one_group=False)
        entries = [entry for entry in config.pad if ways_in(entry)]
        if not entries:
            raise ConfigError(
                "nobody can come by IKEv1: it has one key for both sides, RSA certificates, and XAUTH",
                field="ikev1",
                remedy="add --psk-file FILE, --ca FILE or --xauth-users FILE, or leave --ikev1 out",
            )
        if Mode.AGGRESSIVE in config.ikev1.modes and any(isinstance(e.demand, PskOf) for e in entries):
            report(Report(CAUTION, Severity.WARNING, REMEDY))

    def invitation(self) -> list[str]:
        """What those who log in add to `espudp connect`."""
        if self.ikev1 is None or self.xauth_users is None:
            return []
        mode = _modes(self.ikev1)[0].value
        return ["--ikev1", mode, "--xauth-user", "NAME", "--xauth-password-file", "FILE"]
