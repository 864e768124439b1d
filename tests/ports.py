"""Loopback ports for programs that must be told on which one to listen."""

from __future__ import annotations

import random
import socket

_RANDOM = random.SystemRandom()  # whatever seeds the common one for its tests
_given: set[int] = set()


def free_port() -> int:
    """A port on which nobody listens, another one each time.

    It is below the range from which the kernel takes ports for whoever names none: one of those
    could belong to another test by the time that the program starts.
    """
    while True:
        port = _RANDOM.randrange(10_000, 32_768)
        if port in _given:
            continue
        with socket.socket() as sock:
            try:
                sock.bind(("127.0.0.1", port))
            except OSError:
                continue
        _given.add(port)
        return port
