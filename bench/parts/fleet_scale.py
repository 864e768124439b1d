"""Thousands of targets in one call: does each cost the same, and does none hold up the others."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from bench import fleets
from bench.fleets import CAUSES, Alarms, Followed, Line, follow, follow_all, per_target
from bench.measuring import (
    Run,
    Summary,
    VoidError,
    cpu,
    peak,
    progress,
    ratio,
    run,
    seconds,
    spread,
    wall,
)
from bench.parts import Place
from bench.results import Part, Table, Target, reached

NAME = "fleet_scale"
TITLE = "Fleet, thousands of targets"
TEXT = """\
As above, by itself. In the mixed fleet three tenths are healthy, and each kind of failure is a
tenth. What takes minutes is not done nine times: fleets of {many:,} and fewer {rounds} times, those
of {most:,} once."""
TARGETS = (
    Target("fleet-flat", "CPU of a further target, most to least, up to 5,000", 1.1),
    Target("fleet-memory", "memory at the peak, 5,000 targets", 120, unit="MB"),
    Target("fleet-memory-flat", "the same, to that of 1,000", 1.1),
    Target("fleet-mixed-memory", "memory at the peak, 5,000 mixed targets", 120, unit="MB"),
    Target(
        "fleet-held-up", "the last healthy one of a mixed fleet, to the last of a healthy one", 1.0
    ),
    Target("fleet-causes", "told right, of 5,000 mixed targets", 100, unit="%", least=True),
    Target("fleet-scale-alarms", "false alarms on healthy targets, in these runs", 0, unit=""),
)


def measure(place: Place) -> Part:
    """Raises VoidError: there is no fleet, or it is not as healthy as it is meant to be."""
    place.lab.distance(0)
    fleets.required()
    some, many, most = (20, 60, 200) if place.quick else (100, 1000, 5000)
    figures: dict[str, float | None] = {}
    alarms = Alarms()
    tables = [
        _sizes(place, (some, many, most), figures, alarms),
        _mixed(place, many, place.long_rounds, figures, "fleet-held-up"),
        _mixed(place, most, 1, figures),
        _shards(place, many),
    ]
    figures["fleet-scale-alarms"] = alarms.codes.total()
    text = TEXT.format(many=many, rounds=place.long_rounds, most=most) + " " + alarms.text()
    return Part(NAME, TITLE, text, tables, reached(TARGETS, figures), place.rounds)


def _sizes(
    place: Place,
    sizes: tuple[int, int, int],
    figures: dict[str, float | None],
    alarms: Alarms,
) -> Table:
    """Whether a target costs the same, however many there are."""
    some, many, most = sizes
    rounds = dict.fromkeys((some, many), place.long_rounds) | {most: 1}
    contenders = {
        number: fleets.fleet(place.lab, fleets.healthy(number), check=alarms.of(number))
        for number in sizes
    }
    measured: dict[int, list[Run]] = {number: [] for number in sizes}
    run(contenders[some])  # to warm caches
    for turn in range(place.long_rounds):
        for number in sizes:
            if turn < rounds[number]:
                progress(f"{turn}/{rounds[number]} {number:,} healthy targets")
                measured[number].append(replace(run(contenders[number]), output=""))
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
            per_target(cpu(measured[number]), number),
            further[number],
            spread(wall(measured[number])),
            f"{peaks[number]:.0f}",
        ]
        for number in sizes
    ]
    columns = ("targets", "CPU per target", "CPU of each further one", "wall time", "peak MB")
    return Table("However many", columns, rows)


def _mixed(
    place: Place,
    number: int,
    rounds: int,
    figures: dict[str, float | None],
    key: str | None = None,
) -> Table:
    """Whether those that fail hold up the others, and are told from each other."""
    fleet = fleets.fleet(place.lab, fleets.mix(number))
    base = fleets.fleet(place.lab, fleets.healthy(number))
    mixed: list[Followed] = []
    healthy: list[Followed] = []
    for turn in range(rounds):
        progress(f"{turn}/{rounds} {number:,} mixed targets")
        mixed.append(follow(fleet))
        if key is not None:
            healthy.append(follow(base))
    used = Summary.of(each.run.cpu for each in mixed).median / number
    most = peak(each.run for each in mixed)
    note = f"{seconds(used)} of CPU per target, {most:.0f} MB at the peak."
    if key is None:
        figures["fleet-mixed-memory"] = most
        right = [line.cause == CAUSES[line.kind] for each in mixed for line in each.lines]
        figures["fleet-causes"] = 100 * sum(right) / len(right)
    else:
        alone = Summary.of(each.last for each in healthy)
        among = Summary.of(each.of("healthy")[-1].after for each in mixed)
        figures[key] = among.median / alone.median
        note += f" A wholly healthy fleet as large had its last line after {spread(alone)}."
    wrong = Counter(
        f"{line.cause or 'nothing'} instead of {CAUSES[line.kind] or 'nothing'}"
        for line in mixed[-1].lines
        if line.cause != CAUSES[line.kind]
    )
    if wrong:
        told = ", ".join(f"{count} × {what}" for what, count in wrong.most_common())
        note += f" Told wrong: {told}."
    rows = [_kind(kind, cause, mixed[-1].of(kind)) for kind, cause in CAUSES.items()]
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
    hosts = fleets.healthy(number)
    whole = fleets.fleet(place.lab, hosts)
    shards = [replace(whole, argv=[*whole.argv, "--shard", f"{i}/2"]) for i in (1, 2)]
    alone, both = [], []
    for turn in range(place.long_rounds):
        progress(f"{turn}/{place.long_rounds} shards")
        alone.append(follow(whole).last)
        parts = follow_all(shards)
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
