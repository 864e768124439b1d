"""Whether the secret gives the right that the product needs, and not much more."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from diag.api import (
    Asker,
    Check,
    Clone,
    CloneTried,
    Context,
    Fact,
    Finding,
    Identity,
    Instance,
    Repositories,
    Target,
    Troubles,
    Webhooks,
    bitbucket,
    fail,
    ok,
    said,
    skip,
    stranger,
    trouble,
    unknown,
    verdicts,
    warn,
)

DOING = {"admin": "administer", "write": "write to", "read": "read"}
SEE_STATUS = "{curl_auth} -i '{request}' | head -1"  # not the body: webhooks may hold secrets


class Permission(Troubles, Check):
    """See whether the secret allows what the product does, without doing any of it.

    For webhooks it takes a repository administrator. Bitbucket lists the repositories that a secret
    may administer, and shows the webhooks of the wanted one only to its administrators (what they
    hold of secrets is thrown away at once). What the user may and the secret may not is the
    token's own limit: another token helps then, another right does not. With --stage steady the
    webhooks exist, and a secret that may do more than is needed is told.
    """

    id = "permission"
    title = "the secret allows what is needed"
    order = 110
    kinds = frozenset({"datacenter", "unknown"})
    requires = (Target, Instance, Identity, Repositories, Clone)
    after = (CloneTried,)
    provides = (Webhooks,)

    OK = ok("permission-ok", "{who} may {doing} {where}, as {profile} needs it")
    ANONYMOUS = skip("permission-anonymous", "nobody signed in: give a token to go on")
    LIMITED = skip("permission-not-asked", "no further requests are let through (see check git)")
    MISSING = verdicts.ADMIN_MISSING
    SCOPE_LIMITED = fail(
        "perm-token-scope-limited",
        "the token may not {doing} {where}, though its owner, {who}, may: the token was made with"
        " less",
        remedy="Make a new token with that right (Repository admin, for webhooks). No right of the"
        " user is missing.",
        owner="you",
        reproduce=SEE_STATUS,
    )
    TOO_BROAD = verdicts.TOO_BROAD
    ARCHIVED = warn(
        "perm-repo-archived",
        "{where} is archived: it can be read, but neither changed nor built from",
        remedy="Bring it back, if it is still needed: Repository settings > Unarchive.",
        owner="project-admin",
        reproduce="{curl_auth} '{url}/rest/api/latest/projects/{project}/repos/{repository}'",
    )
    UNCLEAR = unknown(
        "permission-unclear",
        "whether {who} may {doing} {where} could not be told: {request} was answered {status}:"
        " {said}",
        remedy="Look at that answer.",
        owner="server-admin",
        reproduce=SEE_STATUS,
    )

    def ahead(self, ctx: Context) -> Iterator[tuple[type[Fact], ...]]:
        yield Instance, Identity
        need = ctx.profile.setup if ctx.settings.stage == "setup" else ctx.profile.steady
        if need != "admin" or ctx[Identity].kind == "anonymous":
            return
        target = ctx.target
        listing = bitbucket.rights.listing("REPO_ADMIN", target.project, target.repository)
        ctx.http.ahead(**listing, auth=True)
        if (name := ctx[Identity].name) is not None:
            ctx.http.ahead(**bitbucket.rights.users(name, "ADMIN", None), auth=True)

    def run(self, ctx: Context) -> Iterator[Finding | Fact]:
        if ctx[Identity].kind == "anonymous":
            yield self.ANONYMOUS()
            return
        repositories = ctx[Repositories]
        wanted = repositories.wanted
        if wanted is not None and wanted.archived:
            yield self.ARCHIVED(where=f"{wanted.project}/{wanted.slug}")
        tried = ctx.get(CloneTried)
        if tried is not None and tried.limited:
            yield self.LIMITED()
            return
        asker = Asker(ctx, auth=True)
        need = ctx.profile.setup if ctx.settings.stage == "setup" else ctx.profile.steady
        match need:
            case "admin":
                yield from self._administer(ctx, asker)
            case "write":
                yield from self._write(ctx, asker)
            case _:
                yield self.OK(**self._words(ctx, "read"))
                yield from self._too_much(ctx, asker, "read", ("admin", "write"))
        yield from asker.findings

    def _administer(self, ctx: Context, asker: Asker) -> Iterator[Finding | Fact]:
        rights, target, wanted = bitbucket.rights, ctx.target, ctx[Repositories].wanted
        told = rights.listed(asker.get, "REPO_ADMIN", target.project, wanted)
        user = None if told.value else self._user(ctx, asker, "REPO_ADMIN")
        hooks: bitbucket.rights.Told | None = None
        if target.project is not None:
            # The last word, and with a 401 the last request.
            slug = wanted.slug if wanted else None
            project = wanted.project if wanted else target.project
            hooks = rights.webhooks(asker.get, project, slug)
            # A project's webhooks are not needed where its repositories can be administered.
            if hooks.value or (hooks.value is False and not (told.value and wanted is None)):
                told = hooks
            shown = bitbucket.webhooks.read(hooks.answer) if hooks.value and wanted else None
            if shown is not None:
                yield Webhooks(*shown)
        kept = stranger(ctx, hooks.answer) if hooks is not None and told.value else None
        yield kept or self._conclude(ctx, "admin", told, user)
        name = ctx[Identity].name
        if told.value and name is not None:
            chief = rights.user_listed(asker.get, name, "ADMIN", None)
            if chief.value:
                yield self.TOO_BROAD(
                    too_much="administer every repository, as an administrator of Bitbucket itself",
                    request=chief.answer.url,
                    **self._words(ctx, "admin"),
                )

    def _write(self, ctx: Context, asker: Asker) -> Iterator[Finding | Fact]:
        wanted = ctx[Repositories].wanted
        told = bitbucket.rights.listed(asker.get, "REPO_WRITE", ctx.target.project, wanted)
        user = None if told.value else self._user(ctx, asker, "REPO_WRITE")
        yield self._conclude(ctx, "write", told, user)
        if told.value:
            yield from self._too_much(ctx, asker, "write", ("admin",))

    def _user(self, ctx: Context, asker: Asker, permission: str) -> bool | None:
        """Whether the user behind the secret has a right that the secret has not."""
        name = ctx[Identity].name
        repository = ctx[Repositories].wanted or ctx[Repositories].first
        if name is None or repository is None:
            return None
        return bitbucket.rights.user_listed(asker.get, name, permission, repository).value

    def _conclude(
        self, ctx: Context, need: str, told: bitbucket.rights.Told, user: bool | None
    ) -> Finding:
        evidence = self._words(ctx, need)
        evidence |= {"request": told.answer.url, "status": told.answer.status, "user_may": user}
        if told.value:
            return self.OK(**evidence)
        if told.value is False:
            return self.SCOPE_LIMITED(**evidence) if user else self.MISSING(**evidence)
        if (common := trouble(ctx, told.answer)) is not None:
            return common
        return self.UNCLEAR(said=said(ctx, told.answer), **evidence)

    def _too_much(
        self, ctx: Context, asker: Asker, need: str, levels: Sequence[str]
    ) -> Iterator[Finding | Fact]:
        """Whether the secret gives one of these rights too."""
        words = self._words(ctx, need)
        for level in levels:
            told = bitbucket.rights.listed(
                asker.get, f"REPO_{level.upper()}", ctx.target.project, ctx[Repositories].wanted
            )
            if told.value:
                if level == "admin":
                    yield Webhooks(None)
                too_much = f"{DOING[level]} {words['where']}"
                yield self.TOO_BROAD(too_much=too_much, request=told.answer.url, **words)
                return

    def _words(self, ctx: Context, need: str) -> dict[str, Any]:
        target, wanted = ctx.target, ctx[Repositories].wanted
        where = f"project {target.project}" if target.project else "any repository"
        if wanted is not None:
            where = f"{wanted.project}/{wanted.slug}"
        return {
            "who": ctx.quote(ctx[Identity].who),
            "doing": DOING[need],
            "where": ctx.quote(where),
            "stage": f"--stage {ctx.settings.stage}",
        }
