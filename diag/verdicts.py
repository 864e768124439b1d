"""Verdicts that more than one check concludes, declared once.

A check names the ones it may conclude as class attributes, as it does with its own:
`RATE_LIMITED = verdicts.RATE_LIMITED`.
"""

from __future__ import annotations

from diag.model import fail, warn

SERVER_ERROR = fail(
    "server-error",
    "Bitbucket itself fails: it answers {status} to {request}: {error}",
    remedy=(
        "Look into Bitbucket's own log (log/atlassian-bitbucket.log below its home directory) for"
        " the request {request_id}; the network and the token are not the reason."
    ),
    owner="bitbucket-admin",
    reproduce="{curl_auth} -i '{request}'",
)
RATE_LIMITED = fail(
    "rate-limited",
    "Bitbucket's rate limit is used up: it answers 429 to {request} (Retry-After: {retry_after} s)",
    remedy=(
        "Wait that long and run it again. If it comes back, find what else uses this account, or"
        " have it exempted: Administration > Rate limiting > Exemptions."
    ),
    owner="bitbucket-admin",
    reproduce="{curl_auth} -i '{request}' | grep -i -e '^HTTP' -e retry-after",
)
RATE_LIMIT_NEAR = warn(
    "rate-limit-near",
    "Bitbucket's rate limit is nearly used up: {state}",
    remedy=(
        "Slow down whatever else uses this account, or have it exempted: Administration > Rate"
        " limiting > Exemptions."
    ),
    owner="bitbucket-admin",
    reproduce="{curl_auth} -i '{request}' | grep -i -e ratelimit -e retry-after",
)
GATEWAY_RATE_LIMITED = fail(
    "http-gateway-rate-limited",
    "a gateway in front of Bitbucket stopped letting requests through: {status} to {request},"
    " not from Bitbucket, which had answered {before} requests of this run before",
    remedy=(
        "Raise or lift the gateway's request limit for this client (nginx: limit_req). If it has"
        " none, Bitbucket went away during this run: run it again."
    ),
    owner="server-admin",
    reproduce="for i in 1 2 3 4 5 6 7 8; do {curl} -o /dev/null -w '%{{http_code}}\\n'"
    " '{url}/status'; done",
)
