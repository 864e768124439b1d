"""Check `repos`: the listing through all its pages, and what is looked for in it."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from diag.model import Status
from diag.simulator import Recorded
from diag.simulator.data import REPOSITORIES, Repository
from diag.simulator.scenario import Answer, Setup
from diag.simulator.server import Connection, Request, Response

from .conftest import Meet, Met

MARK = ("X-AREQUESTID", "@1VT0CNLx1x1x0")
MANY = 300  # repositories before those of MOB


def listings(met: Met) -> list[Recorded]:
    """The pages of the plain listing that were asked for."""
    return [
        request
        for request in met.requests
        if request.path.endswith("/rest/api/1.0/repos") and "permission" not in request.query
    ]


def only(*, public: bool) -> Callable[[Setup], None]:
    """Every repository is like this."""

    def change(setup: Setup) -> None:
        setup.instance.repositories = [replace(one, public=public) for one in REPOSITORIES]

    return change


def through(gateway: Callable[[Request, Answer], Response]) -> Callable[[Setup], None]:
    def change(setup: Setup) -> None:
        setup.gateway = gateway

    return change


def test_the_target_on_a_later_page_is_found(meet: Meet) -> None:
    met = meet(repositories=MANY, page_limit=120)
    assert met.problems == []
    queries = [request.query for request in listings(met)]
    # The server gives less than it is asked for, and leaves gaps: it says where to go on.
    assert [query.split("&")[1] for query in queries] == ["limit=100", "limit=1000", "limit=1000"]
    starts = [int(query.split("&")[0].removeprefix("start=")) for query in queries]
    assert starts[0] == 0
    assert starts[2] - starts[1] >= 120
    assert "(pages: 3)" in met.check("repos").findings[0].message


def test_reading_stops_where_the_wanted_one_is_found(meet: Meet) -> None:
    met = meet(repositories=MANY, page_limit=50, options={"repo": "LIB/networking"})
    assert len(listings(met)) == 1


def test_all_pages_are_read_on_request(meet: Meet) -> None:
    options = {"repo": "LIB/networking", "all_pages": True}
    met = meet(repositories=MANY, page_limit=100, options=options)
    assert 4 <= len(listings(met)) <= 6  # a few pages are asked for before the end is known
    (finding,) = met.check("repos").findings
    assert finding.evidence["complete"] is True
    assert finding.evidence["seen"] == MANY + 6
    assert len(met.requests) <= 16


def test_one_page_is_enough_where_nothing_is_wanted(meet: Meet) -> None:
    met = meet(repositories=MANY, options={"repo": None})
    assert met.problems == []
    assert len(listings(met)) == 1
    assert len(met.requests) <= 12


def test_any_repository_of_the_wanted_project_will_do(meet: Meet) -> None:
    url = "https://bitbucket.example.com/projects/MOB"
    met = meet(options={"repo": None, "url": url})
    assert met.problems == ["input-url-has-page-path"]
    assert "MOB/app is there" in met.check("repos").findings[0].message


@pytest.mark.parametrize("wanted", ["mob/App", "~ci-bot_example.com/dotfiles"])
def test_keys_are_compared_as_bitbucket_does(meet: Meet, wanted: str) -> None:
    met = meet(options={"repo": wanted})
    assert met.problems == []


def test_below_a_context_path(meet: Meet) -> None:
    assert meet(context_path="/bitbucket").problems == []


@pytest.mark.parametrize("credential", ["project-token", "repository-token"])
def test_a_token_of_a_project_sees_its_repositories(meet: Meet, credential: str) -> None:
    assert meet(credential=credential).problems == []


def test_a_hidden_repository_is_no_missing_one(meet: Meet) -> None:
    met = meet(options={"repo": "FIN/ledger"})
    assert met.problems == ["perm-repo-not-visible"]
    problem = met.report.problems[0]
    assert "it exists" in problem.message
    assert problem.owner == "project-admin"
    assert met.credentialed[-1].status == 401
    assert met.check("permission").status is Status.SKIP


def test_a_repository_that_is_not_there(meet: Meet) -> None:
    met = meet(options={"repo": "MOB/ap"})
    assert met.problems == ["perm-repo-not-visible"]
    assert "no such repository" in met.report.problems[0].message
    assert "most similar one is app" in met.report.problems[0].remedy


@pytest.mark.parametrize(
    ("wanted", "hint"),
    [
        ("MBO/app", "the most similar one is MOB"),
        ("ci-bot_example.com/dotfiles", "the most similar one is ~CI-BOT_EXAMPLE.COM"),
        ("QQQ/app", "none is similar"),
    ],
)
def test_a_project_that_is_not_there(meet: Meet, wanted: str, hint: str) -> None:
    met = meet(options={"repo": wanted})
    assert met.problems == ["perm-project-not-found"]
    assert hint in met.report.problems[0].remedy


def test_a_wanted_project_that_is_not_there(meet: Meet) -> None:
    url = "https://bitbucket.example.com/projects/MBO"
    met = meet(options={"repo": None, "url": url})
    assert met.problems[0] == "perm-project-not-found"


def test_a_wanted_project_without_any_repository_to_see(meet: Meet) -> None:
    def change(setup: Setup) -> None:
        kept = [one for one in REPOSITORIES if one.project != "MOB"]
        setup.instance.repositories = [*kept, replace(REPOSITORIES[5], archived=True)]

    url = "https://bitbucket.example.com/projects/MOB"
    met = meet(change, options={"repo": None, "url": url})
    assert met.problems[0] == "perm-no-repositories"
    assert "project MOB" in met.report.problems[0].message


def test_an_archived_repository_is_not_listed_but_there(meet: Meet) -> None:
    met = meet(options={"repo": "MOB/legacy"})
    assert met.problems == ["perm-repo-archived"]
    assert met.codes("repos") == ["repos-not-listed"]
    assert met.report.verdict is Status.WARN


def test_a_moved_repository_is_followed(meet: Meet) -> None:
    def move(request: Request, forward: Answer) -> Response:
        before, after = "/projects/MOB/repos/apps", "/projects/MOB/repos/app"
        if request.path.endswith(before):
            location = f"https://bitbucket.example.com/rest/api/latest{after}"
            return Response(307, [("Location", location), ("X-AREQUESTID", "@1VT0CNLx1x1x0")])
        return forward(request)

    met = meet(through(move), options={"repo": "MOB/apps"})
    assert met.problems == []
    assert met.codes("repos") == ["repos-moved"]
    assert "MOB/app now" in met.check("repos").findings[0].message
    assert met.codes("git")[0] == "git-ok"
    assert met.codes("permission") == ["permission-ok"]


def test_an_empty_listing_is_no_bad_secret(meet: Meet) -> None:
    def change(setup: Setup) -> None:
        setup.instance.repositories = [one for one in REPOSITORIES if not one.public]

    met = meet(change, credential="outsider-token", options={"repo": None})
    assert met.problems == ["perm-no-repositories"]
    assert met.check("auth").status is Status.OK
    wanted = meet(change, credential="outsider-token")
    assert wanted.problems == ["perm-no-repositories"]
    typo = meet(change, credential="outsider-token", options={"repo": "MBO/app"})
    assert typo.problems == ["perm-project-not-found"]


def test_who_sees_only_what_everybody_sees(meet: Meet) -> None:
    met = meet(credential="outsider-token", options={"repo": None})
    assert met.problems == ["perm-public-only"]
    wanted = meet(credential="outsider-token")
    assert wanted.problems == ["perm-public-only"]
    public = meet(credential="outsider-token", options={"repo": "OPEN/docs", "stage": "steady"})
    assert public.problems == []  # the wanted one is among what everybody sees


def test_public_repositories_are_no_fault_of_who_has_a_right_to_them(meet: Meet) -> None:
    assert meet(only(public=True), options={"repo": None}).problems == []


@pytest.mark.parametrize(
    ("wanted", "problems", "codes"),
    [
        (None, [], ["repos-ok"]),
        ("OPEN/docs", [], ["repos-ok"]),
        ("MOB/app", [], ["repos-needs-token"]),
        ("MBO/app", ["perm-project-not-found"], ["perm-project-not-found"]),
    ],
)
def test_older_versions_list_what_is_public_anonymously(
    meet: Meet, wanted: str | None, problems: list[str], codes: list[str]
) -> None:
    met = meet(credential="anonymous", version="8.19.3", options={"repo": wanted})
    assert [code for code in met.problems if code != "version-end-of-life"] == problems
    assert met.codes("repos") == codes


def test_nothing_public_is_no_fault_of_an_anonymous_run(meet: Meet) -> None:
    met = meet(only(public=False), credential="anonymous", version="8.19.3", options={"repo": None})
    assert met.codes("repos") == ["repos-none-public"]
    assert met.report.exit_status() == 0


def inject(request: Request, forward: Answer) -> Response:
    """A proxy that puts a page of its own in the place of the second one."""
    start = dict(request.parameters).get("start", "0")
    if start == "0":
        return forward(request)
    page = b"<html><title>Session expired</title></html>"
    return Response(200, [("Content-Type", "text/html")], page)


def test_a_page_in_the_middle_that_is_no_json_is_named(meet: Meet) -> None:
    met = meet(through(inject), repositories=MANY, page_limit=100)
    assert met.problems == ["http-invalid-json"]
    evidence = met.report.problems[0].evidence
    assert f"start={evidence['start']}&" in str(evidence["request"])
    assert (evidence["seen"], evidence["said"]) == (100, "Session expired")
    # Links were seen before, and they are judged.
    assert met.codes("base-url") == ["base-url-ok"]
    assert met.check("permission").status is Status.SKIP


def test_what_was_found_before_a_broken_page_is_used(meet: Meet) -> None:
    options = {"all_pages": True, "repo": "LIB/networking", "stage": "steady"}
    met = meet(
        through(inject),
        credential="read-token",
        repositories=MANY,
        page_limit=100,
        options=options,
    )
    assert met.problems == ["http-invalid-json"]
    assert met.codes("permission") == ["permission-ok"]


def rewrite(edit: Callable[[dict[str, object]], None]) -> Callable[[Setup], None]:
    """Change the JSON of the plain listing."""

    def gateway(request: Request, forward: Answer) -> Response:
        response = forward(request)
        if request.path.endswith("/repos") and "permission" not in request.query:
            body = json.loads(response.body)
            edit(body)
            response.body = json.dumps(body).encode()
        return response

    return through(gateway)


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (lambda body: body.update(isLastPage=False, nextPageStart=0), "points back"),
        (lambda body: body.pop("values"), "not a page of repositories"),
        (lambda body: body.update(values=[{"slug": "x"}]), "not a page of repositories"),
    ],
)
def test_json_that_is_no_page_is_no_proof_of_anything(
    meet: Meet, edit: Callable[[dict[str, object]], None], said: str
) -> None:
    met = meet(rewrite(edit), options={"repo": "MOB/nothing"})
    assert met.problems == ["repos-unclear"]
    assert said in met.report.problems[0].message
    assert met.report.exit_status() == 4


def test_a_listing_without_end_is_given_up(meet: Meet) -> None:
    """Every page is followed by another: the wanted repository is asked for directly in the end."""

    def endless(request: Request, forward: Answer) -> Response:
        if not request.path.endswith("/repos") or "permission" in request.query:
            return forward(request)
        start = int(dict(request.parameters)["start"])
        other = {"slug": f"r{start}", "project": {"key": "LIB"}, "public": False}
        body = {"values": [other], "isLastPage": False, "nextPageStart": start + 1}
        return Response(200, [("Content-Type", "application/json")], json.dumps(body).encode())

    met = meet(through(endless))
    assert met.problems == []
    assert met.codes("repos") == ["repos-not-listed"]
    assert met.codes("permission") == ["permission-ok"]
    assert met.report.run.requests < 250


Change = Callable[[int, dict[str, object]], Response | None]


class Long:
    """A listing of that many repositories in place of Bitbucket's, 25 a page. `change` may edit a
    page, or answer in its place."""

    def __init__(self, change: Change = lambda _start, _body: None, count: int = 1000) -> None:
        self.change = change
        self.count = count
        self.asked: list[int] = []
        self._lock = threading.Lock()

    def __call__(self, setup: Setup) -> None:
        setup.gateway = self.gateway

    def gateway(self, request: Request, forward: Answer) -> Response:
        if not request.path.endswith("/repos") or "permission" in request.query:
            return forward(request)
        start = int(dict(request.parameters)["start"])
        with self._lock:
            self.asked.append(start)
        end = min(start + 25, self.count)
        values = [self.show(number) for number in range(start, end)]
        body: dict[str, object] = {"size": len(values), "limit": 25}
        body |= {"isLastPage": end == self.count, "values": values, "start": start}
        if end < self.count:
            body["nextPageStart"] = end
        return self.change(start, body) or as_page(body)

    @staticmethod
    def show(number: int) -> dict[str, object]:
        name = f"r{number}"
        base = "https://bitbucket.example.com"
        return {
            "slug": name,
            "id": number,
            "project": {"key": "LIB"},
            "links": {
                "clone": [{"href": f"{base}/scm/lib/{name}.git", "name": "http"}],
                "self": [{"href": f"{base}/projects/LIB/repos/{name}/browse"}],
            },
        }


def as_page(body: object) -> Response:
    text = json.dumps(body, separators=(",", ":")).encode()
    return Response(200, [("Content-Type", "application/json"), MARK], text)


def read_whole(met: Met) -> dict[str, object]:
    """What is said of a listing that was read to its end."""
    (finding,) = [one for one in met.check("repos").findings if one.code == "repos-ok"]
    assert finding.evidence["complete"] is True
    return dict(finding.evidence)


ALL = {"repo": "LIB/r3", "all_pages": True, "only": ("repos", "base-url")}


def test_every_link_of_a_long_listing_is_judged(meet: Meet) -> None:
    """One repository of many has links that lead elsewhere."""

    def change(start: int, body: dict[str, object]) -> None:
        if start == 600:
            text = json.dumps(body["values"]).replace("bitbucket.example.com/scm", "localhost/scm")
            body["values"] = [*json.loads(text)[:1], *body["values"][1:]]  # type: ignore[index]

    long = Long(change)
    met = meet(long, options=ALL)
    assert met.problems == ["base-url-localhost"]
    wrong: Any = met.report.problems[0].evidence["links"]
    assert [(link["count"], link["where"]) for link in wrong] == [(1, "LIB/r600 links.clone")]
    assert (read_whole(met)["seen"], read_whole(met)["pages"]) == (1000, 40)
    assert len(long.asked) < 50
    assert len(set(long.asked)) == len(long.asked)


def test_several_pages_are_fetched_at_a_time(meet: Meet) -> None:
    together = threading.Barrier(4, timeout=5)

    def change(start: int, body: dict[str, object]) -> None:
        if start in {500, 525, 550, 575}:
            together.wait()  # passed only when all of these are under way

    assert read_whole(meet(Long(change), options=ALL))["seen"] == 1000


@pytest.mark.parametrize("options", [{"repo": "LIB/r3"}, {"repo": "LIB/r60"}, {"repo": None}])
def test_nothing_is_fetched_ahead_unless_all_pages_are_wanted(
    meet: Meet, options: dict[str, object]
) -> None:
    long = Long()
    assert meet(long, options=options).codes("repos") == ["repos-ok"]
    assert long.asked == ([0, 25, 50] if options["repo"] == "LIB/r60" else [0])


def test_a_gap_in_a_long_listing_is_followed(meet: Meet) -> None:
    """Where permissions left some out, pages start elsewhere than could be computed."""

    def change(start: int, body: dict[str, object]) -> None:
        if start in {300, 610}:
            body["nextPageStart"] = start + 35

    long = Long(change)
    found = read_whole(meet(long, options=ALL))
    assert (found["seen"], found["pages"]) == (1000 - 20, 40)
    assert {335, 645} <= set(long.asked)


def test_gaps_here_and_there_keep_nobody_from_fetching_ahead(meet: Meet) -> None:
    """After the first few it pays to try again: many pages lie between one gap and the next."""
    together = threading.Barrier(2, timeout=5)

    def change(start: int, body: dict[str, object]) -> None:
        if start % 1000 == 900:
            body["nextPageStart"] = start + 100
        if start in {6500, 6525}:
            together.wait()

    found = read_whole(meet(Long(change, 7000), options=ALL))
    assert found["seen"] == 7000 - 7 * 75


def test_a_server_that_changes_its_limit_is_followed(meet: Meet) -> None:
    def change(start: int, body: dict[str, object]) -> None:
        if start >= 500 and "nextPageStart" in body:
            values = body["values"]
            assert isinstance(values, list)
            body |= {"values": values[:10], "limit": 10, "nextPageStart": start + 10}
            body["isLastPage"] = False

    found = read_whole(meet(Long(change), options=ALL))
    assert found["seen"] == 1000
    assert found["pages"] == 20 + 48 + 1


def test_a_listing_that_grows_meanwhile_is_read_to_its_end(meet: Meet) -> None:
    def change(start: int, _body: dict[str, object]) -> None:
        if start == 25:
            long.count = 700

    long = Long(change, 100)
    assert read_whole(meet(long, options=ALL))["seen"] == 700


def test_a_limit_that_is_met_side_by_side_is_respected(meet: Meet) -> None:
    """It goes on one after the other, and tells of the pause."""
    refused: list[int] = []

    def change(start: int, body: dict[str, object]) -> Response | None:
        if start < 500 or refused.count(500) == 2:  # side by side, and alone
            return None
        refused.append(start)
        return Response(429, [MARK, ("Retry-After", "1")], b"{}")

    met = meet(Long(change), options=ALL)
    assert met.problems == ["rate-limit-near"]
    assert read_whole(met)["seen"] == 1000


MIDDLE = [
    (Response(429, [MARK], b"{}"), "rate-limited"),
    (Response(500, [MARK], b"{}"), "server-error"),
    (Response(502, [("Server", "nginx")], b"<html>"), "http-bad-gateway"),
    (Response(404, [("Server", "nginx")], b"<html>"), "repos-unclear"),
    (Response(200, [("Content-Type", "text/html")], b"<html>"), "http-invalid-json"),
]


@pytest.mark.parametrize(("bad", "code"), MIDDLE)
def test_a_page_that_is_missing_in_the_middle_is_told_as_ever(
    meet: Meet, bad: Response, code: str
) -> None:
    met = meet(Long(lambda start, _: bad if start == 500 else None), options=ALL)
    assert met.problems == [code]
    evidence = met.report.problems[0].evidence
    assert "start=500&" in str(evidence["request"])


def test_a_secret_that_is_refused_in_the_middle_is_not_sent_again(meet: Meet) -> None:
    refused = threading.Event()

    def change(start: int, body: dict[str, object]) -> Response | None:
        if start >= 500:
            refused.set()
            return Response(401, [MARK, ("X-AUSERNAME", "ci-bot")], b"{}")
        return None

    long = Long(change)
    met = meet(long, options=ALL)
    assert refused.is_set()
    assert met.problems == ["repos-unclear"]
    assert met.report.problems[0].evidence["status"] == 401
    assert len([start for start in long.asked if start >= 500]) <= 8
    assert max(long.asked) < 750


def test_a_loop_in_the_middle_is_told(meet: Meet) -> None:
    def change(start: int, body: dict[str, object]) -> None:
        if start == 500:
            body["nextPageStart"] = 250

    met = meet(Long(change), options=ALL)
    assert met.problems == ["repos-unclear"]
    assert "points back" in met.report.problems[0].message


def test_the_deadline_ends_a_listing_without_end(meet: Meet) -> None:
    met = meet(Long(count=10**9), options={**ALL, "deadline": 3.0})
    (finding,) = met.check("repos").findings
    assert (finding.code, finding.evidence["complete"]) == ("repos-ok", False)
    assert met.codes("base-url") == ["base-url-ok"]


def hang(connection: Connection, _response: Response) -> None:
    connection.swallow()


def send_nothing(_connection: Connection, _response: Response) -> None:
    """The connection is closed when this returns."""


def send_half(connection: Connection, response: Response) -> None:
    connection.send(response.head(("Content-Length", str(2 * len(response.body)))) + response.body)


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (Response(200, wire=hang), "http-response-timeout"),
        (Response(200, wire=send_nothing), "http-empty-reply"),
        (Response(200, body=b"x" * 100, wire=send_half), "http-body-truncated"),
        (Response(502, [("Server", "nginx")], b"<html>"), "http-bad-gateway"),
        (Response(504, [("Server", "nginx")], b"<html>"), "http-gateway-timeout"),
        (Response(429, [("Server", "nginx")], b"<html>"), "http-gateway-rate-limited"),
        (Response(429, [MARK], b"{}"), "rate-limited"),
        (Response(500, [MARK], b'{"errors":[{"message":"Out of memory"}]}'), "server-error"),
    ],
)
def test_what_is_wrong_with_any_request_is_told_of_the_listing(
    meet: Meet, answer: Response, code: str
) -> None:
    def gateway(request: Request, forward: Answer) -> Response:
        return answer if request.path.endswith("/repos") else forward(request)

    met = meet(through(gateway), options={"timeout": 0.5})
    assert met.problems == [code]
    problem = met.report.problems[0]
    assert problem.check == "repos"
    assert "/rest/api/1.0/repos" in str(problem.evidence["request"])
    assert all("Authorization" in line or "/status" in line for line in problem.reproduce)


def test_a_personal_repository_with_an_odd_name(meet: Meet) -> None:
    def change(setup: Setup) -> None:
        extra = Repository("~CI-BOT_EXAMPLE.COM", "x.y-z", 99, "X Y & Z: a+b")
        setup.instance.repositories = [*REPOSITORIES, extra]

    met = meet(change, options={"repo": "~ci-bot_example.com/x.y-z"})
    assert met.problems == []
    assert met.codes("permission") == ["permission-ok"]
