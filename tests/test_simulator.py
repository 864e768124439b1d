"""The embedded Bitbucket answers as the real one does, and each fault is what it says."""

from __future__ import annotations

import base64
import datetime as dt
import json
import os
import shutil
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from diag.simulator import CREDENTIALS, FAULTS, Simulator
from diag.simulator.data import BUILDS, CHAT

HOST = "bitbucket.example.com"
BOT = "ci-bot%40example.com"  # as X-AUSERNAME has it
AUTH = "com.atlassian.bitbucket.auth."
NOT_PERMITTED = "com.atlassian.bitbucket.AuthorisationException"
LOGIN_REQUIRED = "com.atlassian.plugins.rest.api.security.exception.AuthenticationRequiredException"
API = "/rest/api/latest"
APP = f"{API}/projects/MOB/repos/app"
OPTIONS = ("timeout", "deadline", "stage", "profile", "check_revocation")

# The sections of the list of verdicts that one server, or what was typed in, can cause.
VERDICTS = {
    "Input": """
        input-url-missing-scheme input-url-not-http input-url-has-page-path input-url-has-api-path
        input-port-invalid input-url-bad-character input-host-invalid input-url-has-credentials
        input-token-missing input-token-whitespace input-token-placeholder
        input-token-wrong-product input-ca-unreadable input-ca-not-a-ca input-config-invalid""",
    "TCP": """
        tcp-refused tcp-reset-after-accept tcp-closed-after-accept tcp-silent-after-accept
        tcp-wrong-service-ssh tcp-wrong-port""",
    "Proxy": """
        proxy-dns-failure proxy-refused proxy-auth-required proxy-auth-rejected proxy-denied
        proxy-upstream-dns-failure proxy-upstream-refused proxy-upstream-timeout
        proxy-not-a-proxy proxy-scheme-mismatch proxy-url-invalid proxy-protocol-mismatch
        proxy-bypass-missing proxy-bypass-wrong proxy-env-conflict proxy-block-page
        proxy-strips-authorization""",
    "TLS": """
        tls-expired tls-not-yet-valid tls-hostname-mismatch tls-no-san tls-self-signed
        tls-issuer-unknown tls-chain-incomplete tls-intermediate-expired tls-interception
        tls-plaintext-port tls-version-too-old tls-no-common-cipher tls-client-cert-required
        tls-sni-rejected tls-default-vhost-cert tls-wrong-key-usage tls-weak-key
        tls-weak-signature tls-revoked tls-blocked-by-sni tls-handshake-timeout tls-ip-without-san
        tls-expiring-soon""",
    "HTTP and gateways": """
        http-on-tls-port http-block-page http-default-vhost http-sso-login http-redirect-loop
        http-redirect-dead-host http-redirects-to-https http-downgrade-redirect
        http-context-path-missing http-other-product http-bad-gateway http-upstream-unavailable
        http-gateway-timeout http-waf-blocked http-gateway-auth http-empty-reply
        http-body-truncated http-invalid-json http-response-timeout http-slow-body
        http-user-agent-blocked http-authorization-stripped http-header-too-large
        http-gateway-rate-limited""",
    "Bitbucket state": """
        server-error server-maintenance server-starting server-setup-incomplete
        server-error-state""",
    "Version": "version-unsupported version-no-tokens version-unknown version-end-of-life",
    "Authentication": """
        auth-token-invalid auth-anonymous-fallback auth-captcha-required auth-scheme-wrong
        auth-basic-disabled auth-user-inactive auth-token-in-cleartext""",
    "Permission": """
        perm-no-repositories perm-repo-not-visible perm-admin-missing perm-token-scope-limited
        perm-project-not-found perm-public-only perm-too-broad perm-repo-archived""",
    "Clone path": "git-http-disabled git-ssh-unreachable",
    "Base URL": """
        base-url-localhost base-url-loopback base-url-private-ip base-url-unresolvable
        base-url-scheme-mismatch base-url-port-mismatch base-url-context-mismatch
        base-url-host-mismatch base-url-ssh-unreachable""",
    "Rate limits": "rate-limited rate-limit-near",
    "Clock": "clock-skew-ahead clock-skew-behind clock-skew-server",
    "Webhook": """
        webhook-egress-blocked webhook-dns-failure webhook-tls-untrusted webhook-proxy-required
        webhook-endpoint-not-found webhook-endpoint-rejected webhook-endpoint-timeout
        webhook-circuit-open webhook-missing webhook-inactive webhook-events-missing
        webhook-wrong-url webhook-secret-mismatch""",
}


def authorization(credential: str | None) -> dict[str, str]:
    """The header that signs in with a credential of the simulator."""
    if credential is None:
        return {}
    user, secret = CREDENTIALS[credential].user, CREDENTIALS[credential].secret
    if user is None:
        return {"Authorization": f"Bearer {secret}"}
    pair = base64.b64encode(f"{user}:{secret}".encode()).decode()
    return {"Authorization": f"Basic {pair}"}


def trusting(sim: Simulator) -> ssl.SSLContext:
    context = ssl.create_default_context(cadata=sim.ca_pem or None)
    context.verify_flags |= ssl.VERIFY_X509_STRICT  # the default since Python 3.13
    # As CPython has it; Debian's leaves both to OpenSSL.
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers("@SECLEVEL=2:ECDH+AESGCM:ECDH+AES:DHE+AES:!aNULL:!eNULL:!SHA1")
    return context


def ask(
    sim: Simulator,
    path: str,
    credential: str | None = "admin-token",
    *,
    method: str = "GET",
    headers: dict[str, str] | None = None,
    verify: bool = True,
    timeout: float | httpx.Timeout = 5,
) -> httpx.Response:
    """One request on a connection of its own."""
    scheme = "https" if sim.tls else "http"
    context: ssl.SSLContext | bool = trusting(sim) if verify and sim.tls else False
    with httpx.Client(verify=context, trust_env=False, timeout=timeout) as client:
        return client.request(
            method,
            f"{scheme}://127.0.0.1:{sim.port}{path}",
            headers={"Host": HOST, **authorization(credential), **(headers or {})},
            extensions={"sni_hostname": HOST},
        )


def exception(response: httpx.Response) -> str | None:
    """The name in Bitbucket's error body."""
    errors = response.json()["errors"]
    assert set(errors[0]) == {"context", "message", "exceptionName"}
    name: str | None = errors[0]["exceptionName"]
    return name


def slugs(response: httpx.Response) -> list[str]:
    return [value["slug"] for value in response.json()["values"]]


@pytest.fixture(scope="module")
def healthy() -> Iterator[Simulator]:
    with Simulator() as sim:
        yield sim


# the scenario and the faults as a list


