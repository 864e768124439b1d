"""Versions of Bitbucket Data Center: how they are written, and until when each is supported."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import date
from types import MappingProxyType

from diag.record import record

AS_OF = date(2026, 11, 23)
SOURCE = "endoflife.date/bitbucket, after Atlassian's Support End of Life Policy"
SERVER_ENDED = date(2024, 2, 15)  # Bitbucket Server, as opposed to Data Center, in any version
DATA_CENTER_ONLY = (8, 15, 0)  # from here on there is no Bitbucket Server

Line = tuple[int, int]
Numbers = tuple[int, int, int]

# The last day of support of each line, newest first. What is missing between two lines ended
# before the newer of them did: lines are supported for two years from their release.
LINES: Mapping[Line, date] = MappingProxyType(
    {
        (10, 4): date(2028, 7, 21),
        (10, 3): date(2028, 5, 12),
        (10, 2): date(2028, 3, 3),
        (10, 1): date(2027, 11, 20),
        (10, 0): date(2027, 9, 8),
        (9, 6): date(2027, 1, 18),
        (9, 5): date(2027, 1, 7),
        (9, 4): date(2026, 12, 3),
        (9, 3): date(2026, 10, 29),
        (9, 2): date(2026, 9, 24),
        (9, 1): date(2026, 8, 27),
        (9, 0): date(2026, 7, 23),
        (8, 19): date(2026, 3, 12),
        (8, 18): date(2026, 2, 6),
        (8, 17): date(2026, 1, 9),
        (8, 16): date(2025, 11, 28),
        (8, 15): date(2025, 10, 24),
        (8, 14): date(2025, 9, 19),
        (8, 13): date(2025, 8, 15),
        (8, 12): date(2025, 7, 11),
        (8, 11): date(2025, 6, 6),
        (8, 10): date(2025, 5, 2),
        (8, 9): date(2025, 4, 12),
        (8, 8): date(2025, 2, 7),
        (8, 7): date(2025, 1, 10),
        (7, 21): date(2024, 2, 28),
    }
)
LONG_TERM: frozenset[Line] = frozenset({(7, 21), (8, 9), (8, 19), (9, 4), (10, 2)})

_VERSION = re.compile(r"v?(\d{1,5})\.(\d{1,5})(?:\.(\d{1,5}))?(?:[-.+ ].*)?")


@record
class Support:
    """Until when a version is supported."""

    until: date
    exact: bool  # False: that day at the latest
    line: str  # "9.4"

    def __str__(self) -> str:
        return f"{self.until}" if self.exact else f"{self.until} at the latest"


def parse(text: str) -> Numbers | None:
    """The numbers of "9.4.1", "7.16.0-rc2" or "10.2"; None if this is no version.

    They are to be compared as numbers: 10 is newer than 9. A pre-release counts as its release.
    """
    match = _VERSION.fullmatch(text.strip())
    return (int(match[1]), int(match[2]), int(match[3] or 0)) if match else None


def support(numbers: Numbers) -> Support | None:
    """Until when Atlassian supports this version; None for a line newer than the table."""
    line = numbers[:2]
    if line > max(LINES):
        return None
    newer = min(listed for listed in LINES if listed >= line)
    return Support(LINES[newer], newer == line, f"{line[0]}.{line[1]}")


def recommended(than: Numbers, today: date) -> str:
    """What to upgrade to, in words: the newest line with long-term support, if that is newer."""
    alive = [line for line, until in LINES.items() if line > than[:2] and until >= today]
    long_term = [line for line in alive if line in LONG_TERM]
    if not alive:
        return "the newest version"
    best = "{}.{}".format(*max(long_term or alive))
    return f"{best} (long-term support)" if long_term else best
