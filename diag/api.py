"""All that a check or a report may import.

A check: subclass `Check`, declare verdicts with `fail`, `warn`, `ok`, `unknown`, `skip`, yield
findings and facts from `run`. A report: a module with `render(report, style) -> str`.
The network lies in `net` (`net.dns`, `net.tcp`, …: imported when first used).
"""

from __future__ import annotations

from diag import bitbucket, net
from diag.check import Check
from diag.context import Context, DeadlineExceededError, Timing
from diag.facts import (
    Addresses,
    CertificateDates,
    Channel,
    Clone,
    Credential,
    Fact,
    Identity,
    Instance,
    Link,
    Repositories,
    Repository,
    Route,
    Running,
    ServerTime,
    Target,
    Version,
    Wire,
)
from diag.model import Finding, Json, Owner, Status, Verdict, fail, ok, skip, unknown, warn
from diag.report import CheckResult, Problem, Report, Style

__all__ = [
    "Addresses",
    "CertificateDates",
    "Channel",
    "Check",
    "CheckResult",
    "Clone",
    "Context",
    "Credential",
    "DeadlineExceededError",
    "Fact",
    "Finding",
    "Identity",
    "Instance",
    "Json",
    "Link",
    "Owner",
    "Problem",
    "Report",
    "Repositories",
    "Repository",
    "Route",
    "Running",
    "ServerTime",
    "Status",
    "Style",
    "Target",
    "Timing",
    "Verdict",
    "Version",
    "Wire",
    "bitbucket",
    "fail",
    "net",
    "ok",
    "skip",
    "unknown",
    "warn",
]