def test_healthy_scenario_points_every_port_to_loopback(healthy: Simulator) -> None:
    scenario = healthy.scenario
    assert (scenario.url, scenario.repo, scenario.user) == (f"https://{HOST}", "MOB/app", None)
    assert scenario.environ == {}
    assert scenario.options == {}
    rules = [rule.split(":") for rule in scenario.connect_to]
    assert {(host, port) for host, port, _, _ in rules} == {
        (HOST, port) for port in ("443", "80", "7990", "8443", "7999")
    }
    assert {address for _, _, address, _ in rules} == {"127.0.0.1"}
    assert f"{HOST}:443:127.0.0.1:{healthy.port}" in scenario.connect_to
    assert Path(scenario.ca_file or "").read_text(encoding="ascii") == healthy.ca_pem


def test_scenario_does_not_show_its_token(healthy: Simulator) -> None:
    assert healthy.scenario.token is not None
    assert healthy.scenario.token not in repr(healthy.scenario)
    assert healthy.scenario.token not in repr(CREDENTIALS)


@pytest.mark.parametrize("name", [name for name in CREDENTIALS if name.endswith("-token")])
def test_tokens_have_the_shape_of_real_ones(name: str) -> None:
    secret = CREDENTIALS[name].secret or ""
    assert secret.startswith("BBDC-")
    assert len(secret) == 5 + 44
    number, _, tail = base64.b64decode(secret[5:], validate=True).decode().partition(":")
    assert number.isdecimal()
    assert (len(number), len(tail)) == (12, 20)


def test_faults_are_the_verdicts_a_server_can_cause_in_their_order() -> None:
    assert list(dict.fromkeys(fault.layer for fault in FAULTS.values())) == list(VERDICTS)
    for layer, codes in VERDICTS.items():
        assert {code for code, fault in FAULTS.items() if fault.layer == layer} == {*codes.split()}
    for code, fault in FAULTS.items():
        assert fault.code == code
        assert fault.summary


def test_unknown_fault_is_refused() -> None:
    with pytest.raises(KeyError):
        Simulator("no-such-fault")


# answers to nobody in particular


def test_status_and_version_need_no_credential(healthy: Simulator) -> None:
    status = ask(healthy, "/status", None)
    assert (status.status_code, status.json()) == (200, {"state": "RUNNING"})
    for version in ("1.0", "latest"):
        answer = ask(healthy, f"/rest/api/{version}/application-properties", None)
        assert answer.status_code == 200
        assert answer.json()["version"] == "10.2.7"
        assert answer.json()["buildNumber"] == "10002007"
        assert answer.headers["X-AREQUESTID"].startswith("@")
        assert "x-ausername" in answer.headers["Vary"]
        assert "X-AUSERNAME" not in answer.headers


def test_capabilities_and_login_options_are_anonymous(healthy: Simulator) -> None:
    capabilities = ask(healthy, "/rest/capabilities", None).json()
    assert capabilities["application"] == "stash"
    assert capabilities["links"]["self"] == f"https://{HOST}/rest/capabilities"
    options = ask(healthy, "/rest/authconfig/latest/login-options", None).json()
    assert options["results"][0]["type"] == "LOGIN_FORM"


def test_root_leads_to_the_dashboard_and_then_to_the_login(healthy: Simulator) -> None:
    assert ask(healthy, "/", None).headers["Location"] == f"https://{HOST}/dashboard"
    location = ask(healthy, "/dashboard", None).headers["Location"]
    assert location == f"https://{HOST}/login?next=/dashboard"
    assert "Log in - Bitbucket" in ask(healthy, "/login?next=/dashboard", None).text


def test_nothing_healthy_mentions_localhost(healthy: Simulator) -> None:
    for path in (f"{API}/repos", "/rest/capabilities", f"{API}/projects", "/"):
        answer = ask(healthy, path)
        text = answer.text + str(answer.headers)
        assert "localhost" not in text
        assert "127.0.0.1" not in text


# who is calling


@pytest.mark.parametrize(
    ("credential", "name"),
    [
        ("admin-token", BOT),
        ("read-token", BOT),
        ("password", BOT),
        ("token-as-password", BOT),
        ("outsider-token", "outsider"),
        ("project-token", None),
        ("repository-token", None),
    ],
)
def test_good_credentials_are_named_in_a_header_unless_they_belong_to_nobody(
    healthy: Simulator, credential: str, name: str | None
) -> None:
    answer = ask(healthy, f"{API}/application-properties", credential)
    assert answer.status_code == 200
    assert answer.headers.get("X-AUSERNAME") == name
    assert ("X-AUSERID" in answer.headers) == (name is not None)
    assert ask(healthy, f"{API}/repos", credential).status_code == 200


@pytest.mark.parametrize(
    ("credential", "expected"),
    [
        (None, LOGIN_REQUIRED),
        ("revoked-token", AUTH + "IncorrectPasswordAuthenticationException"),
        ("expired-token", AUTH + "IncorrectPasswordAuthenticationException"),
        ("project-token-as-password", AUTH + "IncorrectPasswordAuthenticationException"),
        ("inactive-token", AUTH + "InactiveUserAuthenticationException"),
        ("unlicensed-token", AUTH + "NoAccessAuthenticationException"),
    ],
)
def test_what_a_401_means_is_in_its_body(
    healthy: Simulator, credential: str | None, expected: str
) -> None:
    answer = ask(healthy, "/rest/api/1.0/repos", credential)
    assert answer.status_code == 401
    assert exception(answer) == expected
    assert answer.headers["WWW-Authenticate"] == f'OAuth realm="https%3A%2F%2F{HOST}"'
    assert "X-AUSERNAME" not in answer.headers


def test_a_401_for_want_of_permission_names_the_user(healthy: Simulator) -> None:
    answer = ask(healthy, f"{API}/projects/FIN/repos/ledger")
    assert (answer.status_code, exception(answer)) == (401, NOT_PERMITTED)
    assert answer.headers["X-AUSERNAME"] == BOT


def test_failed_passwords_lead_to_a_captcha_that_the_right_one_does_not_lift() -> None:
    with Simulator() as sim:
        path = f"{API}/repos"
        for _ in range(sim.instance.captcha_after):
            assert exception(ask(sim, path, "wrong-password")).endswith(  # type: ignore[union-attr]
                "IncorrectPasswordAuthenticationException"
            )
        for credential in ("wrong-password", "password", "token-as-password"):
            answer = ask(sim, path, credential)
            assert answer.status_code == 401
            assert exception(answer) == AUTH + "CaptchaRequiredAuthenticationException"
        assert ask(sim, path, "admin-token").status_code == 200  # tokens as Bearer are not counted


def test_a_right_password_starts_the_count_again() -> None:
    with Simulator() as sim:
        for _ in range(3):
            for _ in range(sim.instance.captcha_after - 1):
                ask(sim, f"{API}/repos", "wrong-password")
            assert ask(sim, f"{API}/repos", "password").status_code == 200


