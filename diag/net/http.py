"""HTTP: the one place where requests are sent, and the only one where the secret is revealed.

httpx does the protocol; the connections come from `Dialer`, so that the first request travels on
the connection that `tcp` opened and `tls` verified. Redirects are never followed, cookies are never
kept, nothing is retried but a request that met a kept-alive connection the server had just closed.
"""

from __future__ import annotations

import json
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from http.cookiejar import DefaultCookiePolicy
from typing import TYPE_CHECKING, Literal
from urllib.parse import urlencode, urlsplit

import httpcore
import httpx

from diag.facts import Credential, Target, Wire
from diag.secret import authorization
from diag.version import VERSION

if TYPE_CHECKING:
    from diag.context import Run
    from diag.model import Json
    from diag.net.dial import Dialer

Failure = Literal[
    "connect",  # no connection: detail says why
    "tls",  # a further connection failed verification or handshake
    "reset",
    "empty",  # closed without an answer
    "truncated",  # closed before the announced end
    "timeout",  # no head in time
    "slow",  # the body does not come to its end in time
    "endless",  # the body is larger than anything sensible
    "headers-too-large",
    "not-http",
    "withheld",  # the secret may not be sent there (any more), so the request was not made
    "deadline",  # the run's time is over
]
USER_AGENT = f"bbdiag/{VERSION}"
MAX_BODY = 8 * 1024 * 1024  # bytes; a page of 1000 repositories is about 2.5 MB
_FLOW = 4096  # bytes a second: a body that flows at least like this may take longer


class Headers:
    """Response headers: case-insensitive, repeated ones kept apart."""

    __slots__ = ("raw",)

    def __init__(self, raw: Iterable[tuple[str, str]] = ()) -> None:
        self.raw: tuple[tuple[str, str], ...] = tuple((name.lower(), value) for name, value in raw)

    def get(self, name: str, default: str | None = None) -> str | None:
        """All values of `name` joined by a comma, or `default`."""
        values = self.all(name)
        return ", ".join(values) if values else default

    def all(self, name: str) -> list[str]:
        return [value for key, value in self.raw if key == name.lower()]

    def __contains__(self, name: str) -> bool:
        return any(key == name.lower() for key, _ in self.raw)

    def __iter__(self) -> Iterator[str]:
        return iter(dict(self.raw))


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of one request; `failure` is None when a whole answer came, whatever its status."""

    url: str
    method: str = "GET"
    status: int | None = None
    headers: Headers = field(default_factory=Headers)
    body: bytes = field(default=b"", repr=False)
    failure: Failure | None = None
    detail: str = ""
    elapsed_ms: int = 0
    at: float = 0.0  # time.time() when the head arrived
    credential_sent: bool = False

    def header(self, name: str) -> str | None:
        return self.headers.get(name)

    @property
    def content_type(self) -> str:
        """The media type in lower case, without parameters."""
        return (self.header("content-type") or "").split(";")[0].strip().lower()

    def json(self) -> Json:
        """The body as JSON, None if it is not (or is the JSON null)."""
        try:
            value: Json = json.loads(self.body)
        except (ValueError, RecursionError):
            return None
        return value

    def text(self, limit: int = 100_000) -> str:
        """The first `limit` bytes of the body as text, undecodable bytes replaced."""
        return self.body[:limit].decode("utf-8", errors="replace")


class Engine:
    """What all checks of a run share: connections, the fuse of the secret, the request counter."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.base: str | None = None
        self.requests = 0
        self.fuse_blown = False
        self._lock = threading.Lock()
        self._clients: dict[bool, httpx.Client] = {}

    def client(self, verify: bool) -> httpx.Client:
        with self._lock:
            if verify not in self._clients:
                trust = self.run.trust
                context = trust.context() if verify else trust.unverified()
                client = httpx.Client(
                    transport=_Transport(self.run.dialer, context), trust_env=False, timeout=None
                )
                client.cookies.jar.set_policy(DefaultCookiePolicy(allowed_domains=[]))
                self._clients[verify] = client
            return self._clients[verify]

    def may_send_secret(self, url: str) -> bool:
        """The contract's rule for the secret: to the origin that the user typed, over TLS that
        passed verification or over http:// where the user typed that, and never after a 401."""
        target = self.run.facts.get(Target)
        wire = self.run.facts.get(Wire)
        if self.fuse_blown or not isinstance(target, Target) or not isinstance(wire, Wire):
            return False
        if _origin(url) != (target.scheme, target.host, target.port):
            return False
        return wire.verified if target.scheme == "https" else True

    def note(self, answer: Answer) -> None:
        if answer.credential_sent and answer.status == 401:
            self.fuse_blown = True

    def count(self) -> None:
        with self._lock:
            self.requests += 1

    def close(self) -> None:
        for client in self._clients.values():
            client.close()


