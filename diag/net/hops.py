"""Where packets stop: how far connects to a port get on the way to an address, router by router.

Connects with a rising time to live (hop limit) end at one router after the other, and each may say
so (ICMP time exceeded). Linux 5.9 and later hands that to any user, with who sent it, so this needs
no privileges. Elsewhere there is no trace, and nothing is concluded.

A router that says nothing has not dropped anything: many never answer. So other packets to the same
address, which the firewall may treat better, go the same way beside the connects: only who answers
to those, and not to the connects, tells that these do not get there.
"""

from __future__ import annotations

import errno
import heapq
import selectors
import socket
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from functools import cached_property, partial
from typing import Final, NamedTuple

from diag.model import Json
from diag.net import kernel
from diag.net.doors import Icmp, icmp_error, report_icmp
from diag.record import field, record

UDP: Final = 0  # in place of a port: datagrams to the ports that traceroute uses
_UDP_PORT = 33434
_FARTHEST = 30  # hops
_AHEAD = 8  # hops asked beyond the last that answered: so many silent ones are passed over
_STEP = 0.005  # seconds from one hop to the next
_HEAD_START = 0.1  # seconds: where a router answers rarely, it is to answer to the connects
_TRIES, _AGAIN = 4, 0.15  # each hop is asked so often, so many seconds apart: ways may vary
_QUIET = 0.3  # seconds without an answer, after the last question, that end a trace: to the first
# one there were 0.75 s to answer
_EXPIRED = {4: (11, 0), 6: (3, 0)}  # ICMP type and code by IP version (RFC 792, RFC 4443)


@record
class Hop:
    """A router that answered; the first one has the number 1.

    It has several addresses where packets to the same place take different ways (or are answered
    from different interfaces).
    """

    number: int
    addresses: tuple[str, ...]

    def __str__(self) -> str:
        return f"{' or '.join(self.addresses)} (hop {self.number})"


@record
class Trail:
    """How far packets of one kind got.

    `hops`: the routers at which they ran out of time to live, in order, each once. `end`: the least
    number of hops after which somebody else than these answered: the host, or a firewall that
    rejects (`icmp`), and `seconds` how soon. `loop`: the routers between which the packets went
    round.
    """

    hops: tuple[Hop, ...] = ()
    end: Hop | None = None
    icmp: Icmp | None = None
    loop: tuple[str, ...] = ()
    seconds: float = 0.0


class Stop(NamedTuple):
    """Where packets stop: how far they get, a clause, and whom to ask, a sentence (or empty)."""

    where: str
    whom: str


