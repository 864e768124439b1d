"""Texts about checks and verdicts, made from the same attributes that the report uses."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator

from diag.check import Check, Concluding
from diag.comparing import ASPECTS
from diag.model import Status, Verdict
from diag.registry import Checks
from diag.runner import VERDICTS

PLACEHOLDER = re.compile(r"(?<!\{)\{(\w+)(?:[:!][^}]*)?\}")
_COMMANDS = {  # what the words stand for in a run without further options
    "curl": "curl -sS",
    "curl_auth": 'curl -sS -H "Authorization: Bearer $BITBUCKET_TOKEN"',
}
SHOWN = (Status.FAIL, Status.WARN, Status.UNKNOWN)
OWNERS = {
    "you": "you, who runs the client",
    "network-admin": "the network administrator: firewall, routing, inspection",
    "dns-admin": "the DNS administrator",
    "proxy-admin": "the administrator of the forward proxy",
    "server-admin": "the server's administrator: host, certificate, reverse proxy",
    "bitbucket-admin": "the Bitbucket administrator",
    "project-admin": "an administrator of the project, repository or workspace",
    "atlassian": "Atlassian",
}
MEANING = {
    Status.FAIL: "a failure: it cannot work like this",
    Status.WARN: "a warning: it works, but somebody should act",
    Status.UNKNOWN: "could not be told; not counted as a failure",
    Status.ERROR: "bbdiag's own fault",
    Status.OK: "good to know",
    Status.SKIP: "the check does not apply",
}


def everything(known: Checks) -> list[type[Concluding]]:
    """Every check, then every aspect of a comparison."""
    return [*known.checks, *ASPECTS]


def name(told: type[Concluding]) -> str:
    """What a check or an aspect is called among others."""
    return told.id if issubclass(told, Check) else f"compare: {told.id}"


def all_verdicts(known: Checks) -> list[Verdict]:
    """Every verdict of every check and of comparisons, and the runner's own."""
    return [told for one in everything(known) for told in one.verdicts()] + list(VERDICTS)


def find(known: Checks, code: str) -> tuple[type[Concluding] | None, Verdict] | None:
    """The verdict of that code and what concludes it: a check, if one does."""
    for one in everything(known):
        for told in one.verdicts():
            if told.code == code:
                return one, told
    return next(((None, verdict) for verdict in VERDICTS if verdict.code == code), None)


def verdict(check: type[Concluding] | None, told: Verdict, width: int) -> Iterator[str]:
    """A verdict for the terminal."""
    yield told.code
    yield "=" * len(told.code)
    yield from _wrap(_readable(told.message), width)
    yield ""
    yield from _field("status", MEANING[told.status], width)
    if told.remedy:
        yield from _field("what to do", _readable(told.remedy), width)
    if told.status in SHOWN:
        yield from _field("who", OWNERS[told.owner], width)
    for index, line in enumerate(told.reproduce):
        yield f"{'see it' if index == 0 else '':<12}{_readable(line)}"
    if told.explains:
        yield from _field("explains", ", ".join(told.explains), width)
    if check is not None:
        yield from _field("found by", f"{name(check)} ({check.title})", width)
    for aspect in ASPECTS:
        if aspect is not check and told.code in {one.code for one in aspect.verdicts()}:
            yield from _field("also by", f"{name(aspect)} ({aspect.title})", width)


def check(told: type[Concluding], width: int) -> Iterator[str]:
    """A check, or an aspect of a comparison, for the terminal."""
    heading = f"{name(told)}: {told.title}"
    yield heading
    yield "=" * len(heading)
    for paragraph in told.documentation().split("\n\n"):
        yield from _wrap(" ".join(paragraph.split()), width)
        yield ""
    if issubclass(told, Check):
        facts = ", ".join(fact.__name__ for fact in told.requires) or "nothing"
        yield from _field("needs", facts, width)
        given = ", ".join(fact.__name__ for fact in told.provides) or "nothing"
        yield from _field("gives", given, width)
        yield ""
    yield "It can find:"
    for item in told.verdicts():
        if item.status in SHOWN:
            yield f"  {item.code}"
            yield from textwrap.wrap(
                _readable(item.message), width, initial_indent=" " * 6, subsequent_indent=" " * 6
            )


def _readable(template: str) -> str:
    def word(match: re.Match[str]) -> str:
        return _COMMANDS.get(match[1]) or f"<{match[1].replace('_', ' ')}>"

    return PLACEHOLDER.sub(word, template).replace("{{", "{").replace("}}", "}")


def _wrap(text: str, width: int) -> list[str]:
    return [
        line
        for paragraph in text.splitlines() or [""]
        for line in textwrap.wrap(paragraph, width, break_long_words=False, break_on_hyphens=False)
    ]


def _field(label: str, text: str, width: int) -> Iterator[str]:
    for index, line in enumerate(_wrap(text, width - 12)):
        yield f"{label if index == 0 else '':<12}{line}"


def markdown(known: Checks) -> str:
    """`docs/verdicts.md`: every check, every aspect of a comparison, and what each can find."""
    lines = [
        "# What bbdiag can find",
        "",
        "Generated from the checks themselves (`make docs`); `bbdiag explain CODE` prints the same",
        "in a terminal. Codes are public names: `root_cause` and `problems[].code` of a report.",
        "*fail* means that it cannot work like this, *warn* that somebody should act, *unknown*",
        "that it could not be told (never counted as a failure).",
    ]
    for item in everything(known):
        lines += ["", f"## {name(item)}", "", f"*Passes when {item.title}.*", ""]
        lines += [item.documentation()]
        verdicts = [told for told in item.verdicts() if told.status in SHOWN]
        for told in verdicts:
            lines += ["", f"### `{told.code}`", "", _cell(told.message), ""]
            lines += [f"- *Status:* {told.status}", f"- *Who must act:* {OWNERS[told.owner]}"]
            lines += [f"- *What to do:* {_cell(told.remedy)}"]
            lines += [f"- *See it:* `{_readable(line)}`" for line in told.reproduce]
            if told.explains:
                consequences = ", ".join(f"`{code}`" for code in told.explains)
                lines += [f"- *Explains:* {consequences}"]
    return "\n".join(lines) + "\n"


def _cell(template: str) -> str:
    return _readable(template).replace("<", "&lt;").replace("\n", "<br>")
