"""A DNS server that answers as it is told, over UDP and TCP.

    with DnsServer({"bb.lab.test": addresses("10.0.0.7"), "*.wild.test": silent}) as server:
        …  # server.port

A zone maps names, "*.domain" included, to behaviours; a behaviour is a function of the question,
and the ones below are put together: `later(1.8, addresses("10.0.0.7"))`.
"""

from __future__ import annotations

import contextlib
import itertools
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Literal, NoReturn

import dns.exception
import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import dns.rrset


@dataclass(slots=True)
class Question:
    """One question and the response that is being made for it."""

    message: dns.message.Message
    response: dns.message.Message
    name: str  # lower case, without the last dot; of an alias's target while that is followed
    kind: str  # "A", "AAAA", "CNAME", …
    tcp: bool
    zone: Zone
    delay: float = 0.0  # seconds
    seen: set[str] = field(default_factory=set)

    @property
    def validate(self) -> bool:
        return not self.message.flags & dns.flags.CD


Behaviour = Callable[[Question], bool]  # whether there is a response at all
Zone = Mapping[str, Behaviour]


def addresses(*texts: str) -> Behaviour:
    """A record for each IPv4 address, AAAA for each IPv6 one; no data for other types."""

    def answer(question: Question) -> bool:
        kinds = {4: "A", 6: "AAAA"}
        fitting = [text for text in texts if kinds[ip_address(text).version] == question.kind]
        if fitting:
            rrset = dns.rrset.from_text(f"{question.name}.", 60, "IN", question.kind, *fitting)
            question.response.answer.append(rrset)
        else:
            _negative(question)
        return True

    return answer


def alias(target: str, *, follow: bool = True) -> Behaviour:
    """A CNAME; with `follow` what the target has is answered with it, as a resolver does."""

    def answer(question: Question) -> bool:
        rrset = dns.rrset.from_text(f"{question.name}.", 60, "IN", "CNAME", f"{target}.")
        question.response.answer.append(rrset)
        question.seen.add(question.name)
        if not follow or question.kind == "CNAME" or target in question.seen:
            return True
        question.name = target
        return behaviour_of(question.zone, target)(question)

    return answer


def rcode(text: str) -> Behaviour:
    """NXDOMAIN, SERVFAIL, REFUSED, …"""

    def answer(question: Question) -> bool:
        question.response.set_rcode(dns.rcode.from_text(text))
        if text == "NXDOMAIN":
            _negative(question)
        return True

    return answer


def silent(question: Question) -> bool:
    """Nothing comes back."""
    return False


def later(seconds: float, then: Behaviour) -> Behaviour:
    """The same, so much later."""

    def answer(question: Question) -> bool:
        question.delay = seconds
        return then(question)

    return answer


def badly_signed(then: Behaviour) -> Behaviour:
    """What a validating resolver makes of wrong signatures: SERVFAIL, unless told not to check."""

    def answer(question: Question) -> bool:
        return (rcode("SERVFAIL") if question.validate else then)(question)

    return answer


def too_long(then: Behaviour) -> Behaviour:
    """An answer that only fits into TCP."""

    def answer(question: Question) -> bool:
        if question.tcp:
            return then(question)
        question.response.flags |= dns.flags.TC
        return True

    return answer


def only(kind: str, then: Behaviour, otherwise: Behaviour) -> Behaviour:
    """One behaviour for one record type, another for the rest."""

    def answer(question: Question) -> bool:
        return (then if question.kind == kind else otherwise)(question)

    return answer


def first(times: int, then: Behaviour, afterwards: Behaviour) -> Behaviour:
    """One behaviour for the first questions, another from then on."""
    left = iter(range(times))

    def answer(question: Question) -> bool:
        return (afterwards if next(left, None) is None else then)(question)

    return answer


def by_turns(*behaviours: Behaviour) -> Behaviour:
    """One question after the other is answered in another way."""
    turn = itertools.cycle(behaviours)

    def answer(question: Question) -> bool:
        return next(turn)(question)

    return answer


def unreadable(question: Question) -> NoReturn:
    """Bytes that are no DNS message."""
    raise dns.exception.FormError


def behaviour_of(zone: Zone, name: str) -> Behaviour:
    """What a zone has for a name: its own entry, or the closest "*.domain", or no such name."""
    labels = name.split(".")
    wildcards = ("*." + ".".join(labels[start:]) for start in range(1, len(labels)))
    for key in (name, *wildcards, "*"):
        if key in zone:
            return zone[key]
    return rcode("NXDOMAIN")


