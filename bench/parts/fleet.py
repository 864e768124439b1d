"""Thousands of targets in one call, beside blackbox_exporter asked for as much."""

from __future__ import annotations

import json
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from bench import bitbucket, peers
from bench.bitbucket import KINDS, REPO, ZONE
from bench.measuring import (
    Contender,
    Run,
    Summary,
    VoidError,
    cpu,
    peak,
    progress,
    race,
    ratio,
    run,
    seconds,
    spread,
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
    Target("fleet-alarms", "false alarms on healthy targets, in all these runs", 0, unit=""),
)


@dataclass(frozen=True)
class Line:
    """A report, and when it came."""

    after: float  # seconds from the start
    report: dict[str, Any]

    @property
    def host(self) -> str:
        host: str = self.report["target"]["host"] or ""
        return host

    @property
    def kind(self) -> str:
        return self.host.removesuffix("." + ZONE).rpartition(".")[2]


def measure(place: Place) -> Part:
    """Raises VoidError: there is no fleet, or it is not as healthy as it is meant to be."""
    place.lab.distance(0)
    if run(Contender("bbdiag fleet", [str(BBDIAG), "fleet", "--help"], {}, ())).status != "0":
        raise VoidError("this bbdiag has no fleet")
    some, many, most = (20, 60, 200) if place.quick else (100, 1000, 5000)
    figures: dict[str, float | None] = {}
    alarms = _Alarms()
    full, probes, once = _full(place, many, figures, alarms)
    tables = [
        full,
        _sizes(place, (some, many, most), figures, alarms),
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
) -> tuple[Table, int, int]:
    """CPU beside blackbox_exporter's; how many probes it takes, and how many requests."""
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
    return Table(heading, columns, rows), probes, once


def _sizes(
    place: Place, sizes: Sequence[int], figures: dict[str, float | None], alarms: _Alarms
) -> Table:
    """Whether a target costs the same, however many there are."""
    rows, spent, peaks = [], {}, {}
    for number in sizes:
        rounds = place.long_rounds if number == max(sizes) else place.rounds
        contender = _fleet(place, _healthy(number), check=alarms.of(number))
        runs = race([contender], rounds)[contender.name]
        spent[number], peaks[number] = cpu(runs).median, peak(runs)
        previous = [one for one in spent if one < number]
        more = ""
        if previous:
            last = max(previous)
            each = (spent[number] - spent[last]) / (number - last)
            more = seconds(each)
        rows.append(
            [
                f"{number:,}",
                _per_target(cpu(runs), number),
                more,
                spread(wall(runs)),
                f"{peaks[number]:.0f}",
            ]
        )
    some, many, most = sizes
    first = (spent[many] - spent[some]) / (many - some)
    second = (spent[most] - spent[many]) / (most - many)
    figures["fleet-flat"] = max(first, second) / min(first, second)
    figures["fleet-memory"] = peaks[most]
    figures["fleet-memory-flat"] = peaks[most] / peaks[many]
    columns = ("targets", "CPU per target", "CPU of each further one", "wall time", "peak MB")
    note = f"Of {most:,} targets there are {place.long_rounds} runs."
    return Table("However many", columns, rows, note)


