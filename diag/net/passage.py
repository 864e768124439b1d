"""One try to get through a proxy, step by step, and what stopped it."""

from __future__ import annotations

import errno
import os
import socket
import ssl
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Literal

from diag.net import dns, doors, hops, proxy, tcp, tls
from diag.net.dial import Connector, Forwarder
from diag.net.proxy import Reply
from diag.net.silence import Inquiry
from diag.net.tunnel import AGENT, Way, exchange
from diag.record import field, record

if TYPE_CHECKING:
    from diag.facts import Target
    from diag.model import Json
    from diag.net.dial import Dialer

Stop = Literal[
    proxy.Kind,
    "open",  # nothing: the way is open
    "dns-failure",
    "refused",
    "filtered",
    "tls-failed",
    "scheme-mismatch",
    "protocol-mismatch",
]

_ANSWERS = {"open", "refused", "reset"}  # the proxy's own: there is nothing to be traced


@record
class Outcome:
    """How far the try got. Texts from the network are as they came."""

    stop: Stop
    why: str = ""
    answer: str = ""  # the proxy's own words, shortly
    evidence: Mapping[str, Json] = field(default_factory=dict)
    carrier: Connector | Forwarder | None = None  # how requests travel, where the way is open
    tunnel: socket.socket | None = field(default=None, repr=False)  # open, for the first of them
    elapsed_ms: int = 0


