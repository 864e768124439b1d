"""Pages fetched side by side, and read one after the other.

Where a page starts is computed, and believed only of the page before: as soon as that one names
another start, for a gap that permissions leave, what was fetched ahead is thrown away. An answer
that is no page ends it, too: whoever goes on, one after the other, asks for it again.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from diag.bitbucket.listing import LATER, Fetch, Page, PageError

if TYPE_CHECKING:
    from diag.net.http import Answer

MOST = 8  # requests under way
_AHEAD = 5 * 1024 * 1024  # bytes of pages that are being fetched, or wait for their turn


def how_many(page: Page[Any]) -> int:
    """How many pages like this one may be fetched at a time."""
    return max(1, min(MOST, _AHEAD // max(1, page.length)))


class Abreast:
    """Fetches what follows a page, `step` apart; to be worked on by several threads."""

    def __init__(
        self, fetch: Fetch, take: Callable[[Answer, int], Page[Any]], after: Page[Any], step: int
    ) -> None:
        """`take` reads the page that starts there out of an answer; it may raise PageError."""
        self._fetch = fetch
        self._take = take
        self._step = step
        self._turn = after.start + step  # where the page starts that is read next
        self._claims = 0  # pages that were or are being fetched
        self._reads = 0
        self._changed = threading.Condition()
        self._ahead = True  # whether it makes sense to fetch more
        self._over = False  # whether what is still to come is thrown away
        self._refused: PageError | None = None  # a 401: the secret is withheld from now on
        self._first = self._turn
        self.last = after  # that was read
        self.troubled = False  # something came that was no page

    def work(self, enough: Callable[[], bool]) -> None:
        """Fetch and read pages until `enough`, or the end, or something is not as expected.

        Raises:
            PageError: a page cannot be used.
        """
        try:
            while (start := self._claim(enough)) is not None and self._bring(start):
                pass
        except BaseException:
            self._stop()  # nobody is to wait for this page
            raise

    def _bring(self, start: int) -> bool:
        """Fetch a page and read it, if its turn comes."""
        answer = self._fetch(start, LATER)
        usable = answer.status == 200 and answer.failure is None
        if not usable:
            self._ahead = False
        if answer.status == 401:
            self._refused = PageError("answer", answer, start)
        with self._changed:
            self._changed.wait_for(lambda: self._over or self._turn == start)
            if self._over:
                return False
        goes_on = usable and self._read(answer, start)
        self.troubled = not usable
        if not goes_on:
            self._stop()
            return False
        with self._changed:
            self._reads += 1
            self._turn += self._step
            self._changed.notify_all()
        return True

    def _claim(self, enough: Callable[[], bool]) -> int | None:
        """The start of the next page to be fetched. Only by and by more are under way, so that a
        short listing is not asked for much beyond its end."""
        with self._changed:
            self._changed.wait_for(lambda: not self._ahead or self._claims <= 2 * self._reads)
            if not self._ahead or enough():
                return None
            self._claims += 1
            return self._first + (self._claims - 1) * self._step

    def _read(self, answer: Answer, start: int) -> bool:
        """Whether the page after this one starts where it was believed to."""
        self.last = self._take(answer, start)
        return self.last.following == start + self._step

    def _stop(self) -> None:
        with self._changed:
            self._ahead, self._over = False, True
            self._changed.notify_all()

    @property
    def paid(self) -> bool:
        """Whether more was read than can have been thrown away."""
        return self._reads > 2 * MOST

    def end(self) -> Page[Any]:
        """Read nothing more, whatever is still to come; the page that was read last.

        Raises:
            PageError: what follows it may not be asked for again.
        """
        self._stop()
        if self._refused is not None and self.last.following is not None:
            raise self._refused
        return self.last
