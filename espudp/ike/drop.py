"""Why a datagram came to nothing. Whatever an attacker can send ends here: counted, not raised."""

from enum import Enum


class Drop(Enum):
    """Reasons, as counted in `Endpoint.drops`."""

    MALFORMED = "not an IKE message"
    VERSION = "another major version"
    UNKNOWN_SPI = "no such IKE SA"
    WRONG_SPI = "the other SPI does not fit"
    WRONG_ROLE = "sent by the wrong side of the IKE SA"
    WRONG_EXCHANGE = "an exchange that this state does not have"
    UNSOLICITED = "a response that nothing asked for"
    OUT_OF_WINDOW = "a message ID outside the window"
    REPEATED = "a repetition that is answered no more"
    UNPROTECTED = "not protected, where only protected messages count"
    BAD_ICV = "not authentic"
    BAD_PAYLOADS = "payloads that do not belong in an IKE_SA_INIT"
    BAD_KEY_EXCHANGE = "a Diffie-Hellman value that no honest peer sends"
    NOT_LISTENING = "a request to connect where nobody listens"
    TOO_LONG = "an IKE_SA_INIT longer than any peer needs"
    HALF_OPEN = "too many half-open IKE SAs"
    EXCHANGES = "more exchanges at a time than a peer needs"
    RATE = "an answer too many to unauthenticated messages"
    FRAGMENT = "a fragment that does not fit"
    FRAGMENT_REPEATED = "a fragment that is there already"
    FRAGMENTS_TOO_MANY = "more in fragments than any message needs"
    FRAGMENTS_MISSING = "a message of which fragments never came"
    ELSEWHERE = "a request of IKE_AUTH from another address than the one before"
    UNPROVED = "a peer that did not prove who it is"
    TICKET = "a ticket that is not ours, too old or used"
    CLOSED = "for an IKE SA that is being closed"
