"""HTTP: the one place where requests are sent, and the only one where the secret is revealed.

httpx does the protocol; the connections come from `Dialer`, so that the first request travels on
the connection that `tcp` opened and `tls` verified. Redirects are never followed, cookies are never
kept, nothing is retried but a request that met a kept-alive connection the server had just closed.
"""

from __future__ import annotations

import json
import select
import socket
import ssl
import threading
import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from http.cookiejar import CookieJar
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Literal
from urllib.parse import urlencode

import httpcore
import httpx

from diag.facts import Credential, Target, Wire
from diag.net import tcp
from diag.secret import Secret, authorization
from diag.target import TOKEN_URL
from diag.version import VERSION

if TYPE_CHECKING:
    from diag.context import Run
    from diag.model import Json

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
    "withheld",  # the secret may not be sent there (any more), or at all: nothing was sent
    "deadline",  # the run's time is over
]
USER_AGENT = f"bbdiag/{VERSION}"
GRANT_USERS = ("x-token-auth",)  # what git joins such a token with
_LARGEST_GRANT = 64 * 1024  # bytes; tokens have some 2,500
MAX_BODY = 8 * 1024 * 1024  # bytes; a page of 1000 repositories is about 2.5 MB
_FLOW = 4096  # bytes a second: a body that flows at least like this may take longer…
_LONGER = 4  # …, up to so many times the timeout
_PIECE = 64 * 1024  # bytes that are unpacked at a time: a small body may hold gigabytes
_HTTP = b"HTTP/"  # how an answer begins
_GREETING = 64  # bytes kept of something that begins otherwise


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
    head_ms: int = 0  # until the head arrived, connecting included
    greeting: bytes = b""  # the first bytes, where they are no HTTP
    # What comes of it after all, awaited for so many seconds: where `get` was told to linger.
    later: Callable[[float], Answer | None] | None = field(default=None, repr=False, compare=False)

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
        self._granted: Credential | None = None  # an OAuth consumer's token, in place of its secret
        self._grant_tried = False
        self._lock = threading.Lock()
        self._clients: dict[bool, httpx.Client] = {}
        self._transports: list[_Transport] = []

    def client(self, verify: bool) -> httpx.Client:
        with self._lock:
            if verify not in self._clients:
                self._transports.append(_Transport(self.run, verify))
                self._clients[verify] = httpx.Client(
                    transport=self._transports[-1],
                    cookies=_NoCookies(),
                    trust_env=False,
                    timeout=None,  # noqa: S113 - each exchange times itself
                )
            return self._clients[verify]

    def may_send_secret(self, url: httpx.URL) -> bool:
        """The contract's rule for the secret: to the origin that the user typed, over TLS that
        passed verification or over http:// where the user typed that, and never after a 401."""
        target = self.run.facts.get(Target)
        wire = self.run.facts.get(Wire)
        if self.fuse_blown or not isinstance(target, Target) or not isinstance(wire, Wire):
            return False
        if _origin(url) != (target.scheme, target.host.lower(), target.port):
            return False
        return wire.verified if target.scheme == "https" else True

    def credential(self) -> Credential | None:
        """What the run signs in with: what the user gave, or what a consumer got for it."""
        given = self.run.facts.get(Credential)
        return self._granted or (given if isinstance(given, Credential) else None)

    def consumer(self, url: str) -> Credential | None:
        """The OAuth consumer that may be exchanged for a token at `url`, once in a run: there is no
        other place for it than Bitbucket Cloud's, and no other request that may carry it."""
        target, given = self.run.facts.get(Target), self.run.facts.get(Credential)
        cloud = isinstance(target, Target) and target.kind == "cloud" and url == TOKEN_URL
        if not cloud or not isinstance(given, Credential) or given.scheme != "grant":
            return None
        with self._lock:
            tried, self._grant_tried = self._grant_tried or self.fuse_blown, True
        return None if tried else given

    def adopt(self, token: Secret) -> None:
        """Sign in with this token from now on, and keep it out of all output."""
        self.run.scrubber.learn(token, GRANT_USERS)
        self._granted = Credential(token, "bearer", None, "the OAuth consumer's grant")

    def count(self) -> None:
        with self._lock:
            self.requests += 1

    def rest(self) -> None:
        """Close the connections that are kept for further requests."""
        with self._lock:
            transports = list(self._transports)
        for transport in transports:
            transport.rest()

    def close(self) -> None:
        with self._lock:
            clients = list(self._clients.values())
        for client in clients:
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
        small: bool = False,
        linger: float = 0.0,
    ) -> Answer:
        """Send one request and return what came, never raising for trouble on the network.

        Args:
            url: absolute, or a path below the instance's base URL.
            query: parameters, encoded here.
            auth: send the secret, where the contract allows it; else `failure` is "withheld".
            max_bytes: a longer body is cut and is a failure, "endless".
            timeout: seconds until the head must be there, and again for the body (up to four times
                that while it flows); default `--timeout`. Both end with the run's deadline.
            fresh: on a connection of its own.
            verify: whether to verify the certificate (`auth` always does); default: as the run.
            small: on a direct connection on which neither side sends packets of more than about
                600 bytes.
            linger: seconds for which a head that is late goes on being awaited in the background:
                then the answer, a "timeout" as without, has `later`.
        """
        engine = self._engine
        full = (engine.base or self._target().base_url) + url if url.startswith("/") else url
        if query:
            full += ("&" if "?" in full else "?") + urlencode(query)
        try:
            address = httpx.URL(full).copy_with(fragment=None, userinfo=b"")
        except (httpx.InvalidURL, ValueError) as error:
            return Answer(full, method, failure="connect", detail=self._quoted(error))
        full = str(address)
        if not _can_be_asked(address):
            return Answer(full, method, failure="connect", detail="no http:// or https:// address")
        sending = {"User-Agent": USER_AGENT, "Accept": "application/json"}
        sending |= {"Accept-Encoding": "identity", **(headers or {})}
        if auth:
            credential = engine.credential()
            if credential is None or credential.secret is None:
                return Answer(full, method, failure="withheld", detail="no credential was given")
            if credential.scheme == "grant":
                return Answer(full, method, failure="withheld", detail="no token was granted")
            if verify is False or not engine.may_send_secret(address):
                return Answer(full, method, failure="withheld", detail="not safe to send it there")
            sending["Authorization"] = authorization(
                credential.scheme, credential.user, credential.secret
            )
        if verify is None:
            wire = engine.run.facts.get(Wire)
            verify = not (isinstance(wire, Wire) and wire.secure and not wire.verified)
        question = _Question(method, address, sending, verify, max_bytes, auth, small=small)
        started = engine.run.elapsed_ms()
        exchange = _Exchange(engine, question, timeout, fresh, linger)
        answer = exchange.linger() if linger else exchange.perform()
        if answer.failure in {"empty", "reset"} and exchange.reused:
            # A kept connection that the server closes meanwhile says nothing about the server.
            answer = _Exchange(engine, question, timeout, fresh=True).perform()
        self._record("request", f"{method} {full}", started, engine.run.elapsed_ms() - started)
        return answer

    def client_credentials_grant(self, url: str) -> Answer:
        """Exchange an OAuth consumer's key and secret for the token the run then signs in with.

        The one request of bbdiag that is no GET or HEAD, as RFC 6749, section 4.4, wants it: made
        only for a credential that is good for nothing else, only to Bitbucket Cloud's own address,
        over TLS that passes verification here and now, at most once in a run and never again. The
        answer is without the tokens in it.
        """
        engine = self._engine
        consumer = engine.consumer(url)
        if consumer is None or consumer.secret is None:
            return Answer(url, "POST", failure="withheld", detail="no consumer to be exchanged")
        headers = {
            "User-Agent": USER_AGENT,
            "Accept": "application/json",
            "Accept-Encoding": "identity",
            "Content-Type": "application/x-www-form-urlencoded",
            "Authorization": authorization("basic", consumer.user, consumer.secret),
        }
        form = b"grant_type=client_credentials"
        question = _Question("POST", httpx.URL(url), headers, True, _LARGEST_GRANT, True, form)
        started = engine.run.elapsed_ms()
        answer = _Exchange(engine, question, None, fresh=True).perform()
        self._record("request", f"POST {url}", started, engine.run.elapsed_ms() - started)
        told = answer.json()
        if not isinstance(told, dict):
            return answer
        token = told.get("access_token")
        if answer.status == 200 and isinstance(token, str) and token:
            engine.adopt(Secret(token))
        shown = {name: value for name, value in told.items() if not name.endswith("_token")}
        return replace(answer, body=json.dumps(shown).encode())

    @property
    def granted(self) -> bool:
        """Whether a consumer got its token."""
        credential = self._engine.credential()
        return credential is not None and credential.scheme != "grant"

    def _target(self) -> Target:
        target = self._engine.run.facts[Target]
        assert isinstance(target, Target)  # noqa: S101 - nothing sends a request without a target
        return target

    def _quoted(self, error: Exception) -> str:
        return self._engine.run.scrubber.text(str(error), 300)


