"""TLS in memory, for EAP: octets in, octets out, both sides with certificates.

pyOpenSSL has what the standard library's `ssl` lacks: the exporter that EAP's keys come from (RFC 5705).
Whom to believe is not left to it: `judge` gets the peer's chain before anything of ours is sent to it.
OpenSSL draws its own randomness here, as it does for signatures.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from OpenSSL import SSL, crypto

from espudp.crypto.failures import FAILURES
from espudp.crypto.signatures import PrivateKey
from espudp.errors import AuthenticationFailed, ConfigError, CryptoError

# Called with a chain in DER, the end entity's certificate first. Raises AuthenticationFailed.
Judge = Callable[[tuple[bytes, ...]], None]

# RFC 9190, and RFC 5216 for those that do not have it yet
MIN_VERSION: Final = SSL.TLS1_2_VERSION
MAX_VERSION: int = SSL.TLS1_3_VERSION
_MAX_CHAIN: Final = 8
# Octets taken out of OpenSSL at a time: a record of TLS and more
_CHUNK: Final = 65_536
# X509_V_ERR_INVALID_PURPOSE: the extended key usage names neither serverAuth nor clientAuth, as it ought to
_INVALID_PURPOSE: Final = 26
_EXPORTED_OCTETS: Final = 128
_REMEDY: Final = "Look into the log of the other side: certificates that one side refuses are told there."
_KEYS: Final = (
    rsa.RSAPrivateKey,
    ec.EllipticCurvePrivateKey,
    ed25519.Ed25519PrivateKey,
    ed448.Ed448PrivateKey,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsIdentity:
    """What one side shows: its certificate, those between it and a CA (DER), and the key to it."""

    certificates: tuple[bytes, ...] = field(repr=False)
    key: PrivateKey = field(repr=False)


class _Peer:
    """The other side's certificates. By itself, so that a conversation that is over is no ring of
    references, which would wait in memory for the garbage collector."""

    def __init__(self, judge: Judge) -> None:
        self._judge = judge
        self._chain: dict[int, bytes] = {}
        self.judged = False

    def see(
        self, connection: SSL.Connection, certificate: crypto.X509, error: int, depth: int, ok: int
    ) -> bool:
        """OpenSSL shows the certificates of the chain, the last first, and what it thinks of them; the end
        entity's comes last, and is then judged with all others. Other errors than a use that the certificate
        is not for are judged there as well, and told better."""
        if error == _INVALID_PURPOSE:
            raise AuthenticationFailed(
                "the peer's certificate is for another use than its side of TLS",
                remedy="A server's needs the extended key usage serverAuth, a client's clientAuth.",
            )
        # As it came: reading it is for who judges
        self._chain[depth] = crypto.dump_certificate(crypto.FILETYPE_ASN1, certificate)
        if depth == 0 and ok:
            self._judge(tuple(der for _, der in sorted(self._chain.items())))
            self.judged = True
        return True


class TlsConversation:
    """One handshake. `take` is given what the peer said and returns what to say, until `established`."""

    def __init__(
        self, identity: TlsIdentity, judge: Judge, *, server: bool, client_cas: tuple[bytes, ...] = ()
    ) -> None:
        """`client_cas`: certificates (DER) of the CAs that a server tells its clients. Raises ConfigError."""
        self._peer = _Peer(judge)
        self.established = False
        context = _context(identity, client_cas)
        context.set_verify(SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT, self._peer.see)
        self._connection = SSL.Connection(context, None)
        if server:
            self._connection.set_accept_state()
        else:
            self._connection.set_connect_state()

    @property
    def is_tls13(self) -> bool:
        return self._connection.get_protocol_version() == SSL.TLS1_3_VERSION

    def take(self, octets: bytes) -> bytes:
        """What to say to that, maybe nothing. Raises TlsRefused, which holds what to say before the end."""
        try:
            if octets:
                self._connection.bio_write(octets)
            if not self.established:
                self._connection.do_handshake()
                self.established = self._peer.judged
        except SSL.WantReadError:
            pass
        except AuthenticationFailed as error:
            raise TlsRefused(str(error), self._drain(), remedy=error.remedy) from None
        except (SSL.Error, *FAILURES) as error:
            raise TlsRefused(_reason(error), self._drain(), remedy=_REMEDY) from None
        return self._drain()

    def say(self, plaintext: bytes) -> bytes:
        """The record of some application data. Raises CryptoError."""
        try:
            self._connection.send(plaintext)
        except SSL.Error as error:
            raise CryptoError(f"TLS failed: {_reason(error)}") from None
        return self._drain()

    def heard(self) -> bytes:
        """Application data that has arrived, up to 64 octets. Raises TlsRefused."""
        try:
            return self._connection.recv(64)
        except SSL.WantReadError:
            return b""
        except SSL.Error as error:
            raise TlsRefused(_reason(error), self._drain(), remedy=_REMEDY) from None

    def export(self, label: bytes, context: bytes | None) -> bytes:
        """128 octets of keys (RFC 5705; RFC 8446 section 7.5), once established."""
        return self._connection.export_keying_material(label, _EXPORTED_OCTETS, context)

    def _drain(self) -> bytes:
        said = b""
        try:
            while True:
                said += self._connection.bio_read(_CHUNK)
        except SSL.Error:
            return said


class TlsRefused(AuthenticationFailed):
    """TLS came to no good end, by either side's doing. `alert` is what remains to be said to the peer."""

    def __init__(self, message: str, alert: bytes, *, remedy: str = "") -> None:
        super().__init__(message, remedy=remedy)
        self.alert = alert


def _context(identity: TlsIdentity, client_cas: tuple[bytes, ...]) -> SSL.Context:
    context = SSL.Context(SSL.TLS_METHOD)
    context.set_min_proto_version(MIN_VERSION)
    context.set_max_proto_version(MAX_VERSION)
    context.set_verify_depth(_MAX_CHAIN)
    # Each conversation proves both sides anew: there is nothing to resume
    context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
    context.set_options(SSL.OP_NO_TICKET | SSL.OP_NO_RENEGOTIATION)
    # strongSwan's server does not have RFC 5746. What that keeps from being put before a client's data has
    # no place here: there is no data, and one handshake for each conversation
    context.set_options(SSL.OP_LEGACY_SERVER_CONNECT)
    try:
        own, *between = (x509.load_der_x509_certificate(der) for der in identity.certificates)
        context.use_certificate(own)
        for certificate in between:
            context.add_extra_chain_cert(certificate)
        key = load_pem_private_key(identity.key.to_pem(), None)
        if isinstance(key, _KEYS):
            context.use_privatekey(key)
        context.check_privatekey()
        for der in client_cas:
            context.add_client_ca(x509.load_der_x509_certificate(der))
    except (SSL.Error, *FAILURES) as error:
        raise ConfigError(
            f"certificate and key do not serve for TLS: {_reason(error)}",
            field="cert",
            remedy="Name a certificate and the key that it was issued for.",
        ) from None
    return context


def _reason(error: Exception) -> str:
    """OpenSSL's own words, the last of them: `certificate verify failed`."""
    details = error.args[0] if error.args else None
    if isinstance(details, list) and details:
        return f"TLS failed: {details[-1][-1]}"
    return "TLS failed: the peer went away" if isinstance(error, SSL.Error) else "TLS failed"
