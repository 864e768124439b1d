"""The fixture of the gallery."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.gallery.town import Town
from tests.lab import Lab

_PROGRAMS = ("dnsmasq", "nginx", "openssl", "squid", "faketime")


@pytest.fixture
def town(lab: Lab) -> Iterator[Town]:
    """A lab to build a Bitbucket in."""
    if missing := [name for name in _PROGRAMS if shutil.which(name) is None]:
        reason = f"{', '.join(missing)} not installed"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    with ExitStack() as stack:
        directory = stack.enter_context(TemporaryDirectory(prefix="town-"))
        Path(directory).chmod(0o755)  # for squid, which becomes somebody else
        yield Town(lab, Path(directory), stack)
