"""Pages, repositories and links out of what Bitbucket answers."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from diag.bitbucket import listing
from diag.bitbucket.listing import PageError, Place
from diag.model import Json
from diag.net.http import Answer, Headers


def answer(body: object, status: int = 200, **headers: str) -> Answer:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Answer("https://h/x", status=status, headers=Headers(headers.items()), body=data)


def page(start: int, following: int | None, count: int = 1, **more: object) -> Answer:
    body: dict[str, object] = {"start": start, "size": count, "values": [{}] * count, "limit": 25}
    body |= {"isLastPage": following is None, "nextPageStart": following}
    return answer(body | more)


def turn(*answers: Answer) -> Iterator[tuple[int, int, listing.Page[Json]]]:
    """The pages, and what was asked for each."""
    asked: list[tuple[int, int]] = []
    left = iter(answers)

    def fetch(start: int, limit: int) -> Answer:
        asked.append((start, limit))
        return next(left)

    pages, start = listing.Pages(fetch), 0
    while True:
        one = pages.turn(start)
        yield *asked[-1], one
        if one.following is None:
            return
        start = one.following


def test_each_page_says_where_the_next_one_starts() -> None:
    turned = list(turn(page(0, 5), page(5, 90), page(90, None)))
    assert [(start, limit) for start, limit, _ in turned] == [(0, 100), (5, 1000), (90, 1000)]
    assert [one.limit for *_, one in turned] == [25, 25, 25]  # what the server made of it


def test_a_start_that_is_still_named_on_the_last_page_is_not_followed() -> None:
    assert len(list(turn(page(0, None, nextPageStart=25)))) == 1


def test_a_page_that_is_too_large_is_asked_for_again_smaller() -> None:
    late = Answer("https://h/x", failure="timeout")
    turned = list(turn(page(0, 5), late, page(5, 90), page(90, None)))
    assert [(start, limit) for start, limit, _ in turned] == [(0, 100), (5, 100), (90, 100)]
    with pytest.raises(PageError):
        list(turn(late))


@pytest.mark.parametrize(
    ("answers", "reason", "start"),
    [
        ([page(0, 25), page(25, 25)], "loop", 25),
        ([page(0, 25), page(25, 0)], "loop", 0),
        ([page(0, 25), answer(b"<html>blocked</html>")], "answer", 25),
        ([page(0, 25), answer({}, 500)], "answer", 25),
        ([answer([])], "shape", 0),
        ([answer({"values": {}})], "shape", 0),
        ([page(0, None, isLastPage=False)], "shape", 0),
        ([page(0, 25, nextPageStart="25")], "shape", 0),
        ([page(0, 25, nextPageStart=True)], "shape", 0),
    ],
)
def test_a_page_that_cannot_be_used_is_named(
    answers: list[Answer], reason: str, start: int
) -> None:
    with pytest.raises(PageError) as caught:
        list(turn(*answers))
    assert (caught.value.reason, caught.value.start) == (reason, start)


REPOSITORY: dict[str, Json] = {
    "slug": "app",
    "id": 7,
    "name": "The App",
    "project": {"key": "MOB"},
    "public": True,
    "links": {
        "self": [{"href": "http://h:7990/ctx/projects/MOB/repos/app/browse"}],
        "clone": [
            {"href": "http://jdoe@h:7990/ctx/scm/mob/app.git", "name": "http"},
            {"href": "ssh://git@s:7999/mob/app.git", "name": "ssh"},
            {"href": "https://cdn.example.com/bundle", "name": "cdn"},
        ],
    },
}


def test_a_repository_has_its_links_without_user_names() -> None:
    found = listing.repository(REPOSITORY)
    assert found is not None
    assert (found.project, found.slug, found.id, found.name) == ("MOB", "app", 7, "The App")
    assert (found.public, found.archived) == (True, False)
    assert [(link.kind, link.href, link.base) for link in found.links] == [
        ("self", "http://h:7990/ctx/projects/MOB/repos/app/browse", "http://h:7990/ctx"),
        ("http", "http://h:7990/ctx/scm/mob/app.git", "http://h:7990/ctx"),
        ("ssh", "ssh://s:7999/mob/app.git", "ssh://s:7999"),
    ]


@pytest.mark.parametrize(
    "value", [None, [], {}, {"slug": "x"}, {"slug": 1, "project": {"key": "K"}}]
)
def test_something_else_is_no_repository(value: object) -> None:
    assert listing.repository(value) is None  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "links",
    [None, [], {"self": None, "clone": {}}, {"self": [1, {}, {"href": 5}], "clone": [{"name": 1}]}],
)
def test_odd_links_are_passed_over(links: Json) -> None:
    found = listing.repository(REPOSITORY | {"links": links})
    assert found is not None
    assert found.links == ()


@pytest.mark.parametrize(
    ("href", "kind", "base"),
    [
        ("https://H.example.com/users/jdoe/repos/x/browse", "self", "https://h.example.com"),
        ("https://h/a/b/scm/~jdoe/x.git", "http", "https://h/a/b"),
        ("https://h/ctx/rest/webhooks/latest/x", "capabilities", "https://h/ctx"),
        ("https://h/ctx/", "realm", "https://h/ctx"),
        ("https://h/elsewhere", "self", None),
        ("https://docs.example.com/help", "capabilities", None),
        ("/relative/path", "self", None),
        ("git@h:mob/app.git", "ssh", None),
        ("https://h/x", "cdn", None),
    ],
)
def test_the_base_url_is_what_stands_before_the_known_part(
    href: str, kind: str, base: str | None
) -> None:
    found = listing.link(href, kind, "here")
    assert (found.base if found else None) == base


def test_links_are_counted_by_kind_and_base() -> None:
    links = listing.Links()
    for number in range(3):
        found = listing.link(f"https://h/scm/k/{number}.git", "http", f"repository {number}")
        assert found is not None
        links.add(found)
    (one,) = links.all()
    assert (one.href, one.count, one.where) == ("https://h/scm/k/0.git", 3, "repository 0")


def test_capabilities_link_to_themselves_and_to_each_other() -> None:
    body: dict[str, Json] = {
        "links": {"self": "http://localhost:7990/rest/capabilities"},
        "capabilities": {"webhooks": "http://localhost:7990/rest/w", "odd": 5},
    }
    assert [link.base for link in listing.capability_links(body)] == ["http://localhost:7990"] * 2
    assert list(listing.capability_links([])) == []


@pytest.mark.parametrize(
    ("url", "place"),
    [
        ("https://H/ctx/", Place("https", "h", 443, "/ctx")),
        ("http://[::1]:7990", Place("http", "::1", 7990, "")),
        ("ssh://s", Place("ssh", "s", 22, "")),
        ("https://bücher.example", Place("https", "xn--bcher-kva.example", 443, "")),
        (f"https://{'ü' * 80}.example", None),
        ("http://h:port", None),
        ("http://[::1", None),
        ("https://", None),
        ("gopher://h", None),
    ],
)
def test_a_place_has_four_parts(url: str, place: Place | None) -> None:
    assert listing.place(url) == place


def test_a_slip_of_the_pen_is_guessed() -> None:
    assert listing.like("mbo", {"MOB", "FIN"}) == "MOB"
    assert listing.like("zzz", {"MOB", "FIN"}) is None


def gone(exception: str, status: int = 404, **headers: str) -> Answer:
    return answer({"errors": [{"message": "m", "exceptionName": exception}]}, status, **headers)


NAMED = {"X-AUSERNAME": "jdoe"}
MOVED = {"Location": "https://h/rest/api/latest/projects/NEW/repos/app2?x=1"}


@pytest.mark.parametrize(
    ("answers", "outcome"),
    [
        ([answer(REPOSITORY)], "there"),
        ([answer({}, 301, **MOVED), answer(REPOSITORY)], "moved"),
        ([answer({}, 307, **MOVED), answer({}, 404)], "unclear"),
        ([answer({}, 302, Location="https://sso.example.com/login")], "unclear"),
        ([gone("com.atlassian.bitbucket.project.NoSuchProjectException")], "no-project"),
        ([gone("com.atlassian.bitbucket.repository.NoSuchRepositoryException")], "no-repository"),
        ([gone("com.atlassian.bitbucket.AuthorisationException", 401, **NAMED)], "hidden"),
        ([gone("x.AuthenticationRequiredException", 401)], "no-login"),
        ([answer(b"<html>", 404)], "unclear"),
        ([answer(b"<html>", 200)], "unclear"),
    ],
)
def test_what_is_not_listed_is_asked_for(answers: list[Answer], outcome: str) -> None:
    asked: list[str] = []

    def ask(path: str) -> Answer:
        asked.append(path)
        return answers[len(asked) - 1]

    assert listing.seek(ask, "MOB", "app").outcome == outcome
    assert len(asked) == len(answers)
    assert asked[1:] in ([], ["/rest/api/latest/projects/NEW/repos/app2"])


def test_a_project_is_asked_for_where_no_repository_is_named() -> None:
    asked: list[str] = []

    def ask(path: str) -> Answer:
        asked.append(path)
        return answer({"key": "MOB"})

    assert listing.seek(ask, "MOB", None).outcome == "there"
    assert asked == ["/rest/api/latest/projects/MOB"]
