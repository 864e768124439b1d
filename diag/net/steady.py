"""The same thing several times over: what flaps, and how often.

`connects` tries a port alone; `travel` goes the whole way once, through TCP, TLS and one anonymous
request, on a connection of its own. Nothing here knows a secret.
"""

from __future__ import annotations

import http.client
import io
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal

from diag.net import tcp, tls
from diag.net.doors import Answer as Knocked
from diag.net.doors import Door, knock
from diag.net.http import USER_AGENT, Answer, Failure, Headers
from diag.net.patience import RESENT
from diag.record import field, record

LARGE = 3000  # bytes: more than two ordinary packets
_BODY = 64 * 1024  # bytes that are read of an answer


# the port alone


@record
class Connects:
    """How several connects to the same door went: held together, then one by one.

    Each is "open", "resent" (open, but a SYN was lost on the way) or another kind of answer.
    """

    together: tuple[str, ...]
    alone: tuple[str, ...]

    @property
    def allowed(self) -> int | None:
        """How many connections there may be, or may be opened so fast, if such a limit shows: the
        first so many came up at once, none of the others did, and one by one they do."""
        count = self.together.count("open")
        others = self.together[count:]
        if count == 0 or len(others) < 2 or "open" in others:
            return None
        rejected = not {"silent", "resent"} & set(others)
        return count if rejected or set(self.alone) == {"open"} else None


def connects(address: str, port: int, times: int, timeout: float) -> Connects:
    """Connect `times` times, holding all connections, then up to three times with pauses.

    A lost SYN is resent after one second; the kernel tells how many were (TCP_INFO). Takes up to
    1.6 s, and as much again for each connect of the second part, which ends at the first loss; it
    is left out where all went well together, as it would only repeat that.
    """
    wait = min(timeout, RESENT)
    time.sleep(0.1)  # lets a limit forget the connections of a moment ago
    together = _connects([Door(address, port)] * times, wait)
    alone: list[str] = []
    if set(together) == {"open"}:
        return Connects(together, ())
    while len(alone) < min(times, 3) and set(alone) <= {"open"}:
        time.sleep(0.4)  # lets a rate limit recover
        alone += _connects([Door(address, port)], wait)
    return Connects(together, tuple(alone))


def _connects(doors: Sequence[Door], timeout: float) -> tuple[str, ...]:
    """One connect for each door, all held until the last has ended; in the order of their start."""
    answers: list[Knocked] = []
    try:
        answers += knock(doors, timeout=timeout, tries=1, adapt=False)
        answers.sort(key=lambda answer: answer.started)
        return tuple(
            "resent" if answer.sock is not None and _resent(answer.sock) else answer.kind
            for answer in answers
        )
    finally:
        for answer in answers:
            if answer.sock is not None:
                tcp.abort(answer.sock)


def _resent(sock: socket.socket) -> bool:
    info = tcp.tcp_info(sock)
    return info is not None and info.total_retransmits > 0


# the whole way


@record
class Journey:
    """Where the whole way leads."""

    url: str  # of the request, which carries no secret
    host: str  # as the URL has it
    netloc: str
    target: str  # what stands in the request line
    context: ssl.SSLContext | None  # None: no TLS
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)  # a proxy's login


Stage = Literal["connect", "tls", "http"]


@record
class Trip:
    """One try of the whole way, and where it ended: "http" is its end, whatever was answered."""

    place: str  # the address, or the proxy
    stage: Stage
    why: str = ""  # of the connect: its kind; of TLS: what OpenSSL says
    answer: Answer | None = None
    leaf: bytes = field(default=b"", repr=False)  # the certificate that was sent, DER
    resent: bool = False  # a SYN got lost
    stuck: bool = False  # what was sent was never acknowledged
    late: bool = False  # nothing came any more
    elapsed_ms: int = 0

    def is_for(self, host: str) -> bool | None:
        """Whether the certificate names the host; None if there is none to be read."""
        from diag.net import x509

        leaf = x509.read(self.leaf) if self.leaf else None
        return None if leaf is None else leaf.covers(host)


Connector = Callable[[float], socket.socket]


def connect(address: str, port: int, timeout: float, *, mss: int | None = None) -> socket.socket:
    """As `tcp.connect`; but a silence counts once the SYN has been sent twice. Raises OSError."""
    return tcp.connect(address, port, min(timeout, RESENT), mss=mss)


