"""What it takes until bbdiag has said something that needs no network."""

from __future__ import annotations

from bench.measuring import Contender, race, wall
from bench.parts import COLUMNS, Place, compared
from bench.program import BBDIAG, PYTHON, environment
from bench.results import Part, Table, Target, reached

NAME = "startup"
TITLE = "Start-up"
TEXT = """\
As installed by pip, with everything compiled. The base is an interpreter that does nothing, of
the same virtual environment; curl is there for comparison."""
_BASE = "python -c pass"
TARGETS = (
    Target("startup-version", f"`bbdiag --version`, to `{_BASE}`", 1.5),
    Target("startup-help", f"`bbdiag --help`, to `{_BASE}`", 5),
    Target("startup-completion", f"completion of a command, to `{_BASE}`", 5),
)
_SHOWN = ("bbdiag --version", "bbdiag --help", "completion of a command")


def measure(place: Place) -> Part:
    plain = environment()
    shell = {"_BBDIAG_COMPLETE": "bash_complete", "COMP_CWORD": "1", "COMP_WORDS": "bbdiag ch"}
    option = {**shell, "COMP_CWORD": "2", "COMP_WORDS": "bbdiag check --re"}
    program = str(BBDIAG)
    runs = race(
        [
            Contender(_BASE, [str(PYTHON), "-c", "pass"], plain),
            Contender("bbdiag --version", [program, "--version"], plain),
            Contender("bbdiag --help", [program, "--help"], plain),
            Contender("completion of a command", [program], environment(**shell)),
            Contender("completion of an option", [program], environment(**option)),
            Contender("bbdiag check --help", [program, "check", "--help"], plain),
            Contender("curl --version", ["curl", "--version"], plain),
        ],
        2 * place.rounds,
    )
    base = wall(runs[_BASE]).median
    figures = {
        target.key: wall(runs[name]).median / base
        for target, name in zip(TARGETS, _SHOWN, strict=True)
    }
    table = Table("", COLUMNS, compared(runs, _BASE))
    return Part(NAME, TITLE, TEXT, [table], reached(TARGETS, figures), 2 * place.rounds)
