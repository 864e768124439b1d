"""Finds the checks and the report formats: the built-in ones and those of other distributions.

Built-ins lie in `checks/` and `reports/`, one a file; other distributions announce theirs through
the entry point groups `diag.checks` (a `Check` subclass) and `diag.reports` (a module, or any
object, with `render(report, style) -> str`).
"""

from __future__ import annotations

import importlib
import inspect
import os
import pkgutil
import sys
from collections.abc import Iterator
from functools import cache
from importlib.machinery import PathFinder
from types import ModuleType
from typing import Any, Protocol

from diag.check import Check
from diag.record import record
from diag.report import Report, Style

GROUPS = ("diag.checks", "diag.reports")


class Renderer(Protocol):
    """A report format."""

    def render(self, report: Report, style: Style) -> str:
        """The whole report as text."""


@record
class Broken:
    """A plug-in that could not be loaded: told once, never the end of a run."""

    name: str
    error: str


@record
class Checks:
    """All checks, in the order of the report."""

    checks: tuple[type[Check], ...]
    broken: tuple[Broken, ...] = ()

    def get(self, check_id: str) -> type[Check] | None:
        return next((check for check in self.checks if check.id == check_id), None)


@cache
def checks() -> Checks:
    """Load every check. A plug-in whose id is taken already, or that is no check, is broken."""
    found: dict[str, type[Check]] = {}
    broken: list[Broken] = []
    for check in _builtin_checks():
        found[check.id] = check
    for name, loaded in _plugins("diag.checks"):
        if isinstance(loaded, Broken):
            broken.append(loaded)
        elif not (inspect.isclass(loaded) and issubclass(loaded, Check)):
            broken.append(Broken(name, "it is not a subclass of diag.api.Check"))
        elif loaded.id in found:
            broken.append(Broken(name, f"there is a check {loaded.id!r} already"))
        else:
            found[loaded.id] = loaded
    ordered = sorted(found.values(), key=lambda check: (check.order, check.id))
    return Checks(tuple(ordered), tuple(broken))


def formats() -> list[str]:
    """The names of all report formats."""
    names = [info.name for info in _modules("diag.reports")]
    names += [point.name for point in _entry_points("diag.reports") if point.name not in names]
    return sorted(names)


def renderer(name: str) -> Renderer:
    """The report format of that name.

    Raises:
        LookupError: there is none, or it cannot be loaded; the text says why.
    """
    for info in _modules("diag.reports"):
        if info.name == name:
            module: Any = importlib.import_module(f"diag.reports.{name}")
            return module  # type: ignore[no-any-return]
    for point_name, loaded in _plugins("diag.reports"):
        if point_name == name:
            if isinstance(loaded, Broken):
                raise LookupError(f"the format {name!r} cannot be loaded: {loaded.error}")
            if not callable(getattr(loaded, "render", None)):
                raise LookupError(f"the format {name!r} has no function `render`")
            return loaded  # type: ignore[no-any-return]
    raise LookupError(f"there is no format {name!r}; there are: {', '.join(formats())}")


def _builtin_checks() -> Iterator[type[Check]]:
    for info in _modules("diag.checks"):
        module = importlib.import_module(f"diag.checks.{info.name}")
        yield from _defined_in(module)


def _defined_in(module: ModuleType) -> Iterator[type[Check]]:
    for value in vars(module).values():
        if (
            inspect.isclass(value)
            and issubclass(value, Check)
            and value.__module__ == module.__name__
        ):
            yield value


def _modules(package: str) -> list[pkgutil.ModuleInfo]:
    return [
        info
        for info in pkgutil.iter_modules(importlib.import_module(package).__path__)
        if not info.name.startswith("_")
    ]


def _entry_points(group: str) -> Any:
    if not _may_be_announced(group):
        return ()
    from importlib.metadata import entry_points

    return entry_points(group=group)


def _may_be_announced(group: str) -> bool:
    """Whether any distribution may have entry points of that group.

    `importlib.metadata` takes 20 ms to load, as long as a run takes on the network; mostly there is
    no plug-in, and a glance into the files that it would read shows that.
    """
    if any(
        hasattr(finder, "find_distributions") and finder is not PathFinder
        for finder in sys.meta_path
    ):
        return True
    wanted = f"[{group}]".encode()
    for place in dict.fromkeys(sys.path):
        try:
            inside = os.listdir(place or ".")  # noqa: PTH208 - faster
        except NotADirectoryError:
            return True  # an archive
        except OSError:
            continue
        for name in inside:
            if name.endswith((".dist-info", ".egg-info")):
                try:
                    with open(f"{place or '.'}/{name}/entry_points.txt", "rb") as file:  # noqa: PTH123 - faster
                        if wanted in file.read():
                            return True
                except OSError:
                    continue
    return False


def _plugins(group: str) -> Iterator[tuple[str, Any]]:
    for point in _entry_points(group):
        try:
            yield point.name, point.load()
        except Exception as error:  # whatever a foreign module does at import, the run goes on
            yield point.name, Broken(point.name, f"{type(error).__name__}: {error}")
