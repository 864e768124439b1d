"""Check `cloud-repository`: what is not there, told apart as far as Bitbucket Cloud tells it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from diag.model import Status
from diag.simulator.cloud_data import API, PARTNER, SITE, TEAM, CloudRepository
from diag.simulator.scenario import Answer, Setup
from diag.simulator.server import Request, Response
from tests.checks.cloud import ask, changed
from tests.checks.conftest import Meet

REPOSITORY = f"/2.0/repositories/{TEAM}/app"


def wanting(full_name: str) -> dict[str, Any]:
    return {"url": f"https://{SITE}/{full_name}"}


def test_it_is_there(meet: Meet) -> None:
    met = ask(meet)
    (finding,) = met.check("cloud-repository").findings
    assert finding.message == (
        f"{TEAM}/app is there (private); it gives branches, commits, pullrequests"
    )


def test_only_what_the_product_reads(meet: Meet) -> None:
    from diag import profile

    met = ask(meet, options={"profile": profile.load("circleci")})
    assert met.problems == ["cloud-scope-missing"]  # it administers, and adds keys
    assert REPOSITORY + "/pullrequests" not in {request.path for request in met.requests}


class TestMissing:
    """A 404 may mean many things."""

    @pytest.mark.parametrize("name", ["ap", "ledger", "nothing-like-it"])
    def test_for_a_person(self, meet: Meet, name: str) -> None:
        met = ask(meet, options=wanting(f"{TEAM}/{name}"))
        assert met.problems == ["perm-repo-not-visible"]
        problem = met.problem("perm-repo-not-visible")
        assert "missing, renamed or hidden" in problem.message
        near = f"the most similar one is {TEAM}/app" if name == "ap" else "none is similar"
        assert near in problem.remedy
        assert met.check("cloud-permission").status is Status.SKIP

    def test_a_workspace_that_does_not_exist(self, meet: Meet) -> None:
        met = ask(meet, "cloud-workspace-not-found")
        assert met.problems == ["cloud-workspace-not-found"]
        assert "exmaple-team" in met.problem("cloud-workspace-not-found").message

    def test_a_private_workspace_of_others_looks_the_same(self, meet: Meet) -> None:
        met = ask(meet, options=wanting(f"{PARTNER}/portal"))
        assert met.problems == ["cloud-workspace-not-found"]
        assert "at least not for" in met.problem("cloud-workspace-not-found").message

    def test_without_the_right_to_ask_for_the_workspace(self, meet: Meet) -> None:
        scopes = ["read:repository:bitbucket"]
        met = ask(meet, options=wanting("exmaple-team/app"), scopes=scopes)
        assert met.report.root_cause == "cloud-workspace-not-found"

    def test_told_in_a_page(self, meet: Meet) -> None:
        met = ask(meet, "perm-repo-not-visible/html")
        assert met.problems == ["perm-repo-not-visible"]
        assert "which is not shown" in json.dumps(met.report.to_json())

    def test_nobody_in_particular(self, meet: Meet) -> None:
        met = ask(meet, credential="anonymous")
        assert met.codes("cloud-repository") == ["cloud-repository-needs-token"]
        assert met.check("cloud-repository").status is Status.SKIP


class TestTokenOfAnotherPlace:
    """What belongs to a place sees nothing else."""

    @pytest.mark.parametrize(
        ("credential", "sees"),
        [
            ("repository-token-other", f"a repository it gives access to {TEAM}/tooling"),
            ("project-token-other", f"a project it gives access to {TEAM}/tooling"),
            (
                "workspace-token-other",
                f"a workspace it gives access to nothing in workspace {TEAM}",
            ),
            ("oauth-consumer-other", f"nothing in workspace {TEAM}"),
        ],
    )
    def test_it_is_said_what_it_is_for(self, meet: Meet, credential: str, sees: str) -> None:
        met = ask(meet, credential=credential)
        assert met.problems == ["cloud-token-other-resource"]
        assert sees in met.problem("cloud-token-other-resource").message

    @pytest.mark.parametrize("credential", ["project-token", "workspace-token", "oauth-consumer"])
    def test_a_slip_of_the_pen_is_none(self, meet: Meet, credential: str) -> None:
        met = ask(meet, credential=credential, options=wanting(f"{TEAM}/ap"))
        assert met.problems == ["perm-repo-not-visible"]

    def test_a_repository_token_with_another_name(self, meet: Meet) -> None:
        met = ask(meet, credential="repository-token", options=wanting(f"{TEAM}/ap"))
        assert met.problems == ["cloud-token-other-resource"]
        remedy = met.problem("cloud-token-other-resource").remedy
        assert f"the most similar one is {TEAM}/app" in remedy


class TestAllowlist:
    """The list of allowed addresses guards content, not metadata."""

    @pytest.mark.parametrize("form", ["", "/hidden"])
    def test_suspected(self, meet: Meet, form: str) -> None:
        met = ask(meet, f"cloud-ip-not-allowlisted{form}")
        assert met.problems == ["cloud-ip-not-allowlisted"]
        problem = met.problem("cloud-ip-not-allowlisted")
        assert problem.evidence["heuristic"] is True
        assert "suspected" in problem.message
        assert problem.owner == "project-admin"

    def test_said(self, meet: Meet) -> None:
        met = ask(meet, "cloud-ip-not-allowlisted/sentence")
        assert met.problems == ["cloud-ip-not-allowlisted"]
        problem = met.problem("cloud-ip-not-allowlisted")
        assert "heuristic" not in problem.evidence
        assert "suspected" not in problem.message

    def test_never_of_a_public_repository(self, meet: Meet) -> None:
        public = (CloudRepository(TEAM, "app", "MOB", public=True),)

        def change(setup: Setup) -> None:
            setup.cloud.repositories = public
            refusing(setup, "/refs/branches", "/commits")

        assert ask(meet, change).problems == ["cloud-repository-unclear"]

    def test_not_when_only_commits_are_missing(self, meet: Meet) -> None:
        """An empty repository has no commits, but shows that it has no branches."""

        def change(setup: Setup) -> None:
            refusing(setup, "/commits", status=404)

        assert ask(meet, change).problems == []

    def test_not_when_one_thing_is_refused(self, meet: Meet) -> None:
        met = ask(meet, lambda setup: refusing(setup, "/pullrequests"))
        assert met.problems == ["cloud-repository-unclear"]


def refusing(setup: Setup, *ends: str, status: int = 403) -> None:
    """Bitbucket refuses some resources, and does not say why."""
    kind = ("Content-Type", "application/json")
    body = json.dumps({"type": "error", "error": {"message": "Forbidden"}}).encode()

    def gateway(request: Request, forward: Answer) -> Response:
        if request.host == API and request.path.endswith(ends):
            return Response(status, [kind, ("Server", "AtlassianEdge")], body)
        return forward(request)

    setup.gateway = gateway


@pytest.mark.parametrize("status", [404, 410])
def test_an_api_that_was_removed(meet: Meet, status: int) -> None:
    met = ask(meet, changed(removed=status))
    assert met.problems == ["cloud-api-removed"]
    assert "The token is all right" in met.problem("cloud-api-removed").remedy


def test_a_repository_with_a_new_name(meet: Meet) -> None:
    def change(setup: Setup) -> None:
        def gateway(request: Request, forward: Answer) -> Response:
            response = forward(request)
            if request.path == REPOSITORY:
                text = response.body.replace(b'"example-team/app"', b'"example-team/mobile"')
                response.body = text
                response.headers = [h for h in response.headers if h[0] != "Content-Length"]
            return response

        setup.gateway = gateway

    met = ask(meet, change)
    finding = met.check("cloud-repository").findings[0]
    assert finding.code == "cloud-repository-renamed"
    assert finding.message == "example-team/app is called example-team/mobile now"


class TestNoRepositoryWanted:
    """Then the workspace is looked at, or nothing."""

    def test_a_workspace(self, meet: Meet) -> None:
        met = ask(meet, options=wanting(TEAM))
        assert met.problems == []
        assert met.codes("cloud-repository") == ["cloud-workspace-ok", "cloud-repository-unnamed"]
        assert "3 repositories" in met.check("cloud-repository").findings[0].message
        assert met.codes("cloud-scopes")[0] == "cloud-scopes-ok"

    def test_a_large_workspace(self, meet: Meet) -> None:
        met = ask(meet, options=wanting(TEAM), repositories=30)
        assert "10 or more repositories" in met.check("cloud-repository").findings[0].message

    def test_a_workspace_that_does_not_exist(self, meet: Meet) -> None:
        met = ask(meet, options=wanting("exmaple-team"))
        assert met.problems == ["cloud-workspace-not-found"]

    def test_nothing(self, meet: Meet) -> None:
        met = ask(meet, options={"url": f"https://{SITE}"})
        assert met.problems == []
        assert met.codes("cloud-repository") == ["cloud-repository-unnamed"]
        assert met.check("cloud-repository").status is Status.SKIP


class TestPublic:
    """What is open to everybody can be read without a token."""

    def test_anonymously(self, meet: Meet) -> None:
        met = ask(meet, credential="anonymous", options=wanting(f"{TEAM}/docs"))
        assert met.problems == []
        assert met.codes("cloud-git") == ["cloud-git-ok"]
        assert met.codes("cloud-permission") == ["cloud-permission-anonymous"]
        assert met.codes("cloud-scopes") == ["cloud-scopes-anonymous"]
