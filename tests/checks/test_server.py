"""Check `server`: what state Bitbucket is in, in its own words, and where it has none."""

from __future__ import annotations

import pytest

from diag.facts import Instance, Reply, Running
from diag.model import Status
from diag.report import Report
from diag.simulator.scenario import Answer, Setup
from diag.simulator.server import Request, Response
from tests.given import result, run_check

from .conftest import Meet

BASE = "https://bb.example.com"
CONTENT = {"version": "9.4.1", "buildNumber": "9004001", "displayName": "Bitbucket"}
STATES = [
    ("RUNNING", None),
    ("STARTING", "server-starting"),
    ("STOPPING", "server-maintenance"),
    ("MAINTENANCE", "server-maintenance"),
    ("FIRST_RUN", "server-setup-incomplete"),
    ("ERROR", "server-error-state"),
]


def ask(status: Reply, properties: Reply) -> tuple[Report, list[Running]]:
    """Run the check alone, on what check `http` brought."""
    instance = Instance(BASE, ("X-AREQUESTID",), status=status, properties=properties)
    report, seen = run_check("server", [instance], url=BASE)
    return report, [fact for fact in seen if isinstance(fact, Running)]


def reply(code: int | None, said: str = "", **more: str) -> Reply:
    return Reply(request=f"{BASE}/x", code=code, said=said, **more)  # type: ignore[arg-type]


def told(state: str) -> Reply:
    return Reply(request=f"{BASE}/status", code=200, content={"state": state})


@pytest.mark.parametrize(("state", "code"), STATES)
def test_a_state_of_the_real_thing(meet: Meet, state: str, code: str | None) -> None:
    def change(setup: Setup) -> None:
        setup.instance.state = state

    met = meet(change)
    assert met.problems == ([code] if code else [])
    if code is not None:
        assert state in met.problem(code).message
        assert met.check("auth").skipped_because is not None
        assert met.credentialed == []
        assert met.check("version").status in {Status.SKIP, Status.OK}


def test_running() -> None:
    report, running = ask(told("RUNNING"), Reply(code=200, content=CONTENT))
    assert report.problems == ()
    assert running == [Running("RUNNING")]


@pytest.mark.parametrize(
    ("status", "properties", "code"),
    [
        (reply(503, "Bitbucket is starting up"), reply(503), "server-starting"),
        (reply(503, "Down for maintenance"), reply(503), "server-maintenance"),
        (reply(404), reply(503, "Backup in progress"), "server-maintenance"),
        (reply(404), reply(503, "Service Unavailable"), "server-error"),
        (reply(404), reply(500, "NullPointerException"), "server-error"),
        (told("RUNNING"), reply(500, "NullPointerException"), "server-error"),
        (told("RUNNING"), reply(302, "", location=f"{BASE}/setup"), "server-setup-incomplete"),
        (told("FIRST_RUN"), reply(302, "", location=f"{BASE}/setup"), "server-setup-incomplete"),
        (told("ERROR"), reply(500), "server-error-state"),
    ],
)
def test_what_the_answers_say_when_it_is_not_up(
    status: Reply, properties: Reply, code: str
) -> None:
    report, running = ask(status, properties)
    assert [problem.code for problem in report.problems] == [code]
    assert running == []


@pytest.mark.parametrize(
    "status", [reply(404), reply(None, "timeout: no answer in time"), reply(502, "502 Bad Gateway")]
)
def test_without_a_status_page_it_is_taken_to_be_up(status: Reply) -> None:
    report, running = ask(status, Reply(code=200, content=CONTENT))
    assert report.problems == ()
    assert [finding.code for finding in result(report, "server").findings] == ["server-no-status"]
    assert running == [Running(None)]


def test_a_state_nobody_knows_is_told_and_gone_past() -> None:
    report, running = ask(told("HIBERNATING"), Reply(code=200, content=CONTENT))
    assert [(p.code, p.status) for p in report.problems] == [("server-unclear", Status.UNKNOWN)]
    assert running == [Running("HIBERNATING")]


def test_an_internal_error_names_the_request_in_the_log(meet: Meet) -> None:
    met = meet("server-error")
    problem = met.problem("server-error")
    assert "@1VT0CNLx" in problem.remedy
    assert problem.owner == "bitbucket-admin"
    assert met.problems == ["server-error"]


def test_a_version_that_cannot_be_read_meanwhile_is_no_second_problem(meet: Meet) -> None:
    met = meet("server-maintenance")
    version = met.check("version")
    assert version.status is Status.SKIP
    assert version.skipped_because is not None
    assert version.skipped_because.code == "server-maintenance"


def test_a_page_that_only_looks_like_maintenance_is_the_gateways(meet: Meet) -> None:
    def gateway(_request: Request, _forward: Answer) -> Response:
        kind = [("Content-Type", "text/html"), ("Retry-After", "3600")]
        return Response(503, kind, b"<html><title>Down for maintenance</title></html>")

    def change(setup: Setup) -> None:
        setup.gateway = gateway

    assert meet(change).report.root_cause == "http-upstream-unavailable"