def test_tokens_are_good_for_nothing_outside_of_rest_and_scm() -> None:
    with Simulator() as sim:
        whoami = "/plugins/servlet/applinks/whoami"
        bearer = ask(sim, whoami)
        assert bearer.status_code == 302
        assert bearer.headers["Location"].startswith(f"https://{HOST}/login")
        assert ask(sim, whoami, "password").text == "ci-bot@example.com"
        for _ in range(sim.instance.captcha_after):
            assert ask(sim, whoami, "token-as-password").status_code == 401
        assert "Captcha" in str(exception(ask(sim, f"{API}/repos", "password")))


def test_basic_authentication_can_be_off() -> None:
    with Simulator("auth-basic-disabled") as sim:
        answer = ask(sim, f"{API}/repos", "password")
        assert answer.status_code == 403
        assert answer.json() == {
            "message": "Basic Authentication has been disabled on this instance."
        }
        assert ask(sim, f"{API}/repos", "admin-token").status_code == 200


def test_a_kept_cookie_signs_in_silently(healthy: Simulator) -> None:
    cookie = ask(healthy, f"{API}/application-properties").headers["Set-Cookie"].partition(";")[0]
    answer = ask(healthy, f"{API}/repos", None, headers={"Cookie": cookie})
    assert answer.status_code == 200
    assert answer.headers["X-AUSERNAME"] == BOT
    assert healthy.requests[-1].cookie


# listings


def test_repositories_are_those_the_caller_may_see(healthy: Simulator) -> None:
    assert slugs(ask(healthy, f"{API}/repos")) == [
        "networking",
        "widgets",
        "app",
        "tooling",
        "docs",
        "dotfiles",
    ]
    assert slugs(ask(healthy, f"{API}/repos", "outsider-token")) == ["docs"]
    assert slugs(ask(healthy, f"{API}/repos", "project-token")) == ["app", "tooling", "docs"]
    assert slugs(ask(healthy, f"{API}/repos", "repository-token")) == ["app", "docs"]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("permission=REPO_ADMIN", ["app", "tooling", "dotfiles"]),
        ("permission=REPO_WRITE", ["app", "tooling", "dotfiles"]),
        ("permission=REPO_READ", ["networking", "widgets", "app", "tooling", "dotfiles"]),
        ("projectkey=mob", ["app", "tooling"]),
        ("projectname=librar", ["networking", "widgets"]),
        ("name=+APP+", ["app"]),
        ("archived=ARCHIVED", ["legacy"]),
        ("archived=ALL&projectkey=MOB", ["app", "legacy", "tooling"]),
        ("visibility=public", ["docs"]),
        ("visibility=private&projectkey=LIB", ["networking", "widgets"]),
        ("state=INITIALISING", []),
        ("no-such-parameter=1&projectkey=MOB", ["app", "tooling"]),
    ],
)
def test_repository_filters(healthy: Simulator, query: str, expected: list[str]) -> None:
    assert slugs(ask(healthy, f"{API}/repos?{query}")) == expected


@pytest.mark.parametrize(
    "query", ["visibility=secret", "permission=PROJECT_READ", "limit=0", "start=-1", "limit=x"]
)
def test_bad_values_are_400(healthy: Simulator, query: str) -> None:
    answer = ask(healthy, f"{API}/repos?{query}")
    assert answer.status_code == 400
    assert answer.json()["errors"][0]["context"] == query.partition("=")[0]


def test_a_read_token_of_an_administrator_lists_nothing_to_administer(healthy: Simulator) -> None:
    assert slugs(ask(healthy, f"{API}/repos?permission=REPO_ADMIN", "read-token")) == []
    assert "app" in slugs(ask(healthy, f"{API}/repos?permission=REPO_READ", "read-token"))


def test_pages_have_gaps_where_something_is_hidden(healthy: Simulator) -> None:
    first = ask(healthy, f"{API}/repos?limit=2").json()
    assert (first["size"], first["limit"], first["start"]) == (2, 2, 0)
    assert not first["isLastPage"]
    assert first["nextPageStart"] == 5  # one hidden before the page, two after it
    seen, start = [], 0
    while True:
        page = ask(healthy, f"{API}/repos?limit=2&start={start}")
        seen += slugs(page)
        if page.json()["isLastPage"]:
            break
        start = page.json()["nextPageStart"]
    assert "nextPageStart" not in page.json()
    assert seen == slugs(ask(healthy, f"{API}/repos"))


def test_limit_is_clamped_and_defaults_to_25() -> None:
    with Simulator(repositories=120, page_limit=50) as sim:
        assert ask(sim, f"{API}/repos").json()["limit"] == 25
        page = ask(sim, f"{API}/repos?limit=1000").json()
        assert (page["limit"], page["size"], page["isLastPage"]) == (50, 50, False)
        third = ask(sim, f"{API}/repos?limit=1000&start=101")
        assert "app" in slugs(third)


def test_projects(healthy: Simulator) -> None:
    keys = [p["key"] for p in ask(healthy, f"{API}/projects").json()["values"]]
    assert keys == ["LIB", "MOB", "OPEN", "~CI-BOT_EXAMPLE.COM"]
    assert ask(healthy, f"{API}/projects", None).status_code == 401
    assert ask(healthy, f"{API}/projects/mob").json()["key"] == "MOB"
    personal = ask(healthy, f"{API}/projects/%7Eci-bot_example.com/repos")
    assert slugs(personal) == ["dotfiles"]
    assert personal.json()["values"][0]["project"]["type"] == "PERSONAL"


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("projects/MBO", "project.NoSuchProjectException"),
        ("projects/MBO/repos/app", "project.NoSuchProjectException"),
        ("projects/MOB/repos/apps", "repository.NoSuchRepositoryException"),
        ("users/nobody", "user.NoSuchUserException"),
    ],
)
def test_what_is_missing_is_404(healthy: Simulator, path: str, name: str) -> None:
    answer = ask(healthy, f"{API}/{path}")
    assert answer.status_code == 404
    assert exception(answer) == f"com.atlassian.bitbucket.{name}"


def test_repository_links_and_flags(healthy: Simulator) -> None:
    shown = ask(healthy, APP).json()
    assert {link["name"]: link["href"] for link in shown["links"]["clone"]} == {
        "http": f"https://{HOST}/scm/mob/app.git",
        "ssh": f"ssh://git@{HOST}:7999/mob/app.git",
    }
    assert shown["links"]["self"] == [{"href": f"https://{HOST}/projects/MOB/repos/app/browse"}]
    assert not shown["archived"]
    assert ask(healthy, f"{API}/projects/MOB/repos/legacy").json()["archived"]


# rights


