"""The connections to the target's own origin, and HTTP/1.1 on them.

The first one is what check `tcp` opened and `tls` verified; it is kept and used again, and others
stand beside it where several requests are under way. h11 speaks HTTP; httpx does the same on top of
it for several times the CPU time (docs/architecture.md), and offers no way to hand a connection in.
"""

from __future__ import annotations

import select
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING

import h11

from diag.net import tcp
from diag.net.address import Address
from diag.net.exchange import (
    MOST_OF_A_HEAD,
    WITHHELD,
    Exchange,
    Question,
    Trouble,
    classify,
    unheard_of,
)
from diag.net.wrap import wrap

if TYPE_CHECKING:
    from diag.context import Run

_KEPT = 8  # idle connections
_READ = 64 * 1024  # bytes at a time
_MUCH = 1 << 20  # bytes of a body at a time …
_AT_ONCE = 0.05  # … unless that takes longer, in seconds
_NO_BODY = {204, 304}


class Wire:
    """Carries requests to one origin, over kept connections."""

    def __init__(self, run: Run, *, verify: bool) -> None:
        self._run = run
        self._verify = verify
        self._idle: list[_Line] = []
        self._busy: set[_Line] = set()  # somebody's request is under way on them
        self._late: list[_Line] = []  # whose answers may still be awaited
        self._coming = 0  # connections that are being opened ahead
        self._queue = 0  # exchanges that wait for one of them
        self._closed = False
        self._changed = threading.Condition()

    def send(self, exchange: Exchange) -> Callable[[], _Head]:
        """Send the request of `exchange`, and give what reads the head of its answer.

        Raises:
            Trouble: no connection; when the head is read, no answer, or none that is HTTP.
        """
        line = self._line(exchange)
        with self._changed:
            self._busy.add(line)
        try:
            return partial(self._head, line, exchange, line.ask(exchange))
        except BaseException:
            line.close()
            raise

    def _head(self, line: _Line, exchange: Exchange, read: Callable[[], _Head]) -> _Head:
        try:
            return read()
        except Trouble as trouble:
            if trouble.failure == "timeout" and exchange.overtime:
                trouble.resume = read
                with self._changed:
                    self._late.append(line)  # to be closed in the end
                    over = self._closed
                if over:
                    line.close()
            else:
                line.close()
            raise
        except BaseException:
            line.close()
            raise

    def keep(self, line: _Line) -> None:
        """Take back a connection on which everything was read."""
        with self._changed:
            self._busy.discard(line)
            if len(self._idle) < _KEPT and not self._closed:
                self._idle.append(line)
                self._changed.notify_all()
                return
        line.close()

    def left(self, line: _Line) -> None:
        """A connection was closed."""
        with self._changed:
            self._busy.discard(line)
            self._changed.notify_all()

    def open_ahead(self, host: str, port: int, address: str, timeout: float) -> None:
        """Open one more connection to an address of the host, with TLS, for whoever needs one.

        Whatever becomes of it proves nothing, and is not told: who needs one may wait for it, and
        opens another if it fails. `timeout` is in seconds, for TCP and TLS each.
        """
        with self._changed:
            self._coming += 1
        line: _Line | None = None
        try:
            sock = tcp.connect(address, port, timeout)
            sock.settimeout(timeout)
            line = _Line(self, _wrapped(self._run, sock, host, verify=self._verify), used=True)
        except (OSError, ValueError):
            pass
        with self._changed:
            self._coming -= 1
            self._changed.notify_all()
        if line is not None:
            self.keep(line)

    def rest(self) -> None:
        """Close the idle connections; whoever would just have used one gets a new one."""
        with self._changed:
            idle, self._idle = self._idle, []
            if self._closed:
                idle += self._late
        for line in idle:
            line.close()

    def close(self) -> None:
        """Close them for good: what comes back, or comes up, later is closed as well."""
        with self._changed:
            self._closed = True
        self.rest()

    def _line(self, exchange: Exchange) -> _Line:
        """A connection: an idle one, an observed one that is parked, or a new one."""
        if not exchange.fresh:
            if (line := self._parked(exchange)) is not None:
                return line
            while (line := self._pop(exchange)) is not None:
                if line.stands():
                    return line
                line.close()
        return self._open(exchange)

    def _pop(self, exchange: Exchange) -> _Line | None:
        """An idle connection, one that is about to come, or None where there are no more."""
        with self._changed:
            if not self._idle and self._coming > self._queue:
                self._queue += 1
                self._changed.wait_for(
                    lambda: self._idle or self._coming < self._queue, timeout=exchange.left()
                )
                self._queue -= 1
            return self._taken()

    def _taken(self) -> _Line | None:
        """The first idle connection, with the lock held."""
        if not self._idle:
            return None
        line = self._idle.pop(0)
        self._busy.add(line)
        return line

    def _parked(self, exchange: Exchange) -> _Line | None:
        url = exchange.question.url
        sock = self._run.dialer.take(url.host, url.port)
        if sock is None:
            return None
        ready = isinstance(sock, ssl.SSLSocket)
        if ready and not (url.scheme == "https" and fits(sock, url.host, verify=self._verify)):
            sock.close()
            return None
        exchange.reused = True
        if not ready:
            sock = secure(self._run, exchange, sock, verify=self._verify)
        return _Line(self, sock)

    def _open(self, exchange: Exchange) -> _Line:
        """A new connection; or, where there can be no more, one that others are done with."""
        try:
            sock = connect(self._run, exchange)
        except Trouble as trouble:
            waits = not (exchange.fresh or exchange.ahead or trouble.late)
            if waits and (line := self._spared(exchange)):
                return line
            raise
        return _Line(self, secure(self._run, exchange, sock, verify=self._verify))

    def _spared(self, exchange: Exchange) -> _Line | None:
        """The first connection that is given back, None if none is in use, or none in time."""
        with self._changed:
            self._changed.wait_for(lambda: self._idle or not self._busy, timeout=exchange.left())
            return self._taken()


