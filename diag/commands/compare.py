"""`bbdiag compare`: the same target seen from several places, what differs and what that proves."""

from __future__ import annotations

from typing import Any

import click

from diag.commands._options import option, read_report, report_options

EPILOG = """\b
Name the places with --label when you make the reports, all within half an hour:
  laptop$  bbdiag check https://bitbucket.example.com --label laptop --format json > laptop.json
  ci$      bbdiag check https://bitbucket.example.com --label ci     --format json > ci.json
  bbdiag compare laptop.json ci.json

\b
Without --label a place is known by its host name. Several reports of one place tell since when it
fails, and what has changed:
  bbdiag compare monday.json tuesday.json
"""


@click.command("compare", epilog=EPILOG)
@click.argument("files", metavar="FILE FILE…", nargs=-1, type=click.Path())
@option("--strict", is_flag=True, help="A warning or an unknown counts as a failure.")
@report_options
@click.pass_context
def command(ctx: click.Context, /, files: tuple[str, ...], **options: Any) -> None:
    """Compare reports of one target from several places: what differs, what that proves, who acts.

    FILEs are what `bbdiag check --format json` wrote, - is stdin. Addresses (split DNS, hosts
    files), firewalls (allow-lists), certificates (inspection), proxies, clocks, the Bitbucket that
    answers and whom it takes the secret for are compared. The outcome is a report like any other,
    with one root cause. Nothing is sent.
    """
    from diag import comparing, output

    if files.count("-") > 1:
        raise click.UsageError("standard input (-) can be read only once", ctx)
    named = [(file, read_report(file)) for file in files]
    try:
        sights = comparing.gather(named)
    except ValueError as error:
        raise click.UsageError(str(error), ctx) from None
    report = comparing.compare(sights)
    output.emit(report, options["format_"], timings=options["timings"])
    output.write_files(report, options["output"])
    ctx.exit(report.exit_status(strict=options["strict"]))
