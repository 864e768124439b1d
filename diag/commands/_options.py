"""Options that several commands share, and how their values are read."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from diag.report import Report

    _ParamType = click.ParamType[Any]
else:  # generic only since click 8.4
    _ParamType = click.ParamType

C = TypeVar("C", bound=Callable[..., Any])


class ConnectToType(_ParamType):
    """HOST:PORT:ADDRESS:PORT."""

    name = "HOST:PORT:ADDRESS:PORT"

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        from diag.settings import ConnectTo

        if isinstance(value, ConnectTo):
            return value
        try:
            return ConnectTo.parse(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


class ResolverType(_ParamType):
    """IP[:PORT]."""

    name = "IP[:PORT]"

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        import ipaddress

        from diag.settings import Resolver

        if isinstance(value, Resolver):
            return value
        address, port = value, "53"
        if match := re.fullmatch(r"\[([^\]]+)\](?::(\d+))?|([^:]+):(\d+)", value):
            address = match[1] or match[3]
            port = match[2] or match[4] or "53"
        try:
            ipaddress.ip_address(address)
        except ValueError:
            self.fail(f"{value!r} is not an IP address with an optional :PORT", param, ctx)
        if not 0 < int(port) < 65536:
            self.fail(f"{value!r}: a port is between 1 and 65535", param, ctx)
        return Resolver(address, int(port))


class Seconds(_ParamType):
    """A positive number of seconds."""

    name = "S"

    def __init__(self, least: float = 0.05) -> None:
        self.least = least

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        import math

        try:
            number = float(value)
        except ValueError:
            self.fail(f"{value!r} is not a number of seconds", param, ctx)
        if not math.isfinite(number) or number < self.least:
            self.fail(f"{value!r}: at least {self.least:g} seconds", param, ctx)
        return number


class ShardType(_ParamType):
    """I/N."""

    name = "I/N"

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        from diag.fleetfile import Shard

        if isinstance(value, Shard):
            return value
        try:
            return Shard.parse(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


class OutputType(_ParamType):
    """FORMAT=FILE."""

    name = "FORMAT=FILE"

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        if isinstance(value, tuple):
            return value
        name, equals, path = value.partition("=")
        if not equals or not path:
            self.fail(f"{value!r} is not FORMAT=FILE (for example json=report.json)", param, ctx)
        return check_format(name, param, ctx), path


class FormatType(_ParamType):
    """The name of a report format."""

    name = "FORMAT"

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        if ctx is not None and ctx.resilient_parsing:  # a call that is only being completed
            return value
        return check_format(value, param, ctx)

    def shell_complete(self, ctx: Any, param: Any, incomplete: str) -> list[Any]:
        from click.shell_completion import CompletionItem

        from diag import registry

        return [CompletionItem(name) for name in registry.formats() if name.startswith(incomplete)]


def check_format(name: str, param: Any, ctx: Any) -> str:
    """`name`, if there is a report format of that name; a usage error otherwise."""
    from diag import registry

    names = registry.formats()
    if name not in names:
        raise click.BadParameter(
            f"there is no format {name!r}; there are: {', '.join(names)}", ctx, param
        )
    return name


class Commas(_ParamType):
    """Check ids, separated by commas."""

    name = "ID"

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        return tuple(part for part in value.split(",") if part)

    def shell_complete(self, ctx: Any, param: Any, incomplete: str) -> list[Any]:
        from click.shell_completion import CompletionItem

        from diag import registry

        return [
            CompletionItem(check.id)
            for check in registry.checks().checks
            if check.id.startswith(incomplete)
        ]


def option(*names: str, **settings: Any) -> Callable[[C], C]:
    """`click.option` that can also be set by BBDIAG_<NAME> in the environment."""
    long = next(name for name in names if name.startswith("--")).split("/")[0]
    variable = "BBDIAG_" + long[2:].upper().replace("-", "_")
    others = settings.pop("envvar", [])
    return click.option(*names, envvar=[variable, *others], show_envvar=False, **settings)


def report_options_with(default: str, about: str) -> Callable[[C], C]:
    """How a report is shown, with a default of its own."""
    options = (
        option(
            "--format",
            "format_",
            type=FormatType(),
            default=default,
            show_default=True,
            metavar="FORMAT",
            help=about,
        ),
        option(
            "--output",
            type=OutputType(),
            multiple=True,
            metavar="FORMAT=FILE",
            help="Also write this report; repeatable.",
        ),
        option(
            "--timings",
            is_flag=True,
            help="Show where the time went: every step on one scale, and how long each kind of"
            " step was under way; what is left is bbdiag itself.",
        ),
    )

    def decorate(command: C) -> C:
        for one in reversed(options):
            command = one(command)
        return command

    return decorate


# Shared by `check`, `demo`, `render` and `compare`.
report_options = report_options_with(
    "table", "Report on standard output: table, json, or a plugged-in format."
)


def read_report(file: str) -> Report:
    """The report in a file, `-` for standard input.

    Raises:
        click.UsageError: it cannot be read, or is no report of this schema version.
    """
    import json
    import sys
    from pathlib import Path

    from diag import usage
    from diag.report import Report

    try:
        # Bytes: a redirection of PowerShell writes UTF-16, and JSON tells which it is.
        data = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
        # Whoever made the file: no control character or own secret of it reaches the terminal.
        return Report.from_json(usage.scrubber().json(json.loads(data)))
    except OSError as error:
        raise click.UsageError(f"cannot read {file}: {error.strerror}") from None
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        where = f" (line {error.lineno})" if isinstance(error, json.JSONDecodeError) else ""
        if isinstance(error, json.JSONDecodeError) and error.msg == "Extra data":
            where = ", but several; of a fleet's reports, give one line"
        what = f"it is no JSON document{where}" if data.strip() else "it is empty"
        raise click.UsageError(
            f"{file} cannot be used: {what}; bbdiag check --format json writes one"
        ) from None
    except ValueError as error:
        raise click.UsageError(f"{file} cannot be used: {error}") from None
