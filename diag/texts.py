"""Fills the templates of verdicts: messages and remedies for people, commands to be pasted; and
says in words what is a number."""

from __future__ import annotations

import shlex
import string
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any

from diag.model import Json

# The words that are commands, or several words of one: quoted already.
COMMANDS = frozenset({"curl", "curl_auth", "connect"})


@lru_cache(1024)  # the verdicts have some hundreds of them
def _parsed(template: str) -> tuple[tuple[str, str | None, str | None, str | None], ...]:
    return tuple(string.Formatter().parse(template))


class _Texts(string.Formatter):
    """`str.format` for messages: a list reads as "a, b", nothing as "–"."""

    def parse(self, format_string: str) -> Iterable[tuple[str, str | None, str | None, str | None]]:
        return _parsed(format_string)

    def format_field(self, value: Any, format_spec: str) -> Any:
        if value is None:
            return "–"
        if isinstance(value, (list, tuple)):
            return ", ".join(map(str, value))
        return super().format_field(value, format_spec)


_TEXTS = _Texts()


def fill(template: str, values: Mapping[str, Json]) -> str:
    """The text of a message or a remedy."""
    return _TEXTS.vformat(template, (), values)


def command(template: str, values: Mapping[str, Json]) -> str:
    """A command to be pasted: what came from outside cannot end its word and begin another."""
    parts: list[str] = []
    quoted = False
    for literal, name, spec, _ in _TEXTS.parse(template):
        quoted ^= literal.count("'") % 2 == 1
        parts.append(literal)
        if name is None:
            continue
        text = _TEXTS.format_field(values[name], spec or "")
        if name not in COMMANDS:
            text = text.replace("'", "'\\''") if quoted else _word(text)
        parts.append(text)
    return "".join(parts)


def _word(text: str) -> str:
    """`text` as one word of a shell, left alone where it is one already."""
    try:
        read = shlex.split(text)
    except ValueError:  # an odd quotation mark
        read = []
    return text if [shlex.quote(part) for part in read] == [text] else shlex.quote(text)


def span(seconds: float) -> str:
    """A stretch of time in words: "12 days", "3 hours"."""
    for unit, size in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if abs(seconds) >= 2 * size:
            return f"{abs(seconds) // size:.0f} {unit}"
    return f"{abs(seconds):.0f} seconds"
