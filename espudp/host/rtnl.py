"""pyroute2's classes for messages of rtnetlink, without the rest of it.

`import pyroute2.x` runs the package's own __init__ first, which imports everything there is: 9 MB and 50 ms
of every start, for four classes. So they are imported with an empty package in its place, and whoever imports
pyroute2 afterwards gets it whole.
"""

import sys
from importlib import import_module
from importlib.util import find_spec, module_from_spec
from typing import Any

_PACKAGE = "pyroute2"


def _message(name: str) -> Any:
    """The class `name` of the module of that name."""
    return getattr(import_module(f"{_PACKAGE}.netlink.rtnl.{name}"), name)


def _messages(*names: str) -> tuple[Any, ...]:
    spec = find_spec(_PACKAGE)
    if spec is None or _PACKAGE in sys.modules:
        return tuple(map(_message, names))
    sys.modules[_PACKAGE] = module_from_spec(spec)
    try:
        return tuple(map(_message, names))
    finally:
        del sys.modules[_PACKAGE]


fibmsg, ifaddrmsg, ifinfmsg, rtmsg = _messages("fibmsg", "ifaddrmsg", "ifinfmsg", "rtmsg")