@dataclass(frozen=True, slots=True)
class _Question:
    """A request as it is to be sent."""

    method: str
    url: httpx.URL
    headers: Mapping[str, str] = field(repr=False)  # may hold the secret
    verify: bool
    max_bytes: int
    auth: bool
    content: bytes | None = None
    small: bool = False


class _Exchange:
    """One request and its answer."""

    def __init__(
        self,
        engine: Engine,
        question: _Question,
        timeout: float | None,
        fresh: bool,
        overtime: float = 0.0,
    ) -> None:
        self.engine = engine
        self.question = question
        self.fresh = fresh
        self.patience = timeout or engine.run.settings.timeout
        self.overtime = overtime  # seconds that the head may take in addition
        self.heard = threading.Event()  # the head is there, or it will not come
        self.until = 0.0  # when head or body must be there: httpcore's timeouts are per read
        self.cut_short = False  # not by the server's slowness, but by the end of the run
        self.reused = False  # the connection was open before
        self.credential_sent = False
        self.greeting = b""  # what came first, until it is known to be HTTP

    def allow(self, overtime: float = 0.0) -> bool:
        """Give the server its time, as far as the run has any left; False if it has none."""
        left = self.engine.run.remaining()
        self.until = time.monotonic() + min(self.patience + overtime, left)
        self.cut_short = left < self.patience
        return left > 0

    def linger(self) -> Answer:
        """Perform; but if the head is late, leave that to a thread, for whom it may concern."""
        performed: SimpleQueue[Answer | BaseException] = SimpleQueue()

        def work() -> None:
            try:
                performed.put(self.perform())
            except BaseException as error:  # raised again by `later`
                performed.put(error)
            self.heard.set()

        def later(seconds: float | None) -> Answer | None:
            try:
                result = performed.get(timeout=seconds)
            except Empty:
                return None
            if isinstance(result, BaseException):
                raise result
            return result

        began, left = time.monotonic(), self.engine.run.remaining()
        threading.Thread(target=work, daemon=True).start()
        if self.heard.wait(min(self.patience, left)) and (answer := later(None)) is not None:
            return answer
        failure: Failure = "deadline" if left < self.patience else "timeout"
        spent = round((time.monotonic() - began) * 1000)
        return Answer(
            str(self.question.url),
            self.question.method,
            failure=failure,
            detail="no answer in time",
            elapsed_ms=spent,
            credential_sent=self.credential_sent,
            later=later,
        )

    def left(self) -> float:
        """Seconds that the next operation on the socket may take."""
        return max(0.001, self.until - time.monotonic())

    def perform(self) -> Answer:
        question = self.question
        url = str(question.url)
        if not self.allow(self.overtime):
            return Answer(url, question.method, failure="deadline", detail="the time is over")
        self.engine.count()
        began = time.monotonic()
        head: httpx.Response | None = None
        body = bytearray()
        at = 0.0
        head_ms = 0
        failure: Failure | None = None
        detail = ""
        try:
            client = self.engine.client(question.verify)
            request = client.build_request(
                question.method,
                question.url,
                headers=[(key.encode(), value.encode()) for key, value in question.headers.items()],
                content=question.content,
                extensions={"bbdiag": self},
            )
            head = client.send(request, stream=True, follow_redirects=False)
            at = time.time()
            head_ms = round((time.monotonic() - began) * 1000)
            self.heard.set()
            if question.auth and head.status_code == 401:
                self.engine.fuse_blown = True
            failure, detail = self._read(head, body)
        except _Trouble as trouble:
            failure, detail = trouble.failure, trouble.detail
            if head is not None and failure in {"empty", "reset"}:
                failure = "truncated"
            elif head is not None and failure == "timeout":
                failure, detail = self._late(body, time.monotonic() - began - head_ms / 1000)
            elif trouble.late and self.cut_short:
                failure = "deadline"
        except zlib.error as error:
            failure, detail = "not-http", f"the body is not encoded as announced: {error}"
        finally:
            if head is not None:
                head.close()
        return Answer(
            url,
            question.method,
            None if head is None else head.status_code,
            Headers([] if head is None else head.headers.multi_items()),
            bytes(body),
            failure,
            self.engine.run.scrubber.text(detail, 300),
            round((time.monotonic() - began) * 1000),
            at,
            self.credential_sent,
            head_ms,
            self.greeting if failure == "not-http" else b"",
        )

    def _read(self, head: httpx.Response, body: bytearray) -> tuple[Failure | None, str]:
        began = time.monotonic()
        self.allow()
        for piece in _pieces(head):
            body += piece
            if len(body) > self.question.max_bytes:
                return "endless", f"more than {self.question.max_bytes} bytes, no end in sight"
            spent = time.monotonic() - began
            if len(body) >= _FLOW * spent and spent < _LONGER * self.patience:
                self.allow()  # it flows: give it time
            elif spent > self.patience:
                return self._late(body, spent)
        return None, ""

    def _late(self, body: bytearray, spent: float) -> tuple[Failure, str]:
        """The body is not there after so many seconds."""
        detail = f"{len(body)} bytes in {spent:.1f} s, and not at its end"
        return ("deadline" if self.cut_short and spent < self.patience else "slow"), detail


