"""Runs the checks of a plan: each in a thread of its own, as soon as the facts it needs are there.

The runner ends by the deadline whatever the checks do: threads are daemons, and one that is still
waiting then is left behind and reported as not finished.
"""

from __future__ import annotations

import platform
import threading
import traceback
import uuid
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from diag import credentials, texts
from diag import target as targets
from diag.check import Check
from diag.context import Context, DeadlineExceededError, Run, words
from diag.facts import Fact, Target
from diag.model import Finding, Json, Status, Verdict, skip, unknown
from diag.plan import Plan
from diag.report import (
    LEFT_OUT_CODE,
    Because,
    FindingResult,
    Outcome,
    Problem,
    Report,
    RunInfo,
    TargetInfo,
    TimingResult,
    conclude,
    timestamp,
)
from diag.secret import Scrubber
from diag.settings import Settings
from diag.version import VERSION

if TYPE_CHECKING:
    from diag.net.tls import Trust

UNFINISHED = unknown(
    "check-unfinished",
    "check {check} could not be finished within the deadline ({deadline} s)",
    remedy="Give it more time with --deadline.",
)
INTERRUPTED = unknown(
    "check-interrupted",
    "check {check} was interrupted",
    remedy="Run it again and let it finish.",
)
CRASHED = Verdict(
    "check-crashed",
    Status.ERROR,
    "bbdiag's own fault in check {check}: {error}",
    "Please report it with this output; the rest of the report stands.",
)
LEFT_OUT = skip(LEFT_OUT_CODE, "left out with --skip")
VERDICTS = (UNFINISHED, INTERRUPTED, CRASHED, LEFT_OUT)

Progress = Callable[[str, str], None]  # (check id, "started" or its status)


