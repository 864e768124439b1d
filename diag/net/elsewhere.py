"""Requests to anybody but the target: redirects to elsewhere, certificates' issuers and revocation
lists, http:// through a proxy. httpx sends them, over connections that go the way of the run.

httpx itself offers no way to say how a connection is made: httpcore, below it, does.
"""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from http.cookiejar import CookieJar
from typing import TYPE_CHECKING

import httpcore
import httpx

from diag.net import wire
from diag.net.exchange import WITHHELD, Exchange, Trouble, classify, unheard_of

if TYPE_CHECKING:
    from diag.context import Run


class Elsewhere:
    """Carries requests to any origin."""

    def __init__(self, run: Run, *, verify: bool) -> None:
        self._transport = _Transport(run, verify=verify)
        self._client = httpx.Client(
            transport=self._transport,
            cookies=_NoCookies(),
            trust_env=False,
            timeout=None,  # noqa: S113 - each exchange times itself
        )

    def send(self, exchange: Exchange) -> Callable[[], _Head]:
        """What sends the request of `exchange` and reads the head of its answer: httpx does both at
        once. It raises Trouble: no connection, no answer, or none that is HTTP."""
        return partial(self._send, exchange)

    def _send(self, exchange: Exchange) -> _Head:
        question = exchange.question
        request = self._client.build_request(
            question.method,
            question.url.text,
            headers=[(key.encode(), value.encode()) for key, value in question.headers],
            content=question.content,
            extensions={"bbdiag": exchange},
        )
        return _Head(self._client.send(request, stream=True, follow_redirects=False))

    def rest(self) -> None:
        """Close the idle connections; whoever would just have used one gets a new one."""
        self._transport.rest()

    def close(self) -> None:
        self._client.close()


class _Head:
    def __init__(self, response: httpx.Response) -> None:
        self._response = response
        self.status = response.status_code
        self.headers = response.headers.multi_items()

    def pieces(self) -> Iterator[bytes]:
        return self._response.iter_raw()

    def close(self) -> None:
        self._response.close()


class _NoCookies(CookieJar):
    """Keeps nothing: a session cookie would sign in a request that is meant to be anonymous."""

    def extract_cookies(self, response: object, request: object) -> None:
        del response, request


class _Response(httpx.Response):
    """An answer as it came: httpx would read the Location of a redirect, and fail on a bad one."""

    @property
    def has_redirect_location(self) -> bool:
        return False


class _Transport(httpx.BaseTransport):
    """httpx over httpcore with connections of ours."""

    def __init__(self, run: Run, *, verify: bool) -> None:
        self._dialer = run.dialer
        self._kept = self._pool(run, verify, keep=8)
        self._single = self._pool(run, verify, keep=0)  # a connection of its own for each request

    @staticmethod
    def _pool(run: Run, verify: bool, keep: int) -> httpcore.ConnectionPool:
        return httpcore.ConnectionPool(
            # A placeholder: `_Stream` takes the real one, and only where TLS is to be started.
            ssl_context=ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT),
            max_connections=16,
            max_keepalive_connections=keep,
            keepalive_expiry=30,
            network_backend=_Backend(run, verify),
        )

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        exchange: Exchange = request.extensions["bbdiag"]
        url = exchange.question.url
        headers = list(request.headers.raw)
        extensions: dict[str, object] = {"timeout": {"pool": exchange.left()}}
        if url.scheme == "http" and (forward := self._dialer.forwarder(url.host, url.port)):
            # An ordinary proxy takes http:// requests whole, it opens no tunnel for them.
            extensions["target"] = bytes(url.text, "ascii")
            if forward.authorization is not None:
                headers.append((b"Proxy-Authorization", forward.authorization.encode()))
        _LOCAL.exchange = exchange
        try:
            response = (self._single if exchange.fresh else self._kept).handle_request(
                httpcore.Request(
                    method=request.method,
                    url=httpcore.URL(
                        scheme=request.url.raw_scheme,
                        host=request.url.raw_host,
                        port=request.url.port,
                        target=request.url.raw_path,
                    ),
                    headers=headers,
                    content=request.stream,
                    extensions=extensions,
                )
            )
        except Exception as error:
            raise _classify(error) from None
        if response.status == 407:
            self._dialer.login_refused(url.host, url.port)
        return _Response(
            status_code=response.status,
            headers=response.headers,
            stream=_Body(response),
            extensions={"http_version": response.extensions.get("http_version", b"HTTP/1.1")},
        )

    def rest(self) -> None:
        for connection in self._kept.connections:
            if connection.is_idle():
                connection.close()

    def close(self) -> None:
        self._kept.close()
        self._single.close()


