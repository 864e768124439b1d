"""What the repositories of a listing look like, learned from some, to know the others by.

A repository that was read in full leaves its shape behind: its form, with its links spelt out but
for the names in them. What matches it has links of the same kinds, below the same base URLs.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from itertools import groupby
from operator import itemgetter
from typing import TYPE_CHECKING

from diag.bitbucket import listing
from diag.bitbucket.forms import Form, FormError
from diag.record import record, replace

if TYPE_CHECKING:
    from diag.facts import Link, Repository
    from diag.model import Json

_MOST = 16  # shapes that are kept
_LARGEST = 20_000  # bytes of an expression: what is so varied is not worth compiling
_WORD = "[A-Za-z0-9_.~%-]++"
# Links that have the same base whatever stands in the words: compare `listing.link`.
_HREFS = {
    "self": re.compile(rf"(.*/(?:projects|users)/){_WORD}(/repos/){_WORD}((?:/browse)?/?)"),
    "http": re.compile(rf"(.*/scm/){_WORD}(/){_WORD}()"),
    "ssh": re.compile(rf"([A-Za-z]+://[^/?#]*/){_WORD}(/){_WORD}()"),
}
_PLAIN = re.compile(r"[!#-\[\]-~]*")  # what JSON writes as it is


@record
class Shape:
    """Repositories that are as public as each other, with links that differ in names only."""

    public: bool
    links: tuple[Link, ...]  # those of one of them
    hrefs: Form
    form: Form

    @classmethod
    def of(cls, value: Json) -> Shape:
        """The shape of one repository. Raises FormError: it is none, or an odd one."""
        one = listing.repository(value)
        if one is None or not isinstance(value, Mapping):
            raise FormError("no repository")
        form, project, hrefs = Form.of(value), Form.of(value["project"]), _hrefs(value.get("links"))
        own = {
            "slug": Form.text(f"(?P<slug>{_WORD})"),
            "project": project.having({"key": Form.text(f"(?P<key>{_WORD})")}),
            "links": hrefs,
        }
        return cls(one.public, one.links, hrefs, form.having(own))

    def expression(self) -> re.Pattern[bytes]:
        """Matches a repository, with the comma that parts it from another. Raises FormError."""
        pattern = self.form.pattern()
        if len(pattern) > _LARGEST:
            raise FormError("they have little in common")
        return re.compile(pattern + rb"(?:,(?=\{)|(?=\]))")


def _hrefs(links: Json) -> Form:
    """The form of the links, each group in full length."""
    form, own = Form.of(links), {}
    for group in ("self", "clone"):
        entries = links.get(group) if isinstance(links, Mapping) else None
        if isinstance(entries, list):
            own[group] = Form.row([_entry(group, entry) for entry in entries])
    return Form(frozenset([form.having(own).pattern()])) if own else form


def _entry(group: str, entry: Json) -> Form:
    form = Form.of(entry)
    if not isinstance(entry, Mapping):
        return form
    href, kind = entry.get("href"), group if group == "self" else entry.get("name")
    own = {}
    if isinstance(kind, str) and group != "self":
        if not _PLAIN.fullmatch(kind):
            raise FormError("a link of an odd kind")
        own["name"] = Form.text(re.escape(kind))
    if isinstance(href, str) and kind in _HREFS:
        match = _HREFS[kind].fullmatch(href)
        if match is None or not _PLAIN.fullmatch(href):
            raise FormError("an odd link")
        before, between, after = map(re.escape, match.groups())
        own["href"] = Form.text(before + _WORD + between + _WORD + after)
    return form.having(own)


@record
class Run:
    """Repositories of one shape that follow each other on a page."""

    shape: Shape
    matches: list[re.Match[bytes]]

    def projects(self) -> Iterator[tuple[str, Iterator[re.Match[bytes]]]]:
        """The key of each project, with those of its repositories that follow each other."""
        for key, matches in groupby(self.matches, itemgetter("key")):
            yield key.decode(), matches


def slug(match: re.Match[bytes]) -> str:
    """The slug of a repository that has a known shape."""
    return match["slug"].decode()


def repository(match: re.Match[bytes]) -> Repository | None:
    """A repository that has a known shape, read in full."""
    return listing.repository(json.loads(match[0].rstrip(b",")))


class Shapes:
    """The shapes that are known."""

    def __init__(self) -> None:
        self._known: dict[tuple[bool, bytes], tuple[Shape, re.Pattern[bytes]]] = {}
        self._order: list[tuple[Shape, re.Pattern[bytes]]] = []  # the last that matched first

    def __bool__(self) -> bool:
        return bool(self._known)

    def learn(self, values: Iterable[Json]) -> None:
        """Know what looks like these from now on, as far as anything can be learned from them."""
        changed: dict[tuple[bool, bytes], Shape] = {}
        for value in values:
            try:
                shape = Shape.of(value)
                key = shape.public, shape.hrefs.pattern()
                old = changed.get(key) or self._known.get(key, (None,))[0]
                if old is not None:
                    changed[key] = replace(old, form=old.form | shape.form)
                elif len(self._known.keys() | changed.keys()) < _MOST:
                    changed[key] = shape
            except FormError:
                continue
        for key, shape in changed.items():
            try:
                self._known[key] = shape, shape.expression()
            except (FormError, re.error):
                continue
        self._order = list(self._known.values())

    def match(self, body: bytes, at: int, end: int) -> tuple[list[Run], int]:
        """The repositories of known shape from there on, and where they come to an end."""
        runs: list[Run] = []
        while at < end:
            for known in self._order:
                if matches := list(_in_a_row(known[1], body, at)):
                    break
            else:
                break
            self._order.remove(known)
            self._order.insert(0, known)
            runs.append(Run(known[0], matches))
            at = matches[-1].end()
        return runs, at


def _in_a_row(expression: re.Pattern[bytes], body: bytes, at: int) -> Iterator[re.Match[bytes]]:
    while (match := expression.match(body, at)) is not None:
        yield match
        at = match.end()
