"""A target of a fleet, beside blackbox_exporter asked for as much."""

from __future__ import annotations

from dataclasses import replace

from bench import fleets, peers
from bench.fleets import Alarms, per_target
from bench.measuring import VoidError, cpu, peak, race, ratio, spread, wall
from bench.parts import Place
from bench.results import Part, Table, Target, reached

NAME = "fleet"
TITLE = "Fleet"
TEXT = """\
`bbdiag fleet FILE --repo MOB/app` with default settings: each target has a name of its own, and
all of them a token. Nginx, the resolvers and what is measured share two cores, so CPU is what
counts, not the time. **blackbox_exporter** is asked by curl, 100 probes at a time; only its own
CPU is counted. It answers a probe with one bit, so what bbdiag tells of a target takes it
{probes} probes; {requests} of them send something that no other one sends."""
_OURS, _ALL = fleets.NAME, "blackbox_exporter"
_ONCE = "blackbox_exporter, each request once"
_REACH, _PEER_REACH = "bbdiag fleet --only http", "blackbox_exporter, one http probe"
TARGETS = (
    Target("fleet-cpu", "CPU of a full diagnosis, to blackbox_exporter's", 0.5),
    Target("fleet-reach", "reachability only: targets per CPU second, to it", 1.0, least=True),
    Target("fleet-alarms", "false alarms on healthy targets, beside it", 0, unit=""),
)


def measure(place: Place) -> Part:
    """Raises VoidError: there is no fleet, or it is not as healthy as it is meant to be."""
    place.lab.distance(0)
    fleets.required()
    number = 60 if place.quick else 600
    hosts = fleets.healthy(number)
    alarms = Alarms()
    check = alarms.of(number)
    reach = replace(fleets.fleet(place.lab, hosts, "--only", "http", check=check), name=_REACH)
    with peers.exporter(place.lab, hosts) as exporter:
        probes = list(exporter.probes(hosts[:1]))
        if failed := exporter.verify(probes):
            raise VoidError(f"blackbox_exporter finds fault with {failed}")
        runs = race(
            [
                fleets.fleet(place.lab, hosts, check=check),
                exporter.asked(_ALL, exporter.probes(hosts), alone=True),
                exporter.asked(_ONCE, exporter.probes(hosts, once=True), alone=True),
                reach,
                exporter.asked(_PEER_REACH, exporter.reach(hosts), alone=True),
            ],
            place.rounds,
        )
        memory = exporter.peak()
        requests = len(list(exporter.probes(hosts[:1], once=True)))
    spent = {name: cpu(each).median for name, each in runs.items()}
    rows = []
    for name, each in runs.items():
        base = _PEER_REACH if name in (_REACH, _PEER_REACH) else _ALL
        held = peak(each) if name in (_OURS, _REACH) else memory
        rows.append(
            [
                name,
                per_target(cpu(each), number),
                ratio(spent[name], spent[base]),
                f"{number / spent[name]:.0f}",
                spread(wall(each)),
                f"{held:.0f}",
            ]
        )
    columns = ("", "CPU per target", "×", "targets per CPU second", "wall time", "peak MB")
    tables = [Table(f"{number:,} healthy targets", columns, rows)]
    figures: dict[str, float | None] = {
        "fleet-cpu": spent[_OURS] / spent[_ALL],
        "fleet-reach": spent[_PEER_REACH] / spent[_REACH],
        "fleet-alarms": alarms.codes.total(),
    }
    text = TEXT.format(probes=len(probes), requests=requests) + " " + alarms.text()
    return Part(NAME, TITLE, text, tables, reached(TARGETS, figures), place.rounds)
