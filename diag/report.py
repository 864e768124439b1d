"""The report of one run: what the contract's JSON holds, as types.

The report owns status, order, counts and exit status; a renderer only shows them.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from diag.fields import Fields
from diag.model import Finding, Json, Status
from diag.record import field, record, replace
from diag.timings import Spent, Step, Timing, ordered, spent

SCHEMA_VERSION = 1
TOOL = "bbdiag"
LEFT_OUT_CODE = "check-left-out"  # the code of a check that `--skip` named


def timestamp(moment: datetime) -> str:
    """A time as it stands in a report: RFC 3339, UTC, milliseconds. `moment` is in UTC."""
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def new_id() -> str:
    """The id of a run: 32 hexadecimal digits, by chance."""
    return os.urandom(16).hex()


def hostname() -> str:
    """The name of this machine."""
    if hasattr(os, "uname"):
        return os.uname().nodename
    import platform

    return platform.node()


def sentence(text: str) -> str:
    """A message as a sentence: a capital unless it begins with a name or address, a full stop."""
    first = text.split(" ", 1)[0]
    if first.replace("'", "").isalpha() and first.islower():
        text = text[0].upper() + text[1:]
    return text if text.endswith((".", "!", "?", "…")) else text + "."


@record
class Because:
    """Why a check did not run: what another check found."""

    check: str
    code: str

    def to_json(self) -> dict[str, Json]:
        return {"check": self.check, "code": self.code}


@record
class FindingResult:
    """A finding with its texts filled in and scrubbed."""

    code: str
    status: Status
    message: str
    evidence: Mapping[str, Json] = field(default_factory=dict)

    def to_json(self) -> dict[str, Json]:
        return {
            "code": self.code,
            "status": str(self.status),
            "message": self.message,
            "evidence": self.evidence,
        }


@record
class Problem:
    """A finding that somebody must act on."""

    code: str
    status: Status
    check: str
    message: str
    remedy: str
    owner: str
    evidence: Mapping[str, Json] = field(default_factory=dict)
    reproduce: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Json]:
        return {
            "code": self.code,
            "status": str(self.status),
            "check": self.check,
            "message": self.message,
            "remedy": self.remedy,
            "owner": self.owner,
            "evidence": self.evidence,
            "reproduce": list(self.reproduce),
        }


@record
class CheckResult:
    """How one check ended. Times are in milliseconds since the run began."""

    id: str
    title: str
    status: Status
    started_ms: int | None = None
    duration_ms: int | None = None
    skipped_because: Because | None = None
    findings: tuple[FindingResult, ...] = ()
    timings: tuple[Timing, ...] = ()

    @property
    def headline(self) -> FindingResult | None:
        """The finding that decided the status."""
        return max(self.findings, key=lambda finding: finding.status.severity, default=None)

    def to_json(self) -> dict[str, Json]:
        result: dict[str, Json] = {
            "id": self.id,
            "title": self.title,
            "status": str(self.status),
            "started_ms": self.started_ms,
            "duration_ms": self.duration_ms,
            "skipped_because": self.skipped_because.to_json() if self.skipped_because else None,
            "findings": [finding.to_json() for finding in self.findings],
        }
        if self.timings:
            result["timings"] = [timing.to_json() for timing in self.timings]
        return result


@record
class RunInfo:
    id: str
    started_at: str  # RFC 3339, UTC, milliseconds
    duration_ms: int
    label: str | None
    hostname: str
    requests: int
    interrupted: bool = False

    def to_json(self) -> dict[str, Json]:
        return {
            "id": self.id,
            "started_at": self.started_at,
            "duration_ms": self.duration_ms,
            "label": self.label,
            "hostname": self.hostname,
            "requests": self.requests,
            "interrupted": self.interrupted,
        }


@record
class TargetInfo:
    input: str
    kind: str = "unknown"
    base_url: str | None = None
    host: str | None = None
    port: int | None = None
    project: str | None = None
    repository: str | None = None
    name: str | None = None  # in a fleet, where it was given one

    def to_json(self) -> dict[str, Json]:
        result: dict[str, Json] = {
            "input": self.input,
            "kind": self.kind,
            "base_url": self.base_url,
            "host": self.host,
            "port": self.port,
            "project": self.project,
            "repository": self.repository,
        }
        return result if self.name is None else {"name": self.name, **result}


@record
class Report:
    """One diagnosis."""

    version: str
    run: RunInfo
    target: TargetInfo
    profile: str
    stage: str
    problems: tuple[Problem, ...]
    checks: tuple[CheckResult, ...]

    @property
    def verdict(self) -> Status:
        """The worst of all: ok, warn, unknown, fail, error."""
        statuses = [problem.status for problem in self.problems]
        statuses += [check.status for check in self.checks if check.status is Status.ERROR]
        return max(statuses, key=lambda status: status.severity, default=Status.OK)

    @property
    def root_cause(self) -> str | None:
        return self.problems[0].code if self.problems else None

    @property
    def summary(self) -> str:
        """The verdict in one sentence."""
        if self.problems:
            return sentence(self.problems[0].message)
        for check in self.checks:
            if check.status is Status.ERROR:
                return f"bbdiag itself failed in check {check.id}; the rest of the report stands."
        if any(
            finding.code == LEFT_OUT_CODE for check in self.checks for finding in check.findings
        ):
            run = sum(check.status is not Status.SKIP for check in self.checks)
            return f"Nothing failed, but only {run} of {len(self.checks)} checks were run."
        return "Everything that was asked for works."

    @property
    def steps(self) -> tuple[Step, ...]:
        """All that was timed, by its start."""
        return ordered((check.id, check.timings) for check in self.checks)

    @property
    def spent(self) -> Spent:
        """Where the time of the run went."""
        return spent(self.steps, self.run.duration_ms)

    def exit_status(self, *, strict: bool = False) -> int:
        """The exit status of the contract."""
        if self.run.interrupted:
            return 130
        verdict = self.verdict
        if verdict is Status.ERROR:
            return 3
        if verdict is Status.FAIL:
            return 2 if self.problems[0].check == "input" else 1
        if strict and verdict in (Status.WARN, Status.UNKNOWN):
            return 1
        return 4 if verdict is Status.UNKNOWN else 0

    def to_json(self) -> dict[str, Json]:
        """The document of the contract."""
        run = self.run.to_json()
        if self.steps:
            run["spent_ms"] = self.spent.to_json()
        return {
            "schema_version": SCHEMA_VERSION,
            "tool": {"name": TOOL, "version": self.version},
            "run": run,
            "target": self.target.to_json(),
            "profile": {"name": self.profile, "stage": self.stage},
            "verdict": str(self.verdict),
            "root_cause": self.root_cause,
            "summary": self.summary,
            "problems": [problem.to_json() for problem in self.problems],
            "checks": [check.to_json() for check in self.checks],
        }

    @classmethod
    def from_json(cls, document: Any) -> Report:
        """Read a saved report.

        Raises:
            ValueError: the document is no report of this schema version.
        """
        try:
            fields = Fields(document)
            version = fields.get("schema_version", int)
            if version == SCHEMA_VERSION:
                return _report(fields)
        except ValueError as error:
            raise ValueError(f"not a bbdiag report: {error}") from None
        raise ValueError(f"schema_version is {version}, not {SCHEMA_VERSION}")


def _report(fields: Fields) -> Report:
    run, target, profile = fields.part("run"), fields.part("target"), fields.part("profile")
    return Report(
        version=fields.part("tool").get("version", str),
        run=RunInfo(
            run.get("id", str),
            run.get("started_at", str),
            run.get("duration_ms", int),
            run.maybe("label", str),
            run.get("hostname", str),
            run.get("requests", int),
            "interrupted" in run and run.get("interrupted", bool),
        ),
        target=TargetInfo(
            target.get("input", str),
            target.get("kind", str),
            target.maybe("base_url", str),
            target.maybe("host", str),
            target.maybe("port", int),
            target.maybe("project", str),
            target.maybe("repository", str),
            target.get("name", str) if "name" in target else None,
        ),
        profile=profile.get("name", str),
        stage=profile.get("stage", str),
        problems=tuple(
            Problem(
                item.get("code", str),
                item.choice("status", Status),
                item.get("check", str),
                item.get("message", str),
                item.get("remedy", str),
                item.get("owner", str),
                item.get("evidence", dict),
                item.texts("reproduce"),
            )
            for item in fields.parts("problems")
        ),
        checks=tuple(map(_check, fields.parts("checks"))),
    )


def _check(fields: Fields) -> CheckResult:
    because = None
    if "skipped_because" in fields:
        cause = fields.part("skipped_because")
        because = Because(cause.get("check", str), cause.get("code", str))
    return CheckResult(
        fields.get("id", str),
        fields.get("title", str),
        fields.choice("status", Status),
        fields.maybe("started_ms", int),
        fields.maybe("duration_ms", int),
        because,
        tuple(
            FindingResult(
                item.get("code", str),
                item.choice("status", Status),
                item.get("message", str),
                item.get("evidence", dict),
            )
            for item in fields.parts("findings")
        ),
        tuple(
            Timing(
                item.get("what", str),
                item.get("detail", str),
                item.get("started_ms", int),
                item.get("duration_ms", int),
                item.get("wait_ms", int) if "wait_ms" in item else None,
                item.get("read_ms", int) if "read_ms" in item else None,
            )
            for item in (fields.parts("timings") if "timings" in fields else ())
        ),
    )


@record
class Style:
    """How a renderer may draw."""

    color: bool = False
    width: int = 80  # columns
    timings: bool = False


class Outcome:
    """How a check went, before its consequences are sorted out."""

    def __init__(self, check_id: str, title: str) -> None:
        self.id = check_id
        self.title = title
        self.findings: list[tuple[Finding, FindingResult, Problem]] = []
        self.started_ms: int | None = None
        self.duration_ms: int | None = None
        self.because: Because | None = None
        self.timings: Sequence[Timing] = ()

    @property
    def worst(self) -> FindingResult | None:
        results = [result for _, result, _ in self.findings]
        return max(results, key=lambda result: result.status.severity, default=None)


_PROBLEMS = (Status.FAIL, Status.UNKNOWN, Status.WARN)


def conclude(outcomes: Sequence[Outcome]) -> tuple[tuple[Problem, ...], tuple[CheckResult, ...]]:
    """Sort causes from consequences: problems (causes first) and the result of each check.

    A finding that another finding's verdict `explains` is a mere consequence: it leaves the
    problems, and a check that is left with nothing else counts as skipped because of the cause.
    The cause weighs as much as the worst of its consequences.
    """
    causes = _causes(outcomes)
    weight: dict[str, Status] = {}
    for outcome in outcomes:
        for finding, result, _ in outcome.findings:
            if (cause := causes.get(finding.code)) and result.status in _PROBLEMS:
                known = weight.get(cause.code, Status.OK)
                weight[cause.code] = max(known, result.status, key=lambda s: s.severity)
    problems: list[Problem] = []
    checks: list[CheckResult] = []
    for outcome in outcomes:
        because = outcome.because and causes.get(outcome.because.code, outcome.because)
        results: list[FindingResult] = []
        for finding, result, problem in outcome.findings:
            status = result.status
            if status in _PROBLEMS and (cause := causes.get(finding.code)):
                because, status = because or cause, Status.SKIP
            elif status in _PROBLEMS:
                status = max(status, weight.get(finding.code, status), key=lambda s: s.severity)
                problems.append(replace(problem, status=status))
            results.append(result if status is result.status else replace(result, status=status))
        settled = _status(results, because)
        if not results and outcome.started_ms is None:  # the run was over before its turn
            settled = Status.SKIP
        checks.append(
            CheckResult(
                outcome.id,
                outcome.title,
                settled,
                outcome.started_ms,
                outcome.duration_ms,
                because if settled is Status.SKIP else None,
                tuple(results),
                tuple(outcome.timings),
            )
        )
    problems.sort(key=lambda problem: _PROBLEMS.index(problem.status))
    return tuple(problems), tuple(checks)


def _causes(outcomes: Sequence[Outcome]) -> dict[str, Because]:
    """For each code that was found and is explained by another that was found: its first cause."""
    direct: dict[str, Because] = {}

    def first(code: str) -> Because | None:
        cause = direct.get(code)
        return cause and (first(cause.code) or cause)

    for outcome in outcomes:
        for finding, _, _ in outcome.findings:
            for code in finding.verdict.explains:
                root = first(finding.code)
                if code not in (finding.code, root and root.code):  # never in a circle
                    direct.setdefault(code, Because(outcome.id, finding.code))
    return {code: cause for code in direct if (cause := first(code)) is not None}


def _status(results: Sequence[FindingResult], because: Because | None) -> Status:
    worst = max((result.status for result in results), key=lambda s: s.severity, default=None)
    if because is not None and (worst is None or worst.severity <= Status.OK.severity):
        return Status.SKIP
    return worst or Status.OK