@pytest.mark.parametrize(
    ("credential", "repository", "project"),
    [
        ("admin-token", 200, 200),
        ("password", 200, 200),
        ("project-token", 200, 200),
        ("repository-token", 200, 401),
        ("write-token", 401, 401),
        ("read-token", 401, 401),
        ("developer-token", 401, 401),
        ("repository-read-token", 401, 401),
        ("outsider-token", 401, 401),
        (None, 401, 401),
    ],
)
def test_probes_for_administrators(
    healthy: Simulator, credential: str | None, repository: int, project: int
) -> None:
    for path in (
        f"{APP}/webhooks",
        f"{APP}/settings/hooks?limit=1",
        f"{APP}/permissions/users?limit=1",
        "/rest/branch-permissions/latest/projects/MOB/repos/app/restrictions?limit=1",
        "/rest/access-tokens/latest/projects/MOB/repos/app?limit=1",
    ):
        answer = ask(healthy, path, credential)
        assert answer.status_code == repository, path
        if repository == 401:
            assert exception(answer) == (LOGIN_REQUIRED if credential is None else NOT_PERMITTED)
    for path in (
        f"{API}/projects/MOB/webhooks",
        f"{API}/projects/MOB/permissions/users?limit=1",
        "/rest/access-tokens/latest/projects/MOB?limit=1",
    ):
        assert ask(healthy, path, credential).status_code == project, path


def test_no_token_administers_the_instance(healthy: Simulator) -> None:
    path = f"{API}/admin/permissions/users?limit=1"
    assert ask(healthy, path, "sysadmin-token").status_code == 401
    assert ask(healthy, path, "sysadmin-password").status_code == 200
    assert ask(healthy, path, "password").status_code == 401


def test_the_rights_of_a_user_can_be_told_from_those_of_the_token(healthy: Simulator) -> None:
    who = "filter=ci-bot%40example.com&permission=REPO_ADMIN"
    where = "permission.projectKey=MOB&permission.repositorySlug="
    found = ask(healthy, f"{API}/users?{who}&{where}app", "read-token").json()
    assert [user["slug"] for user in found["values"]] == ["ci-bot_example.com"]
    other = where.replace("MOB", "LIB") + "widgets"
    assert ask(healthy, f"{API}/users?{who}&{other}").json()["values"] == []
    assert ask(healthy, f"{API}/users?{who}").status_code == 400  # no repository named
    assert ask(healthy, f"{API}/users", None).status_code == 401
    assert all(request.known for request in healthy.requests[-4:])


def test_tokens_cannot_read_the_tokens_of_their_user(healthy: Simulator) -> None:
    path = "/rest/access-tokens/latest/users/ci-bot_example.com"
    assert ask(healthy, path).status_code == 401
    names = [token["name"] for token in ask(healthy, path, "password").json()["values"]]
    assert "read-token" in names


# webhooks


def test_webhooks_with_what_became_of_their_deliveries(healthy: Simulator) -> None:
    page = ask(healthy, f"{APP}/webhooks").json()
    assert [hook["name"] for hook in page["values"]] == ["chat", "builds"]
    assert all("statistics" not in hook for hook in page["values"])
    assert page["values"][0]["configuration"]["secret"]  # as older versions do
    chat, builds = ask(healthy, f"{APP}/webhooks?statistics=true").json()["values"]
    assert chat["statistics"]["lastSuccess"] is None
    last = builds["statistics"]["lastSuccess"]
    assert last["result"] == {"outcome": "SUCCESS", "description": "200"}
    assert last["finish"] - last["start"] == last["duration"]
    assert ask(healthy, f"{APP}/webhooks/7/statistics").json().keys() == builds["statistics"].keys()
    summary = ask(healthy, f"{APP}/webhooks/7/statistics/summary").json()
    assert list(summary) == builds["events"]
    events = ask(healthy, f"{APP}/webhooks?event=repo:refs_changed").json()["values"]
    assert [hook["id"] for hook in events] == [7]


def test_a_repository_has_the_webhooks_of_its_project() -> None:
    with Simulator() as sim:
        sim.instance.webhooks = (CHAT, replace(BUILDS, of_project=True))
        own, both = f"{APP}/webhooks", f"{APP}/webhooks/search"
        inherited = f"{both}?scopeType=project"
        of_project = f"{API}/projects/MOB/webhooks"
        for path, names in (
            (own, ["chat"]),
            (both, ["chat", "builds"]),
            (inherited, ["builds"]),
            (of_project, ["builds"]),
        ):
            values = ask(sim, path).json()["values"]
            assert [hook["name"] for hook in values] == names, path
        assert ask(sim, f"{own}/7/latest").status_code == 404


def test_details_of_a_delivery_that_failed() -> None:
    with Simulator("webhook-circuit-open") as sim:
        answer = ask(sim, f"{APP}/webhooks/7/latest?outcome=ERROR").json()
        assert answer["result"]["content"].endswith("DispatchFailedException")
        assert ask(sim, f"{APP}/webhooks/7/latest").json()["result"] == answer["result"]
        success = ask(sim, f"{APP}/webhooks/7/latest?outcome=SUCCESS").json()
        assert success["finish"] < answer["finish"]
        assert ask(sim, f"{APP}/webhooks/7/latest", "read-token").status_code == 401


# strictness


@pytest.mark.parametrize(
    ("path", "status", "known"),
    [
        (f"{API}/repos?limit=1", 200, True),
        (f"{API}/repos?limits=1", 200, False),
        (f"{API}/repositories", 404, False),
        ("/rest/api/2.0/repos", 404, False),
        ("/rest/capabilities?limit=1", 200, False),
        ("/plugins/servlet/applinks/whoami", 200, False),
        ("/no/such/page", 404, False),
        ("/", 302, True),
        ("/dashboard", 200, False),
        ("/login", 200, False),
        (f"{APP}/webhooks?statistics=true", 200, True),
        (f"{APP}/webhooks?limit=1", 200, False),
        (f"{APP}/webhooks/search?scopeType=project&statistics=true", 200, True),
        (f"{APP}/webhooks/7/latest?outcome=SUCCESS", 200, True),
        (f"{APP}/webhooks/7/latest?outcome=ERROR", 204, True),
        (f"{APP}/webhooks/7/statistics", 200, True),
        (f"{APP}/webhooks/7/statistics/summary", 200, True),
        (f"{APP}/webhooks/8", 404, True),
        (f"{APP}/webhooks/test?url=x", 404, False),
        ("/scm/mob/app.git/info/refs?service=git-upload-pack", 200, True),
        ("/scm/mob/app.git/HEAD", 404, False),
    ],
)
def test_what_does_not_exist_is_recorded(
    healthy: Simulator, path: str, status: int, known: bool
) -> None:
    assert ask(healthy, path, "password").status_code == status
    assert healthy.requests[-1].known == known
    assert healthy.requests[-1].path == path.partition("?")[0]
    assert healthy.requests[-1].query == path.partition("?")[2]


