"""An example of a report format that another distribution adds: one line."""

from __future__ import annotations

from diag.api import Report, Style


def render(report: Report, style: Style) -> str:
    """The verdict, the root cause if there is one, and the target."""
    del style
    parts = [str(report.verdict), report.root_cause or "", report.target.base_url or ""]
    return " ".join(part for part in parts if part)