def _pieces(head: httpx.Response) -> Iterator[bytes]:
    """The body, unpacked where a server sends it packed although it was asked not to: with gzip, as
    many do. Packed in another way, or more than once, it stays as it is."""
    if head.headers.get("content-encoding", "").strip().lower() not in {"gzip", "x-gzip"}:
        yield from head.iter_raw()
        return
    unpacker = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)  # 16: of gzip
    for packed in head.iter_raw():
        yield unpacker.decompress(packed, _PIECE)
        while unpacker.unconsumed_tail:
            yield unpacker.decompress(unpacker.unconsumed_tail, _PIECE)


class _Trouble(Exception):  # noqa: N818 - carries a classified failure, is never shown
    def __init__(self, failure: Failure, detail: str, *, late: bool = False) -> None:
        self.failure = failure
        self.detail = detail
        self.late = late  # time was over


class _NoCookies(CookieJar):
    """Keeps nothing: a session cookie would sign in a request that is meant to be anonymous."""

    def extract_cookies(self, response: object, request: object) -> None:
        del response, request


class _Head(httpx.Response):
    """An answer as it came: httpx would read the Location of a redirect, and fail on a bad one."""

    @property
    def has_redirect_location(self) -> bool:
        return False


class _Transport(httpx.BaseTransport):
    """httpx over httpcore with connections of ours: httpx itself offers no way to hand one in."""

    def __init__(self, run: Run, verify: bool) -> None:
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
        exchange: _Exchange = request.extensions["bbdiag"]
        headers = list(request.headers.raw)
        extensions: dict[str, object] = {"timeout": {"pool": exchange.left()}}
        host = request.url.raw_host.decode("ascii")
        port = request.url.port or _PORTS[request.url.scheme]
        self._dialer.prepare(request.url.scheme, host, port)
        if request.url.scheme == "http" and (forward := self._dialer.forwarder(host, port)):
            # An ordinary proxy takes http:// requests whole, it opens no tunnel for them.
            extensions["target"] = bytes(str(request.url), "ascii")
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
            self._dialer.login_refused(host, port)
        return _Head(
            status_code=response.status,
            headers=response.headers,
            stream=_Body(response),
            extensions={"http_version": response.extensions.get("http_version", b"HTTP/1.1")},
        )

    def rest(self) -> None:
        """Close the idle connections; whoever would just have used one gets a new one."""
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

    exchange: _Exchange