def test_other_methods_are_405_and_not_known(healthy: Simulator) -> None:
    answer = ask(healthy, f"{APP}/webhooks", method="POST")
    assert answer.status_code == 405
    assert "GET" in answer.headers["Allow"]
    assert not healthy.requests[-1].known


def test_wrong_accept_header_is_406(healthy: Simulator) -> None:
    answer = ask(healthy, f"{API}/repos", headers={"Accept": "text/csv"})
    assert (answer.status_code, answer.content) == (406, b"")


def test_records_tell_the_scheme_but_not_the_secret() -> None:
    with Simulator() as sim:
        ask(sim, f"{API}/repos", None, headers={"User-Agent": "probe/1"})
        ask(sim, f"{API}/repos", "password")
        ask(sim, f"{API}/repos", "admin-token")
        ask(sim, "/status", None, headers={"X-Debug": sim.scenario.token or ""})
        records = sim.requests
    assert [r.authorization for r in records] == ["none", "basic", "bearer", "none"]
    assert [r.status for r in records] == [401, 200, 200, 200]
    assert [r.exposed for r in records] == [False, False, False, True]
    assert records[0].user_agent == "probe/1"
    for credential in CREDENTIALS.values():
        assert credential.secret is None or credential.secret not in repr(records)


def test_requests_from_many_threads_are_all_recorded() -> None:
    with Simulator() as sim:
        with ThreadPoolExecutor(12) as pool:
            answers = list(pool.map(lambda n: ask(sim, f"{API}/repos?limit={n}"), range(1, 61)))
        assert {answer.status_code for answer in answers} == {200}
        assert {request.query for request in sim.requests} == {f"limit={n}" for n in range(1, 61)}


# HTTP, git and SSH on the wire


