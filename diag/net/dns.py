"""Host names: the system's own answer, and what each resolver says when it is asked directly.

`Survey` asks everybody at once; `lookup` asks the system alone, `diag.net.resolver` one resolver
alone; `resolves` is for who only wants to know whether a name exists.
"""

from __future__ import annotations

import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache, partial
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from itertools import combinations
from queue import Empty, SimpleQueue
from typing import Any, Literal

from diag import early
from diag.model import Json
from diag.net import resolvconf
from diag.net.ratio import Ratio
from diag.net.resolver import ABSENT, Kind, Outcome, Reply, examine, label, query, quick
from diag.record import record, replace
from diag.settings import Resolver

GIVE_UP = 2.0  # seconds after which a silent resolver is given up
PATIENCE = 1.5  # seconds for each of many questions
GRACE = 0.3  # seconds that the resolvers are given once the system has a good answer
TOO_SLOW = 1.0  # seconds that resolving a name may take

# Of what A and AAAA brought, what tells most about the name, first.
_OF_ONE_NAME: tuple[Outcome, ...] = (
    "answer",
    "loop",
    "dangling",
    "nxdomain",
    "bogus",
    "tcp-blocked",
    "servfail",
    "refused",
    "error",
    "unreachable",
    "timeout",
    "unsent",
    "nodata",
)
_PRIVATE = tuple(
    ip_network(text)
    for text in (
        "10.0.0.0/8",
        "100.64.0.0/10",  # carrier-grade NAT
        "127.0.0.0/8",
        "169.254.0.0/16",
        "172.16.0.0/12",
        "192.168.0.0/16",
        "::1/128",
        "fc00::/7",
        "fe80::/10",
    )
)
_SAID_OFTEN = {  # by a resolver that says something else at other times
    "servfail": "says SERVFAIL",
    "refused": "says REFUSED",
    "nxdomain": "says NXDOMAIN",
    "dangling": "says that an alias leads nowhere",
    "nodata": "says that there is no address",
    "timeout": "gives no answer",
    "unreachable": "is unreachable",
}
_VERSIONS: tuple[tuple[Kind, int], ...] = (("A", 4), ("AAAA", 6))
_EAI = {value: name for name, value in vars(socket).items() if name.startswith("EAI_")}


# what a host text and an address are


def literal(host: str) -> str | None:
    """The address that `host` spells, in its usual form; None if it is a name.

    "127.1" and "2130706433" are addresses too, to every program that asks the system.
    """
    try:
        return str(ip_address(host))
    except ValueError:
        pass
    try:
        return socket.inet_ntoa(socket.inet_aton(host))
    except OSError:
        return None


def is_localhost(host: str) -> bool:
    """Whether the name means this machine by definition, so that loopback is right."""
    labels = host.rstrip(".").lower().split(".")
    return labels[0] in {"localhost", "ip6-localhost"} or labels[-1] == "localhost"


def is_private(address: str) -> bool:
    """Whether an address cannot be reached from the internet: private, loopback, link-local."""
    parsed = _parsed(address)
    return any(parsed in network for network in _PRIVATE)


def is_public(address: str) -> bool:
    """Whether a machine on the internet can have the address. Some are neither, as 0.0.0.0."""
    parsed = _parsed(address)
    return parsed.is_global and not parsed.is_multicast


def is_loopback(address: str) -> bool:
    """Whether it is what every machine calls itself: 127.0.0.1, ::1."""
    return _parsed(address).is_loopback


def is_unspecified(address: str) -> bool:
    """Whether it is 0.0.0.0 or ::, the answer of blocklists."""
    return _parsed(address).is_unspecified


@lru_cache(1024)  # several things are asked about each
def _parsed(address: str) -> IPv4Address | IPv6Address:
    parsed = ip_address(address)
    mapped = parsed.ipv4_mapped if isinstance(parsed, IPv6Address) else None
    return mapped or parsed


# the system's answer


@record
class Lookup:
    """What getaddrinfo says, as every program on this machine gets it."""

    addresses: tuple[str, ...] = ()  # in the order in which the system would try them
    canonical: str = ""  # the name they belong to, search domains and aliases followed
    error: str = ""  # "EAI_NONAME", …; empty when there are addresses
    detail: str = ""
    elapsed_ms: int = 0

    @property
    def absent(self) -> bool:
        """Whether the system is sure that there is no such name. Only on Linux does it tell that
        from a resolver that cannot be asked."""
        return sys.platform == "linux" and self.error in {"EAI_NONAME", "EAI_NODATA"}


