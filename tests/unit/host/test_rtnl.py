"""The message classes of pyroute2 come without the rest of it, and leave it as it is for others."""

import subprocess
import sys

import pytest

WITHOUT_THE_REST = """
import sys
import espudp.host.netlink
assert "pyroute2.ndb" not in sys.modules and "pyroute2" not in sys.modules
"""
THEN_WHOLE = """
from espudp.host.rtnl import rtmsg
import pyroute2
from pyroute2 import IPRoute
from pyroute2.netlink.rtnl.rtmsg import rtmsg as theirs
from pyroute2.nftables.main import NFTables
assert theirs is rtmsg and pyroute2.IPRoute is IPRoute
"""
WHOLE_BEFORE = """
import pyroute2
from espudp.host.rtnl import rtmsg
from pyroute2.netlink.rtnl.rtmsg import rtmsg as theirs
import sys
assert theirs is rtmsg and sys.modules["pyroute2"] is pyroute2
"""


@pytest.mark.parametrize("program", [WITHOUT_THE_REST, THEN_WHOLE, WHOLE_BEFORE])
def test_in_whatever_order_it_is_imported(program: str) -> None:
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
