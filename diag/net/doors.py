"""Knocking at doors: can a TCP connection be had, and if not, who says so.

`knock` tries several doors, an address and a port each, side by side, and tells a refusal from a
silence, and one router's word from another's. On Linux 5.9 and later the kernel hands the ICMP
error that ended a connect, and who sent it, to any user (IP_RECVERR), so that the two need not be
guessed from errno and time.
"""

from __future__ import annotations

import errno
import selectors
import socket
import struct
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import Literal, NamedTuple, Protocol

from diag.model import Json
from diag.net import kernel
from diag.net.patience import ARP, ELSEWHERE, QUIET, SPACING, TRIES, silence
from diag.record import field, record

_BESIDE = 0.15  # seconds between the connects to a sibling, which begin later …
_HEARD_OUT = 0.6  # … and must have had so many seconds before it is called silent
_GRACE = 0.2  # seconds after which three are over: a neighbour's failure comes after 3.06 s
_LISTEN = 0.05  # seconds between two looks at what is known from elsewhere

Kind = Literal[
    "open",
    "refused",  # RST
    "reset",  # accepted, and at once reset
    "silent",  # nothing came back
    "prohibited",  # ICMP: a firewall rejects
    "host-unreachable",  # ICMP, at once
    "net-unreachable",  # ICMP
    "host-down",  # the neighbour that should take the packets does not answer
    "no-route",  # this machine has no way there
    "blocked-here",  # this machine itself rejects
    "unclear",
]

MUTE = frozenset[Kind]({"silent", "host-down"})  # not a word from there


class Door(NamedTuple):
    """Where to connect to, and from which own address (None: as the kernel chooses)."""

    address: str
    port: int
    source: str | None = None


@record
class Icmp:
    """An ICMP (or ICMPv6) error and who sent it."""

    type: int
    code: int
    sender: str


@record
class Answer:
    """What came of knocking at one door.

    `sock` is the open connection, in blocking mode and without a timeout: the caller closes it.
    """

    address: str
    port: int
    kind: Kind
    elapsed_ms: float  # of the try that was answered; of all together if none was
    error: str | None = None  # name of the errno
    icmp: Icmp | None = None
    neighbour: str | None = None  # with "host-down": who did not answer, when that is known
    source: str | None = None
    tries: int = 1
    started: float = 0.0  # of the try that was answered, by time.monotonic()
    sock: socket.socket | None = field(default=None, repr=False, compare=False)

    @property
    def says(self) -> str:
        """Who said so, as far as that is known: "the host itself", a router's address."""
        if self.icmp is None:
            return "a device on the way"
        return "the host itself" if self.icmp.sender == self.address else self.icmp.sender

    def evidence(self) -> dict[str, Json]:
        """The answer as JSON, without what is not known."""
        told: dict[str, Json] = {
            "address": self.address,
            "port": self.port,
            "result": self.kind,
            "errno": self.error,
            "elapsed_ms": round(self.elapsed_ms, 1),
            "tries": self.tries,
            "source": self.source,
            "neighbour": self.neighbour,
        }
        if self.icmp:
            told["icmp"] = {
                "type": self.icmp.type,
                "code": self.icmp.code,
                "from": self.icmp.sender,
            }
        return {name: value for name, value in told.items() if value is not None}


class Rumours(Protocol):
    """What is found out about quiet doors while they are being knocked at."""

    def begin(self) -> None:
        """After `QUIET` seconds no door has opened: time to look around. Must not block."""

    def patience(self, address: str) -> float | None:
        """After how many seconds a silence of this address counts, by what is known now; None: not
        before the time is over."""


def knock(
    doors: Sequence[Door],
    siblings: Sequence[Door] = (),
    *,
    timeout: float,
    tries: int = TRIES,
    adapt: bool = True,
    rumours: Rumours | None = None,
    asked: Callable[[], None] | None = None,
) -> Iterator[Answer]:
    """Connect to all `doors` at once; the answers as they come, one for each door.

    A door that stays quiet gets up to `tries` connects. It is called silent after 0.9 s when
    another port of the same address answered, after 1.25 s when only another address did, as early
    as `rumours` say, else after `timeout` seconds (3.2 s for 3 s, so that a neighbour's failure, at
    3.06 s, is just seen), or always then unless `adapt`. `siblings` are asked only beside doors
    that stay quiet, to learn that; what came of them is yielded too, as far as they had time, and
    their connections closed. `asked` is called once the first connects are under way.
    """
    start = time.monotonic()
    spacing = min(SPACING, timeout / (tries + 1))
    waiting = [_Knock(door, start, tries, spacing) for door in doors]
    waiting += [_Knock(door, start + QUIET, tries, _BESIDE, sibling=True) for door in siblings]
    patience = _Patience(timeout, tries, spacing, rumours, adapt=adapt)
    with selectors.DefaultSelector() as selector:
        try:
            while mains := [one for one in waiting if not one.sibling]:
                quiet = {one.door.address for one in mains}
                for one in waiting:
                    if one.due <= time.monotonic() and one.door.address in quiet:
                        one.connect(selector)
                if asked is not None:
                    asked()
                ends = [patience.look_around(), *(one.due for one in waiting)]
                ends += [one.started + patience.with_address(one.door.address) for one in mains]
                answered = any(one.answer for one in waiting)  # at once, by this machine
                pause = 0.0 if answered else max(0.0, min(ends) - time.monotonic())
                for key, _ in selector.select(pause):
                    key.data[0].look(key.data[1])
                for one in list(waiting):
                    if not one.sibling:
                        one.give_up_after(patience.with_address(one.door.address))
                    if (answer := one.answer) is not None:
                        waiting.remove(one)
                        one.leave(selector, keep=True)
                        patience.learn(answer)
                        yield answer
            yield from _heard_out(waiting)
        finally:
            for one in waiting:
                one.leave(selector, keep=False)