def test_head_has_no_body_and_connections_are_kept(healthy: Simulator) -> None:
    before = len(healthy.requests)
    with (
        socket.create_connection(("127.0.0.1", healthy.port), timeout=5) as raw,
        trusting(healthy).wrap_socket(raw, server_hostname=HOST) as tls,
        tls.makefile("rb") as answers,
    ):
        for method, path in (("HEAD", "/status"), ("GET", "/"), ("HEAD", "/status")):
            tls.sendall(f"{method} {path} HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode())
            head = list(iter(answers.readline, b"\r\n"))
            assert head[0].startswith(b"HTTP/1.1 302" if path == "/" else b"HTTP/1.1 200")
        tls.sendall(f"GET /status HTTP/1.0\r\nHost: {HOST}\r\n\r\n".encode())
        assert answers.read().endswith(b"0\r\n\r\n")  # chunked, then closed
    assert len(healthy.requests) == before + 4


def test_git_gets_its_refs(healthy: Simulator) -> None:
    refs = "/scm/mob/app.git/info/refs?service=git-upload-pack"
    answer = ask(healthy, refs)
    assert answer.headers["Content-Type"] == "application/x-git-upload-pack-advertisement"
    assert answer.content.startswith(b"001e# service=git-upload-pack\n0000")
    assert answer.content.endswith(b"0000")
    anonymous = ask(healthy, refs, None)
    assert anonymous.status_code == 401
    assert anonymous.headers["WWW-Authenticate"] == 'Basic realm="Atlassian Bitbucket"'
    assert ask(healthy, refs, "revoked-token").status_code == 401
    assert ask(healthy, refs.replace("mob/app", "fin/ledger")).status_code == 404
    assert ask(healthy, refs.replace("mob/app", "open/docs"), None).status_code == 200
    push = refs.replace("upload", "receive")
    assert ask(healthy, push, "write-token").status_code == 200
    assert ask(healthy, push, "read-token").status_code == 404


def test_real_git_lists_the_branches() -> None:
    if shutil.which("git") is None:
        pytest.skip("git is not installed")
    with Simulator(tls=False) as sim:
        url = f"http://127.0.0.1:{sim.port}/scm/mob/app.git"
        header = f"http.extraHeader=Authorization: Bearer {sim.scenario.token}"
        result = subprocess.run(
            ["git", "-c", header, "ls-remote", url],
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
            env={**os.environ, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_TERMINAL_PROMPT": "0"},
        )
    assert result.returncode == 0, result.stderr
    assert result.stdout.endswith("\trefs/heads/main\n")


def port_of(sim: Simulator, place: str) -> int:
    """The loopback port that the scenario maps "host:port" to."""
    (rule,) = [rule for rule in sim.scenario.connect_to if rule.startswith(f"{place}:")]
    return int(rule.rpartition(":")[2])


def test_ssh_greets_at_once(healthy: Simulator) -> None:
    address = ("127.0.0.1", port_of(healthy, f"{HOST}:7999"))
    with socket.create_connection(address, timeout=5) as ssh:
        assert ssh.recv(100) == b"SSH-2.0-SSHD-UNKNOWN\r\n"


def test_tls_port_answers_plain_http_as_nginx_does(healthy: Simulator) -> None:
    with socket.create_connection(("127.0.0.1", healthy.port), timeout=5) as plain:
        plain.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert b"plain HTTP request was sent to HTTPS port" in read_all(plain)


def read_all(sock: socket.socket) -> bytes:
    data = b""
    while chunk := sock.recv(65536):
        data += chunk
    return data


# knobs


def test_context_path() -> None:
    with Simulator(context_path="/git") as sim:
        assert sim.scenario.url == f"https://{HOST}/git"
        outside = ask(sim, f"{API}/repos")
        assert outside.status_code == 404
        assert "X-AREQUESTID" not in outside.headers
        inside = ask(sim, f"/git{APP}").json()
        assert inside["links"]["clone"][0]["href"] == f"https://{HOST}/git/scm/mob/app.git"
        assert ask(sim, "/git/status", None).status_code == 200
        assert [r.known for r in sim.requests] == [False, True, True]


def test_plain_http() -> None:
    with Simulator(tls=False) as sim:
        assert sim.scenario.url == f"http://{HOST}"
        assert sim.scenario.ca_file is None
        assert port_of(sim, f"{HOST}:80") == sim.port
        assert f"http://{HOST}/scm" in ask(sim, APP).text


def test_old_versions_differ() -> None:
    with Simulator(version="7.21.0") as sim:
        anonymous = ask(sim, f"{API}/repos", None)
        assert slugs(anonymous) == ["docs"]
        assert "archived" not in anonymous.json()["values"][0]
        assert slugs(ask(sim, f"{API}/repos?permission=REPO_READ", None)) == []
        assert exception(ask(sim, APP, None)) == NOT_PERMITTED
        assert ask(sim, f"{API}/application-properties").json()["buildNumber"] == "7021000"


def test_the_clock_can_be_set() -> None:
    then = dt.datetime(2031, 5, 1, 12, tzinfo=dt.UTC)
    with Simulator(now=then, tls=False) as sim:
        date = parsedate_to_datetime(ask(sim, "/status", None).headers["Date"])
    assert dt.timedelta() <= date - then + dt.timedelta(seconds=1) < dt.timedelta(seconds=20)


# nothing is left behind


def test_no_thread_socket_or_file_is_left() -> None:
    descriptors = Path("/proc/self/fd")
    if not descriptors.is_dir():
        pytest.skip("needs /proc to count descriptors")
    with Simulator():
        pass  # whatever is made once per process is made now
    threads, files = set(threading.enumerate()), len(list(descriptors.iterdir()))
    with Simulator("http-response-timeout") as sim:
        directory = Path(sim.scenario.ca_file or "").parent
        address = ("127.0.0.1", sim.port)
        idle = [socket.create_connection(address, timeout=5) for _ in range(3)]
        with pytest.raises(httpx.ReadTimeout):
            ask(sim, "/status", timeout=httpx.Timeout(5, read=0.2))
    for sock in idle:
        assert sock.recv(1) == b""
        sock.close()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(address, timeout=5)
    assert not directory.exists()
    # Fewer there may be: of tests that left a thread behind which ends meanwhile.
    assert set(threading.enumerate()) <= threads
    assert len(list(descriptors.iterdir())) <= files


def test_every_fault_starts_and_stops() -> None:
    threads = set(threading.enumerate())
    for code in FAULTS:
        with Simulator(code) as sim:
            scenario = sim.scenario
            assert scenario.url
            for rule in scenario.connect_to:
                assert rule.split(":")[2] == "127.0.0.1"
            assert set(scenario.options) <= {*OPTIONS}
    assert set(threading.enumerate()) <= threads


def test_import_is_light_and_independent_of_the_rest() -> None:
    code = (
        "import sys, diag.simulator\n"
        "names = sorted(m for m in sys.modules if m.startswith('diag.'))\n"
        "print([m for m in names if not m.startswith('diag.simulator')],"
        " 'cryptography' in sys.modules, 'httpx' in sys.modules)"
    )
    root = Path(__file__).parents[1]
    output = subprocess.run(
        [sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True
    )
    assert output.stdout.strip() == "[] False False"


# faults on the wire


def handshake(
    sim: Simulator, configure: Callable[[ssl.SSLContext], None] = lambda _: None, **options: Any
) -> ssl.SSLSocket:
    """A TLS connection; the caller closes it."""
    context = trusting(sim)
    configure(context)
    raw = socket.create_connection(("127.0.0.1", sim.port), timeout=options.get("timeout", 5))
    try:
        return context.wrap_socket(raw, server_hostname=options.get("name", HOST))
    except BaseException:
        raw.close()
        raise


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("tls-expired", "certificate has expired"),
        ("tls-not-yet-valid", "certificate is not yet valid"),
        ("tls-hostname-mismatch", "Hostname mismatch"),
        ("tls-default-vhost-cert", "Hostname mismatch"),
        ("tls-self-signed", "self-signed certificate"),
        ("tls-chain-incomplete", "unable to get local issuer certificate"),
        ("tls-intermediate-expired", "certificate has expired"),
        ("tls-wrong-key-usage", "unsuitable certificate purpose"),
        ("tls-weak-key", "key too weak"),
        ("tls-weak-signature", "signature digest algorithm too weak"),
        ("tls-plaintext-port", "(?i)wrong.version.number|record layer failure"),
        ("tls-version-too-old", "(?i)protocol.version"),
        ("tls-no-common-cipher", "(?i)handshake.failure"),
        ("tls-sni-rejected", "(?i)unrecognized.name"),
        ("clock-skew-ahead", "certificate has expired"),
        ("clock-skew-behind", "certificate is not yet valid"),
    ],
)
def test_tls_faults_as_openssl_sees_them(code: str, message: str) -> None:
    with Simulator(code) as sim, pytest.raises(ssl.SSLError, match=message):
        handshake(sim)


@pytest.mark.parametrize("code", ["tls-issuer-unknown", "tls-interception"])
def test_untrusted_issuers_are_a_matter_of_the_scenario(code: str) -> None:
    with Simulator(code) as sim:
        assert sim.scenario.ca_file is None
        with handshake(sim) as tls:  # trusting the root all the same
            issuer = str((tls.getpeercert() or {})["issuer"])
    assert ("Zscaler" in issuer) == (code == "tls-interception")


def test_certificate_without_names() -> None:
    def strict(context: ssl.SSLContext) -> None:
        context.hostname_checks_common_name = False

    with Simulator("tls-no-san") as sim:
        with pytest.raises(ssl.SSLError, match="Hostname mismatch"):
            handshake(sim, strict)
        with handshake(sim) as tls:
            assert "subjectAltName" not in (tls.getpeercert() or {})


def test_old_tls_works_for_who_accepts_it() -> None:
    def old(context: ssl.SSLContext) -> None:
        context.set_ciphers("ALL:@SECLEVEL=0")
        with pytest.warns(DeprecationWarning, match="TLSv1"):
            context.minimum_version = ssl.TLSVersion.TLSv1

    with Simulator("tls-version-too-old") as sim, handshake(sim, old) as tls:
        assert tls.version() in {"TLSv1", "TLSv1.1"}


def test_static_rsa_works_for_who_accepts_it() -> None:
    with (
        Simulator("tls-no-common-cipher") as sim,
        handshake(sim, lambda context: context.set_ciphers("AES128-SHA")) as tls,
    ):
        assert (tls.cipher() or [""])[0] == "AES128-SHA"


def test_weak_certificates_are_weak_in_just_that() -> None:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric import rsa

    def leaf(code: str) -> x509.Certificate:
        with Simulator(code) as sim:
            path = Path(sim.scenario.ca_file or "").with_name("leaf.pem")
            return x509.load_pem_x509_certificate(path.read_bytes())

    key = leaf("tls-weak-key").public_key()
    assert isinstance(key, rsa.RSAPublicKey)
    assert key.key_size == 1024
    signature = leaf("tls-weak-signature").signature_algorithm_oid
    assert signature == x509.SignatureAlgorithmOID.RSA_WITH_SHA1


def test_the_missing_intermediate_can_be_fetched_where_the_certificate_says() -> None:
    from cryptography import x509

    with Simulator("tls-chain-incomplete") as sim:
        port = port_of(sim, "pki.example.com:80")
        der = httpx.get(f"http://127.0.0.1:{port}/ca1.cer", trust_env=False).content
    assert "Issuing CA" in x509.load_der_x509_certificate(der).subject.rfc4514_string()


def test_client_certificate_is_wanted() -> None:
    with Simulator("tls-client-cert-required") as sim, handshake(sim) as tls:
        tls.sendall(b"GET /status HTTP/1.1\r\nHost: x\r\n\r\n")
        with pytest.raises(ssl.SSLError, match=r"(?i)certificate.required"):
            tls.recv(1)


def test_blocked_name_resets_while_another_name_passes() -> None:
    def any_name(context: ssl.SSLContext) -> None:
        context.check_hostname = False

    with Simulator("tls-blocked-by-sni") as sim:
        with pytest.raises(ConnectionResetError):
            handshake(sim)
        handshake(sim, any_name, name="other.example.org").close()


def test_swallowed_handshake_leaves_plain_http_alive() -> None:
    with Simulator("tls-handshake-timeout") as sim:
        with pytest.raises(TimeoutError):
            handshake(sim, timeout=0.3)
        with socket.create_connection(("127.0.0.1", sim.port), timeout=5) as plain:
            plain.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            assert read_all(plain).startswith(b"HTTP/1.1 400")


def test_tcp_faults() -> None:
    def connect(sim: Simulator, timeout: float = 5) -> socket.socket:
        return socket.create_connection(("127.0.0.1", sim.port), timeout=timeout)

    with Simulator("tcp-refused") as sim, pytest.raises(ConnectionRefusedError):
        connect(sim)
    with (
        Simulator("tcp-reset-after-accept") as sim,
        pytest.raises(ConnectionResetError),  # which connect() may be the first to hear of
        connect(sim) as sock,
    ):
        sock.recv(1)
    with Simulator("tcp-closed-after-accept") as sim, connect(sim) as sock:
        assert sock.recv(1) == b""
    with Simulator("tcp-silent-after-accept") as sim, connect(sim, 0.3) as sock:
        sock.sendall(b"GET / HTTP/1.1\r\n\r\n")
        with pytest.raises(TimeoutError):
            sock.recv(1)
    with Simulator("tcp-wrong-port") as sim:
        assert port_of(sim, f"{HOST}:7990") == sim.port
        assert ask(sim, "/status", None).json() == {"state": "RUNNING"}
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port_of(sim, f"{HOST}:443")), timeout=5)


