"""Sockets, TLS and HTTP/1.1 on loopback: the part of the simulator that knows no Bitbucket.

A listener is bound when it is made and listens only when it is told to serve, so that its port is
known before anything answers there, and a port on which nothing shall answer really refuses.
Everything blocks in daemon threads that end when the listener is closed.
"""

from __future__ import annotations

import contextlib
import selectors
import socket
import ssl
import struct
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol
from urllib.parse import parse_qsl, unquote

LOOPBACK = "127.0.0.1"
IDLE_SECONDS = 30.0  # a connection on which nothing comes for so long is closed
LINGER_SECONDS = 1.0
MAX_HEAD = 64 * 1024
TLS_HANDSHAKE = b"\x16"  # first byte of a ClientHello


class DisconnectError(Exception):
    """The peer went away, or the simulator is being stopped."""


@dataclass(slots=True)
class Request:
    """One HTTP request as it came; header names are lower case."""

    method: str
    target: str  # as on the request line
    path: str  # percent-decoded
    query: str  # as on the request line, without "?"
    headers: dict[str, str]
    body: bytes = b""
    secure: bool = False
    authorization: str = "none"  # the scheme that came, whatever a gateway then does to the header

    @property
    def parameters(self) -> list[tuple[str, str]]:
        """The query parameters in order, decoded."""
        return parse_qsl(self.query, keep_blank_values=True)

    @property
    def host(self) -> str:
        """The Host header without port, lower case."""
        return self.headers.get("host", "").rpartition("@")[2].partition(":")[0].lower()


@dataclass(slots=True)
class Response:
    """One answer; `wire`, where set, sends it in its own broken way."""

    status: int
    headers: list[tuple[str, str]] = field(default_factory=list)
    body: bytes = b""
    reason: str = ""  # Tomcat sends none
    chunked: bool = False
    close: bool = False
    wire: Callable[[Connection, Response], None] | None = None

    def head(self, *extra: tuple[str, str]) -> bytes:
        """Status line and headers, with the empty line that ends them."""
        lines = [f"HTTP/1.1 {self.status} {self.reason}"]
        lines += [f"{name}: {value}" for name, value in (*self.headers, *extra)]
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


class Site(Protocol):
    """What answers HTTP requests: a dialect of Bitbucket."""

    def knows(self, request: Request) -> bool:
        """Whether this path, method and every query parameter exist."""

    def answer(self, request: Request) -> Response:
        """The answer to one request."""


