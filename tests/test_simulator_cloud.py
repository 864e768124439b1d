"""The embedded Bitbucket Cloud answers as the real one does, and each fault is what it says."""

from __future__ import annotations

import base64
import datetime as dt
import re
import shutil
import socket
import ssl
import subprocess
from collections.abc import Iterator
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from diag.simulator import CLOUD_CREDENTIALS, CLOUD_FAULTS, FAULTS, Credential, Simulator
from diag.simulator.cloud_data import (
    APPCIRCLE_API_TOKEN,
    APPCIRCLE_OAUTH,
    CONSUMERS,
    GRANTS,
    api_token,
    embedded_token,
)

SITE, API, ALTSSH = "bitbucket.org", "api.bitbucket.org", "altssh.bitbucket.org"
APP = "/repositories/example-team/app"
MINE = "/user/workspaces/example-team/permissions/repositories"
TOKEN_PATH = "/site/oauth2/access_token"
REFS = "/info/refs?service=git-upload-pack"
CHALLENGE = 'Basic realm="Bitbucket.org HTTP"'
BAD_TOKEN = "Token is invalid, expired, or not supported for this endpoint."
LACKS_SCOPES = "Your credentials lack one or more required privilege scopes."
NO_ACCESS = "You may not have access to this repository or it no longer exists"
IP_BLOCKED = "To access this repository, an admin must whitelist your IP."
GOOD = ("api-token", "repository-token", "project-token", "workspace-token", "oauth-token")

# What one server, or what was typed in, can cause; in the order of the list of verdicts.
CODES = [
    *("input-token-wrong-product", "tls-interception", "http-block-page", "auth-token-invalid"),
    *("perm-repo-not-visible", "perm-admin-missing", "perm-too-broad", "git-ssh-unreachable"),
    *("cloud-app-password-removed", "cloud-scope-missing", "cloud-api-removed"),
    *("cloud-workspace-not-found", "cloud-ip-not-allowlisted", "cloud-api-host-blocked"),
    *("cloud-auth-identity-wrong", "cloud-token-other-resource", "cloud-incident"),
    *("rate-limited", "rate-limit-near"),
]


def authorization(credential: Credential) -> dict[str, str]:
    """The header that sends a credential."""
    if credential.secret is None:
        return {}
    if credential.user is None:
        return {"Authorization": f"Bearer {credential.secret}"}
    pair = base64.b64encode(f"{credential.user}:{credential.secret}".encode()).decode()
    return {"Authorization": f"Basic {pair}"}


def where(sim: Simulator, host: str, port: int = 443) -> tuple[str, int]:
    """Where the scenario leads a host and port."""
    rules = dict(rule.split(":127.0.0.1:") for rule in sim.scenario.connect_to)
    return "127.0.0.1", int(rules[f"{host}:{port}"])


def ask(
    sim: Simulator,
    url: str,
    credential: str | Credential | None = "api-token",
    *,
    method: str = "GET",
    headers: dict[str, str] | None = None,
    data: dict[str, str] | None = None,
) -> httpx.Response:
    """One request on a connection of its own; a path is one of the API, below /2.0."""
    if url.startswith("/"):
        url = f"https://{API}/2.0{url}"
    if not isinstance(credential, Credential):
        credential = CLOUD_CREDENTIALS[credential or "anonymous"]
    there = httpx.URL(url)
    address, port = where(sim, there.host)
    context = ssl.create_default_context(cadata=sim.ca_pem)
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    with httpx.Client(verify=context, trust_env=False, timeout=5) as client:
        return client.request(
            method,
            there.copy_with(host=address, port=port),
            headers={"Host": there.host, **authorization(credential), **(headers or {})},
            data=data,
            extensions={"sni_hostname": there.host},
        )


def git(
    sim: Simulator,
    user: str,
    credential: str,
    repository: str = "example-team/app",
    service: str = "git-upload-pack",
) -> httpx.Response:
    """The first request of a clone."""
    path = f"{repository}.git/info/refs?service={service}"
    pair = Credential(CLOUD_CREDENTIALS[credential].secret, user)
    return ask(sim, f"https://{SITE}/{path}", pair)


def grant(sim: Simulator, credential: str, **form: str) -> httpx.Response:
    data = {"grant_type": "client_credentials", **form}
    return ask(sim, f"https://{SITE}{TOKEN_PATH}", credential, method="POST", data=data)


def error(response: httpx.Response) -> dict[str, Any]:
    """What is within the envelope of errors."""
    assert response.json()["type"] == "error"
    inside: dict[str, Any] = response.json()["error"]
    return inside


def slugs(response: httpx.Response) -> list[str]:
    return [value["slug"] for value in response.json()["values"]]


@pytest.fixture(scope="module")
def healthy() -> Iterator[Simulator]:
    with Simulator(cloud=True) as sim:
        yield sim


# the scenario and the lists


def test_scenario_leads_the_hosts_of_bitbucket_to_loopback(healthy: Simulator) -> None:
    scenario = healthy.scenario
    assert scenario.url == "https://bitbucket.org/example-team/app"
    assert scenario.user == "ci-bot@example.com"
    assert (scenario.repo, scenario.environ, scenario.options) == (None, {}, {})
    rules = [rule.split(":") for rule in scenario.connect_to]
    places = {(host, int(port)) for host, port, _, _ in rules}
    assert {(SITE, 443), (API, 443), (SITE, 22), (ALTSSH, 443)} <= places
    assert {address for _, _, address, _ in rules} == {"127.0.0.1"}
    assert Path(scenario.ca_file or "").read_text(encoding="ascii") == healthy.ca_pem
    assert scenario.token
    assert scenario.token not in repr(scenario)


