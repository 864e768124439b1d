"""`bbdiag check`: diagnose one target, print one report."""

from __future__ import annotations

import sys
from functools import partial
from typing import Any

import click

from diag.commands._options import report_options
from diag.commands._run import RunCommand, plan_for, run_options, secret_from, settings_from

EPILOG = """\b
The secret comes from $BITBUCKET_TOKEN, or from where one of the options says; there is no option
that takes the secret itself, because other users of this machine could read it. On a terminal it is
asked for; without one the run is anonymous. It is sent only to the origin you name, over TLS that
passed verification (or over http:// where you typed that), and never again after a 401.

\b
Examples:
  bbdiag check https://bitbucket.example.com/projects/MOB/repos/app/browse
  bbdiag check https://bitbucket.example.com --repo MOB/app --stage steady
  bbdiag check https://bitbucket.example.com --user jdoe --token-env JENKINS_BITBUCKET
  bbdiag check https://bitbucket.example.com --ca-file company-ca.pem --for my-product.toml
  bbdiag check https://bitbucket.example.com --resolver 1.1.1.1 --resolver 10.0.0.53
  bbdiag check https://bitbucket.example.com --format json --output table=report.txt

\b
In CI, as a step before the one that fails mysteriously:
  bbdiag check "$BITBUCKET_URL" --strict --wait 60
Every option can be set in the environment: --timeout 5 is BBDIAG_TIMEOUT=5.
"""


@click.command("check", cls=RunCommand, epilog=EPILOG)
@click.argument("url", envvar="BITBUCKET_URL")
@run_options
@report_options
@click.pass_context
def command(ctx: click.Context, /, **options: Any) -> int:
    """Diagnose the way to one Bitbucket and print one report.

    URL is whatever you have at hand: the base URL, a browser page of a repository, a clone URL, an
    API URL. Project and repository are taken from it where it names them.
    """
    from diag import output
    from diag.attempts import Attempts

    url = options["url"]
    settings = settings_from(ctx, options, url)
    try:
        settings = settings.with_secret(secret_from(options, url))
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    # A thread that loads a library is not to keep one waiting that an answer has come for. In a
    # fleet, where all have something to do, that would only be a waste.
    sys.setswitchinterval(0.0005)
    report = Attempts(
        settings,
        plan_for(settings),
        wait=options["wait"],
        strict=options["strict"],
        watch=output.Progress,
        meanwhile=partial(output.prepare, options["format_"]),
    ).execute()
    output.emit(report, options["format_"], timings=options["timings"])
    output.write_files(report, options["output"])
    ctx.exit(report.exit_status(strict=options["strict"]))