def connect(run: Run, exchange: Exchange) -> socket.socket:
    """A new TCP connection, or tunnel, to where the question goes."""
    url = exchange.question.url
    sock: socket.socket | None = None
    try:
        mss = tcp.SMALL_SEGMENT if exchange.question.small else None
        with exchange.watch.connecting("connect", lambda: _peer(run, sock, url)):
            sock = run.dialer.connect(url.host, url.port, exchange.left(), fresh=True, mss=mss)
        return sock
    except TimeoutError as error:
        raise Trouble("connect", f"no connection in time: {error}", late=True) from None
    except ConnectionResetError as error:  # accepted, and reset before connect() returned
        raise Trouble("reset", str(error)) from None
    except (OSError, ValueError) as error:
        raise Trouble("connect", str(error)) from None


def _peer(run: Run, sock: socket.socket | None, url: Address) -> str:
    """Where a connection leads, as check `tcp` tells it."""
    dialer, place = run.dialer, (url.host, url.port)
    if dialer.tunnelled(*place) or dialer.forwarder(*place) is not None:
        return f"{url.host} {url.port}, by the proxy"
    try:
        address, number = ("", 0) if sock is None else sock.getpeername()[:2]
    except OSError:  # reset meanwhile
        address = ""
    return f"{address} {number}" if address else f"{url.host} {url.port}"


def secure(run: Run, exchange: Exchange, sock: socket.socket, *, verify: bool) -> socket.socket:
    """The connection with TLS up, where the address says https."""
    url = exchange.question.url
    if url.scheme != "https":
        return sock
    if isinstance(sock, ssl.SSLSocket):  # ssl would take it apart, not wrap it
        sock.close()
        raise Trouble("tls", "TLS to a proxy has to be hidden behind a plain socket")
    sock.settimeout(exchange.left())
    try:
        with exchange.watch.connecting("tls", lambda: url.netloc):
            return _wrapped(run, sock, url.host, verify=verify)
    except (OSError, ValueError) as error:
        raise Trouble("tls", str(error), late=isinstance(error, TimeoutError)) from None


def _wrapped(run: Run, sock: socket.socket, host: str, *, verify: bool) -> ssl.SSLSocket:
    """TLS on a connection, which is closed if that fails."""
    try:
        context = run.trust.plain() if verify else run.trust.unverified()
    except (OSError, ValueError):
        sock.close()
        raise
    return wrap(context, sock, _name(host))