def lookup(name: str) -> Lookup:
    """Ask the system. Blocks for as long as the system wants to: call it in a thread."""
    start = time.monotonic()
    addresses: tuple[str, ...] = ()
    canonical = error = detail = ""
    begun = early.taken_up(name)
    try:
        if begun is None:
            found = _addresses(name)
        else:
            found, took = begun()
            start = time.monotonic() - took
            if isinstance(found, OSError):
                raise found
    except socket.gaierror as failure:
        error = _EAI.get(failure.errno or 0, str(failure.errno))
        detail = failure.strerror or ""
    except ValueError:  # the encoding of host names: empty or too long a label, a zero byte
        error, detail = "EAI_NONAME", "not a legal host name"
    else:
        addresses = tuple(dict.fromkeys(str(entry[4][0]) for entry in found))
        canonical = found[0][3]
    elapsed_ms = round((time.monotonic() - start) * 1000)
    return Lookup(addresses, canonical, error, detail, elapsed_ms)


def _addresses(name: str) -> Any:
    # As bytes where that is the same: text would have Python load its tables for foreign letters.
    asked: str | bytes = name.encode() if name.isascii() else name
    return socket.getaddrinfo(asked, None, type=socket.SOCK_STREAM, flags=socket.AI_CANONNAME)


def resolves(host: str, timeout: float, *, dns_works: bool = False) -> tuple[str, ...] | None:
    """The addresses of a host; () if the system says that it does not exist, None if that could
    not be told within `timeout` seconds.

    `dns_works`: as other names show. Then a resolver that fails at this one, or refuses to look it
    up, as those do that know but their own zone, leaves no doubt either.
    """
    answers: SimpleQueue[Lookup] = SimpleQueue()
    threading.Thread(target=lambda: answers.put(lookup(host)), daemon=True).start()
    try:
        found = answers.get(timeout=timeout)
    except Empty:
        return None
    return found.addresses if found.addresses or found.absent or dns_works else None


def by_dns(name: str, timeout: float) -> tuple[str, ...]:
    """The addresses that the DNS servers of this machine give, whatever its hosts file says."""
    configuration = resolvconf.configuration()
    found: dict[str, None] = {}
    for resolver in map(Resolver, configuration.asked):
        for kind, _ in _VERSIONS:
            reply = query(name, kind, resolver, min(timeout, GIVE_UP), edns=configuration.edns)
            found |= dict.fromkeys(reply.addresses)
    return tuple(found)


@record
class Repeated:
    """What one resolver said to the same question, several times over."""

    resolver: Resolver
    replies: tuple[Reply, ...]

    @property
    def addresses(self) -> tuple[str, ...]:
        """All that it ever gave."""
        return tuple(dict.fromkeys(one for reply in self.replies for one in reply.addresses))

    @property
    def odd(self) -> tuple[Reply, ...]:
        """The replies that a machine here could not work with, or that show another world, where
        most of the others are good. Addresses alone may change: large sites take turns."""
        by_world: dict[str, list[Reply]] = {}
        for reply in self.replies:
            private = [is_private(address) for address in reply.addresses]
            world = reply.outcome if not private else "private" if all(private) else "public"
            by_world.setdefault(world, []).append(reply)
        good = max(
            by_world.keys() & {"private", "public"}, key=lambda w: len(by_world[w]), default=""
        )
        if not good:
            return ()
        return tuple(reply for world, all_ in by_world.items() if world != good for reply in all_)

    def evidence(self) -> dict[str, Json]:
        return {"server": label(self.resolver)} | Ratio(len(self.odd), len(self.replies)).evidence()

    def __str__(self) -> str:
        odd = self.odd
        kinds = [f"gives {', '.join(r.addresses)}" if r.addresses else r.outcome for r in odd]
        how = ", ".join(dict.fromkeys(_SAID_OFTEN.get(kind, kind) for kind in kinds))
        return f"{label(self.resolver)} {how} to {Ratio(len(odd), len(self.replies))} questions"


def repeat(name: str, kind: Kind, resolver: Resolver, times: int, seconds: float) -> Repeated:
    """Ask one resolver the same several times, as far as the time goes: each time once, as a
    program would wait for seconds before it asks again."""
    replies: list[Reply] = []
    edns, end = resolvconf.configuration().edns, time.monotonic() + seconds
    while len(replies) < times and (left := end - time.monotonic()) > 0:
        timeout = min(left, PATIENCE)
        replies.append(query(name, kind, resolver, timeout, edns=edns, once=True))
    return Repeated(resolver, tuple(replies))


