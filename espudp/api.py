"""What programs need that embed a tunnel: the names that `import espudp` has."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from espudp.crypto.aead import CipherKeys
from espudp.crypto.signatures import PrivateKey, PublicKey, load_private_key, load_public_key
from espudp.crypto.suites import ESP_SUITES, EspSuite, parse_esp_suite
from espudp.errors import (
    AuthenticationFailed,
    ConfigError,
    CryptoError,
    EspudpError,
    HostError,
    IntegrityError,
    PeerError,
    WireError,
)
from espudp.esp.datapath import DataPath
from espudp.esp.sa import ChildKeys, Lifetime
from espudp.ike.config import (
    DYNAMIC,
    ChildConfig,
    ConnectionConfig,
    Identity,
    LifetimeConfig,
    Limits,
    ListenerConfig,
    Timers,
)
from espudp.ike.credentials import (
    CertificateOf,
    Demand,
    EapClient,
    EapOf,
    NoDemand,
    NoProof,
    Proof,
    Psk,
    PskOf,
    RawKeyOf,
    SignKey,
)
from espudp.ike.eap.passthrough import BackendAnswer, BackendQuestion, EapRadius, Verdict
from espudp.ike.encapsulation import Encapsulation
from espudp.ike.events import (
    AddressAssigned,
    BackendAsked,
    ChildInstalled,
    ChildRemoved,
    ConnectionDown,
    ConnectionUp,
    Diagnostic,
    Fault,
    IkeRekeyed,
    PathChanged,
    PeerAddressAssigned,
    PeerRefused,
)
from espudp.ike.handout import TrustAnchor
from espudp.ike.ikev1_config import Ikev1Config, Ikev1Policy, NatTraversal
from espudp.ike.ikev1_config import Mode as Ikev1Mode
from espudp.ike.narrowing import Dynamic
from espudp.ike.pad import PadEntry, Pattern
from espudp.ike.proposals import EspProposal, IkeProposal
from espudp.ike.xauth import XauthLogin, XauthUsers
from espudp.manual import ManualConfig, ManualPair, emit_manual, generate_pair, parse_manual
from espudp.tunnel import Event, ManualUp, MtuChanged, Tunnel
from espudp.wire.address import Path, UdpAddress
from espudp.wire.selectors import TrafficSelector
from espudp.wire.train import Burst, Train
from espudp.wire.transport import Mode as ChildMode
from espudp.wire.transport import Transport
from espudp.wire.vnet import Frame, Offload, VnetHeader

if TYPE_CHECKING:
    from espudp.crypto.tls import TlsIdentity
    from espudp.crypto.x509 import Trust
    from espudp.ike.eap.login import EapLogin, EapUsers
    from espudp.ike.eap.tls import TlsSetup
    from espudp.ike.eap.users import UserTable, parse_users

# Loaded when they are asked for: with X.509 and TLS they would make every start half as long again.
_LATER = {
    "EapLogin": "espudp.ike.eap.login",
    "EapUsers": "espudp.ike.eap.login",
    "TlsIdentity": "espudp.crypto.tls",
    "TlsSetup": "espudp.ike.eap.tls",
    "Trust": "espudp.crypto.x509",
    "UserTable": "espudp.ike.eap.users",
    "parse_users": "espudp.ike.eap.users",
}


def __getattr__(name: str) -> Any:
    """One of those (PEP 562)."""
    if name not in _LATER:
        raise AttributeError(f"module 'espudp' has no attribute '{name}'")
    return getattr(import_module(_LATER[name]), name)


__all__ = [
    "DYNAMIC",
    "ESP_SUITES",
    "AddressAssigned",
    "AuthenticationFailed",
    "BackendAnswer",
    "BackendAsked",
    "BackendQuestion",
    "Burst",
    "CertificateOf",
    "ChildConfig",
    "ChildInstalled",
    "ChildKeys",
    "ChildMode",
    "ChildRemoved",
    "CipherKeys",
    "ConfigError",
    "ConnectionConfig",
    "ConnectionDown",
    "ConnectionUp",
    "CryptoError",
    "DataPath",
    "Demand",
    "Diagnostic",
    "Dynamic",
    "EapClient",
    "EapLogin",
    "EapOf",
    "EapRadius",
    "EapUsers",
    "Encapsulation",
    "EspProposal",
    "EspSuite",
    "EspudpError",
    "Event",
    "Fault",
    "Frame",
    "HostError",
    "Identity",
    "IkeProposal",
    "IkeRekeyed",
    "Ikev1Config",
    "Ikev1Mode",
    "Ikev1Policy",
    "IntegrityError",
    "Lifetime",
    "LifetimeConfig",
    "Limits",
    "ListenerConfig",
    "ManualConfig",
    "ManualPair",
    "ManualUp",
    "MtuChanged",
    "NatTraversal",
    "NoDemand",
    "NoProof",
    "Offload",
    "PadEntry",
    "Path",
    "PathChanged",
    "Pattern",
    "PeerAddressAssigned",
    "PeerError",
    "PeerRefused",
    "PrivateKey",
    "Proof",
    "Psk",
    "PskOf",
    "PublicKey",
    "RawKeyOf",
    "SignKey",
    "Timers",
    "TlsIdentity",
    "TlsSetup",
    "TrafficSelector",
    "Train",
    "Transport",
    "Trust",
    "TrustAnchor",
    "Tunnel",
    "UdpAddress",
    "UserTable",
    "Verdict",
    "VnetHeader",
    "WireError",
    "XauthLogin",
    "XauthUsers",
    "emit_manual",
    "generate_pair",
    "load_private_key",
    "load_public_key",
    "parse_esp_suite",
    "parse_manual",
    "parse_users",
]
