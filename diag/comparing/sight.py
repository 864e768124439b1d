"""One report, as `bbdiag compare` reads it: what was seen from one place, at one time.

A report may come from another version of bbdiag, or have been written by hand: what is missing in
the evidence, or is not of the kind that is expected there, is not known.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from itertools import chain
from typing import TypeVar

from diag.model import Json, Status
from diag.record import record
from diag.report import CheckResult, FindingResult, Problem, Report

AT_ONCE = timedelta(minutes=30)  # runs closer to each other than this have seen the same state
TOLERANCE = 300  # seconds that clocks may differ, as in check `clock`
T = TypeVar("T", str, int, bool)


@record
class Door:
    """What came of connecting to one address and port."""

    result: str  # a `Kind` of `diag.net.doors`
    source: str | None  # the own address that was used


@record
class Certificate:
    """The server's own certificate, as it was presented there."""

    subject: str  # as RFC 4514 writes it
    issuer: str
    not_after: str
    sha256: str

    @property
    def told(self) -> str:
        return (
            f"{common_name(self.subject)}, by {common_name(self.issuer)}, until {self.not_after},"
            f" SHA-256 {self.sha256[:16]}…"
        )


@dataclass(frozen=True)
class Sight:
    """A report, the place it was made from, and when."""

    place: str
    when: datetime
    report: Report
    earlier: tuple[Sight, ...] = ()  # of the same place, oldest first

    @property
    def at(self) -> str:
        """When, for people."""
        return f"{self.when:%Y-%m-%d %H:%M:%S} UTC"

    def is_near(self, other: Sight) -> bool:
        """Whether both saw the same state: what they see differently, the place makes."""
        return abs(self.when - other.when) <= AT_ONCE

    @property
    def problems(self) -> tuple[Problem, ...]:
        return self.report.problems

    @property
    def failure(self) -> Problem | None:
        """The root cause, where something failed."""
        first = next(iter(self.problems), None)
        return first if first and first.status is Status.FAIL else None

    def has(self, code: str) -> bool:
        return any(problem.code == code for problem in self.problems)

    def reached(self, check_id: str) -> bool:
        """Whether this check could say something there."""
        check = self.check(check_id)
        return check is not None and check.status is not Status.SKIP

    def passed(self, check_id: str) -> bool:
        """Whether this check ran there, and has nothing to say against anything."""
        check = self.check(check_id)
        return check is not None and check.status in (Status.OK, Status.WARN)

    def check(self, check_id: str) -> CheckResult | None:
        return next((check for check in self.report.checks if check.id == check_id), None)

    # what the checks told

    def found(self, *check_ids: str) -> Iterator[FindingResult]:
        for check_id in check_ids:
            if check := self.check(check_id):
                yield from check.findings

    def codes(self, *check_ids: str) -> set[str]:
        return {finding.code for finding in self.found(*check_ids)}

    def evidence(self, *check_ids: str) -> Iterator[Mapping[str, Json]]:
        for finding in self.found(*check_ids):
            if isinstance(finding.evidence, Mapping):
                yield finding.evidence

    def told(self, kind: type[T], name: str, *check_ids: str) -> T | None:
        """The first evidence of that name and kind among the findings of these checks."""
        values = (evidence.get(name) for evidence in self.evidence(*check_ids))
        return next((value for value in values if type(value) is kind), None)

    @cached_property
    def proxy(self) -> str | None:
        """The proxy of the way out."""
        return self.told(str, "proxy", "proxy")

    @property
    def way(self) -> str:
        return f"the proxy {self.proxy}" if self.proxy else "no proxy"

    @cached_property
    def addresses(self) -> tuple[str, ...]:
        """What the name leads to there; empty where that is not known, or nothing."""
        lists = (texts(evidence.get("addresses")) for evidence in self.evidence("dns"))
        several = next(filter(None, lists), ())
        one = self.told(str, "address", "dns")
        return several or ((one,) if one else ())

    @property
    def is_resolved_here(self) -> bool:
        """Whether the addresses are what the DNS of this place says, and not a hosts file or the
        call itself."""
        by_hand = {"dns-connect-to", "dns-not-needed", "dns-hosts-override"}
        return not by_hand & self.codes("dns") and not self.told(bool, "from_hosts", "dns")

    @cached_property
    def doors(self) -> Mapping[tuple[str, int], Door]:
        """What came of connecting to the addresses, by address and port."""
        found: dict[tuple[str, int], Door] = {}
        for answer in chain.from_iterable(
            items(evidence.get("answers")) for evidence in self.evidence("tcp")
        ):
            address, port, result = (answer.get(name) for name in ("address", "port", "result"))
            source = answer.get("source")
            if isinstance(address, str) and isinstance(port, int) and isinstance(result, str):
                door = Door(result, source if isinstance(source, str) else None)
                found.setdefault((address, port), door)
        return found

    @cached_property
    def certificate(self) -> Certificate | None:
        chains = (items(evidence.get("chain")) for evidence in self.evidence("tls"))
        first: Mapping[str, Json] = next(chain.from_iterable(chains), {})
        names = ("subject", "issuer", "not_after", "sha256")
        told = [value for name in names if isinstance(value := first.get(name), str)]
        return Certificate(*told) if len(told) == len(names) else None

    @property
    def is_public(self) -> bool:
        """Whether the certificate there is one that everybody trusts."""
        return self.told(bool, "publicly_trusted", "tls") is True

    @cached_property
    def skew(self) -> int | None:
        """Seconds that the clock there is ahead of the server's."""
        return self.told(int, "skew_seconds", "clock")

    @cached_property
    def version(self) -> str | None:
        return self.told(str, "version", "version")

    @cached_property
    def product(self) -> str | None:
        return self.told(str, "name", "version")

    @cached_property
    def user(self) -> str | None:
        return self.told(str, "user", "auth") if "auth-ok" in self.codes("auth") else None

    @cached_property
    def identity(self) -> str | None:
        """Whom Bitbucket took the secret for there; None where that is not known."""
        codes = self.codes("auth", "cloud-auth")
        if codes & {"auth-anonymous", "cloud-auth-anonymous"}:
            return ANONYMOUS
        if self.user:
            return f"user {self.user}"
        if "auth-ok-service" in codes:
            return "nobody in particular (the token of a project or repository)"
        kind = self.told(str, "kind", "cloud-auth")
        return f"{kind}{self.told(str, 'of', 'cloud-auth') or ''}" if kind else None

    @cached_property
    def marks(self) -> Mapping[str, str]:
        """What tells one Bitbucket from another, by what it is called."""
        user_id = self.told(str, "user_id", "auth")
        repository_id = self.told(int, "repository_id", "repos")
        wanted = self.report.target
        known = {
            "name": self.product,
            f"number of user {self.user}": user_id,
            f"number of repository {wanted.project}/{wanted.repository}": repository_id,
        }
        return {name: str(value) for name, value in known.items() if value is not None}

    @property
    def traits(self) -> Mapping[str, str]:
        """What may have changed between two runs of one place."""
        known = {
            "way out": self.way if self.reached("proxy") else None,
            "addresses": ", ".join(sorted(self.addresses)),
            "own address": next((door.source for door in self.doors.values()), None),
            "certificate": self.certificate and self.certificate.told,
            "version": self.version,
            "secret": self.identity,
            "URL": self.report.target.base_url,
            "bbdiag": self.report.version,
        }
        return {name: value for name, value in known.items() if value}


ANONYMOUS = "nobody: no secret was given"


def moment(report: Report) -> datetime:
    """When a run began, in UTC.

    Raises:
        ValueError: the report says so in no way that can be read.
    """
    try:
        when = datetime.fromisoformat(report.run.started_at)
        return when.astimezone(UTC) if when.tzinfo else when.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        raise ValueError(f"run.started_at is {report.run.started_at!r}") from None


def common_name(name: str) -> str:
    """The CN of a distinguished name, all of it where there is none."""
    found = re.search(r"(?:^|,)CN=((?:\\.|[^,\\])+)", name)
    return found[1] if found else name


def texts(value: Json) -> tuple[str, ...]:
    """The texts of a list, none of anything else."""
    if isinstance(value, str) or not isinstance(value, Sequence):
        return ()
    return tuple(one for one in value if isinstance(one, str))


def items(value: Json) -> Iterator[Mapping[str, Json]]:
    """The objects of a list, none of anything else."""
    if isinstance(value, Sequence) and not isinstance(value, str):
        yield from (one for one in value if isinstance(one, Mapping))
