"""The steps of a run as lines of text, one under the other, on one scale of time.

No line is wider than asked for: names are cut in their middle, and of many steps alike most are
drawn as one. What is not shown stands in the JSON report.
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import accumulate, groupby

from diag.report import Report, Style
from diag.timings import Step, folded

MOST = 40  # lines, or a few more
_MARKS = {"wait": "-", "read": "#", "": "|"}  # of a part; "" took no time at all
_STEP = "="  # any other part
_COLORS = {_STEP: "36", "-": "33", "#": "32", "|": "2"}
_WORDS = {"wait": "wait for the answer", "read": "read it", "": "no time at all"}
_NARROW = 64  # columns; with less there is no room for the check's name
_LONGEST_NAME = 18
_LEAST_BAR = 8
_AGES = 999_999_000  # milliseconds; nothing of ours takes so long, a file may hold anything


def waterfall(report: Report, style: Style) -> list[str]:
    """The lines, a legend and the sum; none if nothing was timed."""
    from textwrap import wrap

    steps = folded(report.steps, MOST)
    if not steps:
        return []
    span = max(1, report.run.duration_ms, *(one.ended_ms for s in steps for one in s.timings))
    narrow = style.width < _NARROW
    origin = _origin(report)
    rows = [_texts(step, origin, narrow=narrow) for step in steps]
    took = [_duration(step.spent_ms) for step in steps]
    table = _Columns(rows, took, style.width, narrow=narrow)
    bars = [_bar(step, span, table.bar) for step in steps]
    scale = _fitted("0" + _duration(span).rjust(table.bar - 1), table.bar)
    lines = [table.line(table.headers, scale, "took"), table.rule()]
    for row, bar, text in zip(rows, bars, took, strict=True):
        lines.append(table.line(row, bar, text, lambda bar: _painted(bar, style)))
    lines += ["", *wrap(_legend(steps, "".join(bars)), style.width), ""]
    whole = wrap(_sum(report).replace(" ms", "\xa0ms"), style.width)
    return lines + [line.replace("\xa0", " ") for line in whole]  # no break before the unit


class _Columns:
    """How wide the columns are: names as wide as they need to be, the bars all that is left."""

    def __init__(
        self, rows: Sequence[Sequence[str]], took: Sequence[str], width: int, *, narrow: bool
    ) -> None:
        self.headers = ("what", "detail") if narrow else ("check", "what", "detail")
        self.gap = " " if narrow else "  "
        *names, details = zip(self.headers, *rows, strict=True)
        self.names = [min(_LONGEST_NAME, max(map(_cells, column))) for column in names]
        self.took = max(map(len, ("took", *took)))
        room = width - sum(self.names) - self.took - len(self.gap) * (len(self.names) + 2)
        self.detail = max(0, min(max(map(_cells, details)), room * 6 // 10, room - _LEAST_BAR))
        self.bar = max(1, room - self.detail)

    def line(
        self,
        texts: Sequence[str],
        bar: str,
        took: str,
        painted: Callable[[str], str] = str,
    ) -> str:
        columns = [
            _fitted(text, room)
            for text, room in zip(texts, (*self.names, self.detail), strict=True)
        ]
        return self.gap.join((*columns, painted(bar), took.rjust(self.took)))

    def rule(self) -> str:
        widths = (*self.names, self.detail, self.bar, self.took)
        return self.gap.join("-" * width for width in widths)


def _texts(step: Step, origin: str, *, narrow: bool) -> tuple[str, ...]:
    """The names of a line: check (where there is room), what and detail."""
    if len(step.timings) > 1:
        detail = f"… {len(step.timings):,} more{'' if narrow else ', in all'}"
    else:
        # A server's log has the path alone, too; other places stay whole.
        detail = step.timings[0].detail.replace(f" {origin}/", " /", 1)
    names = (step.what, detail) if narrow else (step.check, step.what, detail)
    return tuple(map(_visible, names))


def _origin(report: Report) -> str:
    """Where most requests go: `https://host:port`."""
    return "/".join((report.target.base_url or "").split("/")[:3])


def _bar(step: Step, span: int, room: int) -> str:
    """The step on a scale from 0 to `span` milliseconds; a column shows what took most of it."""
    columns: list[Counter[str]] = [Counter() for _ in range(room)]
    for timing in step.timings:
        for part, began, ended in timing.parts():
            begin, end = (max(0, min(moment, span)) * room for moment in (began, ended))
            first = min(begin // span, room - 1)
            if end <= begin:
                columns[first].setdefault("", 0)
            for place in range(first, -(-end // span)):
                columns[place][part] += min(end, (place + 1) * span) - max(begin, place * span)
    return "".join(
        _MARKS.get(column.most_common(1)[0][0], _STEP) if column else " " for column in columns
    )


def _painted(bar: str, style: Style) -> str:
    if not style.color:
        return bar
    runs = ((mark, "".join(run)) for mark, run in groupby(bar))
    return "".join(
        f"\033[{_COLORS[mark]}m{run}\033[0m" if mark in _COLORS else run for mark, run in runs
    )


def _legend(steps: Sequence[Step], drawn: str) -> str:
    """What the marks mean that were drawn."""
    whole = dict.fromkeys(
        part
        for step in steps
        for timing in step.timings
        for part, _, _ in timing.parts()
        if part not in _MARKS
    )
    words = {_STEP: ", ".join(whole)} | {_MARKS[part]: text for part, text in _WORDS.items()}
    return "   ".join(f"{mark} {text}" for mark, text in words.items() if mark in drawn)


def _sum(report: Report) -> str:
    """Where the time went, in a sentence or two."""
    spent = report.spent
    rest = "bbdiag itself, and what was cut off," if report.run.interrupted else "bbdiag itself"
    busy = {part: share.busy_ms for part, share in spent.shares.items() if share.busy_ms}
    parts = ", ".join(f"{part} {_duration(time)}" for part, time in busy.items()) or "no time"
    text = f"{_duration(spent.total_ms)} in all: {parts}; {rest} {_duration(spent.idle_ms)}."
    one_by_one = sum(share.spent_ms for share in spent.shares.values())
    if one_by_one > spent.total_ms - spent.idle_ms:
        text += (
            " Steps of a kind that run side by side count once;"
            f" one after the other, all would take {_duration(one_by_one)}."
        )
    return text


def _duration(milliseconds: int) -> str:
    if milliseconds > _AGES:
        return f"> {_AGES // 1000:,} s"
    if milliseconds < 10_000:
        return f"{max(0, milliseconds)} ms"
    return f"{milliseconds / 1000:,.1f} s"


def _visible(text: str) -> str:
    """A saved report may come from anywhere."""
    return "".join(one if one.isprintable() else "\ufffd" for one in text)


def _fitted(text: str, room: int) -> str:
    """`text` in exactly so many columns, cut in the middle where it is longer."""
    if _cells(text) > room:
        tail = (room - 1) // 2
        text = f"{_start(text, room - 1 - tail)}…{_start(text[::-1], tail)[::-1]}" if room else ""
    return text + " " * (room - _cells(text))


def _start(text: str, room: int) -> str:
    """As much of `text` as goes into so many columns."""
    for place, taken in enumerate(accumulate(map(_cell, text))):
        if taken > room:
            return text[:place]
    return text


def _cells(text: str) -> int:
    """How many columns of a terminal `text` takes."""
    return sum(map(_cell, text))


def _cell(character: str) -> int:
    if character < "\u0300":
        return 1
    if unicodedata.category(character) in {"Mn", "Me"}:
        return 0
    return 2 if unicodedata.east_asian_width(character) in {"W", "F"} else 1
