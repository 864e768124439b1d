"""Check `auth`: who Bitbucket takes us for, and every way to be refused."""

from __future__ import annotations

import time
from collections.abc import Callable
from itertools import count

import pytest

from diag.model import Status
from diag.simulator.data import CREDENTIALS, Credential, password, token_secret
from diag.simulator.scenario import HOST, Answer, Setup
from diag.simulator.server import Request, Response

from .conftest import Meet

SIGNS_IN = [
    ("admin-token", "auth-ok", "user ci-bot@example.com"),
    ("password", "auth-ok", "user ci-bot@example.com"),
    ("token-as-password", "auth-ok", "user ci-bot@example.com"),
    ("project-token", "auth-ok-service", "no person"),
    ("repository-token", "auth-ok-service", "no person"),
    ("repository-read-token", "auth-ok-service", "no person"),
]
REFUSED = [
    ("revoked-token", "auth-token-invalid", "you"),
    ("expired-token", "auth-token-invalid", "you"),
    ("wrong-password", "auth-token-invalid", "you"),
    ("project-token-as-password", "auth-scheme-wrong", "you"),
    ("inactive-token", "auth-user-inactive", "bitbucket-admin"),
    ("unlicensed-token", "auth-user-inactive", "bitbucket-admin"),
]


def send(secret: str, user: str | None = None) -> Callable[[Setup], None]:
    def change(setup: Setup) -> None:
        setup.credential = Credential(secret, user)

    return change


def answer_with(status: int, body: str, **headers: str) -> Callable[[Setup], None]:
    """Every request with a secret gets this answer, of something that is not Bitbucket."""

    def gateway(request: Request, forward: Answer) -> Response:
        if request.authorization == "none":
            return forward(request)
        return Response(status, [("Server", "nginx"), *headers.items()], body.encode())

    def change(setup: Setup) -> None:
        setup.gateway = gateway

    return change


@pytest.mark.parametrize(("credential", "code", "words"), SIGNS_IN)
def test_a_good_secret_is_named(meet: Meet, credential: str, code: str, words: str) -> None:
    met = meet(credential=credential)
    (finding,) = met.check("auth").findings
    assert finding.code == code
    assert words in finding.message
    assert not {"auth", "repos"} & {problem.check for problem in met.report.problems}


@pytest.mark.parametrize(("credential", "code", "owner"), REFUSED)
def test_a_refused_secret_is_sent_once(meet: Meet, credential: str, code: str, owner: str) -> None:
    met = meet(credential=credential)
    assert met.problems == [code]
    assert met.report.problems[0].owner == owner
    assert [request.status for request in met.credentialed] == [401]
    skipped = met.check("repos")
    assert skipped.status is Status.SKIP
    assert skipped.skipped_because is not None
    assert skipped.skipped_because.code == code


def test_without_a_secret_nothing_is_sent_for_it(meet: Meet) -> None:
    met = meet(credential="anonymous")
    assert met.codes("auth") == ["auth-anonymous"]
    assert met.problems == []
    assert met.credentialed == []


def test_nine_and_newer_without_a_secret_is_no_fault(meet: Meet) -> None:
    met = meet(credential="anonymous")
    assert met.check("repos").status is Status.SKIP
    assert met.codes("repos") == ["repos-needs-token"]
    assert met.report.exit_status() == 0


def test_a_captcha_is_no_wrong_password(meet: Meet) -> None:
    def change(setup: Setup) -> None:
        setup.credential = CREDENTIALS["password"]
        setup.instance.captcha_after = 0

    met = meet(change)
    assert met.problems == ["auth-captcha-required"]
    assert "ci-bot@example.com must solve" in met.report.problems[0].message


