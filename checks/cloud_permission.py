"""Check `cloud-permission`: may the credential make webhooks, as far as asking can tell?"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from diag.api import (
    SEE_HEADERS,
    Check,
    CloudAccess,
    CloudHooks,
    CloudReads,
    CloudTried,
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
    net,
    ok,
    skip,
    unknown,
    verdicts,
)

WRITES = ("webhook:write", "webhook:delete")
GIVE_ADMIN = (
    "Give the user the role Admin: Repository settings > Repository permissions. It is needed while"
    " the webhooks are made; or add them by hand."
)


class CloudPermission(CloudTroubles, Check):
    """See whether webhooks can be made in the repository, without making one.

    Two things are asked: the list of the webhooks (what it shows is thrown away), and for users
    whether the repository is among those that they administer. Whether a webhook can be made or
    deleted cannot be asked without doing it: that is deduced from scopes and role, and says so. A
    token of a repository, project or workspace has no role; its scopes decide.
    """

    id = "cloud-permission"
    title = "webhooks can be made"
    order = 110
    kinds = frozenset({"cloud"})
    requires = (Target, Instance, Identity, CloudReads)
    after = (CloudAccess,)
    provides = (CloudHooks,)

    OK = ok(
        "cloud-permission-ok",
        "{who} {seen}; that webhooks can be made and deleted there is deduced from it, and from the"
        " scopes: it is not tried",
    )
    ANONYMOUS = skip("cloud-permission-anonymous", "nobody signed in: give a token to go on")
    NOT_NEEDED = skip("cloud-permission-not-needed", "{profile} needs no webhooks now ({stage})")
    NEEDS_SCOPE = skip(
        "cloud-permission-needs-scope", "the webhooks are not shown for want of a scope{role}"
    )
    ADMIN_MISSING = verdicts.ADMIN_MISSING
    UNCLEAR = unknown(
        "cloud-permission-unclear",
        "whether {who} may make webhooks in {where} could not be told: {request} was answered"
        " {status}: {said}",
        remedy="Look at that answer, and ask Atlassian's support with its trace: {trace}.",
        owner="atlassian",
        reproduce=SEE_HEADERS,
    )

    def run(self, ctx: Context) -> Iterator[Finding | Fact]:
        if ctx[Identity].kind == "anonymous":
            yield self.ANONYMOUS()
            return
        access = ctx.get(CloudAccess)
        stage = ctx.settings.stage
        needs = ctx.profile.cloud.needs(stage, access.kind if access else "")
        wanted = [need for need in needs if need.startswith("webhook:")]
        if not wanted:
            yield self.NOT_NEEDED(stage=f"--stage {stage}")
            return
        cloud, target = bitbucket.cloud, ctx.target
        workspace, slug = target.project or "", target.repository or ""
        hooks = cloud_get(ctx, f"{cloud.repository_path(workspace, slug)}/hooks", auth=True)
        told, outcome = cloud.error(hooks), cloud.outcome(hooks)
        tried = CloudTried("webhook:read", hooks.url, outcome, told.required, told.granted)
        evidence = self._evidence(ctx, hooks)
        if outcome not in {"allowed", "lacks-scope", "refused"}:
            yield cloud_trouble(ctx, hooks) or self.UNCLEAR(**evidence)
            return
        role: bool | None = None
        if set(wanted) & set(WRITES) and (access is None or not access.of_resource or access.app):
            answer = self._administered(ctx, workspace)
            evidence |= {"role_request": answer.url, "role_status": answer.status}
            found = cloud.page(answer)
            names = [name.lower() for name in cloud.full_names(iter(found.values if found else ()))]
            role = ctx[CloudReads].full_name.lower() in names if found else None
            if found is None and (common := cloud_trouble(ctx, answer)) is not None:
                yield common
                return
        yield CloudHooks((tried,))  # not sooner: check cloud-git counts the requests before its own
        yield self._conclude(outcome, role, evidence)

    @staticmethod
    def _administered(ctx: Context, workspace: str) -> net.http.Answer:
        """The repository, if it is among those that the user administers."""
        query = {"role": "admin", "q": f'full_name="{ctx[CloudReads].full_name}"'}
        return cloud_get(ctx, bitbucket.cloud.repositories_path(workspace), query, auth=True)

    @staticmethod
    def _evidence(ctx: Context, answer: net.http.Answer) -> dict[str, Any]:
        return cloud_evidence(ctx, answer) | {
            "who": ctx.quote(ctx[Identity].who),
            "where": ctx.quote(ctx[CloudReads].full_name),
            "doing": "administer",
            "stage": f"--stage {ctx.settings.stage}",
        }

    def _conclude(self, outcome: str, role: bool | None, evidence: dict[str, Any]) -> Finding:
        """`role`: whether the user administers the repository, None if that cannot be asked."""
        known = evidence | {"administers": role, "deduced": list(WRITES)}
        if outcome == "allowed":
            as_admin = f"administers {known['where']}, and " if role else ""
            return self.OK(seen=f"{as_admin}is shown its webhooks", **known)
        if outcome == "lacks-scope" and role is not False:
            told = f"; {known['who']} administers the repository" if role else ""
            return self.NEEDS_SCOPE(role=told, **known)
        if role is False:
            return self.ADMIN_MISSING(remedy=GIVE_ADMIN, reproduce=[SEE_HEADERS], **known)
        return self.UNCLEAR(**known)
