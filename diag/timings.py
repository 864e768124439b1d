"""Where the time of a run went: its steps, and what they come to together.

Steps run side by side. So there are two sums, which mean different things: how long at least one
step of a kind was under way (time that somebody waited), and how long all of them took together
(what they would have cost one after the other). All times are in milliseconds since the run began.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from diag.model import Json
from diag.record import record

PARTS = ("dns", "connect", "tls", "wait", "read", "request")  # request: not divided, or unknown
_KEPT = 2  # of many alike: the slowest, beside the first


@record
class Timing:
    """One stretch of time; `what` is dns, connect, tls or request.

    A request begins when it is sent, not with the connection that it needed. `wait_ms` is the time
    until the head of the answer was there and had its turn, as pages of a listing are asked for
    ahead, or until nobody waited for it any more; `read_ms` that of the body; None where there was
    no such thing, or it was not measured.
    """

    what: str
    detail: str
    started_ms: int
    duration_ms: int
    wait_ms: int | None = None
    read_ms: int | None = None

    @property
    def ended_ms(self) -> int:
        return self.started_ms + self.duration_ms

    def parts(self) -> Iterator[tuple[str, int, int]]:
        """What it consists of, as (one of PARTS, begin, end)."""
        at = self.started_ms
        for part, spent in (("wait", self.wait_ms), ("read", self.read_ms)):
            if spent is not None:
                yield part, at, at + spent
                at += spent
        if at < self.ended_ms or self.wait_ms is None:
            yield self.what if self.what in PARTS else "request", at, self.ended_ms

    def to_json(self) -> dict[str, Json]:
        result: dict[str, Json] = {
            "what": self.what,
            "detail": self.detail,
            "started_ms": self.started_ms,
            "duration_ms": self.duration_ms,
        }
        if self.wait_ms is not None:
            result["wait_ms"] = self.wait_ms
        if self.read_ms is not None:
            result["read_ms"] = self.read_ms
        return result


@record
class Step:
    """What a check did: one stretch of time, or several alike taken together."""

    check: str  # empty for those of several checks
    what: str
    timings: tuple[Timing, ...]

    @property
    def started_ms(self) -> int:
        return min(timing.started_ms for timing in self.timings)

    @property
    def spent_ms(self) -> int:
        """What all of it took, one after the other."""
        return sum(timing.duration_ms for timing in self.timings)


@record
class Share:
    """The time of one kind."""

    steps: int
    busy_ms: int  # at least one of them was under way
    spent_ms: int  # all of them, one after the other


@record
class Spent:
    """Where the time of a run went. The kinds overlap: with `idle_ms` they come to `total_ms` or
    more."""

    total_ms: int
    shares: Mapping[str, Share]  # by one of PARTS, in that order
    idle_ms: int  # nothing was under way on the network: bbdiag's own work

    def to_json(self) -> dict[str, Json]:
        return {
            **{part: share.busy_ms for part, share in self.shares.items()},
            "idle": self.idle_ms,
        }


def ordered(checks: Iterable[tuple[str, Iterable[Timing]]]) -> tuple[Step, ...]:
    """The steps of these checks by their start; of the same moment, in the order of the checks."""
    steps = [Step(check, one.what, (one,)) for check, timings in checks for one in timings]
    return tuple(sorted(steps, key=lambda step: step.started_ms))


def spent(steps: Iterable[Step], total_ms: int) -> Spent:
    """What the steps of a run of `total_ms` come to."""
    found: dict[str, list[tuple[int, int]]] = {part: [] for part in PARTS}
    for step in steps:
        for timing in step.timings:
            for part, begin, end in timing.parts():
                found.setdefault(part, []).append((begin, end))
    shares = {
        part: Share(len(spans), _covered(spans), sum(end - begin for begin, end in spans))
        for part, spans in found.items()
        if spans
    }
    inside = (
        (max(begin, 0), min(end, total_ms)) for spans in found.values() for begin, end in spans
    )
    return Spent(total_ms, shares, total_ms - _covered(inside))


def folded(steps: Sequence[Step], most: int) -> tuple[Step, ...]:
    """The same in `most` steps or a few more: of those alike the first and the slowest stay by
    themselves, and the others are taken together."""
    alike: tuple[Callable[[Step], tuple[str, ...]], ...] = (
        lambda step: (step.check, step.what, step.timings[0].detail.partition("?")[0]),
        lambda step: (step.check, step.what),
        lambda step: (step.what,),
        lambda _step: (),
    )
    result = tuple(steps)
    for key in alike:
        if len(result) <= most:
            break
        groups: dict[tuple[str, ...], list[Step]] = {}
        for step in steps:
            groups.setdefault(key(step), []).append(step)
        result = tuple(line for group in groups.values() for line in _fold(group))
    return tuple(sorted(result, key=lambda step: step.started_ms))


def _fold(group: list[Step]) -> Iterator[Step]:
    """A group in a few steps; what would save less than two lines stays as it is."""
    first, *others = group
    slowest = sorted(others, key=lambda step: -step.spent_ms)[:_KEPT]
    rest = [step for step in others if not any(step is kept for kept in slowest)]
    if len(rest) < 2:
        yield from group
        return
    yield from (first, *slowest)
    checks, kinds = {step.check for step in rest}, {step.what for step in rest}
    yield Step(
        first.check if len(checks) == 1 else "",
        first.what if len(kinds) == 1 else "",
        tuple(timing for step in rest for timing in step.timings),
    )


def _covered(spans: Iterable[tuple[int, int]]) -> int:
    """How much time lies in at least one of the spans."""
    covered, reached = 0, None
    for begin, end in sorted(spans):
        start = begin if reached is None else max(begin, reached)
        if end > start:
            covered += end - start
            reached = end
    return covered
