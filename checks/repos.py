"""The listing of repositories, page by page, and the wanted repository in it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, TypeVar

from diag.api import (
    Asker,
    Check,
    Clone,
    Context,
    DeadlineExceededError,
    Fact,
    Finding,
    Identity,
    Instance,
    Realm,
    Repositories,
    Target,
    Troubles,
    Version,
    bitbucket,
    fail,
    net,
    ok,
    said,
    skip,
    trouble,
    unknown,
    verdicts,
)

T = TypeVar("T")

LEAPS = (
    4  # how often pages may be fetched side by side in vain, as their starts were not as computed
)
LISTING = "{curl_auth} '{url}/rest/api/1.0/repos?limit=25'"
NO_PAGE = {
    "shape": "JSON, but not a page of repositories",
    "loop": "a page that points back to what was read already",
}
LET_IN = (
    "Give the owner of the secret at least read access to it: Repository settings > Permissions."
)
HIDDEN = "it exists, and needs a right that is missing"
ABSENT = "there is no such repository in that project, at least for the owner of this secret"


class Repos(Troubles, Check):
    """List the repositories, as the products that connect do it, and look for the wanted one.

    Page after page is read until the wanted repository is found (with --all-pages to the end,
    several at a time), each where the one before says that it starts. An empty list is no proof of
    a bad secret. A repository that is missing in the list may be archived, moved, hidden or not
    there at all: it is then asked for directly.
    """

    id = "repos"
    title = "the repositories can be listed"
    order = 90
    kinds = frozenset({"datacenter", "unknown"})
    requires = (Target, Instance, Identity)
    after = (Version,)
    provides = (Repositories, Clone, Realm)

    OK = ok("repos-ok", "{there} is there; {seen} repositories were read (pages: {pages})")
    APART = ok(
        "repos-not-listed",
        "{wanted} is not in the listing, but there: it is archived, or was not reached in time",
    )
    MOVED = ok("repos-moved", "{wanted} has moved: its name is {now} now")
    NEEDS_TOKEN = skip(
        "repos-needs-token",
        "Bitbucket lists repositories only for who has signed in: give a token to go on",
    )
    NONE_PUBLIC = skip(
        "repos-none-public", "no repository is open to everybody: give a token to go on"
    )
    NONE = fail(
        "perm-no-repositories",
        "{who} is signed in, but may see no repository of {scope}",
        remedy="The secret is all right: give its owner access to what is to be connected"
        " (Project settings > Permissions).",
        owner="project-admin",
        reproduce=LISTING,
    )
    PUBLIC_ONLY = fail(
        "perm-public-only",
        "{who} sees only what is open to everybody, and has no right of its own to any repository",
        remedy="The secret is all right: give its owner access to what is to be connected"
        " (Project settings > Permissions).",
        owner="project-admin",
        reproduce="{curl_auth} '{url}/rest/api/1.0/repos?permission=REPO_READ&limit=1'",
    )
    NOT_VISIBLE = verdicts.REPO_NOT_VISIBLE
    PROJECT_NOT_FOUND = fail(
        "perm-project-not-found",
        "Bitbucket has no project {key}",
        remedy="Correct the key ({near}): it is what follows /projects/ in the address of the"
        " project's pages. A personal project is ~ and the user's name.",
        owner="you",
        reproduce="{curl_auth} -i '{request}'",
    )
    INVALID_JSON = verdicts.INVALID_JSON
    UNCLEAR = unknown(
        "repos-unclear",
        "the repositories could not be read: {request} was answered {status}: {said}",
        remedy="Look at that answer. {seen} repositories had been read before.",
        owner="server-admin",
        reproduce="{curl_auth} -i '{request}'",
    )

    def run(self, ctx: Context) -> Iterator[Finding | Fact]:
        listing = bitbucket.listing
        asker = Asker(ctx, auth=ctx[Identity].kind != "anonymous")
        search = bitbucket.search.Search(ctx.target.project, ctx.target.repository)
        broken: bitbucket.listing.PageError | None = None
        try:
            self._read(ctx, asker, search)
        except listing.PageError as error:
            broken = error
            if (realm := listing.realm_link(error.answer)) is not None:
                yield Realm(realm)
        findings = [*self._judge(ctx, asker, search, broken), *asker.findings]
        links = search.links.all()
        if links or search.found:
            yield Repositories(search.seen, search.complete, search.wanted, search.first, links)
        chosen = search.wanted or search.first
        usable = search.found and all(f.verdict is not self.PUBLIC_ONLY for f in findings)
        if chosen is not None and usable:
            hrefs = {link.kind: link.href for link in chosen.links}
            yield Clone(chosen.project, chosen.slug, hrefs.get("http"), hrefs.get("ssh"))
        yield from findings

    def _read(self, ctx: Context, asker: Asker, search: bitbucket.search.Search) -> None:
        """Read page after page, as far as needed. Raises PageError."""
        listing, to_the_end = bitbucket.listing, ctx.settings.all_pages
        most = listing.ALL if to_the_end else listing.ENOUGH
        reserve = ctx.settings.deadline / 4  # seconds for what comes after the listing
        reader = bitbucket.reader.Reader()

        def take(answer: net.http.Answer, start: int) -> bitbucket.listing.Page[Any]:
            page = reader.read(answer, start)
            search.add(page)
            return page.emptied()

        def enough() -> bool:
            known = search.complete or (search.found and not to_the_end)
            return known or search.pages >= most or ctx.remaining < reserve

        pages = listing.Pages(_paged(partial(asker.get, alongside=True)), take)
        leaps = LEAPS if to_the_end else 0
        following: int | None = 0
        while following is not None and not (search.pages and enough()):
            page = pages.turn(following)
            if leaps and pages.step is not None and not enough():
                ahead = bitbucket.abreast.Abreast(_paged(asker.begin), take, page, pages.step)
                page = pages.last = ahead.read(enough)
                leaps = 0 if ahead.troubled else leaps - (not ahead.paid)
            following = page.following

    def _judge(
        self,
        ctx: Context,
        asker: Asker,
        search: bitbucket.search.Search,
        broken: bitbucket.listing.PageError | None,
    ) -> Iterator[Finding]:
        if broken is not None:
            yield self._broken(ctx, broken, search)
            if not search.found:
                return
        general = self._general(ctx, asker, search) if search.wanted is None else None
        if not search.found and search.project is not None:
            yield from self._seek(ctx, asker, search, general)
        elif general is not None:
            yield general
        elif search.first is not None:
            wanted = search.wanted or search.first
            yield self.OK(
                seen=search.seen,
                pages=search.pages,
                complete=search.complete,
                there=ctx.quote(f"{wanted.project}/{wanted.slug}"),
                repository_id=wanted.id,
            )

    def _broken(
        self, ctx: Context, broken: bitbucket.listing.PageError, search: bitbucket.search.Search
    ) -> Finding:
        """A page that cannot be used."""
        answer = broken.answer
        anonymous = ctx[Identity].kind == "anonymous"
        if anonymous and bitbucket.datacenter.refusal(answer) in {"not-sent", "nobody"}:
            return self.NEEDS_TOKEN()
        if (common := trouble(ctx, answer)) is not None:
            return common
        evidence: dict[str, Any] = {
            "request": answer.url,
            "status": answer.status,
            "said": NO_PAGE.get(broken.reason) or said(ctx, answer),
            "start": broken.start,
            "seen": search.seen,
        }
        if broken.reason == "answer" and answer.status == 200 and answer.failure is None:
            return self.INVALID_JSON(reproduce=["{curl_auth} -i '{request}'"], **evidence)
        return self.UNCLEAR(**evidence)

    def _general(
        self, ctx: Context, asker: Asker, search: bitbucket.search.Search
    ) -> Finding | None:
        """What is wrong with the listing, whatever is looked for in it."""
        who, anonymous = ctx.quote(ctx[Identity].who), ctx[Identity].kind == "anonymous"
        if not search.seen:
            if not search.complete:
                raise DeadlineExceededError
            return self.NONE_PUBLIC() if anonymous else self.NONE(who=who, scope="any project")
        if anonymous or not search.all_public:
            return None
        # The plain listing has what is public for everybody, this one only for those who were
        # given a right to it.
        answer = asker.get(bitbucket.datacenter.REPOS, {"permission": "REPO_READ", "limit": 1})
        try:
            page = bitbucket.listing.read_page(answer)
        except bitbucket.listing.PageError:
            return None
        if page.values or page.following is not None:
            return None
        return self.PUBLIC_ONLY(who=who, seen=search.seen)

    def _seek(
        self, ctx: Context, asker: Asker, search: bitbucket.search.Search, general: Finding | None
    ) -> Iterator[Finding]:
        """Ask directly for what was not in the listing."""
        listing = bitbucket.listing
        project, slug = search.project or "", search.slug
        wanted = f"{project}/{slug}" if slug else f"project {project}"
        who, anonymous = ctx.quote(ctx[Identity].who), ctx[Identity].kind == "anonymous"
        sought = listing.seek(asker.get, project, slug)
        evidence: dict[str, Any] = {
            "who": who,
            "wanted": wanted,
            "request": sought.answer.url,
            "status": sought.answer.status,
            "said": said(ctx, sought.answer),
            "seen": search.seen,
        }
        match sought.outcome:
            case "there" | "moved" if (one := sought.repository) is not None:
                search.found_apart(one)
                verdict = self.APART if sought.outcome == "there" else self.MOVED
                yield verdict(now=ctx.quote(f"{one.project}/{one.slug}"), **evidence)
            case "there":
                yield general or self.NONE(scope=wanted, **evidence)
            case "no-project":
                near = self._near(ctx, search.projects)
                yield self.PROJECT_NOT_FOUND(key=project, near=near, **evidence)
            case "hidden" | "no-login" if anonymous:
                yield self.NEEDS_TOKEN()
            case "hidden":
                yield general or self.NOT_VISIBLE(reason=HIDDEN, remedy=LET_IN, **evidence)
            case "no-repository":
                near = self._near(ctx, search.siblings)
                yield general or self.NOT_VISIBLE(reason=ABSENT, near=near, **evidence)
            case _:
                yield trouble(ctx, sought.answer) or self.UNCLEAR(**evidence)

    @staticmethod
    def _near(ctx: Context, names: bitbucket.search.Names) -> str:
        found = names.like()
        return f"the most similar one is {ctx.quote(found)}" if found else "none is similar"


def _paged(ask: Callable[..., T]) -> Callable[[int, int], T]:
    """The same for a page of the listing, by start and limit."""
    return lambda start, limit: ask(bitbucket.datacenter.REPOS, {"start": start, "limit": limit})
