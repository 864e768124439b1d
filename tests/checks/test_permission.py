"""Check `permission`: what the secret allows, and whose limit it is."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from diag.model import Status
from diag.profile import Profile
from diag.simulator.data import REPOSITORIES, Level, Repository
from diag.simulator.scenario import Answer, Setup
from diag.simulator.server import Request, Response

from .conftest import Meet, Met

NEEDS_WRITE = Profile(name="writer", title="Writer", setup="write", steady="write")
NEEDS_READ = Profile(name="reader", title="Reader", setup="read", steady="read")
STEADY = {"stage": "steady"}


def through(gateway: Callable[[Request, Answer], Response]) -> Callable[[Setup], None]:
    def change(setup: Setup) -> None:
        setup.gateway = gateway

    return change


def asked(met: Met) -> list[str]:
    """What was asked for this check, in order."""
    return [
        request.path.rpartition("/")[2]
        for request in met.requests
        if request.authorization != "none"
        and ("permission=" in request.query or request.path.endswith("/webhooks"))
    ]


@pytest.mark.parametrize(
    ("credential", "problems"),
    [
        ("admin-token", []),
        ("password", []),
        ("token-as-password", []),
        ("project-token", []),
        ("repository-token", []),
        ("write-token", ["perm-token-scope-limited"]),
        ("read-token", ["perm-token-scope-limited"]),
        ("developer-token", ["perm-admin-missing"]),
        ("repository-read-token", ["perm-admin-missing"]),
        ("sysadmin-token", ["perm-too-broad"]),
        ("sysadmin-password", ["perm-too-broad"]),
    ],
)
def test_webhooks_need_an_administrator(meet: Meet, credential: str, problems: list[str]) -> None:
    met = meet(credential=credential)
    assert met.problems == problems
    assert len(met.requests) <= 12
    statuses = [request.status for request in met.credentialed]
    assert 401 not in statuses[:-1], "the secret was sent again after a 401"


@pytest.mark.parametrize("stage", ["setup", "steady"])
@pytest.mark.parametrize("credential", ["admin-token", "read-token", "project-token", "password"])
def test_every_request_is_one_that_bitbucket_knows(meet: Meet, credential: str, stage: str) -> None:
    met = meet(credential=credential, options={"stage": stage})
    assert [request for request in met.requests if not request.known] == []
    assert {request.method for request in met.requests} == {"GET"}
    assert not [request for request in met.requests if request.cookie or request.exposed]
    assert met.report.run.requests == len(met.requests) <= 12


def test_what_may_cost_the_secret_is_asked_last(meet: Meet) -> None:
    met = meet(credential="read-token")
    assert asked(met)[-1] == "webhooks"
    assert sorted(asked(met)) == ["repos", "users", "users", "webhooks"]
    assert met.codes("git") == ["git-ok", "git-ssh-ok"]


def test_the_owner_of_the_problem_is_who_can_solve_it(meet: Meet) -> None:
    limited = meet(credential="read-token").report.problems[0]
    assert limited.owner == "you"
    assert "Make a new token" in limited.remedy
    missing = meet(credential="developer-token").report.problems[0]
    assert missing.owner == "project-admin"


def test_the_hooks_themselves_are_never_shown(meet: Meet) -> None:
    met = meet()
    assert any(request.path.endswith("/webhooks") for request in met.requests)
    assert "a-webhook-secret" not in str(met.report.to_json())
    assert "chat.example.com" not in str(met.report.to_json())


@pytest.mark.parametrize(
    ("credential", "problems"),
    [
        ("read-token", []),
        ("repository-read-token", []),
        ("write-token", ["perm-too-broad"]),
        ("admin-token", ["perm-too-broad"]),
        ("developer-token", ["perm-too-broad"]),
        ("project-token", ["perm-too-broad"]),
    ],
)
def test_afterwards_reading_is_enough(meet: Meet, credential: str, problems: list[str]) -> None:
    met = meet(credential=credential, options=STEADY)
    assert met.problems == problems
    assert all(problem.status is Status.WARN for problem in met.report.problems)
    assert not [request for request in met.requests if request.path.endswith("/webhooks")]


def test_how_much_too_much_is_told(meet: Meet) -> None:
    admin = meet(options=STEADY).report.problems[0].message
    assert "may administer MOB/app" in admin
    writer = meet(credential="write-token", options=STEADY).report.problems[0].message
    assert "may write to MOB/app" in writer


@pytest.mark.parametrize(
    ("credential", "problems"),
    [
        ("write-token", []),
        ("developer-token", []),
        ("admin-token", ["perm-too-broad"]),
        ("read-token", ["perm-token-scope-limited"]),
        ("repository-read-token", ["perm-admin-missing"]),
    ],
)
def test_a_product_that_writes(meet: Meet, credential: str, problems: list[str]) -> None:
    met = meet(credential=credential, options={"profile": NEEDS_WRITE})
    assert met.problems == problems
    for problem in met.report.problems:
        assert "write to MOB/app" in problem.message


def test_a_product_that_only_reads_needs_no_more_in_the_beginning(meet: Meet) -> None:
    met = meet(credential="read-token", options={"profile": NEEDS_READ})
    assert met.problems == []
    assert met.codes("permission") == ["permission-ok"]


# without a wanted repository

PROJECT = {"repo": None, "url": "https://bitbucket.example.com/projects/MOB"}


@pytest.mark.parametrize(
    ("credential", "problem", "hooks"),
    [
        ("admin-token", None, 200),
        ("project-token", None, 200),
        ("repository-token", None, 401),  # it may administer what it was made for
        ("read-token", "perm-token-scope-limited", 401),
        ("developer-token", "perm-admin-missing", 401),
    ],
)
def test_a_project_is_asked_for_its_own_webhooks(
    meet: Meet, credential: str, problem: str | None, hooks: int
) -> None:
    met = meet(credential=credential, options=PROJECT)
    assert met.problems == ([problem] if problem else []) + ["input-url-has-page-path"]
    (request,) = [request for request in met.requests if request.path.endswith("/webhooks")]
    assert request.path == "/rest/api/latest/projects/MOB/webhooks"
    assert request.status == hooks


@pytest.mark.parametrize(
    ("credential", "problems"),
    [
        ("admin-token", []),
        ("repository-token", []),
        ("read-token", ["perm-token-scope-limited"]),
        ("developer-token", ["perm-admin-missing"]),
    ],
)
def test_any_repository_will_do_where_none_is_named(
    meet: Meet, credential: str, problems: list[str]
) -> None:
    def change(setup: Setup) -> None:
        setup.instance.repositories = [one for one in REPOSITORIES if one.project == "MOB"]

    met = meet(change, credential=credential, options={"repo": None})
    assert met.problems == problems
    assert not [request for request in met.requests if request.path.endswith("/webhooks")]


# archived, old, odd


def test_an_archived_repository_is_told_and_can_be_administered(meet: Meet) -> None:
    met = meet(options={"repo": "MOB/legacy"})
    assert met.problems == ["perm-repo-archived"]
    assert met.codes("permission") == ["perm-repo-archived", "permission-ok"]


@pytest.mark.parametrize("version", ["7.14.0", "7.21.4", "8.9.10", "10.2.7"])
@pytest.mark.parametrize(
    ("credential", "problem"),
    [("admin-token", None), ("read-token", "perm-token-scope-limited")],
)
def test_old_versions_know_fewer_filters(
    meet: Meet, version: str, credential: str, problem: str | None
) -> None:
    met = meet(credential=credential, version=version)
    found = [code for code in met.problems if not code.startswith("version-")]
    assert found == ([problem] if problem else [])


def test_the_name_of_another_repository_may_contain_the_wanted_one_s(meet: Meet) -> None:
    """The filter by name is wide: what it lets through is compared."""

    def change(setup: Setup) -> None:
        more = [Repository("LIB", f"app-{n}", 100 + n, f"App {n}") for n in range(150)]
        setup.instance.repositories = [*more, *REPOSITORIES]
        setup.instance.version = "7.21.4"  # knows no filter by project

    met = meet(change)
    assert met.codes("permission")[-1] == "permission-ok"


def test_a_listing_that_lies_is_corrected_by_the_webhooks(meet: Meet) -> None:
    """An old version may leave a token's own limit out of the listing."""

    def ignore_permission(request: Request, forward: Answer) -> Response:
        request.query = request.query.replace("permission=REPO_ADMIN&", "")
        return forward(request)

    met = meet(through(ignore_permission), credential="developer-token")
    assert met.problems == ["perm-admin-missing"]


