"""A listing of repositories as Bitbucket Data Center pages it, and the links in it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar
from urllib.parse import unquote, urlsplit

from diag.bitbucket import datacenter
from diag.facts import Link, Repository
from diag.record import record, replace

if TYPE_CHECKING:
    from diag.model import Json
    from diag.net.http import Answer

V_co = TypeVar("V_co", covariant=True)
Fetch = Callable[[int, int], "Answer"]  # start and limit of a page
FIRST, LATER = 100, 1000  # how many to ask for: the server gives no more than its own limit
# Pages that are read: what is looked for and not among so many is asked for directly, which costs
# less; and a listing that never ends, as gateways that page by themselves can bring about, does,
# though not before a million repositories, at 25 a page.
ENOUGH, ALL = 200, 40_000

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
class Page(Generic[V_co]):
    """One page. `limit` is what the server made of the limit that was asked for."""

    answer: Answer
    start: int
    values: Sequence[V_co]
    following: int | None  # where the next page starts, None on the last one
    limit: int | None = None
    length: int = 0  # of the answer, in bytes

    def emptied(self) -> Page[Any]:
        """The same after it was read: a page is large, and one is remembered while others come."""
        return replace(self, answer=replace(self.answer, body=b""), values=())


class Pages:
    """Page after page, each where the one before says that it starts: permissions leave gaps, so
    that this cannot be computed for sure (see `abreast`). A page that was too large to come in time
    is asked for again, smaller."""

    def __init__(
        self,
        fetch: Fetch,
        read: Callable[[Answer, int], Page[Any]] | None = None,
        first: int = FIRST,
        later: int = LATER,
    ) -> None:
        self._fetch = fetch
        self._read = read or read_page
        self._first, self._later = first, later
        self._asked = first
        self.last: Page[Any] | None = None

    def turn(self, start: int) -> Page[Any]:
        """The page that starts there.

        Raises:
            PageError: it cannot be used.
        """
        if self.last is not None and start <= self.last.start:
            raise PageError("loop", self.last.answer, start)
        self._asked = self._first if self.last is None else self._later
        answer = self._fetch(start, self._asked)
        if answer.failure in ("timeout", "slow") and self._asked > self._first:
            self._asked = self._later = self._first
            answer = self._fetch(start, self._asked)
        self.last = self._read(answer, start)
        return self.last

    @property
    def step(self) -> int | None:
        """How far apart the pages start, if the last one shows it: it has the server's own limit,
        which came in time, and no gap follows."""
        page = self.last
        if page is None or not page.limit or page.following != page.start + page.limit:
            return None
        own = page.limit < self._asked or self._asked == LATER
        return page.limit if own and self._later == LATER else None


def read_page(answer: Answer, start: int = 0) -> Page[Json]:
    """One page out of an answer. Raises PageError."""
    body = answer.json() if answer.status == 200 and answer.failure is None else None
    if body is None:
        raise PageError("answer", answer, start)
    values = body.get("values") if isinstance(body, dict) else None
    if not isinstance(body, dict) or not isinstance(values, list):
        raise PageError("shape", answer, start)
    return page_of(answer, start, body, values)


def page_of(
    answer: Answer, start: int, body: Mapping[str, Json], values: Sequence[V_co]
) -> Page[V_co]:
    """The page of these values; what else stands in the body says what follows. Raises
    PageError."""
    following, limit = body.get("nextPageStart"), body.get("limit")
    if body.get("isLastPage") is True:
        following = None
    elif following is None and body.get("isLastPage") is False:
        raise PageError("shape", answer, start)
    if following is not None and (isinstance(following, bool) or not isinstance(following, int)):
        raise PageError("shape", answer, start)
    own = limit if isinstance(limit, int) else None
    return Page(answer, start, values, following, own, len(answer.body))


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

    def add(self, new: Link, times: int = 1) -> None:
        key = (new.kind, new.base)
        self._found.setdefault(key, new)
        self._counts[key] = self._counts.get(key, 0) + new.count * times

    def all(self) -> tuple[Link, ...]:
        return tuple(replace(one, count=self._counts[key]) for key, one in self._found.items())


def like(name: str, names: Iterable[str]) -> str | None:
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