class _Patience:
    """How long one round of knocking waits, by what it has learned so far."""

    def __init__(
        self, timeout: float, tries: int, spacing: float, rumours: Rumours | None, *, adapt: bool
    ) -> None:
        self._most = timeout + (_GRACE if timeout >= 3 else 0.0)
        self._shape = tries, spacing
        self._adapt = adapt
        self._rumours = rumours
        self._begins = time.monotonic() + QUIET if rumours else float("inf")
        self._round_trips: dict[str, float] = {}  # seconds, by address that answered

    def learn(self, answer: Answer) -> None:
        if answer.kind in {"open", "refused", "reset"}:
            self._round_trips[answer.address] = answer.elapsed_ms / 1000
        if answer.sock is not None:
            self._begins = float("inf")  # nothing is to be explained

    def look_around(self) -> float:
        """Begin with it when it is time; when there will be something to hear."""
        if self._rumours is None or (now := time.monotonic()) < self._begins:
            return self._begins
        if self._begins > 0:
            self._rumours.begin()
            self._begins = 0.0
        return now + _LISTEN

    def with_address(self, address: str) -> float:
        """After how many seconds its silence counts."""
        if not self._adapt:
            return self._most
        if (round_trip := self._round_trips.get(address)) is not None:
            return min(self._most, silence(round_trip, *self._shape))
        told = self._rumours.patience(address) if self._rumours and self._begins == 0 else None
        return min(
            self._most,
            ELSEWHERE if self._round_trips else self._most,
            self._most if told is None else told,
        )


def _heard_out(siblings: Sequence[_Knock]) -> Iterator[Answer]:
    """The siblings that have had enough time to answer, and did not."""
    for one in siblings:
        if one.exhausted:
            one.give_up_after(_HEARD_OUT)
        if one.answer is not None:
            yield one.answer


class _Try(NamedTuple):
    sock: socket.socket
    started: float
    source: str | None


class _Knock:
    """The tries at one door."""

    def __init__(
        self, door: Door, started: float, tries: int, spacing: float, *, sibling: bool = False
    ) -> None:
        self.door = door
        self.started = started
        self.due = started  # when the next try starts
        self.sibling = sibling
        self.answer: Answer | None = None
        self._left = tries
        self._spacing = spacing
        self._tries: list[_Try] = []

    @property
    def exhausted(self) -> bool:
        """Whether all its tries have been started."""
        return not self._left

    def connect(self, selector: selectors.BaseSelector) -> None:
        """Start one more try."""
        self._left -= 1
        self.due = self.due + self._spacing if self._left else float("inf")
        now = time.monotonic()
        try:
            sock = socket.socket(kernel.family(self.door.address), socket.SOCK_STREAM)
        except OSError as error:  # no IPv6 in this kernel, too many open files
            self._failed(None, error.errno or 0)
            return
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        report_icmp(sock, on=True)
        try:
            if self.door.source:
                sock.bind((self.door.source, 0))
            code = sock.connect_ex(kernel.sockaddr(self.door.address, self.door.port))
        except OSError as error:
            code = error.errno or 0
        source = str(sock.getsockname()[0])
        one = _Try(sock, now, None if source in {"0.0.0.0", "::"} else source)
        self._tries.append(one)
        if code in {errno.EINPROGRESS, errno.EWOULDBLOCK}:
            selector.register(sock, selectors.EVENT_WRITE, (self, one))
        elif code:
            self._failed(one, code)
        else:
            self._opened(one)

    def look(self, one: _Try) -> None:
        """The kernel says that something happened to this try."""
        if self.answer is not None:
            return
        if code := one.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            self._failed(one, code)
            return
        with suppress(OSError):  # not connected: nothing has happened yet
            one.sock.getpeername()
            self._opened(one)

    def give_up_after(self, seconds: float) -> None:
        """Settle for silence when nothing has come for so long."""
        if self.answer is None and time.monotonic() - self.started >= seconds:
            neighbour = kernel.silent_neighbour(self.door.address)
            self._settle("host-down" if neighbour else "silent", None, neighbour=neighbour)

    def leave(self, selector: selectors.BaseSelector, *, keep: bool) -> None:
        """Stop watching, and close all connections but, with `keep`, the one of the answer."""
        kept = self.answer.sock if self.answer and keep else None
        for one in self._tries:
            with suppress(KeyError):
                selector.unregister(one.sock)
            if one.sock is not kept:
                one.sock.close()

    def _opened(self, one: _Try) -> None:
        report_icmp(one.sock, on=False)  # from now on an ICMP error would end the connection
        one.sock.setblocking(True)
        self._settle("open", one, sock=None if self.sibling else one.sock)

    def _failed(self, one: _Try | None, code: int) -> None:
        icmp = icmp_error(one.sock) if one else None
        late = one is not None and time.monotonic() - one.started >= ARP
        kind, neighbour = _kind(self.door.address, code, icmp, late=late)
        name = errno.errorcode.get(code, str(code))
        self._settle(kind, one, error=name, icmp=icmp, neighbour=neighbour)

    def _settle(
        self,
        kind: Kind,
        one: _Try | None,
        *,
        error: str | None = None,
        icmp: Icmp | None = None,
        neighbour: str | None = None,
        sock: socket.socket | None = None,
    ) -> None:
        told = one or (self._tries[0] if self._tries else None)
        started = told.started if told else self.started
        self.answer = Answer(
            self.door.address,
            self.door.port,
            kind,
            (time.monotonic() - started) * 1000,
            error,
            icmp,
            neighbour,
            told.source if told else None,
            max(1, len(self._tries)),
            started,
            sock,
        )


