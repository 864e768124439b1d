"""Check `version`: old, unsupported, unreadable, and by the day of its end of life."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest

from diag.bitbucket import lifecycle
from diag.facts import Credential, Instance, Reply, Version
from diag.model import Status
from diag.profile import Profile
from diag.report import Report
from diag.secret import Secret
from tests.given import result, run_check

from .conftest import Meet

BASE = "https://bb.example.com"
APPCIRCLE = Profile("appcircle", "Appcircle", minimum_version=(7, 14, 0))


def ask(
    version: str | None,
    credential: Credential | None = None,
    said: str = "HTTP 404 Not Found",
    **options: Any,
) -> tuple[Report, list[Version]]:
    """Run the check alone, for what application-properties said."""
    content = None if version is None else {"version": version, "displayName": "Acme Git"}
    instance = Instance(BASE, ("X-AREQUESTID",), properties=Reply(content=content, said=said))
    facts = [instance, credential or Credential(None)]
    report, seen = run_check("version", facts, url=BASE, **options)
    return report, [fact for fact in seen if isinstance(fact, Version)]


def codes(report: Report) -> list[str]:
    return [finding.code for finding in result(report, "version").findings]


@pytest.fixture
def line_ending(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Make a line's support end so many days from today."""

    def end(days: int) -> str:
        table = {**lifecycle.LINES, (99, 1): datetime.now(UTC).date() + timedelta(days=days)}
        monkeypatch.setattr(lifecycle, "LINES", table)
        return "99.1.0"

    return end


# as needed


@pytest.mark.parametrize(
    ("version", "old"),
    [("7.13.9", True), ("7.14.0", False), ("7.14.0-rc2", False), ("10.2.7", False), ("7.9", True)],
)
def test_the_minimum_of_the_profile(version: str, old: bool) -> None:
    report, (fact,) = ask(version, profile=APPCIRCLE)
    assert ("version-unsupported" in codes(report)) is old
    assert fact.text == version
    assert fact.display_name == "Acme Git"
    if old:
        (problem,) = report.problems
        assert problem.status is Status.FAIL
        assert "Acme Git" in problem.message
        assert "7.14 or newer" in problem.message


def test_without_a_profile_nothing_is_too_old_for_it() -> None:
    report, _ = ask("6.0.0")
    assert codes(report) == ["version-end-of-life"]


@pytest.mark.parametrize(("version", "lacking"), [("5.4.9", True), ("5.5.0", False)])
def test_versions_without_tokens(version: str, lacking: bool) -> None:
    report, _ = ask(version, Credential(Secret("token")), profile=APPCIRCLE)
    assert report.root_cause == ("version-no-tokens" if lacking else "version-unsupported")
    assert len(report.problems) == 1
    if lacking:
        assert "Appcircle needs 7.14" in report.problems[0].message


def test_a_password_needs_no_tokens() -> None:
    credential = Credential(Secret("pw"), "basic", "jdoe")
    assert ask("5.4.0", credential)[0].root_cause == "version-end-of-life"
    assert ask("5.4.0", credential, profile=APPCIRCLE)[0].root_cause == "version-unsupported"


def test_a_refused_token_is_a_consequence_where_there_are_none(meet: Meet) -> None:
    met = meet("version-no-tokens")
    assert met.problems == ["version-no-tokens"]


@pytest.mark.parametrize("version", [None, "unknown", "", "9"])
def test_a_version_that_cannot_be_read(version: str | None) -> None:
    report, facts = ask(version, profile=APPCIRCLE)
    (problem,) = report.problems
    assert (problem.code, problem.status) == ("version-unknown", Status.UNKNOWN)
    assert "7.14" in problem.remedy
    assert ("404" in problem.message) is (version is None)
    assert facts == []


# support


@pytest.mark.parametrize(
    ("days", "expected"),
    [
        (-1, ["version-end-of-life"]),
        (0, ["version-ok", "version-ends-soon"]),
        (60, ["version-ok", "version-ends-soon"]),
        (61, ["version-ok"]),
    ],
)
def test_the_days_around_the_end(line_ending: Any, days: int, expected: list[str]) -> None:
    report, _ = ask(line_ending(days))
    assert codes(report) == expected
    assert [p.status for p in report.problems] == ([Status.WARN] if days < 0 else [])


def test_a_line_that_the_table_does_not_know_yet_is_fine() -> None:
    report, _ = ask("98.0.0")
    assert codes(report) == ["version-ok"]
    assert "supported until" not in result(report, "version").findings[0].message


def test_bitbucket_server_is_mentioned_where_it_may_be_one() -> None:
    assert "Bitbucket Server" in ask("8.9.10")[0].problems[0].remedy
    assert "Bitbucket Server" not in ask("8.16.0")[0].problems[0].remedy


def test_the_table_says_how_old_it_is() -> None:
    evidence = ask("8.9.10")[0].problems[0].evidence
    assert evidence["table_as_of"] == str(lifecycle.AS_OF)
    assert evidence["until"] == "2025-04-12"
    assert evidence["source"] == lifecycle.SOURCE


# the table itself


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("10.2.7", (10, 2, 7)),
        ("7.16.0-OAUTH2-2", (7, 16, 0)),
        ("7.15.0-dev2", (7, 15, 0)),
        ("9.4", (9, 4, 0)),
        (" 8.19.12\n", (8, 19, 12)),
        ("v3.11.6", (3, 11, 6)),
        ("9.4.1.2", (9, 4, 1)),
        ("", None),
        ("9", None),
        ("nine.four", None),
        ("999999.1.1", None),
    ],
)
def test_how_versions_are_written(text: str, numbers: tuple[int, int, int] | None) -> None:
    assert lifecycle.parse(text) == numbers


def test_ten_is_newer_than_nine() -> None:
    ten, nine = lifecycle.parse("10.0.0"), lifecycle.parse("9.6.5")
    assert ten is not None
    assert nine is not None
    assert ten > nine


@pytest.mark.parametrize(
    ("numbers", "until", "exact"),
    [
        ((9, 4, 24), date(2026, 12, 3), True),
        ((8, 19, 0), date(2026, 3, 12), True),
        ((8, 3, 0), date(2025, 1, 10), False),
        ((7, 17, 0), date(2024, 2, 28), False),
        ((4, 6, 0), date(2024, 2, 28), False),
        ((9, 9, 0), date(2027, 9, 8), False),
    ],
)
def test_until_when_a_version_is_supported(
    numbers: tuple[int, int, int], until: date, exact: bool
) -> None:
    support = lifecycle.support(numbers)
    assert support is not None
    assert (support.until, support.exact) == (until, exact)


def test_the_table_is_in_order() -> None:
    lines = list(lifecycle.LINES.items())
    assert lines == sorted(lines, reverse=True)
    assert all(older < newer for (_, newer), (_, older) in pairwise(lines))
    assert set(lifecycle.LINES) >= lifecycle.LONG_TERM
    assert lifecycle.support((10, 99, 0)) is None


def test_what_is_recommended() -> None:
    today = date(2026, 11, 23)
    assert lifecycle.recommended((9, 4, 1), today) == "10.2 (long-term support)"
    assert lifecycle.recommended((10, 2, 7), today) == "10.4"
    assert lifecycle.recommended((10, 4, 0), today) == "the newest version"
    assert lifecycle.recommended((9, 4, 1), date(2040, 1, 1)) == "the newest version"
