"""How the crypto library says that it could not do its work, and what becomes of that.

A call that failed is a CryptoError, which fails the SA that it was for. Nothing goes on with whatever
the call left behind (the lesson of CVE-2018-10811).
"""

from collections.abc import Iterator
from contextlib import contextmanager

from cryptography.exceptions import InternalError, UnsupportedAlgorithm

from espudp.errors import CryptoError

FAILURES = (ValueError, OverflowError, UnsupportedAlgorithm, InternalError)


@contextmanager
def failing_as(message: str) -> Iterator[None]:
    """Raises CryptoError(message) for a failure inside. Costs a microsecond: not for the data path."""
    try:
        yield
    except FAILURES as error:
        raise CryptoError(message) from error
