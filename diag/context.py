"""What a check is given: the facts it declared, the settings, the clock and the network."""

from __future__ import annotations

import re
import shlex
import threading
import time
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

from diag.facts import Credential, Fact, Route, Target
from diag.net.patience import EXPLAIN, LEAST
from diag.target import WEBSITE, parse
from diag.timings import Timing

if TYPE_CHECKING:
    from diag.check import Check
    from diag.later import Later
    from diag.net.dial import Dialer
    from diag.net.http import Engine, Http
    from diag.net.ssh import Banner
    from diag.net.tls import Trust
    from diag.profile import Profile
    from diag.secret import Scrubber, Secret
    from diag.settings import Settings

F = TypeVar("F", bound=Fact)
K = TypeVar("K", bound=Hashable)
T = TypeVar("T")

_RESERVE = 0.3  # seconds kept back at the end of the run, for conclusions and the report
_SOON = 0.03  # seconds after which the first connect should be under way
_TOO_SHORT = 0.3  # seconds: what does not answer in less proves nothing


class DeadlineExceededError(Exception):
    """The run's deadline is over: what is still under way is given up."""


class Run:
    """What all checks of one run share: clock, facts, scrubber and the network services."""

    def __init__(
        self,
        settings: Settings,
        scrubber: Scrubber,
        trust: Trust | None = None,
        *,
        alone: bool = True,
    ) -> None:
        """`trust` may be shared with other runs; `alone`: nothing else waits for this machine."""
        self.settings = settings
        self.scrubber = scrubber
        self.alone = alone
        self._trust = trust
        self.facts: dict[type[Fact], Fact] = {}
        self.started = time.monotonic()
        self._kept_back = min(_RESERVE / 2, settings.deadline / 8)  # for checks, and for the report
        self.timings: dict[str, list[Timing]] = {}
        self.awaited = threading.Event()  # the network: what can be done meanwhile may begin
        self.echoed = False  # whether anybody outside this machine has answered a packet
        self.lock = threading.Lock()
        self.greetings: dict[tuple[str, int], Later[Banner | None]] = {}  # of SSH servers, ahead
        self._words: dict[tuple[bool, ...], dict[str, str]] = {}

    def words(self) -> dict[str, str]:
        """The words of messages, as far as the facts tell: see `words`."""
        key = tuple(fact in self.facts for fact in (Target, Credential, Route))
        if key not in self._words:
            self._words[key] = words(self.settings, self.facts)
        return self._words[key]

    def remaining(self) -> float:
        """Seconds left for the network, never negative."""
        return max(0.0, self.cutoff() - self._kept_back)

    def cutoff(self) -> float:
        """Seconds until checks that are still running are given up, never negative."""
        end = self.started + self.settings.deadline - self._kept_back
        return max(0.0, end - time.monotonic())

    def elapsed_ms(self) -> int:
        return round((time.monotonic() - self.started) * 1000)

    @cached_property
    def trust(self) -> Trust:
        from diag.net.tls import Trust

        return self._trust or Trust(self.settings.ca_file)

    @cached_property
    def dialer(self) -> Dialer:
        from diag.net.dial import Dialer

        return Dialer(self.settings.connect_to)

    @cached_property
    def http(self) -> Engine:
        from diag.net.http import Engine

        return Engine(self)

    def preload(self) -> None:
        """Import what every run needs in the end, as soon as the network is awaited."""
        self.awaited.wait(_SOON)
        import diag.net.http
        import diag.net.tls  # noqa: F401 - for their effect

    def close(self) -> None:
        """Close every connection that is still open."""
        for name in ("http", "dialer"):
            if name in self.__dict__:
                getattr(self, name).close()


