"""What is done beside something else, begun early so that nobody has to wait for it later."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Task(Generic[T]):
    """Something that is done in a thread of its own, once."""

    def __init__(self, work: Callable[[], T]) -> None:
        self.result: T | None = None  # until it is there
        self._error: BaseException | None = None
        self._work = work
        self._over = threading.Event()
        self._begun = False

    def start(self) -> None:
        """Begin, unless that was done before."""
        if not self._begun:
            self._begun = True
            threading.Thread(target=self._run, daemon=True).start()

    def wait(self) -> T | None:
        """The result, begun now if it was not before. Raises what the work raised."""
        self.start()
        self._over.wait()
        if self._error is not None:
            raise self._error
        return self.result

    def _run(self) -> None:
        try:
            self.result = self._work()
        except BaseException as error:  # raised again by `wait`
            self._error = error
        self._over.set()
