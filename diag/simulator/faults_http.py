"""Faults of what stands between TLS and Bitbucket: gateways, firewalls, other products, clocks."""

from __future__ import annotations

import datetime as dt
from functools import partial
from itertools import count
from typing import TYPE_CHECKING

from diag.simulator.registry import DATACENTER
from diag.simulator.scenario import HOST
from diag.simulator.server import html, page

if TYPE_CHECKING:
    from collections.abc import Callable

    from diag.simulator.scenario import Answer, Gateway, Setup
    from diag.simulator.server import Connection, Request, Response

declare, fault = DATACENTER.declare, DATACENTER.fault

SHORT = {"timeout": 0.8}  # seconds
LOGIN_HOST = "login.example.com"

web = partial(declare, "HTTP and gateways")


def always(status: int, reason: str, text: str, *headers: tuple[str, str], server: str) -> Gateway:
    """A gateway that answers everything with one HTML text."""
    return lambda _request, _forward: html(status, text, *headers, reason=reason, server=server)


def nginx_error(status: int, reason: str) -> Gateway:
    """A gateway that answers everything with this error page of nginx."""
    return always(status, reason, page(f"{status} {reason}", "nginx"), server="nginx")


def redirect(location: str) -> Response:
    """A permanent redirect by nginx."""
    text = page("301 Moved Permanently", "nginx")
    return html(301, text, ("Location", location), reason="Moved Permanently")


def sign_on_first(request: Request, _forward: Answer) -> Response:
    """A single sign-on in front of everything: its login form is on a host of its own."""
    if request.host == LOGIN_HOST:
        form = (
            '<form method="post" action="/adfs/ls"><input name="UserName">'
            '<input type="password" name="Password"></form>'
        )
        return html(200, page("Sign in to Example Corp", body=form), reason="OK", server="Apache")
    location = f"https://{LOGIN_HOST}/adfs/ls?SAMLRequest=fVLLbsIwEPwVy&RelayState={request.path}"
    return html(302, "", ("Location", location), reason="Found", server="Apache")


def be_jira(request: Request, _forward: Answer) -> Response:
    """Jira: a near relation, so some of the marks are the same."""
    marks = [
        ("X-AREQUESTID", "1112x1x1"),
        ("X-Seraph-LoginReason", "OUT"),
        ("Set-Cookie", "atlassian.xsrf.token=BXYZ-1234_lout; Path=/; Secure"),
        ("Set-Cookie", "JSESSIONID=0123456789ABCDEF; Path=/; Secure; HttpOnly"),
    ]
    if request.path == "/status":
        response = html(200, '{"state":"RUNNING"}', *marks, server="Apache-Coyote")
        response.headers[1] = ("Content-Type", "application/json")
        return response
    if request.path == "/":
        location = f"https://{HOST}/secure/Dashboard.jspa"
        return html(302, "", ("Location", location), *marks, server="Apache-Coyote")
    if request.path == "/secure/Dashboard.jspa":
        text = '<meta name="application-name" content="JIRA"><a href="/login.jsp">Log in</a>'
        return html(200, page("System Dashboard - Jira", body=text), *marks, server="Apache-Coyote")
    return html(404, page("Oops, you've found a dead link. - Jira"), *marks, server="Apache-Coyote")


def be_picky(request: Request, forward: Answer) -> Response:
    """A rule that lets only browsers and git through."""
    if request.headers.get("user-agent", "").startswith(("Mozilla/", "git/")):
        return forward(request)
    return html(403, page("403 Forbidden", "nginx"), reason="Forbidden")


def strip_authorization(request: Request, forward: Answer) -> Response:
    request.headers.pop("authorization", None)
    return forward(request)


def cut_json(request: Request, forward: Answer) -> Response:
    """Every JSON body loses its end, the length being right."""
    response = forward(request)
    if ("Content-Type", "application/json;charset=UTF-8") in response.headers:
        response.body = response.body[:-2]
    return response


def broken(wire: Callable[[Connection, Response], None]) -> Gateway:
    """Bitbucket's own answers, sent in a broken way."""

    def gateway(request: Request, forward: Answer) -> Response:
        response = forward(request)
        response.wire = wire
        return response

    return gateway


def send_nothing(_connection: Connection, _response: Response) -> None:
    """The connection is closed when this returns."""


