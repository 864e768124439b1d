"""The fast reader of pages finds in them exactly what a JSON parser does."""

from __future__ import annotations

import json
import re
import tracemalloc
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from diag.bitbucket import listing, search
from diag.bitbucket.listing import PageError
from diag.bitbucket.reader import Reader
from diag.bitbucket.shapes import Run
from diag.net.http import Answer

WANTED = ("MOB", "app-7")


def answer(body: bytes | object) -> Answer:
    data = body if isinstance(body, bytes) else written(body)
    return Answer("https://h/x", status=200, body=data)


def written(body: object) -> bytes:
    """As Bitbucket writes JSON."""
    return json.dumps(body, separators=(",", ":"), ensure_ascii=False).encode()


BASE = "https://h/ctx"


def repository(
    number: int = 0,
    key: str = "MOB",
    *,
    base: str = BASE,
    slug: str | None = None,
    text: str | None = None,
    about: str | None = None,
    public: bool = False,
    archived: bool | None = False,
    origin: object = None,
    clone: Sequence[str] = ("http", "ssh"),
    user: str = "",
) -> dict[str, Any]:
    """As Bitbucket shows one; `user` is the name in its clone link."""
    slug = f"app-{number}" if slug is None else slug
    owner = key[1:].lower() if key.startswith("~") else None
    place = f"users/{owner}" if owner else f"projects/{key}"
    own = {"self": [{"href": f"{base}/{place}"}]}
    project = {"key": key, "id": 1, "name": text or key, "description": about, "public": public}
    project |= {"owner": {"name": owner, "links": own}} if owner else {}
    hrefs = {
        "http": f"{base.replace('://', '://' + user)}/scm/{key.lower()}/{slug}.git",
        "ssh": f"ssh://git@h:7999/{key.lower()}/{slug}.git",
    }
    shown = {
        "slug": slug,
        "id": number,
        "name": text or slug,
        "description": text,
        "origin": origin,
        "project": project | {"links": own},
        "public": public,
        "archived": archived,
        "links": {
            "clone": [{"href": hrefs[name], "name": name} for name in clone],
            "self": [{"href": f"{base}/{place}/repos/{slug}/browse"}],
        },
    }
    return {name: value for name, value in shown.items() if value is not None}


def usual() -> list[object]:
    """Some of each kind, to learn from."""
    return [
        repository(
            number,
            "~JDOE" if number < 16 else "LIB",
            text="text" if number & 1 else None,
            about="text" if number & 2 else None,
            origin=repository(number - 1) if number & 4 else None,
            archived=[None, False, True][number % 3],
        )
        for number in range(32)
    ]


def page(values: Sequence[object], start: int = 0, following: int | None = None) -> dict[str, Any]:
    ends = {"isLastPage": True} if following is None else {"isLastPage": False}
    more = {} if following is None else {"nextPageStart": following}
    return {"size": len(values), "limit": 25, **ends, "values": values, "start": start, **more}


def told(bodies: Sequence[bytes], *, fast: bool) -> list[Any]:
    """All that is concluded from these pages."""
    found = search.Search(*WANTED)
    reader = Reader()
    ends: list[object] = []
    for number, body in enumerate(bodies):
        try:
            one = (reader.read if fast else listing.read_page)(answer(body), number)
            ends.append((one.following, one.limit))
            found.add(one)
        except PageError as error:
            ends.append((error.reason, error.start))
    names = [found.projects.like(), found.siblings.like()]
    state = [found.seen, found.pages, found.complete, found.all_public, found.found]
    return [ends, names, state, found.first, found.wanted, found.links.all()]


def texts() -> st.SearchStrategy[str]:
    signs = [
        '"',
        "\\",
        '\\"href\\":\\"',
        "}]}},{",
        ",",
        "ü",
        "😀",
        "\n",
        "/",
        '","public":true',
        "]",
    ]
    return st.lists(st.sampled_from([*signs, *["a", "app", " "] * 6]), max_size=5).map("".join)


