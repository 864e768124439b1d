"""What it takes until bbdiag has said something that needs no network."""

from __future__ import annotations

from bench.measuring import Contender, race, wall
from bench.parts import COLUMNS, Place, compared
from bench.program import BBDIAG, PYTHON, environment
from bench.results import Part, Table, Target, reached

NAME = "startup"
TITLE = "Start-up"
TEXT = """\
As installed by pip 26, with everything compiled. The base is an interpreter that does nothing, of
the same virtual environment; curl is there for comparison. Until pip 26.0, the script that pip
writes loaded `re` before anything of the program: how that starts is shown, too."""
_BASE = "python -c pass"
_BY_OLD_PIP = """\
#!{python}
import re
import sys
from diag.__main__ import main
if __name__ == "__main__":
    sys.argv[0] = re.sub(r"(-script\\.pyw|\\.exe)?$", "", sys.argv[0])
    sys.exit(main())
"""
TARGETS = (
    Target("startup-version", f"`bbdiag --version`, to `{_BASE}`", 1.5),
    Target("startup-help", f"`bbdiag --help`, to `{_BASE}`", 5),
    Target("startup-completion", f"completion of a command, to `{_BASE}`", 5),
    Target("startup-option", f"completion of an option, to `{_BASE}`", 5),
)
_SHOWN = (
    "bbdiag --version",
    "bbdiag --help",
    "completion of a command",
    "completion of an option",
)


def measure(place: Place) -> Part:
    plain = environment()
    shell = {"_BBDIAG_COMPLETE": "bash_complete", "COMP_CWORD": "1", "COMP_WORDS": "bbdiag ch"}
    option = {**shell, "COMP_CWORD": "2", "COMP_WORDS": "bbdiag check --re"}
    program = str(BBDIAG)
    older = BBDIAG.with_name("bbdiag-by-old-pip")
    older.write_text(_BY_OLD_PIP.format(python=PYTHON))
    older.chmod(0o755)
    runs = race(
        [
            Contender(_BASE, [str(PYTHON), "-c", "pass"], plain),
            Contender("bbdiag --version", [program, "--version"], plain),
            Contender("the same, by an older pip's script", [str(older), "--version"], plain),
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
