"""Each kind of credential, healthy and with one thing wrong, before and after setup."""

from __future__ import annotations

import pytest

from diag.model import Status
from diag.simulator.cloud_data import APPCIRCLE_API_TOKEN, APPCIRCLE_OAUTH
from tests.checks.cloud import ask
from tests.checks.conftest import Meet

TOKENS = ("repository-token", "project-token", "workspace-token")
KINDS = ("api-token", *TOKENS, "oauth-token", "oauth-consumer")
CONDITIONS = {  # of a credential: the ending of its name, and the root cause at either stage
    "healthy": ("", None, "perm-too-broad"),
    "missing scope": ("-missing-scope", "cloud-scope-missing", None),  # no webhooks: enough later
    "wrong scheme": ("-wrong-scheme", "cloud-auth-identity-wrong", "cloud-auth-identity-wrong"),
    "expired": ("-expired", "auth-token-invalid", "auth-token-invalid"),
    "revoked": ("-revoked", "auth-token-invalid", "auth-token-invalid"),
}
CASES = [
    pytest.param(f"{kind}{end}", stage, cause, id=f"{kind} {condition} {stage}")
    for kind in KINDS
    for condition, (end, at_setup, at_steady) in CONDITIONS.items()
    for stage, cause in (("setup", at_setup), ("steady", at_steady))
    if (kind, condition) != ("oauth-consumer", "expired")  # consumers do not expire
]
OTHER = {  # of another resource: what belongs to a place is told apart from what a person may see
    **dict.fromkeys((*TOKENS, "oauth-consumer"), "cloud-token-other-resource"),
    **dict.fromkeys(("api-token", "oauth-token"), "perm-repo-not-visible"),
}


@pytest.mark.parametrize(("credential", "stage", "cause"), CASES)
def test_a_credential(meet: Meet, credential: str, stage: str, cause: str | None) -> None:
    met = ask(meet, credential=credential, stage=stage)
    assert met.report.root_cause == cause, met.problems
    if cause is None:
        assert met.report.verdict is Status.OK
    if cause in {"cloud-auth-identity-wrong", "auth-token-invalid"}:
        assert len(met.credentialed) <= 1, "told by one request at most"


@pytest.mark.parametrize("stage", ["setup", "steady"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_credential_of_another_resource(meet: Meet, kind: str, stage: str) -> None:
    met = ask(meet, credential=f"{kind}-other", stage=stage)
    assert met.report.root_cause == OTHER[kind], met.problems


@pytest.mark.parametrize(
    ("credential", "cause", "requests"),
    [
        ("api-token-username", "cloud-auth-identity-wrong", 1),
        ("api-token-unscoped", "auth-token-invalid", 1),
        ("account-password", "auth-token-invalid", 1),
        ("oauth-consumer-public", "cloud-auth-identity-wrong", 1),
        ("oauth-consumer-no-callback", "cloud-auth-identity-wrong", 1),
        ("oauth-consumer-wrong-secret", "auth-token-invalid", 1),
        ("app-password", "cloud-app-password-removed", 0),
        ("app-password-email", "cloud-app-password-removed", 0),
        ("datacenter-token", "input-token-wrong-product", 0),
    ],
)
def test_a_credential_that_is_none(meet: Meet, credential: str, cause: str, requests: int) -> None:
    met = ask(meet, credential=credential)
    assert met.problems == [cause]
    assert len(met.credentialed) == requests


@pytest.mark.parametrize(
    ("credential", "cause"),
    [
        ("api-token-writer", "perm-admin-missing"),
        ("api-token-reader", "perm-admin-missing"),
        ("oauth-token-writer", "perm-admin-missing"),
        ("api-token-read-user", None),
        ("api-token-broad", None),
        ("oauth-token-account", None),
        ("anonymous", None),
    ],
)
def test_a_credential_that_is_accepted(meet: Meet, credential: str, cause: str | None) -> None:
    met = ask(meet, credential=credential)
    assert met.problems == ([cause] if cause else [])


@pytest.mark.parametrize(
    ("credential", "scopes"), [("api-token", APPCIRCLE_API_TOKEN), ("oauth-token", APPCIRCLE_OAUTH)]
)
def test_what_appcircle_documents_is_enough(
    meet: Meet, credential: str, scopes: tuple[str, ...]
) -> None:
    """Neither may read the user: the 403 to that is no failure."""
    met = ask(meet, credential=credential, scopes=scopes)
    assert met.report.verdict is Status.OK
    assert met.problems == []
    statuses = {request.path: request.status for request in met.requests}
    assert statuses["/2.0/user"] == 403
    assert met.codes("cloud-scopes")[0] == "cloud-scopes-ok"
    assert met.codes("cloud-permission") == ["cloud-permission-ok"]


@pytest.mark.parametrize(
    ("credential", "lacking", "told"),
    [
        ("api-token", "write:webhook:bitbucket", "write:webhook:bitbucket"),
        ("api-token", "read:repository:bitbucket", "read:repository:bitbucket"),
        ("api-token", "read:pullrequest:bitbucket", "read:pullrequest:bitbucket"),
        ("api-token", "read:project:bitbucket", "read:project:bitbucket"),
        ("api-token", "read:workspace:bitbucket", "read:workspace:bitbucket"),
        ("api-token", "read:account", "read:user:bitbucket"),  # documented, read:account is not
        ("oauth-token", "pullrequest", "pullrequest"),
        ("oauth-token", "webhook", "webhook"),
        ("oauth-token", "team", "team"),
        ("oauth-token", "email", "email"),
    ],
)
def test_the_scope_to_add_is_named(meet: Meet, credential: str, lacking: str, told: str) -> None:
    everything = APPCIRCLE_API_TOKEN if credential == "api-token" else APPCIRCLE_OAUTH
    scopes = [scope for scope in everything if scope != lacking]
    met = ask(meet, credential=credential, scopes=scopes)
    assert met.problems == ["cloud-scope-missing"]
    problem = met.problem("cloud-scope-missing")
    assert problem.evidence["missing"] == [told]
    assert told in problem.remedy


@pytest.mark.parametrize(
    "url",
    [
        "git@bitbucket.org:example-team/app.git",
        "ssh://git@altssh.bitbucket.org:443/example-team/app.git",
        "https://api.bitbucket.org/2.0/repositories/example-team/app",
        "https://bitbucket.org/example-team/app/src/main/README.md",
    ],
)
def test_every_way_to_name_the_repository(meet: Meet, url: str) -> None:
    met = ask(meet, options={"url": url})
    assert met.report.target.base_url == "https://api.bitbucket.org"
    assert met.codes("cloud-permission") == ["cloud-permission-ok"]
    assert set(met.problems) <= {"input-url-has-page-path", "input-url-has-api-path"}
