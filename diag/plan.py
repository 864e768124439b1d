"""Which checks run, and what each waits for."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter

from diag.check import Check
from diag.facts import Fact


@dataclass(frozen=True, slots=True)
class Plan:
    """The chosen checks in the order of the report, and those left out by `--skip`."""

    chosen: tuple[type[Check], ...]
    left_out: tuple[type[Check], ...] = ()

    def providers(self, fact: type[Fact]) -> list[type[Check]]:
        """The checks that can establish `fact`, in order."""
        return [check for check in (*self.chosen, *self.left_out) if fact in check.provides]


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
