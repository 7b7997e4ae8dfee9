"""What most tests of the host begin with."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.host.support import Network


@pytest.fixture
def network(tmp_path: Path) -> Iterator[Network]:
    with Network.make(tmp_path) as made:
        yield made
