"""How sure a share is that was seen in a few tries."""

from __future__ import annotations

from math import sqrt

from diag.model import Json
from diag.record import record

_Z = 1.96  # of the normal distribution: 95 % lie within


@record
class Ratio:
    """So many of so many, and what that says about all the others."""

    count: int
    of: int

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson's 95 % interval of the true share, from 0 to 1: of use for few tries, too."""
        share, square = self.count / self.of, _Z**2 / self.of
        middle = (share + square / 2) / (1 + square)
        reach = _Z * sqrt((share * (1 - share) + square / 4) / self.of) / (1 + square)
        return max(0.0, middle - reach), min(1.0, middle + reach)

    def __str__(self) -> str:
        share, (low, high) = self.count / self.of, self.interval
        interval = f"95 % interval {low * 100:.0f}–{high * 100:.0f} %"
        return f"{self.count} of {self.of} ({share * 100:.0f} %, {interval})"

    def evidence(self) -> dict[str, Json]:
        return {
            "count": self.count,
            "of": self.of,
            "ratio": round(self.count / self.of, 3),
            "interval": [round(end, 3) for end in self.interval],
        }
