"""Several child SAs for the same traffic, one for each worker (RFC 9611).

Each worker has sequence numbers and keys of its own then, and shares nothing with the others. Who dialled
says in IKE_AUTH that it would like that (SA_RESOURCE_INFO); a peer that would too says the same, and is then
asked for one child SA after the other until each worker has one, or the peer has enough (TS_MAX_QUEUE). A
peer that knows nothing of this ignores the notify, and is never asked.

    dialler, 2 workers                       peer, 2 workers
    IKE_AUTH ... N(SA_RESOURCE_INFO)  -->
                                      <--    ... N(SA_RESOURCE_INFO)    worker 0 has its child SA
    CREATE_CHILD_SA N(SA_RESOURCE_INFO) -->
                                      <--    ... N(SA_RESOURCE_INFO)    and now worker 1
"""

from dataclasses import replace
from typing import TYPE_CHECKING

from espudp.ike.config import ChildConfig
from espudp.wire.ikev2.constants import NotifyType
from espudp.wire.ikev2.message import Message
from espudp.wire.ikev2.payloads import Notify, Payload

if TYPE_CHECKING:
    from espudp.ike.v2.child import Child

# RFC 9611 section 6: at the very least double the number of our own resources.
_PER_WORKER = 2


def most_alike(workers: int) -> int:
    """How many child SAs a peer may have for the same traffic. With one worker a second would be of no use,
    and not to be had by default (RFC 9611 section 7).
    """
    return 1 if workers == 1 else workers * _PER_WORKER


def is_one_of_several(message: Message) -> bool:
    """Whether the peer means this child SA to be one of several, or would have it so."""
    return message.notify(NotifyType.SA_RESOURCE_INFO) is not None


def info(shared: bool) -> list[Payload]:
    """SA_RESOURCE_INFO, if the child SA is to be one of several. Which worker it is for is left out: it would
    help nobody but an attacker (RFC 9611 section 7).
    """
    return [Notify.of(NotifyType.SA_RESOURCE_INFO)] if shared else []


def config_like(child: "Child") -> ChildConfig:
    """The configuration of further child SAs for the same traffic: nothing but the suite that was agreed on
    (RFC 9611 section 3).
    """
    only = (proposal.only(child.suite) for proposal in child.config.proposals)
    return replace(child.config, proposals=tuple(p for p in only if p is not None))
