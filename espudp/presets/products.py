"""The products, by the names that users type. Above each fact stands its source."""

from collections.abc import Mapping
from typing import Final

from espudp.presets.table import Preset

_WINDOWS: Final = Preset(
    title="Windows",
    # https://learn.microsoft.com/en-us/powershell/module/vpnclient/set-vpnconnectionipsecconfiguration
    ike=(
        "aes256gcm16-aes128gcm16-prfsha384-prfsha256-ecp384-ecp256-modp2048",
        "aes256-aes128-sha384-sha256-sha1-modp2048-ecp384-ecp256",
    ),
    # https://docs.strongswan.org/docs/latest/interop/windowsClients.html: ESP with SHA-1 and no PFS, unless
    # it is configured otherwise
    esp=(
        "aes256gcm16-aes128gcm16-ecp384-ecp256-modp2048-none",
        "aes256-aes128-sha256-sha1-modp2048-ecp384-ecp256-none",
    ),
    # The same page: out of the box only the group of 1024 bits, and 3DES behind AES
    weak=("aes256-sha384-modp1024", "aes256-sha256-modp1024", "aes256-sha1-modp1024", "3des-sha1-modp1024"),
    advice="Windows starts with a group of 1024 bits alone: Set-VpnConnectionIPsecConfiguration"
    " -DHGroup Group14 (or NegotiateDH2048_AES256 = 1 in the registry) mends that.",
)

# https://docs.strongswan.org/docs/latest/interop/ios.html: what iOS 16.5 and macOS 13.4 propose by themselves
_APPLE_IKE: Final = ("aes256-sha256-modp2048-ecp256",)
# RFC 8247, RFC 8221: what a profile can ask for, and should
_APPLE_PROFILE_IKE: Final = ("aes256gcm16-prfsha384-prfsha256-ecp384-ecp256-modp2048",)
_APPLE_WEAK: Final = ("aes256-sha256-modp1536", "aes128-sha1-modp1024", "3des-sha1-modp1024")

_IOS: Final = Preset(
    title="iOS and iPadOS",
    ike=(*_APPLE_PROFILE_IKE, *_APPLE_IKE),
    # The same page: at the rekey a group, presumably that of IKE, or none
    esp=("aes256gcm16-ecp384-ecp256-modp2048-none", "aes256-sha256-modp2048-ecp256-none"),
    weak=_APPLE_WEAK,
    advice="Give the certificate of this side the name that the phone connects to.",
)

_MACOS: Final = Preset(
    title="macOS",
    ike=(*_APPLE_PROFILE_IKE, *_APPLE_IKE),
    # The same page: no group at the rekey, unless a profile says EnablePFS
    esp=("aes256gcm16-ecp384-ecp256-modp2048-none", "aes256-sha256-modp2048-none"),
    weak=_APPLE_WEAK,
    # The same page: it wants the name in the certificate as a subjectAltName, and the use serverAuth
    advice="Give the certificate of this side the name that the Mac connects to.",
)

_ANDROID: Final = Preset(
    title="Android 11 and later, its own client",
    # https://developer.android.com/reference/android/net/Ikev2VpnProfile: the algorithms that it allows
    ike=(
        "aes256gcm16-aes128gcm16-chacha20poly1305-prfsha512-prfsha384-prfsha256-curve25519-modp4096-modp3072-modp2048",
        "aes256-aes128-sha512-sha384-sha256-curve25519-modp4096-modp3072-modp2048",
    ),
    esp=(
        "aes256gcm16-aes128gcm16-chacha20poly1305-curve25519-modp4096-modp3072-modp2048-none",
        "aes256-aes128-sha512-sha384-sha256-curve25519-modp4096-modp3072-modp2048-none",
    ),
    # https://cs.android.com, VpnIkev2Utils: an identifier that is no name, address or e-mail address goes
    # out as ID_KEY_ID
    advice="Its IPsec identifier is an ID_KEY_ID here unless it looks like a name: keyid:IDENTIFIER.",
)

_STRONGSWAN: Final = Preset(
    title="strongSwan",
    # https://docs.strongswan.org/docs/latest/config/proposals.html
    ike=(
        "aes256gcm16-aes128gcm16-chacha20poly1305-prfsha512-prfsha384-prfsha256-curve25519-ecp256-ecp384-modp3072",
        "aes256-aes192-aes128-sha512-sha384-sha256-curve25519-ecp256-ecp384-modp3072-modp2048",
    ),
    esp=(
        "aes256gcm16-aes128gcm16-chacha20poly1305-curve25519-ecp256-ecp384-modp3072-none",
        "aes256-aes192-aes128-sha512-sha384-sha256-curve25519-ecp256-modp3072-modp2048-none",
    ),
)

