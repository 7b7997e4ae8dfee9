"""espudp: a userspace IPsec peer. ESP in UDP (RFC 3948) over a TUN device, keyed by IKE.

This is the public API, for programs that embed a tunnel. None of it touches the operating system: sockets,
devices, the clock and randomness are the caller's, as examples/ shows.

The names are those of `espudp.api`, and are loaded when the first of them is asked for: the command line is
part of this package, and need not wait for what it may not use.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    # All of them, for type checkers, which do not follow __getattr__; `__all__` stands in one place, which is
    # why F403 is off for this line: the names one by one would be a second list to keep.
    from espudp.api import *  # noqa: F403

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """A name of the public API (PEP 562)."""
    if name.startswith("_") and name != "__all__":
        raise AttributeError(f"module 'espudp' has no attribute '{name}'")
    return getattr(import_module("espudp.api"), name)


def __dir__() -> list[str]:
    return [*globals(), *__getattr__("__all__")]
