"""One resolver, asked directly: over UDP as the system does, repeated, over TCP when cut short.

dnspython is imported by the functions that ask.
"""

from __future__ import annotations

import errno
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from ipaddress import ip_address
from itertools import pairwise
from math import inf
from typing import TYPE_CHECKING, Any, Literal

from diag.model import Json
from diag.net.doors import report_icmp
from diag.settings import Resolver

if TYPE_CHECKING:
    from dns.message import Message

Kind = Literal["A", "AAAA", "CNAME"]
Outcome = Literal[
    "answer",
    "nodata",  # the name exists, but has no address
    "nxdomain",
    "dangling",  # an alias of a name that does not exist
    "loop",  # aliases in a circle
    "servfail",
    "bogus",  # SERVFAIL, and an answer when told not to validate
    "refused",
    "error",  # another response code
    "tcp-blocked",  # truncated, and no answer over TCP
    "timeout",
    "unreachable",  # ICMP says that nothing listens there, or that there is no such machine
    "unsent",  # this machine has no route to that address, or its own firewall forbids
]
_DEFINITE = frozenset[Outcome]({"answer", "nodata", "nxdomain", "dangling", "loop"})
ABSENT = frozenset[Outcome]({"nodata", "nxdomain", "dangling"})

_PORT = 53
_SEND_AT = (0.0, 0.4, 1.2)  # seconds: a lost packet must not look like a dead resolver
_PASSING = {errno.EHOSTUNREACH, errno.ENETUNREACH}
_LONGEST_CHAIN = 16  # aliases; resolvers stop there, or sooner


@dataclass(frozen=True, slots=True)
class Reply:
    """What one resolver said to one question."""

    resolver: Resolver
    name: str
    kind: Kind
    outcome: Outcome
    addresses: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()  # the chain, in order, without `name` itself
    unfinished: bool = False  # it stops at an alias and says nothing about the alias's target
    detail: str = ""
    started: float = 0.0  # time.monotonic()
    elapsed_ms: int = 0

    @property
    def server(self) -> str:
        """The resolver, as people write it: "10.0.0.53", "[fd00::53]:5353"."""
        return label(self.resolver)

    @property
    def dig(self) -> str:
        """The resolver, as dig wants it after its "@"."""
        port = f" -p {self.resolver.port}" if self.resolver.port != _PORT else ""
        return self.resolver.address + port

    @property
    def definite(self) -> bool:
        """Whether the resolver is believed; else the system asks the next one."""
        return self.outcome in _DEFINITE

    @property
    def from_outside(self) -> bool:
        """Whether a packet came back from another machine."""
        silent = self.outcome in {"timeout", "unreachable", "unsent"}
        return not silent and not ip_address(self.resolver.address.partition("%")[0]).is_loopback

    def evidence(self) -> dict[str, Json]:
        """The reply as JSON, without what is empty."""
        told: dict[str, Json] = {
            "server": self.server,
            "name": self.name,
            "type": self.kind,
            "result": self.outcome,
            "addresses": self.addresses,
            "aliases": self.aliases,
            "detail": self.detail,
            "ms": self.elapsed_ms,
        }
        return {key: value for key, value in told.items() if value or key == "ms"}


def label(resolver: Resolver) -> str:
    """The address, and the port where it is not the usual one."""
    if resolver.port == _PORT:
        return resolver.address
    host = f"[{resolver.address}]" if ":" in resolver.address else resolver.address
    return f"{host}:{resolver.port}"


class _CutShortError(Exception):
    """The answer did not fit into a datagram and could not be had over TCP."""


class _UnsentError(Exception):
    """The question did not leave this machine."""


def load() -> None:
    """Import what `query` needs, which takes as long as some answers."""
    import dns.message  # noqa: F401


