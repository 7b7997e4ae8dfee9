"""What a user decides about IKE, with defaults that suit most. Plain values: nothing here does anything."""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Network, IPv6Network

from espudp.errors import ConfigError
from espudp.ike.credentials import ByEap, Demand, EapClient, NoProof, Proof
from espudp.ike.encapsulation import Encapsulation
from espudp.ike.handout import Handout
from espudp.ike.identity import NOBODY, Identity
from espudp.ike.ikev1_config import MAX_TOLD_NETWORKS, Ikev1Config, Ikev1Policy
from espudp.ike.lifetimes import LifetimeConfig
from espudp.ike.narrowing import DYNAMIC, MAX_TRANSPORT_PAIRS, Dynamic, Selector
from espudp.ike.pad import PadEntry
from espudp.ike.proposals import DEFAULT_ESP_PROPOSALS, DEFAULT_IKE_PROPOSALS, EspProposal, IkeProposal
from espudp.wire.ikev2.redirect import is_gateway
from espudp.wire.selectors import TrafficSelector
from espudp.wire.transport import Mode

__all__ = [
    "DYNAMIC",
    "ChildConfig",
    "ConnectionConfig",
    "Encapsulation",
    "Identity",
    "LifetimeConfig",
    "Limits",
    "ListenerConfig",
    "Mode",
    "Timers",
]