def fits(sock: socket.socket, host: str, *, verify: bool) -> bool:
    """Whether TLS on a parked connection is with this host, and verified if it has to be."""
    name = _name(host)
    if not isinstance(sock, ssl.SSLSocket) or (sock.server_hostname or name) != name:
        return False
    context = sock.context
    return not verify or (context.check_hostname and context.verify_mode == ssl.CERT_REQUIRED)


def readable(sock: socket.socket) -> bool:
    """Whether something can be read from an idle connection: mostly its end."""
    try:
        if not hasattr(select, "poll"):  # Windows
            return bool(select.select([sock], [], [], 0)[0])
        poll = select.poll()  # select() knows no descriptor above 1023, of which a fleet has many
        poll.register(sock, select.POLLIN)
        return bool(poll.poll(0))
    except (OSError, ValueError):
        return True


def _name(host: str) -> str:
    """A host as certificates name it: the dot that may end it in DNS is never part of that."""
    return host.rstrip(".")


class _Line:
    """One connection, on which one exchange follows the other."""

    def __init__(self, wire: Wire, sock: socket.socket, *, used: bool = False) -> None:
        self._wire = wire
        self._sock = sock
        self._last: tuple[list[tuple[str, str]], h11.Request] | None = None
        self._used = used  # or kept for long: the server may have closed it

    def stands(self) -> bool:
        """Whether an idle connection can be used again: the server has not ended it."""
        if not readable(self._sock):
            return True
        if not isinstance(self._sock, ssl.SSLSocket):
            return False
        try:  # with TLS 1.3 there are tickets to be read after the handshake, which say nothing
            self._sock.setblocking(False)
            self._sock.recv(1)
        except ssl.SSLWantReadError:
            return True
        except (OSError, ValueError):
            return False
        return False  # its end, or an answer to nothing

    def ask(self, exchange: Exchange) -> Callable[[], _Head]:
        """Send the request, and give what reads the head of its answer."""
        question = exchange.question
        exchange.reused = exchange.reused or self._used
        http = h11.Connection(h11.CLIENT, max_incomplete_event_size=MOST_OF_A_HEAD)
        try:
            request = self._request(question)
            data = (http.send(request) or b"") + (http.send(h11.EndOfMessage()) or b"")
        except (h11.LocalProtocolError, UnicodeEncodeError):
            raise Trouble("withheld", WITHHELD) from None
        exchange.before_sending()
        broken = self._write(exchange, data)
        exchange.after_sending()
        return partial(self._head, exchange, http, broken)

    def _request(self, question: Question) -> h11.Request:
        """The request. h11 looks at headers only where they are not those of the one before."""
        method, target = question.method, question.url.target
        headers = [("Host", question.url.netloc), *question.headers]
        if self._last is not None and self._last[0] == headers:
            return h11.Request(method=method, target=target, headers=self._last[1].headers)
        request = h11.Request(method=method, target=target, headers=headers)
        self._last = headers, request
        return request

    def _head(self, exchange: Exchange, http: h11.Connection, broken: OSError | None) -> _Head:
        """The head of the answer. `broken`: why the request could not be written."""
        event: h11.Event | type[h11.NEED_DATA] | type[h11.PAUSED]
        try:
            while not isinstance(event := http.next_event(), h11.Response):
                if event is h11.NEED_DATA:
                    data = self.read(exchange)
                    if not data and broken is not None:
                        raise classify(broken)
                    if not data:
                        raise Trouble("empty", "Server disconnected without sending a response.")
                    http.receive_data(data)
        except h11.RemoteProtocolError as error:
            raise unheard_of(str(error)) from None
        return _Head(self, exchange, http, event)

    def _write(self, exchange: Exchange, data: bytes) -> OSError | None:
        """Send; None, or why it failed: the server may have answered before it hung up, and the
        kernel tells the reason only once."""
        self._sock.settimeout(exchange.left())
        try:
            self._sock.sendall(data)
        except TimeoutError as error:
            raise classify(error) from None
        except OSError as error:
            return error
        return None

    def read(self, exchange: Exchange) -> bytes:
        """The next bytes, none at the end of the stream.

        Raises:
            Trouble: it failed, took too long, or is no HTTP.
        """
        if time.monotonic() >= exchange.until:  # who never stops sending is late too
            raise classify(TimeoutError())
        self._sock.settimeout(exchange.left())
        try:
            data = self._sock.recv(_READ)
        except (OSError, ValueError) as error:
            raise classify(error) from None
        self._used = True
        exchange.heard(data)
        return data

    def read_much(self, exchange: Exchange, most: int) -> bytearray:
        """The next bytes of a body, at most so many, as far as they come at once; none at the end
        of the stream.

        Raises:
            Trouble: it failed, or took too long.
        """
        data = bytearray(min(most, _MUCH))
        view, size, began = memoryview(data), 0, time.monotonic()
        if began >= exchange.until:  # who never stops sending is late too
            raise classify(TimeoutError())
        self._sock.settimeout(exchange.left())
        try:
            while size < len(data) and (got := self._sock.recv_into(view[size:])):
                size += got
                if time.monotonic() - began > _AT_ONCE:
                    break
        except (OSError, ValueError) as error:
            if not size:
                raise classify(error) from None
        view.release()
        del data[size:]
        return data

    def done(self) -> None:
        """Everything of an answer was read, and the connection stays up."""
        self._wire.keep(self)

    def close(self) -> None:
        self._sock.close()
        self._wire.left(self)


