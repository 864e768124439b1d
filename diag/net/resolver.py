"""One resolver, asked directly: over UDP as the system does, repeated, over TCP when cut short.

What is plain is written and read by `diag.net.dnspacket`; dnspython is imported for the rest.
"""

from __future__ import annotations

import errno
import selectors
import socket
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from functools import lru_cache, partial
from ipaddress import ip_address
from itertools import pairwise
from math import inf
from typing import Literal

from diag.model import Json
from diag.net import dnspacket
from diag.net.dnspacket import Said
from diag.net.doors import report_icmp
from diag.record import record, replace
from diag.settings import Resolver

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


@record
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
        return not silent and not _is_loopback(self.resolver.address)

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


@lru_cache(64)
def _is_loopback(address: str) -> bool:
    return ip_address(address.partition("%")[0]).is_loopback


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
    start = time.monotonic()
    failed = partial(Reply, resolver, name, kind, started=start)
    packet = _question(name, kind, edns=edns, validate=validate)
    if packet is None:
        return failed("error", detail="not a legal host name")
    try:
        said = _exchange(packet, resolver, start + timeout, _SEND_AT[:1] if once else _SEND_AT)
    except _CutShortError as error:
        return failed("tcp-blocked", detail=str(error), elapsed_ms=_ms_since(start))
    except _UnsentError as error:
        return failed("unsent", detail=str(error), elapsed_ms=_ms_since(start))
    except TimeoutError:
        return failed("timeout", elapsed_ms=_ms_since(start))
    except OSError as error:
        detail = error.strerror or str(error)
        return failed("unreachable", detail=detail, elapsed_ms=_ms_since(start))
    return replace(_read(said, failed("error")), elapsed_ms=_ms_since(start))


def _question(name: str, kind: Kind, *, edns: bool, validate: bool) -> bytes | None:
    """The query as it is sent, None for what is no legal name."""
    packet = dnspacket.question(name, kind, edns=edns, validate=validate)
    if packet is not None:
        return packet
    import dns.exception
    import dns.flags
    import dns.message

    try:
        message = dns.message.make_query(name, kind, use_edns=0 if edns else False)
    except dns.exception.DNSException:
        return None
    if not validate:
        message.flags |= dns.flags.CD
    return message.to_wire()


def _response(packet: bytes, data: bytes) -> Said | None:
    """What a response says, None if it is none to this query."""
    if (said := dnspacket.read(packet, data)) is not None:
        return said
    import dns.exception
    import dns.message
    import dns.rcode
    import dns.rdatatype

    try:
        message = dns.message.from_wire(data, ignore_trailing=True)
        if not dns.message.from_wire(packet).is_response(message):
            return None
    except dns.exception.DNSException:
        return None
    records: dict[tuple[str, str], list[str]] = {}
    for rrset in message.answer:
        kind = dns.rdatatype.to_text(rrset.rdtype)
        if kind in dnspacket.TYPES:
            owner = rrset.name.to_text(omit_final_dot=True).lower()
            records[owner, kind] = [
                record.target.to_text(omit_final_dot=True) if kind == "CNAME" else record.address
                for record in rrset
            ]
    final = any(rrset.rdtype == dns.rdatatype.SOA for rrset in message.authority)
    return Said(dns.rcode.to_text(message.rcode()), records, final)


Asked = tuple[Resolver, str, Kind]