class Passage:
    """A try to get to `target` by `way`.

    `timed(what, detail)` records how long its body takes; `clock()` gives the seconds that the next
    operation may take. `stuck()` is called once nobody has answered in time, before it is looked
    into why. `seconds` is how long it may be traced meanwhile how far connects get; 0: not at all.
    """

    def __init__(
        self,
        way: Way,
        target: Target,
        dialer: Dialer,
        timed: Callable[[str, str], AbstractContextManager[None]],
        clock: Callable[[], float],
        stuck: Callable[[], None] = lambda: None,
        seconds: float = 0.0,
    ) -> None:
        self._stuck = stuck
        self._seconds = seconds
        self._inquiry: Inquiry | None = None
        self._way = way
        self._proxy = way.proxy
        self._target = target
        self._dialer = dialer
        self._timed = timed
        self._clock = clock
        self.requests = 0  # that went to the target, as far as the proxy passed them on
        self._mapped = dialer.mapped(target.host, target.port)
        self._named = self._mapped is None and dns.literal(target.host) is None

    def attempt(self) -> Outcome:
        """Resolve and connect to the proxy, then ask it for a tunnel, or for http:// for a page."""
        if not self._proxy.scheme.startswith(("http", "socks5")):
            why = f"bbdiag does not speak {self._proxy.scheme}, only HTTP, HTTPS and SOCKS5"
            return Outcome("unclear", why)
        sock = self._resolve() or self._reach()
        if isinstance(sock, Outcome):
            return sock
        carrier = self._way.carry(self._target.scheme, self._target.host, self._target.port)
        whole = isinstance(carrier, Forwarder)
        reply = self._fetch(sock) if whole else self._ask(sock)
        if reply.tunnel is None:
            stopped = self._no_answer(reply) if reply.silent else self._judge(reply, whole=whole)
            if stopped is not None:
                return stopped
        return Outcome(
            "open",
            answer=reply.line,
            carrier=carrier,
            tunnel=reply.tunnel,
            elapsed_ms=reply.elapsed_ms,
        )

    @property
    def dead_end(self) -> str:
        """How far connects get to a proxy that cannot be reached, as a clause; empty where that
        cannot be told."""
        trace = self._inquiry.trace if self._inquiry is not None else None
        return "" if trace is None or trace.answered else trace.words

    # step by step

    def _resolve(self) -> Outcome | None:
        """Look up the proxy's name, and the target's where socks5:// leaves that to us."""
        host = self._proxy.host
        if not dns.literal(host) and not self._dialer.mapped(host, self._proxy.port):
            addresses = self._lookup(host)
            if not addresses:
                return Outcome("dns-failure", _unresolved(addresses))
            self._dialer.prefer(host, addresses)
        if self._proxy.scheme == "socks5" and self._named:
            addresses = self._lookup(self._target.host)
            if not addresses:
                why = (
                    f"with socks5:// this machine has to resolve {self._target.host}, and "
                    f"{_unresolved(addresses)}; socks5h:// leaves it to the proxy"
                )
                return Outcome("unclear", why)
            self._way.addresses[self._target.host] = addresses[0]
        return None

    def _lookup(self, name: str) -> tuple[str, ...] | None:
        with self._timed("dns", name):
            return dns.resolves(name, self._clock())

    def _reach(self) -> socket.socket | Outcome:
        try:
            with self._timed("connect", self._proxy.url):
                sock = self._dial()
        except ConnectionRefusedError:
            return Outcome("refused", "connection refused")
        except TimeoutError:
            self._stuck()
            return Outcome("filtered", "no answer")
        except OSError as error:
            return Outcome("filtered", error.strerror or str(error))
        if self._proxy.scheme != "https":
            return sock
        with self._timed("tls", self._proxy.url):
            shaken = self._way.shake(sock, self._clock())
        if shaken.sock is not None:
            return shaken.sock
        if shaken.failure != "verify":
            language = self._language()
            if language == "socks":
                return _mismatch("protocol-mismatch", "SOCKS5", "socks5h")
            if language == "http":
                return _mismatch("scheme-mismatch", "HTTP without TLS", "http")
        return Outcome("tls-failed", shaken.detail)

    def _dial(self) -> socket.socket:
        """A connection to the proxy, knocked at as the target is. Raises OSError."""
        mapped = self._dialer.mapped(self._proxy.host, self._proxy.port)
        host, port = mapped or (self._proxy.host, self._proxy.port)
        addresses = self._dialer.addresses(host)
        if not all(map(dns.literal, addresses)):
            return self._way.dial(self._clock())
        knocked = [doors.Door(address, port) for address in addresses]
        said: list[doors.Answer] = []
        if self._seconds:
            self._inquiry = Inquiry(
                knocked[0],
                self._seconds,
                beside=None if mapped else lambda: hops.UDP,
                answered=lambda: any(one.kind in _ANSWERS for one in said),
                others_answered=lambda: False,
                thorough=False,
            )
        for answer in doors.knock(knocked, timeout=self._clock(), rumours=self._inquiry):
            said.append(answer)
            if answer.sock is not None:
                self._way.peer = answer.address, answer.port
                return answer.sock
        raise _failure(min(said, key=lambda one: addresses.index(one.address)))

    def _ask(self, sock: socket.socket) -> Reply:
        host, port = self._mapped or (self._target.host, self._target.port)
        with self._timed("request", f"CONNECT {host}:{port}"):
            return self._way.ask(sock, host, port, self._clock())

    def _fetch(self, sock: socket.socket) -> Reply:
        url = f"{self._target.base_url}/status"
        self.requests += 1
        with self._timed("request", f"GET {url}"):
            return self._way.fetch(sock, url, self._target.netloc, self._clock())

    # what stopped it

    def _judge(self, reply: Reply, *, whole: bool) -> Outcome | None:
        login_sent = self._proxy.user is not None
        if whole:
            judged = proxy.judge_forwarded(reply, self._target.host, login_sent=login_sent)
            if judged is None and self._is_web_server(reply):
                judged = proxy.judge_web_server(reply)
        else:
            judged = proxy.judge(reply, login_sent=login_sent)
            # To be refused is what may come of a proxy, too.
            unclear = judged.kind == "unclear" and reply.status != 403
            if unclear and self._is_web_server(reply):
                judged = proxy.judge_web_server(reply)
        if judged is None:
            return None
        stop, why = judged.kind, judged.why
        if stop == "cannot-forward":
            stop, why = self._name_or_way(why)
        elif stop == "cannot-connect":
            stop, why = self._name_or_port(why)
        answer = reply.line or reply.detail
        more = reply.headers.get("x-squid-error") or judged.evidence.get("title")
        if more and str(more) not in answer:
            answer += f", {more}"
        return Outcome(stop, why, answer, judged.evidence)

    def _no_answer(self, reply: Reply) -> Outcome:
        """It did not answer, or not in the language that its URL promises."""
        self._stuck()
        language = self._language()
        given = self._proxy.scheme
        if self._way.forwards and language == "socks":
            return _mismatch("protocol-mismatch", "SOCKS5", "socks5h")
        if given == "http" and language == "tls":
            return _mismatch("scheme-mismatch", "TLS", "https")
        if not self._way.forwards and language in ("http", "tls"):
            right = "http" if language == "http" else "https"
            return _mismatch("protocol-mismatch", "HTTP", right)
        alive = language == {"http": "http", "https": "tls"}.get(given, "socks")
        if reply.failure == "timeout" and alive:
            why = "nothing came in time, while other requests are answered at once"
            return Outcome("upstream-timeout", why, reply.detail)
        if language == "ssh" or reply.failure == "not-http":
            why = "it speaks neither HTTP nor SOCKS5"
            return Outcome("not-a-proxy", why, "SSH" if language == "ssh" else reply.detail)
        return Outcome("unclear", "it gives no answer", reply.detail)

    def _language(self) -> str:
        """What the proxy's port speaks: "http", "tls", "ssh", "socks", or something else."""
        third = self._clock() / 3
        first = tcp.speaks(*self._way.peer, third).kind
        if first in ("http", "tls", "ssh", "unreachable"):
            return first
        try:
            with self._way.dial(third) as sock:
                sock.settimeout(third)
                sock.sendall(b"\x05\x01\x00")
                return "socks" if sock.recv(1) == b"\x05" else first
        except OSError:
            return first

    def _is_web_server(self, reply: Reply) -> bool:
        """Whether what answered answers its own address in the same way: web servers take both
        forms of a request, a proxy only the one with a whole URL."""
        if not proxy.may_be_web_server(reply):
            return False
        try:
            own = exchange(
                self._way.reach(self._clock()), _request("/", self._proxy.address), self._clock()
            )
        except OSError:
            return False
        same = own.headers.get("server") == reply.headers.get("server")
        return same and proxy.may_be_web_server(own)

    def _name_or_way(self, why: str) -> tuple[proxy.Kind, str]:
        """Squid says the same when its resolver does not know the name and when it has no way out
        at all. It has one if it tries to connect to an address."""
        if not self._named:
            return "unclear", why
        addresses = self._lookup(self._target.host)
        if addresses == ():
            return "upstream-dns-failure", f"{why}; this machine does not know the name either"
        address = addresses[0] if addresses else "127.0.0.1"
        if self._connects_to(address):
            return "upstream-dns-failure", f"{why} for the name, but does for {address}"
        return "unclear", f"{why}: its resolver fails, or it has no way out"

    def _name_or_port(self, why: str) -> tuple[proxy.Kind, str]:
        """tinyproxy says the same of a name that it does not know and of a port that is closed."""
        host = self._target.host
        if self._named:
            addresses = self._lookup(host)
            if addresses == ():
                return "upstream-dns-failure", f"{why}; this machine does not know the name either"
            if addresses and self._connects_to(addresses[0]):
                return "upstream-dns-failure", f"{why} to the name, but does to {addresses[0]}"
            if addresses:
                self._dialer.prefer(host, addresses)
        port = self._target.port
        try:
            self._dialer.connect(host, port, self._clock(), fresh=True, direct=True).close()
        except ConnectionRefusedError:
            return "upstream-refused", f"{why}, and from here the connection is refused as well"
        except OSError:
            pass
        return "unclear", f"{why}: the name, the port or the way there is at fault"

    def _connects_to(self, address: str) -> bool:
        """Whether the proxy tries to connect to an address, whatever comes of it."""
        port = self._target.port
        try:
            sock = self._way.reach(self._clock())
        except OSError:
            return False
        if self._target.scheme == "http" and self._way.forwards:
            place = f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
            reply = self._way.fetch(sock, f"http://{place}/status", place, self._clock())
            if reply.status is not None and reply.status < 500:
                return reply.status not in (403, 407)
        else:
            reply = self._way.ask(sock, address, port, self._clock())
            if reply.tunnel is not None:
                reply.tunnel.close()
                return True
        return proxy.judge(reply, login_sent=True).kind in ("upstream-refused", "upstream-timeout")


