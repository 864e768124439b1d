"""Reading the version line of an SSH server."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress

import pytest

from diag.net import ssh, tcp

Say = Callable[..., tuple[str, int]]


@pytest.fixture
def say() -> Iterator[Say]:
    """A server on loopback that says this and then waits for the client to go: its address."""
    with ExitStack() as stack:

        def start(text: bytes, pause: float = 0, *, wait: bool = True) -> tuple[str, int]:
            listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))

            def work() -> None:
                sock, _ = listener.accept()
                with sock, suppress(OSError):
                    for piece in text.splitlines(keepends=True):
                        sock.sendall(piece)
                        time.sleep(pause)
                    if wait:
                        sock.settimeout(5)
                        sock.recv(1)

            thread = threading.Thread(target=work, daemon=True)
            thread.start()
            stack.callback(thread.join, 5)
            return "127.0.0.1", listener.getsockname()[1]

        yield start


def test_a_server_announces_itself(say: Say) -> None:
    read = ssh.banner(say(b"SSH-2.0-SSHD-CORE-2.9.2-ATLASSIAN-5\r\n"), 2)
    assert read.text == "SSH-2.0-SSHD-CORE-2.9.2-ATLASSIAN-5"
    assert read.failure is None


def test_lines_before_it_are_allowed_and_pieces_are_put_together(say: Say) -> None:
    address = say(b"Welcome\r\nto this server\r\nSSH-2.0-OpenSSH_9.2\n", pause=0.05)
    assert ssh.banner(address, 2).text == "SSH-2.0-OpenSSH_9.2"


def test_an_open_connection_stays_the_callers(say: Say) -> None:
    with tcp.connect(*say(b"SSH-2.0-x\r\n"), 2) as sock:
        assert ssh.banner(sock, 2).text == "SSH-2.0-x"
        assert sock.fileno() >= 0


def test_who_says_nothing(say: Say) -> None:
    read = ssh.banner(say(b""), 0.2)
    assert (read.text, read.failure) == (None, "silent")
    assert read.elapsed_ms > 150


def test_who_hangs_up(say: Say) -> None:
    assert ssh.banner(say(b"", wait=False), 2).failure == "closed"


@pytest.mark.parametrize(
    "text", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\x15\x03\x01\x00", b"x" * 9000]
)
def test_who_speaks_something_else(say: Say, text: bytes) -> None:
    read = ssh.banner(say(text), 0.3)
    assert (read.text, read.failure) == (None, "not-ssh")
    assert 0 < len(read.detail) <= 200


def test_where_nothing_listens() -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        assert ssh.banner(sock.getsockname(), 2).failure == "refused"