class Connection:
    """One accepted connection, plain or, after `start_tls`, encrypted."""

    def __init__(self, sock: socket.socket, stopping: threading.Event) -> None:
        self._sock = sock
        self._stopping = stopping
        self._buffer = b""
        sock.settimeout(IDLE_SECONDS)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    @property
    def secure(self) -> bool:
        return isinstance(self._sock, ssl.SSLSocket)

    def peek(self, size: int = 1) -> bytes:
        """The next bytes, left where they are; empty at the end of the stream."""
        try:
            return self._sock.recv(size, socket.MSG_PEEK)
        except OSError as error:
            raise DisconnectError from error

    def receive(self) -> bytes:
        """Whatever comes next, empty at the end of the stream."""
        if self._buffer:
            data, self._buffer = self._buffer, b""
            return data
        try:
            return self._sock.recv(65536)
        except OSError as error:
            raise DisconnectError from error

    def send(self, data: bytes) -> None:
        try:
            self._sock.sendall(data)
        except OSError as error:
            raise DisconnectError from error

    def wait(self, seconds: float | None = None) -> None:
        """Do nothing for so long (None: for good), but end at once when the simulator stops."""
        if self._stopping.wait(seconds):
            raise DisconnectError

    def swallow(self) -> None:
        """Read and drop everything until the peer gives up."""
        while self.receive():
            pass

    def start_tls(self, context: ssl.SSLContext) -> None:
        try:
            self._sock = wrap(context, self._sock)
            if self._stopping.is_set():
                raise DisconnectError
            self._sock.do_handshake()
        except OSError as error:  # ssl.SSLError is one
            raise DisconnectError from error

    def end_tls(self) -> None:
        """Say that nothing more comes, as an orderly server does before it closes."""
        if isinstance(self._sock, ssl.SSLSocket):
            self._sock.settimeout(0.05)  # nobody has to wait for the peer's answer to it
            with contextlib.suppress(OSError, ValueError):
                self._sock.unwrap()

    def read_request(self) -> Request | None:
        """The next request, None when the peer is done."""
        while b"\r\n\r\n" not in self._buffer:
            try:
                data = self._sock.recv(65536)
            except OSError as error:
                raise DisconnectError from error
            if not data:
                return None
            self._buffer += data
            if len(self._buffer) > MAX_HEAD:
                raise DisconnectError
        head, _, self._buffer = self._buffer.partition(b"\r\n\r\n")
        request = parse_head(head, secure=self.secure)
        length = int(request.headers.get("content-length", "0"))
        while len(self._buffer) < length:
            self._buffer += self.receive() or b"\0" * length  # cut short: the rest does not matter
        request.body, self._buffer = self._buffer[:length], self._buffer[length:]
        return request

    def respond(self, request: Request, response: Response) -> bool:
        """Send an answer; whether the connection stays open."""
        close = response.close or request.headers.get("connection", "").lower() == "close"
        connection = [("Connection", "close")] if close else []
        if response.chunked and request.method != "HEAD":
            chunk = b"%x\r\n%b\r\n0\r\n\r\n" % (len(response.body), response.body)
            self.send(response.head(("Transfer-Encoding", "chunked"), *connection) + chunk)
        else:
            length = [] if response.status in {204, 304} else [str(len(response.body))]
            head = response.head(*(("Content-Length", size) for size in length), *connection)
            self.send(head if request.method == "HEAD" else head + response.body)
        return not close

    def splice(self, port: int) -> None:
        """Pass everything on between the peer and a loopback port until either is done."""
        try:
            there = socket.create_connection((LOOPBACK, port), timeout=IDLE_SECONDS)
        except OSError as error:
            raise DisconnectError from error
        with there as other, selectors.DefaultSelector() as selector:
            other.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for source, sink in ((self._sock, other), (other, self._sock)):
                selector.register(source, selectors.EVENT_READ, (source, sink))
            while ready := selector.select(IDLE_SECONDS):
                for event, _ in ready:
                    source, sink = event.data
                    try:
                        data = source.recv(65536)
                        sink.sendall(data)
                    except OSError as error:
                        raise DisconnectError from error
                    if not data:
                        return

    def reset(self) -> None:
        """End the connection with a RST."""
        with contextlib.suppress(OSError):
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._sock.close()

    def interrupt(self) -> None:
        """Wake whatever thread is blocked on this connection."""
        with contextlib.suppress(OSError):
            # SSLSocket.shutdown would take the TLS object from under the thread that uses it.
            socket.socket.shutdown(self._sock, socket.SHUT_RDWR)

    def linger(self) -> None:
        """End the stream, and read on for a while before the socket is closed: closing it with
        something unread would reset the connection, and the peer might lose what was sent."""
        with contextlib.suppress(OSError):
            socket.socket.shutdown(self._sock, socket.SHUT_WR)
            self._sock.settimeout(LINGER_SECONDS)
            while socket.socket.recv(self._sock, 65536):  # below TLS, which may be broken
                pass

    def close(self) -> None:
        self._sock.close()


def wrap(context: ssl.SSLContext, sock: socket.socket) -> ssl.SSLSocket:
    """TLS on the server's side, the handshake still to come. What the peer resets meanwhile is
    closed, which `wrap_socket` forgets before Python 3.13. Raises OSError."""
    try:
        return context.wrap_socket(sock, server_side=True, do_handshake_on_connect=False)
    except OSError as error:
        trace = error.__traceback__
        while trace is not None:
            if isinstance(left := trace.tb_frame.f_locals.get("self"), ssl.SSLSocket):
                left.close()
            trace = trace.tb_next
        raise


def parse_head(head: bytes, *, secure: bool = False) -> Request:
    """Request line and headers. Raises DisconnectError if this is no HTTP."""
    first, *lines = head.decode("latin-1").split("\r\n")
    words = first.split(" ")
    if len(words) != 3 or not words[2].startswith("HTTP/1."):
        raise DisconnectError
    pairs = (line.partition(":") for line in lines)
    headers = {name.strip().lower(): value.strip() for name, _, value in pairs}
    if words[2] == "HTTP/1.0":
        headers.setdefault("connection", "close")
    path, _, query = words[1].partition("?")
    scheme, blank, _ = headers.get("authorization", "none ").partition(" ")
    scheme = scheme.lower() if blank else "malformed"  # a lone word may be the secret itself
    return Request(
        words[0], words[1], unquote(path), query, headers, secure=secure, authorization=scheme
    )


