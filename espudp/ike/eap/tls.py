"""EAP-TLS (RFC 5216, and RFC 9190 for TLS 1.3): both sides prove themselves by certificate, and get keys."""

from dataclasses import dataclass
from typing import Final

from espudp.crypto.logins import login_names
from espudp.crypto.tls import Judge, TlsConversation, TlsIdentity, TlsRefused
from espudp.crypto.x509 import names_of
from espudp.errors import AuthenticationFailed, WireError
from espudp.ike.credentials import Trust, WallClock
from espudp.ike.identity import Identity
from espudp.wire.buffer import Reader, Writer
from espudp.wire.eap import EapType

# RFC 5216 section 3.1: the flags
_LENGTH: Final = 0x80
_MORE: Final = 0x40
_START: Final = 0x20
# An answer without data says "go on" to a fragment, and "heard" to the last of all (section 2.1.5)
_EMPTY: Final = b"\x00"

# Of TLS in one packet: with IKE's own around it, it fits in 1,280 octets
FRAGMENT_OCTETS: Final = 1_024
# One flight of TLS, all fragments together: chains of certificates come in these
MAX_FLIGHT_OCTETS: Final = 65_536

MSK_OCTETS: Final = 64
# RFC 5216 section 2.3
_LABEL_TLS12: Final = b"client EAP encryption"
# RFC 9190 section 2.3; its context is the type of the method
_LABEL_TLS13: Final = b"EXPORTER_EAP_TLS_Key_Material"
# RFC 9190 section 2.1.1: application data by which the server says that no more of TLS will come
_COMMITMENT: Final = b"\x00"


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsSetup:
    """What one side shows in EAP-TLS, and whom it believes. Of the other's certificate, a client demands
    `server_name` (a DNS name or another identity) if there is one, a server the user's name."""

    identity: TlsIdentity
    trust: Trust
    clock: WallClock
    server_name: str | None = None
    authorities: tuple[bytes, ...] = ()
    """Certificates (DER) of the CAs that a server names to clients, so that these choose the right one."""

    def judge_of_server(self) -> Judge:
        expected = Identity.parse(self.server_name) if self.server_name else None

        def judge(chain: tuple[bytes, ...]) -> None:
            name = (expected.type, expected.data) if expected else _any_name(chain)
            self.trust.verify(chain, *name, self.clock())

        return judge

    def judge_of_client(self, name: bytes) -> Judge:
        def judge(chain: tuple[bytes, ...]) -> None:
            self.trust.verify(chain, *_any_name(chain), self.clock())
            if name.decode("utf-8", "replace") not in login_names(chain[0]):
                raise AuthenticationFailed(
                    "the client's certificate is not for the user name that it gives (EAP-TLS)",
                    remedy="The name has to be in the certificate: as subjectAltName (e-mail, DNS, user "
                    "principal name) or as the subject's common name.",
                )

        return judge


def _any_name(chain: tuple[bytes, ...]) -> tuple[int, bytes]:
    names = names_of(chain[0])
    if not names:
        raise AuthenticationFailed("the peer's certificate is for nobody: it has no name (EAP-TLS)")
    return names[0]


class _Flights:
    """TLS in packets of EAP (section 2.1.5): what goes out in fragments, and what came in as such."""

    def __init__(self) -> None:
        self._out = b""
        self._begun = False
        self._in = bytearray()
        self._announced: int | None = None

    @property
    def sending(self) -> bool:
        """Whether the next fragment waits for the peer to have heard the one before."""
        return bool(self._out)

    def send(self, flight: bytes) -> bytes:
        """The first packet of a flight."""
        self._out, self._begun = flight, False
        return self.next()

    def next(self) -> bytes:
        fragment, rest = self._out[:FRAGMENT_OCTETS], self._out[FRAGMENT_OCTETS:]
        flags = _MORE if rest else 0
        writer = Writer()
        if rest and not self._begun:
            writer.u8(flags | _LENGTH)
            writer.u32(len(self._out))
        else:
            writer.u8(flags)
        writer.put(fragment)
        self._out, self._begun = rest, True
        return writer.getvalue()

    def receive(self, data: bytes) -> bytes | None:
        """A whole flight, or None while there is more to come. Raises WireError."""
        reader = Reader(data)
        flags = reader.u8()
        announced = reader.u32() if flags & _LENGTH else self._announced
        fragment = reader.rest()
        if self._in and announced != self._announced:
            raise WireError("a TLS flight that changes its length")
        total = len(self._in) + len(fragment)
        more = bool(flags & _MORE)
        if total > MAX_FLIGHT_OCTETS or (announced or 0) > MAX_FLIGHT_OCTETS:
            raise WireError(f"a TLS flight of {max(total, announced or 0)} octets")
        if more and (announced is None or not fragment or total >= announced):
            raise WireError("a TLS fragment that is not first, not last and not between")
        if not more and announced is not None and total != announced:
            raise WireError(f"a TLS flight of {total} octets that claims to have {announced}")
        self._in += fragment
        self._announced = announced
        if more:
            return None
        flight, self._in, self._announced = bytes(self._in), bytearray(), None
        return flight


