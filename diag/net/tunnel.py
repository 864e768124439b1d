"""The way through a proxy: reaching it, CONNECT, the SOCKS5 handshake, forwarded requests."""

from __future__ import annotations

import ipaddress
import re
import selectors
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from diag.net.dial import Forwarder
from diag.net.proxy import Reply
from diag.net.proxyenv import OWN, BadProxyUrlError, Proxy, parse
from diag.secret import Secret, socks_login
from diag.version import VERSION

if TYPE_CHECKING:
    from diag.net.dial import Connector, Dialer
    from diag.net.tls import Handshake

_HEAD_LIMIT = 64 * 1024  # bytes
_BODY_LIMIT = 64 * 1024
_BODY_PATIENCE = 1.0  # seconds for the page that comes with a refusal
AGENT = f"bbdiag/{VERSION}"


class Way:
    """The way through one proxy. `context` gives what verifies an https:// proxy."""

    def __init__(self, proxy: Proxy, dialer: Dialer, context: Callable[[], ssl.SSLContext]) -> None:
        self.proxy = proxy
        self.peer = (proxy.host, proxy.port)  # the address and port that were connected to
        self.addresses: dict[str, str] = {}  # for socks5://, which has names resolved on this side
        self._dialer = dialer
        self._context = context
        self._refused = False

    @property
    def forwards(self) -> bool:
        """Whether it takes http:// requests whole; a SOCKS proxy only knows connections."""
        return self.proxy.scheme in ("http", "https")

    def dial(self, timeout: float) -> socket.socket:
        """A TCP connection to the proxy. Raises OSError."""
        sock = self._dialer.connect(
            self.proxy.host, self.proxy.port, timeout, fresh=True, direct=True
        )
        try:
            self.peer = sock.getpeername()[:2]
        except OSError:  # reset meanwhile
            sock.close()
            raise
        return sock

    def shake(self, sock: socket.socket, timeout: float) -> Handshake:
        """TLS with the proxy itself, whose certificate must be good."""
        from diag.net import tls

        return tls.shake(sock, self._context(), self.proxy.host, timeout)

    def reach(self, timeout: float) -> socket.socket:
        """A connection on which the proxy can be asked, TLS and all. Raises OSError."""
        end = time.monotonic() + timeout
        sock = self.dial(timeout)
        if self.proxy.scheme != "https":
            return sock
        shaken = self.shake(sock, max(0.001, end - time.monotonic()))
        if shaken.sock is None:
            raise ConnectionError(f"TLS with the proxy {self.proxy.url}: {shaken.detail}")
        return shaken.sock

    def ask(self, sock: socket.socket, host: str, port: int, timeout: float) -> Reply:
        """Ask for a tunnel to (host, port) on a connection to the proxy; the connection is closed
        unless it has become the tunnel."""
        if not self.forwards:
            return _socks5(sock, self.proxy, self.addresses.get(host, host), port, timeout)
        place = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        return exchange(sock, self._request(f"CONNECT {place}", place), timeout)

    def fetch(self, sock: socket.socket, url: str, netloc: str, timeout: float) -> Reply:
        """Ask the proxy for http://… itself, and close the connection."""
        return exchange(sock, self._request(f"GET {url}", netloc, "Connection: close"), timeout)

    def _request(self, what: str, host: str, *more: str) -> bytes:
        lines = [f"{what} HTTP/1.1", f"Host: {host}", f"User-Agent: {AGENT}", *more]
        if (authorization := self.proxy.authorization) is not None:
            lines.append(f"Proxy-Authorization: {authorization}")
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1", "replace")

    def connect(self, host: str, port: int, timeout: float) -> socket.socket:
        """A tunnel to (host, port), for `Dialer`.

        Raises:
            OSError: the proxy cannot be reached or does not open it; after a 407 at once, as its
                password is not sent a second time.
        """
        if self._refused:
            raise ConnectionRefusedError(f"the proxy {self.proxy.url} does not accept the login")
        end = time.monotonic() + timeout
        reply = self.ask(self.reach(timeout), host, port, max(0.001, end - time.monotonic()))
        if reply.tunnel is not None:
            return reply.tunnel
        self._refused = reply.status in (401, 407)
        if reply.failure == "timeout":
            raise TimeoutError(f"the proxy {self.proxy.url} does not answer CONNECT")
        raise ConnectionError(f"the proxy {self.proxy.url} answers {reply.line or reply.detail!r}")

    def forwarder(self) -> Forwarder:
        """How http:// requests travel: the proxy takes them whole."""
        return Forwarder(
            lambda _host, _port, timeout: self.reach(timeout), self.proxy.authorization
        )

    def carry(self, scheme: str, host: str, port: int) -> Connector | Forwarder:
        """How a URL travels; for `Dialer`. Where a connect-to rule applies, even http:// goes by
        CONNECT: only that can name the rule's address (curl does the same)."""
        if scheme == "http" and self.forwards and self._dialer.mapped(host, port) is None:
            return self.forwarder()
        return self.connect


