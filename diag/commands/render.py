"""`bbdiag render`: show a saved JSON report in any format."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import click

from diag.commands._options import report_options


@click.command("render")
@click.argument("file", metavar="FILE")
@report_options
def command(file: str, **options: Any) -> None:
    """Show a saved JSON report in any format. FILE is what `--format json` wrote, - for stdin.

    The exit status is 0 when the report could be shown, whatever it says.
    """
    from diag import output
    from diag.report import Report

    try:
        text = sys.stdin.read() if file == "-" else Path(file).read_text(encoding="utf-8")
        report = Report.from_json(json.loads(text))
    except OSError as error:
        raise click.UsageError(f"cannot read {file}: {error.strerror}") from None
    except ValueError as error:
        raise click.UsageError(f"{file} cannot be shown: {error}") from None
    output.emit(report, options["format_"], timings=options["timings"])
    output.write_files(report, options["output"])
