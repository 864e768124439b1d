"""`bbdiag fleet`: diagnose many targets, one JSON report a line as each run ends."""

from __future__ import annotations

import contextlib
import gc
import threading
import time
from typing import TYPE_CHECKING, Any

import click

from diag.commands._options import ShardType, option, report_options_with
from diag.commands._run import RunCommand, plan_for, run_options, secret_from, settings_from

if TYPE_CHECKING:
    from diag import output
    from diag.fleet import Tally, Terms
    from diag.fleetfile import FleetFile
    from diag.report import Report

EPILOG = """\b
FILE has one URL a line (blank lines and lines that begin with # do not count), or is TOML:
  [[target]]
  url = "https://bitbucket.example.com"
  name = "production"                  # these are all optional
  repo = "MOB/app"
  user = "jdoe"
  token_env = "PRODUCTION_TOKEN"       # or token_file
  ca_file = "company-ca.pem"           # paths begin in the folder of FILE
  for = "my-product.toml"
  stage = "steady"
  connect_to = ["bitbucket.example.com:443:10.0.0.7:8443"]

\b
What a target does not say is taken from the options, and the secret from $BITBUCKET_TOKEN: each
target's own host gets it, so leave that unset where the hosts of FILE are not to have one secret.

\b
Examples:
  bbdiag fleet targets.toml > reports.ndjson
  bbdiag fleet urls.txt --only http --parallel 200 --output table=reports.txt
  bbdiag fleet targets.toml --shard 2/5 --label runner-2
  bbdiag fleet targets.toml | jq -r 'select(.verdict == "fail") | .target.input + " " + .root_cause'
  sed -n 3p reports.ndjson | bbdiag render -

\b
The exit status is 3 if bbdiag itself failed anywhere, else 1 if any target fails, else 4 if any
could not be determined, else 0.
"""


@click.command("fleet", cls=RunCommand, epilog=EPILOG)
@click.argument("file", metavar="FILE", type=click.Path())
@option(
    "--parallel",
    type=click.IntRange(1, 1000),
    default=64,
    show_default=True,
    metavar="N",
    help="Targets at a time; one that takes longer than a second gives its place to the next.",
)
@option(
    "--shard",
    type=ShardType(),
    default="1/1",
    metavar="I/N",
    help="Take only this share of the targets, one of N, told by their names or URLs.",
)
@run_options
@report_options_with(
    "json", "Reports on standard output: json (one a line), table, or a plugged-in format."
)
@click.pass_context
def command(ctx: click.Context, /, **options: Any) -> None:
    """Diagnose many targets, each report a line as its run ends.

    FILE names the targets, - is standard input. A line is the document that `check --format json`
    writes. Slow and dead targets hold up nobody, and memory does not grow with their number. All
    options of `check` are there, and apply to every target.
    """
    from diag.fleet import Diagnosis, Schedule, Tally
    from diag.fleetfile import FleetFileError

    terms, file = _terms(ctx, options), _file(options)
    shard = options["shard"]
    try:
        total = file.count(shard)
        tally = Tally(strict=options["strict"])
        desk = _Desk(options, tally, total)
        _raise_file_limit()
        # Hardly anything of a run is a circle, and all of it is gone soon: look for it less often.
        gc.set_threshold(10 * gc.get_threshold()[0])
        jobs = (Diagnosis(entry, terms) for entry in file if entry in shard)
        schedule = Schedule(jobs, desk.deliver, parallel=options["parallel"])
        finished = schedule.run()
    except FleetFileError as error:
        raise click.UsageError(str(error)) from None
    except BrokenPipeError:  # `| head`: nobody reads on
        from diag import output

        output.silence()
        finished = True
    desk.close(interrupted=not finished)
    ctx.exit(tally.exit_status() if finished else 130)


def _terms(ctx: click.Context, options: dict[str, Any]) -> Terms:
    """What the options say for every target.

    Raises:
        click.UsageError: a value is wrong in itself.
    """
    from diag.fleet import Terms

    if options["file"] == options["token_file"] == "-":
        raise click.UsageError("standard input (-) can be read only once", ctx)
    settings = settings_from(ctx, options, url="")
    # Nobody is asked for a secret: one prompt for many hosts is one too few, many are too many.
    by_host = [name for name in ("netrc", "git_credentials", "keyring") if options[name]]
    try:
        if by_host and (options["token_file"] or options["token_env"] or len(by_host) > 1):
            secret_from(options, "", ask=False)  # says which two were given
        common = None if by_host else secret_from(options, "", ask=False)
    except ValueError as error:
        raise click.UsageError(str(error)) from None

    def secret(url: str, user: str | None) -> Any:
        return common or secret_from(options, url, user, ask=False)

    return Terms(settings, plan_for(settings), secret, options["wait"], options["strict"])


def _file(options: dict[str, Any]) -> FleetFile:
    from diag.fleetfile import FleetFile, FleetFileError

    try:
        return FleetFile(options["file"])
    except FleetFileError as error:
        raise click.UsageError(str(error)) from None


class _Desk:
    """Where the reports are handed in: writes them, counts them, says how far it is."""

    def __init__(self, options: dict[str, Any], tally: Tally, total: int | None) -> None:
        from diag import output

        out = output.Reports.to_stdout(options["format_"], timings=options["timings"])
        files = [output.Reports.to_file(name, path) for name, path in options["output"]]
        self._sinks: list[output.Reports] = [out, *files]
        self._line = output.StatusLine()
        self._tally = tally
        self._total = total
        self._lock = threading.Lock()
        self._began = time.monotonic()
        self._line.draw(f"{self._so_far()} …")

    def deliver(self, report: Report) -> None:
        drawn = [sink.render(report) for sink in self._sinks]
        with self._lock:
            self._line.make_room()
            for sink, data in zip(self._sinks, drawn, strict=True):
                sink.write(data)
            self._tally.add(report)
            self._line.draw(f"{self._so_far()} …")

    def close(self, *, interrupted: bool) -> None:
        """The last word, on a terminal."""
        if not self._line.enabled or not self._lock.acquire(timeout=1):  # somebody cannot write
            return
        self._line.clear()
        word = "Interrupted after " if interrupted else ""
        click.echo(f"{word}{self._so_far()} in {time.monotonic() - self._began:.1f} s", err=True)

    def _so_far(self) -> str:
        """ "120 of 5,000 done, 3 failing"."""
        tally = self._tally
        of = "" if self._total is None else f" of {self._total:,}"
        told = [
            f"{tally.failing:,} failing",
            f"{tally.unknown:,} undetermined" if tally.unknown else "",
            f"{tally.crashed:,} where bbdiag itself failed" if tally.crashed else "",
            f"{tally.interrupted:,} interrupted" if tally.interrupted else "",
        ]
        return ", ".join([f"{tally.done:,}{of} done", *filter(None, told)])


def _raise_file_limit() -> None:
    """Let this process open as many sockets as it may: each run has some, and what shells allow
    without being asked (1,024) is little for hundreds of them."""
    with contextlib.suppress(ImportError, ValueError, OSError):
        import resource

        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        wanted = 65536 if hard == resource.RLIM_INFINITY else min(hard, 65536)
        if soft < wanted:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
