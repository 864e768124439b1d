"""The same question by turns, at each place that may answer it: which tries go well, and why the
others do not."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from diag import net
from diag.bitbucket import cloud, datacenter, fingerprints
from diag.facts import Instance, Wire

if TYPE_CHECKING:
    from diag.context import Context
    from diag.facts import Target
    from diag.net.http import Answer
    from diag.net.steady import Connects, Journey, Trip

AT_ONCE = 4  # tries that are under way at the same time …
SPACING = 0.05  # … and so many seconds between their beginnings
CLOUD_MOST = 20  # requests: anonymously, Bitbucket Cloud grants 60 an hour
CONNECTS_MOST = 32  # at once to a port: no client needs more, so that a limit above is none
RESERVE = 1.5  # seconds that are left to the rest of the run
_RECOVERY = 1.2  # seconds after which a gateway that limits requests lets one through again
_SLOWLY = 4  # requests that are made with such pauses
_CHANCE = 0.05  # that some backends are ill, and none of the slow requests met one
_FAILURES = {
    "empty": "closed without an answer",
    "reset": "reset",
    "truncated": "answer cut off",
    "timeout": "no answer in time",
    "slow": "answer too slow",
    "tls": "TLS alert",
    "not-http": "no HTTP",
}

Places = Mapping[str, "tuple[str, int] | None"]


# one answer


def path(target: Target, instance: Instance | None) -> str:
    """What is asked: open to everybody, and cheap. /status may lie behind a login of its own."""
    if target.kind == "cloud":
        return cloud.HOOK_EVENTS
    hidden = instance is not None and instance.status.content is None
    return datacenter.PROPERTIES if hidden else datacenter.STATUS


def trouble(answer: Answer, *, of_cloud: bool) -> str | None:
    """Why an answer is not the one that Bitbucket gives when it is up, in words, partly from the
    network; None if it is."""
    if answer.failure is not None:
        return _FAILURES.get(answer.failure, answer.failure)
    if of_cloud:
        if cloud.outcome(answer) == "allowed":
            return None
        own = bool(cloud.marks(answer))
    else:
        state = datacenter.state(answer)
        if datacenter.properties(answer) or (answer.status == 200 and state == "RUNNING"):
            return None
        if state is not None:
            return f"HTTP {answer.status}, {state}"
        own = bool(datacenter.marks(answer))
    by = "Bitbucket" if own else answer.header("server") or "somebody without a name"
    return f"HTTP {answer.status} from {by}"


def limited_by_itself(answer: Answer, *, of_cloud: bool) -> bool:
    """Whether Bitbucket's own limit was met: by these very requests, so that it says nothing."""
    own = cloud.marks(answer) if of_cloud else datacenter.marks(answer)
    return answer.status == 429 and bool(own)


def is_limit(
    refusals: Sequence[Answer], tried: int, ask: Callable[[], bool], left: Callable[[], float]
) -> bool:
    """Whether a gateway limits requests, and not some of its backends are ill.

    `refusals` came of `tried` requests in quick succession. Ill backends are met as often when the
    requests are slow: a limit is not. `ask` makes one more and tells whether it was answered well,
    `left` how many seconds there are.
    """
    own = (datacenter.marks(one) or datacenter.state(one) for one in refusals)
    if any(own) or {one.status for one in refusals} - {429, 503}:
        return False
    if any(map(fingerprints.limits_rate, refusals)):
        return True
    chance = 1.0
    for _ in range(_SLOWLY):
        if left() < 2 * _RECOVERY:
            break
        time.sleep(_RECOVERY)
        if not ask():
            return False
        chance *= 1 - len(refusals) / tried
        if chance < _CHANCE:
            return True
    return False


def most_common(texts: Sequence[str]) -> list[str]:
    """Each text once, the most frequent first, at most three."""
    return [text for text, _ in Counter(texts).most_common(3)]


# all tries


@dataclass(slots=True)
class Tally:
    """What came of all tries at one place."""

    place: str  # an address, or the proxy
    connects: Connects | None = None  # to the port alone
    trips: list[Trip] = field(default_factory=list)
    wrong: list[str | None] = field(default_factory=list)  # with each of the trips; None: nothing

    @property
    def passes(self) -> bool:
        """Whether any try went well."""
        return None in self.wrong

    @property
    def accepts(self) -> bool:
        """Whether connections come up there, always."""
        return bool(self.trips) and all(trip.stage != "connect" for trip in self.trips)

    @property
    def how(self) -> str:
        """The most frequent end of a try that did not go well. From the network: quote it."""
        ends = [
            f"TLS: {text}" if trip.stage == "tls" else text
            for trip, text in zip(self.trips, self.wrong, strict=True)
            if text is not None
        ]
        return next(iter(most_common(ends)), "no try came to its end")