@pytest.mark.parametrize(
    ("secret", "user", "code", "hint"),
    [
        (password("developer"), None, "auth-scheme-wrong", "a password needs its user name"),
        (token_secret("revoked-token"), None, "auth-token-invalid", "wrong, revoked or expired"),
        ("8Kq-" * 16, None, "auth-token-invalid", "wrong, revoked or expired"),  # may be of OAuth
        (token_secret("project-token"), "x-token-auth", "auth-scheme-wrong", "without a user name"),
        (token_secret("project-token"), "developer", "auth-token-invalid", "developer"),
    ],
)
def test_the_way_of_sending_is_blamed_where_the_secret_s_form_tells(
    meet: Meet, secret: str, user: str | None, code: str, hint: str
) -> None:
    met = meet(send(secret, user))
    assert met.problems == [code]
    assert hint in met.report.problems[0].message
    assert len(met.credentialed) == 1  # the other way is not tried


def test_a_token_with_a_user_name_may_be_one_that_goes_without(meet: Meet) -> None:
    met = meet(send(token_secret("project-token"), "developer"))
    assert "leave out --user" in met.problem("auth-token-invalid").remedy


def test_basic_authentication_that_is_switched_off(meet: Meet) -> None:
    def change(setup: Setup) -> None:
        setup.credential = CREDENTIALS["password"]
        setup.instance.basic_auth = False

    assert meet(change).problems == ["auth-basic-disabled"]


@pytest.mark.parametrize("version", ["8.19.3", "9.4.1"])
def test_a_service_that_sees_no_repository_is_not_anonymous(meet: Meet, version: str) -> None:
    def change(setup: Setup) -> None:
        setup.instance.repositories = [r for r in setup.instance.repositories if r.project != "MOB"]

    met = meet(change, credential="project-token", version=version, options={"repo": None})
    assert met.codes("auth") == ["auth-ok-service"]


def without_session(request: Request, forward: Answer) -> Response:
    response = forward(request)
    response.headers = [h for h in response.headers if h[0] not in {"X-ASESSIONID", "Set-Cookie"}]
    return response


def test_a_refused_anonymous_listing_proves_a_nameless_secret(meet: Meet) -> None:
    def change(setup: Setup) -> None:
        setup.instance.repositories = [r for r in setup.instance.repositories if r.project != "MOB"]
        setup.gateway = without_session

    met = meet(change, credential="project-token", options={"repo": None})
    assert met.codes("auth") == ["auth-ok-service"]


@pytest.mark.parametrize("version", ["8.19.3", "9.4.1"])
def test_an_ignored_token_is_told_from_an_empty_listing(meet: Meet, version: str) -> None:
    def change(setup: Setup) -> None:
        setup.instance.ignores_bad_tokens = True
        setup.instance.anonymous_listing = True

    met = meet(change, credential="expired-token", version=version)
    assert met.problems[0] == "auth-anonymous-fallback"
    assert met.check("repos").status is Status.SKIP


def strip(request: Request, forward: Answer) -> Response:
    request.headers.pop("authorization", None)
    return forward(request)


def test_a_header_that_never_arrives_is_the_gateway_s_fault(meet: Meet) -> None:
    def change(setup: Setup) -> None:
        setup.gateway = strip

    met = meet(change)
    assert met.problems == ["http-authorization-stripped"]
    assert met.report.problems[0].evidence["heuristic"] is True
    assert met.report.problems[0].owner == "server-admin"


def test_on_an_old_version_a_lost_header_looks_like_an_ignored_token(meet: Meet) -> None:
    def change(setup: Setup) -> None:
        setup.gateway = strip

    met = meet(change, version="8.19.3")
    assert met.problems[0] == "auth-anonymous-fallback"
    assert "removes the Authorization header" in met.report.problems[0].remedy


def test_plain_http_as_typed_gets_the_secret_and_a_warning(meet: Meet) -> None:
    met = meet(tls=False)
    assert met.problems == ["auth-token-in-cleartext"]
    assert met.report.verdict is Status.WARN
    assert len(met.credentialed) > 1
    assert meet(tls=False, credential="anonymous").problems == []


def test_a_redirect_to_https_does_not_get_the_secret(meet: Meet) -> None:
    met = meet("http-redirects-to-https")
    assert met.problems == ["http-redirects-to-https"]
    assert met.codes("auth") == ["auth-secret-kept"]
    assert f"https://{HOST}" in met.check("auth").findings[0].message
    assert met.credentialed == []


