"""Check `cloud-scopes`: what the product needs against what the credential was given."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from diag.api import (
    SEE_HEADERS,
    Check,
    CloudAccess,
    CloudHooks,
    CloudReads,
    CloudTried,
    Context,
    Fact,
    Finding,
    Identity,
    Target,
    fail,
    ok,
    record,
    scopes,
    skip,
    verdicts,
)

READ_BACK = "{curl_auth} -o /dev/null -D - '{url}/2.0/user' | grep -i -e x-oauth-scopes -e x-cred"
HOW_TO_ADD = {
    "api_token": "Make a new API token with these scopes: {all}; those of one that exists cannot be"
    " changed.",
    "oauth2": "Add {missing} to the permissions of the OAuth consumer (Workspace settings > OAuth"
    " consumers), and connect anew: a token that exists keeps what it has.",
}
MAKE_ANEW = (
    "Make a new access token with {missing} as well, in the settings of the repository, project or"
    " workspace: those of one that exists cannot be changed."
)


@record
class Line:
    """One need: met by some of the scopes, or short of some; `seen`: a call has shown it."""

    need: str
    by: tuple[str, ...]
    missing: tuple[str, ...]
    seen: bool

    def evidence(self) -> dict[str, Any]:
        state = "missing" if self.missing else "granted"
        return {
            "need": self.need,
            "state": state,
            "by": self.by,
            "missing": self.missing,
            "seen": self.seen,
        }

    def __str__(self) -> str:
        return f"{self.need} by {' and '.join(self.by) or 'a call that was allowed'}"


class CloudScopes(Check):
    """Compare the scopes that the product needs with those that the credential has.

    Bitbucket names the granted ones in the header X-OAuth-Scopes, of each family only the highest.
    Older scopes include others (pullrequest includes repository; webhook is to read and to write),
    the granular ones of API tokens include nothing. What was allowed or refused in this run counts
    for more than the header. With --stage steady the webhooks exist: then a scope that allows more
    than to read, and that nothing needs, is told.
    """

    id = "cloud-scopes"
    title = "the credential has the scopes that are needed"
    order = 100
    kinds = frozenset({"cloud"})
    requires = (Target, Identity)
    after = (CloudAccess, CloudReads, CloudHooks)

    OK = ok("cloud-scopes-ok", "all that {profile} needs is granted ({stage}): {granted}")
    MORE = ok("cloud-scopes-more", "granted beyond what {profile} needs: {more}")
    ANONYMOUS = skip("cloud-scopes-anonymous", "nobody signed in: there are no scopes")
    UNKNOWN_NEEDS = skip("cloud-scopes-unknown", "which scopes {profile} needs is not known")
    UNTOLD = skip("cloud-scopes-untold", "Bitbucket Cloud did not tell the scopes")
    MISSING = fail(
        "cloud-scope-missing",
        "the credential lacks scopes: {missing}; {profile} needs them ({stage}) for {lines}",
        remedy=MAKE_ANEW,
        owner="you",
        reproduce=READ_BACK,
    )
    TOO_BROAD = verdicts.TOO_BROAD

    def run(self, ctx: Context) -> Iterator[Finding | Fact]:
        access, stage = ctx.get(CloudAccess), ctx.settings.stage
        if ctx[Identity].kind == "anonymous":
            yield self.ANONYMOUS()
            return
        needs = ctx.profile.cloud.needs(stage, access.kind if access else "")
        if not needs:
            yield self.UNKNOWN_NEEDS()
            return
        tried = self._tried(ctx)
        granted = self._granted(access, tried)
        if access is None or granted is None:
            yield self.UNTOLD()
            return
        words = access.vocabulary
        rows = scopes.judge(needs, granted, words)
        lines = [self._line(row, tried) for row in rows]
        missing = list(dict.fromkeys(scope for line in lines for scope in line.missing))
        more = scopes.superfluous(rows, granted)
        evidence: dict[str, Any] = {
            "stage": f"--stage {stage}",
            "needs": [line.evidence() for line in lines],
            "more": [ctx.quote(scope) for scope in more],
            "vocabulary": words,
            "scopes": [ctx.quote(scope) for scope in granted],
        }
        if missing:
            everything = list(dict.fromkeys(s for row in rows for s in sorted(row.uses)))
            yield self.MISSING(
                remedy=HOW_TO_ADD.get(access.kind, MAKE_ANEW),
                missing=[ctx.quote(scope) for scope in missing],
                all=everything,
                lines=[line.need for line in lines if line.missing],
                **evidence,
            )
        else:
            text = "; ".join(ctx.quote(str(line)) for line in lines)
            yield self.OK(granted=text, **evidence)
        broad = [ctx.quote(scope) for scope in more if scopes.changes(scope)]
        if broad and stage == "steady":
            yield self._too_broad(ctx, broad, evidence)
        elif more:
            yield self.MORE(**evidence)

    @staticmethod
    def _tried(ctx: Context) -> list[CloudTried]:
        """What was done in this run: what came of it is worth more than a header."""
        reads, hooks = ctx.get(CloudReads), ctx.get(CloudHooks)
        return [*(reads.tried if reads else ()), *(hooks.tried if hooks else ())]

    @staticmethod
    def _granted(access: CloudAccess | None, tried: Sequence[CloudTried]) -> Sequence[str] | None:
        """The granted scopes: by the header, and by whatever a refusal says is granted."""
        header = access.scopes if access else None
        told = [scope for one in tried for scope in one.granted]
        if header is None and not told:
            return None
        return tuple(dict.fromkeys((*(header or ()), *told)))

    @staticmethod
    def _line(row: scopes.Row, tried: Sequence[CloudTried]) -> Line:
        """One need, by the header and by what came of doing it."""
        about = [one for one in tried if one.need == row.need]
        refused = next((one for one in about if one.outcome == "lacks-scope"), None)
        if refused is not None:
            effective = scopes.expand(refused.granted)
            lacks = tuple(one for one in refused.required if one not in effective)
            return Line(row.need, (), lacks or refused.required, seen=True)
        if any(one.outcome == "allowed" for one in about):
            return Line(row.need, row.by if not row.missing else (), (), seen=True)
        return Line(row.need, row.by, row.missing, seen=False)

    def _too_broad(self, ctx: Context, broad: list[str], evidence: dict[str, Any]) -> Finding:
        target = ctx.target
        return self.TOO_BROAD(
            who="the credential",
            too_much=f"do more than is needed: it has {', '.join(broad)}",
            doing="read",
            where="/".join(filter(None, (target.project, target.repository))) or "there",
            broad=broad,
            reproduce=[SEE_HEADERS],
            request=f"{target.base_url}/2.0/user",
            **evidence,
        )
