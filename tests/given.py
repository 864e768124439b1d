"""One check alone, on facts that the test gives instead of the checks before it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from diag import registry, runner
from diag.api import Check, Context, Fact, Finding, ok
from diag.report import CheckResult, Report
from tests.conftest import make_settings


def run_check(check_id: str, facts: Sequence[Fact], **options: Any) -> tuple[Report, list[Fact]]:
    """Run one check: the report, and the facts that the check established, in its order of them.

    `options` are those of `make_settings`.
    """
    check = registry.checks().get(check_id)
    assert check is not None
    provided = check.provides
    seen: list[Fact] = []

    class Given(Check):
        """Gives the facts of the test."""

        id = "given"
        title = "given"
        order = -1
        provides = tuple(map(type, facts))

        def run(self, ctx: Context) -> Iterator[Finding | Fact]:
            yield from facts

    class Seen(Check):
        """Looks at what the check established."""

        id = "seen"
        title = "seen"
        order = 1000
        after = provided
        DONE = ok("seen-done", "done")

        def run(self, ctx: Context) -> Iterator[Finding | Fact]:
            seen.extend(fact for kind in self.after if (fact := ctx.get(kind)) is not None)
            yield self.DONE()

    settings = make_settings(options.pop("url", "https://bb.example.com"), **options)
    return runner.execute(settings, [Given, check, Seen]), seen


def result(report: Report, check_id: str) -> CheckResult:
    """How one check ended."""
    (found,) = (check for check in report.checks if check.id == check_id)
    return found