class _Head:
    """The head of an answer, its body still to come."""

    def __init__(
        self, line: _Line, exchange: Exchange, http: h11.Connection, event: h11.Response
    ) -> None:
        self._line = line
        self._exchange = exchange
        self._http = http
        self._whole = False
        self.status = event.status_code
        raw = [(name.lower(), value) for name, value in event.headers.raw_items()]
        self.headers = _decoded(raw)
        self._length = self._announced(raw)
        keep = b"close" not in b",".join(v for k, v in raw if k == b"connection").lower()
        self._stays = keep and event.http_version >= b"1.1"

    def _announced(self, raw: list[tuple[bytes, bytes]]) -> int | None:
        """How many bytes will come, None where only h11 can tell where the body ends."""
        if self._exchange.question.method == "HEAD" or self.status in _NO_BODY:
            return None
        found = dict(raw)
        if b"transfer-encoding" in found:
            return None
        return int(found[b"content-length"]) if b"content-length" in found else None

    def pieces(self) -> Iterator[bytes | bytearray]:
        if self._length is None:
            yield from self._by_h11()
        else:
            yield from self._counted(self._length)

    def _counted(self, left: int) -> Iterator[bytes | bytearray]:
        """So many bytes: nothing that h11 would have to look at."""
        piece: bytes | bytearray = self._http.trailing_data[0]
        while True:
            if len(piece) > left:  # something nobody asked for
                self._stays, piece = False, piece[:left]
            left -= len(piece)
            if piece:
                yield piece
            if left <= 0:
                self._whole = True
                return
            if not (piece := self._line.read_much(self._exchange, left)):
                raise Trouble("truncated", f"peer closed with {left} bytes still to come")

    def _by_h11(self) -> Iterator[bytes]:
        while True:
            try:
                event = self._http.next_event()
                if event is h11.NEED_DATA:
                    self._http.receive_data(self._line.read(self._exchange))
                    continue
            except h11.RemoteProtocolError as error:
                raise unheard_of(str(error)) from None
            if isinstance(event, h11.Data):
                yield bytes(event.data)
            elif isinstance(event, h11.EndOfMessage) or event is h11.PAUSED:
                self._whole = True
                self._stays = self._http.their_state is h11.DONE
                self._stays = self._stays and not self._http.trailing_data[0]
                return

    def close(self) -> None:
        if self._whole and self._stays:
            self._line.done()
        else:
            self._line.close()


def _decoded(raw: list[tuple[bytes, bytes]]) -> list[tuple[str, str]]:
    """Names and values as text: ISO 8859-1 where they are not UTF-8."""
    try:
        return [(name.decode("ascii"), value.decode("utf-8")) for name, value in raw]
    except UnicodeDecodeError:
        return [(name.decode("ascii"), value.decode("latin-1")) for name, value in raw]