def travel(
    journey: Journey, place: str, connect: Connector, timeout: float, *, padding: int = 0
) -> Trip:
    """Go the whole way once. Never raises for trouble on the network.

    `timeout` is in seconds, for connect and handshake, and again for request and answer; `padding`
    is the size in bytes of a header that is sent for its size only.
    """
    began = time.monotonic()

    def spent() -> int:
        return round((time.monotonic() - began) * 1000)

    try:
        sock = connect(timeout)
    except OSError as error:
        return Trip(place, "connect", tcp.failure(error), elapsed_ms=spent())
    resent, leaf = _resent(sock), b""
    if journey.context is not None:
        left = max(0.05, began + timeout - time.monotonic())
        shaken = tls.shake(sock, journey.context, journey.host.rstrip("."), left)
        leaf = shaken.sent[0] if shaken.sent else b""
        if shaken.sock is None:
            late = shaken.failure == "timeout"
            why = shaken.detail or str(shaken.failure)
            return Trip(place, "tls", why, None, leaf, resent, shaken.lost, late, spent())
        sock = shaken.sock
    with sock:
        answer = _ask(sock, journey, timeout, padding)
        info = tcp.tcp_info(sock) if answer.failure == "timeout" else None
    stuck = info is not None and info.unacked > 0
    late = answer.failure in {"timeout", "slow"}
    return Trip(place, "http", "", answer, leaf, resent, stuck, late, spent())


class _Timed(io.RawIOBase):
    """A socket to be read from until a moment, however little comes at a time."""

    def __init__(self, sock: socket.socket, end: float) -> None:
        self._sock = sock
        self._end = end

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        left = self._end - time.monotonic()
        if left <= 0:
            raise TimeoutError
        self._sock.settimeout(left)
        return self._sock.recv_into(buffer)

    def makefile(self, _mode: str) -> io.BufferedReader:
        """What http.client wants of a socket."""
        return io.BufferedReader(self)


def _ask(sock: socket.socket, journey: Journey, timeout: float, padding: int) -> Answer:
    """The anonymous request, and its answer."""
    lines = {"Host": journey.netloc, "User-Agent": USER_AGENT, "Accept": "application/json"}
    lines |= {"Accept-Encoding": "identity", "Connection": "close", **journey.headers}
    if padding:
        lines["X-Padding"] = "x" * padding
    head = [f"GET {journey.target} HTTP/1.1", *(f"{name}: {text}" for name, text in lines.items())]
    began, at = time.monotonic(), 0.0
    status: int | None = None
    headers, body = Headers(), b""
    failure: Failure | None = None
    try:
        sock.settimeout(timeout)
        sock.sendall("\r\n".join([*head, "", ""]).encode("ascii", "replace"))
        source: Any = _Timed(sock, began + timeout)
        response = http.client.HTTPResponse(source, method="GET")
        response.begin()
        status, at = response.status, time.time()
        headers = Headers(response.getheaders())
        body = response.read(_BODY)
        if response.length and len(body) < _BODY:
            failure = "truncated"
    except (OSError, http.client.HTTPException, ValueError) as error:
        failure = _failure(error, begun=status is not None)
    elapsed = round((time.monotonic() - began) * 1000)
    return Answer(journey.url, "GET", status, headers, body, failure, "", elapsed, at)


def _failure(error: Exception, *, begun: bool) -> Failure:
    """What an exception means, after (`begun`) or before the head of an answer."""
    if isinstance(error, TimeoutError):
        return "slow" if begun else "timeout"
    if begun:
        return "truncated"
    if isinstance(error, (http.client.RemoteDisconnected, ssl.SSLEOFError, ssl.SSLZeroReturnError)):
        return "empty"
    if isinstance(error, ssl.SSLError):
        return "tls"
    return "reset" if isinstance(error, OSError) else "not-http"


class Tries:
    """Hands out tries to several threads, at most so often, and keeps what came of each."""

    def __init__(
        self, tries: Iterable[Callable[[], Trip]], spacing: float, enough: Callable[[], bool]
    ) -> None:
        """`spacing` is in seconds; after `enough` says so none is begun any more."""
        self.trips: list[Trip] = []
        self._tries = iter(tries)
        self._spacing = spacing
        self._enough = enough
        self._lock = threading.Lock()

    def work(self) -> None:
        """Try until there is nothing left to try: what each of the threads does."""
        while (attempt := self._next()) is not None:
            self.trips.append(attempt())

    def _next(self) -> Callable[[], Trip] | None:
        with self._lock:
            time.sleep(self._spacing)
            return None if self._enough() else next(self._tries, None)
