"""One HTTP request and its answer: how long each part may take, and what went wrong.

How the bytes travel is the business of a `Carrier`: `diag.net.wire` for the connections to the
target, `diag.net.elsewhere` for all others.
"""

from __future__ import annotations

import ssl
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, NoReturn, Protocol

from diag.net.address import Address
from diag.net.answer import Answer, Failure, Headers
from diag.net.watch import Watch
from diag.record import field, record

if TYPE_CHECKING:
    from diag.net.http import Engine

MOST_OF_A_HEAD = 100 * 1024  # bytes of a head, before it is too large
GREETING = 64  # bytes kept of something that is no HTTP
_HTTP = b"HTTP/"  # how an answer begins
_FLOW = 4096  # bytes a second: a body that flows at least like this may take longer…
_LONGER = 4  # …, up to so many times the timeout
_LEAST = 0.05  # seconds for an answer that nobody needs: what is there already can be read
_PIECE = 64 * 1024  # bytes that are unpacked at a time: a small body may hold gigabytes


@record
class Question:
    """A request as it is to be sent."""

    method: str
    url: Address
    headers: tuple[tuple[str, str], ...] = field(repr=False)  # may hold the secret
    verify: bool  # the certificate
    max_bytes: int  # of the body
    auth: bool
    content: bytes | None = None
    small: bool = False  # packets, on a direct connection


class Trouble(Exception):  # noqa: N818 - carries a classified failure, is never shown
    """What went wrong on the way, in the words of `Answer`."""

    def __init__(self, failure: Failure, detail: str, *, late: bool = False) -> None:
        self.failure = failure
        self.detail = detail
        self.late = late  # time was over
        self.resume: Callable[[], Head] | None = None  # goes on waiting for the head


class Head(Protocol):
    """The head of an answer, with its body still to come. Reading it raises `Trouble`."""

    @property
    def status(self) -> int: ...

    @property
    def headers(self) -> Sequence[tuple[str, str]]:
        """Names in lower case, and values."""

    def pieces(self) -> Iterator[bytes | bytearray]:
        """The body as it was sent, piece by piece."""

    def close(self) -> None:
        """Give the connection back if the body has come to its end, else close it."""


class Carrier(Protocol):
    """Sends a request, and gives what reads the head of its answer. Both raise `Trouble`."""

    def send(self, exchange: Exchange) -> Callable[[], Head]: ...


class Exchange:
    """One request and its answer."""

    def __init__(
        self,
        engine: Engine,
        question: Question,
        timeout: float | None,
        fresh: bool,
        overtime: float = 0.0,
        *,
        ahead: bool = False,
    ) -> None:
        self.engine = engine
        self.question = question
        self.fresh = fresh
        self.ahead = ahead  # of its turn: it takes no connection that others are about to give back
        self.overtime = overtime  # seconds that a late head may be awaited in addition
        self.patience = timeout or engine.run.settings.timeout
        self.until = 0.0  # when head or body must be there
        self.cut_short = False  # not by the server's slowness, but by the end of the run
        self.reused = False  # the connection was open before
        self.credential_sent = False
        self.greeting = b""  # what came first, until it is known to be HTTP
        self.left_first: Callable[[], None] | None = None  # what may begin once this has left
        self.watch = Watch(engine.run.elapsed_ms)
        self.needed = True
        self.unconnected = False  # there was no connection for it
        self._began = 0.0
        self._read_head: Callable[[], Head] | None = None  # None: nothing was sent, time is over

    def allow(self) -> bool:
        """Give the server its time, as far as the run has any left; False if it has none."""
        left = self.engine.run.remaining()
        self.until = time.monotonic() + min(self.patience, left)
        self.cut_short = left < self.patience
        return left > 0

    def left(self) -> float:
        """Seconds that the next operation on the socket may take."""
        return max(0.001, self.until - time.monotonic())

    def before_sending(self) -> None:
        """Called when the connection is there: the secret may have been refused meanwhile."""
        if self.question.auth and self.engine.fuse_blown:
            raise Trouble("withheld", "the secret was refused meanwhile")
        self.credential_sent = self.question.auth
        self.watch.send()

    def after_sending(self) -> None:
        """Called when all of it has left."""
        if self.left_first is not None:
            self.left_first()

    def heard(self, data: bytes) -> None:
        """Called with whatever comes first: what does not begin like HTTP is none."""
        if len(self.greeting) >= len(_HTTP):
            return
        self.greeting += data[:GREETING]
        if data and not _HTTP.startswith(self.greeting[: len(_HTTP)]):
            raise Trouble("not-http", f"the answer begins with {self.greeting!r}")

    def hurry(self) -> None:
        """Nobody needs the answer: it gets what is left of its time, and no more."""
        self.needed = False
        self.patience = max(_LEAST, self.until - time.monotonic())
        self.allow()

    def perform(self, carrier: Carrier) -> Answer:
        """Send the request and read the whole answer."""
        self.begin(carrier)
        return self.finish()

    def begin(self, carrier: Carrier) -> None:
        """Send the request. `finish` reads the answer, or tells what went wrong."""
        if not self.allow():
            return
        self.engine.count()
        self.watch.begin()
        self._began = time.monotonic()
        try:
            self._read_head = carrier.send(self)
        except Trouble as trouble:
            self.unconnected = self.watch.sent is None and trouble.failure != "withheld"
            self._read_head = partial(_fail, trouble)

    def finish(self) -> Answer:
        """Read the whole answer, once."""
        read_head, self._read_head = self._read_head, None
        if read_head is None:
            return self._answer(failure="deadline", detail="the time is over")
        return self._receive(read_head, self._began)

    def _receive(self, read_head: Callable[[], Head], began: float) -> Answer:
        head: Head | None = None
        body = _Body()
        at = 0.0
        head_ms = 0
        failure: Failure | None = None
        detail = ""
        later: Callable[[float], Answer | None] | None = None
        try:
            head = read_head()
            self.watch.arrive()
            at = time.time()
            head_ms = round((time.monotonic() - began) * 1000)
            if self.question.auth and head.status == 401:
                self.engine.fuse_blown = True
            failure, detail = self._read(head, body)
        except Trouble as trouble:
            failure, detail = trouble.failure, trouble.detail
            if head is not None and failure in {"empty", "reset"}:
                failure = "truncated"
            elif head is not None and failure == "timeout":
                failure, detail = self._late(body, time.monotonic() - began - head_ms / 1000)
            elif trouble.late and self.cut_short:
                failure = "deadline"
            elif trouble.resume is not None:
                later = partial(self._resume, trouble.resume, time.monotonic() + self.overtime)
        except zlib.error as error:
            failure, detail = "not-http", f"the body is not encoded as announced: {error}"
        finally:
            if head is not None:
                head.close()
            self.watch.end()
        elapsed_ms = round((time.monotonic() - began) * 1000)
        return self._answer(head, body.whole(), failure, detail, elapsed_ms, at, head_ms, later)

    def _resume(self, resume: Callable[[], Head], end: float, seconds: float) -> Answer:
        """Go on waiting for the head, for so many seconds, at most until `end`."""
        self.until = min(time.monotonic() + min(seconds, self.engine.run.remaining()), end)
        return self._receive(resume, time.monotonic())

    def _answer(
        self,
        head: Head | None = None,
        body: bytes = b"",
        failure: Failure | None = None,
        detail: str = "",
        elapsed_ms: int = 0,
        at: float = 0.0,
        head_ms: int = 0,
        later: Callable[[float], Answer | None] | None = None,
    ) -> Answer:
        return Answer(
            self.question.url.text,
            self.question.method,
            None if head is None else head.status,
            Headers(() if head is None else head.headers),
            body,
            failure,
            detail and self.engine.run.scrubber.text(detail, 300),
            elapsed_ms,
            at,
            self.credential_sent,
            head_ms,
            self.greeting if failure == "not-http" else b"",
            later,
        )

    def _read(self, head: Head, body: _Body) -> tuple[Failure | None, str]:
        began = time.monotonic()
        self.allow()
        for piece in _unpacked(head):
            body.add(piece)
            if len(body) > self.question.max_bytes:
                return "endless", f"more than {self.question.max_bytes} bytes, no end in sight"
            spent = time.monotonic() - began
            if len(body) >= _FLOW * spent and spent < _LONGER * self.patience:
                self.allow()  # it flows: give it time
            elif spent > self.patience:
                return self._late(body, spent)
        return None, ""

    def _late(self, body: _Body, spent: float) -> tuple[Failure, str]:
        """The body is not there after so many seconds."""
        detail = f"{len(body)} bytes in {spent:.1f} s, and not at its end"
        return ("deadline" if self.cut_short and spent < self.patience else "slow"), detail


