"""The step after phase 1 in which a client logs in by name and password (draft-beaulieu-ike-xauth-02).

Nothing goes on before it: a gateway drops quick mode and mode config of clients that have not logged in.
"""

from typing import TYPE_CHECKING

from espudp.errors import AuthenticationFailed
from espudp.ike.config import ConnectionConfig
from espudp.ike.credentials import NoDemand
from espudp.ike.events import Diagnostic, Fault, PeerRefused
from espudp.ike.farewell import Farewell
from espudp.ike.identity import Identity
from espudp.ike.v1.asking import Afterwards, Asking
from espudp.ike.v1.login import LoginClient, LoginServer, Verdict, status
from espudp.wire.ikev1.attributes import Attribute
from espudp.wire.ikev1.constants import CfgAttribute, CfgType, XauthStatus
from espudp.wire.ikev1.payloads import Attributes

if TYPE_CHECKING:
    from espudp.ike.v1.established import Established

# Our choice: so long a wrong password keeps one of the places for half-open peers of its address, and nobody
# guesses faster than these allow.
REFUSAL_SECONDS = 1.0

_REFUSALS = {
    Verdict.UNABLE: "has no name and password to log in with (XAUTH)",
    Verdict.PASSED: "who has logged in is none of those whom this way in is for (XAUTH)",
}

_ATTRIBUTES = range(CfgAttribute.XAUTH_TYPE, CfgAttribute.XAUTH_ANSWER + 1)


class XauthServer:
    """The gateway asks, and tells how it went. Who comes by an entry without users is let in at once: there
    is nothing to ask.
    """

    def begin(self, established: "Established", now: float) -> None:
        entry = established.phase1.entry
        if entry is None or entry.xauth is None:
            self._say(established, now, passed=True)
            return
        login = LoginServer(entry.xauth, established.hub.rng)
        self._ask(established, login, now)

    def _ask(self, established: "Established", login: LoginServer, now: float) -> None:
        def judge(reply: Attributes, now: float) -> None:
            verdict = login.judge(reply)
            if verdict is Verdict.INCOMPLETE:
                self._ask(established, login, now)
            elif verdict is Verdict.PASSED and _may_come(established, login.user):
                self._say(established, now, passed=True)
            else:
                _tell_refusal(established, verdict, now)
                self._say(established, now, passed=False, delay=REFUSAL_SECONDS)

        Asking(established, CfgType.REQUEST, login.request(), judge, now)

    def _say(self, established: "Established", now: float, *, passed: bool, delay: float = 0.0) -> None:
        def acknowledged(_ack: Attributes, now: float) -> None:
            if passed:
                established.next_step(now)
            else:
                established.gone(now)  # which the client knows by now

        Asking(established, CfgType.SET, status(passed=passed), acknowledged, now, delay=delay)


def _may_come(established: "Established", name: bytes) -> bool:
    """Whether the entry is for this user. Where phase 1 has proved a name, that has been looked at; in hybrid
    authentication it has proved none.
    """
    phase1 = established.phase1
    entry = phase1.entry
    if entry is None:
        return False
    if isinstance(entry.demand, NoDemand) and not entry.fit_user(name, phase1.path.remote.ip):
        return False
    established.known_as(Identity.of_user(name))
    return True


def _tell_refusal(established: "Established", verdict: Verdict, now: float) -> None:
    """At once: who guesses passwords need not wait for our word. Who it was is not told by name, for that
    may be a password that was typed in the wrong place.
    """
    error = AuthenticationFailed(_REFUSALS.get(verdict, "wrong user name or password (XAUTH)"))
    established.refused_until = now + REFUSAL_SECONDS
    hub, phase1 = established.hub, established.phase1
    hub.common.count_refusal(error)
    reason = f"{phase1.remote_identity}: {error}"
    hub.tell_refusal(PeerRefused(phase1.path, reason, error.remedy), now)


class XauthClient:
    """Waits for the gateway to ask, and for what it says then."""

    def begin(self, established: "Established", now: float) -> None:
        self._established = established
        config = established.phase1.policy
        login = config.ikev1.xauth if isinstance(config, ConnectionConfig) and config.ikev1 else None
        self._login = None if login is None else LoginClient(login)

    def told(self, told: Attributes, now: float) -> tuple[Attributes, Afterwards] | None:
        """A REQUEST is answered, and STATUS in a SET is the end of it."""
        if told.cfg_type == CfgType.REQUEST:
            return self._answer(told, now)
        result = told.number(CfgAttribute.XAUTH_STATUS)
        if told.cfg_type != CfgType.SET or result is None:
            return None
        # The draft's section 6.1: an ACK names what it is for
        ack = Attributes(CfgType.ACK, told.identifier, (Attribute(CfgAttribute.XAUTH_STATUS, b""),))
        return ack, self._passed if result == XauthStatus.OK else self._failed

    def _answer(self, request: Attributes, now: float) -> tuple[Attributes, Afterwards]:
        if self._login is None:
            trouble = AuthenticationFailed(
                "the peer wants us to log in by name and password (XAUTH)",
                remedy="Add --xauth-user NAME and --xauth-password-file FILE.",
            )
            return Attributes(CfgType.REPLY, request.identifier, status(passed=False)), self._given_up(
                trouble
            )
        before = self._login.message
        answer = self._login.answer(request)
        hub, number = self._established.hub, self._established.phase1.number
        if self._login.message not in ("", before) and hub.common.complaints.take(now):
            hub.emit(Diagnostic(number, f"The peer says: {self._login.message}"))
        reply = Attributes(CfgType.REPLY, request.identifier, answer.attributes)
        return reply, self._given_up(answer.trouble) if answer.trouble else _nothing

    def _passed(self, now: float) -> None:
        self._established.next_step(now)

    def _failed(self, now: float) -> None:
        refused = (
            AuthenticationFailed("the peer refuses us") if self._login is None else self._login.refused()
        )
        self._given_up(refused)(now)

    def _given_up(self, trouble: AuthenticationFailed) -> Afterwards:
        farewell = Farewell(Fault.AUTHENTICATION, str(trouble), trouble.remedy)
        return lambda now: self._established.fail(farewell, now)


class _Unexpected(XauthClient):
    """Of a gateway that wants a login though phase 1 has not agreed on one, or wants another one."""

    def _passed(self, now: float) -> None:
        """All goes on as before."""


def answer(established: "Established", told: Attributes, now: float) -> tuple[Attributes, Afterwards] | None:
    """To a gateway that speaks of logging in where no step waits for it; None: it does not."""
    is_xauth = any(a.type in _ATTRIBUTES for a in told.attributes)
    if not isinstance(established.phase1.policy, ConnectionConfig) or not is_xauth:
        return None
    client = _Unexpected()
    client.begin(established, now)
    return client.told(told, now)


def _nothing(_now: float) -> None:
    """The gateway has the next word."""
