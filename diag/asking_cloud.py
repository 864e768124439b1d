"""How a check asks Bitbucket Cloud, and what is wrong with an answer that any request may get.

Of what is no JSON nothing is shown: the pages of Bitbucket Cloud can hold a token. Nothing is asked
twice: its rate limits are of an hour.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from diag import asking, verdicts
from diag.asking import Troubles
from diag.bitbucket import cloud
from diag.context import Context, DeadlineExceededError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from diag.model import Finding
    from diag.net.http import Answer

MOST_REQUESTS = 10  # of a run; anonymously, Bitbucket Cloud grants 60 an hour
STATUS_PAGE = "https://bitbucket.status.atlassian.com"
SEE_HEADERS = "{curl_auth} -o /dev/null -D - '{request}'"  # not the body, which may be a page
_TROUBLES = {
    "removed": verdicts.CLOUD_API_REMOVED,
    "limited": verdicts.RATE_LIMITED,
    "failing": verdicts.SERVER_ERROR,
}
_LIMITED = (
    "Wait that long and run it again. The limit is one of an hour, for all programs that use this"
    " account or token together: give {profile} a token of its own."
)
_FAILING = (
    "Bitbucket Cloud itself fails, not the network and not the token: look at {status_page}, and"
    " try again. Atlassian's support finds the request by its trace: {trace}."
)


class CloudTroubles(Troubles):
    """What `cloud_trouble` may conclude: a base of the checks that ask it."""

    API_REMOVED = verdicts.CLOUD_API_REMOVED


def cloud_get(
    ctx: Context, path: str, query: Mapping[str, str] | None = None, *, auth: bool
) -> Answer:
    """One request to the API, with the secret or without.

    Raises:
        DeadlineExceededError: the run's time is over.
    """
    answer = ctx.http.get(path, query=query, auth=auth, max_bytes=1_000_000)
    if answer.failure == "deadline":
        raise DeadlineExceededError
    return answer


def cloud_said(ctx: Context, answer: Answer) -> str:
    """What an answer says, in a few words fit to be shown: those of its JSON, or what it is."""
    if answer.failure is not None:
        return ctx.quote(f"{answer.failure}: {answer.detail}" if answer.detail else answer.failure)
    told = cloud.error(answer)
    if words := " – ".join(filter(None, (told.message, told.detail))):
        return ctx.quote(words)
    if not answer.body:
        return "nothing"
    return ctx.quote(f"an answer of type {answer.content_type or 'unknown'}, which is not shown")


def cloud_evidence(ctx: Context, answer: Answer) -> dict[str, Any]:
    """What every finding about an answer tells."""
    trace = cloud.trace(answer)
    return {
        "request": answer.url,
        "status": answer.status,
        "said": cloud_said(ctx, answer),
        "trace": ctx.quote(trace) if trace else None,
    }


def cloud_trouble(ctx: Context, answer: Answer) -> Finding | None:
    """What is wrong with an answer, where that would be wrong with any: it came broken or not at
    all, a rate limit, an incident, a resource that was removed, a gateway. None if it is nothing of
    that."""
    outcome = cloud.outcome(answer)
    verdict = _TROUBLES.get(outcome)
    if verdict is None and outcome in {"broken", "foreign"}:
        verdict = asking.general(answer)
    if verdict is None:
        return None
    from diag.bitbucket import reception

    if reception.swallowed(ctx, answer):
        return verdicts.PMTU_BLACK_HOLE(request=answer.url, **reception.SWALLOWED)
    evidence = cloud_evidence(ctx, answer) | {
        "elapsed_ms": answer.elapsed_ms,
        "detail": ctx.quote(answer.detail) or None,
        "server": ctx.quote(answer.header("server") or "") or None,
        "retry_after": cloud.retry_after(answer),
        "before": ctx.run.http.requests - 1,
    }
    seen = [SEE_HEADERS if answer.credential_sent else SEE_HEADERS.replace("_auth", "")]
    match outcome:
        case "limited":
            return verdict(owner="you", remedy=_LIMITED, reproduce=seen, **evidence)
        case "failing":
            evidence["status_page"] = STATUS_PAGE
            return verdict(owner="atlassian", remedy=_FAILING, reproduce=seen, **evidence)
        case "removed":
            return verdict(**evidence)
    return verdict(owner="network-admin", reproduce=seen, **evidence)