def test_faults_of_the_two_products_are_apart() -> None:
    assert list(dict.fromkeys(fault.code for fault in CLOUD_FAULTS.values())) == CODES
    assert not [name for name in FAULTS if name.startswith("cloud-") or "/" in name]
    for name, fault in CLOUD_FAULTS.items():
        assert fault.name == name
        assert fault.code in CLOUD_FAULTS  # every further form stands beside a first one
        assert fault.summary
    with pytest.raises(KeyError):
        Simulator("tls-expired", cloud=True)
    with pytest.raises(KeyError):
        Simulator("cloud-incident")


@pytest.mark.parametrize("name", CLOUD_CREDENTIALS)
def test_secrets_have_the_shape_of_real_ones(name: str) -> None:
    secret, user = CLOUD_CREDENTIALS[name].secret, CLOUD_CREDENTIALS[name].user
    shapes = {
        "api": r"ATATT3x[\w=-]{185}",
        "repository": r"ATCTT3x[\w=-]{185}",
        "project": r"ATCTT3x[\w=-]{185}",
        "workspace": r"ATCTT3x[\w=-]{185}",
        "oauth": r"\w{2501,}",
        "app": r"ATBB\w{32}",
        "datacenter": r"BBDC-.{44}",
    }
    kind = name.partition("-")[0]
    if name.startswith("oauth-consumer"):
        assert re.fullmatch(r"\w{32}", secret or "")
        assert user is None or re.fullmatch(r"\w{18}", user)
    elif kind in shapes:
        assert re.fullmatch(shapes[kind], secret or "")
    assert not secret or secret not in repr(CLOUD_CREDENTIALS[name])


def test_no_two_secrets_are_the_same() -> None:
    secrets = {CLOUD_CREDENTIALS[name].secret for name in GRANTS}
    secrets |= {text for made in CONSUMERS.values() for text in (made.key, made.secret, made.token)}
    assert len(secrets) == len(GRANTS) + 3 * len(CONSUMERS)


# who is calling


def test_hook_events_need_no_credential(healthy: Simulator) -> None:
    answer = ask(healthy, "/hook_events", None)
    assert answer.status_code == 200
    assert set(answer.json()) == {"repository", "workspace"}
    assert "X-Credential-Type" not in answer.headers
    events = [
        event["event"] for event in ask(healthy, "/hook_events/repository", None).json()["values"]
    ]
    assert "repo:push" in events
    assert ask(healthy, "/hook_events/team", None).status_code == 404


@pytest.mark.parametrize(
    ("credential", "kind", "scopes", "required"),
    [
        ("api-token", "api_token", APPCIRCLE_API_TOKEN, "read:user:bitbucket"),
        (
            "oauth-token",
            "oauth2",
            ("email", "team", "project", "pullrequest", "webhook"),
            "account",
        ),
        ("repository-token", "repo_access_token", ("pullrequest", "webhook"), "account"),
        ("project-token", "project_access_token", ("project", "pullrequest", "webhook"), "account"),
        (
            "workspace-token",
            "workspace_access_token",
            ("project", "pullrequest", "webhook"),
            "account",
        ),
    ],
)
def test_who_the_caller_is_stands_in_the_headers_of_a_403(
    healthy: Simulator, credential: str, kind: str, scopes: tuple[str, ...], required: str
) -> None:
    answer = ask(healthy, "/user", credential)
    assert answer.status_code == 403
    assert answer.headers["X-Credential-Type"] == kind
    assert answer.headers["X-OAuth-Scopes"] == ", ".join(scopes)
    assert answer.headers["X-Accepted-OAuth-Scopes"] == required
    assert error(answer)["message"] == LACKS_SCOPES
    assert error(answer)["detail"] == {"required": [required], "granted": list(scopes)}


@pytest.mark.parametrize("credential", ["api-token-read-user", "oauth-token-account"])
def test_a_user_with_the_scope_for_it_is_told_who_he_is(
    healthy: Simulator, credential: str
) -> None:
    answer = ask(healthy, "/user", credential)
    assert answer.status_code == 200
    assert answer.json()["username"] == "ci-bot-example"


def test_an_access_token_is_nobody_whatever_its_scopes() -> None:
    for kind in ("repository-token", "project-token", "workspace-token"):
        with Simulator(cloud=True, credential=kind, scopes=("account", "webhook")) as sim:
            answer = ask(sim, "/user", kind)
            assert (answer.status_code, error(answer)) == (403, {"message": "Forbidden"})
            assert answer.headers["X-OAuth-Scopes"] == "account, webhook"


def test_every_answer_carries_what_atlassian_wants_to_be_told(healthy: Simulator) -> None:
    counts = []
    for url in ("/user", "/no-such-thing", f"https://{SITE}/", f"https://{SITE}/api/2.0/user"):
        headers = ask(healthy, url).headers
        assert headers["server"] == "AtlassianEdge"
        assert re.fullmatch("[0-9a-f]{32}", headers["x-b3-traceid"])
        assert "Authorization" in headers["vary"]
        counts.append(int(headers["x-request-count"]))
    assert counts == sorted(set(counts))


