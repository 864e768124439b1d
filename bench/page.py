"""docs/performance.md, out of page.md, missed.toml and what was measured."""

from __future__ import annotations

import os
import string
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

from bench import results
from bench.program import ROOT, versions
from bench.results import Part, Target, targets_table

_HERE = Path(__file__).parent
_PAGE = ROOT / "docs" / "performance.md"
_UNEXPLAINED = "no explanation yet"


def write(parts: Sequence[Part]) -> Path:
    """Write the page; where it is."""
    template = string.Template((_HERE / "page.md").read_text())
    missed = tomllib.loads((_HERE / "missed.toml").read_text())
    targets = [target for part in parts for target in part.targets]
    text = template.substitute(
        machine=_machine(parts),
        targets=targets_table(targets),
        missed="\n".join(_explained(targets, missed)),
        parts="\n".join(line for part in parts for line in _shown(part)).rstrip(),
        rounds=min((part.rounds for part in parts if part.rounds), default=0),
    )
    _PAGE.write_text(text)
    return _PAGE


def _machine(parts: Iterable[Part]) -> str:
    """Where and when, and with which versions."""
    cpus = os.cpu_count()
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    days = sorted({part.day for part in parts})
    known = ", ".join(f"{name} {version}" for name, version in versions().items())
    return f"Measured {' and '.join(days)}; {cpus} × {_model()}, {memory:.0f} GB; {known}."


def _model() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((x.split(":")[1].strip() for x in lines if x.startswith("model name")), "CPU")


def _explained(targets: Iterable[Target], missed: Mapping[str, Any]) -> Iterator[str]:
    """Why targets are missed."""
    late = [target for target in targets if not target.met]
    if not late:
        yield "All are met."
        return
    yield "Missed:\n"
    for target in late:
        entry = missed.get(target.key, {})
        yield f"- **{target.what}**: {entry.get('reason', _UNEXPLAINED)}"
        for tried in entry.get("tried", ()):
            yield f"  - tried: {tried}"


def _shown(part: Part) -> Iterator[str]:
    yield f"## {part.title}\n"
    yield f"{part.text}\n"
    for table in part.tables:
        if table.heading:
            yield f"### {table.heading}\n"
        yield f"{table.text()}\n"
        if table.note:
            yield f"{table.note}\n"


def measured(names: Iterable[str]) -> list[Part]:
    """What was measured last of each part; of what never was, the targets alone."""
    return [results.load(name) or nothing_of(name, "Not measured yet.") for name in names]


def nothing_of(name: str, why: str) -> Part:
    """A part without figures."""
    module = import_module(f"bench.parts.{name}")
    targets = [replace(target, note="not measured") for target in module.TARGETS]
    return Part(name, module.TITLE, why, [], targets, rounds=0)
