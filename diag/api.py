"""All that a check or a report may import.

A check: subclass `Check`, declare verdicts with `fail`, `warn`, `ok`, `unknown`, `skip`, yield
findings and facts from `run`. A report: a module with `render(report, style) -> str`.
The network lies in `net` (`net.dns`, `net.tcp`, …: imported when first used).
"""

from __future__ import annotations

from diag import bitbucket, cafile, net, target, tokens, verdicts
from diag.asking import Asker, Troubles, said, ssh_greeting, trouble, why_no_ssh
from diag.check import Check
from diag.context import Context, DeadlineExceededError, Timing
from diag.facts import (
    Addresses,
    CertificateDates,
    Channel,
    Clone,
    CloneTried,
    Credential,
    Fact,
    Identity,
    Instance,
    Link,
    Realm,
    Reply,
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
from diag.report import CheckResult, Problem, Report, Style, sentence

__all__ = [
    "Addresses",
    "Asker",
    "CertificateDates",
    "Channel",
    "Check",
    "CheckResult",
    "Clone",
    "CloneTried",
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
    "Realm",
    "Reply",
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
    "Troubles",
    "Verdict",
    "Version",
    "Wire",
    "bitbucket",
    "cafile",
    "fail",
    "net",
    "ok",
    "said",
    "sentence",
    "skip",
    "ssh_greeting",
    "target",
    "tokens",
    "trouble",
    "unknown",
    "verdicts",
    "warn",
    "why_no_ssh",
]