class Context:
    """One check's view of the run: it sees the facts that it declared, and no other."""

    def __init__(self, run: Run, check: Check) -> None:
        self.run = run
        self._check = check
        self._visible = {*check.requires, *check.after, *check.provides, *check.foresees}
        self._explained_by = 0.0  # when what explains a failure must be over, by time.monotonic()

    # what is known

    def __getitem__(self, kind: type[F]) -> F:
        """A required fact."""
        fact = self.get(kind)
        if fact is None:
            raise LookupError(f"{kind.__name__} is not known")
        return fact

    def get(self, kind: type[F]) -> F | None:
        """A fact of `after`, None if nobody could establish it."""
        if kind not in self._visible:
            raise LookupError(f"check {self._check.id} does not declare {kind.__name__}")
        fact = self.run.facts.get(kind)
        return fact if isinstance(fact, kind) else None

    @property
    def target(self) -> Target:
        return self[Target]

    @property
    def credential(self) -> Credential:
        return self[Credential]

    @property
    def settings(self) -> Settings:
        return self.run.settings

    @property
    def profile(self) -> Profile:
        return self.run.settings.profile

    # time

    @property
    def timeout(self) -> float:
        """Seconds that the next network operation may take.

        Raises:
            DeadlineExceededError: no time is left.
        """
        left = self.run.remaining()
        if left < min(self.settings.timeout, _TOO_SHORT):
            raise DeadlineExceededError
        return min(self.settings.timeout, left)

    @property
    def explaining(self) -> float:
        """Seconds that the next probe may take which only explains a failure. From its first use
        on, what explains the failures of this check may take `EXPLAIN` seconds altogether. Never
        raises: with no time left a probe learns nothing."""
        now = time.monotonic()
        self._explained_by = self._explained_by or now + EXPLAIN
        left = max(LEAST, self._explained_by - now)
        return max(0.05, min(left, self.settings.timeout, self.remaining))

    @property
    def remaining(self) -> float:
        """Seconds until the run must end."""
        return self.run.remaining()

    @contextmanager
    def timed(self, what: str, detail: str) -> Iterator[None]:
        """Record how long the body takes; `what` is dns, connect, tls or request."""
        start = self.run.elapsed_ms()
        try:
            yield
        finally:
            self.record(what, detail, start, self.run.elapsed_ms() - start)

    def record(
        self,
        what: str,
        detail: str,
        started_ms: int,
        duration_ms: int,
        wait_ms: int | None = None,
        read_ms: int | None = None,
    ) -> None:
        """Record a stretch of time that was measured elsewhere; see `Timing`."""
        timing = Timing(what, self.quote(detail), started_ms, duration_ms, wait_ms, read_ms)
        with self.run.lock:
            self.run.timings.setdefault(self._check.id, []).append(timing)

    # the network

    @property
    def trust(self) -> Trust:
        """The certificate stores to verify against."""
        return self.run.trust

    @property
    def dialer(self) -> Dialer:
        """Opens connections the way this run goes (connect-to, proxy), and keeps the observed
        ones for the next layer."""
        return self.run.dialer

    @property
    def http(self) -> Http:
        """The only way to send HTTP requests."""
        from diag.net.http import Http

        return Http(self.run.http, self.record)

    def count_request(self) -> None:
        """Count a request that was not sent with `http`: through a proxy that is being tried."""
        self.run.http.count()

    def parallel(
        self,
        tasks: Mapping[K, Callable[[], T]],
        wait: float | None = None,
        enough: Callable[[Mapping[K, T]], bool] | None = None,
    ) -> dict[K, T]:
        """Run blocking probes side by side; the results that came within `wait` seconds (default:
        until the deadline), or before `enough` said so of them, in the order of `tasks`.

        A probe that raises makes this raise, one that is late is given up and missing.
        """
        return gather(tasks, self.remaining if wait is None else min(wait, self.remaining), enough)

    # words

    def learn(self, secret: Secret, user: str | None = None) -> None:
        """Keep one more secret out of all output: the password in a proxy's URL."""
        self.run.scrubber.learn(secret, [user])

    def quote(self, text: str, limit: int = 200) -> str:
        """Text from outside, fit to be shown: no secret, no control characters, not too long."""
        return self.run.scrubber.text(" ".join(text.split()), limit)