_LOCAL = _Local()
_PORTS = {"http": 80, "https": 443}


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
        secure = exchange.question.url.scheme == "https"
        if not exchange.fresh and (parked := self._run.dialer.take(host, port)) is not None:
            ready = isinstance(parked, ssl.SSLSocket)
            if not ready or (secure and self._fits(parked, host)):
                exchange.reused = True
                return _Stream(parked, self._context, ready=ready)
            parked.close()
        try:
            mss = tcp.SMALL_SEGMENT if exchange.question.small else None
            sock = self._run.dialer.connect(host, port, exchange.left(), fresh=True, mss=mss)
        except TimeoutError as error:
            raise _Trouble("connect", f"no connection in time: {error}", late=True) from None
        except ConnectionResetError as error:  # accepted, and reset before connect() returned
            raise _Trouble("reset", str(error)) from None
        except (OSError, ValueError) as error:
            raise _Trouble("connect", str(error)) from None
        return _Stream(sock, self._context)

    def _fits(self, sock: socket.socket, host: str) -> bool:
        """Whether TLS on a parked connection is with this host, and verified if it has to be."""
        name = _name(host)
        if not isinstance(sock, ssl.SSLSocket) or (sock.server_hostname or name) != name:
            return False
        context = sock.context
        return not self._verify or (
            context.check_hostname and context.verify_mode == ssl.CERT_REQUIRED
        )

    def _context(self) -> ssl.SSLContext:
        trust = self._run.trust
        return trust.context() if self._verify else trust.unverified()


