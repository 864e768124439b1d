"""Thousands of targets in one call, beside blackbox_exporter asked for as much."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import count as numbers

from bench import bitbucket, peers
from bench.bitbucket import KINDS, REPO, ZONE
from bench.measuring import (
    Contender,
    Run,
    Summary,
    VoidError,
    cpu,
    measured_argv,
    peak,
    progress,
    race,
    ratio,
    run,
    seconds,
    spread,
    took,
    wall,
)
from bench.parts import Place
from bench.program import BBDIAG
from bench.results import Part, Table, Target, reached

NAME = "fleet"
TITLE = "Fleet"
TEXT = """\
`bbdiag fleet FILE --repo MOB/app` with default settings: each target has a name of its own, and
all of them a token. Nginx, the resolvers and what is measured share two cores, so CPU is what
counts, not the time. **blackbox_exporter** is asked by curl, 100 probes at a time; only its own
CPU is counted. It answers a probe with one bit, so what bbdiag tells of a target takes it
{probes} probes; {requests} of them send something that no other one sends. In the mixed fleet
three tenths are healthy, and each kind of failure is a tenth."""
_FAILING = tuple(kind for kind in KINDS if kind != "healthy")
_CAUSES = {
    "nxdomain": "dns-nxdomain",
    "refused": "tcp-refused",
    "filtered": "tcp-filtered",
    "expired": "tls-expired",
    "gateway": "http-bad-gateway",
    "hung": "http-response-timeout",
    "unauthorized": "auth-token-invalid",
    "healthy": None,
}
_files = numbers()
_OURS, _ALL, _ONCE = "bbdiag fleet", "blackbox_exporter", "blackbox_exporter, each request once"
_REACH, _PEER_REACH = "bbdiag fleet --only http", "blackbox_exporter, one http probe"
TARGETS = (
    Target("fleet-cpu", "CPU of a full diagnosis, to blackbox_exporter's", 0.5),
    Target("fleet-reach", "reachability only: targets per CPU second, to it", 1.0, least=True),
    Target("fleet-flat", "CPU of a further target, most to least, up to 5,000", 1.1),
    Target("fleet-memory", "memory at the peak, 5,000 targets", 120, unit="MB"),
    Target("fleet-memory-flat", "the same, to that of 1,000", 1.1),
    Target("fleet-mixed-memory", "memory at the peak, 5,000 mixed targets", 120, unit="MB"),
    Target(
        "fleet-held-up", "the last healthy one of a mixed fleet, to the last of a healthy one", 1.0
    ),
    Target("fleet-causes", "told right, of 5,000 mixed targets", 100, unit="%", least=True),
    Target("fleet-alarms", "false alarms on healthy targets, in all these runs", 0, unit=""),
)


@dataclass(frozen=True)
class Line:
    """What is kept of a report."""

    after: float  # seconds from the start until it came
    host: str
    cause: str | None
    took: float  # seconds

    @classmethod
    def of(cls, after: float, text: str) -> Line:
        report = json.loads(text)
        took = report["run"]["duration_ms"] / 1000
        return cls(after, report["target"]["host"], report["root_cause"], took)

    @property
    def kind(self) -> str:
        return self.host.removesuffix("." + ZONE).rpartition(".")[2]


@dataclass(frozen=True)
class Followed:
    """A fleet whose lines were read as they came."""

    lines: Sequence[Line]
    run: Run

    @property
    def last(self) -> float:
        """Seconds until the last line."""
        return self.lines[-1].after

    def of(self, kind: str) -> list[Line]:
        return [line for line in self.lines if line.kind == kind]


def measure(place: Place) -> Part:
    """Raises VoidError: there is no fleet, or it is not as healthy as it is meant to be."""
    place.lab.distance(0)
    if run(Contender("bbdiag fleet", [str(BBDIAG), "fleet", "--help"], {}, ())).status != "0":
        raise VoidError("this bbdiag has no fleet")
    some, many, most = (20, 60, 200) if place.quick else (100, 1000, 5000)
    figures: dict[str, float | None] = {}
    alarms = _Alarms()
    full, runs, probes, once = _full(place, many, figures, alarms)
    tables = [
        full,
        _sizes(place, (some, many, most), runs, figures, alarms),
        _mixed(place, many, figures, "fleet-held-up"),
        _mixed(place, most, figures),
        _shards(place, many),
    ]
    figures["fleet-alarms"] = alarms.codes.total()
    text = TEXT.format(probes=probes, requests=once) + " " + alarms.text()
    return Part(NAME, TITLE, text, tables, reached(TARGETS, figures), place.rounds)


# what is compared


def _full(
    place: Place, number: int, figures: dict[str, float | None], alarms: _Alarms
) -> tuple[Table, list[Run], int, int]:
    """CPU beside blackbox_exporter's; bbdiag's runs, how many probes it takes, and how many of them
    send something of their own."""
    hosts = _healthy(number)
    with peers.exporter(place.lab, hosts) as exporter:
        first = list(exporter.probes(hosts[:1]))
        if failed := exporter.verify(first):
            raise VoidError(f"blackbox_exporter finds fault with {failed}")
        runs = race(
            [
                _fleet(place, hosts, check=alarms.of(number)),
                exporter.asked(_ALL, exporter.probes(hosts), alone=True),
                exporter.asked(_ONCE, exporter.probes(hosts, once=True), alone=True),
                replace(
                    _fleet(place, hosts, "--only", "http", check=alarms.of(number)), name=_REACH
                ),
                exporter.asked(_PEER_REACH, exporter.reach(hosts), alone=True),
            ],
            place.rounds,
        )
        memory = exporter.peak()
        probes, once = len(first), len(list(exporter.probes(hosts[:1], once=True)))
    spent = {name: cpu(each).median for name, each in runs.items()}
    figures["fleet-cpu"] = spent[_OURS] / spent[_ALL]
    figures["fleet-reach"] = spent[_PEER_REACH] / spent[_REACH]
    rows = []
    for name, each in runs.items():
        base = _PEER_REACH if name in (_REACH, _PEER_REACH) else _ALL
        held = peak(each) if name in (_OURS, _REACH) else memory
        rows.append(
            [
                name,
                _per_target(cpu(each), number),
                ratio(spent[name], spent[base]),
                f"{number / spent[name]:.0f}",
                spread(wall(each)),
                f"{held:.0f}",
            ]
        )
    columns = ("", "CPU per target", "×", "targets per CPU second", "wall time", "peak MB")
    heading = f"{number:,} healthy targets"
    return Table(heading, columns, rows), runs[_OURS], probes, once


def _sizes(
    place: Place,
    sizes: tuple[int, int, int],
    known: list[Run],
    figures: dict[str, float | None],
    alarms: _Alarms,
) -> Table:
    """Whether a target costs the same, however many there are; `known` are the runs of the middle
    number."""
    some, many, most = sizes
    measured = {many: known}
    for number, rounds in ((some, place.rounds), (most, place.long_rounds)):
        contender = _fleet(place, _healthy(number), check=alarms.of(number))
        measured[number] = race([contender], rounds)[contender.name]
    spent = {number: cpu(measured[number]).median for number in sizes}
    peaks = {number: peak(measured[number]) for number in sizes}
    first = (spent[many] - spent[some]) / (many - some)
    second = (spent[most] - spent[many]) / (most - many)
    figures["fleet-flat"] = max(first, second) / min(first, second)
    figures["fleet-memory"] = peaks[most]
    figures["fleet-memory-flat"] = peaks[most] / peaks[many]
    further = {some: "", many: seconds(first), most: seconds(second)}
    rows = [
        [
            f"{number:,}",
            _per_target(cpu(measured[number]), number),
            further[number],
            spread(wall(measured[number])),
            f"{peaks[number]:.0f}",
        ]
        for number in sizes
    ]
    columns = ("targets", "CPU per target", "CPU of each further one", "wall time", "peak MB")
    note = f"Of {most:,} targets there are {place.long_rounds} runs."
    return Table("However many", columns, rows, note)


def _mixed(
    place: Place, number: int, figures: dict[str, float | None], key: str | None = None
) -> Table:
    """Whether those that fail hold up the others, and are told from each other."""
    fleet, base = _fleet(place, _mix(number)), _fleet(place, _healthy(number))
    mixed: list[Followed] = []
    healthy: list[Followed] = []
    for turn in range(place.long_rounds):
        progress(f"{turn}/{place.long_rounds} {number:,} mixed targets")
        mixed.append(_follow(fleet))
        if key is not None:
            healthy.append(_follow(base))
    used = Summary.of(each.run.cpu for each in mixed).median / number
    most = peak(each.run for each in mixed)
    note = f"{seconds(used)} of CPU per target, {most:.0f} MB at the peak."
    if key is None:
        figures["fleet-mixed-memory"] = most
        right = [line.cause == _CAUSES[line.kind] for each in mixed for line in each.lines]
        figures["fleet-causes"] = 100 * sum(right) / len(right)
    else:
        alone = Summary.of(each.last for each in healthy)
        among = Summary.of(each.of("healthy")[-1].after for each in mixed)
        figures[key] = among.median / alone.median
        note += f" A wholly healthy fleet as large had its last line after {spread(alone)}."
    wrong = Counter(
        f"{line.cause or 'nothing'} instead of {_CAUSES[line.kind] or 'nothing'}"
        for line in mixed[-1].lines
        if line.cause != _CAUSES[line.kind]
    )
    if wrong:
        told = ", ".join(f"{count} × {what}" for what, count in wrong.most_common())
        note += f" Told wrong: {told}."
    rows = [_kind(kind, cause, mixed[-1].of(kind)) for kind, cause in _CAUSES.items()]
    columns = ("kind", "told right", "a run", "first line", "half of them", "last line")
    return Table(f"{number:,} targets, mixed", columns, rows, note)


def _kind(kind: str, cause: str | None, lines: Sequence[Line]) -> list[str]:
    """What became of the targets of one kind."""
    right = sum(line.cause == cause for line in lines)
    return [
        f"{kind} ({len(lines):,})",
        f"{100 * right / len(lines):.4g} %",
        spread(Summary.of(line.took for line in lines)),
        seconds(lines[0].after),
        seconds(lines[len(lines) // 2].after),
        seconds(lines[-1].after),
    ]


def _shards(place: Place, number: int) -> Table:
    """The same fleet by two processes, whose lines are put together."""
    hosts = _healthy(number)
    whole = _fleet(place, hosts)
    shards = [replace(whole, argv=[*whole.argv, "--shard", f"{i}/2"]) for i in (1, 2)]
    alone, both = [], []
    for turn in range(place.long_rounds):
        progress(f"{turn}/{place.long_rounds} shards")
        alone.append(_follow(whole).last)
        parts = _follow_all(shards)
        both.append(max(part.last for part in parts))
        if Counter(line.host for part in parts for line in part.lines) != Counter(hosts):
            raise VoidError("the shards together are not the whole fleet")
    base = Summary.of(alone)
    rows = [
        ["one process", spread(base), ratio(1, 1)],
        ["two shards", spread(Summary.of(both)), ratio(Summary.of(both).median, base.median)],
    ]
    sizes = " and ".join(f"{len(part.lines):,}" for part in parts)
    note = f"The shards had {sizes} targets; each target was in one of them."
    return Table(f"{number:,} targets in two shards", ("", "wall time", "×"), rows, note)


# fleets


def _healthy(number: int) -> list[str]:
    return [bitbucket.fleet("healthy", n) for n in range(number)]


def _mix(number: int) -> list[str]:
    """Each kind of failure is a tenth, evenly spread; the rest is healthy."""
    kinds = [*_FAILING, *(["healthy"] * (10 - len(_FAILING)))]
    return [bitbucket.fleet(kinds[n % 10], n) for n in range(number)]


def _fleet(
    place: Place, hosts: Iterable[str], *options: str, check: Callable[[Run], None] | None = None
) -> Contender:
    file = place.lab.path(f"fleet-{next(_files)}")
    file.write_text("".join(f"https://{host}\n" for host in hosts))
    argv = [str(BBDIAG), "fleet", str(file), "--repo", REPO, *options]
    statuses = ("0", "1", "4")  # a false alarm is counted, see below
    return Contender(_OURS, argv, peers.SECRET, statuses, limit=3000, check=check)


class _Alarms:
    """What healthy targets were accused of, in all runs."""

    def __init__(self) -> None:
        self.reports = 0
        self.codes: Counter[str] = Counter()

    def of(self, number: int) -> Callable[[Run], None]:
        """What counts them in a run of so many targets; VoidError if some are missing."""

        def tally(done: Run) -> None:
            found = [json.loads(line) for line in done.output.splitlines()]
            if len(found) != number:
                raise VoidError(f"{len(found)} reports of {number} targets: {done.errors[-300:]}")
            self.reports += number
            self.codes.update(one["problems"][0]["code"] for one in found if one["problems"])

        return tally

    def text(self) -> str:
        told = ", ".join(f"{count} × {code}" for code, count in self.codes.most_common())
        return (
            f"Of {self.reports:,} reports on healthy targets {self.codes.total()} raised a false"
            + (f" alarm ({told})." if told else " alarm.")
        )


def _follow(fleet: Contender) -> Followed:
    return _follow_all([fleet])[0]


def _follow_all(fleets: Sequence[Contender]) -> list[Followed]:
    """Run them at the same time, and note when each line comes."""
    began = time.monotonic()

    def follow(number: int) -> list[tuple[float, str]]:
        argv = measured_argv(fleets[number], "/dev/stdout", os.devnull)
        with subprocess.Popen(
            argv, env=dict(fleets[number].env), stdout=subprocess.PIPE, text=True
        ) as process:
            if process.stdout is None:
                raise AssertionError
            return [(time.monotonic() - began, line) for line in process.stdout]

    with ThreadPoolExecutor(len(fleets)) as pool:
        found = list(pool.map(follow, range(len(fleets))))
    return [
        Followed([Line.of(*line) for line in lines[:-1]], took(lines[-1][1])) for lines in found
    ]


def _per_target(total: Summary, number: int) -> str:
    return spread(Summary(total.median / number, total.low / number, total.high / number))
