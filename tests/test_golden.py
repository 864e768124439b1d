"""What is printed, compared with what was agreed on: reports, help and generated documents."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from diag import explain, registry
from diag.cli import cli
from diag.report import Report, Style
from diag.schema import schema
from tests import golden

ROOT = Path(__file__).parents[1]
HERE = Path(__file__).parent / "golden"
SAVED = sorted(HERE.glob("*.json"))


def test_the_list_of_verdicts() -> None:
    golden.check(ROOT / "docs" / "verdicts.md", explain.markdown(registry.checks()))


def test_the_schema() -> None:
    golden.check(ROOT / "docs" / "report.schema.json", json.dumps(schema(), indent=2) + "\n")


@pytest.mark.parametrize("name", ["", "check", "compare", "demo", "fleet", "proxy"])
def test_the_help(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "90")
    arguments = [name, "--help"] if name else ["--help"]
    result = CliRunner().invoke(cli, arguments, prog_name="bbdiag")
    golden.check(HERE / f"help{'-' + name if name else ''}.txt", result.output)


@pytest.mark.parametrize("path", SAVED, ids=lambda path: path.stem)
@pytest.mark.parametrize("name", ["table"])
def test_a_saved_report_in_every_format(path: Path, name: str) -> None:
    report = Report.from_json(json.loads(path.read_text(encoding="utf-8")))
    text = registry.renderer(name).render(report, Style(timings=path.stem.endswith("timings")))
    golden.check(path.with_suffix(f".{name}.txt"), text)
