"""What a 401 or 403 of Bitbucket means."""

from __future__ import annotations

import json

import pytest

from diag.bitbucket import datacenter
from diag.net.http import Answer, Headers

PREFIX = "com.atlassian.bitbucket."


def answer(
    status: int, body: object = None, *headers: tuple[str, str], text: str | None = None
) -> Answer:
    data = json.dumps(body) if text is None else text
    return Answer("https://h/x", status=status, headers=Headers(headers), body=data.encode())


def refused(
    exception: str | None, message: str = "m", status: int = 401, user: str | None = None
) -> Answer:
    body = {"errors": [{"context": None, "message": message, "exceptionName": exception}]}
    return answer(status, body, *([("X-AUSERNAME", user)] if user else []))


@pytest.mark.parametrize(
    ("given", "meaning"),
    [
        (refused(PREFIX + "auth.IncorrectPasswordAuthenticationException"), "rejected"),
        (refused(PREFIX + "auth.ExpiredAuthenticationException"), "rejected"),
        (refused(PREFIX + "auth.AuthenticationException"), "rejected"),
        (refused("com.atlassian.stash.exception.AuthenticationException"), "rejected"),
        (refused(PREFIX + "auth.CaptchaRequiredAuthenticationException"), "captcha"),
        (refused(PREFIX + "auth.CaptchaRequiredAuthenticationException", status=403), "captcha"),
        (refused(PREFIX + "auth.NoAccessAuthenticationException"), "unlicensed"),
        (refused(PREFIX + "auth.InactiveUserAuthenticationException"), "inactive"),
        (refused(PREFIX + "auth.ExpiredPasswordAuthenticationException"), "password-expired"),
        (refused(PREFIX + "auth.AuthenticationSystemException"), "directory"),
        (
            refused(
                "com.atlassian.plugins.rest.api.security.exception.AuthenticationRequiredException"
            ),
            "not-sent",
        ),
        (refused(PREFIX + "AuthorisationException"), "nobody"),
        (refused(PREFIX + "AuthorisationException", user="jdoe"), "forbidden"),
        (refused(None, "XSRF check failed", 403), "unclear"),
        (
            answer(403, {"message": "Basic Authentication has been disabled on this instance."}),
            "basic-off",
        ),
        (answer(401, text="<html>401 Authorization Required</html>"), "foreign"),
        (answer(403, text=""), "foreign"),
        (answer(401, {"error": "invalid_token"}), "foreign"),
        (answer(200, {}), None),
        (answer(404, {}), None),
    ],
)
def test_a_refusal_is_told_by_its_body(given: Answer, meaning: str | None) -> None:
    assert datacenter.refusal(given) == meaning


def test_a_captcha_is_found_behind_another_error() -> None:
    errors = [
        {"message": "Authentication failed.", "exceptionName": None},
        {"message": "", "exceptionName": PREFIX + "auth.CaptchaRequiredAuthenticationException"},
    ]
    assert datacenter.refusal(answer(401, {"errors": errors})) == "captcha"
    header = ("X-Authentication-Denied-Reason", "CAPTCHA_CHALLENGE; login-url=https://h/login")
    assert datacenter.refusal(answer(401, {}, header)) == "captcha"


def test_the_user_is_named_url_encoded() -> None:
    assert datacenter.user_name(answer(200, {}, ("X-AUSERNAME", "ci%40example.com"))) == (
        "ci@example.com"
    )
    assert datacenter.user_name(answer(200, {})) is None


def test_the_realm_is_the_base_url() -> None:
    header = ("WWW-Authenticate", 'OAuth realm="http%3A%2F%2Flocalhost%3A7990%2Fbitbucket"')
    assert datacenter.realm(answer(401, {}, header)) == "http://localhost:7990/bitbucket"
    assert datacenter.realm(answer(401, {}, ("WWW-Authenticate", 'Basic realm="x"'))) is None
    assert datacenter.realm(answer(401, {})) is None


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("5", 5), ("0", 0), ("Wed, 21 Oct 2026 07:28:00 GMT", None), ("-1", None), ("9" * 40, None)],
)
def test_retry_after_is_read_in_seconds(text: str, seconds: int | None) -> None:
    assert datacenter.retry_after(answer(429, {}, ("Retry-After", text))) == seconds


def test_paths_are_quoted() -> None:
    assert datacenter.repository_path("~j doe", "a/b") == (
        "/rest/api/latest/projects/~j%20doe/repos/a%2Fb"
    )
    assert datacenter.git_path("~JDoe", "app") == "/scm/~jdoe/app.git/info/refs"
    assert datacenter.webhooks_path("MOB", None) == "/rest/api/latest/projects/MOB/webhooks"
