"""Runs the checks of a plan, each as soon as the facts it needs are there.

The runner ends by the deadline whatever the checks do: threads are daemons, and one that is still
waiting then is left behind and reported as not finished.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from diag import credentials, texts
from diag import target as targets
from diag.check import Check
from diag.context import Context, DeadlineExceededError, Run
from diag.facts import Fact, Target
from diag.model import Finding, Json, Status, Verdict, skip, unknown
from diag.plan import Agenda, Plan
from diag.report import (
    LEFT_OUT_CODE,
    Because,
    FindingResult,
    Outcome,
    Problem,
    Report,
    RunInfo,
    TargetInfo,
    conclude,
    hostname,
    new_id,
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

_ATTENTIVE = 0.5  # seconds: a Ctrl-C just before a wait begins is only noticed when the wait ends

Foresight = Iterator[tuple[type[Fact], ...]]
Progress = Callable[[str, str], None]  # (check id, "started" or its status)


class Runner:
    """One run of a plan.

    `alone`: nothing else is to be done meanwhile, so that checks run side by side, each in a thread
    of its own, and further connections are opened ahead. Else they take turns in the thread of the
    caller, over one connection where that will do: in a fleet other targets use the time.
    """

    def __init__(
        self,
        settings: Settings,
        plan: Plan,
        scrubber: Scrubber | None = None,
        progress: Progress | None = None,
        *,
        trust: Trust | None = None,
        alone: bool = True,
        meanwhile: Callable[[], None] = lambda: None,
    ) -> None:
        """`meanwhile`: what else can be done while the network is awaited, if `alone`."""
        self.settings = settings
        self.plan = plan
        self.run = Run(settings, scrubber or Scrubber(), trust, alone=alone)
        credentials.teach(self.run.scrubber, settings)
        self._progress = progress or (lambda _check, _event: None)
        self._meanwhile = meanwhile
        self._outcomes = {check.id: Outcome(check.id, check.title) for check in plan.chosen}
        self._agenda = Agenda(plan)
        self._foreseers: list[tuple[type[Check], tuple[type[Fact], ...], Foresight]] = []
        self._running: dict[str, type[Check]] = {}
        self._changed = threading.Condition()
        self._closed = False  # no outcome is changed any more
        self._started_at = datetime.now(UTC)
        self._final: Report | None = None

    def execute(self) -> Report:
        """Run until everything has ended, the deadline is over, or Ctrl-C."""
        self._started_at = datetime.now(UTC)
        interrupted = False
        try:
            if self.run.alone:
                threading.Thread(target=self._load, daemon=True).start()
                self._side_by_side()
            else:
                self._by_turns()
        except KeyboardInterrupt:
            interrupted = True
        return self.end(interrupted=interrupted)

    def _load(self) -> None:
        """Load libraries, beside those who wait for an answer and not before they have asked."""
        self.run.preload()
        self._meanwhile()

    def end(self, *, interrupted: bool) -> Report:
        """Leave behind what is still under way, from whatever thread; the report, which is the
        same however often this is called."""
        with self._changed:
            if self._final is None:
                self._closed = True
                self._leave_behind(INTERRUPTED if interrupted else UNFINISHED)
                self.run.close()
                self._final = self._report(self._started_at, interrupted)
                self._changed.notify_all()
            return self._final

    def _leave_behind(self, verdict: Verdict) -> None:
        for check_id in self._running:
            self._add(check_id, verdict(check=check_id, deadline=f"{self.settings.deadline:g}"))
            outcome = self._outcomes[check_id]
            if outcome.started_ms is not None:
                outcome.duration_ms = self.run.elapsed_ms() - outcome.started_ms
        for check in self._agenda.waiting:
            if self._applies(check):
                self._skip(check)
            else:
                del self._outcomes[check.id]

    # scheduling

    def _side_by_side(self) -> None:
        for check_type in self.plan.chosen:
            if check_type.ahead is not Check.ahead:
                check = check_type()
                foresight = check.ahead(Context(self.run, check))
                self._foreseers.append((check_type, (Target,), foresight))
        with self._changed:
            while not self._closed:
                started = self._start_ready()
                self._foresee()
                for check_type in started:
                    threading.Thread(target=self._work, args=(check_type,), daemon=True).start()
                left = self.run.cutoff()
                if not self._running or left <= 0:
                    return
                self._changed.wait(min(left, _ATTENTIVE))

    def _foresee(self) -> None:
        """Have the checks that wait say what they are going to ask, and begin with that."""
        ready = [one for one in self._foreseers if all(fact in self.run.facts for fact in one[1])]
        self._foreseers = [one for one in self._foreseers if one not in ready]
        for check, _, foresight in ready:
            if check not in self._agenda.waiting or not self._applies(check):
                continue
            with suppress(Exception):  # nothing rests on it: `run` tells what is wrong
                if (facts := next(foresight, None)) is not None:
                    self._foreseers.append((check, facts, foresight))
        if "http" in self.run.__dict__:  # else nobody has asked for anything yet
            self.run.http.begin(signed=False)

    def _by_turns(self) -> None:
        """A check that has established a fact lets those go first that waited for it."""
        turns: deque[tuple[type[Check], Iterator[Fact]]] = deque()
        while self.run.cutoff() > 0:
            with self._changed:
                if self._closed:
                    return
                started = self._start_ready()
            turns.extendleft((check, self._steps(check)) for check in reversed(started))
            if not turns:
                return
            check, steps = turns.popleft()
            if next(steps, None) is not None:
                turns.append((check, steps))

    def _start_ready(self) -> list[type[Check]]:
        """The checks that can start now; those that cannot run are skipped on the way."""
        started: list[type[Check]] = []
        while ready := self._agenda.ready():
            for check in ready:
                if not self._applies(check):
                    del self._outcomes[check.id]  # another product's check is no part of the report
                    self._agenda.ended(check)
                elif all(fact in self.run.facts for fact in check.requires):
                    self._running[check.id] = check
                    self._outcomes[check.id].started_ms = self.run.elapsed_ms()
                    self._progress(check.id, "started")
                    started.append(check)
                else:
                    self._skip(check)
                    self._agenda.ended(check)
        return started

    def _applies(self, check: type[Check]) -> bool:
        target = self.run.facts.get(Target)
        return (target.kind if isinstance(target, Target) else "datacenter") in check.kinds

    def _work(self, check: type[Check]) -> None:
        for _ in self._steps(check):
            pass

    def _steps(self, check_type: type[Check]) -> Iterator[Fact]:
        """Run a check, and stop after each fact that it establishes."""
        check_id = check_type.id
        try:
            check = check_type()
            for item in check.run(Context(self.run, check)):
                if not self._take(check, item):
                    return
                if isinstance(item, Fact):
                    yield item
        except DeadlineExceededError:
            self._end(check_id, UNFINISHED(check=check_id, deadline=f"{self.settings.deadline:g}"))
        except Exception as error:  # a crash of one check is that check's error
            from traceback import extract_tb

            place = extract_tb(error.__traceback__)[-1]
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
                self._agenda.established(type(item))
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
            self._agenda.ended(self._running.pop(check_id))
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
        values = {**self.run.words(), **finding.evidence}
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
        with self.run.lock:  # who is left behind may still be recording
            for check_id, timings in self.run.timings.items():
                self._outcomes[check_id].timings = tuple(timings)
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
                id=new_id(),
                started_at=timestamp(started_at),
                duration_ms=self.run.elapsed_ms(),
                label=None if settings.label is None else self.run.scrubber.text(settings.label),
                hostname=hostname(),
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