class Runner:
    """One run of a plan."""

    def __init__(
        self,
        settings: Settings,
        plan: Plan,
        scrubber: Scrubber | None = None,
        progress: Progress | None = None,
        trust: Trust | None = None,
    ) -> None:
        self.settings = settings
        self.plan = plan
        self.run = Run(settings, scrubber or Scrubber(), trust)
        credentials.teach(self.run.scrubber, settings)
        self._progress = progress or (lambda _check, _event: None)
        self._outcomes = {check.id: Outcome(check.id, check.title) for check in plan.chosen}
        self._waiting = list(plan.chosen)
        self._running: set[str] = set()
        self._changed = threading.Condition()
        self._closed = False  # no outcome is changed any more
        self._interrupted = False

    def execute(self) -> Report:
        """Run until everything has ended, the deadline is over, or Ctrl-C."""
        started_at = datetime.now(UTC)
        # The HTTP library takes longest to load: that is done while name and address are looked up.
        threading.Thread(target=self.run.preload, daemon=True).start()
        try:
            self._loop()
        except KeyboardInterrupt:
            self._interrupted = True
        with self._changed:
            self._closed = True
            for check_id in self._running:
                verdict = INTERRUPTED if self._interrupted else UNFINISHED
                finding = verdict(check=check_id, deadline=f"{self.settings.deadline:g}")
                self._add(check_id, finding)
                outcome = self._outcomes[check_id]
                if outcome.started_ms is not None:
                    outcome.duration_ms = self.run.elapsed_ms() - outcome.started_ms
            for check in self._waiting:
                if self._applies(check):
                    self._skip(check)
                else:
                    del self._outcomes[check.id]
        self.run.close()
        return self._report(started_at, self._interrupted)

    def interrupt(self) -> None:
        """End the run now, from another thread, as Ctrl-C does where it runs in the main one."""
        with self._changed:
            self._interrupted = True
            self._changed.notify_all()

    # scheduling

    def _loop(self) -> None:
        with self._changed:
            while (self._waiting or self._running) and not self._interrupted:
                while self._start_ready():
                    pass
                if not self._running:
                    return
                left = self.run.cutoff()
                if left <= 0:
                    return
                self._changed.wait(left)

    def _start_ready(self) -> bool:
        """Start, or skip, every check whose facts are settled; whether that changed anything."""
        moved = False
        for check in list(self._waiting):
            if not all(self._settled(fact) for fact in (*check.requires, *check.after)):
                continue
            self._waiting.remove(check)
            moved = True
            if not self._applies(check):
                del self._outcomes[check.id]  # another product's check is no part of this report
            elif all(fact in self.run.facts for fact in check.requires):
                self._running.add(check.id)
                self._outcomes[check.id].started_ms = self.run.elapsed_ms()
                self._progress(check.id, "started")
                threading.Thread(target=self._work, args=(check,), daemon=True).start()
            else:
                self._skip(check)
        return moved

    def _applies(self, check: type[Check]) -> bool:
        target = self.run.facts.get(Target)
        return (target.kind if isinstance(target, Target) else "datacenter") in check.kinds

    def _settled(self, fact: type[Fact]) -> bool:
        if fact in self.run.facts:
            return True
        busy = self._running | {check.id for check in self._waiting}
        return not any(check.id in busy for check in self.plan.providers(fact))

    def _work(self, check_type: type[Check]) -> None:
        check_id = check_type.id
        try:
            check = check_type()
            for item in check.run(Context(self.run, check)):
                if not self._take(check, item):
                    return
        except DeadlineExceededError:
            self._end(check_id, UNFINISHED(check=check_id, deadline=f"{self.settings.deadline:g}"))
        except Exception as error:  # a crash of one check is that check's error
            place = traceback.extract_tb(error.__traceback__)[-1]
            text = f"{type(error).__name__}: {error} ({place.name}, line {place.lineno})"
            self._end(check_id, CRASHED(check=check_id, error=self.run.scrubber.text(text, 300)))
        else:
            self._end(check_id, None)

    def _take(self, check: Check, item: Finding | Fact) -> bool:
        """Keep what a check yielded; False when the run is over."""
        with self._changed:
            if self._closed:
                return False
            if isinstance(item, Finding):
                self._add(check.id, item)
            elif type(item) in check.provides:
                self.run.facts[type(item)] = item
                self._changed.notify_all()
            else:
                raise TypeError(f"{type(item).__name__} is not among what it provides")
            return True

    def _end(self, check_id: str, finding: Finding | None) -> None:
        with self._changed:
            if self._closed:
                return
            if finding is not None:
                self._add(check_id, finding)
            outcome = self._outcomes[check_id]
            outcome.duration_ms = self.run.elapsed_ms() - (outcome.started_ms or 0)
            self._running.discard(check_id)
            worst = outcome.worst
            self._progress(check_id, str(worst.status) if worst else "ok")
            self._changed.notify_all()

    def _skip(self, check: type[Check]) -> None:
        self._outcomes[check.id].because = self._cause(check)
        self._progress(check.id, "skip")

    def _cause(self, check: type[Check]) -> Because | None:
        """Why a required fact is missing: the worst finding of who should have given it."""
        candidates: list[tuple[int, Because]] = []
        for fact in check.requires:
            if fact in self.run.facts:
                continue
            for provider in self.plan.providers(fact):
                if provider.id not in self._outcomes and provider in self.plan.chosen:
                    continue
                if provider in self.plan.left_out:
                    candidates.append((Status.FAIL.severity, Because(provider.id, LEFT_OUT.code)))
                    continue
                outcome = self._outcomes[provider.id]
                worst = outcome.worst
                if outcome.because is not None:
                    candidates.append((Status.FAIL.severity, outcome.because))
                elif worst is not None:
                    candidates.append((worst.status.severity, Because(provider.id, worst.code)))
        return max(candidates, key=lambda item: item[0], default=(0, None))[1]

    # texts

    def _add(self, check_id: str, finding: Finding) -> None:
        scrubber = self.run.scrubber
        evidence = scrubber.json(finding.evidence)
        assert isinstance(evidence, dict)  # noqa: S101 - the scrubber keeps the shape
        values = {**words(self.settings, self.run.facts), **finding.evidence}
        message = self._fill(finding.verdict.message, values)
        problem = Problem(
            finding.code,
            finding.status,
            check_id,
            message,
            self._fill(finding.remedy, values),
            finding.owner,
            evidence,
            tuple(self._command(line, values) for line in finding.reproduce),
        )
        result = FindingResult(finding.code, finding.status, message, evidence)
        self._outcomes[check_id].findings.append((finding, result, problem))

    def _fill(self, template: str, values: Mapping[str, Json]) -> str:
        return self.run.scrubber.text(texts.fill(template, values))

    def _command(self, template: str, values: Mapping[str, Json]) -> str:
        return self.run.scrubber.text(texts.command(template, values))

    def _report(self, started_at: datetime, interrupted: bool) -> Report:
        for check_id, timings in self.run.timings.items():
            self._outcomes[check_id].timings = [
                TimingResult(t.what, t.detail, t.started_ms, t.duration_ms) for t in timings
            ]
        left_out = [Outcome(check.id, check.title) for check in self.plan.left_out]
        for outcome in left_out:
            self._outcomes[outcome.id] = outcome
            self._add(outcome.id, LEFT_OUT())
        order = sorted(
            (*self.plan.chosen, *self.plan.left_out), key=lambda check: (check.order, check.id)
        )
        problems, checks = conclude(
            [self._outcomes[check.id] for check in order if check.id in self._outcomes]
        )
        settings = self.settings
        return Report(
            version=VERSION,
            run=RunInfo(
                id=uuid.uuid4().hex,
                started_at=timestamp(started_at),
                duration_ms=self.run.elapsed_ms(),
                label=None if settings.label is None else self.run.scrubber.text(settings.label),
                hostname=platform.node(),
                requests=self.run.http.requests if "http" in self.run.__dict__ else 0,
                interrupted=interrupted,
            ),
            target=target_info(settings, self.run),
            profile=settings.profile.name,
            stage=settings.stage,
            problems=problems,
            checks=checks,
        )


def target_info(settings: Settings, run: Run) -> TargetInfo:
    """The target as far as it is known."""

    def scrubbed(text: str | None) -> str | None:
        return None if text is None else run.scrubber.text(text)

    target = run.facts.get(Target)
    shown = run.scrubber.text(targets.parse(settings.url).text_shown)
    if not isinstance(target, Target):
        return TargetInfo(shown, name=scrubbed(settings.name))

    return TargetInfo(
        shown,
        target.kind,
        scrubbed(target.base_url),
        scrubbed(target.host),
        target.port,
        scrubbed(target.project),
        scrubbed(target.repository),
        scrubbed(settings.name),
    )


def execute(
    settings: Settings,
    checks: Sequence[type[Check]],
    *,
    scrubber: Scrubber | None = None,
    progress: Progress | None = None,
) -> Report:
    """Plan and run.

    Raises:
        ValueError: `only` or `skip` name a check that does not exist.
    """
    from diag import plan

    made = plan.make(checks, only=settings.only, skip=settings.skip)
    return Runner(settings, made, scrubber, progress).execute()
