"""One charon on each side for all tests that do not stop theirs."""

from collections.abc import Iterator

import pytest

from tests.interop.caller import CallingSwan, calling_swan
from tests.interop.gateway import Gateway, gateway_swan
from tests.interop.matrix import saw
from tests.interop.peer import PSK
from tests.interop.swan import ESPUDP_ID, SWAN_ID

__all__ = ["saw"]


@pytest.fixture(scope="session")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """strongSwan, to which espudp connects."""
    with gateway_swan(tmp_path_factory.mktemp("gateway")) as gateway:
        yield gateway


@pytest.fixture(scope="session")
def calling(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CallingSwan]:
    """strongSwan, which connects to an espudp that the test starts."""
    with calling_swan(tmp_path_factory.mktemp("calling")) as calling:
        yield calling


@pytest.fixture(autouse=True)
def own_credentials(request: pytest.FixtureRequest) -> None:
    """Each test begins with the PSK alone. charon takes a certificate, a key or a CA for any other of the
    same name, and all tests have the same names.
    """
    for name in {"gateway", "calling"} & set(request.fixturenames):
        shared = request.getfixturevalue(name)
        if isinstance(shared, Gateway | CallingSwan):
            shared.swan.forget_credentials()
            shared.swan.load_psk(PSK, ESPUDP_ID, SWAN_ID)