def _mixed(
    place: Place, number: int, figures: dict[str, float | None], key: str | None = None
) -> Table:
    """Whether those that fail hold up the others, and are told from each other."""
    fleet = _fleet(place, _mix(number))
    used = run(replace(fleet, statuses=()))
    if key is None:
        figures["fleet-mixed-memory"] = used.peak
    lasts: list[float] = []
    bases: list[float] = []
    for turn in range(place.long_rounds):
        progress(f"{turn}/{place.long_rounds} {number:,} mixed targets")
        lines = _stream(fleet)
        lasts.append(max(line.after for line in lines if line.kind == "healthy"))
        if key is not None:
            bases.append(max(line.after for line in _stream(_fleet(place, _healthy(number)))))
    if key is not None:
        figures[key] = Summary.of(lasts).median / Summary.of(bases).median
    rows = []
    for kind, cause in _CAUSES.items():
        own = [line for line in lines if line.kind == kind]
        told = Counter(line.report["root_cause"] for line in own)
        right = sum(n for code, n in told.items() if code == cause)
        took = Summary.of(line.report["run"]["duration_ms"] / 1000 for line in own)
        arrived = sorted(line.after for line in own)
        rows.append(
            [
                f"{kind} ({len(own):,})",
                f"{right / len(own):.0%}",
                spread(took),
                seconds(arrived[0]),
                seconds(arrived[len(arrived) // 2]),
                seconds(arrived[-1]),
            ]
        )
    columns = ("kind", "told right", "a run", "first line", "half of them", "last line")
    note = f"{used.cpu / number * 1000:.1f} ms of CPU per target, {used.peak:.0f} MB at the peak."
    if bases:
        note += (
            f" A wholly healthy fleet of {number:,} had its last line after"
            f" {spread(Summary.of(bases))}."
        )
    return Table(f"{number:,} targets, mixed", columns, rows, note)


def _shards(place: Place, number: int) -> Table:
    """The same fleet by two processes, whose lines are put together."""
    hosts = _healthy(number)
    whole = _fleet(place, hosts)
    alone, both = [], []
    for turn in range(place.long_rounds):
        progress(f"{turn}/{place.long_rounds} shards")
        lines = _stream(whole)
        alone.append(max(line.after for line in lines))
        shards = [replace(whole, argv=[*whole.argv, "--shard", f"{i}/2"]) for i in (1, 2)]
        parts = _streams(shards)
        both.append(max(line.after for part in parts for line in part))
        found = Counter(line.host for part in parts for line in part)
        if found != Counter(hosts):
            raise VoidError("the shards together are not the whole fleet")
    base = Summary.of(alone)
    rows = [
        ["one process", spread(base), ratio(1, 1)],
        ["two shards", spread(Summary.of(both)), ratio(Summary.of(both).median, base.median)],
    ]
    sizes = " and ".join(f"{len(part):,}" for part in parts)
    note = f"The shards had {sizes} targets; each target was in one of them."
    return Table(f"{number:,} targets in two shards", ("", "wall time", "×"), rows, note)


# fleets


def _healthy(number: int) -> list[str]:
    return [bitbucket.fleet("healthy", n) for n in range(number)]


def _mix(number: int) -> list[str]:
    """Each kind of failure is a tenth, evenly spread; the rest is healthy."""
    kinds = [*_FAILING, *(["healthy"] * (10 - len(_FAILING)))]
    return [bitbucket.fleet(kinds[n % 10], n) for n in range(number)]


def _fleet(place: Place, hosts: Iterable[str], *options: str, check: Any = None) -> Contender:
    names = list(hosts)
    file = place.lab.path(f"fleet-{len(names)}-{names[-1]}")
    file.write_text("".join(f"https://{host}\n" for host in names))
    argv = [str(BBDIAG), "fleet", str(file), "--repo", REPO, *options]
    return Contender(_OURS, argv, peers.SECRET, limit=3000, check=check)


class _Alarms:
    """What healthy targets were accused of, in all runs."""

    def __init__(self) -> None:
        self.reports = 0
        self.codes: Counter[str] = Counter()

    def of(self, number: int) -> Callable[[Run], None]:
        """What counts them in a run of so many targets; VoidError if some are missing."""

        def count(done: Run) -> None:
            found = [json.loads(line) for line in done.output.splitlines()]
            if len(found) != number:
                raise VoidError(f"{len(found)} reports of {number} targets: {done.errors[-300:]}")
            self.reports += number
            self.codes.update(one["problems"][0]["code"] for one in found if one["problems"])

        return count

    def text(self) -> str:
        told = ", ".join(f"{count} × {code}" for code, count in self.codes.most_common())
        return (
            f"Of {self.reports:,} reports on healthy targets {self.codes.total()} raised a false"
            + (f" alarm ({told})." if told else " alarm.")
        )


def _stream(fleet: Contender) -> list[Line]:
    return _streams([fleet])[0]


def _streams(fleets: Sequence[Contender]) -> list[list[Line]]:
    """Run them at the same time, and note when each line comes."""
    from threading import Thread

    found: list[list[tuple[float, str]]] = [[] for _ in fleets]
    began = time.monotonic()

    def follow(fleet: Contender, lines: list[tuple[float, str]]) -> None:
        with subprocess.Popen(
            fleet.argv, env=dict(fleet.env), stdout=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout is not None
            lines += [(time.monotonic() - began, line) for line in process.stdout]

    threads = [Thread(target=follow, args=pair) for pair in zip(fleets, found, strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return [[Line(after, json.loads(text)) for after, text in lines] for lines in found]


def _per_target(total: Summary, number: int) -> str:
    return spread(Summary(total.median / number, total.low / number, total.high / number))
