"""What listens beside nginx, and is not measured: `strangers.py SERVER FILTERED TARPIT`.

SERVER and FILTERED greet on port 7999 as git over SSH does. TARPIT accepts connections to port 443,
and that is all; so does 127.0.0.1:7990, the backend that hangs.
"""

from __future__ import annotations

import selectors
import socket
import sys

GREETING = b"SSH-2.0-AtlassianSSHD\r\n"


def listen(address: str, port: int) -> socket.socket:
    return socket.create_server((address, port), backlog=4096)


def main(server: str, filtered: str, tarpit: str) -> None:
    silent = [listen(tarpit, 443), listen("127.0.0.1", 7990)]  # the kernel accepts for them
    selector = selectors.DefaultSelector()
    for address in (server, filtered):
        selector.register(listen(address, 7999), selectors.EVENT_READ)
    while silent:
        for key, _ in selector.select():
            listener = key.fileobj
            assert isinstance(listener, socket.socket)
            try:
                connection, _ = listener.accept()
                connection.sendall(GREETING)
                connection.close()
            except OSError:
                pass  # the client went away


if __name__ == "__main__":
    main(*sys.argv[1:])