_AWS: Final = Preset(
    title="AWS Site-to-Site VPN",
    # https://docs.aws.amazon.com/vpn/latest/s2svpn/VPNTunnels.html
    ike=(
        "aes256gcm16-aes128gcm16-prfsha512-prfsha384-prfsha256-ecp384-ecp256-modp2048",
        "aes256-aes128-sha512-sha384-sha256-ecp384-ecp256-modp2048",
    ),
    esp=(
        "aes256gcm16-aes128gcm16-ecp384-ecp256-modp2048",
        "aes256-aes128-sha512-sha384-sha256-ecp384-ecp256-modp2048",
    ),
    site=True,
    # The same page: the CIDRs of both ends are 0.0.0.0/0 unless configured
    any_to_any=True,
    # The same page: two tunnels, either of which AWS takes down for its maintenance
    advice="Run one espudp for each of the two tunnels, with the same --subnet.",
)

_AZURE: Final = Preset(
    title="Azure VPN Gateway",
    # https://learn.microsoft.com/en-us/azure/vpn-gateway/vpn-gateway-about-compliance-crypto: what a custom
    # policy may have
    ike=(
        "aes256gcm16-aes128gcm16-prfsha384-prfsha256-ecp384-ecp256-modp2048",
        "aes256-aes128-sha384-sha256-ecp384-ecp256-modp2048",
    ),
    # https://learn.microsoft.com/en-us/azure/vpn-gateway/vpn-gateway-about-vpn-devices: as a responder no PFS
    # by default, and as an initiator perhaps a group
    esp=(
        "aes256gcm16-aes128gcm16-ecp384-ecp256-modp2048-none",
        "aes256-aes128-sha256-sha1-ecp384-ecp256-modp2048-none",
    ),
    # The first page: the default policy has the group of 1024 bits alone
    weak=("aes256-sha256-modp1024", "aes256-sha1-modp1024", "aes128-sha1-modp1024", "3des-sha1-modp1024"),
    site=True,
    # The second page: route-based gateways have any-to-any selectors
    any_to_any=True,
    advice="Azure starts with a group of 1024 bits alone: give the connection a custom IPsec/IKE policy"
    " with DHGroup14, ECP256 or ECP384.",
)

_GCP: Final = Preset(
    title="Google Cloud VPN",
    # https://cloud.google.com/network-connectivity/docs/vpn/concepts/supported-ike-ciphers: one algorithm of
    # each kind keeps the choice, and with it the MTU, the same at every rekey
    ike=("aes256gcm16-prfsha512-modp4096", "aes256-sha256-modp2048"),
    esp=("aes256gcm16-modp4096", "aes256-sha256-modp2048"),
    site=True,
    # https://cloud.google.com/network-connectivity/docs/vpn/concepts/choosing-networks-routing: all CIDRs in
    # one child SA; route-based tunnels have 0.0.0.0/0
    advice="Google Cloud has all subnets of a tunnel in one child SA: name the same ones on both sides.",
)

_CISCO: Final = Preset(
    title="Cisco IOS and ASA",
    # https://www.cisco.com/c/en/us/td/docs/ios-xml/ios/sec_conn_ike2vpn/configuration/xe-16/sec-flex-vpn-xe-16-book.html
    ike=(
        "aes256gcm16-aes128gcm16-prfsha512-prfsha384-prfsha256-ecp384-ecp256-ecp521-modp4096-modp3072-modp2048",
        "aes256-aes192-aes128-sha512-sha384-sha256-sha1-ecp384-ecp256-ecp521-modp4096-modp3072-modp2048",
    ),
    esp=(
        "aes256gcm16-aes128gcm16-ecp384-ecp256-modp4096-modp2048-none",
        "aes256-aes192-aes128-sha512-sha384-sha256-sha1-ecp384-ecp256-modp4096-modp2048-none",
    ),
    # The same book: the smart default has groups 2 and 5
    weak=("aes256-sha512-modp1536", "aes256-sha384-modp1024"),
    site=True,
    # https://cisco.com/c/en/us/td/docs/security/asa/asa915/configuration/vpn/asa-915-vpn-config/vpn-ike.html
    # (crypto maps): an SA for each entry of the access list
    single_pair=True,
)

