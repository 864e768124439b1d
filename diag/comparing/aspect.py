"""What an aspect of a comparison is, and what it is given."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property

from diag import texts
from diag.check import Concluding
from diag.comparing.sight import Sight
from diag.model import Finding, Json, Status
from diag.record import record
from diag.report import FindingResult, Outcome, Problem


@record
class Proof:
    """A conclusion that says where problems of single places come from: they are told no more.

    What is in order refutes them: it is told with no more weight for it.
    """

    finding: Finding
    explains: frozenset[tuple[str, str]]  # (place, code)


class Aspect(Concluding):
    """One thing that may differ between places. The docstring is its documentation."""

    def look(self, case: Case) -> Iterator[Finding | Proof]:
        """Compare. What earlier aspects explained is not looked at again."""
        raise NotImplementedError


@dataclass
class Case:
    """The sights that are compared, one for each place, and what was concluded so far."""

    sights: tuple[Sight, ...]
    explained: set[tuple[str, str]] = field(default_factory=set)

    @cached_property
    def _position(self) -> Mapping[str, int]:
        """The place of each check on the way to Bitbucket."""
        longest = max((sight.report.checks for sight in self.sights), key=len)
        return {check.id: place for place, check in enumerate(longest)}

    def left(self, sight: Sight) -> Iterator[Problem]:
        """The problems there that nothing explains yet."""
        for problem in sight.problems:
            if (sight.place, problem.code) not in self.explained:
                yield problem

    def failure(self, sight: Sight) -> Problem | None:
        """The root cause there, if it is a failure and nothing explains it yet."""
        failure = sight.failure
        return failure if any(one is failure for one in self.left(sight)) else None

    def failing(self, codes: Iterable[str] | None = None) -> Iterator[tuple[Sight, Problem]]:
        """Where something failed (with one of these codes) that nothing explains yet."""
        for sight in self.sights:
            failure = self.failure(sight)
            if failure and (codes is None or failure.code in codes):
                yield sight, failure

    def past(self, problem: Problem, sight: Sight) -> Iterator[Sight]:
        """The places that got further than the one where this problem was found."""
        here = self.position(problem)
        for other in self.sights:
            failure = other.failure
            if other is not sight and (failure is None or self.position(failure) > here):
                yield other

    def position(self, problem: Problem) -> int:
        return self._position.get(problem.check, len(self._position))

    # what is told

    @property
    def words(self) -> Mapping[str, Json]:
        """What texts may name besides their evidence."""
        target = self.sights[-1].report.target
        return {
            "curl": "curl -sS",
            "url": target.base_url or target.input,
            "host": target.host or target.input,
            "port": target.port or 443,
            "count": len(self.sights),
        }

    def outcome(self, aspect: Aspect) -> Outcome:
        """What the aspect says, in the form of a check's."""
        outcome = Outcome(aspect.id, aspect.title)
        for item in aspect.look(self):
            proof = item if isinstance(item, Proof) else Proof(item, frozenset())
            self.explained |= proof.explains
            outcome.findings.append(self._told(aspect, proof))
        return outcome

    def _told(self, aspect: Aspect, proof: Proof) -> tuple[Finding, FindingResult, Problem]:
        """The finding with its texts; a problem weighs as much as the worst of what it explains."""
        finding = proof.finding
        values = {**self.words, **finding.evidence}
        message = texts.fill(finding.verdict.message, values)
        status = finding.status
        if status not in (Status.OK, Status.SKIP):
            worse = self._statuses(proof.explains)
            status = max((status, *worse), key=lambda one: one.severity)
        problem = Problem(
            finding.code,
            status,
            aspect.id,
            message,
            texts.fill(finding.remedy, values),
            finding.owner,
            finding.evidence,
            tuple(texts.command(line, values) for line in finding.reproduce),
        )
        return finding, FindingResult(finding.code, status, message, finding.evidence), problem

    def _statuses(self, explained: frozenset[tuple[str, str]]) -> Iterator[Status]:
        for sight in self.sights:
            for problem in sight.problems:
                if (sight.place, problem.code) in explained:
                    yield problem.status


def quoted(text: str) -> str:
    """Text that is filled in already, as a template."""
    return text.replace("{", "{{").replace("}", "}}")
