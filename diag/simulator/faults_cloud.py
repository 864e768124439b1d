"""Faults of Bitbucket Cloud: of the credential, the workspace, the network, Atlassian itself."""

from __future__ import annotations

import hashlib
from functools import partial
from typing import TYPE_CHECKING

from diag.simulator import cloud_errors as errors
from diag.simulator.cloud_data import API, CLOUD_CREDENTIALS, SITE, TEAM
from diag.simulator.data import Credential
from diag.simulator.registry import CLOUD
from diag.simulator.server import html, page

if TYPE_CHECKING:
    from diag.simulator.scenario import Answer, Setup
    from diag.simulator.server import Request, Response


def fail_at_the_edge(_request: Request, _forward: Answer) -> Response:
    """Nothing behind the edge can be reached, whatever the host."""
    words = "upstream connect error or disconnect/reset before headers. reset reason: overflow"
    response = errors.text(503, words, ("server", "AtlassianEdge"), ("x-b3-traceid", "0" * 16))
    response.reason = "Service Unavailable"
    return response


def fail_in_the_api(request: Request, forward: Answer) -> Response:
    """The API breaks with a page, which gives a token away; the website and git work."""
    if request.host != API:
        return forward(request)
    response = errors.page(500)
    response.headers.append(("server", "AtlassianEdge"))
    return response


def block_the_api(request: Request, forward: Answer) -> Response:
    """A firewall's own page in the place of the API."""
    if request.host != API:
        return forward(request)
    text = "<p>Access has been blocked. Category: file sharing</p>"
    return html(200, page("Web Page Blocked", body=text), reason="OK", server="FortiGuard")


# what was typed in, and the way

token = partial(CLOUD.declare, "Input")
token(
    "input-token-wrong-product",
    "the token is one of Bitbucket Data Center",
    credential=CLOUD_CREDENTIALS["datacenter-token"],
)
token(
    "input-token-wrong-product/github",
    "the token is one of GitHub",
    credential=Credential("ghp_" + hashlib.sha256(b"not a secret").hexdigest()[:36]),
)
CLOUD.declare(
    "TLS",
    "tls-interception",
    "an inspecting proxy replaces the certificates",
    ca_file=None,
    certificates={
        "root": "Zscaler Root CA",
        "intermediate": "Zscaler Intermediate Root CA (zscaler.net)",
    },
)
CLOUD.declare(
    "HTTP and gateways",
    "http-block-page",
    "a firewall answers for the API with a page of its own",
    gateway=block_the_api,
)


@CLOUD.fault("Clone path", "git-ssh-unreachable", "port 22 is closed, SSH on port 443 works")
def _(setup: Setup) -> None:
    setup.routes[f"{SITE}:22"] = setup.closed_port


CLOUD.declare("Clone path", "git-ssh-unreachable/both", "both ports for SSH are closed", ssh=False)

# the credential and its rights


def signs_in(layer: str, name: str, summary: str, credential: str) -> None:
    """Register a fault that is all in the credential."""
    CLOUD.declare(layer, name, summary, credential=CLOUD_CREDENTIALS[credential])


signs_in("Authentication", "auth-token-invalid", "the API token has expired", "api-token-expired")
signs_in(
    "Authentication",
    "auth-token-invalid/revoked",
    "the API token was revoked",
    "api-token-revoked",
)
signs_in(
    "Authentication",
    "auth-token-invalid/repository-token",
    "the repository's token has expired",
    "repository-token-expired",
)
signs_in(
    "Authentication",
    "auth-token-invalid/oauth",
    "the OAuth access token has expired",
    "oauth-token-expired",
)

permission = partial(CLOUD.declare, "Permission")
permission(
    "perm-repo-not-visible",
    "the repository is hidden from the user",
    url=f"https://{SITE}/{TEAM}/ledger",
)
permission(
    "perm-repo-not-visible/html",
    "the repository is hidden, which is told in a page",
    url=f"https://{SITE}/{TEAM}/ledger",
    cloud={"html_errors": True},
)
signs_in(
    "Permission",
    "perm-admin-missing",
    "the user may write, but not administer",
    "api-token-writer",
)
signs_in("Permission", "perm-admin-missing/reader", "the user may only read", "api-token-reader")
for _form, _name in (("", "api-token-broad"), ("/repository-token", "repository-token-broad")):
    permission(
        f"perm-too-broad{_form}",
        "the token may administer, where reading is enough",
        credential=CLOUD_CREDENTIALS[_name],
        options={"stage": "steady"},
    )

# what is of Cloud alone

cloud = partial(CLOUD.declare, "Bitbucket Cloud")
secret = partial(signs_in, "Bitbucket Cloud")

secret("cloud-app-password-removed", "an app password is used", "app-password")
secret("cloud-scope-missing", "the API token lacks the webhook scopes", "api-token-missing-scope")
secret(
    "cloud-scope-missing/legacy",
    "the repository's token lacks the webhook scope",
    "repository-token-missing-scope",
)
cloud("cloud-api-removed", "what is asked for was removed: 410", cloud={"removed": 410})
cloud("cloud-api-removed/404", "what is asked for was removed: 404", cloud={"removed": 404})
cloud(
    "cloud-workspace-not-found",
    "the workspace does not exist",
    url=f"https://{SITE}/exmaple-team/app",
)
cloud(
    "cloud-ip-not-allowlisted",
    "the workspace's IP allowlist lacks this address",
    cloud={"blocked": frozenset({TEAM})},
)
cloud(
    "cloud-ip-not-allowlisted/sentence",
    "the same, and the API says so",
    cloud={"blocked": frozenset({TEAM}), "blocked_answer": "sentence"},
)
cloud(
    "cloud-ip-not-allowlisted/hidden",
    "the same, and the API says that there is nothing",
    cloud={"blocked": frozenset({TEAM}), "blocked_answer": "hidden"},
)


@CLOUD.fault("Bitbucket Cloud", "cloud-api-host-blocked", "only the website can be reached")
def _(setup: Setup) -> None:
    setup.routes[f"{API}:443"] = setup.closed_port


secret(
    "cloud-auth-identity-wrong",
    "the API token is sent with the user name, not the e-mail",
    "api-token-username",
)
secret(
    "cloud-auth-identity-wrong/bearer",
    "the API token is sent as Bearer",
    "api-token-wrong-scheme",
)
secret(
    "cloud-auth-identity-wrong/basic",
    "the repository's token is sent as a password",
    "repository-token-wrong-scheme",
)
for _form, _kind in (("", "repository"), ("/project", "project"), ("/workspace", "workspace")):
    secret(
        f"cloud-token-other-resource{_form}",
        f"the token is one of another {_kind}",
        f"{_kind}-token-other",
    )
cloud("cloud-incident", "Atlassian's edge reaches nothing", gateway=fail_at_the_edge)
cloud("cloud-incident/api", "the API breaks, with a page", gateway=fail_in_the_api)

limits = partial(CLOUD.declare, "Rate limits")
limits("rate-limited", "the user has used up the rate limit", cloud={"limited": "json"})
limits(
    "rate-limited/text",
    "the same, told in plain text",
    cloud={"limited": "text"},
)
limits(
    "rate-limit-near",
    "less than 20 % of the requests are left",
    credential=CLOUD_CREDENTIALS["repository-token"],
    cloud={"near_limit": "true"},
)