def _failure(answer: doors.Answer) -> OSError:
    """What the kernel would have said."""
    if answer.error is None:
        return TimeoutError()
    code = getattr(errno, answer.error, 0)
    return OSError(code, os.strerror(code))


def directly(target: Target, dialer: Dialer, context: ssl.SSLContext, timeout: float) -> str | None:
    """What proves that the target can be reached past all proxies; None if it cannot."""
    if not dns.literal(target.host) and not dialer.mapped(target.host, target.port):
        addresses = dns.resolves(target.host, timeout)
        if not addresses:
            return None
        dialer.prefer(target.host, addresses)
    try:
        sock = dialer.connect(target.host, target.port, timeout, fresh=True, direct=True)
    except OSError:
        return None
    return prove(sock, target, context, timeout)


def prove(
    sock: socket.socket, target: Target, context: ssl.SSLContext, timeout: float
) -> str | None:
    """What proves that a connection leads to the target and not just to somebody who accepts
    connections; None if nothing does. Closes it."""
    if target.scheme == "https":
        shaken = tls.shake(sock, context, target.host, timeout)
        shaken.close()
        if shaken.failure is None:
            return "its certificate is good"
        return "a TLS server answers" if shaken.answered else None
    reply = exchange(sock, _request(f"{target.context}/status", target.netloc), timeout)
    return f"a web server answers {reply.line}" if reply.status is not None else None


def _request(path: str, host: str) -> bytes:
    lines = (f"GET {path} HTTP/1.1", f"Host: {host}", f"User-Agent: {AGENT}", "Connection: close")
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1", "replace")


def _mismatch(stop: Stop, speaks: str, right: str) -> Outcome:
    return Outcome(stop, evidence={"speaks": speaks, "right": right})


def _unresolved(addresses: tuple[str, ...] | None) -> str:
    return "the name does not exist" if addresses == () else "no answer could be had about it"