# RFC 6290 section 5.1
SECRET_OCTETS = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Timers:
    """When things happen, in seconds."""

    retransmit_initial: float = 0.5
    """From a request to its first retransmission; each following wait is `retransmit_factor` times longer."""

    retransmit_factor: float = 1.8
    retransmit_max: float = 20.0
    """The longest wait between two retransmissions."""

    retransmit_tries: int = 8
    """Retransmissions of one request before the peer counts as gone, after 78 s with these defaults."""

    dpd_interval: float = 30.0
    """Silence from the peer, IKE and ESP alike, after which it is asked whether it lives. 0: never ask."""

    half_open_timeout: float = 30.0
    """From the answer to IKE_SA_INIT to the end of IKE_AUTH, on the responder."""

    reauth: float | None = None
    """For how long an authentication is good; then the side that dialled repeats it, make before break, and a
    listener closes the connection of a peer that does not (RFC 4478). None: for ever."""

    rekey_linger: float = 5.0
    """How long a replaced inbound SA goes on receiving what was still on the way."""

    rekey_retry: float = 10.0
    """From a request that the peer put off (TEMPORARY_FAILURE) to the next try, more or less."""

    ike_lifetime: LifetimeConfig = field(
        default_factory=lambda: LifetimeConfig(soft_seconds=4 * 3600.0, hard_seconds=4.5 * 3600.0)
    )
    """Of the IKE SA: only the seconds count."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Bounds on what strangers and peers can make a listener remember."""

    half_open_max: int = 1000
    """IKE SAs between IKE_SA_INIT and IKE_AUTH; past it requests are dropped."""

    half_open_per_address: int = 64
    """Of these, from one IPv4 address or IPv6 network of 64 bits: a NAT may have many clients behind it."""

    cookie_threshold: int = 32
    """Half-open IKE SAs from which on initiators must show that they own their address (RFC 7296 2.6)."""

    connections_max: int = 20_000
    children_per_connection: int = 32
    """Beside those that several workers need."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChildConfig:
    """One pair of ESP SAs: what it carries and what it is made of."""

    local: tuple[Selector, ...] = (DYNAMIC,)
    """What is behind us; DYNAMIC is our virtual address."""

    remote: tuple[Selector, ...]
    """What is behind the peer; DYNAMIC is the virtual address that the peer gets from our pool."""

    proposals: tuple[EspProposal, ...] = DEFAULT_ESP_PROPOSALS
    lifetime: LifetimeConfig = field(default_factory=LifetimeConfig)
    replay_window: int = 1024
    """In packets (RFC 4303 section 3.4.3)."""

    single_pair: bool = False
    """For peers that know one selector on either side: one child SA for each pair of them."""

    mode: Mode = Mode.TUNNEL
    """In transport mode all selectors are DYNAMIC, with a protocol and ports perhaps: the outer addresses."""

    def __post_init__(self) -> None:
        """Raises ConfigError for a child SA that could carry nothing."""
        for side, selectors in (("local", self.local), ("remote", self.remote)):
            if not selectors:
                raise ConfigError(
                    f"no subnet on the {side} side, so nothing would go through the tunnel",
                    field="subnet",
                    remedy="Name at least one subnet, 0.0.0.0/0 for everything.",
                )
        if self.mode is Mode.TRANSPORT:
            self._check_transport()
        _require_proposals(self.proposals, "ESP")

    def _check_transport(self) -> None:
        if not all(isinstance(s, Dynamic) for s in self.local + self.remote):
            raise ConfigError(
                "transport mode is between the two hosts, and has no subnets",
                field="subnet",
                remedy="Leave them out, or choose tunnel mode.",
            )
        if len(self.local) * len(self.remote) > MAX_TRANSPORT_PAIRS:
            raise ConfigError(
                f"transport mode for more than {MAX_TRANSPORT_PAIRS} pairs of protocols and ports",
                field="subnet",
                remedy="Name fewer of them, or ranges of ports.",
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionConfig:
    """One connection that we initiate."""

    local_identity: Identity
    remote_identity: Identity | None = None
    """What the peer must be; None: whoever proves itself."""

    proof: Proof
    """What we prove ourselves with."""

    demand: Demand
    """What the peer proves itself with."""

    further: tuple[tuple[Identity, Proof], ...] = ()
    """What we prove besides, one after the other (RFC 4739); the peer must take several proofs."""

    child: ChildConfig
    ike_proposals: tuple[IkeProposal, ...] = DEFAULT_IKE_PROPOSALS
    request_addresses: tuple[str, ...] = ("any4",)
    """Virtual addresses to ask for: `any4`, `any6` or addresses. Empty: no configuration payload at all."""

    encap: Encapsulation = Encapsulation.AUTO
    """When ESP goes in UDP."""

    mobike: bool = True
    """Move with our addresses, if the peer can follow (RFC 4555)."""

    childless: bool = False
    """Make the child SA in an exchange of its own, if the peer can do so (RFC 6023)."""

    resume: bool = True
    """Ask for a ticket, and begin with it after the connection broke off (RFC 5723)."""

    follow_redirects: bool = True
    """Go where the peer sends us, if who is there proves to be the same peer (RFC 5685)."""

    redirected_from: str = ""
    """The IP address of the gateway that has sent us here."""

    ikev1: Ikev1Config | None = None
    """Speak IKEv1, like this; None: IKEv2."""

    timers: Timers = Timers()

    def __post_init__(self) -> None:
        """Raises ConfigError."""
        _require_proposals(self.ike_proposals, "IKE")
        if isinstance(self.demand, ByEap) and not isinstance(self.proof, EapClient):
            raise ConfigError(
                "EAP cannot prove the peer where we do not speak it",
                field="eap-only",
                remedy="Name --ca FILE.",
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class ListenerConfig:
    """How we answer those who connect to us."""

    local_identity: Identity
    pad: tuple[PadEntry, ...]
    """Who may come, and how each proves itself; see `pad.candidates` for which of them it is."""

    child: ChildConfig
    """local: our subnets and the pool; remote: DYNAMIC where peers get addresses from the pool."""

    ike_proposals: tuple[IkeProposal, ...] = DEFAULT_IKE_PROPOSALS
    pool: tuple[IPv4Network | IPv6Network, ...] = ()
    """Where virtual addresses come from. The first usable address of each network is our own."""

    dns: tuple[str, ...] = ()
    """Addresses of DNS servers, told to peers that ask."""

    dns_domains: tuple[str, ...] = ()
    """What these servers are for, told to peers that ask (RFC 8598); none: everything."""

    split: tuple[IPv4Network | IPv6Network, ...] = ()
    """What is behind us, told to peers that ask (INTERNAL_IP4_SUBNET, Unity's split include); the selectors
    do not depend on it. Who comes by an entry with a child of its own is told of that instead.
    """

    mobike: bool = True
    """Follow peers that say where they have moved to (RFC 4555)."""

    secret: bytes = field(default=b"", repr=False)
    """What only this listener knows, and knows again after a restart; empty: nothing."""

    childless: bool = True
    """Let peers authenticate without a child SA (RFC 6023)."""

    tickets: bool = True
    """Give tickets to clients that ask for them (RFC 5723)."""

    redirect_to: tuple[str, ...] = ()
    """Other gateways, by address or name, to which new clients are sent that would go there (RFC 5685)."""

    redirect_above: int = 0
    """So many connections are served here before anybody is sent elsewhere."""

    encap: Encapsulation = Encapsulation.AUTO
    """When ESP goes in UDP."""

    ikev1: Ikev1Policy | None = None
    """Let peers in that speak IKEv1, beside those with IKEv2; None: only those."""

    limits: Limits = Limits()
    timers: Timers = Timers()

    def __post_init__(self) -> None:
        """Raises ConfigError."""
        for gateway in self.redirect_to:
            if not is_gateway(gateway):
                raise ConfigError(
                    f'"{gateway}" is neither an address nor a host name',
                    field="redirect-to",
                    remedy="Name the gateway that clients are to go to.",
                )
        if self.secret and len(self.secret) < SECRET_OCTETS:
            raise ConfigError(
                f"a secret of {len(self.secret)} octets can be guessed",
                field="secret",
                remedy=f"Take {SECRET_OCTETS} random ones.",
            )
        if not self.pad:
            raise ConfigError(
                "a listener without a PSK, key or authority lets nobody in",
                field="psk",
                remedy="Give it a PSK file.",
            )
        for network in (network for entry in self.pad for network in entry.pool):
            if network not in self.pool:
                raise ConfigError(
                    f"{network} is none of the pools", field="pool", remedy="Name it with --pool as well."
                )
        _require_proposals(self.ike_proposals, "IKE")
        if self.ikev1 is not None:
            self._require_few_networks()

    def _require_few_networks(self) -> None:
        told = [self.split, *(_named(entry.child.local) for entry in self.pad if entry.child is not None)]
        if max(map(len, told)) > MAX_TOLD_NETWORKS:
            raise ConfigError(
                f"clients of IKEv1 are told of {MAX_TOLD_NETWORKS} networks at most",
                field="split",
                remedy="Name larger ones that have these in them.",
            )

    @property
    def handout(self) -> Handout:
        """What peers are told beside their addresses."""
        return Handout(self.dns, self.dns_domains, self.split, self.pool)

    def by(self, entry: PadEntry) -> "ListenerConfig":
        """What holds for a peer that comes by one of the entries."""
        ours, child = entry.local_identity or self.local_identity, entry.child or self.child
        if isinstance(entry.proof, NoProof):
            ours = NOBODY
        split = self.split if entry.child is None else _named(entry.child.local)
        pool = entry.pool or self.pool
        return replace(self, pad=(entry,), local_identity=ours, child=child, split=split, pool=pool)


def _named(local: Iterable[Selector]) -> tuple[IPv4Network | IPv6Network, ...]:
    """The networks that clients are told of; none where it is everything."""
    networks = [n for side in local if isinstance(side, TrafficSelector) for n in side.networks()]
    return tuple(networks) if all(network.prefixlen for network in networks) else ()


def _require_proposals(proposals: tuple[IkeProposal, ...] | tuple[EspProposal, ...], protocol: str) -> None:
    if not proposals:
        raise ConfigError(
            f"no {protocol} proposal is left to negotiate with",
            field=f"{protocol.lower()}-proposal",
            remedy="Leave the option out for the defaults.",
        )
