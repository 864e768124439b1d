"""The command line: finds the command, and turns every way a call can end into an exit status.

Each command lies in `diag/commands/` and is imported only when it is called.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Sequence
from importlib import import_module
from typing import Any

import click

from diag.version import VERSION

COMMANDS = (
    "check",
    "demo",
    "explain",
    "proxy",
    "checks",
    "render",
    "compare",
    "fleet",
    "schema",
    "completion",
)

EPILOG = """\b
Examples:
  bbdiag check https://bitbucket.example.com
  bbdiag check https://bitbucket.example.com/projects/MOB/repos/app/browse
  BITBUCKET_TOKEN=… bbdiag check https://bitbucket.example.com --repo MOB/app
  bbdiag check bitbucket.example.com:7990 --user jdoe --token-file token.txt
  bbdiag check https://bitbucket.example.com --format json | jq -r .root_cause
  bbdiag demo --fault base-url-localhost
  bbdiag compare laptop.json ci.json
  bbdiag fleet targets.toml --shard 1/4 > reports.ndjson
  bbdiag explain tls-chain-incomplete
  bbdiag proxy https://bitbucket.example.com

\b
Exit status:
  0  nothing failed (there may be warnings)
  1  at least one failure found
  2  the call itself is wrong
  3  bbdiag itself failed; the rest of the report is still printed
  4  nothing failed, but something required could not be determined
  130  interrupted; what was found so far is printed
"""


class _Commands(click.Group):
    """A group that imports a command when it is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command = import_module(f"diag.commands.{cmd_name}").command
        assert isinstance(command, click.Command)  # noqa: S101 - true of every module there
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            import difflib

            hint = ""
            if near := difflib.get_close_matches(args[0], COMMANDS, n=1):
                hint = f" Did you mean {near[0]!r}?"
            elif "." in args[0] or ":" in args[0]:
                hint = " To diagnose a URL: bbdiag check URL"
            raise click.UsageError(error.message + hint, ctx) from None


@click.group(
    cls=_Commands,
    epilog=EPILOG,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(VERSION, message="bbdiag %(version)s")
def cli() -> None:
    """Find out why something cannot connect to Bitbucket.

    bbdiag walks the whole way from this machine to a Bitbucket Server, Data Center or Cloud: URL,
    DNS, proxy, firewall and ports, TLS, HTTP gateway, version, repositories, links, token,
    permission, clone path, webhook. It names ONE root cause, with the evidence, what to do, who
    must do it, and the command that shows it.
    """


def run(arguments: Sequence[str]) -> int:
    """Run the command line; returns the exit status."""
    if threading.current_thread() is threading.main_thread():
        # A cancelled CI job gets what was found so far, as one that is interrupted with Ctrl-C.
        signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        status = cli.main(args=list(arguments), prog_name="bbdiag", standalone_mode=False)
        sys.stdout.flush()
    except click.UsageError as error:
        return _usage(error, arguments)
    except click.ClickException as error:
        _show(error, arguments)
        return 2
    except (click.exceptions.Abort, KeyboardInterrupt):
        click.echo("interrupted", err=True)
        return 130
    except Exception as error:  # bbdiag's own fault, wherever it is
        return _own_fault(error, arguments)
    return status if isinstance(status, int) else 0


def _own_fault(error: Exception, arguments: Sequence[str]) -> int:
    """bbdiag itself failed outside of any check: say so in one line, without the caller's data."""
    from diag.usage import failure, scrub

    where = ""
    if trace := error.__traceback__:
        while trace.tb_next:
            trace = trace.tb_next
        where = f" in {trace.tb_frame.f_code.co_name}, line {trace.tb_lineno}"
    text = scrub(f"bbdiag itself failed: {type(error).__name__}: {error}{where}", arguments)
    click.echo(text, err=True)
    click.echo("Please report this line. BBDIAG_DEBUG=1 shows more.", err=True)
    if os.environ.get("BBDIAG_DEBUG"):
        import traceback

        click.echo(scrub("".join(traceback.format_exception(error)), arguments), err=True)
    if wants_json(arguments):
        click.echo(failure(text))
    return 3


def _usage(error: click.UsageError, arguments: Sequence[str]) -> int:
    """A wrong call: said on standard error, and as a document where JSON was asked for."""
    _show(error, arguments)
    if wants_json(arguments):
        from diag.usage import document

        click.echo(document(error.format_message(), arguments))
    return 2


def _show(error: click.ClickException, arguments: Sequence[str]) -> None:
    """Say what is wrong, without the secret that may stand among the arguments."""
    from io import StringIO

    from diag.usage import scrub

    text = StringIO()
    error.show(text)
    click.echo(scrub(text.getvalue(), arguments), err=True)


def wants_json(arguments: Sequence[Any]) -> bool:
    """Whether the call asks for JSON, readable even where the call as a whole is not."""
    for index, argument in enumerate(arguments):
        if argument == "--format=json":
            return True
        if argument == "--format" and list(arguments[index + 1 : index + 2]) == ["json"]:
            return True
    return os.environ.get("BBDIAG_FORMAT") == "json"
