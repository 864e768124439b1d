"""The runner: facts decide what runs, causes are told from consequences, the deadline holds."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest

from diag import plan, runner
from diag.api import Check, Context, Fact, Finding, Status, fail, ok, skip, unknown, warn
from diag.profile import Profile
from diag.report import Report
from diag.secret import Secret
from diag.settings import GivenSecret, Settings


@dataclass(frozen=True)
class Water(Fact):
    litres: int


@dataclass(frozen=True)
class Tea(Fact):
    warm: bool


class Well(Check):
    """Is there water?"""

    id = "well"
    title = "there is water"
    order = 1
    provides = (Water,)
    DRY = fail("well-dry", "no water in {place}", remedy="Dig in {place}.", owner="you")

    def run(self, ctx: Context) -> Iterator[Finding | Fact]:
        yield Water(3)


class Kettle(Check):
    """Is there tea?"""

    id = "kettle"
    title = "there is tea"
    order = 2
    requires = (Water,)
    provides = (Tea,)
    FINE = ok("kettle-ok", "{litres} litres of tea")
    COLD = warn("kettle-cold", "the tea is cold", remedy="Heat it.", owner="you")

    def run(self, ctx: Context) -> Iterator[Finding | Fact]:
        yield Tea(warm=False)
        yield self.FINE(litres=ctx[Water].litres)
        yield self.COLD()


class Cup(Check):
    """Can somebody drink?"""

    id = "cup"
    title = "somebody can drink"
    order = 3
    requires = (Tea,)
    FINE = ok("cup-ok", "drunk")

    def run(self, ctx: Context) -> Iterator[Finding | Fact]:
        yield self.FINE()


def execute(*checks: type[Check], **options: Any) -> Report:
    settings = Settings(url="https://example.com", profile=Profile(), **options)
    return runner.execute(settings, checks)


def by_id(report: Report) -> dict[str, Any]:
    return {check.id: check for check in report.checks}


def test_facts_flow_and_the_worst_finding_decides() -> None:
    report = execute(Well, Kettle, Cup)
    results = by_id(report)
    assert [check.id for check in report.checks] == ["well", "kettle", "cup"]
    assert results["well"].status is Status.OK
    assert results["kettle"].status is Status.WARN
    assert results["kettle"].findings[0].message == "3 litres of tea"
    assert results["cup"].status is Status.OK
    assert report.verdict is Status.WARN
    assert report.root_cause == "kettle-cold"
    assert report.exit_status() == 0
    assert report.exit_status(strict=True) == 1


def test_a_missing_fact_skips_all_that_stands_on_it_because_of_the_first_cause() -> None:
    class Dry(Well):
        id = "well"
        title = "there is water"

        def run(self, ctx: Context) -> Iterator[Finding | Fact]:
            yield self.DRY(place="the garden")

    report = execute(Dry, Kettle, Cup)
    results = by_id(report)
    assert [problem.code for problem in report.problems] == ["well-dry"]
    assert report.problems[0].message == "no water in the garden"
    assert report.problems[0].remedy == "Dig in the garden."
    for check_id in ("kettle", "cup"):
        assert results[check_id].status is Status.SKIP
        assert results[check_id].skipped_because.to_json() == {"check": "well", "code": "well-dry"}
        assert results[check_id].started_ms is None
    assert report.exit_status() == 1


def test_a_consequence_leaves_the_problems_and_its_check_is_skipped_because_of_the_cause() -> None:
    class Drought(Check):
        """Is it raining?"""

        id = "rain"
        title = "it rains"
        order = 9
        NONE = fail(
            "rain-none", "drought", remedy="Wait.", owner="atlassian", explains=("well-dry",)
        )

        def run(self, ctx: Context) -> Iterator[Finding | Fact]:
            yield self.NONE()

    class Dry(Well):
        id = "well"
        title = "there is water"

        def run(self, ctx: Context) -> Iterator[Finding | Fact]:
            yield self.DRY(place="here")

    report = execute(Dry, Kettle, Drought)
    results = by_id(report)
    assert [problem.code for problem in report.problems] == ["rain-none"]
    because = {"check": "rain", "code": "rain-none"}
    assert results["well"].status is Status.SKIP
    assert results["well"].skipped_because.to_json() == because
    assert results["well"].findings[0].status is Status.SKIP
    assert results["kettle"].skipped_because.to_json() == because


def test_problems_are_ordered_fail_unknown_warn() -> None:
    class Many(Check):
        """Finds everything."""

        id = "many"
        title = "all is well"
        W = warn("many-warn", "w", remedy="r", owner="you")
        U = unknown("many-unknown", "u", remedy="r")
        F = fail("many-fail", "f", remedy="r", owner="you")

        def run(self, ctx: Context) -> Iterator[Finding | Fact]:
            yield self.W()
            yield self.U()
            yield self.F()

    report = execute(Many)
    assert [problem.code for problem in report.problems] == [
        "many-fail",
        "many-unknown",
        "many-warn",
    ]


def test_unknown_alone_gives_exit_status_4() -> None:
    class Puzzled(Check):
        """Cannot tell."""

        id = "puzzled"
        title = "it can be told"
        U = unknown("puzzled-unclear", "cannot tell", remedy="Ask.")

        def run(self, ctx: Context) -> Iterator[Finding | Fact]:
            yield self.U()

    report = execute(Puzzled)
    assert (report.verdict, report.exit_status()) == (Status.UNKNOWN, 4)


def test_a_crash_is_the_checks_own_error_and_the_rest_is_reported() -> None:
    class Broken(Check):
        """Crashes."""

        id = "broken"
        title = "it does not crash"
        order = 0

        def run(self, ctx: Context) -> Iterator[Finding | Fact]:
            raise RuntimeError("the secret is hunter2hunter2")

    given = GivenSecret(Secret("hunter2hunter2"), "test", announced=True)
    report = execute(Broken, Well, Kettle, given=given)
    results = by_id(report)
    assert results["broken"].status is Status.ERROR
    assert "hunter2" not in results["broken"].findings[0].message
    assert "RuntimeError" in results["broken"].findings[0].message
    assert results["kettle"].status is Status.WARN
    assert (report.verdict, report.exit_status()) == (Status.ERROR, 3)


def test_an_undeclared_fact_is_an_error_of_the_check() -> None:
    class Liar(Check):
        """Yields what it did not declare."""

        id = "liar"
        title = "it declares"

        def run(self, ctx: Context) -> Iterator[Finding | Fact]:
            yield Water(1)

    class Peeker(Check):
        """Reads what it did not declare."""

        id = "peeker"
        title = "it declares"

        def run(self, ctx: Context) -> Iterator[Finding | Fact]:
            ctx.get(Water)
            yield Water(1)

    for check in (Liar, Peeker):
        report = execute(check)
        assert report.exit_status() == 3
        assert "Water" in report.checks[0].findings[0].message


def test_a_fact_frees_its_users_before_its_giver_has_ended() -> None:
    seen = threading.Event()

    class Early(Well):
        id = "well"
        title = "there is water"

        def run(self, ctx: Context) -> Iterator[Finding | Fact]:
            yield Water(1)
            assert seen.wait(5)

    class User(Check):
        """Uses the water."""

        id = "user"
        title = "water is used"
        requires = (Water,)

        def run(self, ctx: Context) -> Iterator[Finding | Fact]:
            seen.set()
            yield ok("user-ok", "used")()

    report = execute(Early, User)
    assert report.verdict is Status.OK


def test_after_waits_but_does_not_require() -> None:
    class Dry(Well):
        id = "well"
        title = "there is water"

        def run(self, ctx: Context) -> Iterator[Finding | Fact]:
            time.sleep(0.1)
            yield self.DRY(place="x")

    class Thirsty(Check):
        """Goes on without water."""

        id = "thirsty"
        title = "it goes on"
        after = (Water,)

        def run(self, ctx: Context) -> Iterator[Finding | Fact]:
            yield ok("thirsty-ok", "water: {water}")(water=ctx.get(Water) is not None)

    report = execute(Dry, Thirsty)
    assert by_id(report)["thirsty"].findings[0].message == "water: False"


def test_the_deadline_ends_a_check_that_hangs() -> None:
    class Hangs(Well):
        id = "well"
        title = "there is water"

        def run(self, ctx: Context) -> Iterator[Finding | Fact]:
            time.sleep(30)
            yield Water(1)

    begin = time.monotonic()
    report = execute(Hangs, Kettle, deadline=1.0)
    assert time.monotonic() - begin < 15.0  # half of what the check takes
    results = by_id(report)
    assert results["well"].status is Status.UNKNOWN
    assert report.root_cause == "check-unfinished"
    assert results["kettle"].skipped_because.code == "check-unfinished"
    assert report.exit_status() == 4


def test_ctrl_c_reports_what_was_found_so_far() -> None:
    class Biscuit(Fact):
        """Never there."""

    class WithoutBiscuits(Kettle):
        provides = (Tea, Biscuit)  # type: ignore[assignment]

    class Hangs(Check):
        """Is there when Ctrl-C is pressed, after the kettle has ended."""

        id = "hangs"
        title = "it ends"
        order = 9
        after = (Biscuit,)

        def run(self, ctx: Context) -> Iterator[Finding | Fact]:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(30)
            yield ok("hangs-ok", "never")()

    # Whoever runs the tests in the background may have them ignore it.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        report = execute(Well, WithoutBiscuits, Hangs)
    finally:
        signal.signal(signal.SIGINT, before)
    assert report.run.interrupted
    assert report.exit_status() == 130
    assert by_id(report)["kettle"].status is Status.WARN
    assert by_id(report)["hangs"].findings[0].code == "check-interrupted"


def test_only_adds_what_is_needed_and_skip_says_so() -> None:
    only = execute(Well, Kettle, Cup, only=("kettle",))
    assert [check.id for check in only.checks] == ["well", "kettle"]
    skipped = by_id(execute(Well, Kettle, Cup, skip=("well",)))
    assert skipped["well"].status is Status.SKIP
    assert skipped["well"].findings[0].code == "check-left-out"
    assert skipped["cup"].skipped_because.to_json() == {"check": "well", "code": "check-left-out"}
    with pytest.raises(ValueError, match="did you mean 'kettle'"):
        execute(Well, Kettle, only=("kettel",))


def test_checks_that_wait_for_one_another_are_refused() -> None:
    class Egg(Check):
        """First."""

        id = "egg"
        title = "egg"
        requires = (Tea,)
        provides = (Water,)

    with pytest.raises(ValueError, match="wait for one another"):
        plan.make([Egg, Kettle])


def test_a_check_that_does_not_apply_is_skipped_with_its_reason() -> None:
    class Idle(Check):
        """Never applies."""

        id = "idle"
        title = "it applies"
        NO = skip("idle-not-needed", "not today")

        def run(self, ctx: Context) -> Iterator[Finding | Fact]:
            yield self.NO()

    report = execute(Idle)
    assert report.checks[0].status is Status.SKIP
    assert report.checks[0].skipped_because is None
    assert report.checks[0].findings[0].message == "not today"
    assert report.exit_status() == 0


def test_no_text_of_a_finding_holds_the_secret_or_control_characters() -> None:
    secret = "s3cr3t-token-value"

    class Echo(Check):
        """Repeats what the network said."""

        id = "echo"
        title = "it is quiet"
        BAD = fail(
            "echo-bad", "it said {text}", remedy="{text}", owner="you", reproduce="say {text}"
        )

        def run(self, ctx: Context) -> Iterator[Finding | Fact]:
            yield self.BAD(text=f"\x1b[31m{secret}\x07", deep={"list": [secret, {"key": secret}]})

    given = GivenSecret(Secret(secret), "test", announced=True)
    text = str(execute(Echo, given=given).to_json())
    assert secret not in text
    assert "\x1b" not in text
    assert "\x07" not in text


def test_a_check_for_another_product_is_no_part_of_the_report() -> None:
    class Clouds(Well):
        """Only there for Cloud."""

        id = "clouds"
        title = "there are clouds"
        kinds = frozenset({"cloud"})

    report = execute(Well, Clouds, Kettle)
    assert [check.id for check in report.checks] == ["well", "kettle"]
    assert by_id(report)["kettle"].status is Status.WARN


def test_a_cause_weighs_as_much_as_its_worst_consequence_and_circles_lose_nothing() -> None:
    class Two(Check):
        """Finds a cause that is only a warning by itself, and two that blame each other."""

        id = "two"
        title = "nothing is found"
        CAUSE = warn("two-cause", "c", remedy="r", owner="you", explains=("two-effect",))
        EFFECT = fail("two-effect", "e", remedy="r", owner="you")
        LEFT = fail("two-left", "l", remedy="r", owner="you", explains=("two-right",))
        RIGHT = fail("two-right", "r", remedy="r", owner="you", explains=("two-left",))

        def run(self, ctx: Context) -> Iterator[Finding | Fact]:
            for verdict in (self.EFFECT, self.CAUSE, self.LEFT, self.RIGHT):
                yield verdict()

    report = execute(Two)
    found = [(problem.code, problem.status) for problem in report.problems]
    assert found == [("two-cause", Status.FAIL), ("two-left", Status.FAIL)]
    assert report.exit_status() == 1


def _slowly() -> Iterator[int]:
    time.sleep(5)
    yield 1


class Curious(Check):
    """How long may it be looked into why?"""

    id = "curious"
    title = "it is known why"
    order = 1
    SEEN = ok("curious-seen", "{first} {later} {last} {got}")

    def run(self, ctx: Context) -> Iterator[Finding | Fact]:
        first = ctx.explaining
        time.sleep(0.2)
        later = ctx.explaining
        time.sleep(0.6)
        tasks: dict[str, Callable[[], int]] = {"at once": int, "late": partial(sum, _slowly())}
        got = ctx.parallel(tasks, enough=lambda results: "at once" in results)
        yield self.SEEN(first=first, later=later, last=ctx.explaining, got=list(got))


def test_what_explains_a_failure_has_a_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("diag.context.EXPLAIN", 0.5)
    [check] = execute(Curious, timeout=3.0).checks
    told = check.findings[0].evidence
    assert told["first"] == 0.5
    assert told["later"] == pytest.approx(0.3, abs=0.1)
    assert told["last"] == 0.3  # whoever comes late gets so much all the same
    assert told["got"] == ["at once"]
    [check] = execute(Curious, timeout=0.2).checks
    assert check.findings[0].evidence["first"] == 0.2  # a network operation never gets more


def test_what_can_be_done_meanwhile_begins_once_the_network_is_awaited(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("diag.context._SOON", 60)
    done = threading.Event()
    seen: list[bool] = []

    class Ask(Check):
        """Is there an answer?"""

        id = "ask"
        title = "there is an answer"
        order = 1
        FINE = ok("ask-ok", "asked")

        def run(self, ctx: Context) -> Iterator[Finding | Fact]:
            seen.append(done.is_set())
            ctx.run.awaited.set()
            seen.append(done.wait(20))
            yield self.FINE()

    settings = Settings(url="https://example.com", profile=Profile())
    made = plan.make([Ask])
    report = runner.Runner(settings, made, meanwhile=done.set).execute()
    assert seen == [False, True]
    assert report.verdict is Status.OK
