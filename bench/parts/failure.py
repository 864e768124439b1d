"""How long it takes until the cause of a failure is told."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import count

from bench import peers
from bench.bitbucket import ZONE
from bench.measuring import Contender, Run, progress, run, seconds, spread, wall
from bench.parts import Place, report_of
from bench.program import ROOT
from bench.results import Part, Table, Target, reached

NAME = "failure"
TITLE = "Failure"
TEXT = """\
Default settings, 20 ms there and back; the time until the program ends. What the others take are
mostly their own time-outs, or the kernel's: nothing there waits for the processor, so they ran
side by side. The worst of all faults is in [the gallery](gallery.md), which measures it."""
_DISTANCE = 20
_PATIENCE = 150  # seconds: the kernel gives up after 134
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
    place.lab.distance(_DISTANCE)
    rows = []
    figures: dict[str, float | None] = {}
    notes: dict[str, str] = {}
    for case in CASES:
        host = f"{case.host}.{ZONE}"
        ours = replace(peers.bbdiag(host), statuses=())
        told = report_of(ours)["root_cause"]
        runs = []
        for number in range(place.rounds):
            progress(f"{number}/{place.rounds} {case.title}")
            runs.append(run(ours))
        took = wall(runs)
        right = told in case.codes
        verdict = f"`{told}`" if right else f"`{told}` (wrong)"
        rows.append([case.title, spread(took), verdict, *_others(place, host)])
        if case.key:
            figures[case.key] = took.median if right else None
            notes[case.key] = "" if right else f"it says {told}"
    place.lab.distance(0)
    columns = ("", "bbdiag, median (least to most)", "says", "curl", "nc", "nmap", "check_http")
    figures["failure-worst"] = _worst()
    targets = reached(TARGETS, figures, notes)
    return Part(NAME, TITLE, TEXT, [Table("", columns, rows)], targets, place.rounds)


def _worst() -> float | None:
    """Seconds of the slowest run in the gallery, as its page has it."""
    page = (ROOT / "docs" / "gallery.md").read_text()
    found = re.search(r"worst (\d+\.\d+) s", page)
    return float(found[1]) if found else None


def _others(place: Place, host: str) -> list[str]:
    patience = 6 if place.quick else _PATIENCE
    asked = [
        peers.curl(host),
        peers.netcat(host, 443),
        peers.nmap(host, [443]),
        peers.check_http(host),
    ]
    numbers = count()

    def one(contender: Contender) -> Run:
        waiting = replace(contender, statuses=(), limit=patience)
        return run(waiting, slot=next(numbers))

    progress(f"waiting for the others, at most {patience} s")
    turns = 1 if place.quick else 3
    with ThreadPoolExecutor(turns * len(asked)) as pool:
        done = list(pool.map(one, asked * turns))
    cells = []
    for index in range(len(asked)):
        own = done[index :: len(asked)]
        late = any(each.status == "late" for each in own)
        cells.append(f"> {patience} s" if late else seconds(wall(own).median))
    return cells
