"""The names by which a user may log in with a certificate (RFC 5216 section 5.2)."""

from typing import Final

from cryptography import x509
from cryptography.x509.oid import NameOID, ObjectIdentifier

from espudp.crypto.certificate import Certificate

# The user principal name, as Windows has it in certificates of users: a UTF8String in an otherName
_UPN: Final = ObjectIdentifier("1.3.6.1.4.1.311.20.2.3")
_UTF8_STRING: Final = 0x0C
_SHORT_LENGTHS: Final = 0x80


def login_names(der: bytes) -> frozenset[str]:
    """E-mail addresses, DNS names, user principal names and common names in a certificate.

    Raises CertificateError if it is none. That a CA vouches for it is for others to find out.
    """
    certificate = Certificate.parse(der)
    names = {
        str(attribute.value)
        for attribute in certificate.parsed.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    }
    for name in certificate.extension(x509.SubjectAlternativeName) or ():
        if isinstance(name, x509.RFC822Name | x509.DNSName):
            names.add(name.value)
        elif isinstance(name, x509.OtherName) and name.type_id == _UPN:
            names.add(_utf8_string(name.value))
    return frozenset(names - {""})


def _utf8_string(der: bytes) -> str:
    """The text of a DER UTF8String of less than 128 octets; empty for anything else."""
    if len(der) < 2 or der[0] != _UTF8_STRING or der[1] >= _SHORT_LENGTHS or der[1] != len(der) - 2:
        return ""
    return der[2:].decode("utf-8", "replace")
