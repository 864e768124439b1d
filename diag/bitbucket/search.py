"""What a listing is read for, and what it shows on the way, in little memory however long it is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from diag.bitbucket import listing, shapes
from diag.bitbucket.listing import Links, Page, PageError
from diag.bitbucket.shapes import Run

if TYPE_CHECKING:
    from diag.facts import Repository
    from diag.model import Json

_MOST = 5000  # names that are kept to guess from


class Names:
    """Those of many names that may be a slip of the pen for one: the first few thousand that are
    about as long. The others are dropped."""

    def __init__(self, wanted: str) -> None:
        self._wanted = wanted
        self._near: set[str] = set()

    def add(self, name: str) -> None:
        # More than 7 to 3 in length, and `difflib` finds no two names alike.
        short, long = sorted((len(name), len(self._wanted)))
        if 7 * short >= 3 * long and len(self._near) < _MOST:
            self._near.add(name)

    def like(self) -> str | None:
        """The one that is most like the wanted one, if any is much like it."""
        return listing.like(self._wanted, self._near)


class Search:
    """A repository, any of a project, or any at all is looked for."""

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
        self.projects = Names(project or "")
        self.siblings = Names(slug or "")  # the repositories of the wanted project

    @property
    def found(self) -> bool:
        return (self.wanted if self.slug else self.first) is not None

    def add(self, page: Page[Json | Run]) -> None:
        """Raises PageError: there is something else than repositories on it."""
        for value in page.values:
            if isinstance(value, Run):
                self._count(value)
                continue
            one = listing.repository(value)
            if one is None:
                raise PageError("shape", page.answer, page.start)
            self._take(one)
        self.pages += 1
        self.complete = page.following is None

    def _count(self, run: Run) -> None:
        times = len(run.matches)
        self.seen += times
        self.all_public = self.all_public and run.shape.public
        for each in run.shape.links:
            self.links.add(each, times)
        if self.found:
            return  # names are of no use any more
        for project, matches in run.projects():
            if not self._is_in_reach(project):
                continue
            for match in matches:
                if self._is_wanted(shapes.slug(match)) and (one := shapes.repository(match)):
                    self._choose(one)

    def _take(self, one: Repository) -> None:
        self.seen += 1
        self.all_public = self.all_public and one.public
        for each in one.links:
            self.links.add(each)
        if self._is_in_reach(one.project) and self._is_wanted(one.slug):
            self._choose(one)

    def _is_in_reach(self, project: str) -> bool:
        """Whether repositories of this project may be chosen. Bitbucket compares keys and slugs
        without case."""
        if self.project is None:
            return True
        self.projects.add(project)
        return project.lower() == self.project.lower()

    def _is_wanted(self, slug: str) -> bool:
        """Whether the repository of that name, in a project within reach, is to be chosen."""
        if self.slug is not None:
            self.siblings.add(slug)
        return self.first is None or (self.slug is not None and slug.lower() == self.slug.lower())

    def _choose(self, one: Repository) -> None:
        self.first = self.first or one
        if self.slug is not None and one.slug.lower() == self.slug.lower():
            self.wanted = one

    def found_apart(self, one: Repository) -> None:
        """The wanted repository is there, though not in the listing."""
        self.wanted = one
        for each in one.links:
            self.links.add(each)