def quick(
    questions: Sequence[Asked], timeout: float, *, edns: bool
) -> Iterator[tuple[Asked, Reply | None]]:
    """Ask everything at once, as `query` would; the replies as they come, within `timeout` seconds.

    None stands for what has to be looked into with `examine`, at once: a failure, an answer that
    is not plain or leaves something open.
    """
    start = time.monotonic()
    end = start + timeout
    with ExitStack() as stack, selectors.DefaultSelector() as selector:
        socks: dict[Resolver, socket.socket] = {}
        pending: dict[Asked, bytes] = {}
        for one in questions:
            packet = dnspacket.question(one[1], one[2], edns=edns, validate=True)
            try:
                if one[0] not in socks:
                    socks[one[0]] = stack.enter_context(_datagram_socket(one[0]))
                    selector.register(socks[one[0]], selectors.EVENT_READ, one[0])
            except (OSError, _UnsentError):
                packet = None
            if packet is None:
                yield one, None
            else:
                pending[one] = packet
        due = deque(_SEND_AT)
        while pending and (now := time.monotonic()) < end:
            if due and start + due[0] <= now:
                due.popleft()
                for one, packet in list(pending.items()):
                    try:
                        socks[one[0]].send(packet)
                    except OSError:  # forbidden here, or what became of the question before
                        del pending[one]
                        yield one, None
            until = min(end, start + due[0]) if due else end
            for key, _ in selector.select(max(0.0, until - time.monotonic())):
                for one, said in _heard(socks[key.data], key.data, pending):
                    del pending[one]
                    blank = Reply(*one, "error", started=start, elapsed_ms=_ms_since(start))
                    reply = None if said is None else _read(said, blank)
                    if reply is None or reply.outcome == "servfail" or reply.unfinished:
                        yield one, None
                    else:
                        yield one, reply
        for one in pending:
            yield one, Reply(*one, "timeout", started=start, elapsed_ms=_ms_since(start))


def _heard(
    sock: socket.socket, resolver: Resolver, pending: Mapping[Asked, bytes]
) -> list[tuple[Asked, Said | None]]:
    """What has come from a resolver: to which question, and what it says if that is plain."""
    try:
        data = sock.recv(65535)
    except OSError:
        return [(one, None) for one in pending if one[0] == resolver]
    return [
        (one, dnspacket.read(packet, data))
        for one, packet in pending.items()
        if packet[:2] == data[:2] and one[0] == resolver
    ]


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


def _read(said: Said, blank: Reply) -> Reply:
    """Fill in what a response says."""
    current = blank.name.removesuffix(".").lower()
    seen = {current}
    aliases: list[str] = []
    while (targets := said.records.get((current, "CNAME"))) is not None:
        aliases.append(targets[0])
        current = targets[0].lower()
        if current in seen:
            return replace(blank, outcome="loop", aliases=tuple(aliases))
        seen.add(current)
    found = said.records.get((current, blank.kind), []) if blank.kind != "CNAME" else []
    addresses = tuple(sorted(found))
    outcome: Outcome = "error"
    match said.rcode:
        case "NOERROR":
            outcome = "answer" if addresses else "nodata"
        case "NXDOMAIN":
            outcome = "dangling" if aliases else "nxdomain"
        case "SERVFAIL":
            outcome = "servfail"
        case "REFUSED":
            outcome = "refused"
    return replace(
        blank,
        outcome=outcome,
        addresses=addresses,
        aliases=tuple(aliases),
        unfinished=bool(aliases) and outcome == "nodata" and not said.final,
        detail=said.rcode if outcome == "error" else "",
    )


def _exchange(packet: bytes, resolver: Resolver, end: float, send_at: Sequence[float]) -> Said:
    """Send over UDP, again when nothing comes, and over TCP when the answer does not fit.

    Raises:
        TimeoutError, OSError, _CutShortError, _UnsentError: no usable answer came until `end`.
    """
    start = time.monotonic()
    failure: OSError = TimeoutError()
    with _datagram_socket(resolver) as sock:
        for now_at, next_at in pairwise((*send_at, inf)):
            if start + now_at >= end:
                break
            try:
                sock.send(packet)
            except PermissionError:
                raise _UnsentError("this machine's own firewall forbids it") from None
            except OSError as error:  # what became of the question before this one
                failure = error
                sock.send(packet)
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
                if data[:2] == packet[:2] and len(data) >= 12 and data[2] & 0x82 == 0x82:  # QR, TC
                    try:
                        data = _over_tcp(packet, resolver, end)
                    except OSError as error:
                        raise _CutShortError(error.strerror or str(error)) from None
                if (said := _response(packet, data)) is not None:
                    return said
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
