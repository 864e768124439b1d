"""Reading a listing of 100,000 repositories to its end, beside curl fetching the same bytes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

from bench import peers
from bench.bitbucket import LISTINGS, REPO, TOKEN
from bench.measuring import Contender, Run, VoidError, peak, progress, race, run, wall
from bench.parts import COLUMNS, Place, compared
from bench.program import environment
from bench.results import Part, Table, Target, reached

NAME = "listing"
TITLE = "Listing"
TEXT = """\
`bbdiag check --all-pages` on an instance whose repositories take {size:.1f} KB of JSON each, with
their links; the server gives at most so many a page, whatever is asked for. curl fetches the very
same pages, one after the other over one connection, and looks at nothing. bbdiag's time is that
of a whole run."""
_MANY, _FEW = 100_000, 20_000
_SIZES = (25, 100, 1000)  # repositories a page
_DISTANCE = 10  # milliseconds there and back
TARGETS = (
    *(
        Target(f"listing-{most}", f"{_MANY:,} repositories, {most:,} a page, to curl", 2)
        for most in _SIZES
    ),
    Target("listing-far", f"{_DISTANCE} ms away, 25 a page, to curl one after the other", 2),
    Target("listing-memory", f"memory at the peak, {_MANY:,} repositories", 60, unit="MB"),
    Target("listing-memory-flat", f"the same, 25 a page, to that with {_FEW:,}", 1.1),
)


@dataclass(frozen=True)
class Outcome:
    """One comparison: what is shown of it, and bbdiag's figures."""

    table: Table
    times_curl: float
    peak: float  # MB


def measure(place: Place) -> Part:
    many, few = (5_000, 1_000) if place.quick else (_MANY, _FEW)
    tables: list[Table] = []
    figures: dict[str, float | None] = {}
    notes: dict[str, str] = {}
    peaks: dict[str, float] = {}

    def compare(key: str, repositories: int, most: int, distance: int = 0) -> None:
        place.lab.distance(distance)
        try:
            outcome = _compare(place, repositories, most, distance)
        except VoidError as error:
            notes[key] = str(error)
            progress(f"{key}: {error}")
            return
        tables.append(outcome.table)
        figures[key], peaks[key] = outcome.times_curl, outcome.peak

    for most in _SIZES:
        compare(f"listing-{most}", many, most)
    compare("listing-far", few, 25, _DISTANCE)
    place.lab.distance(0)
    if len(peaks) == len(_SIZES) + 1:
        figures["listing-memory-flat"] = peaks["listing-25"] / peaks.pop("listing-far")
        figures["listing-memory"] = max(peaks.values())
    else:
        notes |= dict.fromkeys(("listing-memory", "listing-memory-flat"), "not all were read")
    text = TEXT.format(size=len(_Repositories("bitbucket.example.com").show(1)) / 1000)
    return Part(NAME, TITLE, text, tables, reached(TARGETS, figures, notes), place.rounds)


def _compare(place: Place, repositories: int, most: int, distance: int) -> Outcome:
    """Raises VoidError: bbdiag did not read all, or found fault with it."""
    heading = f"{repositories:,} repositories, {most:,} a page"
    heading += f", {distance} ms away" if distance else ""
    host = f"p{most}.{LISTINGS}"
    progress(f"writing {heading}")
    _write(place.bitbucket.pages, host, repositories, most)

    def complete(done: Run) -> None:
        read = _read(done)
        if read != repositories:
            raise VoidError(f"{read:,} of {repositories:,} repositories were read")

    options = ("--all-pages", "--deadline", "280", "--format", "json")
    ours = replace(peers.bbdiag(host, *options), statuses=(), check=complete)
    before = len(place.bitbucket.asked_pages)
    run(ours)
    asked = _existing(place.bitbucket.asked_pages[before:], repositories)
    runs = race([_curl(place, host, asked), ours], place.rounds)
    took = {name: wall(each).median for name, each in runs.items()}
    table = Table(heading, COLUMNS, compared(runs, "curl"))
    return Outcome(table, took[ours.name] / took["curl"], peak(runs[ours.name]))


