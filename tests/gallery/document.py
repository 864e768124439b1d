"""Writes `docs/gallery.md`: what bbdiag and other programs say of every case, from one run.

    python -m tests.gallery.document [ID…]

With ids the page is printed for these alone, and no file is written.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from importlib.metadata import version
from pathlib import Path
from statistics import median

from diag.version import VERSION
from tests.gallery.case import Case, Family, NearMiss, families
from tests.gallery.peers import PEERS, symptom
from tests.gallery.running import Gallery, Outcome
from tests.gallery.town import DEADLINE

PAGE = Path(__file__).parents[2] / "docs" / "gallery.md"
_SIDE_BY_SIDE = 10
_LONG = 4.0  # seconds: a run that takes longer is listed
_WIDTH = 90  # characters of what another program said that are shown
_VERSIONS = {
    "curl": ("curl", "--version"),
    "check_http": ("/usr/lib/nagios/plugins/check_http", "--version"),
    "blackbox_exporter": ("prometheus-blackbox-exporter", "--version"),
    "nmap": ("nmap", "--version"),
}
_INTRODUCTION = """# The fault gallery

Written by `make gallery`, not by hand. Each line is a fault that was really brought about: client,
router and server in network namespaces, nftables on the way, dnsmasq, unbound, nginx, haproxy,
squid and tinyproxy as Debian ships them, faketime for wrong clocks, and the embedded Bitbucket
behind. Then `bbdiag check` was run with its default settings, and after it what people use today,
each as it is usually called, for the URL of the repository listing, with the same token and the
same CA file. Of blackbox_exporter the last error of its debug log stands beside its metrics.

Ids begin with the layer: I input, D DNS, T TCP, P proxy, L TLS, H HTTP, S state of the server,
V version, A authentication, R rights, B base URL, C Cloud, K clock, Q rate limits, W webhooks.
Two ids joined by a plus sign are two faults at once: the first is the cause, the other one is
still told.
"""

_FIGURES = """- root causes named right: {right} of {faults} ({share:.1f} %)
- false alarms: {alarms} on {healthy} healthy shapes
- time of a run, by its report, {at_once} at once on {processors} processors: \
median {usual:.1f} s, worst {worst:.1f} s ({worst_id}); the deadline is {deadline:.0f} s

What the others could tell at best: every different output (names, numbers and times left out) is
taken for the most frequent of its true causes, with the answers in hand, which no user has. An
output that was seen but once counts as right. It is not quite fair all the same: bbdiag was built
against these very faults, and the others were made for other things.
"""


_SLOW = """
## What takes longer than {long:.0f} seconds