@record
class Trace:
    """How far connects to `port` of `address` got, and beside them the other packets."""

    address: str
    port: int
    connects: Trail
    others: Trail = field(default_factory=Trail)
    reference: str = ""  # what the others were: "UDP", "port 80"; empty if there were none
    neighbour: bool = False  # the host was seen on the local network, and no router
    missing: str | None = None  # the next hop, if nobody answers there on the local network

    @property
    def last(self) -> Hop | None:
        """The last router known to have got the connects."""
        return self.connects.hops[-1] if self.connects.hops else None

    @property
    def beyond(self) -> Hop | None:
        """The first router behind that one which answers to the other packets alone."""
        number = self.last.number if self.last else 0
        known = {one for hop in self.connects.hops for one in hop.addresses}
        later = (hop for hop in self.others.hops if hop.number > number)
        return next((hop for hop in later if known.isdisjoint(hop.addresses)), None)

    @property
    def distance(self) -> int | None:
        """After how many hops the host itself answers to the other packets, if it does."""
        end = self.others.end
        return end.number if end and end.addresses == (self.address,) else None

    @property
    def answered(self) -> bool:
        """Whether a connect was answered after all, by the host or in its name."""
        return self.connects.end is not None and self.connects.icmp is None

    @property
    def stop(self) -> Stop:
        """Where connects stop that nobody answers."""
        last, beyond, distance = self.last, self.beyond, self.distance
        if self.connects.loop:
            ring = " and ".join(self.connects.loop)
            return Stop(
                f"connects go round in circles between {ring}",
                f"Ask who runs {ring}: their routes point at each other.",
            )
        if self.neighbour:
            return Stop(
                "no router lies between",
                "It happens at that machine, its cloud or hypervisor included, or here.",
            )
        if self.missing:
            return Stop(
                f"nobody has the address {self.missing} on the local network",
                f"Check whether {self.missing} runs.",
            )
        if last is None:
            if beyond is None:
                return Stop("no router on the way tells how far connects get", "")
            suspect = "this machine" if beyond.number == 1 else "something before it"
            return Stop(
                f"connects do not even get to {beyond}, which answers to {self.reference}",
                f"Either {beyond} drops them, or {suspect} does.",
            )
        who = " or ".join(last.addresses)
        if self.address in last.addresses:
            return Stop(
                f"connects get to {last} itself, and no farther",
                f"Ask who runs {who}, and to where that port is forwarded from there.",
            )
        so_far = f"connects get as far as {last}"
        if beyond:
            return Stop(
                f"{so_far}, but not to {beyond}, which answers to {self.reference}",
                f"Ask who runs {who} and {beyond}: one of these drops them, or what lies between.",
            )
        if distance == last.number + 1:
            return Stop(
                f"{so_far}, the last router before the host",
                f"Ask who runs {who}, and who runs the host: one of the two drops them, or what "
                "lies between.",
            )
        if distance and distance > last.number:
            return Stop(
                f"{so_far}; the host is hop {distance}, and no router between them answers",
                f"Ask who runs {who}, and what comes between it and the host.",
            )
        return Stop(
            f"{so_far}; nothing answers from beyond",
            f"Ask who runs {who}, and what comes behind it.",
        )

    @property
    def words(self) -> str:
        """What becomes of connects that fail, as a clause: where they stop, or who rejects them."""
        icmp = self.connects.icmp
        if icmp is None:
            return self.stop.where
        who = "the host itself" if icmp.sender == self.address else self.place(icmp.sender)
        return f"{who} rejects connects (ICMP type {icmp.type} code {icmp.code})"

    def place(self, sender: str) -> str:
        """The sender of an ICMP error with its hop, as far as that is known: "10.1.2.3 (hop 4)"."""
        for hop in self.connects.hops:
            if sender in hop.addresses:
                return f"{sender} (hop {hop.number})"
        end = self.connects.end
        if end is None or end.addresses != (sender,):
            return sender
        before = end.number - 1
        if before == 0 or any(hop.number == before for hop in self.connects.hops):
            return f"{sender} (hop {end.number})"
        return f"{sender} (hop {before} or {end.number})"  # some look after counting, some before

    def evidence(self) -> dict[str, Json]:
        """The trace as JSON, without what is not known."""
        told: dict[str, Json] = {"connects": _listed(self.connects)}
        if self.reference:
            told |= {"reference": self.reference, "others": _listed(self.others)}
        if self.distance is not None:
            told["host_hop"] = self.distance
        return told


def _listed(trail: Trail) -> list[Json]:
    return [{"hop": hop.number, "from": list(hop.addresses)} for hop in trail.hops]


def trace(
    address: str,
    port: int,
    seconds: float,
    beside: int | Callable[[], int] | None = None,
    wanted: Callable[[], bool] = lambda: True,
) -> Trace | None:
    """Find out how far connects to `port` of `address` get, within `seconds` seconds.

    `beside`: the other packets, connects to another port or `UDP`, or who says so when they are to
    be sent, 0.1 s later; None: none. It takes about 0.9 s where something does not answer, with
    four packets a hop and kind; at most 8 hops more than answer are asked. None where the kernel
    does not tell, for an address of this machine, when there is less than a second: silence would
    prove nothing; and as soon as it is not `wanted` any more.
    """
    if sys.platform != "linux" or seconds < 1 or kernel.is_here(address):
        return None
    walks = [_Walk(address, lambda: port, 0.0)]
    if beside is not None:
        chosen = beside if callable(beside) else partial(int, beside)
        walks.append(_Walk(address, chosen, _HEAD_START))
    _ask(walks, seconds, wanted)
    if walks[0].failed or not wanted():
        return None
    connects, *trails = [walk.trail() for walk in walks if not walk.failed]
    others = trails[0] if trails else Trail()
    heard = bool(connects.hops or others.hops)
    return Trace(
        address,
        port,
        connects,
        others,
        reference="" if not trails else walks[1].name,
        neighbour=not heard and kernel.is_neighbour(address),
        missing=None if heard else kernel.silent_neighbour(address),
    )