class Tour:
    """The tries of one run: `times` at each of its places.

    A place leads to an address and port, or where the run's connections go: through the proxy. The
    check must declare Target, Instance and Wire.
    """

    def __init__(self, ctx: Context, places: Places) -> None:
        self.ctx = ctx
        self.places = places
        self.of_cloud = ctx.target.kind == "cloud"
        self.journey = _journey(ctx)
        self.tallies = [Tally(place) for place in places]

    def go(self, times: int) -> None:
        """Try the ports, then the whole way, one place after the other and again."""
        ctx, places = self.ctx, list(self.places)
        if times > 1:
            self._knock(times)
        if self.of_cloud:
            times = max(1, min(times, CLOUD_MOST // len(places)))
        limits = [tally.connects.allowed for tally in self.tallies if tally.connects]
        at_once = min([AT_ONCE, *(limit for limit in limits if limit)])
        tries = net.steady.Tries(
            [partial(self.travel, place) for _ in range(times) for place in places],
            SPACING if times > 1 else 0.0,
            lambda: ctx.remaining < RESERVE,
        )
        with ctx.timed("request", f"{times} times GET {self.journey.url}"):
            wait = max(0.0, ctx.remaining - RESERVE / 2)
            ctx.parallel(dict.fromkeys(range(at_once), tries.work), wait=wait)
        for tally in self.tallies:
            tally.trips = [trip for trip in list(tries.trips) if trip.place == tally.place]
            tally.wrong = [self._wrong(trip) for trip in tally.trips]

    def _knock(self, times: int) -> None:
        ctx = self.ctx
        ctx.run.http.rest()  # idle connections would count, where there is a limit
        tasks = {
            place: partial(net.steady.connects, *at, min(times, CONNECTS_MOST), ctx.timeout)
            for place, at in self.places.items()
            if at is not None
        }
        with ctx.timed("connect", f"{times} times {ctx.target.netloc}, all at once"):
            found = ctx.parallel(tasks)
        for tally in self.tallies:
            tally.connects = found.get(tally.place)

    def travel(self, place: str, *, mss: int | None = None, padding: int = 0) -> Trip:
        """Go the whole way once; `mss` and `padding` as in `net.tcp.connect` and
        `net.steady.travel`."""
        ctx, at = self.ctx, self.places[place]
        connect = partial(ctx.dialer.connect, ctx.target.host, ctx.target.port, fresh=True)
        if at is not None:
            connect = partial(net.steady.connect, *at, mss=mss)
        ctx.count_request()
        timeout = max(0.05, min(ctx.settings.timeout, ctx.remaining))
        return net.steady.travel(self.journey, place, connect, timeout, padding=padding)

    def _wrong(self, trip: Trip) -> str | None:
        if trip.answer is None:
            return trip.why
        return trouble(trip.answer, of_cloud=self.of_cloud)

    def is_ill(self, tally: Tally) -> bool:
        """Whether nothing goes well at a place that accepts connections. Where Bitbucket's own
        limit was met, Bitbucket answers."""
        said = [trip for trip in tally.trips if trip.answer is not None]
        return tally.accepts and not tally.passes and len(self.answers(said)) == len(said)

    def answers(self, trips: Sequence[Trip]) -> list[tuple[Answer, str | None]]:
        """The answers that say something, and what is wrong with each."""
        return [
            (trip.answer, self._wrong(trip))
            for trip in trips
            if trip.answer and not limited_by_itself(trip.answer, of_cloud=self.of_cloud)
        ]

    def is_limit(self, place: str, refusals: Sequence[Answer], tried: int) -> bool:
        """Whether these refusals are a gateway's limit: see `is_limit`."""
        return is_limit(
            refusals,
            tried,
            lambda: self._wrong(self.travel(place)) is None,
            lambda: self.ctx.remaining - RESERVE,
        )

    def swallows(self, place: str) -> bool:
        """Whether large packets from here vanish: a request with long headers is never
        acknowledged, and the same in small packets is answered."""
        if self.places[place] is None or self.ctx.remaining < 2 * RESERVE:
            return False
        padding = net.steady.LARGE
        if not self.travel(place, padding=padding).stuck:
            return False
        small = self.travel(place, padding=padding, mss=net.tcp.SMALL_SEGMENT)
        return small.answer is not None and small.answer.failure is None

    def evidence(self, tally: Tally) -> dict[str, Any]:
        at = self.places[tally.place]
        return {
            "address": tally.place,
            "port": at[1] if at else self.ctx.target.port,
            "asked": self.journey.url,
            "tries": len(tally.trips),
            "well": tally.wrong.count(None),
        }


def _journey(ctx: Context) -> Journey:
    """The request, without any secret of the target's, and how its connections are secured."""
    target = ctx.target
    asked = target.context + path(target, ctx.get(Instance))
    plain = target.scheme == "http"
    forward = ctx.dialer.forwarder(target.host, target.port) if plain else None
    wire = ctx.get(Wire)
    unverified = wire is not None and wire.secure and not wire.verified  # --insecure
    context = ctx.trust.unverified() if unverified else ctx.trust.context()
    login = {} if forward is None else {"Proxy-Authorization": forward.authorization}
    return net.steady.Journey(
        url=target.origin + asked,
        host=target.host,
        netloc=target.netloc,
        target=asked if forward is None else target.origin + asked,
        context=None if plain else context,
        headers={name: text for name, text in login.items() if text},
    )