# everybody's answer


@record
class Opinion:
    """What one resolver makes of the name, A and AAAA and search domains taken together."""

    configured: bool  # by resolv.conf, not only named by the user
    reply: Reply  # the one that decides
    addresses: tuple[str, ...] = ()

    @property
    def resolver(self) -> Resolver:
        return self.reply.resolver

    @property
    def outcome(self) -> Outcome:
        return self.reply.outcome

    def __str__(self) -> str:
        """What the resolver said, in words."""
        reply = self.reply
        said = {
            "answer": f"says {', '.join(self.addresses)}",
            "nodata": "says that it has no address",
            "nxdomain": "says NXDOMAIN",
            "dangling": f"says that {(*reply.aliases, reply.name)[-1]}, its alias, does not exist",
            "loop": "gives aliases in a circle",
            "servfail": "says SERVFAIL",
            "bogus": "says SERVFAIL, but not when told not to validate",
            "refused": "says REFUSED",
            "error": f"says {reply.detail}",
            "tcp-blocked": f"gives the whole answer only over TCP, and there: {reply.detail}",
            "timeout": "does not answer",
            "unreachable": f"is unreachable: {reply.detail}",
            "unsent": f"cannot be asked from here: {reply.detail}",
        }
        return f"{reply.server} {said[reply.outcome]}"


