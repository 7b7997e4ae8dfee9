"""How often a client may be sent elsewhere (RFC 5685 section 7)."""

from collections import deque

from espudp.ike.config import ConnectionConfig

# RFC 5685 section 7
MAX_REDIRECTS = 5
REDIRECT_LOOP_DETECT_PERIOD = 300.0


class Detours:
    """How often we were sent elsewhere lately, for each kind of connection."""

    def __init__(self) -> None:
        self._times: dict[tuple[str, str], deque[float]] = {}

    def may_follow(self, config: ConnectionConfig, now: float) -> bool:
        """Whether there were not too many yet; counts this one."""
        key = str(config.local_identity), str(config.remote_identity)
        times = self._times.setdefault(key, deque(maxlen=MAX_REDIRECTS))
        if len(times) == MAX_REDIRECTS and now - times[0] < REDIRECT_LOOP_DETECT_PERIOD:
            return False
        times.append(now)
        return True
