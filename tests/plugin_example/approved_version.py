"""An example of a check that another distribution adds."""

from __future__ import annotations

from collections.abc import Iterator

from diag.api import Check, Context, Fact, Finding, Version, ok, warn


class ApprovedVersion(Check):
    """Warn about a Bitbucket whose version the company has not approved.

    Shows all there is to a plug-in: it needs a fact of a built-in check, and concludes a verdict.
    """

    id = "approved-version"
    title = "the version is one that the company approved"
    requires = (Version,)

    FINE = ok("approved-version-ok", "version {version} is approved")
    NEW = warn(
        "approved-version-missing",
        "version {version} is not approved yet",
        remedy="Ask the platform team for an approval.",
        owner="bitbucket-admin",
        reproduce="{curl} {url}/rest/api/latest/application-properties",
    )

    def run(self, ctx: Context) -> Iterator[Finding | Fact]:
        version = ctx[Version]
        yield (self.FINE if version.numbers < (11, 0, 0) else self.NEW)(version=version.text)
