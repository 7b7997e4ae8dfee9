"""What a method of EAP is to those who carry it, on either side. One instance lives for one conversation."""

from enum import Enum
from typing import Final, Protocol

from espudp.errors import AuthenticationFailed
from espudp.wire.eap import EapType

# RFC 7542 section 2.2: a network access identifier that RADIUS can carry (RFC 2865 section 5.1)
MAX_IDENTITY_OCTETS: Final = 253
# Requests and responses of one conversation. EAP-TLS with 16 KB of certificates each way takes 40.
MAX_ROUNDS: Final = 80
# What one side may say in all of them
MAX_OCTETS: Final = 131_072


class Outcome(Enum):
    """How a conversation stands."""

    RUNNING = "running"
    SUCCESS = "success"
    FAILURE = "failure"


class PeerMethod(Protocol):
    """The client's half."""

    @property
    def type(self) -> EapType: ...

    @property
    def complete(self) -> bool:
        """Whether all is proven that this method proves, so that EAP-Success may come."""

    @property
    def msk(self) -> bytes | None:
        """64 octets from a method that makes keys, None from others."""

    @property
    def error(self) -> AuthenticationFailed | None:
        """Why the end will not be good, where that was told within the method."""

    def respond(self, identifier: int, data: bytes) -> bytes:
        """The data of the response to a request. Raises WireError and AuthenticationFailed."""


class ServerMethod(Protocol):
    """The server's half."""

    @property
    def type(self) -> EapType: ...

    @property
    def msk(self) -> bytes | None:
        """64 octets from a method that makes keys, None from others."""

    @property
    def error(self) -> AuthenticationFailed | None:
        """What was wrong so far, while the client may still mend it."""

    def request(self, identifier: int) -> bytes:
        """The data of the first request."""

    def receive(self, identifier: int, data: bytes) -> bytes | None:
        """The data of the next request, which will have the identifier `identifier + 1` modulo 256, after
        the response to `identifier`; None when the peer has proven itself. Raises WireError and
        AuthenticationFailed."""
