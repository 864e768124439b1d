"""Documents that others wrote: every field is there and of its kind, or it is said which is not."""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum
from typing import Any, TypeVar

T = TypeVar("T", str, int, bool, dict[str, Any], list[Any])
E = TypeVar("E", bound=StrEnum)


class Fields:
    """An object of a JSON document. All that reads it raises ValueError, which names the field."""

    def __init__(self, value: object, path: str = "") -> None:
        if not isinstance(value, dict):
            raise ValueError(f"{path or 'it'} is no object")  # noqa: TRY004 - the document's fault
        self._values: dict[str, Any] = value
        self._path = path

    def get(self, name: str, kind: type[T]) -> T:
        """The field of that name; `kind` is exact: `true` is no number."""
        if name not in self._values:
            raise ValueError(f"{self._at(name)} is missing")
        value = self._values[name]
        if type(value) is not kind:
            raise ValueError(f"{self._at(name)} is of another kind: {value!r:.40}")
        return value

    def maybe(self, name: str, kind: type[T]) -> T | None:
        """The same, or None where the document says null."""
        return None if self._values.get(name, "") is None else self.get(name, kind)

    def choice(self, name: str, kind: type[E]) -> E:
        """One of the texts that `kind` lists."""
        text = self.get(name, str)
        if text not in set(kind):
            raise ValueError(f"{self._at(name)} is {text!r:.40}")
        return kind(text)

    def texts(self, name: str) -> tuple[str, ...]:
        """A list of texts."""
        values = self.get(name, list)
        if not all(isinstance(value, str) for value in values):
            raise ValueError(f"{self._at(name)} holds something else than texts")
        return tuple(values)

    def part(self, name: str) -> Fields:
        """An object."""
        return Fields(self.get(name, dict), self._at(name))

    def parts(self, name: str) -> Iterator[Fields]:
        """A list of objects."""
        for index, value in enumerate(self.get(name, list)):
            yield Fields(value, f"{self._at(name)}[{index}]")

    def __contains__(self, name: str) -> bool:
        return self._values.get(name) is not None

    def _at(self, name: str) -> str:
        return f"{self._path}.{name}" if self._path else name