class _Body(httpx.SyncByteStream):
    def __init__(self, response: httpcore.Response) -> None:
        self._response = response

    def __iter__(self) -> Iterator[bytes]:
        try:
            yield from self._response.iter_stream()
        except Exception as error:
            raise _classify(error) from None

    def close(self) -> None:
        self._response.close()


class _Local(threading.local):
    """The exchange of this thread: httpcore hands its streams no more than bytes and timeouts."""

    exchange: Exchange


_LOCAL = _Local()


class _Backend(httpcore.NetworkBackend):
    def __init__(self, run: Run, verify: bool) -> None:
        self._run = run
        self._verify = verify

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[object] | None = None,
    ) -> httpcore.NetworkStream:
        del timeout, local_address, socket_options  # the run's own rules apply
        exchange = _LOCAL.exchange
        if not exchange.fresh and (parked := self._run.dialer.take(host, port)) is not None:
            if not isinstance(parked, ssl.SSLSocket):
                exchange.reused = True
                return _Stream(self._run, parked, self._verify)
            parked.close()  # of the target, which is not asked here
        return _Stream(self._run, wire.connect(self._run, exchange), self._verify)


class _Stream(httpcore.NetworkStream):
    """One connection."""

    def __init__(self, run: Run, sock: socket.socket, verify: bool) -> None:
        self._run = run
        self._sock = sock
        self._verify = verify
        self._used = False
        self._broken: OSError | None = None  # writing failed: the kernel tells that only once

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        del timeout
        exchange = _LOCAL.exchange
        if time.monotonic() >= exchange.until:  # who never stops sending is late too
            raise TimeoutError
        self._sock.settimeout(exchange.left())
        data = self._sock.recv(max_bytes)
        if not data and self._broken is not None:
            raise self._broken
        self._used = True
        exchange.heard(data)
        return data

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        del timeout
        exchange = _LOCAL.exchange
        exchange.before_sending()
        exchange.reused = exchange.reused or self._used
        self._sock.settimeout(exchange.left())
        try:
            self._sock.sendall(buffer)
        except TimeoutError:
            raise
        except OSError as error:  # httpcore then reads what the server said before it hung up
            self._broken = error
            raise httpcore.WriteError(str(error)) from None

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> httpcore.NetworkStream:
        del ssl_context, server_hostname, timeout
        self._sock = wire.secure(self._run, _LOCAL.exchange, self._sock, verify=self._verify)
        return self

    def close(self) -> None:
        self._sock.close()

    def get_extra_info(self, info: str) -> object:
        if info == "is_readable":  # asked before a kept connection is used again: has it ended?
            return wire.readable(self._sock)
        return self._sock if info == "socket" else None


def _classify(error: Exception) -> Trouble:
    """The failure behind an exception of httpcore, or of what is below it."""
    if isinstance(error, httpcore.TimeoutException):
        return classify(TimeoutError())
    if isinstance(error, httpcore.LocalProtocolError):
        return Trouble("withheld", WITHHELD)
    if isinstance(error, httpcore.RemoteProtocolError):
        return unheard_of(str(error))
    return classify(error)
