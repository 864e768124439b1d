"""`python -m bench [PART…] [--quick]`: measure, and write docs/performance.md.

Without a part all of them are measured. With some, these are measured anew, and the page is written
of what was measured last of each; `page` only writes it. `--quick` measures less of everything, for
who works on it: it shows what came out, and keeps nothing.
"""

from __future__ import annotations

import argparse
import os
import sys
import traceback
from importlib import import_module

from bench import lab, page, program, results
from bench.bitbucket import Bitbucket
from bench.measuring import VoidError, progress
from bench.parts import NAMES, Place
from bench.peers import QUESTIONS
from bench.results import Part

ROUNDS, LONG_ROUNDS = 9, 3
_INSIDE = "BBDIAG_BENCH_INSIDE"  # set for the process that is in the lab


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__.partition("\n")[0])
    spelled = [name.replace("_", "-") for name in NAMES]
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"{', '.join(spelled)}; or page")
    parser.add_argument("--quick", action="store_true", help="less of everything; keep nothing")
    given = parser.parse_args()
    if unknown := [each for each in given.parts if each not in (*spelled, "page")]:
        parser.error(f"there is no part {unknown[0]}")
    if problem := program.missing():
        parser.error(problem)
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    names = [each.replace("-", "_") for each in given.parts or spelled if each != "page"]
    if os.environ.pop(_INSIDE, None):
        return _measure(names, quick=given.quick)
    if not names:
        _write()
        return 0
    program.install()
    os.environ[_INSIDE] = "1"
    return lab.enter(sys.argv[1:])


def _measure(names: list[str], *, quick: bool) -> int:
    """Inside of the lab: 0 if every part could be measured, else 1."""
    built = lab.Lab()
    bitbucket = Bitbucket(built, QUESTIONS)
    rounds, long_rounds = (3, 1) if quick else (ROUNDS, LONG_ROUNDS)
    place = Place(built, bitbucket, rounds, long_rounds, quick)
    status = 0
    for name in names:
        module = import_module(f"bench.parts.{name}")
        progress(module.TITLE)
        try:
            part: Part = module.measure(place)
        except Exception as error:  # the others can still be measured
            if not isinstance(error, VoidError):
                traceback.print_exc()
            part = page.nothing_of(name, f"Not measured: {error}")
            status = 1
        print(part.show(), end="\n\n", flush=True)
        if not quick:
            results.keep(part)
    if quick:
        print("With --quick: the numbers are smaller than those that the targets name.")
        return status
    _write()
    return status


def _write() -> None:
    written = page.write(page.measured(NAMES))
    print(f"written: {written.relative_to(program.ROOT)}")


if __name__ == "__main__":
    sys.exit(main())
