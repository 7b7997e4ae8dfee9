"""The places of the scenarios where IKEv1 is spoken: the same server and clients, with another version."""

from dataclasses import dataclass, field, replace

from espudp.ike.config import ConnectionConfig, ListenerConfig
from espudp.ike.ikev1_config import Ikev1Config, Ikev1Policy, Mode
from tests.scenario.lab import Lab, Terms

EVERYTHING = "10.0.0.0/8"
"""Behind the server: IKEv1 knows one subnet for each child SA."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TermsV1(Terms):
    """What a scenario may want to be otherwise."""

    ike: tuple[str, ...] = ("aes128-sha256-curve25519",)
    esp: tuple[str, ...] = ("aes128-sha256",)
    subnet: str = EVERYTHING
    exchange: Mode = Mode.MAIN
    """Of phase 1, whatever `ikev1` says."""
    ikev1: Ikev1Config | None = field(default_factory=Ikev1Config)
    ikev1_policy: Ikev1Policy | None = field(default_factory=lambda: Ikev1Policy(modes=frozenset(Mode)))

    def listener(self) -> ListenerConfig:
        """As with IKEv2, and IKEv1 besides."""
        return Terms.listener(replace(self, local=self.local or (self.subnet,)))

    def connection(self, name: str = "client") -> ConnectionConfig:
        """As with IKEv2, and IKEv1 instead."""
        config = Terms.connection(replace(self, remote=self.remote or (self.subnet,)), name)
        return replace(config, ikev1=replace(self.ikev1 or Ikev1Config(), mode=self.exchange))


def lab_v1(seed: int = 0, terms: Terms | None = None, server: Terms | None = None, **more: object) -> Lab:
    """A world with a server in it that serves both versions."""
    return Lab(seed, terms or TermsV1(), server, **more)  # type: ignore[arg-type]
