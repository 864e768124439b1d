"""The first look-up of a run, begun while Python still loads the rest of the program.

Loading takes as long as a resolver that is near: side by side they take the time of one. Nothing is
asked that the run would not ask as well: only where the command line plainly names a host and says
nothing of another way to it. `diag.net.dns` takes the answer up.
"""

from __future__ import annotations

import _socket
import _thread
import time

TYPE_CHECKING = False
if TYPE_CHECKING:  # `typing` itself takes longer to load than this module
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any

    Found = tuple[Any, float]  # what getaddrinfo returned or raised, and the seconds it took

# Any of these may mean that the name is not looked up at all.
_OTHER_WAYS = ("--proxy", "--connect-to", "--only", "--skip", "--help", "-h")
_VARIABLES = ("PROXY", "CONNECT_TO", "ONLY", "SKIP")
_CLOUD = "bitbucket.org"  # of which another host is asked
_LETTERS = frozenset("abcdefghijklmnopqrstuvwxyz0123456789-.")


class _LookUp:
    """One call of getaddrinfo, in a thread of its own."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._found: Any = None
        self._took = 0.0
        self._done = _thread.allocate_lock()
        self._done.acquire()
        _thread.start_new_thread(self._work, ())

    def _work(self) -> None:
        start = time.monotonic()
        try:
            self._found = _socket.getaddrinfo(
                self._name.encode(), None, 0, _socket.SOCK_STREAM, 0, _socket.AI_CANONNAME
            )
        except OSError as error:
            self._found = error
        self._took = time.monotonic() - start
        self._done.release()

    def wait(self) -> Found:
        with self._done:
            return self._found, self._took


_begun: dict[str, _LookUp] = {}


def begin(arguments: Sequence[str], environ: Mapping[str, str]) -> None:
    """Look up the host of `bbdiag check https://HOST/…`, if this call is one."""
    if (name := _host(arguments, environ)) is not None:
        _begun[name] = _LookUp(name)


def taken_up(name: str) -> Callable[[], Found] | None:
    """How to wait for what was begun for this name, once; None if nothing was."""
    look_up = _begun.pop(name, None)
    return None if look_up is None else look_up.wait


def _host(arguments: Sequence[str], environ: Mapping[str, str]) -> str | None:
    if arguments[:1] != ["check"] or any(one.startswith(_OTHER_WAYS) for one in arguments):
        return None
    if any(name.upper().removeprefix("BBDIAG_").endswith(_VARIABLES) for name in environ):
        return None
    for one in arguments[1:]:
        scheme, separator, rest = one.partition("://")
        if separator and scheme in ("http", "https"):
            host = rest.partition("/")[0].partition(":")[0]
            plain = _LETTERS.issuperset(host) and "." in host and not host.endswith(_CLOUD)
            return host if plain and not host.replace(".", "").isdigit() else None
    return None
