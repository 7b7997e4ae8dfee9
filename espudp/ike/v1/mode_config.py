"""Mode config (draft-dukes-ike-mode-cfg-02): the step between authentication and quick mode in which a
client gets its address, on its own question (`Pull`) or without one (`AwaitPush`, `Push`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from espudp.ike.config import ConnectionConfig, ListenerConfig
from espudp.ike.events import Diagnostic, PeerAddressAssigned
from espudp.ike.given import NOTHING, Given
from espudp.ike.ikev1_config import Ikev1Policy
from espudp.ike.v1 import configuration
from espudp.ike.v1.asking import Afterwards, Asking
from espudp.wire.ikev1.attributes import Attribute
from espudp.wire.ikev1.constants import CfgAttribute, CfgType
from espudp.wire.ikev1.payloads import Attributes
from espudp.wire.selectors import TrafficSelector

if TYPE_CHECKING:
    from espudp.ike.v1.established import Established


# Who dials


class AwaitPush:
    """The gateway tells our address unasked."""

    def begin(self, established: "Established", now: float) -> None:
        self._established = established
        self._done = False

    def told(self, told: Attributes, now: float) -> tuple[Attributes, Afterwards] | None:
        """A SET with an address in it is what we wait for; others say nothing yet."""
        if told.cfg_type != CfgType.SET:
            return None
        given = configuration.read(told, _config(self._established).request_addresses)
        ack = configuration.answer_to_set(told, configuration.is_known)
        return ack, lambda now: self._take(given, now) if given.addresses else None

    def _take(self, given: Given, now: float) -> None:
        if not self._done:
            self._done = True
            _take(self._established, given, now)


class Pull(AwaitPush):
    """We ask. A gateway that tells its clients unasked may be quicker, and that counts as well."""

    def begin(self, established: "Established", now: float) -> None:
        super().begin(established, now)
        config, cisco = _config(established), established.sa.abilities.unity
        asked = configuration.request(config.request_addresses, cisco=cisco)
        Asking(established, CfgType.REQUEST, asked, self._answered, now)

    def _answered(self, told: Attributes, now: float) -> None:
        self._take(configuration.read(told, _config(self._established).request_addresses), now)


def _config(established: "Established") -> ConnectionConfig:
    policy = established.phase1.policy
    if not isinstance(policy, ConnectionConfig):
        raise TypeError("only who dials is told its address")
    return policy


def _take(established: "Established", given: Given, now: float) -> None:
    connection, hub = established.connection, established.hub
    if connection is None:
        return
    connection.addresses, connection.split = given.addresses, given.split_include
    if given != NOTHING:
        wanted = [s for s in _config(established).child.remote if isinstance(s, TrafficSelector)]
        carried = [part for selector in wanted for part in connection.carried(selector)]
        hub.emit(given.beside(carried).event(connection.number))
    established.next_step(now)


# Who listens


class Push:
    """Clients are told their address without being asked; one that asks before it has answered gets the same
    one.
    """

    def begin(self, established: "Established", now: float) -> None:
        networks = () if established.hub.pool is None else established.hub.pool.networks
        addresses = _assign(established, {network.version: [""] for network in networks})
        policy, config = _policy(established), established.phase1.policy
        if not addresses or not isinstance(config, ListenerConfig):
            established.next_step(now)
            return
        cisco = established.sa.abilities.unity
        told = tuple(configuration.everything(addresses, config.handout, policy, cisco=cisco))
        _note_split(established, told)
        Asking(established, CfgType.SET, told, lambda _ack, now: established.next_step(now), now)


def answer(established: "Established", told: Attributes) -> tuple[Attributes, Afterwards] | None:
    """To what a peer asks or sets after all steps: None if that is an answer itself, and to nothing."""
    # A gateway that has renewed phase 1 was the one who dialled, and is a gateway all the same.
    connection = established.connection
    config = established.phase1.policy if connection is None else connection.policy
    if told.cfg_type == CfgType.SET:
        # Nobody configures a gateway, nor a client that has what it needs: an ACK of nothing says so.
        return Attributes(CfgType.ACK, told.identifier), _nothing
    if told.cfg_type != CfgType.REQUEST:
        return None
    if not isinstance(config, ListenerConfig):
        return Attributes(CfgType.REPLY, told.identifier), _nothing
    addresses: tuple[str, ...] = ()
    if configuration.wants_address(told):
        addresses = _assign(established, configuration.wanted_addresses(told))
    attributes = configuration.reply(told, addresses, config.handout, _policy(established))
    _note_split(established, attributes)
    return Attributes(CfgType.REPLY, told.identifier, attributes), _nothing


def _note_split(established: "Established", told: Sequence[Attribute]) -> None:
    connection = established.connection
    if connection is not None and any(a.type == CfgAttribute.UNITY_SPLIT_INCLUDE for a in told):
        connection.has_told_split = True


def _policy(established: "Established") -> Ikev1Policy:
    connection = established.connection
    config = established.phase1.policy if connection is None else connection.policy
    return config.ikev1 or Ikev1Policy() if isinstance(config, ListenerConfig) else Ikev1Policy()


def _assign(established: "Established", wanted: Mapping[int, Sequence[str]]) -> tuple[str, ...]:
    """The peer's addresses: those that it has, or some of the pool's; none if that is empty."""
    connection, hub = established.connection, established.hub
    if connection is None or hub.pool is None:
        return ()
    peer, config = connection.peer, connection.policy
    if peer.addresses or not isinstance(config, ListenerConfig):
        return peer.addresses
    addresses = hub.pool.assign_each((peer.identity, peer.entry), connection.number, wanted, config.pool)
    if not addresses:
        hub.emit(Diagnostic(connection.number, f"The pool has no address left for {peer.identity}"))
        return ()
    connection.peer = replace(peer, addresses=addresses)
    hub.emit(PeerAddressAssigned(connection.number, addresses))
    return addresses


def _nothing(_now: float) -> None:
    """Nothing follows."""