@pytest.mark.parametrize(
    ("credential", "message"),
    [
        ("api-token-expired", BAD_TOKEN),
        ("api-token-revoked", BAD_TOKEN),
        ("api-token-unscoped", BAD_TOKEN),
        ("api-token-wrong-scheme", BAD_TOKEN),
        ("api-token-username", None),
        ("repository-token-expired", BAD_TOKEN),
        ("repository-token-revoked", BAD_TOKEN),
        ("repository-token-wrong-scheme", None),
        ("project-token-expired", BAD_TOKEN),
        ("project-token-wrong-scheme", None),
        ("workspace-token-expired", BAD_TOKEN),
        ("workspace-token-wrong-scheme", None),
        ("oauth-token-expired", "Access token expired. Use your refresh token to obtain a new"),
        ("oauth-token-revoked", BAD_TOKEN),
        ("oauth-token-wrong-scheme", None),
        ("oauth-consumer", None),
        ("oauth-consumer-wrong-scheme", BAD_TOKEN),
        ("app-password", None),
        ("app-password-email", None),
        ("datacenter-token", BAD_TOKEN),
    ],
)
def test_what_a_401_says(healthy: Simulator, credential: str, message: str | None) -> None:
    for path in ("/user", APP, "/hook_events"):
        answer = ask(healthy, path, credential)
        assert answer.status_code == 401
        assert answer.headers["WWW-Authenticate"] == CHALLENGE
        assert answer.headers.get_list("server") == ["envoy"]
        assert not [name for name in answer.headers if name.startswith("x-oauth")]
        if message is None:
            assert answer.content == b""
        else:
            assert error(answer)["message"].startswith(message)


def test_an_account_password_is_refused_in_plain_text(healthy: Simulator) -> None:
    answer = ask(healthy, "/user", "account-password")
    assert answer.status_code == 401
    assert answer.headers["Content-Type"].startswith("text/plain")
    assert "stopped supporting account passwords" in answer.text


@pytest.mark.parametrize("value", [api_token("api-token"), f"Token {api_token('api-token')}"])
def test_a_header_without_a_scheme_is_that_of_nobody(healthy: Simulator, value: str) -> None:
    headers = {"Authorization": value}
    answer = ask(healthy, APP, None, headers=headers)
    assert answer.status_code == 404
    assert error(answer)["message"].startswith(NO_ACCESS)
    assert ask(healthy, "/user", None, headers=headers).status_code == 401
    assert healthy.requests[-1].authorization in {"malformed", "token"}


def test_anonymous_callers_see_what_is_public(healthy: Simulator) -> None:
    assert slugs(ask(healthy, "/repositories/example-team", None)) == ["docs"]
    assert ask(healthy, "/repositories/example-team/docs", None).status_code == 200
    assert ask(healthy, "/repositories/example-team/docs/hooks", None).status_code == 401
    assert ask(healthy, APP, None).status_code == 404
    assert ask(healthy, "/workspaces/example-team", None).status_code == 200
    assert ask(healthy, "/workspaces/partner-team", None).status_code == 404


# scopes


@pytest.mark.parametrize(
    ("path", "legacy", "granular"),
    [
        ("/user", "account", "read:user:bitbucket"),
        ("/user/emails", "email", "read:user:bitbucket"),
        ("/user/workspaces", "account", "read:workspace:bitbucket"),
        (MINE, "account repository", "read:repository:bitbucket"),
        ("/workspaces/example-team/projects", "project", "read:project:bitbucket"),
        ("/repositories/example-team", "repository", "read:repository:bitbucket"),
        (APP, "repository", "read:repository:bitbucket"),
        (f"{APP}/refs/branches", "repository", "read:repository:bitbucket"),
        (f"{APP}/commits", "repository", "read:repository:bitbucket"),
        (f"{APP}/src", "repository", "read:repository:bitbucket"),
        (f"{APP}/pullrequests", "pullrequest", "read:pullrequest:bitbucket"),
        (f"{APP}/hooks", "webhook", "read:webhook:bitbucket"),
        (f"{APP}/permissions-config/users", "repository:admin", "read:repository:bitbucket"),
    ],
)
def test_each_resource_wants_its_scopes_and_no_others(
    path: str, legacy: str, granular: str
) -> None:
    """A user who may do everything, with the scopes needed, and with all others."""
    everything = ("account", "team", "project", "repository:admin", "pullrequest", "webhook")
    for credential, needed, others in (
        ("oauth-token", legacy.split(), everything),
        ("api-token", [granular], (*APPCIRCLE_API_TOKEN, "read:user:bitbucket")),
    ):
        with Simulator(cloud=True, credential=credential, scopes=needed) as sim:
            answer = ask(sim, path, credential)
            assert answer.status_code == 200
            assert answer.headers["X-Accepted-OAuth-Scopes"] == ", ".join(needed)
        rest = [scope for scope in others if not grants(scope, needed)]
        with Simulator(cloud=True, credential=credential, scopes=rest) as sim:
            answer = ask(sim, path, credential)
            assert answer.status_code == 403
            required = error(answer)["detail"]["required"]
            assert required in (needed, ", ".join(needed))  # some resources make it one string
            assert error(answer)["detail"]["granted"] == rest


def grants(scope: str, needed: list[str]) -> bool:
    implied = {"account": {"email"}, "project": {"repository"}, "pullrequest": {"repository"}}
    return bool({scope, *implied.get(scope, ())} & set(needed))


