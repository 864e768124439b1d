"""Checks `cloud-permission`, `cloud-scopes` and `cloud-git`: what may be done, without doing it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from diag import profile
from diag.model import Status
from diag.simulator.cloud_data import API, APPCIRCLE_API_TOKEN, TEAM
from diag.simulator.scenario import Answer, Setup
from diag.simulator.server import Request, Response
from tests.checks.cloud import ask
from tests.checks.conftest import Meet
from tests.checks.test_cloud_repository import refusing

HOOKS = f"/2.0/repositories/{TEAM}/app/hooks"


def rows(met: Any, code: str) -> dict[str, Any]:
    """The table of needs in the finding of this code, by need."""
    finding = next(one for one in met.check("cloud-scopes").findings if one.code == code)
    return {row["need"]: row for row in finding.evidence["needs"]}


class TestPermission:
    """For webhooks it takes an administrator; that is asked, the rest is deduced."""

    def test_an_administrator(self, meet: Meet) -> None:
        met = ask(meet)
        (finding,) = met.check("cloud-permission").findings
        assert "administers" in finding.message
        assert "deduced" in finding.message
        assert finding.evidence["deduced"] == ["webhook:write", "webhook:delete"]

    @pytest.mark.parametrize("credential", ["repository-token", "workspace-token"])
    def test_a_token_of_a_place_has_no_role(self, meet: Meet, credential: str) -> None:
        met = ask(meet, credential=credential)
        (finding,) = met.check("cloud-permission").findings
        assert finding.evidence["administers"] is None
        assert "role=admin" not in {request.query for request in met.requests}

    @pytest.mark.parametrize("credential", ["api-token-writer", "api-token-reader"])
    def test_somebody_else(self, meet: Meet, credential: str) -> None:
        met = ask(meet, credential=credential)
        assert met.problems == ["perm-admin-missing"]
        problem = met.problem("perm-admin-missing")
        assert problem.owner == "project-admin"
        assert "Repository permissions" in problem.remedy

    def test_neither_role_nor_scope(self, meet: Meet) -> None:
        scopes = [scope for scope in APPCIRCLE_API_TOKEN if "webhook" not in scope]
        met = ask(meet, credential="api-token-writer", scopes=scopes)
        assert met.problems == ["cloud-scope-missing", "perm-admin-missing"]

    def test_nobody_needs_webhooks_later(self, meet: Meet) -> None:
        met = ask(meet, stage="steady", credential="api-token-steady")
        assert met.problems == []
        assert met.codes("cloud-permission") == ["cloud-permission-not-needed"]
        assert HOOKS not in {request.path for request in met.requests}

    def test_a_refusal_without_a_reason(self, meet: Meet) -> None:
        """The role is there, the scope too: it cannot be told."""
        met = ask(meet, lambda setup: refusing(setup, "/hooks"))
        assert met.problems == ["cloud-permission-unclear"]
        assert met.report.verdict is Status.UNKNOWN


class TestScopes:
    """Needed against granted, in the words of the credential in use."""

    def test_the_table(self, meet: Meet) -> None:
        table = rows(ask(meet, credential="oauth-token"), "cloud-scopes-ok")
        assert table["repository:read"]["by"] == ["project"]
        assert table["repository:read"]["seen"] is True
        assert table["webhook:delete"]["by"] == ["webhook"]
        assert table["webhook:delete"]["seen"] is False
        assert all(row["state"] == "granted" for row in table.values())

    def test_what_is_missing_in_both_vocabularies(self, meet: Meet) -> None:
        granular = rows(ask(meet, credential="api-token-missing-scope"), "cloud-scope-missing")
        assert granular["webhook:write"]["missing"] == [
            "read:webhook:bitbucket",
            "write:webhook:bitbucket",
        ]
        legacy = rows(ask(meet, credential="oauth-token-missing-scope"), "cloud-scope-missing")
        assert legacy["webhook:write"]["missing"] == ["webhook"]
        assert legacy["pullrequest:read"]["by"] == ["pullrequest"]

    def test_how_to_add_it_depends_on_the_kind(self, meet: Meet) -> None:
        remedies = {
            kind: ask(meet, credential=f"{kind}-missing-scope")
            .problem("cloud-scope-missing")
            .remedy
            for kind in ("api-token", "repository-token", "oauth-token")
        }
        assert (
            "Make a new API token with these scopes: read:repository:bitbucket"
            in remedies["api-token"]
        )
        assert "delete:webhook:bitbucket" in remedies["api-token"]
        assert "Make a new access token with webhook" in remedies["repository-token"]
        assert "OAuth consumer" in remedies["oauth-token"]

    def test_a_refusal_counts_for_more_than_the_header(self, meet: Meet) -> None:
        """The header says that all is granted, the 403 says what is not."""
        detail = {"required": "webhook, pullrequest", "granted": ["pullrequest"]}
        met = ask(meet, answering(HOOKS, 403, detail), credential="repository-token")
        assert met.problems == ["cloud-scope-missing"]
        assert met.problem("cloud-scope-missing").evidence["missing"] == ["webhook"]

    def test_what_was_allowed_counts_for_more_than_the_header(self, meet: Meet) -> None:
        def change(setup: Setup) -> None:
            def gateway(request: Request, forward: Answer) -> Response:
                response = forward(request)
                response.headers = [
                    (name, text.replace("pullrequest, ", ""))
                    if name == "X-OAuth-Scopes"
                    else (name, text)
                    for name, text in response.headers
                ]
                return response

            setup.gateway = gateway

        met = ask(meet, change, credential="repository-token")
        assert met.problems == []
        assert rows(met, "cloud-scopes-ok")["pullrequest:read"]["by"] == []

    def test_more_than_is_needed_is_no_matter_at_setup(self, meet: Meet) -> None:
        met = ask(meet, credential="api-token-broad")
        assert met.problems == []
        more = met.check("cloud-scopes").findings[1]
        assert more.code == "cloud-scopes-more"
        assert "admin:repository:bitbucket" in more.message

    @pytest.mark.parametrize(
        ("credential", "broad"),
        [
            ("api-token", ["write:webhook:bitbucket", "delete:webhook:bitbucket"]),
            ("repository-token", ["webhook"]),
            ("repository-token-broad", ["webhook", "repository:admin"]),
        ],
    )
    def test_least_privilege_later(self, meet: Meet, credential: str, broad: list[str]) -> None:
        met = ask(meet, credential=credential, stage="steady")
        assert met.problems == ["perm-too-broad"]
        assert met.problem("perm-too-broad").evidence["broad"] == broad
        assert met.report.verdict is Status.WARN

    def test_a_product_that_does_not_say(self, meet: Meet) -> None:
        met = ask(meet, options={"profile": profile.load("codemagic")})
        assert met.problems == []
        assert met.codes("cloud-scopes") == ["cloud-scopes-unknown"]

    @pytest.mark.parametrize(
        ("name", "credential", "missing"),
        [
            ("jenkins", "api-token", None),
            ("jenkins", "repository-token", None),
            ("jenkins", "oauth-consumer", None),
            ("sonarqube", "oauth-consumer", None),
            ("sonarqube", "repository-token", None),
            ("snyk", "oauth-token", ["account", "pullrequest:write", "repository:write"]),
            ("circleci", "oauth-token", ["account:write", "repository:admin"]),
        ],
    )
    def test_other_products(
        self, meet: Meet, name: str, credential: str, missing: list[str] | None
    ) -> None:
        met = ask(meet, credential=credential, options={"profile": profile.load(name)})
        assert met.problems == (["cloud-scope-missing"] if missing else [])
        if missing:
            told = met.problem("cloud-scope-missing").evidence["missing"]
            assert isinstance(told, list)
            assert sorted(told) == missing


def answering(path: str, status: int, detail: Any) -> Any:
    """Bitbucket refuses one resource, for want of scopes."""
    error = {"message": "Your credentials lack one or more required privilege scopes."}
    body = json.dumps({"type": "error", "error": {**error, "detail": detail}}).encode()

    def change(setup: Setup) -> None:
        def gateway(request: Request, forward: Answer) -> Response:
            if request.host == API and request.path == path:
                kind = ("Content-Type", "application/json")
                return Response(status, [kind, ("Server", "AtlassianEdge")], body)
            return forward(request)

        setup.gateway = gateway

    return change


class TestGit:
    """Git is at another host, where the secret does not go."""

    @pytest.mark.parametrize(
        ("credential", "user"),
        [("api-token", "x-bitbucket-api-token-auth"), ("repository-token", "x-token-auth")],
    )
    def test_a_private_repository(self, meet: Meet, credential: str, user: str) -> None:
        met = ask(meet, credential=credential)
        (finding,) = met.check("cloud-git").findings
        assert finding.code == "cloud-git-deduced"
        assert f"user name is {user}, not the e-mail" in finding.message

    def test_without_the_right_to_read(self, meet: Meet) -> None:
        scopes = [s for s in APPCIRCLE_API_TOKEN if s != "read:repository:bitbucket"]
        met = ask(meet, scopes=scopes)
        assert met.codes("cloud-git") == ["cloud-git-not-read"]

    def test_somebody_in_the_place_of_git(self, meet: Meet) -> None:
        def change(setup: Setup) -> None:
            def gateway(request: Request, forward: Answer) -> Response:
                if request.path.endswith("/info/refs"):
                    return Response(200, [("Content-Type", "text/html")], b"<html>blocked</html>")
                return forward(request)

            setup.gateway = gateway

        met = ask(meet, change)
        assert met.problems == ["cloud-git-unclear"]
        assert "blocked" not in met.report.summary
