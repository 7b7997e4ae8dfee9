"""IKE SAs that begin without a child SA (RFC 6023), with strongSwan in both roles."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.interop.caller import CallingSwan
from tests.interop.gateway import Gateway
from tests.interop.matrix import INITIATOR, RESPONDER

pytestmark = [
    pytest.mark.strongswan,
    pytest.mark.namespaces,
    pytest.mark.tun,
    pytest.mark.cell("childless IKE SA (RFC 6023)"),
]

Saw = Callable[[str], None]


@pytest.mark.peer("strongSwan", INITIATOR)
def test_as_initiator(gateway: Gateway, tmp_path: Path, saw: Saw) -> None:
    """strongSwan takes nothing else."""
    gateway.serve(childless="force")
    with gateway.connected(tmp_path, "--childless") as peer:
        gateway.check_traffic(peer)
    saw("the child SA in an exchange of its own")


@pytest.mark.peer("strongSwan", RESPONDER)
def test_as_responder(calling: CallingSwan, tmp_path: Path, saw: Saw) -> None:
    with calling.listening(tmp_path) as place, place.dialled(childless="force") as address:
        place.check_traffic(address)
    saw("the child SA in an exchange of its own")
