"""One target, diagnosed once or, with `--wait`, again and again until nothing fails."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING

from diag.plan import Plan
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
    `watch` is entered for each of them, and told how it goes.
    """

    def __init__(
        self,
        settings: Settings,
        plan: Plan,
        *,
        wait: float = 0.0,
        strict: bool = False,
        trust: Trust | None = None,
        watch: Watch = nullcontext,
    ) -> None:
        self._settings = settings
        self._plan = plan
        self._wait = wait
        self._strict = strict
        self._trust = trust
        self._watch = watch
        self._runner: Runner | None = None
        self._stop = threading.Event()

    def execute(self) -> Report:
        """The report of the last run."""
        end = time.monotonic() + self._wait
        while True:
            with self._watch() as progress:
                runner = Runner(self._settings, self._plan, Scrubber(), progress, self._trust)
                self._runner = runner
                if self._stop.is_set():  # while there was no runner to be told
                    runner.interrupt()
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
                return replace(report, run=replace(report.run, interrupted=True))

    def interrupt(self) -> None:
        """End it now, from another thread: what was found so far is the report."""
        self._stop.set()
        if self._runner is not None:
            self._runner.interrupt()


def _hopeless(runner: Runner, report: Report) -> bool:
    """A refused secret is not sent again, and a wrong call does not mend itself."""
    return runner.run.http.fuse_blown or report.exit_status() == 2
