"""One target, diagnosed once or, with `--wait`, again and again until nothing fails."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING

from diag.plan import Plan
from diag.record import replace
from diag.report import Report
from diag.runner import Progress, Runner
from diag.secret import Scrubber
from diag.settings import Settings

if TYPE_CHECKING:
    from diag.net.tls import Trust

INTERVAL = 2.0  # seconds between two tries

Watch = Callable[[], AbstractContextManager[Progress | None]]


class Attempts:
    """The runs of one target.

    `wait` is in seconds; `strict` is about what has to be repaired before they are given up;
    `watch` is entered for each of them, and told how it goes; `trust`, `alone` and
    `meanwhile` are those of `Runner`.
    """

    def __init__(
        self,
        settings: Settings,
        plan: Plan,
        *,
        wait: float = 0.0,
        strict: bool = False,
        trust: Trust | None = None,
        alone: bool = True,
        watch: Watch = nullcontext,
        meanwhile: Callable[[], None] = lambda: None,
    ) -> None:
        self._settings = settings
        self._plan = plan
        self._wait = wait
        self._strict = strict
        self._trust = trust
        self._alone = alone
        self._watch = watch
        self._meanwhile = meanwhile
        self._runner: Runner | None = None
        self._stop = threading.Event()

    def execute(self) -> Report:
        """The report of the last run."""
        end = time.monotonic() + self._wait
        while True:
            with self._watch() as progress:
                self._runner = runner = Runner(
                    self._settings,
                    self._plan,
                    Scrubber(),
                    progress,
                    trust=self._trust,
                    alone=self._alone,
                    meanwhile=self._meanwhile,
                )
                if self._stop.is_set():  # while there was no runner to be told
                    return runner.end(interrupted=True)
                report = runner.execute()
            left = end - time.monotonic()
            done = report.exit_status(strict=self._strict) in (0, 130)
            if done or left <= 0 or _hopeless(runner, report):
                return report
            try:
                stopped = self._stop.wait(min(INTERVAL, left))
            except KeyboardInterrupt:
                stopped = True
            if stopped:
                return _interrupted(report)

    def interrupt(self) -> Report | None:
        """End it now, from another thread; what was found so far, None if nothing had begun.

        Nothing waits for the thread that is in `execute`: it may be waiting for a server.
        """
        self._stop.set()
        runner = self._runner
        return None if runner is None else _interrupted(runner.end(interrupted=True))


def _interrupted(report: Report) -> Report:
    return replace(report, run=replace(report.run, interrupted=True))


def _hopeless(runner: Runner, report: Report) -> bool:
    """A refused secret is not sent again, and a wrong call does not mend itself."""
    return runner.run.http.fuse_blown or report.exit_status() == 2
