"""`bbdiag explain`: what a verdict or a check means, who must act, how to see it; works offline."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Iterator
from typing import Any

import click

WIDTH = 80  # columns at most: longer lines are hard to read


def _complete(_context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[str]:
    from diag import explain, registry

    known = registry.checks()
    names = {verdict.code for verdict in explain.all_verdicts(known)}
    names |= {one.id for one in explain.everything(known)}
    return sorted(name for name in names if name.startswith(incomplete))


@click.command("explain")
@click.argument(
    "name", metavar="[CODE|CHECK]", required=False, default=None, shell_complete=_complete
)
@click.pass_context
def command(ctx: click.Context, /, name: str | None) -> None:
    """What a verdict or a check means, who must act, how to fix it, how to see it.

    Works offline. Without an argument, lists every verdict by check.
    """
    from diag import explain, output, registry

    known = registry.checks()
    if name is None:
        output.write_stdout("\n".join(_everything(known)))
        return
    everything = explain.everything(known)
    width = min(WIDTH, output.style(stream_is_terminal=sys.stdout.isatty()).width)
    if told := next((one for one in everything if one.id == name), None):
        output.write_stdout("\n".join(explain.check(told, width)))
        return
    found = explain.find(known, name)
    if found is None:
        codes = [verdict.code for verdict in explain.all_verdicts(known)]
        near = difflib.get_close_matches(name, [*codes, *(one.id for one in everything)], n=3)
        hint = f" Did you mean {' or '.join(map(repr, near))}?" if near else ""
        raise click.UsageError(
            f"there is no verdict and no check {name!r}.{hint} `bbdiag explain` lists all.", ctx
        )
    output.write_stdout("\n".join(explain.verdict(*found, width)))


def _everything(known: Any) -> Iterator[str]:
    from diag.explain import PLACEHOLDER, SHOWN, everything, name

    for told in everything(known):
        yield f"{name(told)}: {told.title}"
        verdicts = [verdict for verdict in told.verdicts() if verdict.status in SHOWN]
        width = max((len(verdict.code) for verdict in verdicts), default=0)
        for verdict in verdicts:
            text = PLACEHOLDER.sub(r"<\1>", verdict.message)
            yield f"  {verdict.code:<{width}}  {verdict.status:<7}  {text}"
        yield ""