def query(
    name: str,
    kind: Kind,
    resolver: Resolver,
    timeout: float,
    *,
    validate: bool = True,
    edns: bool = False,
    once: bool = False,
) -> Reply:
    """Ask one resolver one question; `name` is taken as absolute. Never raises.

    Without `validate` the resolver is told not to check signatures (the CD bit). `timeout` is in
    seconds and holds for everything, the repetition over TCP included. The question is sent again
    when no answer comes, unless only `once`.
    """
    import dns.exception
    import dns.flags
    import dns.message

    start = time.monotonic()
    failed = partial(Reply, resolver, name, kind, started=start)
    try:
        question = dns.message.make_query(name, kind, use_edns=0 if edns else False)
    except dns.exception.DNSException:
        return failed("error", detail="not a legal host name")
    if not validate:
        question.flags |= dns.flags.CD
    try:
        message = _exchange(question, resolver, start + timeout, _SEND_AT[:1] if once else _SEND_AT)
    except _CutShortError as error:
        return failed("tcp-blocked", detail=str(error), elapsed_ms=_ms_since(start))
    except _UnsentError as error:
        return failed("unsent", detail=str(error), elapsed_ms=_ms_since(start))
    except TimeoutError:
        return failed("timeout", elapsed_ms=_ms_since(start))
    except OSError as error:
        detail = error.strerror or str(error)
        return failed("unreachable", detail=detail, elapsed_ms=_ms_since(start))
    return replace(_read(message, failed("error")), elapsed_ms=_ms_since(start))


def examine(name: str, kind: Kind, resolver: Resolver, timeout: float, *, edns: bool) -> Reply:
    """As `query`, but an answer that can mean several things is looked into."""
    end = time.monotonic() + timeout
    ask = partial(query, resolver=resolver, edns=edns)
    first = ask(name, kind, timeout=timeout)
    if first.outcome == "servfail":
        unchecked = ask(name, kind, timeout=end - time.monotonic(), validate=False)
        again = ask(name, kind, timeout=end - time.monotonic())
        if again.definite:
            return replace(again, detail="SERVFAIL at the first try")
        if unchecked.definite and again.outcome == "servfail":
            return replace(first, outcome="bogus", addresses=(), aliases=unchecked.aliases)
        return _walk(first, end)
    if first.unfinished:
        target = ask(first.aliases[-1], kind, timeout=end - time.monotonic())
        if target.outcome in {"nxdomain", "dangling", "loop"}:
            outcome: Outcome = "loop" if target.outcome == "loop" else "dangling"
            return replace(first, outcome=outcome, aliases=first.aliases + target.aliases)
    return first


def _walk(reply: Reply, end: float) -> Reply:
    """Follow the aliases of a name that only brings SERVFAIL: some resolvers say so of a loop."""
    aliases: list[str] = []
    current = reply.name
    while len(aliases) < _LONGEST_CHAIN:
        step = query(current, "CNAME", reply.resolver, end - time.monotonic())
        if step.outcome != "loop" and not step.aliases:
            break
        aliases.extend(step.aliases)
        current = aliases[-1]
        seen = [name.lower().rstrip(".") for name in (reply.name, *aliases)]
        if step.outcome == "loop" or len(set(seen)) < len(seen):
            return replace(reply, outcome="loop", aliases=tuple(aliases))
    return replace(reply, aliases=tuple(aliases))