def test_legacy_scopes_include_others_and_only_the_highest_are_shown() -> None:
    for scopes, shown, readable in (
        (APPCIRCLE_OAUTH, "email, team, project, pullrequest, webhook", True),
        (("pullrequest:write", "repository", "account"), "pullrequest:write, account", True),
        (("repository:admin", "webhook"), "repository:admin, webhook", False),
    ):
        with Simulator(cloud=True, credential="oauth-token", scopes=scopes) as sim:
            answer = ask(sim, APP, "oauth-token")
            assert answer.headers["X-OAuth-Scopes"] == shown
            assert answer.status_code == (200 if readable else 403)


def test_granular_scopes_include_nothing() -> None:
    scopes = ("write:repository:bitbucket", "admin:repository:bitbucket", "write:webhook:bitbucket")
    with Simulator(cloud=True, scopes=scopes) as sim:
        for path in (APP, f"{APP}/hooks"):
            answer = ask(sim, path)
            assert answer.status_code == 403
            assert answer.headers["X-OAuth-Scopes"] == ", ".join(scopes)


@pytest.mark.parametrize("credential", GOOD)
def test_without_webhook_scopes_only_webhooks_are_closed(
    healthy: Simulator, credential: str
) -> None:
    lacking = f"{credential}-missing-scope"
    for path in (APP, f"{APP}/refs/branches", f"{APP}/commits", f"{APP}/pullrequests"):
        assert ask(healthy, path, lacking).status_code == 200
    answer = ask(healthy, f"{APP}/hooks", lacking)
    assert answer.status_code == 403
    assert "webhook" in str(error(answer)["detail"]["required"])
    assert ask(healthy, f"{APP}/hooks", credential).status_code == 200


def test_scopes_can_be_chosen_only_for_what_has_some() -> None:
    with pytest.raises(KeyError):
        Simulator(cloud=True, credential="app-password", scopes=("account",))


# workspaces and repositories


def test_workspaces_of_the_user(healthy: Simulator) -> None:
    page = ask(healthy, "/user/workspaces?pagelen=100").json()
    assert [value["workspace"]["slug"] for value in page["values"]] == ["example-team"]
    assert set(page["values"][0]) == {"type", "administrator", "workspace"}
    assert not page["values"][0]["administrator"]
    assert "size" not in page
    assert ask(healthy, "/user/workspaces?administrator=true").json()["values"] == []
    member = ask(healthy, "/user/workspaces/example-team/permission").json()
    assert member["permission"] == "member"
    for kind in ("repository-token", "project-token", "workspace-token"):
        assert ask(healthy, "/user/workspaces", kind).status_code == 403


def test_unknown_and_hidden_workspaces_look_the_same(healthy: Simulator) -> None:
    for slug in ("exmaple-team", "partner-team"):
        for path in (f"/workspaces/{slug}", f"/repositories/{slug}"):
            answer = ask(healthy, path)
            assert answer.status_code == 404
            assert error(answer)["message"] == f"No workspace with identifier '{slug}'."
    assert ask(healthy, "/workspaces/partner-team", "api-token-other").status_code == 200


def test_unknown_and_hidden_repositories_look_the_same(healthy: Simulator) -> None:
    for slug in ("ledger", "missing"):
        answer = ask(healthy, f"/repositories/example-team/{slug}")
        assert answer.status_code == 404
        assert error(answer)["message"].startswith(NO_ACCESS)
        assert answer.headers["X-OAuth-Scopes"]
        branches = ask(healthy, f"/repositories/example-team/{slug}/refs/branches")
        assert error(branches)["message"] == f"Repository example-team/{slug} not found"


def test_repository_tells_how_to_clone_it(healthy: Simulator) -> None:
    shown = ask(healthy, APP).json()
    assert (shown["full_name"], shown["is_private"]) == ("example-team/app", True)
    links = {link["name"]: link["href"] for link in shown["links"]["clone"]}
    assert links["https"] == "https://bitbucket.org/example-team/app.git"
    assert links["ssh"] == "git@bitbucket.org:example-team/app.git"


@pytest.mark.parametrize(
    ("query", "credential", "expected"),
    [
        ("", "api-token", ["app", "docs", "tooling"]),
        ("role=member", "api-token", ["app", "docs", "tooling"]),
        ("role=contributor", "api-token", ["app"]),
        ("role=admin", "api-token", ["app"]),
        ("role=owner", "api-token", []),
        ("role=contributor", "api-token-reader", []),
        ("role=contributor", "api-token-writer", ["app"]),
        ("role=admin", "api-token-writer", []),
        ('role=admin&q=full_name="example-team/app"', "oauth-token", ["app"]),
        ('q=slug="tooling" AND project.key="LIB"', "api-token", ["tooling"]),
        ('q=name ~ "o"', "api-token", ["docs", "tooling"]),
        ("", "api-token-other", ["docs"]),
        ("", "repository-token", ["app", "docs"]),
        ("", "repository-token-other", ["docs", "tooling"]),
        ("", "project-token", ["app", "docs"]),
        ("", "project-token-other", ["docs", "tooling"]),
        ("", "workspace-token", ["app", "docs", "ledger", "tooling"]),
        ("", "workspace-token-other", ["docs"]),
    ],
)
def test_repositories_are_those_the_caller_may_see(
    healthy: Simulator, query: str, credential: str, expected: list[str]
) -> None:
    answer = ask(healthy, f"/repositories/example-team?{query}", credential)
    assert slugs(answer) == expected
    assert healthy.requests[-1].known