def _msk(tls: TlsConversation) -> bytes:
    if tls.is_tls13:
        return tls.export(_LABEL_TLS13, bytes([EapType.TLS]))[:MSK_OCTETS]
    return tls.export(_LABEL_TLS12, None)[:MSK_OCTETS]


class TlsPeer:
    """The client. Its certificate is shown to a server that has proven itself."""

    type: Final = EapType.TLS

    def __init__(self, setup: TlsSetup) -> None:
        self._tls = TlsConversation(setup.identity, setup.judge_of_server(), server=False)
        self._flights = _Flights()
        self._started = False
        self.complete = False
        self.error: AuthenticationFailed | None = None

    @property
    def msk(self) -> bytes | None:
        return _msk(self._tls) if self.complete else None

    def respond(self, identifier: int, data: bytes) -> bytes:
        if not self._started:
            return self._start(data)
        if self._flights.sending:
            if data != _EMPTY:
                raise WireError("TLS goes on before all of ours was heard")
            return self._flights.next()
        if self.complete or self.error:
            raise WireError("TLS goes on after its end")
        flight = self._flights.receive(data)
        if flight is None:
            return _EMPTY
        return self._flights.send(self._take(flight))

    def _start(self, data: bytes) -> bytes:
        """Section 2.1.1."""
        if len(data) != 1 or not data[0] & _START:
            raise WireError("EAP-TLS without a start")
        self._started = True
        return self._flights.send(self._tls.take(b""))

    def _take(self, flight: bytes) -> bytes:
        try:
            answer = self._tls.take(flight)
            if not self._tls.established:
                return answer
            # RFC 9190 section 2.1.1: with TLS 1.3 the server has to commit itself to the end
            heard = self._tls.heard()
            if heard and (heard != _COMMITMENT or not self._tls.is_tls13):
                raise WireError("application data in EAP-TLS")
            self.complete = not self._tls.is_tls13 or heard == _COMMITMENT
        except TlsRefused as error:
            self.error = error
            return error.alert
        return answer


class TlsServer:
    """The server."""

    type: Final = EapType.TLS

    def __init__(self, setup: TlsSetup, name: bytes) -> None:
        self._tls = TlsConversation(
            setup.identity, setup.judge_of_client(name), server=True, client_cas=setup.authorities
        )
        self._flights = _Flights()
        self._committed = False
        self._proven = False
        self._error: AuthenticationFailed | None = None

    @property
    def error(self) -> AuthenticationFailed | None:
        return self._error

    @property
    def msk(self) -> bytes | None:
        return _msk(self._tls) if self._proven else None

    def request(self, identifier: int) -> bytes:
        return bytes([_START])

    def receive(self, identifier: int, data: bytes) -> bytes | None:
        if self._flights.sending:
            if data != _EMPTY:
                raise self._error or WireError("TLS goes on before all of ours was heard")
            return self._flights.next()
        if self._error:
            # Section 2.1.3: our alert was heard, the rest is EAP-Failure
            raise self._error
        if self._committed:
            self._finish(data)
            return None
        flight = self._flights.receive(data)
        if flight is None:
            return _EMPTY
        return self._flights.send(self._take(flight))

    def _take(self, flight: bytes) -> bytes:
        if not flight:
            raise WireError("nothing, where TLS goes on")
        try:
            answer = self._tls.take(flight)
        except TlsRefused as error:
            if not error.alert:
                raise
            self._error = error
            return error.alert
        if self._tls.established:
            self._committed = True
            answer += self._tls.say(_COMMITMENT) if self._tls.is_tls13 else b""
        return answer

    def _finish(self, data: bytes) -> None:
        """The client's last word is empty; an alert is none."""
        if data != _EMPTY:
            self._tls.take(self._flights.receive(data) or b"")
            raise AuthenticationFailed("the client ends TLS in a way of its own (EAP-TLS)")
        self._proven = True
