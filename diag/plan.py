"""Which checks run, and what each waits for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from functools import cached_property
from graphlib import CycleError, TopologicalSorter

from diag.check import Check
from diag.facts import Fact


class Plan:
    """The chosen checks in the order of the report, and those left out by `--skip`."""

    def __init__(
        self, chosen: tuple[type[Check], ...], left_out: tuple[type[Check], ...] = ()
    ) -> None:
        self.chosen = chosen
        self.left_out = left_out

    def providers(self, fact: type[Fact]) -> list[type[Check]]:
        """The checks that can establish `fact`, in order."""
        return [check for check in (*self.chosen, *self.left_out) if fact in check.provides]

    @cached_property
    def givers(self) -> Counter[type[Fact]]:
        """How many of the chosen checks can establish each fact."""
        return Counter(fact for check in self.chosen for fact in check.provides)

    @cached_property
    def waits(self) -> dict[type[Check], frozenset[type[Fact]]]:
        """The facts that each chosen check waits for; what nobody can establish is not awaited."""
        return {
            check: frozenset({*check.requires, *check.after} & self.givers.keys())
            for check in self.chosen
        }

    @cached_property
    def awaited_by(self) -> dict[type[Fact], tuple[type[Check], ...]]:
        """The chosen checks that wait for each fact."""
        return {
            fact: tuple(check for check in self.chosen if fact in self.waits[check])
            for fact in self.givers
        }


class Agenda:
    """One run of a plan: what waits, and what has become ready. Not for several threads at once."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._givers = Counter(plan.givers)  # that have not ended
        self._settled: set[type[Fact]] = set()
        self._open = {check: len(facts) for check, facts in plan.waits.items()}
        self._ready = [check for check, count in self._open.items() if not count]
        self.waiting = dict.fromkeys(plan.chosen)  # in the order of the plan

    def ready(self) -> list[type[Check]]:
        """Those for which everything is settled since this was last called."""
        found, self._ready = self._ready, []
        for check in found:
            del self.waiting[check]
        return found

    def established(self, fact: type[Fact]) -> None:
        """The fact is known."""
        self._settle(fact)

    def ended(self, check: type[Check]) -> None:
        """The check gives nothing any more, whether it ran or not."""
        for fact in check.provides:
            self._givers[fact] -= 1
            if not self._givers[fact]:
                self._settle(fact)

    def _settle(self, fact: type[Fact]) -> None:
        if fact in self._settled:
            return
        self._settled.add(fact)
        for check in self._plan.awaited_by.get(fact, ()):
            self._open[check] -= 1
            if not self._open[check] and check in self.waiting:
                self._ready.append(check)


def make(
    checks: Sequence[type[Check]],
    *,
    only: Iterable[str] = (),
    skip: Iterable[str] = (),
) -> Plan:
    """Choose checks; what a chosen check needs is added.

    Raises:
        ValueError: an id that no check has, or checks that wait for one another.
    """
    by_id = {check.id: check for check in checks}
    for check_id in (*only, *skip):
        if check_id not in by_id:
            import difflib

            near = difflib.get_close_matches(check_id, by_id, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else f"; there are: {', '.join(by_id)}"
            raise ValueError(f"there is no check {check_id!r}{hint}")
    needs = {check.id: _needs(check, checks) for check in checks}
    try:
        list(TopologicalSorter(needs).static_order())
    except CycleError as error:
        raise ValueError(f"checks wait for one another: {' -> '.join(error.args[1])}") from None
    asked, dropped = set(only), set(skip)
    wanted = _closure(asked, needs) if asked else set(by_id)
    return Plan(
        tuple(check for check in checks if check.id in wanted - dropped),
        tuple(check for check in checks if check.id in wanted & dropped),
    )


def _needs(check: type[Check], checks: Sequence[type[Check]]) -> set[str]:
    facts = {*check.requires, *check.after}
    return {other.id for other in checks if other is not check and facts & set(other.provides)}


def _closure(start: set[str], needs: dict[str, set[str]]) -> set[str]:
    result: set[str] = set()
    todo = list(start)
    while todo:
        check_id = todo.pop()
        if check_id not in result:
            result.add(check_id)
            todo.extend(needs[check_id])
    return result
