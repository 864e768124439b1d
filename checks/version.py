"""Check `version`: is this Bitbucket new enough, and is it still supported."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime
from typing import Any

from diag.api import (
    Check,
    Context,
    Credential,
    Fact,
    Finding,
    Instance,
    Version,
    bitbucket,
    fail,
    ok,
    unknown,
    warn,
)

FIRST_WITH_TOKENS = (5, 5, 0)
SOON = 60  # days before the end of support from which on it is mentioned
_SEE = "{curl} '{base_url}/rest/api/latest/application-properties'"
_SERVER = (
    " If it is Bitbucket Server, by its licence, support has ended with every version, on "
    f"{bitbucket.lifecycle.SERVER_ENDED}."
)


class VersionCheck(Check):
    """Compare Bitbucket's version with what the product needs, and with the end of its support.

    The version is read without signing in. HTTP access tokens exist since 5.5. When support ends
    comes from a table with a date (see the evidence); a line that is newer than the table is taken
    for supported, and within 60 days of its end that is only mentioned. Where the version cannot
    be read, that is unknown, not a failure: what it would have to allow is tried by other checks.
    """

    id = "version"
    title = "the version is new enough and supported"
    order = 75
    kinds = frozenset({"datacenter", "unknown"})
    requires = (Instance,)
    after = (Credential,)
    provides = (Version,)

    OK = ok("version-ok", "{name} {version}{support}")
    ENDS_SOON = ok(
        "version-ends-soon",
        "support for {line} ends on {until}, in {days} days: plan the upgrade, best to {newer}",
    )
    UNSUPPORTED = fail(
        "version-unsupported",
        "{name} {version} is older than {profile} needs: {minimum} or newer",
        remedy="Upgrade Bitbucket, best to {newer}.",
        owner="bitbucket-admin",
        reproduce=_SEE,
    )
    NO_TOKENS = fail(
        "version-no-tokens",
        "{name} {version} has no HTTP access tokens: they came with 5.5{also}",
        remedy="Upgrade Bitbucket, best to {newer}. Until then only user name and password "
        "work (--user). A token is answered as if nobody had signed in.",
        owner="bitbucket-admin",
        reproduce=_SEE,
        explains=("auth-token-invalid", "auth-anonymous-fallback"),
    )
    UNKNOWN = unknown(
        "version-unknown",
        "the version of Bitbucket cannot be read: {said}",
        remedy="Let /rest/api/latest/application-properties through to Bitbucket: it answers "
        "without login. {minimum}",
        owner="bitbucket-admin",
        reproduce=_SEE,
    )
    END_OF_LIFE = warn(
        "version-end-of-life",
        "{name} {version} is out of support since {until}: no more security fixes",
        remedy="Upgrade Bitbucket, best to {newer}.{server}",
        owner="bitbucket-admin",
        reproduce=_SEE,
    )

    def run(self, ctx: Context) -> Iterator[Finding | Fact]:
        instance = ctx[Instance]
        told = instance.properties.content or {}
        numbers = bitbucket.lifecycle.parse(told.get("version", ""))
        minimum = ctx.profile.minimum_version
        if numbers is None:
            needed = f"{ctx.profile.title} needs {_dotted(minimum)} or newer." if minimum else ""
            said = f"version {told['version']!r}" if told else instance.properties.said
            yield self.UNKNOWN(said=said, minimum=needed, base_url=instance.base_url)
            return
        name = told.get("displayName") or "Bitbucket"
        yield Version(told["version"], numbers, name)
        evidence: dict[str, Any] = {
            "name": name,
            "version": told["version"],
            "build": told.get("buildNumber"),
            "newer": bitbucket.lifecycle.recommended(numbers, _today()),
            "base_url": instance.base_url,
        }
        old = minimum is not None and numbers < minimum
        credential = ctx.get(Credential)
        if numbers < FIRST_WITH_TOKENS and not (credential and credential.scheme == "basic"):
            also = f"; {ctx.profile.title} needs {_dotted(minimum)}" if old and minimum else ""
            yield self.NO_TOKENS(**evidence, also=also)
        elif old and minimum is not None:
            yield self.UNSUPPORTED(**evidence, minimum=_dotted(minimum))
        else:
            yield from self._support(numbers, evidence)

    def _support(
        self, numbers: tuple[int, int, int], evidence: dict[str, Any]
    ) -> Iterator[Finding]:
        lifecycle = bitbucket.lifecycle
        support = lifecycle.support(numbers)
        if support is None:
            yield self.OK(**evidence, support="")
            return
        evidence |= {
            "line": support.line,
            "until": str(support),
            "table_as_of": str(lifecycle.AS_OF),
            "source": lifecycle.SOURCE,
        }
        left = (support.until - _today()).days
        if left < 0:
            maybe_server = numbers < lifecycle.DATA_CENTER_ONLY
            yield self.END_OF_LIFE(**evidence, server=_SERVER if maybe_server else "")
            return
        yield self.OK(**evidence, support=f", supported until {support}")
        if left <= SOON:
            yield self.ENDS_SOON(**evidence, days=left)


def _today() -> date:
    return datetime.now(UTC).date()


def _dotted(numbers: tuple[int, int, int]) -> str:
    """7.14 for (7, 14, 0)."""
    return ".".join(map(str, numbers if numbers[2] else numbers[:2]))