class Listener:
    """A loopback port. Nothing listens there until `serve`; connections are then refused."""

    def __init__(self) -> None:
        self._sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        self._sock.bind((LOOPBACK, 0))
        self.port: int = self._sock.getsockname()[1]
        self._stopping = threading.Event()
        self._lock = threading.Lock()
        self._connections: dict[threading.Thread, Connection] = {}
        self._acceptor: threading.Thread | None = None

    def serve(self, talk: Callable[[Connection], None]) -> None:
        """Listen, and let `talk` handle each connection in a thread of its own."""
        self._sock.listen(128)
        self._acceptor = threading.Thread(target=self._accept, args=(talk,), daemon=True)
        self._acceptor.start()

    def _accept(self, talk: Callable[[Connection], None]) -> None:
        while True:
            try:
                sock, _ = self._sock.accept()
            except OSError:  # the peer was gone already, or there are too many open files
                if self._stopping.wait(0.05):
                    return
                continue
            with self._lock:
                if self._stopping.is_set():
                    sock.close()
                    return
                connection = Connection(sock, self._stopping)
                thread = threading.Thread(target=self._run, args=(talk, connection), daemon=True)
                self._connections[thread] = connection
            thread.start()

    def _run(self, talk: Callable[[Connection], None], connection: Connection) -> None:
        try:
            with contextlib.suppress(DisconnectError):
                talk(connection)
            connection.linger()
        finally:
            connection.close()
            with self._lock:
                del self._connections[threading.current_thread()]

    def close(self) -> None:
        """Stop listening, end every connection and wait for its thread."""
        self._stopping.set()
        if self._acceptor is not None:
            with contextlib.suppress(OSError):  # a blocked accept() wakes portably only this way
                socket.create_connection((LOOPBACK, self.port), timeout=1).close()
            self._acceptor.join()
        self._sock.close()
        with self._lock:
            connections = dict(self._connections)
        for thread, connection in connections.items():
            connection.interrupt()
            thread.join(IDLE_SECONDS)


def talk_http(
    answer: Callable[[Request], Response], context: ssl.SSLContext | None = None
) -> Callable[[Connection], None]:
    """How to talk HTTP/1.1 on a connection, within TLS if there is a context for it."""

    def talk(connection: Connection) -> None:
        greeted = connection.peek() == TLS_HANDSHAKE
        if greeted and context is None:
            body = page("400 Bad Request", "nginx")
            connection.send(html(400, body, reason="Bad Request").head() + body.encode())
            return
        if context is not None:
            if not greeted:
                refuse_plain_http(connection)
                return
            connection.start_tls(context)
        while (request := connection.read_request()) is not None:
            response = answer(request)
            if response.wire is not None:
                response.wire(connection, response)
                return
            if not connection.respond(request, response):
                break
        connection.end_tls()

    return talk


def refuse_plain_http(connection: Connection) -> None:
    """What a TLS port says to somebody who does not speak TLS, in the words of nginx."""
    if (request := connection.read_request()) is not None:
        body = page("400 The plain HTTP request was sent to HTTPS port", "nginx")
        connection.respond(request, html(400, body, reason="Bad Request", close=True))


def html(
    status: int,
    body: str,
    *headers: tuple[str, str],
    reason: str = "",
    close: bool = False,
    server: str = "nginx",
) -> Response:
    """An HTML answer of something that is not Bitbucket."""
    kind = [("Server", server), ("Content-Type", "text/html")]
    return Response(status, [*kind, *headers], body.encode(), reason=reason, close=close)


def page(title: str, footer: str = "", body: str = "") -> str:
    """A small HTML page."""
    end = f"<hr><center>{footer}</center>" if footer else ""
    return (
        f"<html>\r\n<head><title>{title}</title></head>\r\n<body>\r\n"
        f"<center><h1>{title}</h1></center>{body}{end}\r\n</body>\r\n</html>\r\n"
    )
