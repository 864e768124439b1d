"""Where text leaves the program: the report to standard output, progress to standard error."""

from __future__ import annotations

import os
import shutil
import sys
import threading
from collections.abc import Iterable
from pathlib import Path

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
    width = shutil.get_terminal_size((80, 24)).columns if stream_is_terminal else 80
    return Style(color=color, width=max(40, min(width, 120)), timings=timings)


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
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
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
