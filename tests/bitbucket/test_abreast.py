"""Pages that are fetched side by side come out as if they had been fetched one after the other."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from functools import partial

import pytest

from diag.bitbucket import listing
from diag.bitbucket.abreast import MOST, Abreast, how_many
from diag.bitbucket.listing import Page, PageError
from diag.context import gather
from diag.model import Json
from diag.net.http import Answer

STEP, END = 10, 230
Fetch = Callable[[int], Answer]


def answer(start: int, following: int | None, limit: int = STEP) -> Answer:
    ends = {"isLastPage": following is None, "nextPageStart": following}
    body = {"values": [start], "limit": limit, **ends}
    return Answer("https://h/x", status=200, body=json.dumps(body).encode())


def whole(start: int) -> Answer:
    return answer(start, start + STEP if start < END else None)


def walk(fetch: Fetch, enough: Callable[[], bool] = lambda: False) -> tuple[Abreast, list[int]]:
    """The pages that were read, in their order, by as many threads as there may be."""
    read: list[int] = []

    def take(one: Answer, start: int) -> Page[Json]:
        read.append(start)
        return listing.read_page(one, start)

    first = listing.read_page(whole(0), 0)
    ahead = Abreast(lambda start, _: fetch(start), take, first, STEP)
    gather(dict.fromkeys(range(how_many(first)), partial(ahead.work, enough)), 10)
    return ahead, read


def test_they_are_read_in_their_order_to_the_end() -> None:
    asked: list[int] = []
    later = threading.Event()

    def fetch(start: int) -> Answer:
        asked.append(start)
        if start == STEP * 5:
            later.wait(0.2)  # the others overtake this one
        return whole(start)

    ahead, read = walk(fetch)
    assert read == list(range(STEP, END + 1, STEP))
    assert (ahead.end().following, ahead.troubled) == (None, False)
    assert max(asked) <= END + STEP * MOST


def test_only_by_and_by_more_are_under_way() -> None:
    """A listing that ends soon is not asked for far beyond its end."""
    asked: list[int] = []

    def fetch(start: int) -> Answer:
        asked.append(start)
        return answer(start, None if start == 2 * STEP else start + STEP)

    _, read = walk(fetch)
    assert read == [STEP, 2 * STEP]
    assert max(asked) <= 4 * STEP


def test_several_are_under_way_at_a_time() -> None:
    together = threading.Barrier(MOST, timeout=5)

    def fetch(start: int) -> Answer:
        if start in range(10 * STEP, 18 * STEP, STEP):
            together.wait()  # passed only when all of these are under way
        return whole(start)

    assert walk(fetch)[1][-1] == END


def test_a_page_that_goes_on_elsewhere_ends_it_there() -> None:
    def fetch(start: int) -> Answer:
        return answer(start, start + STEP + (start == 70))

    ahead, read = walk(fetch)
    assert read == [10, 20, 30, 40, 50, 60, 70]
    assert (ahead.end().following, ahead.troubled) == (81, False)


@pytest.mark.parametrize("following", [None, 0, 70])
def test_nothing_is_read_after_an_end_or_a_loop(following: int | None) -> None:
    ahead, read = walk(lambda start: answer(start, following if start == 70 else start + STEP))
    assert read[-1] == 70
    assert ahead.end().following == following


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
    ahead, read = walk(lambda start: bad if start == 70 else whole(start))
    assert read == [10, 20, 30, 40, 50, 60]
    assert (ahead.end().following, ahead.troubled) == (70, True)


def test_a_page_that_is_broken_is_told() -> None:
    def fetch(start: int) -> Answer:
        return Answer("u", status=200, body=b"<html>") if start == 70 else whole(start)

    with pytest.raises(PageError) as caught:
        walk(fetch)
    assert (caught.value.reason, caught.value.start) == ("answer", 70)


def test_after_a_refused_secret_nothing_is_asked_again() -> None:
    """What is under way at that moment is withheld, and looks like any other trouble."""
    refused = threading.Event()

    def fetch(start: int) -> Answer:
        if start == 110:
            refused.set()
            return Answer("u", status=401)
        if start >= 90:
            refused.wait(5)
            return Answer("u", failure="withheld")
        return whole(start)

    ahead, read = walk(fetch)
    assert read[-1] == 80
    with pytest.raises(PageError) as caught:
        ahead.end()
    assert (caught.value.answer.status, caught.value.start) == (401, 110)


def test_it_stops_when_it_is_enough() -> None:
    asked: list[int] = []

    def fetch(start: int) -> Answer:
        asked.append(start)
        return answer(start, start + STEP)

    _, read = walk(fetch, lambda: len(asked) >= 50)
    assert read == sorted(asked)
    assert len(read) < 50 + MOST


def test_nobody_waits_for_a_page_whose_thread_failed() -> None:
    ended = threading.Semaphore(0)

    def fetch(start: int, _: int) -> Answer:
        if start == 70:
            raise MemoryError
        return whole(start)

    def work() -> None:
        try:
            ahead.work(lambda: False)
        finally:
            ended.release()

    ahead = Abreast(fetch, listing.read_page, listing.read_page(whole(0), 0), STEP)
    with pytest.raises(MemoryError):
        gather(dict.fromkeys(range(MOST), work), 10)
    assert all(ended.acquire(timeout=5) for _ in range(MOST))


def test_whoever_is_late_reads_nothing_any_more() -> None:
    late, taken = threading.Event(), threading.Event()
    read: list[int] = []

    def take(one: Answer, start: int) -> Page[Json]:
        read.append(start)
        return listing.read_page(one, start)

    def fetch(start: int, _: int) -> Answer:
        late.wait(5)
        return whole(start)

    def work() -> None:
        ahead.work(lambda: False)
        taken.set()

    ahead = Abreast(fetch, take, listing.read_page(whole(0), 0), STEP)
    gather({1: work}, 0.05)
    assert ahead.end().start == 0
    late.set()
    assert taken.wait(5)
    assert read == []


@pytest.mark.parametrize(("size", "count"), [(1000, MOST), (2_500_000, 2), (8_000_000, 1)])
def test_large_pages_are_fewer_at_a_time(size: int, count: int) -> None:
    assert how_many(Page(Answer("u"), 0, [], None, length=size)) == count
