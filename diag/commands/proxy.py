"""`bbdiag proxy`: which way the programs on this machine take to a URL, and why."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from diag.facts import Target
    from diag.model import Json
    from diag.net.proxyenv import Choice
    from diag.target import Note

EPILOG = """\b
Examples:
  bbdiag proxy https://bitbucket.example.com
  NO_PROXY='*.example.com' bbdiag proxy https://bitbucket.example.com
  bbdiag proxy https://bitbucket.example.com --format json | jq -r '.clients[].way'
"""


@click.command("proxy", epilog=EPILOG)
@click.argument("url", envvar="BITBUCKET_URL")
@click.option(
    "--format",
    "format_",
    type=click.Choice(["table", "json"]),
    default=lambda: "json" if os.environ.get("BBDIAG_FORMAT") == "json" else "table",
    show_default="table",
    help="How to show it.",
)
def command(url: str, format_: str) -> None:
    """Show what curl, git, Python, Go, Node and Java do with the proxy settings of this place.

    HTTPS_PROXY, NO_PROXY and the rest are read differently by each of them: "git works, pip does
    not" has its reason here. Nothing is sent and nothing is resolved. Passwords are not shown.
    """
    import json

    from diag import output, target

    parsed = target.parse(url)
    if parsed.target is None:
        raise click.UsageError(f"{parsed.text_shown!r}: {'; '.join(map(_said_of, parsed.notes))}")
    document = explained(parsed.target)
    if format_ == "json":
        output.write_stdout(json.dumps(document, ensure_ascii=False, indent=2))
        return
    output.write_stdout(_table(document))


def _said_of(note: Note) -> str:
    """What check `input` says of it."""
    from diag import explain, registry, texts

    found = explain.find(registry.checks(), note.code)
    return texts.fill(found[1].message, note.evidence) if found else note.code


def explained(target: Target) -> dict[str, Any]:
    """What each client does with `target`, fit to be shown."""
    from diag.net import proxyclients, proxyenv
    from diag.secret import Scrubber

    environ = dict(os.environ)
    question = (target.scheme, target.host, target.port if target.port_given else None, environ)
    own = proxyenv.OWN.decide(*question)
    clients = proxyclients.choices(*question)
    scrubber = Scrubber()
    lists = [environ.get(name, "") for name in proxyenv.OWN.no_proxy]
    texts = [*proxyenv.configured(environ), *(word for text in lists for word in text.split(","))]
    for text in (*texts, *(one.proxy or one.bypassed or "" for one in clients)):
        for secret, user in proxyenv.secrets(text):
            scrubber.learn(secret, [user])
    document: Json = {
        "schema_version": 1,
        "url": target.base_url,
        "agree": not proxyclients.differing(own, clients),
        "clients": [_row(choice) for choice in (own, *clients)],
        "entries": [
            {
                "entry": doubt.entry,
                "variable": doubt.variable,
                "understood_by": list(doubt.by),
                "ignored_by": list(doubt.not_by),
            }
            for doubt in proxyclients.doubts(*question)
        ],
        "hints": list(proxyclients.hints(*question)),
    }
    shown = scrubber.json(document)
    assert isinstance(shown, dict)  # noqa: S101 - it was one
    return shown


def _row(choice: Choice) -> dict[str, Json]:
    """`variable`: what names the proxy, or switches it off by its `entry`."""
    return {
        **choice.to_json(),
        "variable": choice.bypass or (choice.source if choice.proxy else None),
        "entry": choice.entry,
    }


def _table(document: dict[str, Any]) -> str:
    from tabulate import tabulate

    rows: dict[tuple[str, str], list[str]] = {}
    for one in document["clients"]:
        rows.setdefault((one["way"], one["because"]), []).append(one["client"])
    lines = [
        (_folded(names), _filled(way, width=30), _filled(because, width=24))
        for (way, because), names in rows.items()
    ]
    headers = ("client", "way", "because")
    text = tabulate(lines, headers=headers, tablefmt="simple", disable_numparse=True)
    parts = [f"The way to {document['url']}:", "", text]
    for entry in document["entries"]:
        parts += ["", f"{entry['entry']!r} in {entry['variable']} is not understood by all:"]
        for label, names in (("go by it", "understood_by"), ("do not", "ignored_by")):
            text = ", ".join(entry[names]) or "nobody"
            parts.append(_filled(text, f"  {label:<10}", " " * 12))
    if document["hints"]:
        parts += ["", *(_filled(hint, "- ", "  ") for hint in document["hints"])]
    return "\n".join(parts)


def _filled(text: str, first: str = "", further: str = "", *, width: int = 80) -> str:
    """In lines; a name, an address or a setting is not cut."""
    import textwrap

    return textwrap.fill(
        text,
        width,
        initial_indent=first,
        subsequent_indent=further,
        break_long_words=False,
        break_on_hyphens=False,
    )


def _folded(names: Sequence[str]) -> str:
    """Names in as many lines as they need, none of them cut."""
    lines: list[str] = []
    for name in names:
        if lines and len(lines[-1]) + len(name) + 2 <= 22:
            lines[-1] += f", {name}"
        else:
            lines.append(name)
    return ",\n".join(lines)
