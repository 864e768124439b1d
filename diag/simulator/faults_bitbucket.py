"""Faults of Bitbucket itself: its state and version, who may do what, what it says of itself."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from diag.simulator.data import BUILDS, CHAT, CREDENTIALS, REPOSITORIES, Delivered
from diag.simulator.registry import DATACENTER
from diag.simulator.scenario import HOST

if TYPE_CHECKING:
    from diag.simulator.scenario import Answer, Setup
    from diag.simulator.server import Request, Response

declare, fault = DATACENTER.declare, DATACENTER.fault

OTHER_HOST = "code.example.com"


# state and version


def fail_inside(request: Request, forward: Answer) -> Response:
    """Every resource fails, the status page does not notice."""
    response = forward(request)
    if request.path.startswith("/rest/"):
        message = "An internal error has occurred; see the server's log for details."
        entry = {"context": None, "message": message, "exceptionName": "java.lang.RuntimeException"}
        response.status, response.body = 500, json.dumps({"errors": [entry]}).encode()
    return response


def hide_version(request: Request, forward: Answer) -> Response:
    """The one resource that tells the version is gone."""
    if request.path.endswith("/application-properties"):
        request.path = "/rest/not-here"
    return forward(request)


state = partial(declare, "Bitbucket state")
state("server-error", "every resource answers 500", gateway=fail_inside)
state("server-maintenance", "Bitbucket is in maintenance", instance={"state": "MAINTENANCE"})
state("server-starting", "Bitbucket is starting", instance={"state": "STARTING"})
state("server-setup-incomplete", "Bitbucket was never set up", instance={"state": "FIRST_RUN"})
state("server-error-state", "Bitbucket could not start", instance={"state": "ERROR"})

version = partial(declare, "Version")
version("version-unsupported", "Bitbucket is 7.10.0", instance={"version": "7.10.0"})
version("version-no-tokens", "Bitbucket is 5.4.0", instance={"version": "5.4.0"})
version("version-unknown", "the version cannot be read", gateway=hide_version)
version("version-end-of-life", "Bitbucket is 8.9.10", instance={"version": "8.9.10"})


# who is calling, and what for

auth = partial(declare, "Authentication")
auth(
    "auth-token-invalid",
    "the token was revoked",
    credential=CREDENTIALS["revoked-token"],
)
auth(
    "auth-anonymous-fallback",
    "the token is ignored, and nobody is told",
    credential=CREDENTIALS["expired-token"],
    instance={"ignores_bad_tokens": True, "anonymous_listing": True},
)
auth(
    "auth-captcha-required",
    "too many failed logins: the user must solve a CAPTCHA",
    credential=CREDENTIALS["password"],
    instance={"captcha_after": 0},
)
auth(
    "auth-scheme-wrong",
    "a project's token is sent as a password",
    credential=CREDENTIALS["project-token-as-password"],
)
auth(
    "auth-basic-disabled",
    "basic authentication is switched off",
    credential=CREDENTIALS["password"],
    instance={"basic_auth": False},
)
auth(
    "auth-user-inactive",
    "the user has no licence",
    credential=CREDENTIALS["unlicensed-token"],
)


@fault("Authentication", "auth-token-in-cleartext", "the URL is http://, and so is Bitbucket")
def _(setup: Setup) -> None:
    setup.use_plain_http()


permission = partial(declare, "Permission")
permission(
    "perm-no-repositories",
    "the user sees no repository",
    credential=CREDENTIALS["outsider-token"],
    instance={"repositories": [r for r in REPOSITORIES if not r.public]},
    repo=None,
)
permission("perm-repo-not-visible", "the repository is hidden from the token", repo="FIN/ledger")
permission(
    "perm-admin-missing",
    "the user may write, but not administer",
    credential=CREDENTIALS["developer-token"],
)
permission(
    "perm-token-scope-limited",
    "the user may administer, the token may only read",
    credential=CREDENTIALS["read-token"],
)
permission("perm-project-not-found", "the project does not exist", repo="MBO/app")
permission(
    "perm-public-only",
    "the token sees public repositories only",
    credential=CREDENTIALS["outsider-token"],
    repo=None,
    options={"stage": "steady"},
)
permission(
    "perm-too-broad",
    "the token may administer, where reading is enough",
    options={"stage": "steady"},
)
permission("perm-repo-archived", "the repository is archived", repo="MOB/legacy")


# cloning, and what Bitbucket believes its address to be

clone = partial(declare, "Clone path")
clone("git-http-disabled", "cloning over HTTP is switched off", instance={"git_http": False})
clone("git-ssh-unreachable", "the SSH port is closed", ssh=False)

links = partial(declare, "Base URL")
for _code, _summary, _base_url in (
    ("localhost", "links point to localhost", "http://localhost:7990"),
    ("loopback", "links point to 127.0.0.1", "http://127.0.0.1:7990"),
    ("private-ip", "links point to a private address", "http://10.1.2.3:7990"),
    ("unresolvable", "links use a name that does not exist", "https://bitbucket.corp.invalid"),
    ("scheme-mismatch", "links say http:// for https://", f"http://{HOST}"),
    ("port-mismatch", "links use port 7990", f"https://{HOST}:7990"),
):
    links(f"base-url-{_code}", _summary, instance={"base_url": _base_url})


@fault("Base URL", "base-url-context-mismatch", "links lack the context path /bitbucket")
def _(setup: Setup) -> None:
    setup.instance.context_path = "/bitbucket"
    setup.url += "/bitbucket"


@fault("Base URL", "base-url-host-mismatch", "links use another name of the same server")
def _(setup: Setup) -> None:
    setup.instance.base_url = f"https://{OTHER_HOST}"
    setup.certificates.names += (OTHER_HOST,)
    setup.routes[f"{OTHER_HOST}:443"] = setup.web_port


@fault("Base URL", "base-url-ssh-unreachable", "SSH links point to a host where nothing listens")
def _(setup: Setup) -> None:
    setup.instance.ssh_url = f"ssh://git@{OTHER_HOST}:7999"
    setup.routes[f"{OTHER_HOST}:7999"] = setup.closed_port


# what Bitbucket's own calls come to; its words are those of Atlassian's webhooks plug-in

webhook = partial(declare, "Webhook")
NO_CONNECTION = (
    "Unable to connect to the URL specified within the timeout, please check the host and port are"
    " correct and that the URL is accessible from the server running this request."
)
NO_TLS = "An SSL error occurred, please check that the provided resource uses https."
NO_IDEA = (
    "The request to the specified URL failed. For more details, please ask the Administrator to"
    " check the server logs."
)
NO_HOST = f"Unknown host specified in the webhook URL: {BUILDS.url}"
SKIPPED = "com.atlassian.webhooks.DispatchFailedException"
WRAPPED = "java.util.concurrent.CompletionException"
LONG_AGO = Delivered(ago=7 * 86400.0)
FOR_JENKINS = "http://localhost:8080/bitbucket-scmsource-hook/notify"


def hooked(name: str, summary: str, *record: Delivered, **attributes: Any) -> None:
    """A fault of the webhook for builds: its last deliveries, or what it is set to."""
    changed = replace(BUILDS, record=(LONG_AGO, *record), **attributes)
    webhook(f"webhook-{name}", summary, instance={"webhooks": (CHAT, changed)})


webhook(
    "webhook-missing",
    "there is no webhook, long after the set-up",
    instance={"webhooks": (CHAT,)},
    options={"stage": "steady"},
)
hooked("inactive", "the webhook is switched off", active=False)
hooked("events-missing", "the webhook tells of no pull requests", events=("repo:refs_changed",))
webhook(
    "webhook-wrong-url",
    "the webhook for Jenkins leads to Bitbucket's own machine",
    instance={"webhooks": (CHAT, replace(BUILDS, url=FOR_JENKINS, record=()))},
    options={"profile": "jenkins"},
)
hooked(
    "circuit-open",
    "the webhook failed too often, and is skipped",
    Delivered(NO_IDEA, "ERROR", 60.0, 0.0, SKIPPED),
)
hooked(
    "egress-blocked",
    "Bitbucket gets no connection to the receiver",
    Delivered(NO_CONNECTION, "ERROR", 60.0, 10.0, WRAPPED),
)
hooked(
    "dns-failure",
    "Bitbucket cannot resolve the receiver's name",
    Delivered(NO_HOST, "ERROR", 60.0, 0.1, WRAPPED),
)
hooked(
    "tls-untrusted",
    "Bitbucket does not trust the receiver's certificate",
    Delivered(NO_TLS, "ERROR", 60.0, 0.3, WRAPPED),
)
hooked(
    "proxy-required",
    "a proxy wants Bitbucket to sign in",
    Delivered("407", "FAILURE", 60.0, 0.1, "<html>Proxy Authentication Required</html>"),
)
hooked(
    "endpoint-not-found",
    "the receiver does not know the webhook's address",
    Delivered("404", "FAILURE", 60.0, 0.3, "not found"),
)
hooked(
    "endpoint-rejected",
    "the receiver lets the webhook not in",
    Delivered("403", "FAILURE", 60.0, 0.3, "forbidden"),
)
hooked(
    "endpoint-timeout",
    "the receiver takes too long",
    Delivered(NO_IDEA, "ERROR", 60.0, 10.0, WRAPPED),
)
hooked(
    "secret-mismatch",
    "the receiver finds the signature wrong",
    Delivered("401", "FAILURE", 60.0, 0.3, '{"message":"X-Hub-Signature does not match"}'),
)
