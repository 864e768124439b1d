"""Check `cloud-http`: who answers at the address of the API, and whether Atlassian has trouble."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from diag.model import Status
from diag.simulator.cloud_data import API
from diag.simulator.scenario import Answer, Setup
from diag.simulator.server import Request, Response, html, page
from tests.checks.cloud import ask
from tests.checks.conftest import Meet

EVENTS = "/2.0/hook_events"
SECRET_PAGE = page("No", body="<p>window.__token__ = 1</p>Access is blocked by policy: code")


def instead(response: Callable[[], Response], path: str = "/") -> Callable[[Setup], None]:
    """Somebody else answers for what is below a path of the API."""

    def gateway(request: Request, forward: Answer) -> Response:
        there = request.host == API and request.path.startswith(path)
        return response() if there else forward(request)

    def change(setup: Setup) -> None:
        setup.gateway = gateway

    return change


@pytest.mark.parametrize(
    ("response", "code"),
    [
        (lambda: html(200, SECRET_PAGE), "http-block-page"),
        (lambda: html(403, SECRET_PAGE, server="squid"), "http-block-page"),
        (lambda: Response(403, [("Content-Type", "text/plain")], b"no"), "http-waf-blocked"),
        (
            lambda: Response(401, [("WWW-Authenticate", 'Basic realm="proxy"')], b"login"),
            "http-gateway-auth",
        ),
        (
            lambda: Response(302, [("Location", "https://login.example.com/adfs/ls")]),
            "http-sso-login",
        ),
        (lambda: Response(502, [("Server", "squid")], b"bad"), "http-bad-gateway"),
        (lambda: Response(503, [("Server", "squid")], b"no"), "http-upstream-unavailable"),
        (lambda: Response(504, [("Server", "squid")], b"late"), "http-gateway-timeout"),
        (lambda: Response(204, [("Server", "squid")]), "cloud-http-unclear"),
    ],
)
def test_somebody_on_the_way(meet: Meet, response: Callable[[], Response], code: str) -> None:
    met = ask(meet, instead(response))
    assert met.problems == [code]
    problem = met.problem(code)
    assert problem.owner == "network-admin"
    assert "policy" not in problem.message  # nothing of a page is shown
    assert met.credentialed == []
    assert met.check("cloud-auth").status is Status.SKIP


class TestIncident:
    """One failing resource is no incident."""

    def test_all_of_it(self, meet: Meet) -> None:
        met = ask(meet, "cloud-incident")
        assert met.problems == ["cloud-incident"]
        problem = met.problem("cloud-incident")
        assert problem.owner == "atlassian"
        assert problem.evidence["heuristic"] is True
        assert "suspected" in problem.message
        assert "x-b3-traceid" in problem.remedy
        assert len(met.requests) == 3

    @pytest.mark.parametrize(
        ("credential", "git"),
        [("api-token", "cloud-git-deduced"), ("oauth-consumer", "cloud-git-not-asked")],
    )
    def test_only_the_names_of_events(self, meet: Meet, credential: str, git: str) -> None:
        """The request that this costs is spared at the end, if it is one too many."""

        def change(setup: Setup) -> None:
            def gateway(request: Request, forward: Answer) -> Response:
                response = forward(request)
                if request.path == EVENTS:
                    response.status = 500
                return response

            setup.gateway = gateway

        met = ask(meet, change, credential=credential)
        assert met.problems == []
        assert met.codes("cloud-git") == [git]
        assert len(met.requests) == 10

    def test_only_what_comes_later(self, meet: Meet) -> None:
        failing = Response(500, [("Server", "AtlassianEdge"), ("X-B3-TraceId", "abc")], b"<html>")
        met = ask(meet, instead(lambda: failing, "/2.0/repositories"))
        assert met.problems == ["server-error"]
        assert met.problem("server-error").owner == "atlassian"
        assert "x-b3-traceid abc" in met.problem("server-error").remedy


def test_a_used_up_anonymous_limit_keeps_nobody_out(meet: Meet) -> None:
    limited = Response(429, [("Server", "AtlassianEdge"), ("Retry-After", "9")], b"Too many")
    met = ask(meet, instead(lambda: limited, EVENTS))
    assert met.problems == []


@pytest.mark.parametrize(("code", "least"), [("rate-limited", 1790), ("rate-limited/text", 1700)])
def test_a_used_up_limit(meet: Meet, code: str, least: int) -> None:
    met = ask(meet, code)
    assert met.problems == ["rate-limited"]
    problem = met.problem("rate-limited")
    assert problem.owner == "you"
    wait = problem.evidence["retry_after"]
    assert isinstance(wait, int)
    assert least <= wait <= 1800
    assert len([request for request in met.requests if request.status == 429]) == 1


def test_a_broken_answer(meet: Meet) -> None:
    def cut(connection: object, response: Response) -> None:
        del response
        connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{")  # type: ignore[attr-defined]

    met = ask(meet, instead(lambda: Response(200, wire=cut, close=True)))
    assert met.problems == ["http-body-truncated"]