class Http:
    """The engine as one check sees it: its requests are timed under the check's name."""

    def __init__(self, engine: Engine, record: Callable[[str, str, int, int], None]) -> None:
        self._engine = engine
        self._record = record

    @property
    def base(self) -> str | None:
        """Where paths are relative to: the instance's base URL, once check `http` found it."""
        return self._engine.base

    @base.setter
    def base(self, value: str) -> None:
        self._engine.base = value

    def get(
        self,
        url: str,
        *,
        query: Mapping[str, str | int] | Sequence[tuple[str, str | int]] | None = None,
        auth: bool = False,
        method: Literal["GET", "HEAD"] = "GET",
        headers: Mapping[str, str] | None = None,
        max_bytes: int = MAX_BODY,
        timeout: float | None = None,
        fresh: bool = False,
        verify: bool | None = None,
    ) -> Answer:
        """Send one request and return what came, never raising for trouble on the network.

        Args:
            url: absolute, or a path below the instance's base URL.
            query: parameters, encoded here.
            auth: send the secret, where the contract allows it; else `failure` is "withheld".
            max_bytes: a longer body is cut and is a failure, "endless".
            timeout: seconds until the head must be there, and again for the body (longer as long
                as it flows); default `--timeout`. Both end with the run's deadline.
            fresh: on a connection of its own.
            verify: False: do not verify the certificate (never with `auth`); default: as the run.
        """
        engine = self._engine
        full = url if "://" in url else (engine.base or self._target().base_url) + url
        if query:
            full += ("&" if "?" in full else "?") + urlencode(query)
        sending = {"User-Agent": USER_AGENT, "Accept": "application/json"}
        sending |= {"Accept-Encoding": "identity", **(headers or {})}
        if fresh:
            sending["Connection"] = "close"
        if auth:
            credential = engine.run.facts.get(Credential)
            if not isinstance(credential, Credential) or credential.secret is None:
                return Answer(full, method, failure="withheld", detail="no credential was given")
            if verify is False or not engine.may_send_secret(full):
                return Answer(full, method, failure="withheld", detail="not safe to send it there")
            sending["Authorization"] = authorization(
                credential.scheme, credential.user, credential.secret
            )
        if verify is None:
            wire = engine.run.facts.get(Wire)
            verify = not (isinstance(wire, Wire) and wire.secure and not wire.verified)
        exchange = _Exchange(engine, method, full, sending, verify, max_bytes, auth)
        started = engine.run.elapsed_ms()
        answer = exchange.perform(timeout, fresh)
        if answer.failure in ("empty", "reset") and exchange.reused:
            answer = _Exchange(engine, method, full, sending, verify, max_bytes, auth).perform(
                timeout, fresh=True
            )
        self._record("request", f"{method} {full}", started, engine.run.elapsed_ms() - started)
        return answer

    def _target(self) -> Target:
        target = self._engine.run.facts[Target]
        assert isinstance(target, Target)  # noqa: S101 - nothing sends a request without a target
        return target