class Survey:
    """One name, asked of the system and of every resolver at once, in daemon threads.

    The resolvers are those of resolv.conf and those the user named. A name without dots is asked
    for with each search domain, as the system does. Each configured resolver is also asked for a
    name that cannot exist.
    """

    def __init__(self, name: str, named: Sequence[Resolver] = (), timeout: float = GIVE_UP) -> None:
        """Start asking; `timeout` in seconds is for the direct questions, at most `GIVE_UP`."""
        self.name = name.rstrip(".")
        self.configuration = resolvconf.configuration()
        self.hosts = resolvconf.hosts_addresses(name)  # the hosts file's addresses of the name
        self.invented = f"{os.urandom(8).hex()}.invalid"  # reserved: it never exists, RFC 6761
        self.timeout = min(timeout, GIVE_UP)
        own = () if is_localhost(name) else tuple(map(Resolver, self.configuration.asked))
        self.configured = own
        self.named = () if is_localhost(name) else tuple(r for r in named if r not in own)
        self.started = time.monotonic()
        self._changed = threading.Condition()
        self._failure: BaseException | None = None
        self._lookup: Lookup | None = None
        self._replies: dict[tuple[Resolver, str, Kind], Reply | None] = {}
        self._opinions: tuple[Opinion, ...] | None = None  # what the replies so far come to
        self._awaited: Callable[[], bool] = lambda: False
        self._start(partial(lookup, name), self._keep_lookup)
        for resolver in (*self.configured, *self.named):
            for candidate in self._candidates():
                self._replies |= dict.fromkeys((resolver, candidate, kind) for kind, _ in _VERSIONS)
        for resolver in self.configured:
            self._replies[resolver, self.invented, "A"] = None
        if self._replies:
            self._start(self._ask_all, lambda _: None)

    def _candidates(self) -> tuple[str, ...]:
        """The absolute names to ask for."""
        return (*(() if "." in self.name else self.configuration.suffixed(self.name)), self.name)

    def _ask_all(self) -> None:
        """Ask everything at once, and once more, each by itself, what leaves something open."""
        edns = self.configuration.edns
        for key, reply in quick(tuple(self._replies), self.timeout, edns=edns):
            if reply is None:
                self._start(partial(self._ask_again, *key), partial(self._keep_reply, key))
                continue
            with self._changed:
                self._keep_reply(key, reply)
                self._came()

    def _ask_again(self, resolver: Resolver, name: str, kind: Kind) -> Reply:
        """A question that is open, as long as there is time; it began with the others."""
        how = query if name == self.invented else examine
        left = self.started + self.timeout - time.monotonic()
        reply = how(name, kind, resolver, left, edns=self.configuration.edns)
        elapsed_ms = round((time.monotonic() - self.started) * 1000)
        return replace(reply, started=self.started, elapsed_ms=elapsed_ms)

    def _keep_lookup(self, found: Lookup) -> None:
        self._lookup = found

    def _keep_reply(self, key: tuple[Resolver, str, Kind], reply: Reply) -> None:
        self._replies[key] = reply
        self._opinions = None

    @property
    def answer(self) -> Lookup | None:
        """The system's answer, if it has come."""
        return self._lookup

    @property
    def asks_dns(self) -> bool:
        """Whether nsswitch.conf lets the system ask DNS at all."""
        return not {"dns", "resolve"}.isdisjoint(resolvconf.name_services())

    def _start(self, task: Callable[[], Any], keep: Callable[[Any], None]) -> None:
        def work() -> None:
            try:
                result = task()
            except BaseException as error:
                with self._changed:
                    self._failure = error
                    self._came()
                return
            with self._changed:
                keep(result)
                self._came()

        threading.Thread(target=work, daemon=True).start()

    def _came(self) -> None:
        """Wake up who waits, but only once what it waits for has come: threads that take turns for
        each of many answers cost more than the answers do. With the lock held."""
        if self._failure or self._awaited():
            self._changed.notify_all()

    def _wait(self, seconds: float, until: Callable[[], bool]) -> None:
        with self._changed:
            self._awaited = until
            self._changed.wait_for(lambda: self._failure or until(), timeout=seconds)
            if self._failure:
                raise self._failure

    # what came, and when

    def wait_for_system(self, timeout: float) -> tuple[str, ...]:
        """The addresses of the system's answer; none when it has not come after `timeout` seconds,
        or when the resolvers, asked directly, show that it will not come soon."""
        self._wait(timeout, lambda: self._lookup is not None or self._system_hangs())
        return self._lookup.addresses if self._lookup else ()

    def _system_hangs(self) -> bool:
        outcomes = {reply and reply.outcome for reply in self._asked(self.configured)}
        return None not in outcomes and (
            "tcp-blocked" in outcomes or ("timeout" in outcomes and len(outcomes) > 1)
        )

    def settle(self, seconds: float, *, calm: bool) -> None:
        """Wait for the direct answers, at most `seconds`: for all, or, where nothing is suspicious
        (`calm`), for those that come within the grace and for the resolvers the user named."""
        everybody = (*self.configured, *self.named)
        patient = self.named if calm else everybody
        self._wait(min(GRACE, seconds), lambda: None not in self._replies.values())
        self._wait(seconds, lambda: None not in self._asked(patient))

    def _asked(self, resolvers: Sequence[Resolver]) -> list[Reply | None]:
        """The answers of these resolvers about the name, None for each that has not come."""
        return [
            reply
            for (resolver, name, _), reply in self._replies.items()
            if resolver in resolvers and name != self.invented
        ]

    @property
    def replies(self) -> tuple[Reply, ...]:
        """The direct answers about the name that have come, resolver by resolver."""
        with self._changed:
            replies = self._asked((*self.configured, *self.named))
        return tuple(reply for reply in replies if reply is not None)

    # what they add up to

    def opinions(self) -> tuple[Opinion, ...]:
        """What each resolver makes of the name, in the order of the system, then those the user
        named. A resolver that has not answered yet has none."""
        with self._changed:
            if self._opinions is None:
                found = (self._opinion(resolver) for resolver in (*self.configured, *self.named))
                self._opinions = tuple(opinion for opinion in found if opinion is not None)
            return self._opinions

    def _opinion(self, resolver: Resolver) -> Opinion | None:
        asked = self._asked([resolver])
        replies = [reply for reply in asked if reply is not None]
        best = [_best(replies, name) for name in self._candidates()]
        chosen = next((reply for reply in best if reply and reply.outcome == "answer"), None)
        if chosen is None:
            if None in asked:
                return None
            # That one of several candidates does not exist is only normal: what went wrong tells
            # more. And a bare label is nobody's name: it counts when there is nothing else.
            tried = [reply for reply in best[:-1] or best if reply is not None]
            wrong = [reply for reply in tried if reply.outcome not in ABSENT]
            chosen = (wrong or tried)[0]
        same = [reply for reply in replies if reply.name == chosen.name]
        addresses = tuple(address for reply in same for address in reply.addresses)
        return Opinion(resolver in self.configured, chosen, addresses)

    def unheard(self) -> tuple[str, ...]:
        """The resolvers that were not waited for."""
        heard = {opinion.resolver for opinion in self.opinions()}
        return tuple(label(r) for r in (*self.configured, *self.named) if r not in heard)

    def from_hosts(self, addresses: Sequence[str]) -> bool:
        """Whether these addresses are what the hosts file says."""
        return bool(addresses) and set(addresses) <= set(self.hosts)

    def sources(self, addresses: Sequence[str]) -> tuple[str, ...]:
        """Who gives these addresses."""
        if self.from_hosts(addresses):
            return (str(resolvconf.HOSTS),)
        givers = (o.reply.server for o in self.opinions() if {*addresses} & {*o.addresses})
        return tuple(givers) or ("the system",)

    def found_as(self) -> str | None:
        """The name with a search domain, if the system's answer says that it found that one."""
        canonical = self._lookup.canonical.rstrip(".").lower() if self._lookup else ""
        return canonical if canonical in self.configuration.suffixed(self.name.lower()) else None

    def rewritten(self, addresses: Sequence[str]) -> Reply | None:
        """The answer for a name that cannot exist, if it is also the one for this name."""
        if self.from_hosts(addresses):
            return None
        for opinion in self.opinions():
            reply = self._replies.get((opinion.resolver, self.invented, "A"))
            if reply and {*addresses} & {*reply.addresses} & {*opinion.addresses}:
                return reply
        return None

    def search_wildcard(self, addresses: Sequence[str], timeout: float) -> Reply | None:
        """The answer for the name with a search domain appended, if the system's `addresses` are
        that answer, only because the domain has a record for every name.

        Asks again where that is possible at all. A record of just this name is somebody's will:
        "service.namespace" works like that in Kubernetes.
        """
        mine = set(addresses)
        direct = [o for o in self.opinions() if o.configured and o.reply.definite]
        if (
            "." not in self.name
            or not direct
            or self.from_hosts(addresses)
            or any(mine & set(opinion.addresses) for opinion in direct)
            or not (self.configuration.search_first(self.name) or direct[0].outcome in ABSENT)
        ):
            return None
        end = time.monotonic() + timeout
        ask = partial(query, resolver=direct[0].resolver, edns=self.configuration.edns)
        for name in self.configuration.suffixed(self.name):
            for kind in _kinds(mine):
                hit = ask(name, kind, timeout=end - time.monotonic())
                if not mine & set(hit.addresses):
                    continue
                other = f"{os.urandom(8).hex()}.{name.removeprefix(f'{self.name}.')}"
                if mine & set(ask(other, kind, timeout=end - time.monotonic()).addresses):
                    return hit
        return None


