"""Numbers of IKEv1: the IANA registries "ISAKMP", "IPsec" and "IKE", and those that vendors chose.

A number that is not listed here is not an error: parsed values stay plain integers, and every
`name_of_*` function answers for any integer.
"""

from enum import IntEnum
from typing import Final

MAJOR_VERSION: Final = 1

# RFC 2408 section 3.1
FLAG_ENCRYPTED: Final = 0x01
FLAG_COMMIT: Final = 0x02
FLAG_AUTHENTICATION_ONLY: Final = 0x04

# RFC 2407 section 4.2, RFC 2408 section 3.4: the domain of interpretation and the only situation of it
# that is in use
DOI_ISAKMP: Final = 0
DOI_IPSEC: Final = 1
SIT_IDENTITY_ONLY: Final = 1

# RFC 2408 section 3.14.1: error types end where status types begin
FIRST_STATUS_TYPE: Final = 16384


class ExchangeType(IntEnum):
    """RFC 2408 section 3.1, RFC 2409 appendix A; the transaction exchange is of the mode config draft."""

    BASE = 1
    MAIN = 2  # "Identity Protection"
    AUTHENTICATION_ONLY = 3
    AGGRESSIVE = 4
    INFORMATIONAL = 5
    TRANSACTION = 6
    QUICK = 32
    NEW_GROUP = 33


class PayloadType(IntEnum):
    """RFC 2408 section 3.1, RFC 3947, and what vendors took from the private range."""

    NONE = 0
    SA = 1
    PROPOSAL = 2
    TRANSFORM = 3
    KE = 4
    ID = 5
    CERT = 6
    CERTREQ = 7
    HASH = 8
    SIG = 9
    NONCE = 10
    NOTIFICATION = 11
    DELETE = 12
    VENDOR_ID = 13
    ATTRIBUTES = 14  # the mode config draft
    NAT_D_DRAFT_04 = 15  # draft-ietf-ipsec-nat-t-ike-04 to -08
    NAT_OA_DRAFT_04 = 16
    NAT_D = 20  # RFC 3947
    NAT_OA = 21
    NAT_D_DRAFT = 130  # draft-ietf-ipsec-nat-t-ike-00 to -03
    NAT_OA_DRAFT = 131
    FRAGMENT = 132  # Cisco and Microsoft


class ProtocolId(IntEnum):
    """RFC 2407 section 4.4.1."""

    NONE = 0
    ISAKMP = 1
    AH = 2
    ESP = 3
    IPCOMP = 4


class IsakmpTransform(IntEnum):
    """RFC 2407 section 4.4.2: the one transform of phase 1."""

    KEY_IKE = 1


class EspTransform(IntEnum):
    """RFC 2407 section 4.4.4 and the registry; from 11 on the numbers are IKEv2's."""

    DES = 2
    TRIPLE_DES = 3
    RC5 = 4
    IDEA = 5
    CAST = 6
    BLOWFISH = 7
    NULL = 11
    AES_CBC = 12
    AES_CTR = 13
    AES_CCM_8 = 14
    AES_CCM_12 = 15
    AES_CCM_16 = 16
    AES_GCM_8 = 18
    AES_GCM_12 = 19
    AES_GCM_16 = 20
    CAMELLIA = 22
    AES_GMAC = 23


class IkeAttribute(IntEnum):
    """Attributes of phase 1 (RFC 2409 appendix A)."""

    ENCRYPTION = 1
    HASH = 2
    AUTHENTICATION = 3
    GROUP = 4
    GROUP_TYPE = 5
    GROUP_PRIME = 6
    GROUP_GENERATOR_ONE = 7
    GROUP_GENERATOR_TWO = 8
    GROUP_CURVE_A = 9
    GROUP_CURVE_B = 10
    LIFE_TYPE = 11
    LIFE_DURATION = 12
    PRF = 13
    KEY_LENGTH = 14
    FIELD_SIZE = 15
    GROUP_ORDER = 16


class IkeEncryption(IntEnum):
    """RFC 2409 appendix A, RFC 3602 section 5.4."""

    DES = 1
    IDEA = 2
    BLOWFISH = 3
    RC5 = 4
    TRIPLE_DES = 5
    CAST = 6
    AES = 7
    CAMELLIA = 8


class IkeHash(IntEnum):
    """RFC 2409 appendix A, RFC 4868 section 2.6."""

    MD5 = 1
    SHA1 = 2
    TIGER = 3
    SHA2_256 = 4
    SHA2_384 = 5
    SHA2_512 = 6


