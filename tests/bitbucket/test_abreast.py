"""Pages that are under way side by side come out as if they were fetched one after the other."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from diag.bitbucket import listing
from diag.bitbucket.abreast import MOST, Abreast, how_many
from diag.bitbucket.listing import Page, PageError
from diag.model import Json
from diag.net.http import Answer, Begun

STEP, END = 10, 230
Fetch = Callable[[int], Answer]


def answer(start: int, following: int | None, limit: int = STEP) -> Answer:
    ends = {"isLastPage": following is None, "nextPageStart": following}
    body = {"values": [start], "limit": limit, **ends}
    return Answer("https://h/x", status=200, body=json.dumps(body).encode())


def whole(start: int) -> Answer:
    return answer(start, start + STEP if start < END else None)


class Noted(Begun):
    """One whose answer comes when it is read, and that notes down how."""

    def __init__(self, walk: Walk, start: int) -> None:
        super().__init__(lambda: walk.finish(start))
        self._walk, self._start = walk, start

    def skim(self) -> Answer:
        self._walk.skimmed.append(self._start)
        return super().skim()


class Walk:
    """The pages that are read behind the first one, and what was asked for and when."""

    def __init__(
        self, fetch: Fetch, enough: Callable[[], bool] = lambda: False, most: int = 99
    ) -> None:
        """No more than `most` connections can be had."""
        self.fetch = fetch
        self.most = most
        self.asked: list[int] = []
        self.read: list[int] = []
        self.under_way: list[int] = []
        self.widths: list[int] = []  # how many were under way after each request
        self.skimmed: list[int] = []
        first = listing.read_page(whole(0), 0)
        self.ahead = Abreast(self.begin, self.take, first, STEP)
        self.end: Page[Json] | PageError
        try:
            self.end = self.ahead.read(enough)
        except PageError as error:
            self.end = error

    def begin(self, start: int, _: int) -> Begun | None:
        if len(self.under_way) == self.most:
            return None
        self.asked.append(start)
        self.under_way.append(start)
        self.widths.append(len(self.under_way))

        return Noted(self, start)

    def finish(self, start: int) -> Answer:
        self.under_way.remove(start)
        return self.fetch(start)

    def take(self, one: Answer, start: int) -> Page[Json]:
        self.read.append(start)
        return listing.read_page(one, start)

    @property
    def following(self) -> int | None:
        assert isinstance(self.end, Page)
        assert not self.under_way  # whatever was asked for ahead has been read
        return self.end.following


def test_they_are_read_in_their_order_to_the_end() -> None:
    walk = Walk(whole)
    assert walk.read == list(range(STEP, END + 1, STEP))
    assert (walk.following, walk.ahead.troubled, walk.ahead.paid) == (None, False, True)
    assert walk.asked == list(range(STEP, END + STEP * MOST, STEP))


def test_only_by_and_by_more_are_under_way() -> None:
    """A listing that ends soon is not asked for far beyond its end."""
    walk = Walk(lambda start: answer(start, None if start == 2 * STEP else start + STEP))
    assert walk.read == [STEP, 2 * STEP]
    assert (walk.following, max(walk.asked)) == (None, 3 * STEP)
    assert Walk(whole).widths[:12] == [1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6]


def test_several_are_under_way_at_a_time() -> None:
    assert max(Walk(whole).widths) == MOST


@pytest.mark.parametrize("most", [1, 3])
def test_where_connections_are_few_so_are_the_requests(most: int) -> None:
    walk = Walk(whole, most=most)
    assert walk.read == list(range(STEP, END + 1, STEP))
    assert (walk.following, max(walk.widths)) == (None, most)


def test_where_there_is_no_connection_at_all_whoever_goes_on_may_see_why() -> None:
    walk = Walk(whole, most=0)
    assert (walk.read, walk.following, walk.ahead.paid) == ([], STEP, False)


def test_a_page_that_goes_on_elsewhere_ends_it_there() -> None:
    walk = Walk(lambda start: answer(start, start + STEP + (start == 70)))
    assert walk.read == [10, 20, 30, 40, 50, 60, 70]
    assert (walk.following, walk.ahead.troubled) == (81, False)
    assert walk.skimmed == [start for start in walk.asked if start > 70]


@pytest.mark.parametrize("following", [None, 0, 70])
def test_nothing_is_read_after_an_end_or_a_loop(following: int | None) -> None:
    walk = Walk(lambda start: answer(start, following if start == 70 else start + STEP))
    assert walk.read[-1] == 70
    assert walk.following == following


@pytest.mark.parametrize(
    "bad",
    [
        Answer("u", status=429),
        Answer("u", status=502),
        Answer("u", failure="timeout"),
        Answer("u", status=200, failure="truncated"),
    ],
)
def test_an_answer_that_is_no_page_is_left_to_whoever_goes_on(bad: Answer) -> None:
    walk = Walk(lambda start: bad if start == 70 else whole(start))
    assert walk.read == [10, 20, 30, 40, 50, 60]
    assert (walk.following, walk.ahead.troubled) == (70, True)


def test_a_page_that_is_broken_is_told() -> None:
    def fetch(start: int) -> Answer:
        return Answer("u", status=200, body=b"<html>") if start == 70 else whole(start)

    walk = Walk(fetch)
    assert isinstance(walk.end, PageError)
    assert (walk.end.reason, walk.end.start, walk.under_way) == ("answer", 70, [])


@pytest.mark.parametrize("first", [Answer("u", failure="timeout"), Answer("u", status=401)])
def test_after_a_refused_secret_nothing_is_asked_again(first: Answer) -> None:
    """Also if the refusal comes behind another trouble."""

    def fetch(start: int) -> Answer:
        if start == 90:
            return first
        return Answer("u", status=401) if start > 100 else whole(start)

    walk = Walk(fetch)
    assert walk.read[-1] == 80
    assert isinstance(walk.end, PageError)
    assert walk.end.answer.status == 401
    assert walk.end.start == (90 if first.status else 110)


def test_a_refusal_beyond_the_end_is_none() -> None:
    walk = Walk(lambda start: whole(start) if start <= END else Answer("u", status=401))
    assert walk.following is None


def test_it_stops_when_it_is_enough() -> None:
    asked: list[int] = []

    def fetch(start: int) -> Answer:
        asked.append(start)
        return answer(start, start + STEP)

    walk = Walk(fetch, lambda: len(asked) >= 50)
    assert walk.read == walk.asked == asked
    assert walk.skimmed == walk.asked[50:]  # no more time than it needs for what is under way
    assert len(walk.skimmed) == MOST - 1


@pytest.mark.parametrize(("size", "count"), [(1000, MOST), (2_500_000, 2), (8_000_000, 1)])
def test_large_pages_are_fewer_at_a_time(size: int, count: int) -> None:
    assert how_many(Page(Answer("u"), 0, [], None, length=size)) == count
