"""Which group our key exchange is of, and a peer that wants another one (RFC 7296 sections 1.2 and 1.3)."""

from collections.abc import Sequence

from espudp.crypto.suites import Dh, dh_by_id
from espudp.errors import PeerError
from espudp.wire.ikev2.constants import NotifyType
from espudp.wire.ikev2.payloads import Notify

# Our choice: how often a peer may ask for another group within one negotiation.
MAX_GROUP_CHANGES = 3


class Groups:
    """The groups of one negotiation that we start, best first."""

    def __init__(self, offered: Sequence[Dh]) -> None:
        """There must be one, and the first is tried first."""
        self._offered = offered
        self.current = offered[0]
        self._changes = 0

    def prefer(self, group: Dh) -> None:
        """What the peer took before it is most likely to take again; unless it has asked for another one."""
        if not self._changes and group in self._offered:
            self.current = group

    def change(self, error: Notify) -> bool:
        """Whether the peer asks for another one that we offered, and not too often: it is then `current`."""
        if error.type != NotifyType.INVALID_KE_PAYLOAD or self._changes >= MAX_GROUP_CHANGES:
            return False
        group = dh_by_id(int.from_bytes(error.data)) if len(error.data) == 2 else None
        if group is None or group == self.current or group not in self._offered:
            return False
        self._changes += 1
        self.current = group
        return True


def refusal_of_group(group: Dh) -> PeerError:
    """INVALID_KE_PAYLOAD, from who chose `group` and got a KE payload of another one."""
    return PeerError(
        f"the key exchange has to be of {group.keyword}",
        notify=NotifyType.INVALID_KE_PAYLOAD,
        data=group.transform_id.to_bytes(2),
    )
