"""Where the time of one exchange went."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

# what, detail, started_ms, duration_ms, wait_ms, read_ms: `Context.record`
Record = Callable[[str, str, int, int, "int | None", "int | None"], None]


class Watch:
    """The moments of one exchange, in milliseconds since the run began."""

    def __init__(self, now: Callable[[], int]) -> None:
        self._now = now
        self._connecting: list[tuple[str, str, int, int]] = []  # what, detail, start, duration
        self.began: int | None = None  # None: there was no time for it any more
        self.sent: int | None = None  # None: it got no connection, or the secret was held back
        self.head: int | None = None
        self.ended = 0

    def begin(self) -> None:
        self.began = self._now()

    @contextmanager
    def connecting(self, what: str, name: Callable[[], str]) -> Iterator[None]:
        """The body opens a connection or starts TLS on it; `name` is asked when that is done."""
        start = self._now()
        try:
            yield
        finally:
            self._connecting.append((what, name(), start, self._now() - start))

    def send(self) -> None:
        """The first bytes leave."""
        self.sent = self._now() if self.sent is None else self.sent

    def arrive(self) -> None:
        """The head of the answer is there."""
        self.head = self._now()

    def end(self) -> None:
        self.ended = self._now()

    def tell(self, record: Record, request: str) -> None:
        """The connection it needed as steps of their own, and the request from when it was sent."""
        if self.began is None:
            return
        for what, detail, start, duration in self._connecting:
            record(what, detail, start, duration, None, None)
        ready = max([self.began, *(start + took for _, _, start, took in self._connecting)])
        start = ready if self.sent is None else self.sent
        came = self.ended if self.head is None else self.head
        waited = None if self.sent is None else came - start
        read = None if self.head is None else self.ended - self.head
        record("request", request, start, self.ended - start, waited, read)
