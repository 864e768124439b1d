"""Check `git`: the first step of a clone, over HTTP and SSH."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from diag.model import Status
from diag.simulator.scenario import HOST, Answer, Setup
from diag.simulator.server import Request, Response

from .conftest import Meet

MARK = ("X-AREQUESTID", "@1VT0CNLx1x1x0")


def answer_scm(response: Response) -> Callable[[Setup], None]:
    def gateway(request: Request, forward: Answer) -> Response:
        return response if request.path.startswith("/scm/") else forward(request)

    def change(setup: Setup) -> None:
        setup.gateway = gateway

    return change


def test_both_ways_are_open(meet: Meet) -> None:
    met = meet()
    assert met.codes("git") == ["git-ok", "git-ssh-ok"]
    (request,) = [one for one in met.requests if one.path.startswith("/scm/")]
    assert (request.path, request.query) == (
        "/scm/mob/app.git/info/refs",
        "service=git-upload-pack",
    )


@pytest.mark.parametrize(
    "credential", ["password", "token-as-password", "project-token", "repository-read-token"]
)
def test_every_kind_of_secret_clones(meet: Meet, credential: str) -> None:
    met = meet(credential=credential, options={"stage": "steady"})
    assert met.codes("git") == ["git-ok", "git-ssh-ok"]


def test_a_clone_below_a_context_path_and_of_a_personal_project(meet: Meet) -> None:
    met = meet(context_path="/bitbucket", options={"repo": "~ci-bot_example.com/dotfiles"})
    assert met.problems == []
    assert met.codes("git") == ["git-ok", "git-ssh-ok"]


def test_the_clone_is_tried_where_the_user_pointed_not_where_links_point(meet: Meet) -> None:
    met = meet(base_url="http://localhost:7990")
    assert met.problems == ["base-url-localhost"]
    assert "git-ok" in met.codes("git")


def test_hosting_over_http_is_off(meet: Meet) -> None:
    met = meet("git-http-disabled")
    assert met.problems == ["git-http-disabled"]
    problem = met.report.problems[0]
    assert problem.owner == "bitbucket-admin"
    assert problem.evidence["http_link"] is None
    # What can cost us the secret comes later, and is reached.
    assert met.codes("permission") == ["permission-ok"]


@pytest.mark.parametrize(
    ("response", "code", "owner"),
    [
        (Response(404, [MARK], b"not here"), "git-http-disabled", "bitbucket-admin"),
        (Response(404, [], b"<html>nginx</html>"), "git-http-disabled", "server-admin"),
        (Response(302, [("Location", "https://sso/login")]), "http-sso-login", "server-admin"),
        (Response(302, [("Location", "https://elsewhere/")]), "git-unclear", "server-admin"),
        (Response(403, [], b"<html>nginx</html>"), "git-http-disabled", "server-admin"),
        (Response(403, [], b"Your support ID is: 42"), "http-waf-blocked", "network-admin"),
        (Response(200, [("Content-Type", "text/html")], b"<p>"), "git-unclear", "server-admin"),
        (Response(500, [MARK], b"oops"), "server-error", "bitbucket-admin"),
        (Response(429, [MARK], b"slow down"), "rate-limited", "bitbucket-admin"),
        (Response(503, [], b"<html>"), "http-gateway-rate-limited", "server-admin"),
    ],
)
def test_an_answer_to_git_that_is_none(
    meet: Meet, response: Response, code: str, owner: str
) -> None:
    met = meet(answer_scm(response))
    assert met.problems == [code]
    assert met.report.problems[0].owner == owner


def test_a_limit_that_git_met_is_not_pressed_further(meet: Meet) -> None:
    met = meet(answer_scm(Response(429, [MARK], b"slow down")))
    assert met.codes("permission") == ["permission-not-asked"]


def test_a_401_for_git_alone_costs_the_secret_and_is_told(meet: Meet) -> None:
    challenge = ("WWW-Authenticate", 'Basic realm="Atlassian Bitbucket"')
    met = meet(answer_scm(Response(401, [MARK, challenge], b"Authentication failed")))
    assert met.problems == ["git-unclear"]
    assert met.codes("git")[0] == "git-unclear"
    assert met.credentialed[-1].status == 401


def test_a_long_list_of_branches_is_not_read_to_its_end(meet: Meet) -> None:
    kind = ("Content-Type", "application/x-git-upload-pack-advertisement")
    met = meet(answer_scm(Response(200, [kind], b"0" * 5_000_000)))
    assert met.codes("git")[0] == "git-ok"


def test_an_anonymous_clone_of_a_public_repository(meet: Meet) -> None:
    met = meet(credential="anonymous", version="8.19.3", options={"repo": "OPEN/docs"})
    assert met.codes("git") == ["git-ok", "git-ssh-ok"]


def test_an_anonymous_clone_may_be_refused(meet: Meet) -> None:
    def change(setup: Setup) -> None:
        answer_scm(Response(401, [MARK], b"login"))(setup)
        setup.ssh = True

    met = meet(change, credential="anonymous", version="8.19.3", options={"repo": "OPEN/docs"})
    assert "git-needs-token" in met.codes("git")
    assert "git-unclear" not in met.problems


def test_the_ssh_port_is_closed(meet: Meet) -> None:
    met = meet("git-ssh-unreachable")
    assert met.problems == ["git-ssh-unreachable"]
    assert met.report.verdict is Status.WARN
    assert "refused" in met.report.problems[0].message


def test_a_web_server_on_the_ssh_port_waits_to_be_asked(meet: Meet) -> None:
    def change(setup: Setup) -> None:
        setup.instance.ssh_url = f"ssh://git@{HOST}:8443"
        setup.routes[f"{HOST}:8443"] = setup.plain_port
        setup.plain = lambda _request, _forward: Response(400, close=True)

    met = meet(change)
    assert met.problems == ["git-ssh-unreachable"]
    assert "no answer" in met.report.problems[0].message


def test_another_port_for_ssh_is_all_right(meet: Meet) -> None:
    def change(setup: Setup) -> None:
        setup.instance.ssh_url = f"ssh://git@{HOST}:2222"
        setup.routes[f"{HOST}:2222"] = setup.ssh_port

    assert meet(change).codes("git") == ["git-ok", "git-ssh-ok"]


def test_a_port_without_a_rule_is_not_tried_where_there_are_rules(meet: Meet) -> None:
    def change(setup: Setup) -> None:
        setup.instance.ssh_url = f"ssh://git@{HOST}:2222"

    assert meet(change).codes("git") == ["git-ok"]


def test_ssh_that_is_off_is_no_fault(meet: Meet) -> None:
    def change(setup: Setup) -> None:
        setup.instance.ssh_url = None
        setup.ssh = False

    met = meet(change)
    assert met.problems == []
    assert met.codes("git") == ["git-ok"]


def test_through_a_proxy_ssh_is_not_judged(meet: Meet) -> None:
    def change(setup: Setup) -> None:
        setup.proxy = lambda _request: None
        setup.environ["https_proxy"] = f"http://127.0.0.1:{setup.proxy_port}"
        setup.routes[f"{HOST}:443"] = setup.closed_port
        setup.ssh = False

    met = meet(change)
    assert "git-ssh-unreachable" not in met.problems
    assert met.codes("git") == ["git-ok"]
