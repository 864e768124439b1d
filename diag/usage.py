"""The reports of a call that came to no run, for those who asked for JSON."""

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
    verdict = CONFIG_INVALID
    problem = Problem(
        code=verdict.code,
        status=verdict.status,
        check="input",
        message=verdict.message.format(problem=scrub(message, arguments)),
        remedy=verdict.remedy,
        owner=verdict.owner,
        reproduce=verdict.reproduce,
    )
    return _print((problem,), ())


def failure(message: str) -> str:
    """One JSON document that says that bbdiag itself failed."""
    finding = FindingResult("check-crashed", Status.ERROR, scrub(message))
    crashed = CheckResult("bbdiag", "bbdiag works", Status.ERROR, findings=(finding,))
    return _print((), (crashed,))


def _print(problems: tuple[Problem, ...], checks: tuple[CheckResult, ...]) -> str:
    now = timestamp(datetime.now(UTC))
    report = Report(
        version=VERSION,
        run=RunInfo(new_id(), now, 0, None, hostname(), 0),
        target=TargetInfo(""),
        profile="",
        stage="",
        problems=problems,
        checks=checks,
    )
    return json.dumps(report.to_json(), ensure_ascii=False, indent=2)
