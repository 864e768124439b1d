"""Check `cloud-git`: the way that git takes over HTTPS, which is not that of the API."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from diag.api import (
    MOST_REQUESTS,
    Check,
    CloudAccess,
    CloudHooks,
    CloudReads,
    CloudTroubles,
    Context,
    Fact,
    Finding,
    Identity,
    Instance,
    Target,
    bitbucket,
    cloud_evidence,
    cloud_get,
    cloud_trouble,
    ok,
    skip,
    unknown,
)

ADVERTISEMENT = "application/x-git-upload-pack-advertisement"
FIRST_STEP = "{curl} -o /dev/null -D - '{request}?service=git-upload-pack'"


class CloudGit(CloudTroubles, Check):
    """Take the first step of a clone over HTTPS, anonymously.

    Git is served by bitbucket.org, while the secret goes to the API alone: a public repository is
    really asked for its branches; of a private one it is seen whether git answers, and that it can
    be cloned is deduced from what the API gives. Git takes another user name than the API does: not
    the e-mail address.
    """

    id = "cloud-git"
    title = "git can clone"
    order = 120
    kinds = frozenset({"cloud"})
    requires = (Target, Instance, Identity, CloudReads)
    after = (CloudAccess, CloudHooks)  # last: it is the request that can be spared

    OK = ok("cloud-git-ok", "git gets the branches of {wanted} over HTTPS")
    DEDUCED = ok(
        "cloud-git-deduced",
        "git over HTTPS answers at {web_host}; that {wanted} can be cloned is deduced from the API,"
        " which gives its branches (the secret is not sent there). Git's user name is {git_user},"
        " not the e-mail address",
    )
    NOT_READ = skip(
        "cloud-git-not-read", "git over HTTPS answers at {web_host}, but the API gives no branches"
    )
    NOT_REACHED = skip("cloud-git-not-reached", "{web_host} cannot be reached (see cloud-hosts)")
    NOT_ASKED = skip("cloud-git-not-asked", "{most} requests are enough for one run")
    UNCLEAR = unknown(
        "cloud-git-unclear",
        "whether git can clone could not be told: {request} is answered {status}: {said}",
        remedy="Look at that answer: something between here and {web_host} treats git in its own"
        " way, or Bitbucket Cloud fails.",
        owner="network-admin",
        reproduce=FIRST_STEP,
    )

    def run(self, ctx: Context) -> Iterator[Finding | Fact]:
        if ctx.run.http.requests >= MOST_REQUESTS:
            yield self.NOT_ASKED(most=MOST_REQUESTS)
            return
        cloud, reads = bitbucket.cloud, ctx[CloudReads]
        workspace, _, slug = reads.full_name.partition("/")
        query = {"service": "git-upload-pack"}
        answer = cloud_get(ctx, cloud.git_url(workspace, slug), query, auth=False)
        evidence: dict[str, Any] = cloud_evidence(ctx, answer) | {
            "wanted": ctx.quote(reads.full_name),
            "web_host": cloud.WEB_HOST,
        }
        evidence["request"] = cloud.git_url(workspace, slug)
        if answer.failure in {"connect", "tls"}:
            yield self.NOT_REACHED(**evidence)
        elif answer.status == 200 and answer.content_type == ADVERTISEMENT:
            yield self.OK(**evidence)
        elif cloud.marks(answer) and answer.status in {401, 403, 404}:
            yield self._deduced(ctx, reads, evidence)
        else:
            yield cloud_trouble(ctx, answer) or self.UNCLEAR(**evidence)

    def _deduced(self, ctx: Context, reads: CloudReads, evidence: dict[str, Any]) -> Finding:
        """Git wants to know who asks, and is not told."""
        allowed = [one for one in reads.tried if one.outcome == "allowed"]
        if not any(one.need == "repository:read" for one in allowed):
            return self.NOT_READ(**evidence)
        access = ctx.get(CloudAccess)
        api_token = access is not None and access.kind == "api_token"
        git_user = "x-bitbucket-api-token-auth" if api_token else "x-token-auth"
        return self.DEDUCED(git_user=git_user, **evidence)