def test_an_unverified_server_does_not_get_the_secret(meet: Meet) -> None:
    met = meet("tls-issuer-unknown", options={"insecure": True})
    assert met.problems == ["tls-issuer-unknown"]
    assert met.codes("auth") == ["auth-secret-kept-unverified"]
    assert met.codes("repos") == ["repos-needs-token"]  # it goes on, anonymously
    assert met.credentialed == []


@pytest.mark.parametrize(
    ("status", "body", "headers", "code"),
    [
        (401, "<title>No</title>", {"WWW-Authenticate": "Bearer"}, "http-gateway-auth"),
        (302, "", {"Location": "https://sso.example.com/login"}, "http-sso-login"),
        (302, "", {"Location": "https://www.example.com/"}, "auth-unclear"),
        (200, "<title>Acme</title>", {}, "auth-unclear"),
        (400, "<h1>Request Header Or Cookie Too Large</h1>", {}, "http-header-too-large"),
        (403, "Your support ID is: 42", {}, "http-waf-blocked"),
    ],
)
def test_an_answer_that_is_not_bitbucket_s_says_nothing_about_the_secret(
    meet: Meet, status: int, body: str, headers: dict[str, str], code: str
) -> None:
    met = meet(answer_with(status, body, **headers))
    assert met.problems == [code]
    assert met.report.problems[0].evidence["status"] == status


def test_a_gateway_that_lets_no_secret_pass(meet: Meet) -> None:
    met = meet(answer_with(403, "<html><title>Forbidden</title></html>"))
    assert met.problems == ["http-waf-blocked"]
    assert "(HTTP 403, Forbidden)" in met.report.problems[0].message


def test_a_user_directory_that_is_down_is_no_fault_of_the_secret(meet: Meet) -> None:
    body = (
        '{"errors":[{"context":null,"message":"The directory cannot be reached","exceptionName":'
        '"com.atlassian.bitbucket.auth.AuthenticationSystemException"}]}'
    )
    met = meet(answer_with(401, body))
    assert met.problems == ["server-error"]
    assert "directory cannot be reached" in met.report.problems[0].message


def test_the_version_s_resource_may_be_missing(meet: Meet) -> None:
    met = meet("version-unknown")
    assert met.codes("auth") == ["auth-ok"]


def test_a_used_up_rate_limit_is_told_with_the_time_to_wait(meet: Meet) -> None:
    met = meet("rate-limited")
    assert met.problems == ["rate-limited"]
    assert met.report.problems[0].evidence["retry_after"] == 120
    assert len(met.credentialed) == 1


def test_a_short_pause_is_kept_and_told(meet: Meet) -> None:
    numbers = count(1)

    def gateway(request: Request, forward: Answer) -> Response:
        if request.authorization == "none" or next(numbers) != 2:
            return forward(request)
        headers = [("X-AREQUESTID", "@1VT0CNLx1x1x0"), ("Retry-After", "1")]
        return Response(429, headers, b'{"errors":[{"message":"rate limited"}]}')

    def change(setup: Setup) -> None:
        setup.gateway = gateway

    began = time.monotonic()
    met = meet(change)
    assert met.problems == ["rate-limit-near"]
    assert "after a pause of 1 s" in met.report.problems[0].message
    assert time.monotonic() - began > 1
    who = {met.check(name).status for name in ("repos", "permission")}  # who was the second to ask
    assert who == {Status.OK, Status.WARN}


@pytest.mark.parametrize(
    ("limit", "remaining", "problems"),
    [("60", "2", ["rate-limit-near"]), ("60", "30", []), (None, "1", ["rate-limit-near"])],
)
def test_an_announced_limit_is_told_when_it_is_near(
    meet: Meet, limit: str | None, remaining: str, problems: list[str]
) -> None:
    def gateway(request: Request, forward: Answer) -> Response:
        response = forward(request)
        response.headers.append(("X-RateLimit-Remaining", remaining))
        response.headers += [("X-RateLimit-Limit", limit)] if limit else []
        return response

    def change(setup: Setup) -> None:
        setup.gateway = gateway

    assert meet(change).problems == problems
