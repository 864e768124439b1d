"""The comparisons, one module each, in the order of the page.

A part is a module with `NAME`, `TITLE` and `measure(place: Place) -> Part`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from bench.bitbucket import Bitbucket
from bench.lab import Lab
from bench.measuring import Contender, Run, VoidError, cpu, peak, ratio, run, spread, wall

NAMES = ("one_run", "startup", "failure", "fleet", "fleet_scale", "listing")
COLUMNS = ("", "wall time, median (least to most)", "×", "CPU", "×", "peak MB")


@dataclass(frozen=True)
class Place:
    """Where a part measures, and how thoroughly."""

    lab: Lab
    bitbucket: Bitbucket
    rounds: int  # of what takes seconds
    long_rounds: int  # of what takes minutes
    quick: bool


def compared(runs: dict[str, list[Run]], base: str, *, memory: bool = True) -> list[list[str]]:
    """The rows below COLUMNS; ratios are to `base`."""
    first = runs[base]
    return [
        [
            name,
            spread(wall(each)),
            ratio(wall(each).median, wall(first).median),
            f"{cpu(each).median * 1000:.0f} ms",
            ratio(cpu(each).median, cpu(first).median),
            f"{peak(each):.0f}" if memory else "",
        ]
        for name, each in runs.items()
    ]


def report_of(contender: Contender) -> dict[str, Any]:
    """Run bbdiag with JSON as its report.

    Raises:
        VoidError: there is none.
    """
    asked = Contender(
        contender.name,
        [*contender.argv, "--format", "json"],
        contender.env,
        statuses=(),
        limit=contender.limit,
    )
    done = run(asked)
    try:
        report: dict[str, Any] = json.loads(done.output)
    except ValueError:
        raise VoidError(f"{contender.name}: no report: {done.errors[-500:]}") from None
    return report


def hold_healthy(place: Place, contender: Contender, wanted: Sequence[str]) -> dict[str, Any]:
    """Make sure that a run finds nothing wrong, and that these checks came to an end; its report.

    Raises:
        VoidError: something is wrong.
    """
    report = report_of(contender)
    fine = {one["id"] for one in report["checks"] if one["status"] == "ok"}
    if report["verdict"] != "ok" or not fine >= set(wanted):
        missing = sorted(set(wanted) - fine)
        problems = [(one["code"], one["message"]) for one in report["problems"]]
        raise VoidError(
            f"{contender.name} is not healthy: {problems}, not ok: {missing};"
            f" requests that were not recorded: {place.bitbucket.unknown or 'none'}"
        )
    return report
