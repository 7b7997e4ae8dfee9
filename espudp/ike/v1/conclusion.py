"""The end of phase 1, on either side, and the steps that follow it."""

from espudp.ike.config import ConnectionConfig, ListenerConfig
from espudp.ike.keylog import IsakmpKeyLog
from espudp.ike.v1.established import Established
from espudp.ike.v1.hub import Hub
from espudp.ike.v1.mode_config import AwaitPush, Pull, Push
from espudp.ike.v1.opening import OpenConnection
from espudp.ike.v1.phase1 import Phase1, Step
from espudp.ike.v1.quick_initiator import StartChildren
from espudp.ike.v1.xauth import XauthClient, XauthServer


def conclude(hub: Hub, phase1: Phase1, now: float) -> None:
    """Both sides have proved what phase 1 asks for."""
    hub.common.log_keys(IsakmpKeyLog(phase1.sa.cookie_i, phase1.sa.keys.cipher))
    established = Established(hub, phase1, _steps(phase1), now)
    hub.put(established)
    established.next_step(now)


def _steps(phase1: Phase1) -> list[Step]:
    policy = phase1.policy
    if isinstance(policy, ConnectionConfig):
        return _to_call(policy, phase1)
    return _to_answer(policy, phase1)


def _to_call(config: ConnectionConfig, phase1: Phase1) -> list[Step]:
    steps: list[Step] = []
    if phase1.way.login:
        steps.append(XauthClient())
    steps.append(OpenConnection())
    if config.request_addresses:
        pushed = config.ikev1 is not None and config.ikev1.pushed
        steps.append(AwaitPush() if pushed else Pull())
    return [*steps, StartChildren()]


def _to_answer(config: ListenerConfig, phase1: Phase1) -> list[Step]:
    steps: list[Step] = []
    wanted = phase1.entry is not None and phase1.entry.xauth is not None
    if phase1.way.login or wanted:
        steps.append(XauthServer())
    steps.append(OpenConnection())
    if config.ikev1 is not None and config.ikev1.push:
        steps.append(Push())
    return steps