class _Exchange:
    """One request and its answer."""

    def __init__(
        self,
        engine: Engine,
        method: str,
        url: str,
        headers: Mapping[str, str],
        verify: bool,
        max_bytes: int,
        auth: bool,
    ) -> None:
        self.engine = engine
        self.method = method
        self.url = url
        self.headers = headers
        self.verify = verify
        self.max_bytes = max_bytes
        self.auth = auth
        self.reused = False

    def perform(self, timeout: float | None, fresh: bool) -> Answer:
        run = self.engine.run
        limit = min(timeout or run.settings.timeout, run.remaining())
        if limit <= 0:
            return Answer(self.url, self.method, failure="deadline", detail="the time is over")
        self.engine.count()
        began = time.monotonic()
        head: httpx.Response | None = None
        body = bytearray()
        at = 0.0
        failure: Failure | None = None
        detail = ""
        try:
            client = self.engine.client(self.verify)
            request = client.build_request(
                self.method,
                self.url,
                headers={key.encode(): value.encode() for key, value in self.headers.items()},
                extensions={"bbdiag": {"until": began + limit, "fresh": fresh, "exchange": self}},
            )
            head = client.send(request, stream=True, follow_redirects=False)
            at = time.time()
            request.extensions["bbdiag"]["until"] = time.monotonic() + limit
            failure, detail = self._read(head, request.extensions["bbdiag"], body, limit)
        except _Trouble as trouble:
            failure, detail = trouble.failure, trouble.detail
            if head is not None and failure in ("timeout", "empty", "reset"):
                failure = "slow" if failure == "timeout" else "truncated"
        except httpx.InvalidURL as error:
            failure, detail = "connect", str(error)
        except httpx.DecodingError as error:
            failure, detail = "truncated", str(error)
        finally:
            if head is not None:
                head.close()
        answer = Answer(
            self.url,
            self.method,
            None if head is None else head.status_code,
            Headers([] if head is None else head.headers.multi_items()),
            bytes(body),
            failure,
            run.scrubber.text(detail, 300),
            round((time.monotonic() - began) * 1000),
            at,
            self.auth,
        )
        self.engine.note(answer)
        return answer

    def _read(
        self, head: httpx.Response, state: dict[str, object], body: bytearray, limit: float
    ) -> tuple[Failure | None, str]:
        began = time.monotonic()
        for chunk in head.iter_bytes():
            body += chunk
            spent = time.monotonic() - began
            if len(body) > self.max_bytes:
                return "endless", f"more than {self.max_bytes} bytes, no end in sight"
            left = self.engine.run.remaining()
            if len(body) >= _FLOW * spent:  # it flows: give it time
                state["until"] = time.monotonic() + min(limit, left)
            elif spent > limit or left <= 0:
                return "slow", f"{len(body)} bytes in {spent:.1f} s, and not at its end"
        return None, ""


class _Trouble(Exception):  # noqa: N818 - carries a classified failure, is never shown
    def __init__(self, failure: Failure, detail: str) -> None:
        self.failure = failure
        self.detail = detail


class _Transport(httpx.BaseTransport):
    """httpx over httpcore with connections of ours: httpx itself offers no way to hand one in."""

    def __init__(self, dialer: Dialer, context: ssl.SSLContext) -> None:
        self._dialer = dialer
        self._pool = httpcore.ConnectionPool(
            ssl_context=context,
            max_connections=16,
            max_keepalive_connections=8,
            keepalive_expiry=30,
            network_backend=_Backend(dialer),
        )

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        state = request.extensions["bbdiag"]
        headers = list(request.headers.raw)
        extensions: dict[str, object] = {}
        host, port = request.url.host, request.url.port or _PORTS[request.url.scheme]
        if request.url.scheme == "http" and (forward := self._dialer.forwarder(host, port)):
            # An ordinary proxy takes http:// requests whole, it opens no tunnel for them.
            extensions["target"] = bytes(str(request.url), "ascii")
            if forward.authorization is not None:
                headers.append((b"Proxy-Authorization", forward.authorization.encode()))
        _LOCAL.state = state
        try:
            response = self._pool.handle_request(
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
        return httpx.Response(
            status_code=response.status,
            headers=response.headers,
            stream=_Body(response),
            extensions={"http_version": response.extensions.get("http_version", b"HTTP/1.1")},
        )

    def close(self) -> None:
        self._pool.close()


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


class _State(threading.local):
    """Until when the exchange of this thread may wait: httpcore's own timeouts are per read."""

    state: dict[str, object]  # noqa: RUF012 - annotation of a thread-local, not a default

    def left(self) -> float:
        until = self.state["until"]
        assert isinstance(until, float)  # noqa: S101 - set by _Exchange alone
        return max(0.001, until - time.monotonic())


_LOCAL = _State()
_PORTS = {"http": 80, "https": 443}


class _Backend(httpcore.NetworkBackend):
    def __init__(self, dialer: Dialer) -> None:
        self._dialer = dialer

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[object] | None = None,
    ) -> httpcore.NetworkStream:
        del timeout, local_address, socket_options  # the run's own rules apply
        fresh = bool(_LOCAL.state["fresh"])
        try:
            sock = self._dialer.connect(host, port, _LOCAL.left(), fresh=fresh)
        except TimeoutError as error:
            raise _Trouble("connect", f"no connection in time: {error}") from None
        except OSError as error:
            raise _Trouble("connect", str(error)) from None
        return _Stream(sock)


