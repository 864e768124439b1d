"""Where the time goes: what the report says about it, and how it is drawn."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from diag import cli, registry
from diag.model import Status
from diag.record import replace
from diag.report import CheckResult, Report, RunInfo, Style, TargetInfo
from diag.schema import schema
from diag.timings import Share, Timing
from diag.waterfall import MOST, waterfall

URL = "https://bitbucket.example.com"


def made(*timings: Timing | tuple[str, Timing], duration: int = 1000) -> Report:
    """A report of these timings, of check `http` unless said otherwise."""
    by_check: dict[str, list[Timing]] = {}
    for one in timings:
        check, timing = one if isinstance(one, tuple) else ("http", one)
        by_check.setdefault(check, []).append(timing)
    checks = (
        CheckResult(check, check, Status.OK, 0, 1, timings=tuple(found))
        for check, found in by_check.items()
    )
    run = RunInfo("0" * 32, "2026-11-28T15:32:00.123Z", duration, None, "ci-7", 1)
    target = TargetInfo(URL, "datacenter", URL, "bitbucket.example.com", 443)
    return Report("1.0.0", run, target, "appcircle", "setup", (), tuple(checks))


def request(start: int, wait: int, read: int = 0, path: str = "/status") -> Timing:
    return Timing("request", f"GET {URL}{path}", start, wait + read, wait, read)


def drawn(report: Report, width: int = 80, *, color: bool = False) -> list[str]:
    return waterfall(report, Style(width=width, color=color, timings=True))


def steps(lines: list[str]) -> list[str]:
    """The lines that are steps: between the rule and the blank line before the legend."""
    return lines[2 : lines.index("")]


def columns(text: str) -> int:
    """How wide a terminal shows it, at most."""
    return sum(
        2 if unicodedata.east_asian_width(one) in {"W", "F"} else 1
        for one in text
        if unicodedata.category(one) not in {"Mn", "Me"}
    )


# what it comes to


def test_side_by_side_counts_once_and_one_after_the_other_twice() -> None:
    report = made(request(100, 200), request(150, 200), request(600, 100, 50))
    wait = report.spent.shares["wait"]
    assert wait == Share(steps=3, busy_ms=350, spent_ms=500)
    assert report.spent.shares["read"] == Share(steps=3, busy_ms=50, spent_ms=50)
    assert report.spent.idle_ms == 1000 - 250 - 150
    assert "350 ms, read 50 ms; bbdiag itself 600 ms." in drawn(report)[-2]
    assert drawn(report)[-1].endswith("all would take 550 ms.")


def test_kinds_that_overlap_leave_nothing_twice_to_bbdiag() -> None:
    dns = Timing("dns", "bitbucket.example.com A, by 10.0.0.53", 0, 400)
    report = made(("dns", dns), ("tcp", Timing("connect", "10.0.0.7 443", 300, 200)))
    assert {part: share.busy_ms for part, share in report.spent.shares.items()} == {
        "dns": 400,
        "connect": 200,
    }
    assert report.spent.idle_ms == 500


def test_what_a_later_end_than_that_of_the_run_means_for_the_rest() -> None:
    report = made(Timing("tls", "bitbucket.example.com", -50, 1200))
    assert report.spent.idle_ms == 0


def test_the_steps_are_in_the_order_of_time_and_then_of_the_way() -> None:
    tcp = ("tcp", Timing("connect", "10.0.0.7 443", 5, 3))
    tls = ("tls", Timing("tls", "bitbucket.example.com", 5, 3))
    dns = ("dns", Timing("dns", "bitbucket.example.com, by the system", 0, 5))
    assert [step.check for step in made(tcp, tls, dns).steps] == ["dns", "tcp", "tls"]


# the document


def test_the_parts_stand_in_the_document_and_are_read_back() -> None:
    report = made(request(0, 200, 30), Timing("connect", "10.0.0.7 443", 0, 2))
    document: Any = report.to_json()
    jsonschema.validate(document, schema())
    first, second = document["checks"][0]["timings"]
    assert (first["wait_ms"], first["read_ms"], first["duration_ms"]) == (200, 30, 230)
    assert not {"wait_ms", "read_ms"} & set(second)
    assert document["run"]["spent_ms"] == {"connect": 2, "wait": 200, "read": 30, "idle": 770}
    assert Report.from_json(json.loads(json.dumps(document))) == report


def test_a_report_that_was_saved_without_them_is_shown() -> None:
    document: Any = made(request(0, 200, 30)).to_json()
    del document["run"]["spent_ms"]
    for name in ("wait_ms", "read_ms"):
        del document["checks"][0]["timings"][0][name]
    report = Report.from_json(document)
    (line,) = steps(drawn(report))
    assert "==" in line
    assert "request 230 ms" in drawn(report)[-1]


def test_a_part_that_is_no_number_is_told() -> None:
    document: Any = made(request(0, 200, 30)).to_json()
    document["checks"][0]["timings"][0]["wait_ms"] = "long"
    with pytest.raises(ValueError, match=r"timings\[0\]\.wait_ms"):
        Report.from_json(document)


def test_where_nothing_was_sent_nothing_is_told() -> None:
    report = made()
    assert drawn(report) == []
    assert "spent_ms" not in str(report.to_json())


def test_what_was_cut_off_is_not_called_bbdiags_work() -> None:
    report = made(request(0, 100))
    cut = replace(report, run=replace(report.run, interrupted=True))
    assert "bbdiag itself 900 ms." in drawn(report)[-1]
    assert "bbdiag itself, and what was cut off, 900 ms." in " ".join(drawn(cut)[-2:])


# how it is drawn


def test_the_parts_of_a_request_look_different() -> None:
    (line,) = steps(drawn(made(request(0, 500, 500)), 100))
    bar = re.findall(r"-+#+", line)[0]
    assert abs(bar.count("-") - bar.count("#")) <= 1
    assert len(bar) > 30
    legend = drawn(made(request(0, 500, 500)), 100)[4]
    assert legend == "- wait for the answer   # read it"


def test_what_comes_later_stands_further_to_the_right() -> None:
    first, second = steps(drawn(made(request(0, 100), request(900, 100))))
    assert first.index("---") < second.index("---")
    assert second.rstrip().endswith("---  100 ms")


def test_a_step_that_took_no_time_is_seen() -> None:
    (line,) = steps(drawn(made(Timing("connect", "127.0.0.1 7990", 1000, 0))))
    assert line.endswith("|  0 ms")


def test_a_path_of_the_target_stands_alone_and_another_place_whole() -> None:
    other = Timing("request", "GET https://b.example.com/x", 1, 2)
    lines = steps(drawn(made(request(0, 1), other)))
    assert "GET /status " in lines[0]
    assert "GET https://b.example.com/x " in lines[1]


def test_a_long_name_loses_its_middle() -> None:
    path = "/rest/api/1.0/" + "x" * 200 + "/the-end"
    (line,) = steps(drawn(made(request(0, 900, path=path))))
    assert "GET /rest" in line
    assert "the-end " in line
    assert "…xxxxx" in line


def test_colours_change_nothing_else() -> None:
    report = made(request(0, 500, 300), Timing("tls", "x", 0, 90), Timing("connect", "y", 0, 0))
    colored = drawn(report, color=True)
    assert "\033[33m-" in "".join(colored)
    assert [re.sub(r"\033\[\d*m", "", line) for line in colored] == drawn(report)


MOMENTS = st.integers(-10, 50_000) | st.integers()
TIMINGS = st.builds(
    Timing,
    st.sampled_from(["dns", "connect", "tls", "request"]) | st.text(max_size=30),
    st.text(max_size=200) | st.sampled_from(["例え.テスト A, by 10.0.0.53", "e\u0301" * 90]),
    MOMENTS,
    MOMENTS,
    st.none() | MOMENTS,
    st.none() | MOMENTS,
)


@settings(deadline=None)  # nothing is asserted about speed
@given(
    st.lists(st.tuples(st.text(max_size=30), TIMINGS), min_size=1, max_size=60),
    st.integers(40, 120),
    st.integers(0, 40_000),
)
def test_no_line_is_wider_than_the_terminal(
    timings: list[tuple[str, Timing]], width: int, duration: int
) -> None:
    report = made(*timings, duration=duration)
    lines = drawn(report, width)
    assert [line for line in lines if columns(line) > width or not line.isprintable()] == []
    assert len(lines) < MOST + 20
    assert report.spent.idle_ms >= 0


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 900), st.integers(0, 100)), min_size=1, max_size=30))
def test_kinds_and_bbdiag_itself_come_to_the_whole_run_or_more(
    spans: list[tuple[int, int]],
) -> None:
    spent = made(*(request(start, took) for start, took in spans)).spent
    moments = {at for start, took in spans for at in range(start, start + took)}
    assert spent.shares["wait"].busy_ms == len(moments)
    assert spent.idle_ms == 1000 - len(moments)


@pytest.mark.parametrize("width", [40, 80, 120])
def test_thousands_of_requests_are_a_few_lines(width: int) -> None:
    pages = [request(10 * n, 8, 1, f"/rest/api/1.0/repos?start={100 * n}") for n in range(4000)]
    pages[1234] = replace(pages[1234], duration_ms=700, wait_ms=690, read_ms=10)
    before = ("tcp", Timing("connect", "10.0.0.7 443", 0, 1))
    report = made(before, *(("repos", page) for page in pages), duration=40_000)
    lines = steps(drawn(report, width))
    assert len(lines) == 5
    assert any("… 3,997 more" in line for line in lines)
    assert any(line.endswith(" 700 ms") for line in lines)
    assert sum(len(step.timings) for step in report.steps) == 4001


def test_many_that_are_not_alike_are_a_few_lines_as_well() -> None:
    paths = [request(n, 5, path=f"/projects/P{n}/repos") for n in range(500)]
    lines = steps(drawn(made(*paths)))
    assert len(lines) == 4
    assert "… 497 more" in "".join(lines)


def test_a_plain_run_is_not_folded() -> None:
    pages = [request(10 * n, 8, 1, f"/repos?start={n}") for n in range(MOST)]
    assert len(steps(drawn(made(*pages)))) == MOST


# a real run


def longest(report: Report, part: str) -> Any:
    return max(getattr(one, part) or 0 for step in report.steps for one in step.timings)


def test_a_server_that_thinks_is_told_from_a_body_that_crawls(
    run_demo: Callable[..., Report],
) -> None:
    thinking, crawling = run_demo("http-response-timeout"), run_demo("http-slow-body")
    assert longest(thinking, "wait_ms") >= 150
    assert "read" not in thinking.spent.to_json()
    assert longest(crawling, "read_ms") >= 150
    for report in (thinking, crawling):
        requests = [step for step in report.steps if step.what == "request"]
        # One that was begun ahead may still be under way when there is nothing more to be found.
        assert report.run.requests - 1 <= len(requests) <= report.run.requests
        http = [step.what for step in report.steps if step.check == "http"]
        assert {"connect", "tls", "request"} <= set(http)  # its second connection
        for step in requests:
            (timing,) = step.timings
            assert timing.duration_ms == (timing.wait_ms or 0) + (timing.read_ms or 0)


def test_a_saved_report_is_drawn(tmp_path: Path) -> None:
    file = tmp_path / "saved.json"
    report = made(request(0, 600, 100))
    file.write_text(registry.renderer("json").render(report, Style()), encoding="utf-8")
    plain, told = (
        CliRunner().invoke(cli.cli, ["render", str(file), *more]).output
        for more in ([], ["--timings"])
    )
    assert "Where the time went" not in plain
    assert "---##" in told
    assert all(len(line) <= 80 for line in told.splitlines())