BASES = st.sampled_from([*["https://h/ctx"] * 8, "http://localhost:7990", "https://H:8443/ctx"])
ODD_LINKS: st.SearchStrategy[object] = st.sampled_from(
    [
        None,
        [],
        {},
        {"self": None, "clone": {}},
        {"self": [1, {}, {"href": 5}], "clone": [{"name": 1, "href": "https://h/scm/a/b"}]},
        {"clone": [{"href": "https://cdn.example.com/a", "name": "cdn"}]},
        {"clone": [{"href": "ssh://h/scm/a/b.git", "name": "http"}], "self": []},
        {"clone": [{"href": "https://h/scm/a/scm/b/c.git", "name": "http"}]},
        {"clone": [{"href": "https://h/scm/ü/b.git", "name": "http"}]},
        {"self": [{"href": " https://h/projects/A/repos/b "}, {"href": "/relative/repos/x"}]},
        {"self": [{"href": "https://h/users/jdoe/repos/b", "extra": {"a": [1, "x"]}}]},
        {"related": [{"href": "https://other/projects/A/repos/b/browse"}], "self": []},
    ]
)


MOSTLY = st.sampled_from([True] * 7 + [False])
KEYS = st.sampled_from(["MOB", "MBO", "LIB", "~JDOE", "P_1", "Ü"])


@st.composite
def repositories(draw: st.DrawFn, depth: int = 0) -> object:
    """One as Bitbucket has them, or nearly so."""
    shown = repository(
        draw(st.integers(-1, 30)),
        draw(KEYS),
        base=draw(BASES),
        slug=None if draw(MOSTLY) else draw(texts()),
        text=draw(texts()) if draw(st.booleans()) else None,
        about=draw(texts()) if draw(st.booleans()) else None,
        public=not draw(MOSTLY),
        archived=draw(st.sampled_from([None, False, True])),
        origin=draw(repositories(depth=1)) if depth == 0 and not draw(MOSTLY) else None,
        clone=("http", "ssh") if draw(MOSTLY) else draw(st.sampled_from([("ssh",), ("http",), ()])),
        user="" if draw(MOSTLY) else "jdoe@",
    )
    return shown if draw(MOSTLY) else odd(draw, shown)


def odd(draw: st.DrawFn, shown: dict[str, Any]) -> object:
    """Something is out of the ordinary."""
    match draw(st.integers(0, 6)):
        case 0:
            return shown | {"links": draw(ODD_LINKS)}
        case 1:
            del shown[draw(st.sampled_from(["slug", "project", "links", "public"]))]
        case 2:
            return dict(reversed(shown.items()))
        case 3:
            return draw(st.sampled_from([None, [], {}, "x", 1.5, {"slug": 1, "project": {}}]))
        case 4:
            shown["links"]["clone"].reverse()
        case 5:
            shown["public"] = draw(st.sampled_from([None, 1, "true", [True]]))
        case _:
            more: list[object] = [1.5, 1e300, None, "x", [["a", 1], []], {"a b": {}}]
            return {
                **shown,
                draw(st.sampled_from(["score", "slug ", "links2"])): draw(st.sampled_from(more)),
            }
    return shown


def spelt(body: dict[str, Any], way: int | None) -> bytes:
    """The same JSON, written in another way."""
    text = written(body)
    match way:
        case 0:
            return json.dumps(body).encode()
        case 1:
            return json.dumps(body, indent=2).encode()
        case 2:
            return text.replace(b"/", rb"\/")
        case 3:
            return json.dumps(body, separators=(",", ":")).encode()  # \u00fc
        case 4:
            return text.replace(b'"href":"', b'"href" :\t"') + b"\n"
        case 5:
            return text[:-3]
        case 6:
            return text.replace(b'"values":[', b'"values":[,', 1)
        case 7:
            return text.replace("ü".encode(), b"\xfc")
        case 8:
            return text.replace(b',"start"', b',"values":[],"start"')
        case 9:
            return text.replace(b'{"size"', b'{"more":{"values":[]},"size"')
        case 10:
            return b'{"values":[' + text + b'],"limit":25}'
        case _:
            return text