class _Stream(httpcore.NetworkStream):
    """One connection. `ready`: TLS is up already, check `tls` has seen to it."""

    def __init__(
        self, sock: socket.socket, context: Callable[[], ssl.SSLContext], *, ready: bool = False
    ) -> None:
        self._sock = sock
        self._context = context
        self._ready = ready
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
        if len(exchange.greeting) < len(_HTTP):
            exchange.greeting += data[:_GREETING]
            if data and not _HTTP.startswith(exchange.greeting[: len(_HTTP)]):
                raise _Trouble("not-http", f"the answer begins with {exchange.greeting!r}")
        return data

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        del timeout
        exchange = _LOCAL.exchange
        if exchange.question.auth and exchange.engine.fuse_blown:  # while this one was waiting
            raise _Trouble("withheld", "the secret was refused meanwhile")
        exchange.credential_sent = exchange.question.auth
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
        del ssl_context, timeout
        if self._ready:
            return self
        if isinstance(self._sock, ssl.SSLSocket):  # ssl would take it apart, not wrap it
            self._sock.close()
            raise _Trouble("tls", "TLS to a proxy has to be hidden behind a plain socket")
        self._sock.settimeout(_LOCAL.exchange.left())
        try:
            name = None if server_hostname is None else _name(server_hostname)
            self._sock = self._context().wrap_socket(self._sock, server_hostname=name)
        except (OSError, ValueError) as error:
            self._sock.close()
            late = isinstance(error, TimeoutError)
            raise _Trouble("tls", str(error), late=late) from None
        return self

    def close(self) -> None:
        self._sock.close()

    def get_extra_info(self, info: str) -> object:
        if info == "is_readable":  # asked before a kept connection is used again: has it ended?
            try:
                return bool(select.select([self._sock], [], [], 0)[0])
            except (OSError, ValueError):
                return True
        return self._sock if info == "socket" else None


def _classify(error: Exception) -> _Trouble:
    """The failure behind an exception of httpcore, h11, ssl or the socket."""
    if isinstance(error, _Trouble):
        return error
    text = f"{error}"
    if isinstance(error, (TimeoutError, httpcore.TimeoutException)):
        return _Trouble("timeout", "no answer in time", late=True)
    if isinstance(error, (ConnectionResetError, BrokenPipeError)):
        return _Trouble("reset", text)
    if isinstance(error, (ssl.SSLEOFError, ssl.SSLZeroReturnError)):
        return _Trouble("empty", text)
    if isinstance(error, ssl.SSLError):
        return _Trouble("tls", text)
    if isinstance(error, httpcore.LocalProtocolError):  # its text quotes the header: never told
        return _Trouble("withheld", "a header holds characters that HTTP does not allow")
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


def _name(host: str) -> str:
    """A host as certificates name it: the dot that may end it in DNS is never part of that."""
    return host.rstrip(".")


def _can_be_asked(url: httpx.URL) -> bool:
    """Whether this is an http:// or https:// address; httpx writes "%20" for a blank in a host."""
    named = bool(url.host) and ("%" not in url.host or ":" in url.host)
    return url.scheme in _PORTS and named and (url.port or 1) <= 65535


def _origin(url: httpx.URL) -> tuple[str, str, int]:
    """Scheme, host and port as the request will use them: read from the very URL that is sent."""
    return url.scheme, url.raw_host.decode("ascii").lower(), url.port or _PORTS[url.scheme]