class _Walk:
    """Packets of one kind: connects to a port, or UDP."""

    def __init__(self, address: str, choose: Callable[[], int], delay: float) -> None:
        """`choose` says which port, once it is to be known."""
        self.delay = delay  # seconds
        self.failed = False  # cannot be sent, or the kernel does not say who sent an ICMP error
        self.far = 0  # the farthest hop that answered
        self._address = address
        self._choose = choose
        self._heard: dict[int, list[str]] = {}
        self._end: tuple[int, str, Icmp | None] | None = None
        self._sent: dict[int, float] = {}  # hop: when it was first asked, by time.monotonic()
        self._took = 0.0  # seconds until the end answered

    @cached_property
    def _port(self) -> int:
        return self._choose()

    @property
    def name(self) -> str:
        return "UDP" if self._port == UDP else f"port {self._port}"

    def wants(self, number: int) -> bool:
        """Whether it is still to be learned who is there."""
        if self.failed or number in self._heard:
            return False
        return self._end is None or number < self._end[0]

    def send(self, number: int, selector: selectors.BaseSelector) -> socket.socket:
        """One packet that gets as far as hop `number`; its socket, which `selector` watches.
        Raises OSError."""
        udp = self._port == UDP
        sock = socket.socket(
            kernel.family(self._address), socket.SOCK_DGRAM if udp else socket.SOCK_STREAM
        )
        self._sent.setdefault(number, time.monotonic())
        try:
            sock.setblocking(False)
            report_icmp(sock, on=True)
            if ":" in self._address:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS, number)
            else:
                sock.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, number)
            port = _UDP_PORT + number - 1 if udp else self._port
            with suppress(BlockingIOError):
                sock.connect(kernel.sockaddr(self._address, port))
            if udp:
                sock.send(b"bbdiag")
            event = selectors.EVENT_READ if udp else selectors.EVENT_WRITE  # and errors, always
            selector.register(sock, event, (self, number))
        except OSError:
            sock.close()
            raise
        return sock

    def look(self, number: int, sock: socket.socket) -> None:
        """Something has come back for hop `number`."""
        code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        icmp = icmp_error(sock)
        if icmp is None and code in {0, errno.ECONNREFUSED, errno.ECONNRESET}:
            self._ends(number, self._address, None)
        elif icmp is None:
            self.failed = True
        elif (icmp.type, icmp.code) == _EXPIRED[6 if ":" in self._address else 4]:
            self._heard.setdefault(number, []).append(icmp.sender)
            self.far = max(self.far, number)
        elif not kernel.is_here(icmp.sender):  # else it went nowhere
            self._ends(number, icmp.sender, icmp)

    def _ends(self, number: int, sender: str, icmp: Icmp | None) -> None:
        if self._end is None or number < self._end[0]:
            self._end = number, sender, icmp
            self._took = time.monotonic() - self._sent[number]

    def trail(self) -> Trail:
        known: set[str] = set()
        hops = []
        for number, senders in sorted(self._heard.items()):
            # One that lets packets pass which have run out answers twice.
            if new := tuple(one for one in dict.fromkeys(senders) if one not in known):
                hops.append(Hop(number, new))
                known.update(new)
        if self._end is None:
            return Trail(tuple(hops), loop=self._loop())
        number, sender, icmp = self._end
        end = Hop(number, (sender,))
        return Trail(tuple(hops), end, icmp, self._loop(), self._took)

    def _loop(self) -> tuple[str, ...]:
        places: dict[str, list[int]] = {}
        for number, senders in sorted(self._heard.items()):
            for sender in dict.fromkeys(senders):
                places.setdefault(sender, []).append(number)
        return tuple(one for one, at in places.items() if len(at) > 2 and at[-1] - at[0] > len(at))


def _ask(walks: Sequence[_Walk], seconds: float, wanted: Callable[[], bool]) -> None:
    """Send the packets of all walks and take in what comes back."""
    start = last = time.monotonic()  # the last question or answer
    planned = 0  # hops
    agenda: list[tuple[float, int, int, int]] = []  # when, hop, walk, tries left
    with selectors.DefaultSelector() as selector, ExitStack() as socks:
        while wanted():
            now = time.monotonic()
            while planned < min(_FARTHEST, _AHEAD + max(walk.far for walk in walks)):
                planned += 1
                for index, walk in enumerate(walks):
                    due = max(now, start + walk.delay + planned * _STEP)
                    heapq.heappush(agenda, (due, planned, index, _TRIES))
            while agenda and agenda[0][0] <= now < start + seconds:
                _, number, index, tries = heapq.heappop(agenda)
                if not walks[index].wants(number):
                    continue
                try:
                    socks.enter_context(walks[index].send(number, selector))
                except OSError:
                    walks[index].failed = True
                last = now
                if tries > 1:
                    heapq.heappush(agenda, (now + _AGAIN, number, index, tries - 1))
            if not any(walk.wants(number) for walk in walks for number in range(1, planned + 1)):
                return
            until = min(agenda[0][0] if agenda else last + _QUIET, start + seconds)
            arrived = selector.select(max(0.0, until - now))
            # What is there already is read however late it is: a thread that had to wait for the
            # processor must not call a router silent.
            if not arrived and until <= now:
                return
            for key, _ in arrived:
                selector.unregister(key.fileobj)
                walk, number = key.data
                walk.look(number, key.fileobj)
                last = time.monotonic()
