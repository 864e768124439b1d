"""Check `cloud-auth`: what a credential is taken for, and why one is refused."""

from __future__ import annotations

import base64
import json

import pytest

from diag.simulator import CLOUD_CREDENTIALS
from diag.simulator.cloud_data import API, BOT, CONSUMERS, SITE, TOKEN_USER
from diag.simulator.scenario import Answer, Setup
from diag.simulator.server import Request, Response
from diag.target import TOKEN_URL
from tests.checks.cloud import ask
from tests.checks.conftest import Meet
from tests.checks.test_cloud_http import instead

USER = "/2.0/user"


@pytest.mark.parametrize(
    ("credential", "kind", "evidence"),
    [
        ("api-token", "an API token", "api_token"),
        ("api-token-read-user", "an API token of Ci-Bot", "api_token"),
        ("repository-token", "a repository access token", "repo_access_token"),
        ("project-token", "a project access token", "project_access_token"),
        ("workspace-token", "a workspace access token", "workspace_access_token"),
        ("oauth-token-account", "an OAuth access token of Ci-Bot", "oauth2"),
    ],
)
def test_what_it_is(meet: Meet, credential: str, kind: str, evidence: str) -> None:
    finding = ask(meet, credential=credential).check("cloud-auth").findings[0]
    assert finding.code == "cloud-auth-ok"
    assert finding.message.endswith(f": {kind}")
    assert finding.evidence["credential_type"] == evidence
    assert finding.evidence["scopes"]


@pytest.mark.parametrize(
    ("credential", "said"),
    [
        ("api-token-wrong-scheme", "looks like an API token, and was sent alone"),
        ("api-token-username", "no user name"),
        ("repository-token-wrong-scheme", f"{TOKEN_USER} is for git"),
        ("oauth-consumer-wrong-scheme", "was sent without its key"),
        ("oauth-consumer-public", "marked as public"),
        ("oauth-consumer-no-callback", "no callback URL"),
    ],
)
def test_the_wrong_way(meet: Meet, credential: str, said: str) -> None:
    problem = ask(meet, credential=credential).problem("cloud-auth-identity-wrong")
    assert said in problem.message
    assert problem.owner == "you"


@pytest.mark.parametrize(
    ("user", "said"),
    [("jdoe", "it looks like an access token"), (BOT.email, "it looks like an access token")],
)
def test_an_access_token_with_a_name(meet: Meet, user: str, said: str) -> None:
    met = ask(meet, credential="repository-token", options={"user": user})
    assert met.problems == ["cloud-auth-identity-wrong"]
    assert said in met.problem("cloud-auth-identity-wrong").message


def test_a_password_without_a_name(meet: Meet) -> None:
    met = ask(meet, options={"token": "hunter2hunter2", "user": None})
    assert met.problems == ["cloud-auth-identity-wrong"]


@pytest.mark.parametrize(
    ("credential", "said"),
    [
        ("oauth-token-expired", "has expired"),
        ("account-password", "password of an account"),
        ("api-token-unscoped", "made without scopes"),
        ("repository-token-revoked", "wrong, revoked or expired"),
        ("oauth-consumer-wrong-secret", "key or secret is wrong"),
    ],
)
def test_a_credential_that_is_no_good(meet: Meet, credential: str, said: str) -> None:
    problem = ask(meet, credential=credential).problem("auth-token-invalid")
    assert said in problem.message
    assert "rest/api" not in " ".join((problem.remedy, *problem.reproduce))


class TestAppPasswords:
    """Dead since July 2026: they are told by their form, and not sent."""

    @pytest.mark.parametrize("name", ["app-password", "app-password-email"])
    def test_by_how_it_begins(self, meet: Meet, name: str) -> None:
        met = ask(meet, credential=name)
        assert met.credentialed == []
        problem = met.problem("cloud-app-password-removed")
        assert "id.atlassian.com" in problem.remedy
        assert "--user" in problem.remedy

    def test_by_its_length(self, meet: Meet) -> None:
        met = ask(meet, options={"token": "x" * 18 + "Y" * 18, "user": "jdoe"})
        assert met.problems == ["cloud-app-password-removed"]
        assert met.credentialed == []