def _read(message: Message, blank: Reply) -> Reply:
    """Fill in what a response says."""
    import dns.name
    import dns.rcode
    import dns.rdatatype

    current = dns.name.from_text(blank.name)
    seen = {current}
    aliases: list[str] = []
    records: dict[tuple[dns.name.Name, str], Any] = {
        (rrset.name, dns.rdatatype.to_text(rrset.rdtype)): rrset for rrset in message.answer
    }
    while (rrset := records.get((current, "CNAME"))) is not None:
        current = rrset[0].target
        aliases.append(current.to_text(omit_final_dot=True))
        if current in seen:
            return replace(blank, outcome="loop", aliases=tuple(aliases))
        seen.add(current)
    found = records.get((current, blank.kind)) if blank.kind != "CNAME" else None
    addresses = tuple(sorted(record.address for record in found or ()))
    rcode = dns.rcode.to_text(message.rcode())
    outcome: Outcome = "error"
    match rcode:
        case "NOERROR":
            outcome = "answer" if addresses else "nodata"
        case "NXDOMAIN":
            outcome = "dangling" if aliases else "nxdomain"
        case "SERVFAIL":
            outcome = "servfail"
        case "REFUSED":
            outcome = "refused"
    final = any(rrset.rdtype == dns.rdatatype.SOA for rrset in message.authority)
    return replace(
        blank,
        outcome=outcome,
        addresses=addresses,
        aliases=tuple(aliases),
        unfinished=bool(aliases) and outcome == "nodata" and not final,
        detail=rcode if outcome == "error" else "",
    )


def _exchange(
    question: Message, resolver: Resolver, end: float, send_at: Sequence[float]
) -> Message:
    """Send over UDP, again when nothing comes, and over TCP when the answer does not fit.

    Raises:
        TimeoutError, OSError, _CutShortError, _UnsentError: no usable answer came until `end`.
    """
    import dns.exception
    import dns.message

    wire = question.to_wire()
    start = time.monotonic()
    failure: OSError = TimeoutError()
    with _datagram_socket(resolver) as sock:
        for now_at, next_at in pairwise((*send_at, inf)):
            if start + now_at >= end:
                break
            try:
                sock.send(wire)
            except PermissionError:
                raise _UnsentError("this machine's own firewall forbids it") from None
            except OSError as error:  # what became of the question before this one
                failure = error
                sock.send(wire)
            until = min(end, start + next_at)
            while (left := until - time.monotonic()) > 0:
                sock.settimeout(left)
                try:
                    data = sock.recv(65535)
                except TimeoutError:
                    break
                except OSError as error:
                    if error.errno not in _PASSING or error.errno == failure.errno:
                        raise
                    failure = error  # a router's word, which need not last: until the next time
                    continue
                if data[:2] == wire[:2] and len(data) >= 12 and data[2] & 0x82 == 0x82:  # QR, TC
                    try:
                        data = _over_tcp(wire, resolver, end)
                    except OSError as error:
                        raise _CutShortError(error.strerror or str(error)) from None
                try:
                    message = dns.message.from_wire(data, ignore_trailing=True)
                except dns.exception.DNSException:
                    continue  # not an answer to anything
                if question.is_response(message):
                    return message
    raise failure


def _datagram_socket(resolver: Resolver) -> socket.socket:
    """A connected UDP socket, so that ICMP errors come back."""
    family, _, _, _, address = socket.getaddrinfo(
        resolver.address, resolver.port, type=socket.SOCK_DGRAM, flags=socket.AI_NUMERICHOST
    )[0]
    sock = socket.socket(family, socket.SOCK_DGRAM)
    report_icmp(sock, on=True)
    try:
        sock.connect(address)
    except OSError as error:
        sock.close()
        raise _UnsentError(error.strerror or str(error)) from None
    return sock


def _over_tcp(wire: bytes, resolver: Resolver, end: float) -> bytes:
    """The same question over TCP. Raises OSError."""
    left = max(0.001, end - time.monotonic())
    with socket.create_connection((resolver.address, resolver.port), timeout=left) as sock:
        sock.sendall(len(wire).to_bytes(2, "big") + wire)
        data = b""
        while len(data) < 2 or len(data) < 2 + int.from_bytes(data[:2], "big"):
            if (left := end - time.monotonic()) <= 0:
                raise TimeoutError(errno.ETIMEDOUT, "timed out")
            sock.settimeout(left)
            part = sock.recv(65535)
            if not part:
                raise ConnectionResetError(errno.ECONNRESET, "closed without an answer")
            data += part
    return data[2:]


def _ms_since(start: float) -> int:
    return round((time.monotonic() - start) * 1000)
