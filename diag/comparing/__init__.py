"""Several reports of one target, from several places: what differs, and what that proves.

`gather` takes the reports as they were saved, `compare` concludes. The outcome is a report like
that of a run: its checks are the aspects that were compared.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from diag.comparing.aspect import Aspect, Case
from diag.comparing.ends import Identities, Instances, Outcomes, Rights
from diag.comparing.sight import TOLERANCE, Sight, moment
from diag.comparing.ways import Addresses, Certificates, Clocks, Places, Reach, Ways
from diag.report import Report, RunInfo, conclude, hostname, new_id, timestamp
from diag.version import VERSION

# Causes first.
ASPECTS: tuple[type[Aspect], ...] = (
    Places,
    Clocks,
    Ways,
    Addresses,
    Reach,
    Certificates,
    Instances,
    Identities,
    Rights,
    Outcomes,
)


def gather(named: Sequence[tuple[str, Report]]) -> tuple[Sight, ...]:
    """One sight a place, in the order given: its latest report, the others as its history.

    `named` are the reports and the names of their files, which stand for places without a name.

    Raises:
        ValueError: they cannot be compared; the text says why.
    """
    if len(named) < 2:
        raise ValueError("one report cannot be compared: give at least two")
    runs: dict[str, str] = {}
    places: dict[str, list[Sight]] = {}
    targets: dict[str, str] = {}
    for file, report in named:
        if report.run.id in runs:
            raise ValueError(f"{runs[report.run.id]} and {file} are the same run")
        runs[report.run.id] = file
        target = report.target
        if any(check.id == Places.id for check in report.checks):
            raise ValueError(f"{file} is a comparison itself: give the reports that it was made of")
        if not target.input:
            raise ValueError(f"{file} is of a call that came to no run: {report.summary}")
        if target.host is not None:
            targets.setdefault(f"{target.host} port {target.port}", file)
        try:
            when = moment(report)
        except ValueError as error:
            raise ValueError(f"{file}: {error}") from None
        place = " ".join((report.run.label or report.run.hostname or file).split())
        places.setdefault(place, []).append(Sight(place, when, report))
    if len(targets) > 1:
        told = ", ".join(f"{target} in {file}" for target, file in targets.items())
        raise ValueError(f"these are reports of different targets: {told}")
    sights = []
    for several in places.values():
        *earlier, latest = sorted(several, key=lambda sight: sight.when)
        sights.append(replace(latest, earlier=tuple(earlier)))
    try:
        return _by_one_clock(sights)
    except OverflowError:
        raise ValueError("a clock was too far off: the times cannot be compared") from None


def _by_one_clock(sights: Sequence[Sight]) -> tuple[Sight, ...]:
    """The sights with the times at which they were really made: where one clock agrees with the
    server's, those that do not are wrong."""
    if not any(sight.skew is not None and abs(sight.skew) <= TOLERANCE for sight in sights):
        return tuple(sights)
    return tuple(
        replace(sight, when=sight.when - timedelta(seconds=sight.skew or 0)) for sight in sights
    )


def compare(sights: Sequence[Sight]) -> Report:
    """What differs between the sights of `gather`, and what that proves."""
    began = datetime.now(UTC)
    case = Case(tuple(sights))
    problems, checks = conclude([case.outcome(aspect()) for aspect in ASPECTS])
    newest = max(sights, key=lambda sight: sight.when).report
    return Report(
        version=VERSION,
        run=RunInfo(
            id=new_id(),
            started_at=timestamp(began),
            duration_ms=round((datetime.now(UTC) - began).total_seconds() * 1000),
            label=", ".join(sight.place for sight in sights),
            hostname=hostname(),
            requests=0,
        ),
        target=newest.target,
        profile=newest.profile,
        stage=newest.stage,
        problems=problems,
        checks=checks,
    )
