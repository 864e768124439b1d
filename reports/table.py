"""For people: the verdict in one sentence, what to do, a picture of the way, then every check."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator

from tabulate import tabulate

from diag.api import CheckResult, Problem, Report, Status, Style, sentence, waterfall

SYMBOLS = {
    Status.OK: "✓",
    Status.WARN: "!",
    Status.UNKNOWN: "?",
    Status.FAIL: "✗",
    Status.ERROR: "✗",
    Status.SKIP: "-",
}
COLORS = {
    Status.OK: "32",
    Status.WARN: "33",
    Status.UNKNOWN: "35",
    Status.FAIL: "31",
    Status.ERROR: "31",
    Status.SKIP: "2",
}
OWNERS = {
    "you": "you",
    "network-admin": "the network administrator (firewall, routing)",
    "dns-admin": "the DNS administrator",
    "proxy-admin": "the proxy's administrator",
    "server-admin": "the server's administrator (host, certificate, reverse proxy)",
    "bitbucket-admin": "the Bitbucket administrator",
    "project-admin": "an administrator of the project or repository",
    "atlassian": "Atlassian",
}
# The stations of the way, in its order: name in the picture, and the checks that judge it.
STATIONS = (
    ("url", ("input",)),
    ("proxy", ("proxy", "proxy-bypass")),
    ("dns", ("dns",)),
    ("tcp", ("tcp", "ports")),
    ("tls", ("tls", "clock")),
    ("hosts", ("cloud-hosts",)),
    ("http", ("http", "cloud-http")),
    ("bitbucket", ("server", "version")),
    ("token", ("auth", "cloud-auth")),
    ("repos", ("repos", "cloud-repository")),
    ("links", ("base-url",)),
    ("rights", ("permission", "cloud-scopes", "cloud-permission")),
    ("clone", ("git", "cloud-git")),
    ("webhook", ("webhook",)),
)


def render(report: Report, style: Style) -> str:
    """The report as text of `style.width` columns."""
    parts = [*_verdict(report, style), "", *_way(report, style), _table(report, style)]
    others = report.problems[1:]
    if others:
        parts += ["", "Also found:"]
        for problem in others:
            parts += ["", *_problem(problem, style)]
    if clients := _clients(report):
        parts += ["", "The way out, by the proxy settings of this place:", "", clients]
    if style.timings and (drawn := waterfall(report, style)):
        parts += ["", "Where the time went:", "", *drawn]
    parts += ["", *_facts(report, style)]
    return "\n".join(parts) + "\n"


def _verdict(report: Report, style: Style) -> Iterator[str]:
    if report.run.interrupted:
        yield _paint("Interrupted: this is what was found so far.", "33", style)
    if not report.problems:
        yield from _wrapped(
            _paint(SYMBOLS[report.verdict], COLORS[report.verdict], style),
            report.summary,
            style,
        )
        return
    yield from _problem(report.problems[0], style)


def _problem(problem: Problem, style: Style) -> Iterator[str]:
    symbol = _paint(SYMBOLS[problem.status], COLORS[problem.status], style)
    yield from _wrapped(symbol, sentence(problem.message), style, bold=True)
    if problem.remedy:
        yield from _labelled("what to do", problem.remedy, style)
    yield from _labelled("who", OWNERS.get(problem.owner, problem.owner), style)
    for index, line in enumerate(problem.reproduce):
        # A command is to be copied: it stays on one line, however long.
        yield f"  {'see it' if index == 0 else '':<11}{line}"
    yield f"  {'more':<11}bbdiag explain {problem.code}"


def _wrapped(symbol: str, text: str, style: Style, *, bold: bool = False) -> Iterator[str]:
    for index, line in enumerate(_wrap(text, style.width - 2)):
        shown = _paint(line, "1", style) if bold else line
        yield f"{symbol if index == 0 else ' '} {shown}"


def _labelled(label: str, text: str, style: Style) -> Iterator[str]:
    for index, line in enumerate(_wrap(text, style.width - 13)):
        yield f"  {label if index == 0 else '':<11}{line}"


def _wrap(text: str, width: int, *, breaking: bool = False) -> list[str]:
    """Lines of at most `width` columns. A line of its own that is no sentence is a command or the
    entry of a list, and stays whole, however long: it is to be copied."""
    lines: list[str] = []
    for place, paragraph in enumerate(text.splitlines() or [""]):
        if place and not breaking and not paragraph.endswith((".", ":")):
            lines.append(paragraph)
            continue
        lines += textwrap.wrap(
            paragraph, width, break_long_words=breaking, break_on_hyphens=False
        ) or [""]
    return lines


def _way(report: Report, style: Style) -> list[str]:
    """The way as a line: what holds, where it breaks, what lies behind the break. A comparison has
    none."""
    results = {check.id: check for check in report.checks}
    hops: list[tuple[str, Status]] = []
    for name, ids in STATIONS:
        present = [results[check_id] for check_id in ids if check_id in results]
        if not present or (name == "proxy" and not _through_proxy(present)):
            continue
        worst = max((check.status for check in present), key=lambda status: status.severity)
        hops.append((name, worst))
    lines: list[str] = []
    line, length = "you", 3
    for name, status in hops:
        joint = " ·· " if status is Status.SKIP else " ─ "
        mark = "" if status is Status.SKIP else f" {SYMBOLS[status]}"
        width = len(joint) + len(name) + len(mark)
        if length + width > style.width - 2:
            lines.append(line)
            line, length = "   ", 3
        line += joint + _paint(name + mark, COLORS[status], style)
        length += width
    lines.append(line)
    return [*("  " + text for text in lines), ""] if hops else []


def _through_proxy(checks: list[CheckResult]) -> bool:
    codes = {finding.code for check in checks for finding in check.findings}
    bad = any(check.status in (Status.FAIL, Status.WARN, Status.UNKNOWN) for check in checks)
    return bad or "proxy-ok" in codes


def _table(report: Report, style: Style) -> str:
    rows = []
    skipped: dict[str, list[str]] = {}
    for check in report.checks:
        if check.status is Status.SKIP:  # told in a few lines below the table
            skipped.setdefault(_why(check, report), []).append(check.id)
            continue
        texts = [finding.message for finding in check.findings if finding.status is check.status]
        if not texts:
            texts = [finding.message for finding in check.findings] or [check.title]
        rows.append((f"{SYMBOLS[check.status]} {check.status}", check.id, "\n".join(texts)))
    widths = [9, max([len(row[1]) for row in rows], default=5)]
    room = style.width - sum(widths) - 4
    rows = [(*row[:2], "\n".join(_wrap(row[2], room, breaking=True))) for row in rows]
    text = tabulate(
        rows, headers=("status", "check", "result"), tablefmt="simple", disable_numparse=True
    )
    for why, ids in skipped.items():
        lines = _wrap(f"{why}: {', '.join(ids)}", style.width - 2)
        text += "\n- " + "\n  ".join(lines)
    if not style.color:
        return text
    for status in Status:
        pattern = re.compile(rf"^{re.escape(f'{SYMBOLS[status]} {status}')}\b", re.MULTILINE)
        text = pattern.sub(_paint(f"{SYMBOLS[status]} {status}", COLORS[status], style), text)
    return text


def _why(check: CheckResult, report: Report) -> str:
    """Why a check was skipped: because of a problem, or of what another skipped check says."""
    told = {finding.code: finding for other in report.checks for finding in other.findings}
    causes = {other.skipped_because.code for other in report.checks if other.skipped_because}
    own = [finding.code for finding in check.findings if finding.code in causes]
    code = check.skipped_because.code if check.skipped_because else next(iter(own), None)
    if code is None:
        if not check.findings:
            return "not run, as the run was over"
        left_out = check.findings[0].code == "check-left-out"
        return check.findings[0].message if left_out else "not needed here"
    finding = told.get(code)
    if finding is not None and finding.status is Status.SKIP and code not in _problems(report):
        return f"not run ({finding.message})"
    ran = any(one.status is Status.SKIP for one in check.findings)  # and found a consequence of it
    return f"a consequence of {code}" if ran else f"not run because of {code}"


def _problems(report: Report) -> set[str]:
    return {problem.code for problem in report.problems}


def _clients(report: Report) -> str:
    """Which client goes which way, where they differ or a proxy is among the problems."""
    findings = [one for check in report.checks if check.id == "proxy" for one in check.findings]
    told = [finding.evidence.get("clients") for finding in findings]
    differ = any(finding.code == "proxy-clients-differ" for finding in findings)
    if not (differ or any(code.startswith("proxy-") for code in _problems(report))):
        return ""
    ways: dict[tuple[str, str], list[str]] = {}
    # Every finding of the check tells them: once is enough.
    for client in next((clients for clients in told if isinstance(clients, list)), []):
        match client:  # a saved report may come from another version
            case {"client": str(name), "way": str(way), "because": str(because)}:
                ways.setdefault((way, because), []).append(name)
    if not ways:
        return ""
    rows = [(", ".join(names), *key) for key, names in ways.items()]
    headers, widths = ("client", "way", "because"), [26, 30, 24]
    return tabulate(
        rows, headers=headers, tablefmt="simple", disable_numparse=True, maxcolwidths=widths
    )


def _facts(report: Report, style: Style) -> Iterator[str]:
    run = report.run
    place = f" from {run.label}" if run.label else ""
    requests = "1 request" if run.requests == 1 else f"{run.requests} requests"
    # A call that came to no run has neither.
    target = report.target.base_url or report.target.input or "no URL"
    product = f"for {report.profile}, stage {report.stage}; " if report.profile else ""
    text = (
        f"{target}: {len(report.checks)} checks{place}, {requests}, {run.duration_ms} ms"
        f" ({product}bbdiag {report.version})"
    )
    for line in _wrap(text, style.width):
        yield _paint(line, "2", style)


def _paint(text: str, color: str, style: Style) -> str:
    return f"\033[{color}m{text}\033[0m" if style.color and text else text
