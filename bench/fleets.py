"""Fleets to be diagnosed, and what is kept of their reports."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import count as numbers

from bench import bitbucket, peers
from bench.bitbucket import KINDS, REPO, ZONE
from bench.lab import Lab
from bench.measuring import Contender, Run, Summary, VoidError, measured_argv, run, spread, took
from bench.program import BBDIAG

NAME = "bbdiag fleet"
CAUSES = {
    "nxdomain": "dns-nxdomain",
    "refused": "tcp-refused",
    "filtered": "tcp-filtered",
    "expired": "tls-expired",
    "gateway": "http-bad-gateway",
    "hung": "http-response-timeout",
    "unauthorized": "auth-token-invalid",
    "healthy": None,
}
_FAILING = tuple(kind for kind in KINDS if kind != "healthy")
_files = numbers()


def required() -> None:
    """Raises VoidError: there is no fleet."""
    if run(Contender(NAME, [str(BBDIAG), "fleet", "--help"], {}, ())).status != "0":
        raise VoidError("this bbdiag has no fleet")


def fleet(
    lab: Lab, hosts: Iterable[str], *options: str, check: Callable[[Run], None] | None = None
) -> Contender:
    """What diagnoses these hosts with one call."""
    file = lab.path(f"fleet-{next(_files)}")
    file.write_text("".join(f"https://{host}\n" for host in hosts))
    argv = [str(BBDIAG), "fleet", str(file), "--repo", REPO, *options]
    statuses = ("0", "1", "4")  # a false alarm is counted, see below
    return Contender(NAME, argv, peers.SECRET, statuses, limit=3000, check=check)


def healthy(number: int) -> list[str]:
    """The names of so many healthy targets."""
    return [bitbucket.fleet("healthy", n) for n in range(number)]


def mix(number: int) -> list[str]:
    """Each kind of failure is a tenth, evenly spread; the rest is healthy."""
    kinds = [*_FAILING, *(["healthy"] * (10 - len(_FAILING)))]
    return [bitbucket.fleet(kinds[n % 10], n) for n in range(number)]


def per_target(total: Summary, number: int) -> str:
    """The spread of what each of so many targets took."""
    return spread(Summary(total.median / number, total.low / number, total.high / number))


class Alarms:
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


def follow(fleet: Contender) -> Followed:
    """Run it, and note when each line comes."""
    return follow_all([fleet])[0]


def follow_all(fleets: Sequence[Contender]) -> list[Followed]:
    """Run them at the same time, and note when each line comes."""
    began = time.monotonic()

    def lines(number: int) -> list[tuple[float, str]]:
        argv = measured_argv(fleets[number], "/dev/stdout", os.devnull)
        with subprocess.Popen(
            argv, env=dict(fleets[number].env), stdout=subprocess.PIPE, text=True
        ) as process:
            if process.stdout is None:
                raise AssertionError
            return [(time.monotonic() - began, line) for line in process.stdout]

    with ThreadPoolExecutor(len(fleets)) as pool:
        found = list(pool.map(lines, range(len(fleets))))
    return [Followed([Line.of(*line) for line in each[:-1]], took(each[-1][1])) for each in found]
