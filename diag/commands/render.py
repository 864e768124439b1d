"""`bbdiag render`: show a saved JSON report in any format."""

from __future__ import annotations

from typing import Any

import click

from diag.commands._options import read_report, report_options


@click.command("render")
@click.argument("file", metavar="FILE", type=click.Path())
@report_options
def command(file: str, **options: Any) -> None:
    """Show a saved JSON report in any format. FILE is what `--format json` wrote, - for stdin.

    The exit status is 0 when the report could be shown, whatever it says.
    """
    from diag import output

    report = read_report(file)
    output.emit(report, options["format_"], timings=options["timings"])
    output.write_files(report, options["output"])
