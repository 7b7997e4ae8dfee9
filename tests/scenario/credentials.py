"""Who the hosts of a scenario are: keys and certificates, made once."""

from dataclasses import dataclass
from functools import cache

from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa

from espudp.crypto.signatures import PrivateKey
from espudp.crypto.x509 import Trust
from espudp.ike.credentials import CertificateOf, RawKeyOf, SignKey
from tests.unit.crypto.certs import Issuer, Key, root

SERVER, CLIENT = "server.example.org", "client@example.org"


@cache
def key(kind: str, whose: str = "") -> Key:
    """One for each of `whose`."""
    match kind:
        case "RSA":
            return rsa.generate_private_key(65537, 2048)
        case "Ed25519":
            return ed25519.Ed25519PrivateKey.generate()
        case "Ed448":
            return ed448.Ed448PrivateKey.generate()
    curves = {"P-256": ec.SECP256R1(), "P-384": ec.SECP384R1(), "P-521": ec.SECP521R1()}
    return ec.generate_private_key(curves[kind])


@cache
def authority(subject: str) -> Issuer:
    """A root of its own for each subject."""
    return root(subject)


@dataclass(frozen=True, slots=True)
class Person:
    """Who has a key and a certificate."""

    proof: SignKey

    @property
    def raw(self) -> SignKey:
        """The key without the certificate."""
        return SignKey(private_key=self.proof.private_key)

    @property
    def raw_demand(self) -> RawKeyOf:
        return RawKeyOf(self.proof.private_key.public)


@cache
def person(
    kind: str, name: str, *, of: str = "CN=Authority", pss: bool = False, sha1: bool = False
) -> Person:
    """With `name` in the certificate, a DNS name or an e-mail address."""
    made = authority(of).issue(
        f"CN={name}", f"{'email' if '@' in name else 'dns'}:{name}", key=key(kind, name)
    )
    return Person(SignKey(private_key=PrivateKey(made.key), certificates=(made.der,), pss=pss, sha1=sha1))


def trust(*subjects: str, sha1: bool = False) -> CertificateOf:
    """Whoever has a certificate of these authorities."""
    anchors = [authority(subject).der for subject in subjects or ("CN=Authority",)]
    return CertificateOf(Trust(anchors), sha1=sha1)