def send_half(connection: Connection, response: Response) -> None:
    head = response.head(("Content-Length", str(2 * len(response.body) + 100)))
    connection.send(head + response.body[: len(response.body) // 2])


def hang(connection: Connection, _response: Response) -> None:
    connection.swallow()


def trickle(connection: Connection, response: Response) -> None:
    """One byte of a long body every quarter of a second, for as long as anybody listens."""
    connection.send(response.head(("Content-Length", str(1_000_000))))
    while True:
        connection.send(b" ")
        connection.wait(0.25)


def swell(connection: Connection, response: Response) -> None:
    """A megabyte of headers, as when a cookie is added on every hop."""
    cookies = [("Set-Cookie", f"session{n}={'x' * 1000}") for n in range(1000)]
    connection.send(response.head(*cookies, ("Content-Length", "0")))


@fault("HTTP and gateways", "http-on-tls-port", "the URL says http:// for a port that speaks TLS")
def _(setup: Setup) -> None:
    setup.url = f"http://{HOST}:443"


web(
    "http-block-page",
    "a firewall answers 200 with a page of its own",
    gateway=always(
        200,
        "OK",
        page(
            "Web Page Blocked",
            body="<p>Access has been blocked. Category: none</p>",
        ),
        server="FortiGuard",
    ),
)
web(
    "http-default-vhost",
    "the web server shows its default page",
    gateway=always(
        200,
        "OK",
        page(
            "Welcome to nginx!",
            body="<p>If you see this page, nginx works.</p>",
        ),
        server="nginx",
    ),
)


@fault("HTTP and gateways", "http-sso-login", "a single sign-on wants a browser")
def _(setup: Setup) -> None:
    setup.gateway = sign_on_first
    setup.certificates.names += (LOGIN_HOST,)
    setup.routes[f"{LOGIN_HOST}:443"] = setup.web_port


web(
    "http-redirect-loop",
    "every page redirects to itself",
    gateway=lambda request, _forward: redirect(f"https://{HOST}{request.target}"),
)
web(
    "http-redirect-dead-host",
    "everything redirects to a host that is gone",
    gateway=lambda request, _forward: redirect(f"https://stash.example.invalid{request.target}"),
)
web(
    "http-redirects-to-https",
    "http:// only redirects to https://",
    url=f"http://{HOST}",
    plain=lambda request, _forward: redirect(f"https://{HOST}{request.target}"),
)
web(
    "http-downgrade-redirect",
    "https:// redirects to http://",
    gateway=lambda request, _forward: redirect(f"http://{HOST}{request.target}"),
    plain=lambda request, forward: forward(request),
)


@fault("HTTP and gateways", "http-context-path-missing", "Bitbucket is below /bitbucket")
def _(setup: Setup) -> None:
    setup.instance.context_path = "/bitbucket"
    setup.instance.base_url += "/bitbucket"


web("http-other-product", "Jira answers", gateway=be_jira)
web(
    "http-bad-gateway",
    "the reverse proxy cannot reach Bitbucket",
    gateway=nginx_error(502, "Bad Gateway"),
)
web(
    "http-upstream-unavailable",
    "the reverse proxy has taken Bitbucket out of service",
    gateway=nginx_error(503, "Service Temporarily Unavailable"),
)
web(
    "http-gateway-timeout",
    "Bitbucket does not answer its reverse proxy in time",
    gateway=nginx_error(504, "Gateway Time-out"),
)
web(
    "http-waf-blocked",
    "a web application firewall rejects the requests",
    gateway=always(
        403,
        "Forbidden",
        page(
            "Request Rejected",
            body="The requested URL was rejected. Your support ID is: 4242424242424242",
        ),
        server="BigIP",
    ),
)
web(
    "http-gateway-auth",
    "the reverse proxy wants a password of its own",
    gateway=always(
        401,
        "Unauthorized",
        page("401 Authorization Required", "nginx"),
        ("WWW-Authenticate", 'Basic realm="Restricted"'),
        server="nginx",
    ),
)
web("http-empty-reply", "connections are closed without an answer", gateway=broken(send_nothing))
web("http-body-truncated", "answers are cut short", gateway=broken(send_half))
web("http-invalid-json", "answers are complete, but no JSON", gateway=cut_json)
web(
    "http-response-timeout",
    "requests are never answered",
    gateway=broken(hang),
    options=SHORT,
)
web(
    "http-slow-body",
    "answers come at four bytes a second and do not end",
    gateway=broken(trickle),
    options={**SHORT, "deadline": 8.0},
)
web("http-user-agent-blocked", "only browsers and git are let through", gateway=be_picky)
web(
    "http-authorization-stripped",
    "the reverse proxy removes the token",
    gateway=strip_authorization,
)
web("http-header-too-large", "answers carry a megabyte of cookies", gateway=broken(swell))


@fault("HTTP and gateways", "http-gateway-rate-limited", "the reverse proxy allows few requests")
def _(setup: Setup) -> None:
    served = count(1)
    too_many = nginx_error(503, "Service Temporarily Unavailable")

    def limit(request: Request, forward: Answer) -> Response:
        return forward(request) if next(served) <= 4 else too_many(request, forward)

    setup.gateway = limit


def announce_limit(request: Request, forward: Answer) -> Response:
    response = forward(request)
    if request.authorization != "none":
        response.headers += [("X-RateLimit-Limit", "60"), ("X-RateLimit-Remaining", "2")]
    return response


limits = partial(declare, "Rate limits")
limits("rate-limited", "the user has used up the rate limit", instance={"requests_left": 0})
limits("rate-limit-near", "2 of 60 requests are left", gateway=announce_limit)


# The certificates are made by the server's clock. Years off, dates and certificates agree with each
# other and only this machine's clock does not.

clock = partial(declare, "Clock")
YEARS = dt.timedelta(days=365 * 6)


clock("clock-skew-ahead", "this machine's clock is six years ahead", clock=-YEARS)
clock("clock-skew-behind", "this machine's clock is six years behind", clock=YEARS)
clock("clock-skew-server", "the server's clock is two hours ahead", clock=dt.timedelta(hours=2))