class _Stream(httpcore.NetworkStream):
    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._answers = 0

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        del timeout
        self._sock.settimeout(_LOCAL.left())
        data = self._sock.recv(max_bytes)
        self._answers += 1
        return data

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        del timeout
        if self._answers:
            exchange = _LOCAL.state["exchange"]
            assert isinstance(exchange, _Exchange)  # noqa: S101 - set by _Exchange alone
            exchange.reused = True
        self._sock.settimeout(_LOCAL.left())
        self._sock.sendall(buffer)

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> httpcore.NetworkStream:
        del timeout
        if isinstance(self._sock, ssl.SSLSocket):  # verified by check `tls`, and parked for us
            return self
        self._sock.settimeout(_LOCAL.left())
        try:
            self._sock = ssl_context.wrap_socket(self._sock, server_hostname=server_hostname)
        except (OSError, ValueError) as error:
            self._sock.close()
            raise _Trouble("tls", str(error)) from None
        return self

    def close(self) -> None:
        self._sock.close()

    def get_extra_info(self, info: str) -> object:
        if info == "is_readable":  # httpcore asks before it uses a kept connection again
            try:
                self._sock.settimeout(0)
                return bool(self._sock.recv(1, socket.MSG_PEEK)) or True
            except (BlockingIOError, ssl.SSLWantReadError):
                return False
            except (OSError, ValueError):
                return self._readable_tls()
        return self._sock if info == "socket" else None

    def _readable_tls(self) -> bool:
        """An SSLSocket cannot be peeked: ask the kernel whether anything has arrived."""
        import select

        try:
            return bool(select.select([self._sock], [], [], 0)[0])
        except (OSError, ValueError):
            return True


def _classify(error: Exception) -> _Trouble:
    """The failure behind an exception of httpcore, h11, ssl or the socket."""
    if isinstance(error, _Trouble):
        return error
    text = f"{error}"
    if isinstance(error, TimeoutError):
        return _Trouble("timeout", "no answer in time")
    if isinstance(error, (ConnectionResetError, BrokenPipeError)):
        return _Trouble("reset", text)
    if isinstance(error, (ssl.SSLEOFError, ssl.SSLZeroReturnError)):
        return _Trouble("empty", text)
    if isinstance(error, ssl.SSLError):
        return _Trouble("tls", text)
    if isinstance(error, httpcore.RemoteProtocolError):
        if "without sending" in text:
            return _Trouble("empty", text)
        if "peer closed" in text or "incomplete" in text:
            return _Trouble("truncated", text)
        if "too long" in text or "too large" in text or "too many" in text:
            return _Trouble("headers-too-large", text)
        return _Trouble("not-http", text)
    if isinstance(error, OSError):
        return _Trouble("reset", text)
    return _Trouble("not-http", f"{type(error).__name__}: {text}")


def _origin(url: str) -> tuple[str, str, int]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname or "", parts.port or _PORTS.get(parts.scheme, 0)