def _best(replies: Sequence[Reply], name: str) -> Reply | None:
    mine = [reply for reply in replies if reply.name == name]
    return min(mine, key=lambda reply: _OF_ONE_NAME.index(reply.outcome), default=None)


def _kinds(addresses: Iterable[str]) -> tuple[Kind, ...]:
    versions = {ip_address(address).version for address in addresses}
    return tuple(kind for kind, version in _VERSIONS if version in versions)


def experienced(opinions: Sequence[Opinion]) -> Opinion | None:
    """The opinion that the system goes by: of the first resolver that knows, or that fails."""
    configured = [opinion for opinion in opinions if opinion.configured]
    known = [opinion for opinion in configured if opinion.reply.definite]
    asked = [opinion for opinion in configured if opinion.outcome != "unsent"]
    return next(iter(known or asked or configured), None)


def failing(opinions: Sequence[Opinion]) -> tuple[Opinion, ...]:
    """The configured resolvers that do not know the name while another one does."""
    configured = [opinion for opinion in opinions if opinion.configured]
    if not any(opinion.outcome == "answer" for opinion in configured):
        return ()
    return tuple(o for o in configured if o.outcome not in {"answer", "unsent"})


def disagreement(opinions: Sequence[Opinion], *, resolved: bool) -> tuple[Opinion, Opinion] | None:
    """Two resolvers that see different worlds.

    One gives only private addresses and the other only public ones; or one says that there is no
    such name. Two sets of public addresses prove nothing: large sites answer by place and by turn.
    Where the system could resolve the name (`resolved`), a configured resolver that does not know
    it is merely a bad one.
    """
    for one, other in combinations(opinions, 2):
        worlds = {_world(one), _world(other)}
        absent = "absent" in worlds and not (resolved and one.configured and other.configured)
        if worlds == {"private", "public"} or (absent and "answer" in (one.outcome, other.outcome)):
            return one, other
    return None


def _world(opinion: Opinion) -> Literal["private", "public", "absent"] | None:
    if opinion.outcome in ABSENT:
        return "absent"
    if opinion.addresses and all(is_private(address) for address in opinion.addresses):
        return "private"
    if opinion.addresses and all(is_public(address) for address in opinion.addresses):
        return "public"
    return None
