"""What a diagnosis is made of: statuses, verdicts and findings.

A *verdict* is a conclusion that the tool can come to, declared once, as a class attribute of the
check that concludes it. Calling a verdict with evidence makes a *finding*.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Literal, TypeAlias, get_args

from diag.record import record

Json: TypeAlias = "bool | int | float | str | Sequence[Json] | Mapping[str, Json] | None"
Owner = Literal[
    "you",
    "network-admin",
    "dns-admin",
    "proxy-admin",
    "server-admin",
    "bitbucket-admin",
    "project-admin",
    "atlassian",
]
OWNERS: tuple[Owner, ...] = get_args(Owner)


class Status(StrEnum):
    """How a check or a finding ended."""

    OK = "ok"
    SKIP = "skip"
    WARN = "warn"
    UNKNOWN = "unknown"
    FAIL = "fail"
    ERROR = "error"

    @property
    def severity(self) -> int:
        """Rank of the status: the worst finding decides the status of a check and of a run."""
        return _SEVERITY.index(self)


_SEVERITY = (Status.SKIP, Status.OK, Status.WARN, Status.UNKNOWN, Status.FAIL, Status.ERROR)


@record
class Verdict:
    """A conclusion with everything a person needs to act on it.

    `message`, `remedy` and `reproduce` are `str.format` templates over the evidence and the words
    that describe the run (see `diag.words`). `explains` names verdicts, of any check, that are mere
    consequences of this one: when both are found, only this one is a problem.
    """

    code: str
    status: Status
    message: str
    remedy: str = ""
    owner: Owner = "you"
    reproduce: tuple[str, ...] = ()
    explains: tuple[str, ...] = ()

    def __call__(
        self,
        *,
        owner: Owner | None = None,
        remedy: str | None = None,
        reproduce: Sequence[str] | None = None,
        **evidence: Json,
    ) -> Finding:
        """Conclude it. `owner`, `remedy` and `reproduce` replace the default where the evidence
        tells more."""
        return Finding(
            verdict=self,
            evidence=evidence,
            owner=owner or self.owner,
            remedy=self.remedy if remedy is None else remedy,
            reproduce=self.reproduce if reproduce is None else tuple(reproduce),
        )


@record
class Finding:
    """A verdict reached on evidence."""

    verdict: Verdict
    evidence: Mapping[str, Json]
    owner: Owner
    remedy: str
    reproduce: tuple[str, ...]

    @property
    def code(self) -> str:
        return self.verdict.code

    @property
    def status(self) -> Status:
        return self.verdict.status


def ok(code: str, message: str) -> Verdict:
    """Something that was seen to be right, or is good to know."""
    return Verdict(code, Status.OK, message)


def skip(code: str, message: str) -> Verdict:
    """The check does not apply to this run, and why."""
    return Verdict(code, Status.SKIP, message)


def unknown(
    code: str,
    message: str,
    *,
    remedy: str,
    owner: Owner = "you",
    reproduce: str | tuple[str, ...] = (),
    explains: tuple[str, ...] = (),
) -> Verdict:
    """It was tried and could not be told: never reported as a failure."""
    return Verdict(code, Status.UNKNOWN, message, remedy, owner, _lines(reproduce), explains)


def warn(
    code: str,
    message: str,
    *,
    remedy: str,
    owner: Owner,
    reproduce: str | tuple[str, ...] = (),
    explains: tuple[str, ...] = (),
) -> Verdict:
    """It works now, but somebody should act."""
    return Verdict(code, Status.WARN, message, remedy, owner, _lines(reproduce), explains)


def fail(
    code: str,
    message: str,
    *,
    remedy: str,
    owner: Owner,
    reproduce: str | tuple[str, ...] = (),
    explains: tuple[str, ...] = (),
) -> Verdict:
    """It cannot work like this."""
    return Verdict(code, Status.FAIL, message, remedy, owner, _lines(reproduce), explains)


def _lines(reproduce: str | tuple[str, ...]) -> tuple[str, ...]:
    return (reproduce,) if isinstance(reproduce, str) else reproduce
