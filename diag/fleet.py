"""Many targets, a number of them at a time, each report handed out as soon as its run ends."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Protocol

from diag import credentials, target, usage
from diag.attempts import Attempts
from diag.fleetfile import Entry
from diag.net.tls import Trust
from diag.plan import Plan
from diag.record import record, replace
from diag.report import Report, TargetInfo
from diag.settings import GivenSecret, Settings

PATIENCE = 1.0  # seconds after which a run gives its place to the next target
SLOW = 4  # runs that have lost their place, at most, for each place …
_MOST_SLOW = 256  # … and in all: one takes about 0.1 MB, some threads and sockets
_TICK = 0.05  # seconds between two looks at who is slow, and at how busy this process is
_LATE = 0.05  # seconds: who wakes up later than that waits for the processor, as the runs do
_BUSY = 0.85  # of a core: more runs would only wait for each other (one interpreter lock)
_FIRST = 8  # runs to begin with
_GRACE = 2.0  # seconds for reports that are being written when it is interrupted
_STORES = 32  # trust stores that are kept: the contexts of one take up to 2 MB


@record
class Terms:
    """What holds for every target of a fleet that says nothing else.

    `secret` reads the one for a URL and a user name, and raises ValueError with a message for the
    user. `wait` is in seconds.
    """

    settings: Settings
    plan: Plan
    secret: Callable[[str, str | None], GivenSecret]
    wait: float = 0.0
    strict: bool = False

    def settings_for(self, entry: Entry) -> Settings:
        """The settings of one target.

        Raises:
            ValueError: its secret cannot be had; the message is for the user.
        """
        common = self.settings
        user = entry.user or common.user
        if entry.token_env is None and entry.token_file is None:
            given = self.secret(entry.url, user)
        else:
            given = credentials.read(
                url=entry.url,
                token_env=entry.token_env,
                token_file=entry.token_file,
                environ=common.environ,
            )
        return replace(
            common,
            url=entry.url,
            name=entry.name,
            repo=entry.repo or common.repo,
            user=user,
            ca_file=entry.ca_file or common.ca_file,
            profile=entry.profile or common.profile,
            stage=entry.stage or common.stage,
            connect_to=common.connect_to if entry.connect_to is None else entry.connect_to,
        ).with_secret(given)


class Job(Protocol):
    """What can be run once, and be told to end."""

    def execute(self) -> Report: ...

    def interrupt(self) -> Report | None:
        """At once, from another thread, whatever `execute` waits for; None: there is no report."""


class Diagnosis:
    """The runs of one target of a fleet. Whatever goes wrong, there is a report."""

    def __init__(self, entry: Entry, terms: Terms) -> None:
        self._entry = entry
        self._terms = terms
        self._attempts: Attempts | None = None

    def execute(self) -> Report:
        terms = self._terms
        try:
            settings = terms.settings_for(self._entry)
        except ValueError as error:  # that of this target alone: the others are none the worse
            return usage.wrong_call(self._scrub(str(error)), self._info())
        try:
            trust = _trust(settings.ca_file)
            attempts = Attempts(
                settings,
                terms.plan,
                wait=terms.wait,
                strict=terms.strict,
                trust=trust,
                alone=False,
            )
            self._attempts = attempts
            return attempts.execute()
        except Exception as error:  # bbdiag's own fault, outside of any check
            return usage.own_fault(self._scrub(f"{type(error).__name__}: {error}"), self._info())

    def interrupt(self) -> Report | None:
        return None if self._attempts is None else self._attempts.interrupt()

    def _scrub(self, text: str) -> str:
        return usage.scrub(text, [self._entry.url])

    def _info(self) -> TargetInfo:
        shown = self._scrub(target.parse(self._entry.url).text_shown)
        name = self._entry.name
        return TargetInfo(shown, name=None if name is None else self._scrub(name))


@lru_cache(_STORES)
def _trust(ca_file: str | None) -> Trust:
    """One for all targets with this CA file."""
    return Trust(ca_file)


class Tally:
    """How many targets ended, and how. Not thread-safe."""

    def __init__(self, *, strict: bool = False) -> None:
        self._strict = strict
        self._statuses: Counter[int] = Counter()

    def add(self, report: Report) -> None:
        self._statuses[report.exit_status(strict=self._strict)] += 1

    @property
    def done(self) -> int:
        return self._statuses.total()

    @property
    def fine(self) -> int:
        return self._statuses[0]

    @property
    def failing(self) -> int:
        """Those with a failure, one of the call included: a URL that is none."""
        return self._statuses[1] + self._statuses[2]

    @property
    def unknown(self) -> int:
        return self._statuses[4]

    @property
    def crashed(self) -> int:
        return self._statuses[3]

    @property
    def interrupted(self) -> int:
        return self._statuses[130]

    def exit_status(self) -> int:
        """The exit status over all, after the contract."""
        if self.interrupted:
            return 130
        if self.crashed:
            return 3
        if self.failing:
            return 1
        return 4 if self.unknown else 0


class Schedule:
    """Runs jobs side by side, as they come from an iterator.

    Of `parallel` places each holds one run. One that lasts longer than `PATIENCE` gives its place
    to the next: healthy targets take a fraction of that, and need not stand in line behind dead
    ones, which do nothing but wait. The number of such slow runs is limited; from then on places
    become free as runs end.

    Runs that wait for the processor instead of the network would time out, and accuse healthy
    servers; long before that, they take the interpreter lock from each other, which costs a fifth
    of all CPU time where there are dozens. So there are few places at first, more with every look
    as long as this process leaves a part of its core unused, one less when it does not, and half as
    many when this thread wakes up late: `parallel` is only the most there can be.

    The threads take turns to lead: the leader takes the next job from the iterator, lets another
    lead if there is a place, and runs its job. So no job is made before it can be run, there are
    no more threads than runs, and an iterator that keeps its reader waiting holds up nobody.
    """

    def __init__(
        self, jobs: Iterator[Job], deliver: Callable[[Report], None], *, parallel: int
    ) -> None:
        """`deliver` is called with each report, from several threads."""
        self._jobs = jobs
        self._deliver = deliver
        self._parallel = parallel
        self._places = min(_FIRST, parallel)
        self._most_slow = min(SLOW * parallel, _MOST_SLOW)
        self._changed = threading.Condition()
        self._placed: dict[Job, float] = {}  # since when, the longest first
        self._slow: set[Job] = set()
        self._ending: set[Job] = set()  # whose reports are being delivered
        self._stopped: set[Job] = set()  # who are asked for their reports by somebody else
        self._leading = False
        self._over = False  # nothing more is begun
        self._error: BaseException | None = None
        self._deaf = False  # no report is taken any more

    def run(self) -> bool:
        """Until every job is done, something went wrong, or Ctrl-C; whether it was not that.

        Raises:
            Exception: what the iterator raised, when the last run has ended; or what `deliver`
                raised, at once.
        """
        try:
            with self._changed:
                self._let_lead()
                while not self._deaf and (self._leading or self._busy()):
                    since, used = time.monotonic(), time.process_time()
                    self._changed.wait(_TICK)
                    took = time.monotonic() - since
                    busy = (time.process_time() - used) / max(took, _TICK)
                    self._look(busy, late=took > _TICK + _LATE)
        except KeyboardInterrupt:
            self._interrupt()
            return False
        if self._error is not None:
            raise self._error
        return True

    def _interrupt(self) -> None:
        """End all runs now, and deliver what those have to say that have not ended themselves."""
        with self._changed:
            self._over = True
            stopped = [job for job in (*self._placed, *self._slow) if job not in self._ending]
            self._stopped.update(stopped)
        for job in stopped:
            report = job.interrupt()
            if report is not None and not self._deaf:
                try:
                    self._deliver(report)
                except Exception as error:  # Ctrl-C ends a whole pipeline, its reader included
                    self._end(error, deaf=True)
        end = time.monotonic() + _GRACE
        with self._changed:
            while self._ending and not self._deaf and (left := end - time.monotonic()) > 0:
                self._changed.wait(left)

    # places, with the lock held

    def _busy(self) -> bool:
        return bool(self._placed or self._slow)

    def _may_lead(self) -> bool:
        return not (self._over or self._leading) and len(self._placed) < self._places

    def _let_lead(self) -> None:
        if self._may_lead():
            self._leading = True
            try:
                threading.Thread(target=self._work, daemon=True).start()
            except RuntimeError:  # no more threads: those that there are go on
                self._leading = False
                if not self._busy():
                    raise

    def _look(self, busy: float, *, late: bool) -> None:
        if late:
            self._places = max(1, self._places // 2)
            return
        more = -1 if busy > _BUSY else 1 + int(self._places * (1 - busy))
        self._places = max(1, min(self._parallel, self._places + more))
        latest = time.monotonic() - PATIENCE
        for job, since in list(self._placed.items()):
            if since > latest or len(self._slow) >= self._most_slow:
                break
            del self._placed[job]
            self._slow.add(job)
        self._let_lead()

    # in the threads

    def _work(self) -> None:
        while (job := self._lead()) is not None:
            try:
                report = job.execute()
                if self._may_deliver(job):
                    self._deliver(report)
            except BaseException as error:
                self._end(error, deaf=True)
            with self._changed:
                self._placed.pop(job, None)
                self._slow.discard(job)
                self._ending.discard(job)
                if self._may_lead():
                    self._leading = True
                    continue
                if self._over and not (self._ending if self._stopped else self._busy()):
                    self._changed.notify()
                return

    def _lead(self) -> Job | None:
        """Take the next job and let another thread lead; None if there is none left."""
        try:
            job = next(self._jobs, None)
        except BaseException as error:
            job = None
            self._end(error)
        with self._changed:
            self._leading = False
            if job is None or self._over:
                self._over = True
                if not self._busy():
                    self._changed.notify()
                return None
            self._placed[job] = time.monotonic()
            self._let_lead()
            return job

    def _may_deliver(self, job: Job) -> bool:
        with self._changed:
            if self._deaf or job in self._stopped:
                return False
            self._ending.add(job)
            return True

    def _end(self, error: BaseException, *, deaf: bool = False) -> None:
        with self._changed:
            self._over = True
            self._deaf = self._deaf or deaf
            self._error = self._error or error
            self._changed.notify()
