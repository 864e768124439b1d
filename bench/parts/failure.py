"""How long it takes until the cause of a failure is told."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

from bench import peers
from bench.bitbucket import ZONE
from bench.measuring import Contender, Run, progress, run, seconds, spread, wall
from bench.parts import Place, report_of
from bench.program import ROOT
from bench.results import Part, Table, Target, reached

NAME = "failure"
TITLE = "Failure"
TEXT = """\
Default settings, 20 ms there and back; the time until the program ends. What the others take
where it is seconds are their own time-outs, or the kernel's. They were run three times, and those
that wait for long at the same time. The worst of all faults is in [the gallery](gallery.md), which
measures it with ten at once."""
_DISTANCE = 20
_PATIENCE = 150  # seconds: the kernel gives up after 134
_AT_ONCE = 4  # seconds: what takes longer is let wait with others
_TURNS = 3  # of the others
TARGETS = (
    Target("failure-filtered", "time to the verdict when a port is filtered", 1.5, unit="s"),
    Target("failure-worst", "the slowest of all faults in the gallery", 8, unit="s"),
    Target("failure-silent", "time to the verdict when a whole host is filtered", 1.5, unit="s"),
)


@dataclass(frozen=True)
class Case:
    """A host that cannot be used, and what bbdiag is to say of it."""

    host: str
    title: str
    codes: tuple[str, ...]
    key: str | None = None  # of its target


CASES = (
    Case(
        "bitbucket.filtered",
        "the port is filtered, another one answers",
        ("tcp-filtered",),
        "failure-filtered",
    ),
    Case(
        "bitbucket.silent",
        "the whole host is filtered",
        ("tcp-filtered", "tcp-host-down"),
        "failure-silent",
    ),
    Case("bitbucket.dead", "no such machine", ("tcp-host-unreachable", "tcp-host-down")),
    Case("bitbucket.refused", "the port is closed", ("tcp-refused",)),
    Case("bitbucket.tarpit", "accepts connections, and says nothing", ("tcp-silent-after-accept",)),
    Case("bitbucket.hung", "the backend hangs", ("http-response-timeout",)),
    Case("bitbucket.gateway", "502", ("http-bad-gateway",)),
    Case("bitbucket.expired", "the certificate has expired", ("tls-expired",)),
    Case("bitbucket.nxdomain", "no such name", ("dns-nxdomain",)),
)


def measure(place: Place) -> Part:
    """Raises VoidError: there is no report."""
    place.lab.distance(_DISTANCE)
    rows: list[list[str]] = []
    figures: dict[str, float | None] = {"failure-worst": _worst()}
    notes: dict[str, str] = {}
    for case in CASES:
        ours = replace(peers.bbdiag(f"{case.host}.{ZONE}"), statuses=())
        told = report_of(ours)["root_cause"]
        progress(case.title)
        took = wall(run(ours) for _ in range(place.rounds))
        right = told in case.codes
        rows.append([case.title, spread(took), f"`{told}`" if right else f"`{told}` (wrong)"])
        if case.key:
            figures[case.key] = took.median if right else None
            notes[case.key] = "" if right else f"it says {told}"
    hosts = [f"{case.host}.{ZONE}" for case in CASES]
    others = _others(hosts, patience=0 if place.quick else _PATIENCE)
    rows = [[*row, *cells] for row, cells in zip(rows, others, strict=True)]
    place.lab.distance(0)
    columns = ("", "bbdiag, median (least to most)", "says", "curl", "nc", "nmap", "check_http")
    targets = reached(TARGETS, figures, notes)
    return Part(NAME, TITLE, TEXT, [Table("", columns, rows)], targets, place.rounds)


def _others(hosts: Iterable[str], patience: int) -> list[list[str]]:
    """What curl, nc, nmap and check_http take: a row for each host.

    Those that take long wait for a time-out, not for the processor: all of them wait at the same
    time, at most `patience` seconds.
    """
    asked = [
        [peers.curl(host), peers.netcat(host, 443), peers.nmap(host, [443]), peers.check_http(host)]
        for host in hosts
    ]
    first = [[_quick(each) for each in row] for row in asked]
    slow = [
        contender
        for row, times in zip(asked, first, strict=True)
        for contender, time in zip(row, times, strict=True)
        if time is None
    ]
    waited = iter(_slow(slow, patience))
    return [[time or next(waited) for time in row] for row in first]


def _quick(contender: Contender) -> str | None:
    """The median of some runs; None if they take long."""
    waiting = replace(contender, statuses=(), limit=_AT_ONCE)
    runs = []
    for _ in range(_TURNS):
        runs.append(run(waiting))
        if runs[-1].status == "late":
            return None
    return seconds(wall(runs).median)


def _slow(contenders: Sequence[Contender], patience: int) -> list[str]:
    """The medians of some runs of each, all at the same time."""
    if not patience or not contenders:
        return [f"> {_AT_ONCE} s"] * len(contenders)
    progress(f"waiting for the others, at most {patience} s")

    def wait(slot: int) -> Run:
        contender = contenders[slot % len(contenders)]
        return run(replace(contender, statuses=(), limit=patience), slot)

    with ThreadPoolExecutor(_TURNS * len(contenders)) as pool:
        done = list(pool.map(wait, range(_TURNS * len(contenders))))
    cells = []
    for index in range(len(contenders)):
        own = done[index :: len(contenders)]
        late = any(each.status == "late" for each in own)
        cells.append(f"> {patience} s" if late else seconds(wall(own).median))
    return cells


def _worst() -> float | None:
    """Seconds of the slowest run in the gallery, as its page has it."""
    page = (ROOT / "docs" / "gallery.md").read_text()
    found = re.search(r"worst (\d+\.\d+) s", page)
    return float(found[1]) if found else None
