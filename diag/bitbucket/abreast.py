"""Pages that are under way side by side, and read one after the other.

Where a page starts is computed, and believed only of the page before: as soon as that one names
another start, for a gap that permissions leave, what was asked ahead is thrown away. An answer that
is no page ends it, too: whoever goes on, one after the other, asks for it again.

One thread asks and reads. While it reads a page, the answers to come are on their way or wait with
the kernel; threads would only take the interpreter from each other.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from diag.bitbucket.listing import LATER, Page, PageError

if TYPE_CHECKING:
    from diag.net.http import Answer, Begun

    Begin = Callable[[int, int], Begun | None]  # start and limit of a page

MOST = 8  # requests under way
_AHEAD = 5 * 1024 * 1024  # bytes of pages that are under way


def how_many(page: Page[Any]) -> int:
    """How many pages like this one may be under way at a time."""
    return max(1, min(MOST, _AHEAD // max(1, page.length)))


class Abreast:
    """Reads what follows a page, `step` apart."""

    def __init__(
        self, begin: Begin, take: Callable[[Answer, int], Page[Any]], after: Page[Any], step: int
    ) -> None:
        """`begin` sends the request for a page, None where it has no connection for one more.
        `take` reads the page that starts there out of an answer; it may raise PageError."""
        self._begin = begin
        self._take = take
        self._step = step
        self._last = after  # that was read
        self._most = how_many(after)
        self._under_way: deque[tuple[int, Begun]] = deque()
        self._next = after.start + step  # where the page starts that is asked for next
        self._asked = 0
        self._reads = 0
        self.troubled = False  # something came that was no page

    def read(self, enough: Callable[[], bool]) -> Page[Any]:
        """Read pages until `enough`, or the end, or something is not as expected; the last one.
        What is under way when it is enough is read as far as it comes soon.

        Raises:
            PageError: a page cannot be used, or what follows may not be asked for again.
        """
        refused: PageError | None = None
        try:
            while self._ask(enough):
                start, begun = self._under_way.popleft()
                answer = begun.skim() if enough() else begun.answer()
                if answer.status != 200 or answer.failure is not None:
                    self.troubled = True
                    refused = _refusal(answer, start)
                    break
                self._last = self._take(answer, start)
                if self._last.following != start + self._step:
                    break
                self._reads += 1
        finally:
            for start, begun in self._under_way:
                late = _refusal(begun.skim(), start)
                refused = refused or late
        if refused is not None and self._last.following is not None:
            raise refused
        return self._last

    def _ask(self, enough: Callable[[], bool]) -> bool:
        """Ask for the next pages; False if none is under way. Only by and by there are more of
        them, so that a short listing is not asked for much beyond its end."""
        while len(self._under_way) < self._most and self._asked <= 2 * self._reads and not enough():
            begun = self._begin(self._next, LATER)
            if begun is None:
                self._most = len(self._under_way)
                break
            self._under_way.append((self._next, begun))
            self._next += self._step
            self._asked += 1
        return bool(self._under_way)

    @property
    def paid(self) -> bool:
        """Whether more was read than can have been thrown away."""
        return self._reads > 2 * MOST


def _refusal(answer: Answer, start: int) -> PageError | None:
    """The end of it all: after a 401 the secret is withheld."""
    return PageError("answer", answer, start) if answer.status == 401 else None