def _kind(address: str, code: int, icmp: Icmp | None, *, late: bool) -> tuple[Kind, str | None]:
    """What a failed connect means, and the neighbour that did not answer if that is what it was."""
    if icmp is not None:
        return _kind_of_icmp(address, icmp, late=late)
    if code == errno.ECONNREFUSED:
        return "refused", None
    if code == errno.ECONNRESET:  # what a RST is called once the connection stands
        return "reset", None
    if kernel.route_error(address) is not None:
        return "no-route", None
    if code in {errno.EPERM, errno.EACCES}:
        return "blocked-here", None  # security module, cgroup or seccomp: no packet was sent
    if code == errno.EHOSTUNREACH:
        return ("host-down" if late else "host-unreachable"), kernel.silent_neighbour(address)
    if code == errno.ENETUNREACH:
        return "net-unreachable", None
    return ("silent" if code == errno.ETIMEDOUT else "unclear"), None


def _kind_of_icmp(address: str, icmp: Icmp, *, late: bool) -> tuple[Kind, str | None]:
    kind = _MEANING[6 if ":" in address else 4].get((icmp.type, icmp.code), "unclear")
    here = kernel.is_here(icmp.sender)
    if kind == "host-unreachable":
        neighbour = kernel.silent_neighbour(address) if here else None
        if neighbour or (late and not here):
            return "host-down", neighbour
    return ("blocked-here" if here else kind), None


# ICMP errors (RFC 792, 1122, 1812; RFC 4443) by type and code. "Port unreachable" never comes from
# TCP itself: it is what `REJECT` of iptables and nftables sends if not told otherwise.
_MEANING: dict[int, dict[tuple[int, int], Kind]] = {
    4: {
        (3, 0): "net-unreachable",
        (3, 1): "host-unreachable",
        (3, 2): "prohibited",
        (3, 3): "prohibited",
        (3, 6): "net-unreachable",
        (3, 7): "host-unreachable",
        (3, 9): "prohibited",
        (3, 10): "prohibited",
        (3, 11): "net-unreachable",
        (3, 12): "host-unreachable",
        (3, 13): "prohibited",
        (11, 0): "host-unreachable",  # time to live exceeded: a loop
    },
    6: {
        (1, 0): "net-unreachable",
        (1, 1): "prohibited",
        (1, 2): "net-unreachable",
        (1, 3): "host-unreachable",
        (1, 4): "prohibited",
        (1, 5): "prohibited",
        (1, 6): "net-unreachable",
        (3, 0): "host-unreachable",
    },
}

_RECVERR = {socket.AF_INET: (0, 11), socket.AF_INET6: (41, 25)}  # IP_RECVERR, IPV6_RECVERR


def report_icmp(sock: socket.socket, *, on: bool) -> None:
    """Have the kernel keep ICMP errors for this socket."""
    if sys.platform == "linux":
        sock.setsockopt(*_RECVERR[sock.family], int(on))


def icmp_error(sock: socket.socket) -> Icmp | None:
    """The ICMP error that ended a connect, None if none did (or the kernel does not tell). Needs
    `report_icmp` before the connect."""
    if sys.platform != "linux":
        return None
    try:
        _, notes, _, _ = sock.recvmsg(1, 512, socket.MSG_ERRQUEUE)
    except OSError:
        return None
    for level, kind, data in notes:
        if (level, kind) != _RECVERR[sock.family] or len(data) < 24:
            continue
        origin, type_, code = struct.unpack_from("=4xBBB", data)  # struct sock_extended_err
        if origin in {2, 3}:  # SO_EE_ORIGIN_ICMP, _ICMP6; after it, the sender's sockaddr
            packed = data[20:24] if origin == 2 else data[24:40]
            return Icmp(type_, code, socket.inet_ntop(sock.family, packed))
    return None
