"""The embedded Bitbucket, changed as a test wants it, and everything that was asked of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import pytest

from diag.report import CheckResult, Problem, Report
from diag.simulator import Fault, Recorded, Simulator
from diag.simulator.scenario import Setup


class Met(NamedTuple):
    """What came of one diagnosis of the simulator."""

    report: Report
    requests: list[Recorded]

    @property
    def problems(self) -> list[str]:
        """The codes of the problems, causes first."""
        return [problem.code for problem in self.report.problems]

    def check(self, check_id: str) -> CheckResult:
        return next(check for check in self.report.checks if check.id == check_id)

    def codes(self, check_id: str) -> list[str]:
        return [finding.code for finding in self.check(check_id).findings]

    def problem(self, code: str) -> Problem:
        return next(problem for problem in self.report.problems if problem.code == code)

    @property
    def credentialed(self) -> list[Recorded]:
        return [request for request in self.requests if request.authorization != "none"]


Meet = Callable[..., Met]


@pytest.fixture
def meet(diagnose: Callable[..., Report]) -> Meet:
    """Diagnose the embedded Bitbucket: `meet(change, credential=…, options={"repo": …})`, where
    `change` is a fault's code, or a function that changes the `Setup` before it starts."""

    def run(
        change: str | Callable[[Setup], None] | None = None,
        options: dict[str, Any] | None = None,
        **knobs: Any,
    ) -> Met:
        simulator = Simulator(change if isinstance(change, str) else None, **knobs)
        if callable(change):
            simulator.fault = Fault("test", "Permission", "as the test wants it", change)
        with simulator:
            scenario = simulator.scenario
            values: dict[str, Any] = {
                "token": scenario.token,
                "user": scenario.user,
                "repo": scenario.repo,
                "connect_to": scenario.connect_to,
                "ca_file": scenario.ca_file,
                "environ": scenario.environ,
            }
            values |= scenario.options | (options or {})
            report = diagnose(values.pop("url", scenario.url), **values)
            return Met(report, simulator.requests)

    return run
