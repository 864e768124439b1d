"""Check `cloud-repository`: is the wanted repository there, and may its content be read?"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

from diag.api import (
    SEE_HEADERS,
    Check,
    CloudAccess,
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
    fail,
    net,
    ok,
    skip,
    unknown,
    verdicts,
)

if TYPE_CHECKING:
    Answer = net.http.Answer

MOST_PAGES = 2  # of a list that only serves to name what is similar
BRANCHES = "/refs/branches"
CONTENT = {  # what is below a repository's address, and the need that reading it meets
    BRANCHES: "repository:read",
    "/commits": "repository:read",
    "/pullrequests": "pullrequest:read",
}
PLACES = {
    "repo_access_token": "repository",
    "project_access_token": "project",
    "workspace_access_token": "workspace",
}


class CloudRepository(CloudTroubles, Check):
    """Ask for the repository, then for its branches, commits and pull requests.

    Bitbucket Cloud answers 404 to what is missing, to what is hidden and to whoever is not signed
    in: the workspace, and the list of what the credential has a right to, tell these apart as far
    as that goes. Where the repository is shown but none of its content, the workspace's list of
    allowed IP addresses is to be suspected, for that guards content alone.
    """

    id = "cloud-repository"
    title = "the repository can be read"
    order = 90
    kinds = frozenset({"cloud"})
    requires = (Target, Instance, Identity)
    after = (CloudAccess,)
    provides = (CloudReads,)

    OK = ok("cloud-repository-ok", "{wanted} is there ({visibility}); it gives {read}")
    SEEN = ok("cloud-repository-seen", "{wanted} is there; its content is for check cloud-scopes")
    RENAMED = ok("cloud-repository-renamed", "{wanted} is called {now} now")
    LISTED = ok("cloud-workspace-ok", "workspace {workspace}: {count} repositories can be seen")
    UNNAMED = skip(
        "cloud-repository-unnamed",
        "no repository was named: give --repo WORKSPACE/REPOSITORY to have it examined",
    )
    NEEDS_TOKEN = skip(
        "cloud-repository-needs-token",
        "{wanted} is not open to everybody, if it is there: give a token to go on",
    )
    NEEDS_SCOPE = skip(
        "cloud-repository-needs-scope", "{wanted} is not shown for want of a scope (cloud-scopes)"
    )
    NO_WORKSPACE = fail(
        "cloud-workspace-not-found",
        "Bitbucket Cloud knows no workspace {workspace}, at least not for {who}",
        remedy="Correct it: it is the first part of the address, bitbucket.org/WORKSPACE/…, not the"
        " name that the pages show. A private workspace is not shown to who is no member of it,"
        " nor to a token of another one.",
        owner="you",
        reproduce=SEE_HEADERS,
    )
    NOT_VISIBLE = verdicts.REPO_NOT_VISIBLE
    OTHER_RESOURCE = fail(
        "cloud-token-other-resource",
        "the token is not for {wanted}: as one of a {place} it gives access to {sees}",
        remedy="Make an access token in the settings of {wanted} (or of its project or workspace),"
        " or correct the repository ({near}).",
        owner="you",
        reproduce=SEE_HEADERS,
    )
    IP = fail(
        "cloud-ip-not-allowlisted",
        "{wanted} is shown, its content is not: {basis}",
        remedy="Have this machine's public address put on the list of the workspace (Workspace"
        " settings > Access controls), or run this from an address that is there. {profile} comes"
        " from addresses of its own, which must be on that list too (see check vantage).",
        owner="project-admin",
        reproduce=SEE_HEADERS,
    )
    UNCLEAR = unknown(
        "cloud-repository-unclear",
        "whether {wanted} can be read could not be told: {request} was answered {status}: {said}",
        remedy="Look at that answer, and ask Atlassian's support with its trace: {trace}.",
        owner="atlassian",
        reproduce=SEE_HEADERS,
    )

    def run(self, ctx: Context) -> Iterator[Finding | Fact]:
        target = ctx.target
        if target.project is None:
            yield self.UNNAMED()
        elif target.repository is None:
            yield from self._list(ctx, target.project)
        else:
            yield from self._examine(ctx, target.project, target.repository)

    def _get(self, ctx: Context, path: str, query: dict[str, str] | None = None) -> Answer:
        return cloud_get(ctx, path, query, auth=ctx[Identity].kind != "anonymous")

    def _list(self, ctx: Context, workspace: str) -> Iterator[Finding]:
        """Where no repository is wanted in particular."""
        cloud = bitbucket.cloud
        answer = self._get(ctx, cloud.repositories_path(workspace))
        evidence = self._evidence(ctx, answer)
        found = cloud.page(answer)
        if found is not None:
            count = f"{len(found.values)}{' or more' if found.following else ''}"
            yield self.LISTED(count=count, **evidence)
            yield self.UNNAMED()
        else:
            yield self._other(ctx, answer, evidence)

    def _examine(self, ctx: Context, workspace: str, slug: str) -> Iterator[Finding | Fact]:
        cloud = bitbucket.cloud
        answer = self._get(ctx, cloud.repository_path(workspace, slug))
        evidence = self._evidence(ctx, answer)
        outcome = cloud.outcome(answer)
        body = answer.json()
        shown = body if outcome == "allowed" and isinstance(body, dict) else {}
        private, now = shown.get("is_private"), shown.get("full_name")
        full_name = now if isinstance(now, str) else f"{workspace}/{slug}"
        private = private if isinstance(private, bool) else None
        if outcome == "missing":
            yield from self._missing(ctx, workspace, slug, evidence)
        elif outcome == "lacks-scope":
            yield CloudReads(full_name, private, (self._tried("repository:read", answer),))
            yield self.NEEDS_SCOPE(**evidence)
        elif outcome != "allowed":
            yield self._other(ctx, answer, evidence)
        else:
            if full_name.lower() != f"{workspace}/{slug}".lower():
                yield self.RENAMED(now=ctx.quote(full_name), **evidence)
            visibility = {True: "private", False: "public", None: "visibility not told"}[private]
            evidence["visibility"] = visibility
            yield from self._content(ctx, full_name, private, evidence)

    @staticmethod
    def _evidence(ctx: Context, answer: Answer) -> dict[str, Any]:
        target = ctx.target
        return cloud_evidence(ctx, answer) | {
            "workspace": target.project,
            "wanted": "/".join(filter(None, (target.project, target.repository))),
            "who": ctx.quote(ctx[Identity].who),
        }

    @staticmethod
    def _tried(need: str, answer: Answer) -> CloudTried:
        outcome, told = bitbucket.cloud.outcome(answer), bitbucket.cloud.error(answer)
        return CloudTried(need, answer.url, outcome, told.required, told.granted)

    # what is there

    def _content(
        self, ctx: Context, full_name: str, private: bool | None, evidence: dict[str, Any]
    ) -> Iterator[Finding | Fact]:
        cloud, target = bitbucket.cloud, ctx.target
        base = cloud.repository_path(target.project or "", target.repository or "")
        tried: dict[str, CloudTried] = {}
        kept: list[Answer] = []  # metadata is shown, this is not
        for path, need in self._wanted(ctx).items():
            answer = self._get(ctx, base + path)
            one = tried[path] = self._tried(need, answer)
            empty = one.outcome == "missing" and tried[BRANCHES].outcome == "allowed"
            if one.outcome in {"allowed", "lacks-scope"} or empty:  # no commits, for one
                continue
            if one.outcome not in {"ip", "refused", "missing"}:
                yield self._other(ctx, answer, evidence | cloud_evidence(ctx, answer))
                return
            kept.append(answer)
            if one.outcome == "ip" or len(kept) == 2:
                break
        yield CloudReads(full_name, private, tuple(tried.values()))
        if kept:
            yield self._withheld(ctx, kept, private, evidence)
            return
        names = (path.rpartition("/")[2] for path, one in tried.items() if one.outcome == "allowed")
        read = ", ".join(names)
        yield self.OK(read=read, **evidence) if read else self.SEEN(**evidence)

    @staticmethod
    def _wanted(ctx: Context) -> dict[str, str]:
        """What the product reads: the branches in any case, git itself shows them."""
        access = ctx.get(CloudAccess)
        needs = ctx.profile.cloud.needs(ctx.settings.stage, access.kind if access else "")
        return {p: need for p, need in CONTENT.items() if need in {"repository:read", *needs}}

    def _withheld(
        self,
        ctx: Context,
        kept: list[Answer],
        private: bool | None,
        evidence: dict[str, Any],
    ) -> Finding:
        """Content that is not given, though the repository is shown and no scope is named."""
        evidence = evidence | cloud_evidence(ctx, kept[-1])
        if bitbucket.cloud.outcome(kept[-1]) == "ip":
            basis = "Bitbucket says that an administrator must put this address on a list"
            return self.IP(basis=basis, **evidence)
        if private is False or len(kept) < 2:  # that list guards private repositories, and all
            return self.UNCLEAR(**evidence)
        statuses = " and ".join(dict.fromkeys(str(answer.status) for answer in kept))
        basis = (
            f"branches and commits are answered {statuses}, with no scope named as missing; the"
            " workspace's list of allowed IP addresses is to be suspected"
        )
        return self.IP(basis=basis, heuristic=True, **evidence)

    # what is not there

    def _missing(
        self, ctx: Context, workspace: str, slug: str, evidence: dict[str, Any]
    ) -> Iterator[Finding]:
        """A 404: no workspace, no repository, no right, or another repository's token."""
        cloud = bitbucket.cloud
        if ctx[Identity].kind == "anonymous":
            yield self.NEEDS_TOKEN(**evidence)
            return
        answer = self._get(ctx, cloud.workspace_path(workspace))
        if cloud.outcome(answer) in {"no-workspace", "missing"}:
            yield self.NO_WORKSPACE(**evidence | cloud_evidence(ctx, answer))
            return
        if cloud.outcome(answer) in {"limited", "failing", "unauthorized"}:
            yield self._other(ctx, answer, evidence | cloud_evidence(ctx, answer))
            return
        # Only what the credential itself has a right to: what is public says nothing about it.
        answer = self._get(ctx, cloud.repositories_path(workspace), {"role": "member"})
        if cloud.outcome(answer) == "no-workspace":
            yield self.NO_WORKSPACE(**evidence | cloud_evidence(ctx, answer))
            return
        listing = list(cloud.pages(partial(self._get, ctx), answer, MOST_PAGES))
        sees = cloud.full_names(value for page in listing for value in page.values)
        like = bitbucket.listing.like(slug, {name.partition("/")[2] for name in sees})
        near = like and f"{workspace}/{like}"
        access = ctx.get(CloudAccess)
        evidence |= {
            "sees_so_many": len(sees),
            "near": f"the most similar one is {ctx.quote(near)}" if near else "none is similar",
        }
        if listing and access is not None and self._is_elsewhere(access, sees, near):
            names = ctx.quote(", ".join(sees[:3])) + (" and more" if len(sees) > 3 else "")
            evidence["sees"] = names if sees else f"nothing in workspace {workspace}"
            place = PLACES.get(access.kind, "workspace")
            yield self.OTHER_RESOURCE(place=place, **evidence)
            return
        reason = (
            "it is missing, renamed or hidden from the credential, Bitbucket does not tell which"
            " (404)"
        )
        yield self.NOT_VISIBLE(reason=reason, reproduce=[SEE_HEADERS], **evidence)

    @staticmethod
    def _is_elsewhere(access: CloudAccess, sees: list[str], near: str | None) -> bool:
        """Whether a token that belongs to one place is one of another place. That of a workspace
        has a right to something there, else it is another's; in a project it may be a slip of the
        pen that the repository is not seen."""
        if access.kind == "repo_access_token":
            return True
        return access.of_resource and not (near if access.kind == "project_access_token" else sees)

    def _other(self, ctx: Context, answer: Answer, evidence: dict[str, Any]) -> Finding:
        outcome = bitbucket.cloud.outcome(answer)
        if outcome == "no-workspace":
            return self.NO_WORKSPACE(**evidence)
        if outcome == "ip":
            return self.IP(basis="Bitbucket says that this address is not on its list", **evidence)
        if outcome == "missing" and ctx.target.repository is None:
            return self.NO_WORKSPACE(**evidence)
        return cloud_trouble(ctx, answer) or self.UNCLEAR(**evidence)