_FORTIGATE: Final = Preset(
    title="FortiGate",
    # https://docs.fortinet.com/document/fortigate/6.0.5/cli-reference/487941/vpn-ipsec-phase2-interface-phase2
    ike=(
        "aes256gcm16-aes128gcm16-chacha20poly1305-prfsha384-prfsha256-modp2048-curve25519-ecp384-ecp256",
        "aes256-aes128-sha256-modp2048-curve25519-ecp384-ecp256",
    ),
    # The same page: PFS is on, with group 14 and with 5, which is weak
    esp=(
        "aes256gcm16-aes128gcm16-chacha20poly1305-modp2048-curve25519-ecp384-ecp256-none",
        "aes256-aes128-sha256-sha1-modp2048-curve25519-ecp384-ecp256-none",
    ),
    site=True,
    # The same page: src-subnet and dst-subnet, one of each
    single_pair=True,
)

_MIKROTIK: Final = Preset(
    title="MikroTik RouterOS",
    # https://help.mikrotik.com/docs/display/ROS/IPsec: profile and proposal "default"
    ike=(
        "aes256gcm16-aes128gcm16-prfsha256-modp2048-ecp256-ecp384",
        "aes256-aes192-aes128-sha256-sha1-modp2048-ecp256-ecp384",
    ),
    esp=(
        "aes256gcm16-aes128gcm16-modp2048-ecp256-none",
        "aes256-aes192-aes128-sha256-sha1-modp2048-ecp256-none",
    ),
    # The same page: AES-128 or 3DES with SHA-1, and PFS with the group of 1024 bits
    weak=("aes128-3des-sha1-modp1024",),
    # The same page: a policy has one source and one destination
    single_pair=True,
    # RFC 7296 appendix C.4 lets it send a configuration payload with every child SA, as it does
    # (https://github.com/libreswan/libreswan/issues/293)
    advice="RouterOS starts with PFS of 1024 bits: /ip/ipsec/proposal set default pfs-group=modp2048.",
)

_FRITZBOX: Final = Preset(
    title="FRITZ!Box",
    # https://github.com/hwdsl2/setup-ipsec-vpn/issues/943: what its maker says of its IKEv1, which is all
    # that it has: AES, SHA2-512 and SHA-1; groups up to 15, and of its own accord that of 1024 bits; no PFS.
    # Boxes with newer software may ask for PFS.
    ike=("aes256-aes192-aes128-sha512-sha1-modp3072-modp2048",),
    esp=("aes256-aes192-aes128-sha512-sha1-modp2048-none",),
    weak=("aes256-sha512-modp1024", "aes256-sha1-modp1024", "3des-sha1-modp1024"),
    ikev1_only=True,
    # The configuration that it makes for its users: aggressive mode, key_id, XAUTH and mode config
    advice="For a user of the box: --ikev1 aggressive, and its name both as --id and as --xauth-user.",
)

_CLOUDFLARE: Final = Preset(
    title="Cloudflare WAN (Magic WAN, Magic Transit)",
    # https://developers.cloudflare.com/magic-wan/reference/gre-ipsec-tunnels/
    ike=(
        "aes256gcm16-aes128gcm16-prfsha512-prfsha384-prfsha256-ecp384-modp2048",
        "aes256-sha256-ecp384-modp2048",
    ),
    esp=("aes256gcm16-aes128gcm16-ecp384-modp2048-none", "aes256-sha256-ecp384-modp2048-none"),
    site=True,
    # The same page: selectors are 0.0.0.0/0 on both sides, routes decide
    any_to_any=True,
    # The same page: behind a NAT the exchange has to begin on port 4500
    start_on_4500=True,
    # The same page: Cloudflare only responds, and identifies a tunnel by the identity in IDi
    advice="Give it the tunnel's own identity: --id with the FQDN ID or user ID that the dashboard shows.",
)

PRESETS: Final[Mapping[str, Preset]] = {
    "windows": _WINDOWS,
    "ios": _IOS,
    "macos": _MACOS,
    "android": _ANDROID,
    "strongswan": _STRONGSWAN,
    "aws": _AWS,
    "azure": _AZURE,
    "gcp": _GCP,
    "cisco": _CISCO,
    "fortigate": _FORTIGATE,
    "mikrotik": _MIKROTIK,
    "fritzbox": _FRITZBOX,
    "cloudflare": _CLOUDFLARE,
}