@pytest.mark.parametrize(
    "query", ["role=king", "pagelen=101", "pagelen=0", "page=x", "q=slug", 'q=colour="red"']
)
def test_bad_values_are_400(healthy: Simulator, query: str) -> None:
    answer = ask(healthy, f"/repositories/example-team?{query}")
    assert answer.status_code == 400
    assert error(answer)["fields"]


def test_pull_requests_come_in_smaller_pages(healthy: Simulator) -> None:
    assert ask(healthy, f"{APP}/pullrequests?pagelen=50").status_code == 200
    answer = ask(healthy, f"{APP}/pullrequests?pagelen=51")
    assert (answer.status_code, error(answer)["message"]) == (400, "Invalid pagelen")
    assert ask(healthy, f"{APP}/commits?pagelen=51").status_code == 200


def test_pages_are_followed_by_next() -> None:
    with Simulator(cloud=True, repositories=120) as sim:
        url, seen, pages = "/repositories/example-team?pagelen=100", [], 0
        while url:
            answer = ask(sim, url)
            seen += slugs(answer)
            assert answer.json()["size"] == 123
            url, pages = answer.json().get("next", ""), pages + 1
        assert (len(seen), len(set(seen)), pages) == (123, 123, 2)
        assert seen[120:] == ["app", "docs", "tooling"]
        assert all(request.known for request in sim.requests)


@pytest.mark.parametrize(
    ("credential", "permission", "hooks", "config"),
    [
        ("api-token", "admin", 200, 200),
        ("oauth-token-account", "admin", 200, 403),
        ("api-token-writer", "write", 403, 403),
        ("api-token-reader", "read", 403, 403),
        ("oauth-token-writer", None, 403, 403),
        ("repository-token", None, 200, 403),
        ("project-token", None, 200, 403),
        ("workspace-token-broad", None, 200, 403),
    ],
)
def test_ways_to_find_out_who_administers(
    healthy: Simulator, credential: str, permission: str | None, hooks: int, config: int
) -> None:
    answer = ask(healthy, f'{MINE}?q=repository.slug="app"', credential)
    if permission is None:
        assert answer.status_code == 403
    else:
        assert [value["permission"] for value in answer.json()["values"]] == [permission]
    assert ask(healthy, f"{APP}/hooks", credential).status_code == hooks
    assert ask(healthy, f"{APP}/permissions-config/users", credential).status_code == config


def test_a_role_too_low_is_told_apart_from_a_scope(healthy: Simulator) -> None:
    writer = error(ask(healthy, f"{APP}/hooks", "api-token-writer"))
    assert writer["message"] == "Forbidden"
    assert isinstance(writer["detail"], str)  # not the object that tells of scopes
    reader = error(ask(healthy, f"{APP}/hooks", "api-token-reader"))
    assert reader == {"message": "Access denied. You must have write or admin access."}


def test_what_only_administrators_of_the_workspace_may(healthy: Simulator) -> None:
    for path in ("hooks", "permissions/repositories", "permissions/repositories/app"):
        assert ask(healthy, f"/workspaces/example-team/{path}").status_code == 403


def test_hooks(healthy: Simulator) -> None:
    hook = ask(healthy, f"{APP}/hooks?pagelen=100").json()["values"][0]
    assert hook["type"] == "webhook_subscription"
    assert hook["secret_set"] is False
    assert "secret" not in hook
    assert ask(healthy, f"{APP}/hooks/{hook['uuid']}").json() == hook
    missing = ask(healthy, f"{APP}/hooks/{{missing}}")
    assert (missing.status_code, missing.json()) == (404, {"message": "app is not a valid hook"})


def test_some_errors_are_no_json(healthy: Simulator) -> None:
    missing = ask(healthy, f"{APP}/pullrequests/99")
    assert (missing.status_code, missing.text) == (404, "Not Found")
    assert missing.headers["Content-Type"].startswith("text/plain")
    page = ask(healthy, "/repositories/example-team/missing/commits/main")
    assert page.status_code == 404
    assert page.headers["Content-Type"].startswith("text/html")
    assert 20_000 < len(page.content) < 40_000
    assert embedded_token() in page.text


# strictness


@pytest.mark.parametrize(
    ("path", "status", "known"),
    [
        (f"{APP}?pagelen=1", 200, False),
        (f"{APP}/hooks?pagelen=100&page=1", 200, True),
        (f"{APP}/pullrequests?state=OPEN", 200, True),
        (f"{APP}/branches", 404, False),
        ("/users/ci-bot", 404, False),
        ("/workspaces", 410, False),
        ("/repositories?role=member", 410, False),
        ("/snippets", 410, False),
        ("/user/permissions/workspaces", 410, False),
        ("/user/permissions/repositories", 410, False),
        (f"https://{API}/user", 403, False),
        (f"https://{API}/1.0/user", 404, False),
        (f"https://{SITE}/api/2.0/user", 403, False),
        (f"https://{SITE}/", 200, True),
        (f"https://{SITE}/example-team/docs", 200, False),
        (f"https://{SITE}/example-team/app", 404, False),
    ],
)
def test_what_does_not_exist_is_recorded(
    healthy: Simulator, path: str, status: int, known: bool
) -> None:
    answer = ask(healthy, path)
    record = healthy.requests[-1]
    assert (answer.status_code, record.status, record.known) == (status, status, known)
    assert record.host == (SITE if path.startswith(f"https://{SITE}/") else API)