def _negative(question: Question) -> None:
    soa = dns.rrset.from_text("test.", 60, "IN", "SOA", "ns.test. root.test. 1 60 60 60 60")
    question.response.authority.append(soa)


class DnsServer:
    """Answers from a zone on one address and port, in daemon threads, until it is left."""

    def __init__(
        self,
        zone: Zone,
        *,
        address: str = "127.0.0.1",
        port: int = 0,
        tcp: Literal["serve", "refuse", "ignore"] = "serve",
    ) -> None:
        """The sockets are made here, in the network namespace of the calling thread.

        `tcp`: "refuse" does not listen, "ignore" lets connections come up and never answers.
        """
        self.zone = zone
        self.asked: list[tuple[str, str, str]] = []  # name, type, "udp" or "tcp"
        self._timers: list[threading.Timer] = []
        self._udp, self._tcp = _sockets(address, port, listen=tcp != "refuse")
        self.address, self.port = self._udp.getsockname()[:2]
        self._threads = [threading.Thread(target=self._serve_udp, daemon=True)]
        if tcp == "serve":
            self._threads.append(threading.Thread(target=self._serve_tcp, daemon=True))

    def __enter__(self) -> DnsServer:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._udp.sendto(b"", self._udp.getsockname())
        with contextlib.suppress(OSError):
            self._tcp.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(5)
        for timer in self._timers:  # only now there will be no more
            timer.cancel()
        self._udp.close()
        self._tcp.close()

    def _serve_udp(self) -> None:
        while True:
            data, peer = self._udp.recvfrom(65535)
            if not data:
                return
            for answer, delay in self._answers(data, tcp=False):
                if not delay:
                    self._udp.sendto(answer, peer)
                    continue
                timer = threading.Timer(delay, self._send, (answer, peer))
                timer.daemon = True
                self._timers.append(timer)
                timer.start()

    def _send(self, answer: bytes, peer: tuple[str, int]) -> None:
        with contextlib.suppress(OSError):  # the server is being closed
            self._udp.sendto(answer, peer)

    def _serve_tcp(self) -> None:
        while True:
            try:
                sock, _ = self._tcp.accept()
            except OSError:
                return
            threading.Thread(target=self._talk, args=(sock,), daemon=True).start()

    def _talk(self, sock: socket.socket) -> None:
        """Answer the questions of one TCP connection; after one that gets no answer, close it."""
        with sock, contextlib.suppress(OSError):
            sock.settimeout(5)
            while size := int.from_bytes(sock.recv(2, socket.MSG_WAITALL), "big"):
                answers = list(self._answers(sock.recv(size, socket.MSG_WAITALL), tcp=True))
                for answer, _ in answers:
                    sock.sendall(len(answer).to_bytes(2, "big") + answer)
                if not answers:
                    return

    def _answers(self, data: bytes, *, tcp: bool) -> Iterator[tuple[bytes, float]]:
        """None or one response to a packet, with its delay."""
        message = dns.message.from_wire(data)
        asked = message.question[0]
        name = asked.name.to_text(omit_final_dot=True).lower()
        kind = dns.rdatatype.to_text(asked.rdtype)
        self.asked.append((name, kind, "tcp" if tcp else "udp"))
        response = dns.message.make_response(message, recursion_available=True)
        question = Question(message, response, name, kind, tcp, self.zone)
        try:
            if behaviour_of(self.zone, name)(question):
                yield response.to_wire(), question.delay
        except dns.exception.FormError:
            yield b"\xff\xff not DNS", question.delay


def _sockets(address: str, port: int, *, listen: bool) -> tuple[socket.socket, socket.socket]:
    """A UDP and a TCP socket on the same port; without `listen` TCP connections are refused."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    for _ in range(20):
        udp = socket.socket(family, socket.SOCK_DGRAM)
        tcp = socket.socket(family, socket.SOCK_STREAM)
        try:
            udp.bind((address, port))
            tcp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            tcp.bind(udp.getsockname()[:2])
        except OSError:
            udp.close()
            tcp.close()
            if port:
                raise
        else:
            if listen:
                tcp.listen()
            return udp, tcp
    raise OSError("no port is free for both UDP and TCP")