def _fail(trouble: Trouble) -> NoReturn:
    raise trouble


class _Body:
    """What has come of a body; put together only at its end, for a page can be large."""

    def __init__(self) -> None:
        self._pieces: list[bytes | bytearray] = []
        self._size = 0

    def add(self, piece: bytes | bytearray) -> None:
        self._pieces.append(piece)
        self._size += len(piece)

    def __len__(self) -> int:
        return self._size

    def whole(self) -> bytes:
        return b"".join(self._pieces)


def _unpacked(head: Head) -> Iterator[bytes | bytearray]:
    """The body, unpacked where a server sends it packed although it was asked not to: with gzip, as
    many do. Packed in another way, or more than once, it stays as it is."""
    encoding = ", ".join(value for name, value in head.headers if name == "content-encoding")
    if encoding.strip().lower() not in {"gzip", "x-gzip"}:
        yield from head.pieces()
        return
    unpacker = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)  # 16: of gzip
    for packed in head.pieces():
        yield unpacker.decompress(packed, _PIECE)
        while unpacker.unconsumed_tail:
            yield unpacker.decompress(unpacker.unconsumed_tail, _PIECE)


def classify(error: Exception) -> Trouble:
    """The failure behind an exception of the socket or of TLS."""
    if isinstance(error, Trouble):
        return error
    text = f"{error}"
    if isinstance(error, TimeoutError):
        return Trouble("timeout", "no answer in time", late=True)
    if isinstance(error, (ConnectionResetError, BrokenPipeError)):
        return Trouble("reset", text)
    if isinstance(error, (ssl.SSLEOFError, ssl.SSLZeroReturnError)):
        return Trouble("empty", text)
    if isinstance(error, ssl.SSLError):
        return Trouble("tls", text)
    if isinstance(error, OSError):
        return Trouble("reset", text)
    return Trouble("not-http", f"{type(error).__name__}: {text}")


def unheard_of(text: str) -> Trouble:
    """The failure behind an answer that breaks the rules of HTTP, by the words of h11."""
    if "without sending" in text:
        return Trouble("empty", text)
    if "peer closed" in text or "incomplete" in text:
        return Trouble("truncated", text)
    if "too long" in text or "too large" in text or "too many" in text:
        return Trouble("headers-too-large", text)
    return Trouble("not-http", text)


# The text of h11's own complaint quotes the header: never told.
WITHHELD = "a header holds characters that HTTP does not allow"
