"""Tables of TOML files that people write: every key is known, or it is said which is meant."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NoReturn


class Table:
    """A table of a file, of which every key must be asked for before `done`.

    `fail` raises the file's own kind of error; it is handed what is wrong with which key.
    """

    def __init__(
        self, values: Mapping[str, Any], fail: Callable[[str], NoReturn], name: str = ""
    ) -> None:
        self._left = dict(values)
        self.fail = fail
        self._name = name
        self._known: list[str] = []

    def take(
        self, key: str, read: Callable[[Any], Any], *, default: Any = None, required: bool = False
    ) -> Any:
        """The value of a key, read by `read`, which raises an error saying what is allowed."""
        self._known.append(key)
        if key not in self._left:
            if required:
                self.fail(f"{self._full(key)} is missing")
            return default
        try:
            return read(self._left.pop(key))
        except (TypeError, ValueError) as error:
            self.fail(f"{self._full(key)} {error}")

    def part(self, key: str) -> Table:
        """The table of that name, empty where the file has none."""
        name = self._full(key)

        def read(value: Any) -> Table:
            if not isinstance(value, dict):
                raise TypeError(f"must be a table: [{name}]")
            return Table(value, self.fail, name)

        found = self.take(key, read, default=Table({}, self.fail, name))
        assert isinstance(found, Table)  # noqa: S101 - what `read` gives
        return found

    def done(self) -> None:
        for key in self._left:
            self.fail(
                f"there is no key {self._full(key)};{near(key, self._known)}"
                f" allowed here: {', '.join(self._known)}"
            )

    def _full(self, key: str) -> str:
        return f"{self._name}.{key}" if self._name else key


def near(word: str, known: Iterable[str]) -> str:
    """ " did you mean …?", if something known is spelt like it."""
    import difflib

    close = difflib.get_close_matches(word, known, n=1)
    return f" did you mean {close[0]!r}?" if close else ""


# Readers: each takes what TOML holds; the message of its error completes "the key …".


def text(value: Any) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f'must be text in quotes, such as "…", not {shown(value)}')
    return value


def texts(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise TypeError(f'must be a list such as ["…", "…"], not {shown(value)}')
    return tuple(text(item) for item in value)


def one_of(allowed: Iterable[str]) -> Callable[[Any], str]:
    def read(value: Any) -> str:
        if value not in allowed:
            raise ValueError(f"must be one of {', '.join(allowed)}, in quotes, not {shown(value)}")
        return str(value)

    return read


def shown(value: Any) -> str:
    """A value as TOML would write it, more or less."""
    return str(value).lower() if isinstance(value, bool) else repr(value)
