"""Check `cloud-http`: is it Bitbucket Cloud that answers at the address of its API?"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from diag.api import (
    SEE_HEADERS,
    STATUS_PAGE,
    Check,
    CloudTroubles,
    Context,
    Fact,
    Finding,
    Instance,
    ServerTime,
    Target,
    Wire,
    bitbucket,
    cloud_evidence,
    cloud_get,
    cloud_trouble,
    fail,
    net,
    ok,
    unknown,
    verdicts,
)

SEE = SEE_HEADERS.replace("_auth", "")
ON_THE_WAY = (
    "Something between here and Atlassian answers in place of Bitbucket Cloud: have {host} let"
    " through there (proxy, web filter, portal, firewall)."
)
PLACES = {  # what reception calls an answer of a stranger, as far as that can be on the way here
    "http-gateway-auth": verdicts.GATEWAY_AUTH,
    "http-waf-blocked": verdicts.WAF_BLOCKED,
    "http-sso-login": verdicts.SSO_LOGIN,
    "http-upstream-unavailable": verdicts.UPSTREAM_UNAVAILABLE,
    "http-block-page": verdicts.BLOCK_PAGE,
    "http-default-vhost": verdicts.BLOCK_PAGE,
    "http-other-product": verdicts.BLOCK_PAGE,
}


class CloudHttp(CloudTroubles, Check):
    """Ask Bitbucket Cloud for the names of its webhook events, which is open to everybody.

    The answer shows that the API itself is reached: a proxy's page, a portal or a web filter has
    none of the marks of Atlassian's edge. Where the API fails, a second resource of it is asked
    too: only if both fail is it called an incident, and the website then tells how far it goes.
    """

    id = "cloud-http"
    title = "Bitbucket Cloud itself answers"
    order = 60
    kinds = frozenset({"cloud"})
    requires = (Target, Wire)
    provides = (Instance, ServerTime)

    OK = ok("cloud-http-ok", "Bitbucket Cloud itself answers at {base_url} ({marks})")
    INCIDENT = fail(
        "cloud-incident",
        "Bitbucket Cloud fails: {asked}; an incident at Atlassian is to be suspected",
        remedy="Look at {status_page}, which bbdiag does not ask, and wait. Nothing is to be"
        " changed here. Atlassian's support finds the request by its trace: {trace}.",
        owner="atlassian",
        reproduce=SEE,
    )
    BLOCK_PAGE = verdicts.BLOCK_PAGE
    WAF = verdicts.WAF_BLOCKED
    SSO = verdicts.SSO_LOGIN
    GATEWAY_AUTH = verdicts.GATEWAY_AUTH
    UPSTREAM = verdicts.UPSTREAM_UNAVAILABLE
    UNCLEAR = unknown(
        "cloud-http-unclear",
        "who answers at {host} could not be told: {said} (HTTP {status})",
        remedy=ON_THE_WAY,
        owner="network-admin",
        reproduce=SEE,
    )

    def run(self, ctx: Context) -> Iterator[Finding | Fact]:
        cloud, reception = bitbucket.cloud, bitbucket.reception
        answer = cloud_get(ctx, cloud.HOOK_EVENTS, auth=False)
        seen = reception.Visit(ctx.target.base_url, answer, answer)
        if (moment := reception.server_time(seen)) is not None:
            yield moment
        marks = cloud.marks(answer)
        if not marks and cloud.outcome(answer) != "allowed":
            yield self._stranger(ctx, answer)
            return
        if cloud.outcome(answer) == "failing" and (incident := self._incident(ctx, answer)):
            yield incident
            return
        ctx.http.base = ctx.target.base_url
        yield Instance(ctx.target.base_url, marks or ("the answer",))
        yield self.OK(
            base_url=ctx.target.base_url, marks=list(marks) or ["the answer"], status=answer.status
        )

    def _incident(self, ctx: Context, first: net.http.Answer) -> Finding | None:
        """Whether more of Bitbucket Cloud fails than one resource."""
        cloud = bitbucket.cloud
        second = cloud_get(ctx, cloud.REPOSITORY_EVENTS, auth=False)
        if cloud.outcome(second) != "failing":
            return None
        answers = [first, second, cloud_get(ctx, cloud.SITE + "/", auth=False)]
        told = [f"{one.url} answers {one.status or one.failure}" for one in answers]
        evidence = cloud_evidence(ctx, first) | {"asked": told, "status_page": STATUS_PAGE}
        return self.INCIDENT(heuristic=True, **evidence)

    def _stranger(self, ctx: Context, answer: net.http.Answer) -> Finding:
        """An answer that is not Bitbucket Cloud's, or none."""
        fault = bitbucket.reception.judge(answer)
        verdict = PLACES.get(fault.code) if fault is not None else None
        evidence: dict[str, Any] = cloud_evidence(ctx, answer)
        evidence["server"] = ctx.quote(answer.header("server") or "") or None
        if verdict is None:
            return cloud_trouble(ctx, answer) or self.UNCLEAR(**evidence)
        return verdict(
            owner="network-admin",
            remedy=ON_THE_WAY,
            login=ctx.quote(answer.header("www-authenticate") or "") or None,
            product=ctx.quote(str(fault.more.get("product", "a gateway")) if fault else ""),
            sign=ctx.quote(answer.content_type or "no type"),  # nothing of a page is shown
            **evidence,
        )