def gather(
    tasks: Mapping[K, Callable[[], T]],
    wait: float,
    enough: Callable[[Mapping[K, T]], bool] | None = None,
) -> dict[K, T]:
    """Run `tasks` in daemon threads (a blocked getaddrinfo cannot be cancelled, only left behind)
    and return what was ready within `wait` seconds, or was `enough`."""
    results: dict[K, Any] = {}
    errors: list[BaseException] = []
    condition = threading.Condition()
    finished = 0

    def work(key: K, task: Callable[[], T]) -> None:
        nonlocal finished
        try:
            value = task()
        except BaseException as error:
            with condition:
                errors.append(error)
                finished += 1
                condition.notify()
            return
        with condition:
            results[key] = value
            finished += 1
            condition.notify()

    for key, task in tasks.items():
        threading.Thread(target=work, args=(key, task), daemon=True).start()
    with condition:
        condition.wait_for(
            lambda: errors or finished == len(tasks) or (enough is not None and enough(results)),
            timeout=wait,
        )
        if errors:
            raise errors[0]
        return {key: results[key] for key in tasks if key in results}


def words(settings: Settings, facts: Mapping[type[Fact], Fact]) -> dict[str, str]:
    """The words that messages and reproduce lines may use besides their evidence.

    `{curl}` is a curl call with the way of this run, `{curl_auth}` the same with the secret taken
    from the environment variable, never written out.
    """
    target = facts.get(Target)
    credential = facts.get(Credential)
    curl = ["curl", "-sS"]
    curl.extend(
        f"--connect-to {rule.host}:{rule.port}:{rule.address}:{rule.to_port}"
        for rule in settings.connect_to
        if not isinstance(target, Target) or (rule.host, rule.port) in _named(target)
    )
    if settings.proxy == "none":
        curl.append("--noproxy '*'")
    elif settings.proxy != "env":
        shown = re.sub("//[^@/]*@", "//", settings.proxy)
        curl.append(f"--noproxy '' --proxy {shlex.quote(shown)}")  # no bypass: it was asked for
    if settings.ca_file:
        curl.append(f"--cacert {shlex.quote(settings.ca_file)}")
    plain = " ".join(curl)
    auth = plain
    if isinstance(credential, Credential) and credential.secret is not None:
        user = shlex.quote(credential.user or "")
        auth += {
            "bearer": ' -H "Authorization: Bearer $BITBUCKET_TOKEN"',
            "basic": f' -u {user}:"$BITBUCKET_TOKEN"',
            "grant": ' -H "Authorization: Bearer $ACCESS_TOKEN"',  # see check cloud-auth
        }[credential.scheme]
    result = {
        "curl": plain,
        "curl_auth": auth,
        "profile": settings.profile.title,
        "timeout": f"{min(settings.timeout, settings.deadline):g}",
        "url": parse(settings.url).text_shown,
    }
    if isinstance(target, Target):
        result |= {
            "url": target.base_url,
            "scheme": target.scheme,
            "host": target.host,
            "port": str(target.port),
            "origin": target.origin,
            "netloc": target.netloc,
            "connect": shlex.quote(_connect(settings.connect_to, target))
            + _by_proxy(facts.get(Route)),
            "project": target.project or "PROJECT",
            "repository": target.repository or "REPOSITORY",
        }
    return result


def _named(target: Target) -> set[tuple[str, int]]:
    """Where the requests of a run go: on Bitbucket Cloud to the website, too."""
    also = {(WEBSITE, 443)} if target.kind == "cloud" else set()
    return {(target.host, target.port), *also}


def _connect(rules: Sequence[Any], target: Target) -> str:
    """`host:port` for openssl s_client, after connect-to."""
    for rule in rules:
        if (rule.host, rule.port) == (target.host, target.port):
            return f"{rule.address}:{rule.to_port}"
    host = f"[{target.host}]" if ":" in target.host else target.host
    return f"{host}:{target.port}"


def _by_proxy(route: Fact | None) -> str:
    """The option of openssl s_client that leads through an ordinary proxy, if one applies."""
    if not isinstance(route, Route) or not (route.proxy or "").startswith("http://"):
        return ""
    return f" -proxy {shlex.quote(str(route.proxy).removeprefix('http://').rstrip('/'))}"
