"""`bbdiag checks`: the checks, built in and plugged in, with what each needs and tells."""

from __future__ import annotations

import click


@click.command("checks")
@click.option("--profiles", is_flag=True, help="List the requirement profiles instead (see --for).")
def command(profiles: bool) -> None:
    """List the checks, built in and plugged in, with what each needs and tells."""
    from tabulate import tabulate

    if profiles:
        _profiles()
        return

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


def _profiles() -> None:
    """What each built-in profile asks for, and where that is said."""
    from tabulate import tabulate

    from diag import output, profile

    rows, sources = [], []
    for loaded in map(profile.load, profile.names()):
        version = loaded.minimum_version
        kinds = {
            "API token": loaded.cloud.api_token,
            "OAuth": loaded.cloud.oauth,
            "access token": loaded.cloud.access_token,
        }
        needs = [*loaded.cloud.setup]
        needs += [f"{need} ({kind})" for kind, more in kinds.items() if more for need in more]
        published = "see below" if loaded.egress_source else "-"
        rows.append(
            (
                loaded.name,
                ".".join(map(str, version[:2])) if version else "any",
                f"{loaded.setup}, then {loaded.steady}",
                "\n".join(needs) or "not known",
                "\n".join(one.cidr for one in loaded.egress) or published,
            )
        )
        sources.append(f"{loaded.name}: {loaded.source} (read {loaded.checked})")
        if loaded.egress_source:
            sources.append(f"  addresses: {loaded.egress_source}")
    headers = ("profile", "Data Center", "right there", "needs on Bitbucket Cloud", "comes from")
    table = tabulate(rows, headers=headers, tablefmt="simple")
    use = "bbdiag check --for NAME uses one; docs/profiles.md tells how to write your own."
    output.write_stdout("\n".join([table, "", *sources, "", use]))
