"""The fixtures of the gallery."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator

import pytest

from tests.gallery import running
from tests.gallery.town import Town
from tests.lab import missing_here, sweep

_PROGRAMS = (
    "curl",
    "dnsmasq",
    "faketime",
    "haproxy",
    "nginx",
    "openssl",
    "squid",
    "tinyproxy",
    "unbound",
)


@pytest.fixture(scope="session")
def town_needs() -> None:
    """What it takes to build a town; without it the test is skipped, in CI it fails."""
    programs = [name for name in _PROGRAMS if shutil.which(name) is None]
    missing = missing_here() or ", ".join(programs)
    if missing and os.environ.get("CI") == "true":
        pytest.fail(f"the gallery needs {missing}")
    if missing:
        pytest.skip(f"the gallery needs {missing}")
    sweep()


@pytest.fixture
def town(town_needs: None) -> Iterator[Town]:
    """A lab to build a Bitbucket in."""
    with running.town() as built:
        yield built
