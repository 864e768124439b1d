"""`bbdiag checks`: the checks, built in and plugged in, with what each needs and tells."""

from __future__ import annotations

import click


@click.command("checks")
def command() -> None:
    """List the checks, built in and plugged in, with what each needs and tells."""
    from tabulate import tabulate

    from diag import output, registry
    from diag.explain import SHOWN

    known = registry.checks()
    rows = []
    for check in known.checks:
        needs = "\n".join(fact.__name__ for fact in check.requires) or "-"
        gives = "\n".join(fact.__name__ for fact in check.provides) or "-"
        tells = sum(verdict.status in SHOWN for verdict in check.verdicts())
        origin = "" if check.__module__.startswith("diag.checks.") else "\n(plugged in)"
        rows.append((check.id + origin, check.title, needs, gives, tells))
    headers = ("check", "what is right when it passes", "needs", "gives", "verdicts")
    text = tabulate(
        rows, headers=headers, tablefmt="simple", maxcolwidths=[None, 30, None, None, None]
    )
    for broken in known.broken:
        click.echo(f"warning: plug-in {broken.name} is left out: {broken.error}", err=True)
    output.write_stdout(text + "\n\nbbdiag explain CHECK tells what each can find.")