def test_the_words_for_what_is_gone(healthy: Simulator) -> None:
    gone = error(ask(healthy, "/workspaces"))
    assert gone["message"].startswith("CHANGE-2770")
    assert gone["data"]["announcement_url"].endswith("#CHANGE-2770")
    missing = error(ask(healthy, "/user/permissions"))
    assert missing["message"] == "Resource not found"
    assert missing["detail"].startswith("There is no API hosted at this URL.")


def test_nothing_is_ever_changed(healthy: Simulator) -> None:
    for method in ("POST", "PUT", "DELETE"):
        assert ask(healthy, f"{APP}/hooks", method=method).status_code == 405
        assert not healthy.requests[-1].known


def test_secrets_in_wrong_places_are_noticed() -> None:
    with Simulator(cloud=True, credential="oauth-consumer") as sim:
        token = grant(sim, "oauth-consumer").json()["access_token"]
        ask(sim, APP, Credential(token))
        ask(sim, f"/user?access_token={token}", None)
        grant(sim, "anonymous", client_secret=sim.scenario.token or "")
        assert [request.exposed for request in sim.requests] == [False, False, True, True]


# git and SSH


@pytest.mark.parametrize(
    ("user", "credential", "status"),
    [
        ("ci-bot-example", "api-token", 200),
        ("x-bitbucket-api-token-auth", "api-token", 200),
        ("ci-bot@example.com", "api-token", 401),  # the address is for the API only
        ("x-token-auth", "api-token", 401),
        ("x-bitbucket-api-token-auth", "api-token-expired", 401),
        ("x-bitbucket-api-token-auth", "api-token-unscoped", 401),
        ("x-bitbucket-api-token-auth", "api-token-other", 404),
        ("x-token-auth", "repository-token", 200),
        ("x-token-auth", "repository-token-other", 404),
        ("x-token-auth", "project-token", 200),
        ("x-token-auth", "workspace-token", 200),
        ("x-token-auth", "oauth-token", 200),
        ("ci-bot-example", "oauth-token", 401),
        ("ci-bot-example", "app-password", 410),
    ],
)
def test_git_wants_other_names_than_the_api(
    healthy: Simulator, user: str, credential: str, status: int
) -> None:
    answer = git(healthy, user, credential)
    assert answer.status_code == status
    assert healthy.requests[-1].known
    if status == 200:
        assert answer.content.startswith(b"001e# service=git-upload-pack\n")
    else:
        assert answer.headers["Content-Type"].startswith("text/plain")
    if status == 410:
        assert "must be replaced with API tokens" in answer.text
    if status == 401:
        assert answer.headers["WWW-Authenticate"] == CHALLENGE


def test_git_without_credential_or_scope_or_role(healthy: Simulator) -> None:
    url = f"https://{SITE}/example-team/{{}}.git{REFS}"
    assert ask(healthy, url.format("docs"), None).status_code == 200
    anonymous = ask(healthy, url.format("app"), None)
    assert (anonymous.status_code, anonymous.headers["WWW-Authenticate"]) == (401, CHALLENGE)
    push = {"service": "git-receive-pack"}
    refused = git(healthy, "x-token-auth", "repository-token", **push)
    assert (refused.status_code, refused.text) == (403, LACKS_SCOPES)
    scopes = ("read:repository:bitbucket", "write:repository:bitbucket")
    for credential, status in (("api-token", 200), ("api-token-reader", 403)):
        with Simulator(cloud=True, credential=credential, scopes=scopes) as sim:
            user = "x-bitbucket-api-token-auth"
            assert git(sim, user, credential, **push).status_code == status
    dumb = ask(healthy, f"https://{SITE}/example-team/docs.git/info/refs", None)
    assert dumb.status_code == 403


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
def test_the_real_git_reads_the_branches() -> None:
    with Simulator(cloud=True) as sim:
        _, port = where(sim, SITE)
        secret = sim.scenario.token
        done = subprocess.run(
            [
                *("git", "-c", f"http.sslCAInfo={sim.scenario.ca_file}"),
                *("-c", f"http.curloptResolve={SITE}:{port}:127.0.0.1"),
                *("-c", "credential.helper=", "ls-remote"),
                f"https://x-bitbucket-api-token-auth:{secret}@{SITE}:{port}/example-team/app.git",
            ],
            capture_output=True,
            text=True,
            timeout=10,
            check=False,
            env={"PATH": "/usr/bin:/bin", "GIT_TERMINAL_PROMPT": "0"},
        )
    assert "refs/heads/main" in done.stdout, done.stderr


@pytest.mark.parametrize(("host", "port"), [(SITE, 22), (ALTSSH, 443)])
def test_ssh_says_its_greeting(healthy: Simulator, host: str, port: int) -> None:
    with socket.create_connection(where(healthy, host, port), timeout=5) as sock:
        assert sock.recv(100).startswith(b"SSH-2.0-")


def test_plain_http_only_redirects(healthy: Simulator) -> None:
    address, port = where(healthy, SITE, 80)
    with httpx.Client(trust_env=False, timeout=5) as client:
        answer = client.get(f"http://{address}:{port}/x?y=1", headers={"Host": SITE})
    assert (answer.status_code, answer.headers["Location"]) == (301, f"https://{SITE}/x?y=1")


