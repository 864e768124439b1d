"""Work that is begun now and wanted later."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Generic, TypeVar

T = TypeVar("T")


class Later(Generic[T]):
    """What a function returns that runs in a daemon thread of its own.

    `concurrent.futures` would do as well, but it loads `logging`, and waits for its threads at the
    end of the program.
    """

    def __init__(self, work: Callable[[], T]) -> None:
        self._work = work
        self._value: T | None = None
        self._done = threading.Event()
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        with suppress(Exception):
            self._value = self._work()
        self._done.set()

    def wait(self, seconds: float) -> T | None:
        """The value; None if it is not there after so many seconds, or the function failed."""
        self._done.wait(seconds)
        return self._value