def router(
    environ: Mapping[str, str], dialer: Dialer, context: Callable[[], ssl.SSLContext]
) -> Callable[[str, str, int], Connector | Forwarder | None]:
    """The way to any other place, as the environment says: redirects may lead there."""

    ways: dict[str, Way] = {}  # one for each proxy: it knows whether its login was refused

    def route(scheme: str, host: str, port: int) -> Connector | Forwarder | None:
        proxy = OWN.decide(scheme, host, port, environ).proxy
        if proxy is None:
            return None
        try:
            way = ways.setdefault(proxy, Way(parse(proxy), dialer, context))
        except BadProxyUrlError:
            return None
        return way.carry(scheme, host, port)

    return route


# talking


def exchange(sock: socket.socket, request: bytes, timeout: float) -> Reply:
    """Send one request and read the answer. After a 2xx to CONNECT the connection is the tunnel,
    and not a byte too much was read from it; in any other case it is closed."""
    began = time.monotonic()
    clock = _Clock(sock, began + timeout)
    connect = request.startswith(b"CONNECT ")
    keep = False
    try:
        clock.send(request)
        head = _read_head(clock)
        if isinstance(head, Reply):
            return head
        status, reason, headers = head
        page = headers.get("content-type", "").lower().startswith("text/html")
        keep = connect and 200 <= status < 300 and not page
        if keep:
            tunnel = _bridge(sock) if isinstance(sock, ssl.SSLSocket) else sock
            return Reply(status, reason, headers, tunnel=tunnel, elapsed_ms=clock.spent_ms(began))
        elapsed = clock.spent_ms(began)
        return Reply(status, reason, headers, _read_body(clock, headers), elapsed_ms=elapsed)
    except TimeoutError:
        return Reply(failure="timeout", detail=f"no answer within {timeout:.1f} s")
    except OSError as error:
        return Reply(failure="reset", detail=str(error))
    finally:
        if not keep:
            sock.close()


class _Clock:
    """A socket on which everything together must be done by `until`."""

    def __init__(self, sock: socket.socket, until: float) -> None:
        self._sock = sock
        self.until = until

    def _arm(self) -> None:
        left = self.until - time.monotonic()
        if left <= 0:
            raise TimeoutError
        self._sock.settimeout(left)

    def send(self, data: bytes) -> None:
        self._arm()
        self._sock.sendall(data)

    def receive(self, size: int) -> bytes:
        """At most so many bytes; none at the end of the stream."""
        self._arm()
        return self._sock.recv(size)

    def exactly(self, size: int) -> bytes:
        """So many bytes, fewer only at the end of the stream."""
        data = b""
        while len(data) < size and (more := self.receive(size - len(data))):
            data += more
        return data

    @staticmethod
    def spent_ms(began: float) -> int:
        return round((time.monotonic() - began) * 1000)


def _read_head(clock: _Clock) -> tuple[int, str, dict[str, str]] | Reply:
    """Status, reason and headers, read byte by byte: what follows belongs to the tunnel."""
    data = bytearray()
    while not data.endswith((b"\r\n\r\n", b"\n\n")):
        byte = clock.receive(1)
        if not byte:
            within = "within its" if data else "without an"
            return Reply(failure="empty", detail=f"closed {within} answer")
        data += byte
        if not data.startswith(b"HTTP/"[: len(data)]) or len(data) > _HEAD_LIMIT:
            return _not_http(clock, data)
    lines = data.decode("latin-1").replace("\r\n", "\n").split("\n")
    seen = re.fullmatch(r"HTTP/\d\.\d (\d{3}) ?(.*)", lines[0])
    if seen is None:
        return _not_http(clock, data)
    headers: dict[str, str] = {}
    for line in lines[1:]:
        name, colon, value = line.partition(":")
        if colon:
            name, value = name.strip().lower(), value.strip()
            headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return int(seen[1]), seen[2].strip(), headers


def _not_http(clock: _Clock, data: bytearray) -> Reply:
    """Something else came; a little more of it is kept, if it is there already."""
    clock.until = min(clock.until, time.monotonic() + 0.1)
    try:
        data += clock.receive(64)
    except OSError:
        pass
    return Reply(failure="not-http", detail=data[:100].decode("latin-1"))


