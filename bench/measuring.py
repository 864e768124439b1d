"""Running contenders in turn, and what came of it: wall time, CPU, memory; medians and ratios."""

from __future__ import annotations

import re
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from tempfile import gettempdir

HERE = Path(__file__).parent


class VoidError(Exception):
    """What was measured was not what was meant to be: there is no figure."""


@dataclass(frozen=True)
class Run:
    """What one run of a command took."""

    wall: float  # seconds from start to end
    cpu: float  # seconds, user and system, of all its processes
    peak: float  # MB, of its largest process
    status: str  # the exit status, "-N" for signal N, or "late": killed when its time was over
    output: str = field(default="", repr=False)
    errors: str = field(default="", repr=False)


@dataclass(frozen=True)
class Contender:
    """A command that takes part in a comparison."""

    name: str
    argv: Sequence[str]
    env: Mapping[str, str]  # all of it: nothing is inherited
    statuses: tuple[str, ...] = ("0",)  # how it has to end; empty: whatever
    limit: int = 300  # seconds
    helper: Callable[[], float] | None = None  # CPU seconds so far of a daemon that works for it
    alone: bool = False  # only the CPU of the daemon counts
    check: Callable[[Run], object] | None = None  # raises VoidError if the outcome is wrong


@dataclass(frozen=True)
class Summary:
    """Several values of one thing."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Iterable[float]) -> Summary:
        """Raises ValueError: there are none."""
        found = sorted(values)
        if not found:
            raise ValueError("no values")
        return cls(statistics.median(found), found[0], found[-1])


def run(contender: Contender, slot: int = 0) -> Run:
    """Run it once; those that run at the same time each need a `slot` of their own.

    Raises:
        VoidError: it did not end as it has to.
    """
    output, errors = (Path(gettempdir(), f"{name}-{slot}") for name in ("output", "errors"))
    before = contender.helper() if contender.helper else 0.0
    argv = measured_argv(contender, output, errors)
    done = subprocess.run(argv, env=dict(contender.env), check=True, capture_output=True, text=True)
    measured = took(done.stdout)
    helped = contender.helper() - before if contender.helper else 0.0
    told = errors.read_text(errors="replace")
    result = replace(
        measured,
        cpu=helped + (0 if contender.alone else measured.cpu),
        output=output.read_text(errors="replace"),
        errors=told,
    )
    if contender.statuses and result.status not in contender.statuses:
        raise VoidError(
            f"{contender.name} ended with {result.status}: {told.strip().rpartition(chr(10))[2]}"
        )
    if contender.check:
        contender.check(result)
    return result


def measured_argv(contender: Contender, output: Path | str, errors: Path | str) -> list[str]:
    """What runs it and prints what it took; its own output goes to these files."""
    return [
        *(str(tool("measure")), str(contender.limit), str(output), str(errors)),
        *contender.argv,
    ]


def took(line: str) -> Run:
    """What the program that measures has printed."""
    wall, cpu, kilobytes, status = line.split()
    return Run(float(wall), float(cpu), int(kilobytes) / 1024, status)


def race(contenders: Sequence[Contender], rounds: int) -> dict[str, list[Run]]:
    """Let them take turns, so that a busy moment of the machine meets all; the first round, which
    warms caches, does not count.

    Raises:
        VoidError: one did not end as it has to.
    """
    runs: dict[str, list[Run]] = {each.name: [] for each in contenders}
    for number in range(rounds + 1):
        for each in contenders:
            progress(f"{number}/{rounds} {each.name}")
            result = run(each)
            if number:
                runs[each.name].append(replace(result, output=""))
    return runs


def wall(runs: Iterable[Run]) -> Summary:
    return Summary.of(each.wall for each in runs)


def cpu(runs: Iterable[Run]) -> Summary:
    return Summary.of(each.cpu for each in runs)


def peak(runs: Iterable[Run]) -> float:
    """MB, the most of all runs."""
    return max(each.peak for each in runs)


def seconds(value: float) -> str:
    """A time as people read it: "215 ms", "2.90 s"."""
    return (
        f"{value * 1000:.1f} ms"
        if value < 0.1
        else (f"{value * 1000:.0f} ms" if value < 1 else f"{value:.2f} s")
    )


def spread(summary: Summary) -> str:
    """ "215 ms (209 ms to 230 ms)"."""
    return f"{seconds(summary.median)} ({seconds(summary.low)} to {seconds(summary.high)})"


def ratio(value: float, base: float) -> str:
    return f"{value / base:.2f} ×"


def progress(text: str) -> None:
    """What is being done, for who watches; of each round only a terminal is told."""
    if sys.stderr.isatty():
        print(text, end="\033[K\r", file=sys.stderr, flush=True)
    elif not re.match(r"\d+/\d+ ", text):
        print(text, file=sys.stderr, flush=True)


@cache
def tool(name: str) -> Path:
    """One of our C programs, compiled when first needed.

    Raises:
        subprocess.CalledProcessError: the compiler refuses.
    """
    made = Path(gettempdir(), f"bench-{name}")
    source = HERE / f"{name}.c"
    subprocess.run(["gcc", "-O2", "-Wall", "-o", str(made), str(source)], check=True)
    return made
