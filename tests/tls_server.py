"""TLS servers on loopback, and a run of the checks `tls` and `clock` alone against them."""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.utils import formatdate
from typing import Any

from diag import registry, runner
from diag.api import (
    CertificateDates,
    Channel,
    Check,
    Context,
    Fact,
    Finding,
    ServerTime,
    Target,
    Wire,
    ok,
)
from diag.record import values
from diag.report import CheckResult, Report
from diag.simulator.server import Connection, Listener, Request, Response, talk_http
from tests.conftest import make_settings

HOST = "bitbucket.example.com"
Talk = Callable[[Connection], None]


class Given(Check):
    """What the checks before would have found: the target, and an open connection to it."""

    id = "given"
    title = "the connection is there"
    order = 1
    provides = (Target, Channel)

    def run(self, ctx: Context) -> Iterator[Finding | Fact]:
        scheme, _, rest = ctx.settings.url.partition("://")
        port = {"https": 443, "http": 80}[scheme]
        host = rest.strip("[]")
        yield Target(rest, "http" if scheme == "http" else "https", host, port)
        ctx.dialer.park(host, port, ctx.dialer.connect(host, port, ctx.timeout))
        yield Channel(host, port, "127.0.0.1")


class Seen(Check):
    """What `tls` has established for the checks after it."""

    id = "seen"
    title = "what was established"
    order = 900
    requires = (Target,)
    after = (Wire, CertificateDates, ServerTime)

    SEEN = ok("seen", "seen")

    def run(self, ctx: Context) -> Iterator[Finding | Fact]:
        facts = {kind: ctx.get(kind) for kind in self.after}
        wire = facts[Wire]
        parked = ctx.dialer.take(ctx.target.host, ctx.target.port)
        if parked is not None:
            parked.close()
        yield self.SEEN(
            wire=values(wire) if isinstance(wire, Wire) else None,
            parked=None if parked is None else type(parked).__name__,
            dates=facts[CertificateDates] is not None,
            time=facts[ServerTime] is not None,
        )


@dataclass
class Server:
    """A server on loopback, and what came to it."""

    port: int
    connections: int = 0
    requests: list[Request] = field(default_factory=list)


@contextmanager
def serving(talk: Talk) -> Iterator[Server]:
    """Handle each connection by `talk`."""
    listener = Listener()
    server = Server(listener.port)

    def count(connection: Connection) -> None:
        server.connections += 1
        talk(connection)

    listener.serve(count)
    try:
        yield server
    finally:
        listener.close()


@contextmanager
def tls_site(
    context: ssl.SSLContext, *, ahead: float = 0.0, bitbucket: bool = True, status: int = 200
) -> Iterator[Server]:
    """A TLS site that answers every request; its clock is so many seconds `ahead`."""
    requests: list[Request] = []

    def answer(request: Request) -> Response:
        requests.append(request)
        headers = [("Date", formatdate(time.time() + ahead, usegmt=True))]
        if bitbucket:
            headers.append(("X-AREQUESTID", "@1QRD7ZMx755x110x0"))
        return Response(status, headers, b"{}")

    with serving(talk_http(answer, context)) as server:
        server.requests = requests
        yield server


def diagnose(
    server: Server,
    host: str = HOST,
    scheme: str = "https",
    *,
    address: str = "127.0.0.1",
    routes: tuple[str, ...] = (),
    **options: Any,
) -> Report:
    """Run `tls` and `clock` against the server; `routes` are further connect-to rules."""
    port = {"https": 443, "http": 80}[scheme]
    rule = f"{host}:{port}:{address}:{server.port}"
    netloc = f"[{host}]" if ":" in host else host
    options.setdefault("timeout", 2.0)
    settings = make_settings(f"{scheme}://{netloc}", connect_to=(rule, *routes), **options)
    found = registry.checks()
    checks = [check for check in (found.get("tls"), found.get("clock")) if check is not None]
    assert len(checks) == 2, found.broken
    return runner.execute(settings, [Given, *checks, Seen])


def codes(report: Report) -> list[str]:
    """The problems, causes first."""
    return [problem.code for problem in report.problems]


def result(report: Report, check: str) -> CheckResult:
    return next(one for one in report.checks if one.id == check)


def notes(report: Report, check: str = "tls") -> list[str]:
    """The codes that are no problems."""
    found = result(report, check).findings
    return [one.code for one in found if one.status in {"ok", "skip"}]


def seen(report: Report) -> dict[str, Any]:
    """What `tls` has established: the wire, the kind of the parked connection, and more."""
    found = result(report, "seen").findings[0].evidence
    assert isinstance(found, dict)
    return found