# OAuth


def test_a_consumer_gets_a_token_that_works() -> None:
    with Simulator(cloud=True, credential="oauth-consumer") as sim:
        token = Credential(CONSUMERS["oauth-consumer"].token)
        assert ask(sim, APP, token).status_code == 401  # not yet
        answer = grant(sim, "oauth-consumer")
        assert answer.status_code == 200
        given = answer.json()
        assert given["token_type"] == "bearer"
        assert given["scope"] == "email team project pullrequest webhook"
        assert given["expires_in"] in (3600, 7200)
        assert "refresh_token" not in given
        assert len(given["access_token"]) > 2500
        for path in (APP, f"{APP}/hooks", f"{APP}/pullrequests"):
            assert ask(sim, path, Credential(given["access_token"])).status_code == 200
        assert all(request.known for request in sim.requests)


@pytest.mark.parametrize(
    ("credential", "code", "words"),
    [
        ("oauth-consumer-public", "invalid_grant", "consumer marked as"),
        ("oauth-consumer-no-callback", "invalid_request", "No callback uri"),
        ("oauth-consumer-wrong-secret", "unauthorized_client", "Invalid OAuth client"),
        ("oauth-consumer-revoked", "unauthorized_client", "Invalid OAuth client"),
        ("api-token", "unauthorized_client", "Invalid OAuth client"),
        (None, "unauthorized_client", "must be authenticated using OAuth client"),
    ],
)
def test_why_a_consumer_gets_no_token(
    healthy: Simulator, credential: str | None, code: str, words: str
) -> None:
    answer = grant(healthy, credential or "anonymous")
    assert answer.status_code == 400
    assert answer.json()["error"] == code
    assert words in answer.json()["error_description"]


def test_other_uses_of_the_token_endpoint(healthy: Simulator) -> None:
    other = grant(healthy, "oauth-consumer", grant_type="password")
    assert (other.status_code, other.json()["error"]) == (400, "unsupported_grant_type")
    bearer = grant(healthy, "oauth-consumer-wrong-scheme")
    assert bearer.headers["Content-Type"].startswith("text/html")
    get = ask(healthy, f"https://{SITE}{TOKEN_PATH}", "oauth-consumer")
    assert get.status_code == 405
    assert not healthy.requests[-1].known


def test_a_consumer_acts_for_its_workspace() -> None:
    scopes = ("account", "repository", "webhook")
    with Simulator(cloud=True, credential="oauth-consumer", scopes=scopes) as sim:
        token = Credential(grant(sim, "oauth-consumer").json()["access_token"])
        assert ask(sim, "/user", token).json()["type"] == "app_user"
        assert ask(sim, f"{APP}/pullrequests", token).status_code == 403
        permissions = ask(sim, f'{MINE}?q=repository.slug="app"', token).json()["values"]
        assert [value["permission"] for value in permissions] == ["admin"]
    with Simulator(cloud=True, credential="oauth-consumer-other") as sim:
        token = Credential(grant(sim, "oauth-consumer-other").json()["access_token"])
        assert ask(sim, APP, token).status_code == 404
        assert ask(sim, "/repositories/partner-team/portal", token).status_code == 200


# faults


@pytest.mark.parametrize("name", CLOUD_FAULTS)
def test_every_fault_starts_and_keeps_to_loopback(name: str) -> None:
    with Simulator(name, cloud=True) as sim:
        assert sim.scenario.url.startswith("https://bitbucket.org/")
        assert all(":127.0.0.1:" in rule for rule in sim.scenario.connect_to)


def signed_in(sim: Simulator) -> Credential:
    return Credential(sim.scenario.token, sim.scenario.user)


@pytest.mark.parametrize(
    ("name", "path", "status"),
    [
        ("input-token-wrong-product", "/user", 401),
        ("auth-token-invalid", "/user", 401),
        ("auth-token-invalid/revoked", "/user", 401),
        ("auth-token-invalid/repository-token", "/user", 401),
        ("auth-token-invalid/oauth", "/user", 401),
        ("perm-admin-missing", f"{APP}/hooks", 403),
        ("perm-admin-missing/reader", f"{APP}/hooks", 403),
        ("cloud-app-password-removed", "/user", 401),
        ("cloud-scope-missing", f"{APP}/hooks", 403),
        ("cloud-scope-missing/legacy", f"{APP}/hooks", 403),
        ("cloud-auth-identity-wrong", "/user", 401),
        ("cloud-auth-identity-wrong/bearer", "/user", 401),
        ("cloud-auth-identity-wrong/basic", "/user", 401),
        ("cloud-token-other-resource", APP, 404),
        ("cloud-token-other-resource/project", APP, 404),
        ("cloud-token-other-resource/workspace", APP, 404),
        ("cloud-api-removed", APP, 410),
        ("cloud-api-removed/404", f"{APP}/refs/branches", 404),
        ("cloud-incident", "/hook_events", 503),
        ("cloud-incident/api", "/hook_events", 500),
        ("rate-limited", APP, 429),
        ("rate-limited/text", APP, 429),
    ],
)
def test_where_a_fault_shows(name: str, path: str, status: int) -> None:
    with Simulator(name, cloud=True) as sim:
        assert ask(sim, path, signed_in(sim)).status_code == status
    with Simulator(cloud=True) as sim:
        assert ask(sim, path).status_code == (403 if path == "/user" else 200)


