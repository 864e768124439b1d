"""TLS on top of a connection, without leaving it open where that fails."""

from __future__ import annotations

import socket
import ssl


def wrap(
    context: ssl.SSLContext, sock: socket.socket, name: str | None, *, handshake: bool = True
) -> ssl.SSLSocket:
    """`context.wrap_socket(sock)`, with `name` as SNI. If it fails, the connection is closed.

    What was reset before is an error at once: `wrap_socket` would hand it back without TLS. And
    where the reset comes within `wrap_socket`, Python before 3.13 leaves the connection open, in
    the hands of nobody but the traceback.

    Raises:
        OSError, ValueError: as of `wrap_socket`.
    """
    try:
        sock.getpeername()
        return context.wrap_socket(sock, server_hostname=name, do_handshake_on_connect=handshake)
    except (OSError, ValueError) as error:
        sock.close()
        trace = error.__traceback__
        while trace is not None:
            if isinstance(left := trace.tb_frame.f_locals.get("self"), ssl.SSLSocket):
                left.close()
            trace = trace.tb_next
        raise
