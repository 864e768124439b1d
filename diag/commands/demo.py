"""`bbdiag demo`: the embedded Bitbucket, broken as asked, and its diagnosis."""

from __future__ import annotations

import os
from shlex import quote
from typing import Any

import click

from diag.commands._options import option, report_options

EPILOG = """\b
Examples:
  bbdiag demo
  bbdiag demo --list
  bbdiag demo --fault tls-chain-incomplete
  bbdiag demo --fault base-url-localhost --format json | jq -r .root_cause
  bbdiag demo --cloud --fault cloud-scope-missing
"""


def _complete(context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[str]:
    from diag.simulator import CLOUD_FAULTS, FAULTS

    faults = CLOUD_FAULTS if context.params.get("cloud") else FAULTS
    return [fault for fault in faults if fault.startswith(incomplete)]


@click.command("demo", epilog=EPILOG)
@click.option(
    "--fault",
    metavar="CODE",
    shell_complete=_complete,
    help="Break it so that this is the root cause.",
)
@click.option("--cloud", is_flag=True, help="Bitbucket Cloud, instead of Data Center.")
@click.option("--list", "list_", is_flag=True, help="List the faults, one a line, and stop.")
@click.option(
    "--serve",
    is_flag=True,
    help="Print how to reach it and keep it running until Ctrl-C, to try things yourself.",
)
@option("--strict", is_flag=True, help="A warning or an unknown counts as a failure.")
@report_options
@click.pass_context
def command(ctx: click.Context, /, **options: Any) -> None:
    """Start the embedded Bitbucket on a loopback port, break it as asked, and diagnose it.

    Nothing but loopback is contacted. The diagnosis is the real one: a real connection to a real
    server, certificates, tokens and all.
    """
    from diag.simulator import CLOUD_FAULTS, FAULTS, Simulator

    faults = CLOUD_FAULTS if options["cloud"] else FAULTS
    if options["list_"]:
        from diag import output

        output.write_stdout("\n".join(faults))
        return
    fault = options["fault"]
    if fault is not None and fault not in faults:
        import difflib

        near = difflib.get_close_matches(fault, faults, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise click.BadParameter(f"there is no fault {fault!r}.{hint} See --list.")
    with Simulator(fault, cloud=options["cloud"]) as simulator:
        if options["serve"]:
            _serve(simulator)
            return
        report = _diagnose(simulator.scenario)
    from diag import output

    output.emit(report, options["format_"], timings=options["timings"])
    output.write_files(report, options["output"])
    ctx.exit(report.exit_status(strict=options["strict"]))


def _diagnose(scenario: Any) -> Any:
    from diag import output, registry
    from diag.runner import execute

    settings = settings_from(scenario)
    with output.Progress() as progress:
        return execute(settings, registry.checks().checks, progress=progress)


def settings_from(scenario: Any) -> Any:
    """`Settings` that meet the simulator as a user would.

    Raises:
        click.UsageError: the fault is a call that cannot be read.
    """
    from diag import profile
    from diag.commands._options import ConnectToType
    from diag.secret import Secret
    from diag.settings import GivenSecret, Settings

    token = scenario.token
    given = GivenSecret(Secret(token) if token else None, "the demo", announced=token is not None)
    rules = tuple(ConnectToType().convert(rule, None, None) for rule in scenario.connect_to)
    options = dict(scenario.options)
    try:
        wanted = profile.load(options.pop("profile", "appcircle"))
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    values: dict[str, Any] = {
        "profile": wanted,
        "repo": scenario.repo,
        "user": scenario.user,
        "given": given,
        "ca_file": scenario.ca_file,
        "connect_to": rules,
        "environ": scenario.environ,
    }
    return Settings(url=scenario.url, **(values | options))


def _serve(simulator: Any) -> None:
    import signal

    scenario = simulator.scenario
    click.echo("The embedded Bitbucket is running. Diagnose it from another terminal with:\n")
    options = dict(scenario.options)
    given = [("--connect-to", rule) for rule in scenario.connect_to]
    given += [("--ca-file", scenario.ca_file), ("--repo", scenario.repo), ("--user", scenario.user)]
    given += [("--for", options.pop("profile", None))]
    arguments = [f"bbdiag check {quote(scenario.url)}"]
    arguments += [f"{name} {quote(value)}" for name, value in given if value]
    for name, value in options.items():
        flag = f"--{name.replace('_', '-')}"
        arguments.append(flag if value is True else f"{flag} {quote(str(value))}")
    for name, value in scenario.environ.items():
        click.echo(f"  export {name}={quote(value)}")
    if scenario.token is not None:
        click.echo(f"  export BITBUCKET_TOKEN={quote(scenario.token)}  # works nowhere else")
    click.echo("  " + " \\\n    ".join(arguments) + "\n")
    click.echo(f"Ctrl-C ends it (process {os.getpid()}).")
    try:
        signal.pause()
    except KeyboardInterrupt:
        click.echo("stopped", err=True)
