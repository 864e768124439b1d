"""A listing of repositories as Bitbucket Data Center pages it, and the links in it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Literal
from urllib.parse import unquote, urlsplit

from diag.bitbucket import datacenter
from diag.facts import Link, Repository
from diag.record import record, replace

if TYPE_CHECKING:
    from diag.model import Json
    from diag.net.http import Answer

Fetch = Callable[[int, int], "Answer"]  # start and limit of a page
FIRST, LATER = 100, 1000  # how many to ask for: the server gives no more than its own limit
# Pages that are read: what is looked for and not among so many is asked for directly, which costs
# less; and a listing that never ends, as gateways that page by themselves can bring about, does.
ENOUGH, ALL = 200, 3000

# What follows the base URL in each kind of link.
_AFTER_BASE = {
    "self": re.compile(r"(.*)/(?:projects|users)/[^/]+/repos/[^/]+(?:/browse)?/?"),
    "http": re.compile(r"(.*)/scm/[^/]+/[^/]+"),
    "capabilities": re.compile(r"(.*?)/(?:rest|plugins)/.*"),
}
_RESOURCE = re.compile(r"/rest/api/[^/]+/projects/([^/?#]+)/repos/([^/?#]+)")
_AUTHORITY = re.compile(r"([a-z][a-z0-9+.-]*)://(?:[^/?#]*@)?([^/?#]*)(.*)", re.IGNORECASE)


class PageError(Exception):
    """A page that cannot be used, so that the listing ends there.

    `reason` is "answer" (it is none: see `answer`), "shape" (JSON, but not a page) or "loop" (it
    points to a page that was read already).
    """

    def __init__(
        self, reason: Literal["answer", "shape", "loop"], answer: Answer, start: int
    ) -> None:
        super().__init__(f"{reason} at start={start}")
        self.reason = reason
        self.answer = answer
        self.start = start


@record
class Page:
    """One page. `limit` is what the server made of the limit that was asked for."""

    answer: Answer
    start: int
    values: tuple[Json, ...]
    following: int | None  # where the next page starts, None on the last one
    limit: int | None = None


def pages(
    fetch: Fetch, first: int = FIRST, later: int = LATER, most: int = ENOUGH
) -> Iterator[Page]:
    """Page after page, at most so many, as each says where the next one starts: permissions leave
    gaps, so that this cannot be computed. A page that was too large to come in time is asked for
    again, smaller.

    Raises:
        PageError: a page cannot be used.
    """
    start, limit = 0, first
    for _ in range(most):
        answer = fetch(start, limit)
        if answer.failure in ("timeout", "slow") and limit > first:
            limit = later = first
            answer = fetch(start, limit)
        page = read_page(answer, start)
        yield page
        if page.following is None:
            return
        if page.following <= start:
            raise PageError("loop", answer, page.following)
        start, limit = page.following, later


def read_page(answer: Answer, start: int = 0) -> Page:
    """One page out of an answer. Raises PageError."""
    body = answer.json() if answer.status == 200 and answer.failure is None else None
    if body is None:
        raise PageError("answer", answer, start)
    values = body.get("values") if isinstance(body, dict) else None
    if not isinstance(body, dict) or not isinstance(values, list):
        raise PageError("shape", answer, start)
    following, limit = body.get("nextPageStart"), body.get("limit")
    if body.get("isLastPage") is True:
        following = None
    elif following is None and body.get("isLastPage") is False:
        raise PageError("shape", answer, start)
    if following is not None and (isinstance(following, bool) or not isinstance(following, int)):
        raise PageError("shape", answer, start)
    return Page(answer, start, tuple(values), following, limit if isinstance(limit, int) else None)


def repository(value: Json) -> Repository | None:
    """A repository out of the JSON that describes one, None if it is something else."""
    if not isinstance(value, Mapping):
        return None
    project = value.get("project")
    key = project.get("key") if isinstance(project, Mapping) else None
    slug, number, name = value.get("slug"), value.get("id"), value.get("name")
    if not isinstance(key, str) or not isinstance(slug, str):
        return None
    return Repository(
        project=key,
        slug=slug,
        id=number if isinstance(number, int) else None,
        name=name if isinstance(name, str) else slug,
        public=value.get("public") is True,
        archived=value.get("archived") is True,
        links=tuple(_repository_links(value.get("links"), f"{key}/{slug}")),
    )


def _repository_links(links: Json, name: str) -> Iterator[Link]:
    for group in ("self", "clone"):
        entries = links.get(group) if isinstance(links, Mapping) else None
        for entry in entries if isinstance(entries, list) else ():
            href = entry.get("href") if isinstance(entry, Mapping) else None
            kind = entry.get("name") if group == "clone" and isinstance(entry, Mapping) else group
            if isinstance(href, str) and (found := link(href, kind, f"{name} links.{group}")):
                yield found


def link(href: str, kind: Json, where: str) -> Link | None:
    """A link without its user information; None if it is not absolute, or of no kind whose form
    tells the base URL."""
    match = _AUTHORITY.fullmatch(href.strip())
    if match is None:
        return None
    scheme, authority, rest = match[1].lower(), match[2].lower(), match[3]
    plain = f"{scheme}://{authority}{rest}"
    match kind:
        case "ssh":
            return Link(plain, "ssh", where, f"{scheme}://{authority}")
        case "realm":
            return Link(plain, "realm", where, plain.rstrip("/"))
        case "self" | "http" | "capabilities":
            after = _AFTER_BASE[kind].fullmatch(plain)
            return Link(plain, kind, where, after[1]) if after else None
    return None


def realm_link(answer: Answer) -> Link | None:
    """The base URL that a 401 names in its OAuth realm."""
    href = datacenter.realm(answer)
    return None if href is None else link(href, "realm", f"WWW-Authenticate of {answer.url}")


def capability_links(body: Json) -> Iterator[Link]:
    """The links of /rest/capabilities: its own, and one to each capability."""
    if not isinstance(body, Mapping):
        return
    for group, names in (("links", body.get("links")), ("capabilities", body.get("capabilities"))):
        for name, href in names.items() if isinstance(names, Mapping) else ():
            where = f"/rest/capabilities {group}.{name}"
            if isinstance(href, str) and (found := link(href, "capabilities", where)):
                yield found


class Links:
    """Keeps one example of every kind and base, and counts the rest: a listing may have 300,000."""

    def __init__(self) -> None:
        self._found: dict[tuple[str, str], Link] = {}
        self._counts: dict[tuple[str, str], int] = {}

    def add(self, new: Link) -> None:
        key = (new.kind, new.base)
        self._found.setdefault(key, new)
        self._counts[key] = self._counts.get(key, 0) + new.count

    def all(self) -> tuple[Link, ...]:
        return tuple(replace(one, count=self._counts[key]) for key, one in self._found.items())


class Search:
    """What a listing is read for: a repository, any of a project, or any at all; and what it shows
    on the way."""

    def __init__(self, project: str | None, slug: str | None) -> None:
        self.project = project
        self.slug = slug
        self.seen = 0
        self.pages = 0
        self.complete = False
        self.all_public = True
        self.wanted: Repository | None = None
        self.first: Repository | None = None  # of the wanted project, or of all
        self.links = Links()
        self.projects: set[str] = set()
        self.siblings: set[str] = set()  # the repositories of the wanted project

    @property
    def found(self) -> bool:
        return (self.wanted if self.slug else self.first) is not None

    def add(self, page: Page) -> None:
        """Raises PageError: there is something else than repositories on it."""
        for value in page.values:
            one = repository(value)
            if one is None:
                raise PageError("shape", page.answer, page.start)
            self._take(one)
        self.pages += 1
        self.complete = page.following is None

    def _take(self, one: Repository) -> None:
        self.seen += 1
        self.all_public = self.all_public and one.public
        self.projects.add(one.project)
        for each in one.links:
            self.links.add(each)
        # Bitbucket compares keys and slugs without case.
        if self.project is not None and one.project.lower() != self.project.lower():
            return
        if self.first is None:
            self.first = one
        if self.slug is not None:
            self.siblings.add(one.slug)
            if one.slug.lower() == self.slug.lower():
                self.wanted = one

    def found_apart(self, one: Repository) -> None:
        """The wanted repository is there, though not in the listing."""
        self.wanted = one
        for each in one.links:
            self.links.add(each)


def like(name: str, names: set[str]) -> str | None:
    """The one of `names` that is much like this one: it may be a slip of the pen."""
    folded = {each.lower(): each for each in names}
    import difflib

    near = difflib.get_close_matches(name.lower(), folded, n=1)
    return folded[near[0]] if near else None


@record
class Sought:
    """What came of asking for one repository, or project, directly."""

    outcome: Literal[
        "there",
        "moved",  # there, under another name
        "no-project",
        "no-repository",
        "hidden",  # there, but not for this caller
        "no-login",  # nobody signed in, as Bitbucket sees it
        "unclear",
    ]
    answer: Answer
    repository: Repository | None = None


def seek(ask: Callable[[str], Answer], project: str, slug: str | None) -> Sought:
    """Ask for what is not in the listing: archived repositories are not, nor moved ones."""
    path = datacenter.repository_path(project, slug) if slug else datacenter.project_path(project)
    answer = ask(path)
    if moved := _moved(answer):
        answer = ask(moved)
        one = repository(answer.json()) if answer.status == 200 else None
        return Sought("moved" if one else "unclear", answer, one)
    if answer.status == 200:
        one = repository(answer.json())
        return Sought("there" if one or slug is None else "unclear", answer, one)
    names = {error.name for error in datacenter.errors(answer)}
    if answer.status == 404 and "NoSuchProjectException" in names:
        return Sought("no-project", answer)
    if answer.status == 404 and "NoSuchRepositoryException" in names:
        return Sought("no-repository", answer)
    match datacenter.refusal(answer):
        case "forbidden" | "nobody":
            return Sought("hidden", answer)
        case "not-sent":
            return Sought("no-login", answer)
    return Sought("unclear", answer)


def _moved(answer: Answer) -> str | None:
    """The path of the resource that a redirect names, None if it names something else."""
    if answer.status not in {301, 302, 307, 308}:
        return None
    match = _RESOURCE.search(answer.header("location") or "")
    return datacenter.repository_path(unquote(match[1]), unquote(match[2])) if match else None


@record
class Place:
    """Where a base URL, or the address of an SSH link, points."""

    scheme: str
    host: str  # lower case, an IPv6 literal without brackets
    port: int
    context: str  # "" or "/bitbucket"


_PORTS = {"http": 80, "https": 443, "ssh": 22}


def place(url: str) -> Place | None:
    """The parts of a base URL, None if it is none."""
    try:
        parts = urlsplit(url)
        port = parts.port or _PORTS.get(parts.scheme)
        host = parts.hostname or ""
        if not host.isascii():
            host = host.encode("idna").decode()
    except ValueError:  # UnicodeError is one
        return None
    if not host or port is None:
        return None
    return Place(parts.scheme, host, port, parts.path.rstrip("/"))
