"""`bbdiag check`: diagnose one target, print one report."""

from __future__ import annotations

import os
import time
from typing import Any

import click

from diag.commands._options import (
    Commas,
    ConnectToType,
    ResolverType,
    Seconds,
    option,
    report_options,
)
from diag.record import replace

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

_INTERVAL = 2.0  # seconds between the tries of --wait


class _Check(click.Command):
    """Lets `--only` and `--skip` take several ids in a row: `--only dns tcp tls URL`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if "--only" in args or "--skip" in args:
            args = _spread(args)
        return super().parse_args(ctx, args)


def _spread(args: list[str]) -> list[str]:
    from diag import registry

    known = {check.id for check in registry.checks().checks}
    result: list[str] = []
    current: str | None = None
    for index, argument in enumerate(args):
        if argument in ("--only", "--skip"):
            current = argument
            result.append(argument)
        elif current and args[index - 1] != current and argument in known:
            result += [current, argument]
        else:
            if current and args[index - 1] != current:
                current = None
            result.append(argument)
    return result


@click.command("check", cls=_Check, epilog=EPILOG)
@click.argument("url", envvar="BITBUCKET_URL")
@option("--repo", metavar="PROJECT/SLUG", help="The repository that must work.")
@option(
    "--for",
    "profile",
    default="appcircle",
    show_default=True,
    metavar="NAME|FILE",
    help="Requirement profile of the product that will connect; a TOML file for your own.",
)
@option(
    "--stage",
    type=click.Choice(["setup", "steady"]),
    default="setup",
    show_default=True,
    help="Before or after the webhooks exist: admin needed, or read enough.",
)
@option(
    "--user",
    metavar="NAME",
    envvar=["BITBUCKET_USERNAME"],
    help="Send the secret as the password of basic auth, with this name. Default: Bearer.",
)
@option("--token-file", metavar="PATH", help="Read the secret from this file (- is stdin).")
@option("--token-env", metavar="VAR", help="Read the secret from this environment variable.")
@option("--netrc", is_flag=True, help="Take name and secret from ~/.netrc.")
@option("--git-credentials", is_flag=True, help="Ask git's credential helpers for the secret.")
@option("--keyring", is_flag=True, help="Take the secret from the system's keyring.")
@option("--ca-file", metavar="PEM", help="Trust these CAs as well as the system's.")
@option(
    "--insecure",
    is_flag=True,
    help="Go on past a failed certificate verification, anonymously: no secret is sent there.",
)
@option(
    "--resolver",
    "resolvers",
    type=ResolverType(),
    multiple=True,
    help="Ask this resolver too, and compare; repeatable.",
)
@option(
    "--proxy",
    default="env",
    show_default=True,
    metavar="URL|env|none",
    help="How to get out; env reads HTTPS_PROXY, HTTP_PROXY, ALL_PROXY and NO_PROXY.",
)
@option("--no-proxy", is_flag=True, help="The same as --proxy none.")
@option(
    "--timeout", type=Seconds(), default=3.0, show_default=True, help="For one network operation."
)
@option(
    "--deadline",
    type=Seconds(0.5),
    default=20.0,
    show_default=True,
    help="For the whole run, which always ends by then, with a report.",
)
@option(
    "--connect-to",
    type=ConnectToType(),
    multiple=True,
    metavar="HOST:PORT:ADDRESS:PORT",
    help="Go to ADDRESS:PORT for HOST:PORT, name and certificate unchanged; repeatable.",
)
@option("--all-pages", is_flag=True, help="Read the whole repository listing.")
@option("--fetch-issuers", is_flag=True, help="Fetch a missing intermediate certificate (AIA).")
@option(
    "--check-revocation",
    is_flag=True,
    help="Ask the CAs (CRL, OCSP) whether the certificates have been revoked.",
)
@option(
    "--repeat",
    type=click.IntRange(1, 100),
    default=1,
    show_default=True,
    help="Try each address N times and tell what flaps.",
)
@option("--only", type=Commas(), multiple=True, metavar="ID…", help="Run these checks only.")
@option("--skip", type=Commas(), multiple=True, metavar="ID…", help="Leave these checks out.")
@option(
    "--wait",
    type=Seconds(0),
    default=0.0,
    show_default=True,
    help="Repeat until nothing fails, or until so many seconds are over.",
)
@option("--strict", is_flag=True, help="A warning or an unknown counts as a failure.")
@option("--label", metavar="TEXT", help="Name of the place the run was made from.")
@report_options
@click.pass_context
def command(ctx: click.Context, /, **options: Any) -> int:
    """Diagnose the way to one Bitbucket and print one report.

    URL is whatever you have at hand: the base URL, a browser page of a repository, a clone URL, an
    API URL. Project and repository are taken from it where it names them.
    """
    from diag import output

    options["proxy"] = _way_out(ctx, options)
    report = diagnose(options)
    output.emit(report, options["format_"], timings=options["timings"])
    output.write_files(report, options["output"])
    ctx.exit(report.exit_status(strict=options["strict"]))


def _way_out(ctx: click.Context, options: dict[str, Any]) -> Any:
    """`--proxy`, or "none" for `--no-proxy`: what the call says beats what the environment says.

    Raises:
        click.UsageError: both are given.
    """
    if not options["no_proxy"]:
        return options["proxy"]
    given = [ctx.get_parameter_source(name) for name in ("proxy", "no_proxy")]
    if given[0] is given[1]:
        raise click.UsageError("--proxy and --no-proxy say two things: give one of them")
    return options["proxy"] if given[0] is click.core.ParameterSource.COMMANDLINE else "none"


def diagnose(options: dict[str, Any]) -> Any:
    """One report, or with `--wait` the last of several."""
    from diag import output, plan, registry
    from diag.runner import Runner
    from diag.secret import Scrubber

    settings = settings_from(options)
    known = registry.checks()
    for broken in known.broken:
        click.echo(f"warning: plug-in {broken.name} is left out: {broken.error}", err=True)
    try:
        chosen = plan.make(known.checks, only=settings.only, skip=settings.skip)
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    end = time.monotonic() + options["wait"]
    while True:
        with output.Progress() as progress:
            runner = Runner(settings, chosen, Scrubber(), progress)
            report = runner.execute()
        done = report.exit_status(strict=options["strict"]) in (0, 130)
        # A refused secret is not sent again, and a wrong call does not mend itself.
        hopeless = runner.run.http.fuse_blown or report.exit_status() == 2
        left = end - time.monotonic()
        if done or hopeless or left <= 0:
            return report
        try:
            time.sleep(min(_INTERVAL, left))
        except KeyboardInterrupt:
            return replace(report, run=replace(report.run, interrupted=True))


def settings_from(options: dict[str, Any]) -> Any:
    """`Settings` of the options.

    Raises:
        click.UsageError: a value is wrong in itself.
    """
    from diag import credentials, profile, target
    from diag.settings import Settings

    try:
        loaded = profile.load(options["profile"])
        if options["repo"]:
            target.parse_repo(options["repo"])
        given = credentials.read(
            url=options["url"],
            user=options["user"],
            token_file=options["token_file"],
            token_env=options["token_env"],
            netrc=options["netrc"],
            git_credentials=options["git_credentials"],
            keyring=options["keyring"],
        )
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    return Settings(
        url=options["url"],
        profile=loaded,
        repo=options["repo"],
        stage=options["stage"],
        user=options["user"] or given.user,
        given=given,
        ca_file=options["ca_file"],
        insecure=options["insecure"],
        resolvers=options["resolvers"],
        proxy=options["proxy"],
        timeout=options["timeout"],
        deadline=options["deadline"],
        connect_to=options["connect_to"],
        all_pages=options["all_pages"],
        fetch_issuers=options["fetch_issuers"],
        check_revocation=options["check_revocation"],
        repeat=options["repeat"],
        only=tuple(name for names in options["only"] for name in names),
        skip=tuple(name for names in options["skip"] for name in names),
        label=options["label"],
        environ=dict(os.environ),
    )
