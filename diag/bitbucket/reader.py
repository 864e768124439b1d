"""Reads the pages of a long listing: what repositories look like is learned, and then compared.

A page of a thousand repositories has 2.5 MB, and a JSON parser takes longer for it than the network
does. What has a known shape is counted only; what has none is read in full, and so is a page that
is not written as usual: what a server makes of its JSON costs time, and nothing else.
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from diag.bitbucket import listing
from diag.bitbucket.shapes import Run, Shapes

if TYPE_CHECKING:
    from diag.bitbucket.listing import Page
    from diag.model import Json
    from diag.net.http import Answer

_SAMPLES = 50  # repositories kept to learn from
_PIECE = 256 * 1024  # bytes decoded at a time
# A page as Bitbucket writes it: an array of values among flat members.
_FLAT = rb'"\w++":(?:-?+\d++|true|false|null)'
_HEAD = re.compile(rb'\{(?>(?:%b,)*)"values":\[' % _FLAT)
_TAIL = re.compile(rb"\](?>(?:,%b)*)\}\s*+" % _FLAT)
_DECODER = json.JSONDecoder()


class Reader:
    """For the pages of one listing. Nothing is learned before there is a second one."""

    def __init__(self) -> None:
        self._shapes = Shapes()
        self._samples: list[Json] = []  # of those that had no known shape
        self._strange = 0  # how many they were
        self._bearable = 0  # as many are read in full before something is learned again

    def read(self, answer: Answer, start: int) -> Page[Json | Run]:
        """One page out of an answer: as `listing.read_page`, with `Run`s among the values.

        Raises:
            listing.PageError: it is none.
        """
        if self._strange > self._bearable:
            self._shapes.learn(self._samples)
            self._samples.clear()
            self._bearable, self._strange = 2 * self._strange, 0
        compared = self._compared(answer, start) if self._shapes else None
        if compared is not None:
            return compared
        page = listing.read_page(answer, start)
        self._keep(page.values)
        return page

    def _keep(self, values: Sequence[Json]) -> None:
        self._strange += len(values)
        self._samples += values[: _SAMPLES - len(self._samples)]

    def _compared(self, answer: Answer, start: int) -> Page[Json | Run] | None:
        """The page, None if it has to be read in full to know anything about it."""
        body = answer.body
        head, end = _HEAD.match(body), body.rfind(b"]")
        if answer.status != 200 or answer.failure is not None or head is None:
            return None
        if _TAIL.fullmatch(body, end) is None or not _is_utf8(body):
            return None
        try:
            rest = json.loads(head[0] + body[end:])
            values = list(self._values(body, head.end(), end))
        except (ValueError, RecursionError):
            return None
        self._keep([value for value in values if not isinstance(value, Run)])
        return listing.page_of(answer, start, rest, values)

    def _values(self, body: bytes, at: int, end: int) -> Iterator[Json | Run]:
        """What stands in the array. Raises ValueError: it is none, or with blanks between."""
        text: str | None = None
        while at != end:
            runs, at = self._shapes.match(body, at, end)
            yield from runs
            if at == end:
                return
            text = text or body.decode("latin-1")  # a character a byte, so that places are the same
            value, stop = _DECODER.raw_decode(text, at)
            one = body[at:stop]
            yield value if one.isascii() else json.loads(one)
            if stop == end:
                return
            if not body.startswith(b",{", stop):
                raise ValueError("something else than another object")
            at = stop + 1


def _is_utf8(body: bytes) -> bool:
    """Without making the whole of it a text, which can be four times as large."""
    if body.isascii():
        return True
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        for at in range(0, len(body), _PIECE):
            decoder.decode(body[at : at + _PIECE])
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return False
    return True