def proxy_port(sim: Simulator) -> int:
    address = next(iter(sim.scenario.environ.values()))
    return int(address.rpartition(":")[2])


@pytest.mark.parametrize(
    ("code", "status", "mark"),
    [
        ("proxy-auth-required", 407, b'Proxy-Authenticate: Basic realm="proxy.example.com"'),
        ("proxy-auth-rejected", 407, b"ERR_CACHE_ACCESS_DENIED"),
        ("proxy-denied", 403, b"ERR_ACCESS_DENIED"),
        ("proxy-upstream-dns-failure", 503, b"ERR_DNS_FAIL"),
        ("proxy-upstream-refused", 503, b"ERR_CONNECT_FAIL 111"),
        ("proxy-upstream-timeout", 504, b"ERR_CONNECT_FAIL 110"),
        ("proxy-bypass-missing", 503, b"ERR_CONNECT_FAIL 113"),
        ("proxy-not-a-proxy", 405, b"nginx"),
    ],
)
def test_proxies_that_refuse_connect(code: str, status: int, mark: bytes) -> None:
    with (
        Simulator(code) as sim,
        socket.create_connection(("127.0.0.1", proxy_port(sim)), timeout=5) as sock,
    ):
        sock.sendall(f"CONNECT {HOST}:443 HTTP/1.1\r\nConnection: close\r\n\r\n".encode())
        answer = read_all(sock)
        assert answer.startswith(b"HTTP/1.1 %d " % status)
        assert mark in answer
        assert sim.tunnels == [f"{HOST}:443"]
        direct = port_of(sim, f"{HOST}:443")
        assert (direct == sim.port) == (code == "proxy-bypass-missing")


def test_a_tunnel_leads_to_bitbucket() -> None:
    with Simulator("proxy-bypass-wrong") as sim:
        assert sim.scenario.environ["no_proxy"]
        raw = socket.create_connection(("127.0.0.1", proxy_port(sim)), timeout=5)
        with raw:
            raw.sendall(f"CONNECT {HOST}:443 HTTP/1.1\r\n\r\n".encode())
            assert raw.recv(1000).endswith(b"established\r\n\r\n")
            with trusting(sim).wrap_socket(raw, server_hostname=HOST) as tls:
                tls.sendall(f"GET /status HTTP/1.0\r\nHost: {HOST}\r\n\r\n".encode())
                assert b"RUNNING" in read_all(tls)


@pytest.mark.parametrize("code", ["proxy-scheme-mismatch", "proxy-protocol-mismatch"])
def test_a_proxy_answers_other_protocols_in_http(code: str) -> None:
    greeting = b"\x05\x01\x00" if code == "proxy-protocol-mismatch" else b"\x16\x03\x01\x00\x05"
    with (
        Simulator(code) as sim,
        socket.create_connection(("127.0.0.1", proxy_port(sim)), timeout=5) as sock,
    ):
        sock.sendall(greeting)
        assert sock.recv(100).startswith(b"HTTP/1.1 400")


@pytest.mark.parametrize("code", ["proxy-block-page", "proxy-strips-authorization"])
def test_proxies_that_see_plain_requests(code: str) -> None:
    with Simulator(code) as sim:
        proxy = f"http://127.0.0.1:{proxy_port(sim)}"
        with httpx.Client(proxy=proxy, trust_env=False) as client:
            url = f"http://{HOST}/rest/api/1.0/repos"
            answer = client.get(url, headers=authorization("admin-token"))
        assert "proxy.example.com" in answer.headers["Via"]
        if code == "proxy-block-page":
            assert (answer.status_code, sim.requests) == (403, [])
        else:
            assert exception(answer) == LOGIN_REQUIRED
            assert sim.requests[0].authorization == "bearer"  # as it came


@pytest.mark.parametrize(
    ("code", "path", "status", "mark"),
    [
        ("http-block-page", "/status", 200, "Web Page Blocked"),
        ("http-default-vhost", "/", 200, "Welcome to nginx!"),
        ("http-bad-gateway", "/status", 502, "nginx"),
        ("http-upstream-unavailable", "/status", 503, "nginx"),
        ("http-gateway-timeout", "/status", 504, "nginx"),
        ("http-waf-blocked", "/status", 403, "support ID"),
        ("http-gateway-auth", "/status", 401, "nginx"),
        ("http-user-agent-blocked", "/status", 403, "nginx"),
        ("http-other-product", f"{API}/repos", 404, "Jira"),
        ("http-context-path-missing", "/status", 404, "Tomcat"),
    ],
)
def test_gateways_do_not_look_like_bitbucket(code: str, path: str, status: int, mark: str) -> None:
    with Simulator(code) as sim:
        answer = ask(sim, path)
    assert answer.status_code == status
    assert mark in answer.text
    assert "X-AUSERNAME" not in answer.headers
    assert answer.headers["Date"]


