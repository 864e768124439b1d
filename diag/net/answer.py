"""What came of one HTTP request."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Literal

from diag.record import field, record

if TYPE_CHECKING:
    from diag.model import Json

_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_DATE = re.compile(r"[A-Z][a-z]{2}, (\d\d) ([A-Z][a-z]{2}) (\d{4}) (\d\d):(\d\d):(\d\d) GMT")
Failure = Literal[
    "connect",  # no connection: detail says why
    "tls",  # a further connection failed verification or handshake
    "reset",
    "empty",  # closed without an answer
    "truncated",  # closed before the announced end
    "timeout",  # no head in time
    "slow",  # the body does not come to its end in time
    "endless",  # the body is larger than anything sensible
    "headers-too-large",
    "not-http",
    "withheld",  # the secret may not be sent there (any more), or at all: nothing was sent
    "deadline",  # the run's time is over
]


class Headers:
    """Response headers: case-insensitive, repeated ones kept apart."""

    __slots__ = ("_values", "raw")

    def __init__(self, raw: Iterable[tuple[str, str]] = ()) -> None:
        self.raw: tuple[tuple[str, str], ...] = tuple((name.lower(), value) for name, value in raw)
        self._values: dict[str, list[str]] = {}
        for name, value in self.raw:
            self._values.setdefault(name, []).append(value)

    def get(self, name: str, default: str | None = None) -> str | None:
        """All values of `name` joined by a comma, or `default`."""
        values = self.all(name)
        return ", ".join(values) if values else default

    def all(self, name: str) -> list[str]:
        return self._values.get(name.lower(), [])

    def __contains__(self, name: str) -> bool:
        return name.lower() in self._values

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)


@record
class Answer:
    """What came of one request; `failure` is None when a whole answer came, whatever its status."""

    url: str
    method: str = "GET"
    status: int | None = None
    headers: Headers = field(default_factory=Headers)
    body: bytes = field(default=b"", repr=False)
    failure: Failure | None = None
    detail: str = ""
    elapsed_ms: int = 0
    at: float = 0.0  # time.time() when the head arrived
    credential_sent: bool = False
    head_ms: int = 0  # until the head arrived, connecting included
    greeting: bytes = b""  # the first bytes, where they are no HTTP
    # What comes of it after all, awaited for so many seconds: where `get` was told to linger.
    later: Callable[[float], Answer | None] | None = field(default=None, repr=False, compare=False)

    def header(self, name: str) -> str | None:
        return self.headers.get(name)

    def moment(self, name: str) -> float | None:
        """The time that a header tells, in seconds since the epoch; None if it is missing or odd.

        RFC 9110, section 5.6.7; the forms of old are left to the standard library, which takes
        10 ms to load for them.
        """
        text = self.header(name) or ""
        if match := _DATE.fullmatch(text):
            month = match[2]
            day, year, hour, minute, second = map(int, match.group(1, 3, 4, 5, 6))
            try:
                number = _MONTHS.index(month) + 1
                return datetime(year, number, day, hour, minute, second, tzinfo=UTC).timestamp()
            except ValueError:
                return None
        from email.utils import parsedate_to_datetime

        try:
            return parsedate_to_datetime(text).timestamp()
        except (ValueError, OverflowError):
            return None

    @property
    def content_type(self) -> str:
        """The media type in lower case, without parameters."""
        return (self.header("content-type") or "").split(";")[0].strip().lower()

    def json(self) -> Json:
        """The body as JSON, None if it is not (or is the JSON null)."""
        try:
            value: Json = json.loads(self.body)
        except (ValueError, RecursionError):
            return None
        return value

    def text(self, limit: int = 100_000) -> str:
        """The first `limit` bytes of the body as text, undecodable bytes replaced."""
        return self.body[:limit].decode("utf-8", errors="replace")
