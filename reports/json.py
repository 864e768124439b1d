"""The whole report as one JSON document, for support tickets, scripts and CI (`bbdiag schema`)."""

from __future__ import annotations

import json

from diag.api import Report, Style


def render(report: Report, style: Style) -> str:
    """The document of the contract; `style` does not change it."""
    del style
    return json.dumps(report.to_json(), ensure_ascii=False, indent=2)
