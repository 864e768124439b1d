"""SSH, as far as a diagnosis needs it: does a server announce itself there?"""

from __future__ import annotations

import socket
import time

from diag.net import tcp
from diag.record import record

_LIMIT = 8192  # bytes that may come before the version line


@record
class Banner:
    """What was read.

    `text` is the server's version line ("SSH-2.0-…"); without it `failure` says why: "refused",
    "silent", "unreachable", "reset", "closed", "not-ssh" or the name of an errno. Then `detail` is
    the beginning of what came instead, untrusted like everything from the network.
    """

    text: str | None
    failure: str | None = None
    detail: str = ""
    elapsed_ms: float = 0.0


def banner(peer: socket.socket | tuple[str, int], timeout: float) -> Banner:
    """Read the version line of an SSH server (RFC 4253, section 4.2), within `timeout` seconds.

    `peer` is an open connection, which stays the caller's, or an address literal and a port. Never
    raises for network trouble.
    """
    start = time.monotonic()

    def result(text: str | None, failure: str | None = None, detail: bytes = b"") -> Banner:
        elapsed = (time.monotonic() - start) * 1000
        return Banner(text, failure, detail[:200].decode("ascii", "replace"), elapsed)

    received = b""
    sock: socket.socket | None = None
    try:
        sock = peer if isinstance(peer, socket.socket) else tcp.connect(*peer, timeout)
        while len(received) < _LIMIT:
            sock.settimeout(max(0.001, start + timeout - time.monotonic()))
            data = sock.recv(_LIMIT)
            received += data
            *lines, rest = received.split(b"\n")
            for line in lines:  # others may come before it
                if line.startswith(b"SSH-"):
                    return result(line.rstrip(b"\r").decode("ascii", "replace"))
            if not data:
                return result(None, "not-ssh" if received else "closed", received)
            if not lines and len(rest) > 255:  # longer than any line may be
                break
    except OSError as error:
        return result(None, "not-ssh" if received else tcp.failure(error), received)
    finally:
        if sock is not None and sock is not peer:
            sock.close()
    return result(None, "not-ssh", received)
