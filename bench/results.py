"""What a part of the benchmark comes to: tables, targets; kept in files between runs."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from bench.program import HOME

_FOLDER = HOME / "results"


@dataclass(frozen=True)
class Table:
    """Figures under a heading, with what has to be known to read them."""

    heading: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str = ""

    def text(self) -> str:
        """The table alone, as Markdown."""
        lines = [self.columns, ["---"] * len(self.columns), *self.rows]
        return "\n".join(f"| {' | '.join(line)} |" for line in lines)


@dataclass(frozen=True)
class Target:
    """What is meant to be reached."""

    key: str  # in missed.toml
    what: str
    limit: float
    reached: float | None = None  # None: there is no figure, see `note`
    unit: str = "×"
    least: bool = False  # the limit is the least, not the most
    note: str = ""  # why there is no figure

    @property
    def met(self) -> bool:
        if self.reached is None:
            return False
        return self.reached >= self.limit if self.least else self.reached <= self.limit

    def row(self) -> list[str]:
        """What, limit, reached, and whether it is met."""
        sign = "≥" if self.least else "≤"
        places = 0 if self.unit in ("", "MB") else 2
        reached = "" if self.reached is None else f"{self.reached:.{places}f} {self.unit}"
        limit = f"{sign} {self.limit:g} {self.unit}".rstrip()
        return [
            self.what,
            limit,
            reached.rstrip() or self.note or "–",
            "met" if self.met else "**missed**",
        ]


@dataclass(frozen=True)
class Part:
    """One comparison."""

    name: str
    title: str
    text: str  # what was compared
    tables: Sequence[Table]
    targets: Sequence[Target]
    rounds: int
    day: str = field(default_factory=lambda: dt.datetime.now(dt.UTC).date().isoformat())

    def show(self) -> str:
        """All of it for a terminal, in Markdown."""
        tables = [f"{table.heading}\n\n{table.text()}\n\n{table.note}\n" for table in self.tables]
        return "\n".join(
            [f"## {self.title}\n\n{self.text}\n", *tables, targets_table(self.targets)]
        )


def reached(
    targets: Sequence[Target],
    figures: Mapping[str, float | None],
    notes: Mapping[str, str] | None = None,
) -> list[Target]:
    """The targets with what was reached, by their keys, and why there is no figure."""
    said = notes or {}
    return [
        replace(each, reached=figures.get(each.key), note=said.get(each.key, ""))
        for each in targets
    ]


def targets_table(targets: Sequence[Target]) -> str:
    columns = ("target", "limit", "reached", "")
    return Table("", columns, [each.row() for each in targets]).text()


def keep(part: Part) -> None:
    """Put it where `load` finds it."""
    _FOLDER.mkdir(parents=True, exist_ok=True)
    (_FOLDER / f"{part.name}.json").write_text(json.dumps(asdict(part), indent=1))


def load(name: str) -> Part | None:
    """The last result of a part, if there is one."""
    file = _FOLDER / f"{name}.json"
    if not file.exists():
        return None
    found: dict[str, Any] = json.loads(file.read_text())
    found["tables"] = [Table(**each) for each in found["tables"]]
    found["targets"] = [Target(**each) for each in found["targets"]]
    return Part(**found)
