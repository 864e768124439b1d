"""Check `clock`: whether this machine and the server agree on what time it is."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from diag.api import (
    CertificateDates,
    Channel,
    Check,
    Context,
    Fact,
    Finding,
    Instance,
    ServerTime,
    Target,
    Wire,
    fail,
    net,
    ok,
    skip,
    warn,
)

TOLERANCE = 300.0  # seconds: what OAuth and Kerberos put up with
_DATES = "{curl} -k -o /dev/null -D - {url}/status | grep -i ^date; date -u"
_SYNCHRONISE = (
    "Set this machine's clock and keep it right: timedatectl set-ntp true, or chronyd; a virtual"
    " machine or container takes it from its host. The server's certificate is not the problem."
)


class Clock(Check):
    """Compare the server's Date with this machine's clock.

    A wrong clock makes good certificates look expired or not yet valid. When dates are what failed,
    the server's Date is read without verification and without any secret: if the certificate is
    valid by the server's clock, this machine's is the cause.
    When nothing failed, two clocks that differ by more than five minutes are a warning: application
    links and SAML sign-in break then. Which of the two is wrong cannot be seen from two clocks,
    unless this machine's is earlier than bbdiag's own files: then it is this one.
    """

    id = "clock"
    title = "the clocks agree"
    order = 55
    requires = (Target,)
    after = (Channel, Wire, ServerTime, CertificateDates, Instance)

    AGREE = ok("clock-ok", "this machine's clock and the server's agree (to {skew_seconds} s)")
    NOT_KNOWN = skip("clock-not-known", "the server's time is not known: no Date header was seen")
    AHEAD = fail(
        "clock-skew-ahead",
        "this machine's clock is {skew} ahead: here it is {local}, for the server {server}, and by"
        " the server's clock its certificate is valid",
        remedy=_SYNCHRONISE,
        owner="you",
        reproduce=_DATES,
        explains=("tls-expired", "tls-intermediate-expired", "tls-trust-store-stale"),
    )
    BEHIND = fail(
        "clock-skew-behind",
        "this machine's clock is {skew} behind: here it is {local}, for the server {server}, and"
        " {witness}",
        remedy=_SYNCHRONISE,
        owner="you",
        reproduce=_DATES,
        explains=("tls-not-yet-valid",),
    )
    SERVER = warn(
        "clock-skew-server",
        "the server's clock is {skew} {direction} this machine's: {server} there, {local} here",
        remedy="Compare both with a third clock. If the server's is wrong, switch on its time"
        " synchronisation (NTP): application links, SAML sign-in and tokens that expire depend on"
        " it. If this machine's is wrong, correct that.",
        owner="server-admin",
        reproduce=_DATES,
    )

    def run(self, ctx: Context) -> Iterator[Finding | Fact]:
        told = ctx.get(ServerTime)
        if told is None:
            yield self.NOT_KNOWN()
            return
        skew = told.local - told.server  # positive: this clock is ahead
        evidence: dict[str, Any] = {
            "server": _iso(told.server),
            "local": _iso(told.local),
            "skew": net.tls.span(skew),
            "skew_seconds": round(skew),
            "uncertainty_seconds": round(told.uncertainty, 1),
        }
        if abs(skew) - told.uncertainty <= TOLERANCE:
            yield self.AGREE(**evidence)
        elif self._explains_dates(ctx, told):
            witness = "by the server's clock its certificate is valid"
            yield (self.AHEAD if skew > 0 else self.BEHIND)(**evidence, witness=witness)
        elif skew < 0 and (written := _written()) > told.local + TOLERANCE:
            witness = f"bbdiag's own files are from {_iso(written)}"
            yield self.BEHIND(**evidence, witness=witness)
        else:
            direction = "behind" if skew > 0 else "ahead of"
            yield self.SERVER(**evidence, direction=direction)

    def _explains_dates(self, ctx: Context, told: ServerTime) -> bool:
        """The certificates are not valid by this clock, but they are by the server's."""
        dates = ctx.get(CertificateDates)
        return dates is not None and dates.not_before <= told.server <= dates.not_after


def _written() -> float:
    """When this program came onto this machine: it cannot be earlier now."""
    with suppress(OSError):
        return Path(__file__).stat().st_mtime
    return 0.0


def _iso(moment: float) -> str:
    return f"{datetime.fromtimestamp(moment, UTC):%Y-%m-%dT%H:%M:%SZ}"