Somebody did not answer, and was waited for; [timeouts.md](timeouts.md) says how long, and why.
"""


def page(chapters: Sequence[Family], outcomes: dict[str, Outcome]) -> str:
    """The whole page."""
    parts = [_INTRODUCTION, "## Figures\n", _figures(list(outcomes.values()))]
    excused = [one.case for one in outcomes.values() if one.case.excuse]
    if excused:
        parts.append("\n## What is not told, and why\n")
        parts += [f"- {case.id} ({case.title}): {case.excuse}" for case in excused]
    if slow := [one for one in outcomes.values() if one.seconds > _LONG]:
        parts.append(_SLOW.format(long=_LONG))
        heads = ("id", "what is wrong", "bbdiag", "seconds")
        parts.append(_table(map(_duration, sorted(slow, key=_by_time, reverse=True)), heads))
    for family in chapters:
        shown = [outcomes[case.id] for case in family.cases if case.id in outcomes]
        if shown:
            parts.append(f"\n## {family.heading}\n")
            parts.append(
                _table([_row(one) for one in shown], ("id", "what is wrong", "bbdiag", *PEERS))
            )
    pairs = [pair for family in chapters for pair in family.near_misses]
    pairs = [pair for pair in pairs if {pair.one, pair.other} <= set(outcomes)]
    if pairs:
        parts.append(
            "\n## Near misses\n\nThe same to a script with curl, and not the same fault.\n"
        )
        heads = ("what is seen", "curl: exit status, HTTP status", "one", "the other")
        parts.append(_table([_near_miss(pair, outcomes) for pair in pairs], heads))
    return "\n".join(parts) + "\n"


def line_start(case: Case) -> str:
    """How the line of a case begins, if bbdiag says of it what it should."""
    codes = [*([case.root] if case.root else []), *case.seen]
    start = f"| {case.id} | {_cell(case.title)} | "
    if case.is_healthy and case.also:  # some of what it deserves
        return start
    return start + (_codes(codes) or "ok")


def _figures(outcomes: Sequence[Outcome]) -> str:
    faults = [one for one in outcomes if not one.case.is_healthy]
    healthy = [one for one in outcomes if one.case.is_healthy]
    right = [one for one in faults if _first(one) == one.case.root]
    alarms = [one for one in healthy if one.wrong]
    times = {one.case.id: one.seconds for one in outcomes if one.result}
    worst = max(times, key=lambda id_: times[id_])
    share = 100 * len(right) / max(1, len(faults))
    text = _FIGURES.format(
        right=len(right),
        faults=len(faults),
        share=share,
        alarms=len(alarms),
        healthy=len(healthy),
        at_once=_SIDE_BY_SIDE,
        processors=len(os.sched_getaffinity(0)),
        usual=median(times.values()),
        worst=times[worst],
        worst_id=worst,
        deadline=DEADLINE,
    )
    rows = [("bbdiag", VERSION, "–", f"{share:.1f} %")]
    for name in PEERS:
        said = [(_outline(one.peers[name]), one.case.root) for one in faults if name in one.peers]
        different = str(len({words for words, _ in said}))
        best = 100 * _at_best(said) / max(1, len(said))
        rows.append((name, _version(name), different, f"{best:.0f} %"))
    heads = ("program", "version", "different outputs", "causes right, at best")
    return text + "\n" + _table(rows, heads)


def _at_best(said: Iterable[tuple[str, str | None]]) -> int:
    """How many causes are right if each output stands for the most frequent of its causes."""
    causes: dict[str, Counter[str | None]] = defaultdict(Counter)
    for text, cause in said:
        causes[text][cause] += 1
    return sum(max(counter.values()) for counter in causes.values())


def _outline(text: str) -> str:
    """An output without what differs from case to case: names, addresses, times, sizes."""
    kept = re.compile(r"[A-Za-z(][A-Za-z()-]*|\(\d+\)|[1-5]\d\d")  # words, exit and HTTP status
    words = (word.strip(",;:") for word in text.replace("\\", "").split())
    return " ".join(word for word in words if kept.fullmatch(word)).lower()


def _row(outcome: Outcome) -> tuple[str, ...]:
    case = outcome.case
    codes = outcome.result.codes if outcome.result else ["?"]
    others = [_cell(outcome.peers.get(name, "")) for name in PEERS]
    return case.id, _cell(case.title), _codes(codes) or "ok", *others


def _duration(outcome: Outcome) -> tuple[str, ...]:
    case = outcome.case
    return case.id, _cell(case.title), _codes([_first(outcome) or "ok"]), f"{outcome.seconds:.1f}"


def _by_time(outcome: Outcome) -> float:
    return outcome.seconds


def _near_miss(pair: NearMiss, outcomes: dict[str, Outcome]) -> tuple[str, ...]:
    one, other = outcomes[pair.one], outcomes[pair.other]
    return (
        _cell(pair.symptom),
        one.peers.get("symptom", ""),
        f"{pair.one} {_codes([_first(one) or 'ok'])}",
        f"{pair.other} {_codes([_first(other) or 'ok'])}",
    )


def _first(outcome: Outcome) -> str | None:
    return next(iter(outcome.result.codes), None) if outcome.result else None


def _codes(codes: Iterable[str]) -> str:
    return ", ".join(f"`{code}`" for code in codes)


def _cell(text: str) -> str:
    """Text for one cell of a table: one line, not too long, no path of this machine."""
    text = re.sub(r"/tmp/town-\w+/?", "", " ".join(text.split()))
    text = re.sub(r"0x[0-9a-f]{6,}", "0x…", text)
    text = text if len(text) <= _WIDTH else text[: _WIDTH - 1].rstrip() + "…"
    return re.sub(r"([|<>*`_\[\]])", r"\\\1", text)


def _table(rows: Iterable[Sequence[str]], heads: Sequence[str]) -> str:
    lines = [f"| {' | '.join(cells)} |" for cells in (heads, ["---"] * len(heads), *rows)]
    return "\n".join(lines)


def _version(name: str) -> str:
    if name == "requests":
        return version("requests")
    done = subprocess.run(_VERSIONS[name], check=False, capture_output=True, text=True)
    found = re.search(r"\d+\.\d+(\.\d+)?", done.stdout + done.stderr)
    return found[0] if found else "?"


def main() -> None:
    """Run the cases, all of them or those named, and write the page."""
    chapters = families()
    wanted = [case for family in chapters for case in family.cases]
    if named := sys.argv[1:]:
        wanted = [case for case in wanted if case.id in named]
    gallery = Gallery(wanted, lambda _case: {**PEERS, "symptom": symptom}, _SIDE_BY_SIDE)
    outcomes: dict[str, Outcome] = {}
    for case in wanted:
        outcome = outcomes[case.id] = gallery.outcome(case.id)
        bad = outcome.wrong.partition("\n")[0] if not case.excuse else ""
        sys.stderr.write(f"{case.id}: {bad or 'as expected'}\n")
    gallery.close()
    text = page(chapters, outcomes)
    if named:
        sys.stdout.write(text)
    else:
        PAGE.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
