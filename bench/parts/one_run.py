"""One diagnosis of a healthy instance with every check, beside one curl and the same by hand."""

from __future__ import annotations

from bench import peers
from bench.measuring import VoidError, cpu, race, run, wall
from bench.parts import COLUMNS, Place, compared, hold_healthy
from bench.results import Part, Table, Target, reached
from diag.simulator.scenario import HOST

NAME = "one_run"
TITLE = "One run"
TEXT = """\
A healthy instance, a token, `--repo MOB/app`, so that every check has something to do. **curl**
asks one REST path, the listing of repositories. The **shell script** (`bench/by_hand.sh`) asks
what bbdiag asks, with dig, nc, openssl and curl, one after the other. **blackbox_exporter** is
already running, and curl has it make its {probes} probes side by side; the CPU is that of both.
check_http asks one path, nmap knocks at two ports."""
CHECKS = (
    *("dns", "tcp", "tls", "clock", "http", "server", "version", "auth", "repos", "base-url"),
    *("permission", "git", "webhook"),
)
_DISTANCES = (0, 5, 20, 50)  # milliseconds there and back
_BASE, _SCRIPT, _OURS = "curl", "shell script", "bbdiag check"
TARGETS = (
    Target("one-run-50ms", "a whole run at 50 ms, to one curl of one path", 1.25),
    Target("one-run-wall", "a whole run at no distance, to the shell script", 1.0),
    Target("one-run-cpu", "the CPU of a whole run at no distance, to the shell script's", 1.0),
)


def measure(place: Place) -> Part:
    """Raises VoidError: something in it is not as healthy as it is meant to be."""
    ours = peers.bbdiag(HOST)
    place.lab.distance(0)
    hold_healthy(place, ours, CHECKS)
    tables: list[Table] = []
    figures: dict[str, float | None] = {}
    with peers.exporter(place.lab, [HOST]) as exporter:
        probes = list(exporter.probes([HOST]))
        if failed := exporter.verify(probes):
            raise VoidError(f"blackbox_exporter finds fault with {failed}")
        contenders = [
            peers.curl(HOST),
            ours,
            peers.by_hand(HOST),
            exporter.asked("blackbox_exporter", probes, at_once=len(probes)),
            peers.check_http(HOST),
            peers.nmap(HOST, [443, 7999]),
        ]
        for each in contenders:
            run(each)  # a failure is to be told before anything is measured
        for distance in _DISTANCES:
            connect = place.lab.distance(distance)
            runs = race(contenders, place.rounds)
            note = f"A TCP connection took {connect:.1f} ms." if distance else ""
            heading = f"{distance} ms there and back"
            tables.append(Table(heading, COLUMNS, compared(runs, _BASE), note))
            took = {name: wall(each).median for name, each in runs.items()}
            spent = {name: cpu(each).median for name, each in runs.items()}
            if distance == 0:
                figures["one-run-wall"] = took[_OURS] / took[_SCRIPT]
                figures["one-run-cpu"] = spent[_OURS] / spent[_SCRIPT]
            if distance == 50:
                figures["one-run-50ms"] = took[_OURS] / took[_BASE]
    place.lab.distance(0)
    text = TEXT.format(probes=len(probes))
    return Part(NAME, TITLE, text, tables, reached(TARGETS, figures), place.rounds)
