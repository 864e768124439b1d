"""Every case of the gallery has the root cause that it was built to have, and none is invented."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import pytest

from tests.gallery import document, peers
from tests.gallery.case import Case, NearMiss, families
from tests.gallery.running import Gallery, Peer
from tests.gallery.town import DEADLINE

if TYPE_CHECKING:
    from tests.gallery.running import Outcome

pytestmark = pytest.mark.lab

FAMILIES = families()
CASES = {case.id: case for family in FAMILIES for case in family.cases}
NEAR_MISSES = [pair for family in FAMILIES for pair in family.near_misses]
_PAIRED = {id_ for pair in NEAR_MISSES for id_ in (pair.one, pair.other)}


@pytest.fixture(scope="session")
def gallery(request: pytest.FixtureRequest, town_needs: None) -> Iterator[Gallery]:
    """All cases that this session's tests ask for, already under way."""
    wanted: dict[str, Case] = {}
    for item in request.session.items:
        callspec = getattr(item, "callspec", None)
        for value in callspec.params.values() if callspec else ():
            if isinstance(value, Case):
                wanted[value.id] = value
            elif isinstance(value, NearMiss):
                wanted |= {one: CASES[one] for one in (value.one, value.other)}

    def also(case: Case) -> Mapping[str, Peer]:
        return {"symptom": peers.symptom} if case.id in _PAIRED else {}

    running = Gallery(list(wanted.values()), also)
    yield running
    running.close()


@pytest.mark.parametrize("case", [pytest.param(case, id=id_) for id_, case in CASES.items()])
def test_case(gallery: Gallery, case: Case) -> None:
    outcome = gallery.outcome(case.id)
    if case.excuse and outcome.result is not None:
        assert outcome.wrong, f"it is right now, and needs no excuse: {case.excuse}"
        pytest.xfail(case.excuse)
    assert not outcome.wrong, outcome.wrong
    # The contract, not a test of speed: how long cases take is in docs/gallery.md.
    assert outcome.seconds <= DEADLINE


@pytest.mark.parametrize(
    "pair", [pytest.param(pair, id=f"{pair.one} or {pair.other}") for pair in NEAR_MISSES]
)
def test_near_miss(gallery: Gallery, pair: NearMiss) -> None:
    """To a script with curl the two are one and the same, to bbdiag they are not."""
    one, other = gallery.outcome(pair.one), gallery.outcome(pair.other)
    assert one.peers["symptom"] == other.peers["symptom"]
    assert first(one) != first(other)


def first(outcome: Outcome) -> str | None:
    """The root cause that was named."""
    assert outcome.result is not None, outcome.error
    return next(iter(outcome.result.codes), None)


def test_the_gallery_is_as_large_as_promised() -> None:
    faults = [case for case in CASES.values() if not case.is_healthy]
    assert len(faults) >= 170
    assert sum(case.is_healthy for case in CASES.values()) >= 25
    assert sum(case.is_double for case in faults) >= 20
    assert len(NEAR_MISSES) >= 30
    assert sum(bool(case.excuse) for case in faults) <= 0.05 * len(faults)


def test_the_page_shows_every_case_as_it_is() -> None:
    """`make gallery` writes the page, and somebody has to."""
    page = document.PAGE.read_text(encoding="utf-8")
    starts = [document.line_start(case) for case in CASES.values() if not case.excuse]
    assert [start for start in starts if start not in page] == []