@pytest.mark.parametrize(
    ("code", "location"),
    [
        ("http-sso-login", "https://login.example.com/"),
        ("http-redirect-loop", f"https://{HOST}/status"),
        ("http-redirect-dead-host", "https://stash.example.invalid/status"),
        ("http-downgrade-redirect", f"http://{HOST}/status"),
        ("server-setup-incomplete", f"https://{HOST}/setup"),
    ],
)
def test_redirects(code: str, location: str) -> None:
    with Simulator(code) as sim:
        path = f"{API}/repos" if code == "server-setup-incomplete" else "/status"
        answer = ask(sim, path)
    assert answer.is_redirect
    assert answer.headers["Location"].startswith(location)


def test_plain_port_beside_https() -> None:
    for code, status in (("http-redirects-to-https", 301), ("http-downgrade-redirect", 200)):
        with Simulator(code) as sim:
            port = port_of(sim, f"{HOST}:80")
            answer = httpx.get(f"http://127.0.0.1:{port}/status", trust_env=False)
            assert answer.status_code == status


@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("http-empty-reply", httpx.RemoteProtocolError),
        ("http-body-truncated", httpx.RemoteProtocolError),
        ("http-response-timeout", httpx.ReadTimeout),
        ("http-header-too-large", httpx.RemoteProtocolError),
    ],
)
def test_answers_broken_on_the_wire(code: str, error: type[Exception]) -> None:
    patience = httpx.Timeout(5, read=1.0 if error is httpx.ReadTimeout else 5)
    with Simulator(code) as sim:
        with pytest.raises(error):
            ask(sim, "/status", timeout=patience)
        assert sim.requests[0].path == "/status"


def test_slow_body_comes_byte_by_byte() -> None:
    with Simulator("http-slow-body") as sim, handshake(sim) as tls:
        begin = time.monotonic()
        tls.sendall(b"GET /status HTTP/1.1\r\nHost: x\r\n\r\n")
        data = b""
        while data.count(b" ", data.find(b"\r\n\r\n")) < 3:
            data += tls.recv(65536)
        assert time.monotonic() - begin > 0.4


def test_invalid_json_is_complete() -> None:
    with Simulator("http-invalid-json") as sim:
        answer = ask(sim, "/status")
    assert answer.headers["Content-Type"].startswith("application/json")
    with pytest.raises(json.JSONDecodeError):
        answer.json()


def test_gateway_limits_requests_after_a_few() -> None:
    with Simulator("http-gateway-rate-limited") as sim:
        statuses = [ask(sim, "/status", None).status_code for _ in range(6)]
    assert statuses == [200, 200, 200, 200, 503, 503]


def test_rate_limit_counts_only_who_signed_in() -> None:
    with Simulator("rate-limited") as sim:
        limited = ask(sim, f"{API}/repos")
        assert limited.status_code == 429
        assert int(limited.headers["Retry-After"]) > 0
        assert ask(sim, "/status", None).status_code == 200
    with Simulator("rate-limit-near") as sim:
        near = ask(sim, f"{API}/repos").headers
        assert (near["X-RateLimit-Limit"], near["X-RateLimit-Remaining"]) == ("60", "2")


@pytest.mark.parametrize(
    ("code", "status", "state"),
    [
        ("server-maintenance", 503, "MAINTENANCE"),
        ("server-starting", 503, "STARTING"),
        ("server-error-state", 500, "ERROR"),
        ("server-setup-incomplete", 200, "FIRST_RUN"),
        ("server-error", 200, "RUNNING"),
    ],
)
def test_states(code: str, status: int, state: str) -> None:
    with Simulator(code) as sim:
        answer = ask(sim, "/status", None)
        assert (answer.status_code, answer.json()) == (status, {"state": state})
        assert ask(sim, f"{API}/repos").status_code != 200


def test_a_treated_as_anonymous_token_is_told_by_no_name() -> None:
    with Simulator("auth-anonymous-fallback") as sim:
        answer = ask(sim, f"{API}/repos", "expired-token")
        assert answer.status_code == 200
        assert "X-AUSERNAME" not in answer.headers


def test_stripped_authorization_is_recorded_as_it_came() -> None:
    with Simulator("http-authorization-stripped") as sim:
        answer = ask(sim, f"{API}/repos")
        assert exception(answer) == LOGIN_REQUIRED
        assert sim.requests[0].authorization == "bearer"


@pytest.mark.parametrize(
    ("code", "href"),
    [
        ("base-url-localhost", "http://localhost:7990/scm/"),
        ("base-url-loopback", "http://127.0.0.1:7990/scm/"),
        ("base-url-private-ip", "http://10.1.2.3:7990/scm/"),
        ("base-url-unresolvable", "https://bitbucket.corp.invalid/scm/"),
        ("base-url-scheme-mismatch", f"http://{HOST}/scm/"),
        ("base-url-port-mismatch", f"https://{HOST}:7990/scm/"),
        ("base-url-context-mismatch", f"https://{HOST}/scm/"),
        ("base-url-host-mismatch", "https://code.example.com/scm/"),
    ],
)
def test_base_url_shows_in_links_and_realm(code: str, href: str) -> None:
    with Simulator(code) as sim:
        prefix = "/bitbucket" if code == "base-url-context-mismatch" else ""
        clone = ask(sim, prefix + APP).json()["links"]["clone"]
        assert clone[0]["href"].startswith(href)
        assert clone[1]["href"].startswith(f"ssh://git@{HOST}:7999/")
        realm = ask(sim, f"{prefix}{API}/repos", None).headers["WWW-Authenticate"]
        assert (
            realm
            == f'OAuth realm="{href.removesuffix("/scm/").replace(":", "%3A").replace("/", "%2F")}"'
        )


def test_closed_ssh_ports() -> None:
    for code, place in (
        ("git-ssh-unreachable", f"{HOST}:7999"),
        ("base-url-ssh-unreachable", "code.example.com:7999"),
    ):
        with Simulator(code) as sim:
            assert f"ssh://git@{place}/" in ask(sim, APP).text
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection(("127.0.0.1", port_of(sim, place)), timeout=5)


def test_git_over_http_can_be_off() -> None:
    with Simulator("git-http-disabled") as sim:
        clone = ask(sim, APP).json()["links"]["clone"]
        assert [link["name"] for link in clone] == ["ssh"]
        refs = ask(sim, "/scm/mob/app.git/info/refs?service=git-upload-pack")
        assert refs.status_code == 403


@pytest.mark.parametrize(
    ("code", "years"),
    [("clock-skew-ahead", -6), ("clock-skew-behind", 6), ("clock-skew-server", 0)],
)
def test_dates_agree_with_certificates(code: str, years: int) -> None:
    with Simulator(code) as sim:
        date = parsedate_to_datetime(ask(sim, "/status", None, verify=False).headers["Date"])
        off = date - dt.datetime.now(dt.UTC)
        if years:
            assert round(off / dt.timedelta(days=365)) == years
        else:
            assert dt.timedelta(hours=1.9) < off < dt.timedelta(hours=2.1)
            handshake(sim).close()
