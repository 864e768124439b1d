"""The reports of what came to no run."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from datetime import UTC, datetime

from diag import target
from diag.model import Status
from diag.report import (
    CheckResult,
    FindingResult,
    Problem,
    Report,
    RunInfo,
    TargetInfo,
    hostname,
    new_id,
    timestamp,
)
from diag.secret import Scrubber, Secret
from diag.verdicts import CONFIG_INVALID
from diag.version import VERSION


def scrubber() -> Scrubber:
    """One that knows the secret of the environment."""
    found = Scrubber()
    token = os.environ.get("BITBUCKET_TOKEN")
    found.learn(Secret(token) if token else None)
    return found


def scrub(text: str, arguments: Sequence[str] = ()) -> str:
    """`text` without the secrets of the environment and of URLs among the arguments, and without
    control characters."""
    known = scrubber()
    for argument in arguments:
        if "://" in argument:
            for secret in target.parse(argument).secrets:
                known.learn(secret)
    return "\n".join(known.text(line) for line in text.splitlines())


def document(message: str, arguments: Sequence[str] = ()) -> str:
    """One JSON document that says what is wrong with the call."""
    return _print(wrong_call(scrub(message, arguments)))


def failure(message: str) -> str:
    """One JSON document that says that bbdiag itself failed."""
    return _print(own_fault(scrub(message)))


def wrong_call(message: str, target: TargetInfo | None = None) -> Report:
    """A report that says what is wrong with the call, or with what it says of one target.

    `message` has been scrubbed.
    """
    verdict = CONFIG_INVALID
    problem = Problem(
        code=verdict.code,
        status=verdict.status,
        check="input",
        message=verdict.message.format(problem=message),
        remedy=verdict.remedy,
        owner=verdict.owner,
        reproduce=verdict.reproduce,
    )
    return _report(target, (problem,), ())


def own_fault(message: str, target: TargetInfo | None = None) -> Report:
    """A report that says that bbdiag itself failed outside of any check.

    `message` has been scrubbed.
    """
    finding = FindingResult("check-crashed", Status.ERROR, message)
    crashed = CheckResult("bbdiag", "bbdiag works", Status.ERROR, findings=(finding,))
    return _report(target, (), (crashed,))


def _report(
    target: TargetInfo | None, problems: tuple[Problem, ...], checks: tuple[CheckResult, ...]
) -> Report:
    now = timestamp(datetime.now(UTC))
    return Report(
        version=VERSION,
        run=RunInfo(new_id(), now, 0, None, hostname(), 0),
        target=target or TargetInfo(""),
        profile="",
        stage="",
        problems=problems,
        checks=checks,
    )


def _print(report: Report) -> str:
    return json.dumps(report.to_json(), ensure_ascii=False, indent=2)