class AuthMethod(IntEnum):
    """RFC 2409 appendix A, RFC 4754; hybrid and XAUTH of their drafts, where the method says who is asked."""

    PSK = 1
    DSS_SIGNATURE = 2
    RSA_SIGNATURE = 3
    RSA_ENCRYPTION = 4
    RSA_REVISED_ENCRYPTION = 5
    ECDSA_P256 = 9
    ECDSA_P384 = 10
    ECDSA_P521 = 11
    HYBRID_INIT_RSA = 64221
    HYBRID_RESP_RSA = 64222
    HYBRID_INIT_DSS = 64223
    HYBRID_RESP_DSS = 64224
    XAUTH_INIT_PSK = 65001
    XAUTH_RESP_PSK = 65002
    XAUTH_INIT_DSS = 65003
    XAUTH_RESP_DSS = 65004
    XAUTH_INIT_RSA = 65005
    XAUTH_RESP_RSA = 65006
    XAUTH_INIT_RSA_ENCRYPTION = 65007
    XAUTH_RESP_RSA_ENCRYPTION = 65008
    XAUTH_INIT_RSA_REVISED_ENCRYPTION = 65009
    XAUTH_RESP_RSA_REVISED_ENCRYPTION = 65010


class LifeType(IntEnum):
    """RFC 2409 appendix A, and the same in RFC 2407 section 4.5."""

    SECONDS = 1
    KILOBYTES = 2


class IpsecAttribute(IntEnum):
    """Attributes of phase 2 (RFC 2407 section 4.5)."""

    LIFE_TYPE = 1
    LIFE_DURATION = 2
    GROUP = 3
    ENCAPSULATION = 4
    AUTHENTICATION = 5
    KEY_LENGTH = 6
    KEY_ROUNDS = 7
    COMPRESS_DICTIONARY_SIZE = 8
    COMPRESS_PRIVATE_ALGORITHM = 9
    ECN_TUNNEL = 10
    EXTENDED_SEQUENCE_NUMBER = 11


class IpsecAuthentication(IntEnum):
    """RFC 2407 section 4.5, RFC 4868, RFC 3566 and the registry."""

    HMAC_MD5 = 1
    HMAC_SHA1 = 2
    DES_MAC = 3
    KPDK = 4
    HMAC_SHA2_256 = 5
    HMAC_SHA2_384 = 6
    HMAC_SHA2_512 = 7
    HMAC_RIPEMD = 8
    AES_XCBC_MAC = 9
    AES_128_GMAC = 11
    AES_192_GMAC = 12
    AES_256_GMAC = 13


class Encapsulation(IntEnum):
    """RFC 2407 section 4.5, RFC 3947 section 5.1, and the numbers of its drafts up to -03."""

    TUNNEL = 1
    TRANSPORT = 2
    UDP_TUNNEL = 3
    UDP_TRANSPORT = 4
    UDP_TUNNEL_DRAFT = 61443
    UDP_TRANSPORT_DRAFT = 61444


class IdType(IntEnum):
    """RFC 2407 section 4.6.2.1."""

    IPV4_ADDR = 1
    FQDN = 2
    USER_FQDN = 3
    IPV4_ADDR_SUBNET = 4
    IPV6_ADDR = 5
    IPV6_ADDR_SUBNET = 6
    IPV4_ADDR_RANGE = 7
    IPV6_ADDR_RANGE = 8
    DER_ASN1_DN = 9
    DER_ASN1_GN = 10
    KEY_ID = 11


class CertEncoding(IntEnum):
    """RFC 2408 section 3.9."""

    NONE = 0
    PKCS7_X509 = 1
    PGP = 2
    DNS_SIGNED_KEY = 3
    X509_SIGNATURE = 4
    X509_KEY_EXCHANGE = 5
    KERBEROS_TOKENS = 6
    CRL = 7
    ARL = 8
    SPKI = 9
    X509_ATTRIBUTE = 10


class NotifyType(IntEnum):
    """RFC 2408 section 3.14.1, RFC 2407 section 4.6.3, RFC 3706 section 5.4: errors below 16384, status
    from there on."""

    INVALID_PAYLOAD_TYPE = 1
    DOI_NOT_SUPPORTED = 2
    SITUATION_NOT_SUPPORTED = 3
    INVALID_COOKIE = 4
    INVALID_MAJOR_VERSION = 5
    INVALID_MINOR_VERSION = 6
    INVALID_EXCHANGE_TYPE = 7
    INVALID_FLAGS = 8
    INVALID_MESSAGE_ID = 9
    INVALID_PROTOCOL_ID = 10
    INVALID_SPI = 11
    INVALID_TRANSFORM_ID = 12
    ATTRIBUTES_NOT_SUPPORTED = 13
    NO_PROPOSAL_CHOSEN = 14
    BAD_PROPOSAL_SYNTAX = 15
    PAYLOAD_MALFORMED = 16
    INVALID_KEY_INFORMATION = 17
    INVALID_ID_INFORMATION = 18
    INVALID_CERT_ENCODING = 19
    INVALID_CERTIFICATE = 20
    CERT_TYPE_UNSUPPORTED = 21
    INVALID_CERT_AUTHORITY = 22
    INVALID_HASH_INFORMATION = 23
    AUTHENTICATION_FAILED = 24
    INVALID_SIGNATURE = 25
    ADDRESS_NOTIFICATION = 26
    NOTIFY_SA_LIFETIME = 27
    CERTIFICATE_UNAVAILABLE = 28
    UNSUPPORTED_EXCHANGE_TYPE = 29
    UNEQUAL_PAYLOAD_LENGTHS = 30

    CONNECTED = 16384
    RESPONDER_LIFETIME = 24576
    REPLAY_STATUS = 24577
    INITIAL_CONTACT = 24578
    R_U_THERE = 36136
    R_U_THERE_ACK = 36137
    UNITY_LOAD_BALANCE = 40501  # Cisco