class TestConsumer:
    """The one POST: key and secret for a token, which then signs in."""

    def test_the_grant(self, meet: Meet) -> None:
        met = ask(meet, credential="oauth-consumer")
        assert met.problems == []
        assert len(met.requests) == 10
        (post,) = [request for request in met.requests if request.method == "POST"]
        assert f"https://{post.host}{post.path}" == TOKEN_URL
        assert post.authorization == "basic"
        later = [one for one in met.credentialed if one is not post]
        assert {(one.host, one.authorization) for one in later} == {(API, "bearer")}
        message = met.check("cloud-auth").findings[0].message
        assert "by one POST" in message
        assert CONSUMERS["oauth-consumer"].key in message

    def test_a_curl_line_takes_the_token_and_not_the_secret(self, meet: Meet) -> None:
        met = ask(meet, credential="oauth-consumer-missing-scope")
        (line,) = met.problem("cloud-scope-missing").reproduce
        assert "Bearer $ACCESS_TOKEN" in line
        assert "$BITBUCKET_TOKEN" not in line

    def test_the_grant_is_not_tried_again(self, meet: Meet) -> None:
        def change(setup: Setup) -> None:
            def gateway(request: Request, forward: Answer) -> Response:
                if request.host == SITE and request.method == "POST":
                    return Response(503, [("Server", "AtlassianEdge")], b"<html>")
                return forward(request)

            setup.gateway = gateway

        met = ask(meet, change, credential="oauth-consumer")
        assert met.problems == ["server-error"]
        assert len(met.credentialed) == 1

    def test_no_grant_for_anything_else(self, meet: Meet) -> None:
        """A name without "@" is no key, a password no consumer's secret."""
        secret = CLOUD_CREDENTIALS["oauth-consumer"].secret
        met = ask(meet, credential="oauth-consumer", options={"token": secret, "user": "jdoe"})
        assert met.problems == ["cloud-auth-identity-wrong"]
        assert {request.method for request in met.requests} == {"GET"}

    def test_not_over_an_unverified_connection(self, meet: Meet) -> None:
        met = ask(meet, credential="oauth-consumer", options={"ca_file": None, "insecure": True})
        assert met.credentialed == []
        assert met.codes("cloud-auth") == ["cloud-auth-secret-kept"]


def test_no_secret_over_an_unverified_connection(meet: Meet) -> None:
    met = ask(meet, options={"ca_file": None, "insecure": True})
    assert met.credentialed == []
    assert met.codes("cloud-auth") == ["cloud-auth-secret-kept"]


def test_a_login_of_a_proxy_is_none_of_bitbucket(meet: Meet) -> None:
    login = Response(401, [("WWW-Authenticate", 'Negotiate realm="proxy"')], b"<html>no</html>")
    met = ask(meet, instead(lambda: login, USER))
    assert met.problems == ["http-gateway-auth"]
    assert len(met.credentialed) == 1


def test_an_answer_that_does_not_tell(meet: Meet) -> None:
    bare = Response(403, [("Server", "AtlassianEdge"), ("Content-Type", "text/html")], b"<html>no")
    met = ask(meet, instead(lambda: bare, USER))
    assert met.problems == ["cloud-auth-unclear"]
    assert "an answer of type text/html, which is not shown" in met.report.summary


def test_a_limit_that_is_near(meet: Meet) -> None:
    met = ask(meet, "rate-limit-near")
    assert met.problems == ["rate-limit-near"]
    assert "20 % of 1000" in met.problem("rate-limit-near").message


@pytest.mark.parametrize("credential", ["api-token", "repository-token", "oauth-consumer"])
def test_a_server_that_repeats_the_secret(meet: Meet, credential: str) -> None:
    """`ask` sees to it that no report has it."""

    def change(setup: Setup) -> None:
        def gateway(request: Request, forward: Answer) -> Response:
            if request.host != API or request.authorization == "none":
                return forward(request)
            scheme, _, value = request.headers["authorization"].partition(" ")
            said = base64.b64decode(value).decode() if scheme == "Basic" else value
            body = {"type": "error", "error": {"message": said, "detail": f"{scheme} {value}"}}
            heard = [("X-OAuth-Scopes", said), ("X-Credential-Type", said), ("X-B3-TraceId", said)]
            kind = ("Content-Type", f"application/json; {said}")
            status = 403 if request.path == USER else 418
            return Response(status, [kind, *heard], json.dumps(body).encode())

        setup.gateway = gateway

    met = ask(meet, change, credential=credential)
    assert met.problems == ["cloud-scope-missing", "cloud-repository-unclear"]
    assert "***" in met.problem("cloud-repository-unclear").message