def test_ip_allowlist_guards_content_but_not_listings() -> None:
    for name, status, message in (
        ("cloud-ip-not-allowlisted", 403, "Forbidden"),
        ("cloud-ip-not-allowlisted/sentence", 403, IP_BLOCKED),
        ("cloud-ip-not-allowlisted/hidden", 404, NO_ACCESS),
    ):
        with Simulator(name, cloud=True) as sim:
            assert "app" in slugs(ask(sim, "/repositories/example-team"))
            assert ask(sim, APP).status_code == 200
            for path in ("refs/branches", "commits", "src", "pullrequests"):
                answer = ask(sim, f"{APP}/{path}")
                assert answer.status_code == status
                assert error(answer)["message"].startswith(message)
            clone = git(sim, "x-bitbucket-api-token-auth", "api-token")
            assert (clone.status_code, clone.text) == (403, IP_BLOCKED)
            assert ask(sim, "/repositories/example-team/docs/commits").status_code == 200


def test_only_the_api_host_is_blocked() -> None:
    with Simulator("cloud-api-host-blocked", cloud=True) as sim:
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(where(sim, API), timeout=5)
        assert "<title>Bitbucket" in ask(sim, f"https://{SITE}/", None).text
    with Simulator("http-block-page", cloud=True) as sim:
        assert ask(sim, "/hook_events").headers["server"] == "FortiGuard"
        assert ask(sim, f"https://{SITE}/", None).headers["server"] == "AtlassianEdge"


def test_ssh_faults_close_one_port_or_both() -> None:
    for name, open_ in (("git-ssh-unreachable", True), ("git-ssh-unreachable/both", False)):
        with Simulator(name, cloud=True) as sim:
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection(where(sim, SITE, 22), timeout=5)
            if open_:
                socket.create_connection(where(sim, ALTSSH), timeout=5).close()
            else:
                with pytest.raises(ConnectionRefusedError):
                    socket.create_connection(where(sim, ALTSSH), timeout=5)


def test_interception_replaces_the_certificates_of_all_hosts() -> None:
    with Simulator("tls-interception", cloud=True) as sim:
        assert sim.scenario.ca_file is None
        for host in (SITE, API):
            context = ssl.create_default_context(cadata=sim.ca_pem)
            with (
                socket.create_connection(where(sim, host), timeout=5) as sock,
                context.wrap_socket(sock, server_hostname=host) as tls,
            ):
                issuer: Any = (tls.getpeercert() or {})["issuer"]
                assert "zscaler.net" in str(issuer)


def test_rate_limits_are_told_in_two_ways_and_end() -> None:
    with Simulator("rate-limited", cloud=True) as sim:
        answer = ask(sim, APP)
        assert error(answer)["message"] == "Rate limit for this resource has been exceeded"
        assert int(answer.headers["Retry-After"]) > 0
        assert ask(sim, "/user").status_code == 403  # the limit is one of repositories
    with Simulator("rate-limited/text", cloud=True) as sim:
        answer = ask(sim, APP)
        assert answer.text == "Rate limit for this resource has been exceeded"
        end = parsedate_to_datetime(answer.headers["Retry-After"])
        assert dt.timedelta() < end - dt.datetime.now(dt.UTC) < dt.timedelta(hours=1)


def test_only_access_tokens_are_told_how_near_the_limit_is(healthy: Simulator) -> None:
    for credential, near in (
        ("repository-token", "false"),
        ("api-token", None),
        ("oauth-token", None),
    ):
        assert ask(healthy, APP, credential).headers.get("X-RateLimit-NearLimit") == near
    with Simulator("rate-limit-near", cloud=True) as sim:
        headers = ask(sim, APP, signed_in(sim)).headers
        assert (headers["X-RateLimit-NearLimit"], headers["X-RateLimit-Limit"]) == ("true", "1000")


def test_pages_that_give_a_token_away() -> None:
    for name, path in (("cloud-incident/api", "/user"), ("perm-repo-not-visible/html", None)):
        with Simulator(name, cloud=True) as sim:
            workspace_and_slug = sim.scenario.url.removeprefix(f"https://{SITE}/")
            answer = ask(sim, path or f"/repositories/{workspace_and_slug}")
            assert answer.status_code in (404, 500)
            assert embedded_token() in answer.text


def test_a_workspace_that_does_not_exist() -> None:
    with Simulator("cloud-workspace-not-found", cloud=True) as sim:
        workspace = sim.scenario.url.split("/")[3]
        assert ask(sim, f"/workspaces/{workspace}").status_code == 404
        assert ask(sim, f"/repositories/{workspace}").status_code == 404


def test_its_clock_can_be_another(healthy: Simulator) -> None:
    then = dt.datetime(2031, 5, 1, 12, tzinfo=dt.UTC)
    with Simulator(cloud=True, now=then) as sim:
        context = ssl.create_default_context(cadata=sim.ca_pem)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        address, port = where(sim, API)
        with httpx.Client(verify=context, trust_env=False, timeout=5) as client:
            answer = client.get(f"https://{address}:{port}/2.0/hook_events", headers={"Host": API})
        shown = parsedate_to_datetime(answer.headers["Date"])
        assert abs(shown - then) < dt.timedelta(minutes=1)