class CfgType(IntEnum):
    """draft-dukes-ike-mode-cfg-02 section 3.2."""

    REQUEST = 1
    REPLY = 2
    SET = 3
    ACK = 4


class CfgAttribute(IntEnum):
    """draft-dukes-ike-mode-cfg-02 section 3.4, draft-beaulieu-ike-xauth-02 section 6.2, Cisco Unity."""

    INTERNAL_IP4_ADDRESS = 1
    INTERNAL_IP4_NETMASK = 2
    INTERNAL_IP4_DNS = 3
    INTERNAL_IP4_NBNS = 4
    INTERNAL_ADDRESS_EXPIRY = 5
    INTERNAL_IP4_DHCP = 6
    APPLICATION_VERSION = 7
    INTERNAL_IP6_ADDRESS = 8
    INTERNAL_IP6_NETMASK = 9
    INTERNAL_IP6_DNS = 10
    INTERNAL_IP6_NBNS = 11
    INTERNAL_IP6_DHCP = 12
    INTERNAL_IP4_SUBNET = 13
    SUPPORTED_ATTRIBUTES = 14
    INTERNAL_IP6_SUBNET = 15

    XAUTH_TYPE = 16520
    XAUTH_USER_NAME = 16521
    XAUTH_USER_PASSWORD = 16522
    XAUTH_PASSCODE = 16523
    XAUTH_MESSAGE = 16524
    XAUTH_CHALLENGE = 16525
    XAUTH_DOMAIN = 16526
    XAUTH_STATUS = 16527
    XAUTH_NEXT_PIN = 16528
    XAUTH_ANSWER = 16529

    UNITY_BANNER = 28672
    UNITY_SAVE_PASSWORD = 28673
    UNITY_DEFAULT_DOMAIN = 28674
    UNITY_SPLIT_DNS = 28675
    UNITY_SPLIT_INCLUDE = 28676
    UNITY_NATT_PORT = 28677
    UNITY_LOCAL_LAN = 28678
    UNITY_PFS = 28679
    UNITY_FIREWALL_TYPE = 28680
    UNITY_BACKUP_SERVERS = 28681
    UNITY_DDNS_HOSTNAME = 28682


class XauthType(IntEnum):
    """draft-beaulieu-ike-xauth-02 section 6.3."""

    GENERIC = 0
    RADIUS_CHAP = 1
    OTP = 2
    S_KEY = 3


class XauthStatus(IntEnum):
    """draft-beaulieu-ike-xauth-02 section 6.2."""

    FAIL = 0
    OK = 1


def is_error(notify_type: int) -> bool:
    """Whether a notification reports that something failed (RFC 2408 section 3.14.1)."""
    return notify_type < FIRST_STATUS_TYPE


def _name(kind: type[IntEnum], number: int, what: str) -> str:
    try:
        return kind(number).name
    except ValueError:
        return f"{what} {number}"


def name_of_exchange(number: int) -> str:
    return _name(ExchangeType, number, "exchange")


def name_of_payload(number: int) -> str:
    return _name(PayloadType, number, "payload")


def name_of_protocol(number: int) -> str:
    return _name(ProtocolId, number, "protocol")


def name_of_id_type(number: int) -> str:
    return _name(IdType, number, "identity type")


def name_of_auth_method(number: int) -> str:
    return _name(AuthMethod, number, "authentication method")


def name_of_encapsulation(number: int) -> str:
    return _name(Encapsulation, number, "encapsulation mode")


def name_of_notify(number: int) -> str:
    """`NO_PROPOSAL_CHOSEN`, or `error 8190`, `status 40960` where nobody gave it a name."""
    return _name(NotifyType, number, "error" if is_error(number) else "status")


def name_of_cfg_type(number: int) -> str:
    return _name(CfgType, number, "configuration type")


def name_of_cfg_attribute(number: int) -> str:
    return _name(CfgAttribute, number, "attribute")