def _read(done: Run) -> int:
    """How many repositories bbdiag read."""
    try:
        report = json.loads(done.output)
    except ValueError:
        raise VoidError(f"no report: {done.errors[-300:]}") from None
    for check in report["checks"]:
        for finding in check["findings"]:
            if check["id"] == "repos" and finding["status"] == "ok":
                return int(finding["evidence"]["seen"])
    problems = [(one["code"], one["message"]) for one in report["problems"]]
    raise VoidError(f"the listing was not read: {problems}")


def _existing(paths: Sequence[str], total: int) -> list[str]:
    """Those of the pages that hold something, each once, in order: who fetches several at a time
    asks beyond the end."""
    starts = {path: int(dict(parse_qsl(urlsplit(path).query)).get("start", 0)) for path in paths}
    return sorted((path for path in starts if starts[path] < total), key=lambda path: starts[path])


def _curl(place: Place, host: str, paths: Sequence[str]) -> Contender:
    """Fetch these pages over one connection."""
    header = f'header = "Authorization: Bearer {TOKEN}"\n'
    config = place.lab.path("pages.curl")
    urls = (f'url = "https://{host}{path}"\noutput = /dev/null\n' for path in paths)
    config.write_text("fail\nsilent\nshow-error\n" + header + "".join(urls))
    return Contender("curl", ["curl", "-K", str(config)], environment())


# what is listed


class _Repositories:
    """Repositories as Bitbucket shows them, 500 in a project; the wanted one is the third from
    the start of the second half."""

    def __init__(self, host: str) -> None:
        self._host = host

    def page(self, start: int, size: int, total: int) -> str:
        """The JSON of one page."""
        end = min(start + size, total)
        wanted = total // 2 + 2
        values = ",".join(self.show(n, wanted=n == wanted) for n in range(start, end))
        last = end == total
        following = "" if last else f',"nextPageStart":{end}'
        flag = "true" if last else "false"
        return (
            f'{{"size":{end - start},"limit":{size},"isLastPage":{flag},"values":[{values}],'
            f'"start":{start}{following}}}'
        )

    def show(self, number: int, *, wanted: bool = False) -> str:
        """The JSON of one repository."""
        key, slug = f"P{number // 500:03}", f"service-{number:06}"
        if wanted:
            key, slug = REPO.split("/")
        url = f"https://{self._host}"
        clone = f"{key.lower()}/{slug}.git"
        shown = {
            "slug": slug,
            "id": number + 100,
            "name": slug.replace("-", " ").title(),
            "description": f"Part {number} of the platform. " + _PROSE[: 1500 + number % 200],
            "hierarchyId": f"{number:020x}",
            "scmId": "git",
            "state": "AVAILABLE",
            "statusMessage": "Available",
            "forkable": True,
            "project": {
                "key": key,
                "id": number // 500,
                "name": f"Project {key}",
                "description": _PROSE[:160],
                "public": False,
                "type": "NORMAL",
                "links": {"self": [{"href": f"{url}/projects/{key}"}]},
            },
            "public": False,
            "archived": False,
            "links": {
                "clone": [
                    {"href": f"{url}/scm/{clone}", "name": "http"},
                    {"href": f"ssh://git@{self._host}:7999/{clone}", "name": "ssh"},
                ],
                "self": [{"href": f"{url}/projects/{key}/repos/{slug}/browse"}],
            },
        }
        return json.dumps(shown, separators=(",", ":"))


_PROSE = (
    "It keeps the orders of the shop, tells the warehouse of them, and hands what was paid to the"
    " books. Owned by the team that is on call for it; see the handbook before you change it. "
) * 12


def _write(folder: Path, host: str, total: int, most: int) -> None:
    """The files of a listing whose pages hold `most` at most: START-LIMIT. Who asks for less
    at first goes on from there."""
    folder.mkdir(exist_ok=True)
    for old in folder.iterdir():
        old.unlink()
    made = _Repositories(host)
    for start in range(0, total, most):
        (folder / f"{start}-{most}").write_text(made.page(start, most, total))
    for first in (25, 100):
        if first < most:
            (folder / f"0-{first}").write_text(made.page(0, first, total))
            for start in range(first, total, most):
                (folder / f"{start}-{most}").write_text(made.page(start, most, total))