PAGES = st.lists(
    st.tuples(st.lists(repositories(), max_size=12), st.sampled_from([*[None] * 30, *range(11)])),
    min_size=1,
    max_size=3,
)


@settings(max_examples=60, deadline=None)
@given(PAGES)
def test_the_same_is_found_as_by_a_json_parser(
    drawn: list[tuple[list[object], int | None]],
) -> None:
    pages = [written(page(usual(), 0, 1))]
    for number, (values, way) in enumerate(drawn, 1):
        pages.append(spelt(page(values, number, number + 1), way))
    assert told(pages, fast=True) == told(pages, fast=False)


def runs(one: listing.Page[Any]) -> list[int]:
    """How many repositories there are in each run; 1 for each that was read in full."""
    return [len(value.matches) if isinstance(value, Run) else 1 for value in one.values]


def test_what_looks_like_the_others_is_only_compared() -> None:
    reader = Reader()
    first = reader.read(answer(page(usual())), 0)
    assert runs(first) == [1] * 32
    assert runs(reader.read(answer(page(usual())), 32)) == [16, 16]  # a person's, a project's
    odd = [*usual()[:5], repository(base="http://other"), *usual()[5:]]
    assert runs(reader.read(answer(page(odd)), 64)) == [5, 1, 11, 16]


def test_what_is_new_is_learned_after_some_of_it() -> None:
    reader = Reader()
    reader.read(answer(page([repository()])), 0)
    other = [repository(number, base="http://other") for number in range(9)]
    assert runs(reader.read(answer(page(other)), 0)) == [1] * 9
    assert runs(reader.read(answer(page(other)), 0)) == [9]
    assert runs(reader.read(answer(page([repository(), *other])), 0)) == [1, 9]
    for number in range(18):
        strange = [repository(number, base=f"http://other{number}"), *other]
        assert runs(reader.read(answer(page(strange)), 0)) == [1, 9]


def test_an_empty_page_is_one() -> None:
    reader = Reader()
    reader.read(answer(page([repository()])), 0)
    assert reader.read(answer(page([], 1, 2)), 1).following == 2


@pytest.mark.parametrize(
    "change",
    [
        (b'"id":7', b'"id":'),
        (b'"name":"app-7"', b'"name":"app-7'),
        (b'"name":"app-7"', b'"name":"<script src="x">"'),
        (b'"public":false,', b'"public":false,,'),
        (b"}]}},{", b"}]}}{"),
        (b"}]}},{", b"}]},{"),
        (b"}]}}],", b"}]}},],"),
        (b'"browse', b"\xff"),
        (b'"isLastPage":true', b'"isLastPage":false'),
        (b'"limit":25', b'"limit":025'),
        (b'"start":0}', b'"start":0}}'),
    ],
)
def test_what_is_no_page_passes_for_none(change: tuple[bytes, bytes]) -> None:
    pages = [written(page(usual(), 0, 1)), written(page(usual()))]
    broken = pages[1].replace(*change)
    assert told([pages[0], broken], fast=True) == told([pages[0], broken], fast=False)


def test_two_thousand_pages_leave_little_behind() -> None:
    """Every repository of another project, and none of them the wanted one."""
    found, reader = search.Search("QQ0X", "app-x"), Reader()
    text = written(page([repository(number, f"QQ{number}X") for number in range(6)], 0, 1))
    held = []
    tracemalloc.start()
    try:
        for number in range(2000):
            body = re.sub(rb"(QQ|qq)(\d)X", rb"\g<1>\g<2>%d" % number, text)
            found.add(reader.read(answer(body), number))
            if number in {999, 1999}:
                held.append(tracemalloc.get_traced_memory()[0])
    finally:
        tracemalloc.stop()
    assert found.seen == 12_000
    assert str(found.projects.like()).startswith("QQ")
    assert abs(held[1] - held[0]) < 100_000