def refuse(part: str, status: int, body: bytes = b"{}") -> Callable[[Setup], None]:
    def gateway(request: Request, forward: Answer) -> Response:
        if part in request.target:
            return Response(status, [("X-AREQUESTID", "@1VT0CNLx1x1x0")], body)
        return forward(request)

    return through(gateway)


def test_webhooks_that_do_not_answer_leave_the_listing_s_word(meet: Meet) -> None:
    met = meet(refuse("/webhooks", 404))
    assert met.problems == []
    assert met.codes("permission") == ["permission-ok"]


def test_a_user_search_that_is_refused_blames_nobody_wrongly(meet: Meet) -> None:
    met = meet(refuse("/users", 403), credential="read-token")
    assert met.problems == ["perm-admin-missing"]
    assert met.report.problems[0].evidence["user_may"] is None


def test_nothing_that_can_be_read_is_no_verdict(meet: Meet) -> None:
    def gateway(request: Request, forward: Answer) -> Response:
        if "permission=" in request.query or request.path.endswith("/webhooks"):
            return Response(400, [("X-AREQUESTID", "@1VT0CNLx1x1x0")], b"{}")
        return forward(request)

    met = meet(through(gateway))
    assert met.problems == ["permission-unclear"]
    assert met.report.exit_status() == 4


def test_an_anonymous_run_is_not_judged(meet: Meet) -> None:
    met = meet(credential="anonymous", version="8.19.3", options={"repo": "OPEN/docs"})
    assert met.codes("permission") == ["permission-anonymous"]
    assert met.check("permission").status is Status.SKIP


def test_a_user_is_compared_by_the_whole_name(meet: Meet) -> None:
    """The search for users finds parts of names: somebody else's right is not this user's."""

    def change(setup: Setup) -> None:
        boss = setup.instance.users["admin"]
        setup.instance.users = setup.instance.users | {
            "developer-boss": type(boss)(
                "developer-boss", "developer-boss", 99, "Boss", "x", {"MOB": Level.ADMIN}
            )
        }

    met = meet(change, credential="developer-token")
    assert met.problems == ["perm-admin-missing"]
    assert met.report.problems[0].evidence["user_may"] is False