def _read_body(clock: _Clock, headers: Mapping[str, str]) -> str:
    clock.until = min(clock.until, time.monotonic() + _BODY_PATIENCE)
    length = headers.get("content-length", "")
    size = min(int(length), _BODY_LIMIT) if length.isdecimal() else _BODY_LIMIT
    data = bytearray()
    try:
        while len(data) < size and (more := clock.receive(size - len(data))):
            data += more
    except OSError:
        pass  # what has come is enough to be judged
    return data.decode("utf-8", errors="replace")


_SOCKS_ERRORS = {
    1: "general failure",
    2: "not allowed by its rules",
    3: "network unreachable",
    4: "host unreachable",
    5: "connection refused",
    6: "time to live expired",
    7: "command not supported",
    8: "kind of address not supported",
}


def _socks5(sock: socket.socket, proxy: Proxy, host: str, port: int, timeout: float) -> Reply:
    """The client's side of RFC 1928 and RFC 1929 (user name and password)."""
    began = time.monotonic()
    clock = _Clock(sock, began + timeout)
    keep = False
    try:
        clock.send(b"\x05\x02\x00\x02" if proxy.user is not None else b"\x05\x01\x00")
        clock.until = (
            began + timeout / 2
        )  # the greeting needs no thought: who is silent is no SOCKS
        answer = clock.exactly(2)
        clock.until = began + timeout
        if not answer:
            return Reply(failure="empty", detail="closed without an answer")
        if len(answer) < 2 or answer[0] != 5:
            return Reply(failure="not-http", detail=answer.decode("latin-1"))
        if answer[1] == 2:
            clock.send(socks_login(proxy.user or "", proxy.password or Secret("")))
            if clock.exactly(2)[1:] != b"\0":
                return Reply(407, "user name or password not accepted", failure="socks")
        elif answer[1] != 0:
            return Reply(407, "none of the offered ways to log in", failure="socks")
        clock.send(b"\x05\x01\x00" + _socks_address(host) + struct.pack(">H", port))
        answer = clock.exactly(4)
        if len(answer) < 4:
            return Reply(failure="empty", detail="closed without an answer to the request")
        if answer[1] != 0:
            text = _SOCKS_ERRORS.get(answer[1], "unknown error")
            return Reply(failure="socks", detail=f"SOCKS error {answer[1]}: {text}")
        clock.exactly({1: 4, 4: 16}.get(answer[3]) or clock.exactly(1)[0])  # its own address
        clock.exactly(2)
        keep = True
        return Reply(tunnel=sock, elapsed_ms=clock.spent_ms(began))
    except TimeoutError:
        return Reply(failure="timeout", detail=f"no answer within {timeout:.1f} s")
    except (OSError, IndexError) as error:
        return Reply(failure="reset", detail=str(error))
    finally:
        if not keep:
            sock.close()


def _socks_address(host: str) -> bytes:
    try:
        packed = ipaddress.ip_address(host).packed
    except ValueError:
        name = host.encode("idna")
        return bytes([3, len(name)]) + name
    return (b"\x01" if len(packed) == 4 else b"\x04") + packed


def _bridge(outer: ssl.SSLSocket) -> socket.socket:
    """A plain socket whose bytes travel inside `outer`: Python cannot put TLS on a TLS socket."""
    inner, handed_out = socket.socketpair()
    threading.Thread(target=_pump, args=(outer, inner), daemon=True).start()
    return handed_out


def _pump(outer: ssl.SSLSocket, inner: socket.socket) -> None:
    """Copy both ways until one side ends. One thread: an SSLSocket is not made for two."""
    with outer, inner, selectors.DefaultSelector() as ready:
        ready.register(outer, selectors.EVENT_READ)
        ready.register(inner, selectors.EVENT_READ)
        try:
            while True:
                sources = {key.fileobj for key, _ in ready.select()}
                if inner in sources:
                    if not (data := inner.recv(65536)):
                        return
                    outer.settimeout(None)
                    outer.sendall(data)
                if outer in sources and (arrived := _take(outer)) is not None:
                    if not arrived:
                        return
                    inner.sendall(arrived)
        except OSError:
            return


def _take(outer: ssl.SSLSocket) -> bytes | None:
    """What has arrived; None if that was only for TLS itself, such as a session ticket."""
    outer.settimeout(0)
    try:
        data = outer.recv(65536)
        while outer.pending():
            data += outer.recv(65536)
        return data
    except ssl.SSLWantReadError:
        return None
