"""Where text leaves the program: the report to standard output, progress to standard error."""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

import click

from diag import registry
from diag.report import Report, Style


def style(*, timings: bool = False, stream_is_terminal: bool) -> Style:
    """How to draw: colour on terminals only, unless NO_COLOR or FORCE_COLOR say otherwise."""
    color = stream_is_terminal and os.environ.get("TERM") != "dumb"
    if os.environ.get("FORCE_COLOR"):
        color = True
    if os.environ.get("NO_COLOR"):
        color = False
    width = 80
    if stream_is_terminal:
        from shutil import get_terminal_size

        width = get_terminal_size((80, 24)).columns
    return Style(color=color, width=max(40, min(width, 120)), timings=timings)


def prepare(name: str) -> None:
    """Load what this format needs."""
    with suppress(LookupError):  # it is told when it is needed
        registry.renderer(name)


def emit(report: Report, name: str, *, timings: bool) -> None:
    """The whole report to standard output."""
    look = style(timings=timings, stream_is_terminal=sys.stdout.isatty())
    write_stdout(registry.renderer(name).render(report, look))


def write_stdout(text: str) -> None:
    """Text as UTF-8, whatever the locale says: the documents are promised to be."""
    text = text if text.endswith("\n") else text + "\n"
    data = text.encode("utf-8", errors="replace")
    buffer = getattr(sys.stdout, "buffer", None)
    try:
        if buffer is None:
            sys.stdout.write(text)
        else:
            sys.stdout.flush()
            buffer.write(data)
            buffer.flush()
    except BrokenPipeError:  # `| head`: nobody reads on; the exit status stays that of the report
        silence()
    except OSError as error:
        silence()
        raise click.ClickException(f"cannot write standard output: {error.strerror}") from None


def write_files(report: Report, outputs: Iterable[tuple[str, str]]) -> None:
    """Further reports into files.

    Raises:
        click.ClickException: a file cannot be written; the others are.
    """
    failed: list[str] = []
    for name, path in outputs:
        look = Style(color=False, width=80, timings=True)
        text = registry.renderer(name).render(report, look)
        text = text if text.endswith("\n") else text + "\n"
        try:
            Path(path).write_text(text, encoding="utf-8")
        except OSError as error:
            failed.append(f"cannot write {path}: {error.strerror}")
    if failed:
        raise click.ClickException("; ".join(failed))


class Reports:
    """Many reports into one stream, each whole and as soon as it is there.

    In JSON every report is one line (NDJSON); other formats are separated by a blank line.
    """

    def __init__(self, name: str, stream: Any, look: Style, shown: str) -> None:
        """`stream` is unbuffered, so that no thread that waits for a slow reader holds a buffer;
        `shown` is what errors call it."""
        self._name = name
        self._renderer = registry.renderer(name)
        self._stream = stream
        self._look = look
        self._shown = shown
        self._first = True

    @classmethod
    def to_stdout(cls, name: str, *, timings: bool) -> Reports:
        buffer = sys.stdout.buffer
        sys.stdout.flush()
        look = style(timings=timings, stream_is_terminal=sys.stdout.isatty())
        return cls(name, getattr(buffer, "raw", buffer), look, "standard output")

    @classmethod
    def to_file(cls, name: str, path: str) -> Reports:
        """
        Raises:
            click.ClickException: the file cannot be written.
        """
        try:
            stream = Path(path).open("wb", buffering=0)  # noqa: SIM115 - open as long as it runs
        except OSError as error:
            raise click.ClickException(f"cannot write {path}: {error.strerror}") from None
        return cls(name, stream, Style(color=False, width=80, timings=True), path)

    def render(self, report: Report) -> bytes:
        """What `write` is to be given: drawn by whoever runs, while others write."""
        if self._name == "json":
            text = json.dumps(report.to_json(), ensure_ascii=False, separators=(",", ":"))
        else:
            text = self._renderer.render(report, self._look).rstrip("\n")
        return f"{text}\n".encode("utf-8", errors="replace")

    def write(self, data: bytes) -> None:
        """One report. Not thread-safe.

        Raises:
            BrokenPipeError: nobody reads on.
            click.ClickException: it cannot be written for another reason.
        """
        if self._name != "json" and not self._first:
            data = b"\n" + data
        self._first = False
        left = memoryview(data)
        try:
            while left:
                written = self._stream.write(left)
                if written is None:  # a pipe that does not block, and is full
                    time.sleep(0.01)
                left = left[written or 0 :]
        except BrokenPipeError:
            raise
        except OSError as error:
            raise click.ClickException(f"cannot write {self._shown}: {error.strerror}") from None


def silence() -> None:
    """Nobody reads on: what is still written to standard output goes nowhere."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


class StatusLine:
    """One line at the bottom of a terminal's standard error, that reports pass by."""

    INTERVAL = 0.1  # seconds between two drawings

    def __init__(self) -> None:
        self.enabled = sys.stderr.isatty()
        self._in_the_way = sys.stdout.isatty()
        self._shown = False
        self._drawn = 0.0

    def make_room(self) -> None:
        """Go away if the report that is printed next goes to a terminal, too."""
        if self._in_the_way:
            self.clear()

    def clear(self) -> None:
        if self._shown:
            sys.stderr.write("\r\033[K")
            sys.stderr.flush()
            self._shown = False

    def draw(self, text: str) -> None:
        """Show this, unless the last drawing was just now and still stands."""
        now = time.monotonic()
        if not self.enabled or (self._shown and now - self._drawn < self.INTERVAL):
            return
        self._shown, self._drawn = True, now
        # A line that wraps could not be wiped out again.
        sys.stderr.write(f"\r\033[K{text[: _columns(sys.stderr.fileno()) - 1]}")
        sys.stderr.flush()


class Progress:
    """What the run is busy with, on a terminal's standard error, once it takes noticeably long."""

    DELAY = 0.5  # seconds of silence first: most runs are over before

    def __init__(self) -> None:
        self._busy: list[str] = []
        self._lock = threading.Lock()
        self._shown = False
        self._enabled = sys.stderr.isatty()
        self._timer: threading.Timer | None = None

    def __enter__(self) -> Progress:
        if self._enabled:
            self._timer = threading.Timer(self.DELAY, self._begin)
            self._timer.daemon = True
            self._timer.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._timer is not None:
            self._timer.cancel()
        with self._lock:
            if self._shown:
                sys.stderr.write("\r\033[K")
                sys.stderr.flush()
            self._enabled = self._shown = False

    def __call__(self, check: str, event: str) -> None:
        with self._lock:
            if event == "started":
                self._busy.append(check)
            elif check in self._busy:
                self._busy.remove(check)
            self._draw()

    def _begin(self) -> None:
        with self._lock:
            self._shown = self._enabled
            self._draw()

    def _draw(self) -> None:
        if self._shown and self._busy:
            # A line that wraps could not be wiped out again.
            text = f"checking {', '.join(self._busy)} …"[: _columns(sys.stderr.fileno()) - 1]
            sys.stderr.write(f"\r\033[K{text}")
            sys.stderr.flush()


def _columns(terminal: int) -> int:
    try:
        return os.get_terminal_size(terminal).columns or 80
    except OSError:
        return 80
