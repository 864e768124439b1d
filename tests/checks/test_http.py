"""Check `http`: who really answers, in front of real servers and of the embedded Bitbucket."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from diag.facts import Instance, ServerTime, Target, Wire
from diag.model import Status
from diag.report import Report
from diag.simulator.data import Instance as Bitbucket
from diag.simulator.datacenter import DataCenter
from diag.simulator.scenario import HOST, Answer, Gateway, Setup
from diag.simulator.server import (
    Connection,
    Request,
    Response,
    html,
    page,
    refuse_plain_http,
    talk_http,
)
from tests.certificates import root, server_context
from tests.given import run_check
from tests.tls_server import Server, serving

from .conftest import Meet, Met

STATUS, PROPERTIES = "/status", "/rest/api/latest/application-properties"
Site = Callable[[Request], Response]


def behind(gateway: Gateway) -> Callable[[Setup], None]:
    """The embedded Bitbucket, with this in front of it."""

    def change(setup: Setup) -> None:
        setup.gateway = gateway

    return change


def at(path: str, response: Callable[[], Response]) -> Callable[[Setup], None]:
    """The embedded Bitbucket, but this path is answered by somebody else."""

    def gateway(request: Request, forward: Answer) -> Response:
        return response() if request.path == path else forward(request)

    return behind(gateway)


def nginx(status: int, title: str, *headers: tuple[str, str]) -> Response:
    return html(status, page(f"{status} {title}", "nginx"), *headers, reason=title)


def asked(met: Met) -> list[str]:
    """What check `http` asked for: what was asked anonymously before anything else."""
    return [request.path for request in met.requests if request.authorization == "none"]


def bitbucket(context: str = "", **instance: Any) -> Site:
    """A Bitbucket that answers plain requests."""
    return DataCenter(
        Bitbucket(base_url="http://x" + context, context_path=context, **instance)
    ).answer


@contextmanager
def site(answer: Site) -> Iterator[Server]:
    with serving(talk_http(answer)) as server:
        yield server


def ask(server: Server | int, path: str = "", **options: Any) -> tuple[Report, list[Any]]:
    """Run check `http` alone, for an http:// URL."""
    port = server if isinstance(server, int) else server.port
    url = f"http://127.0.0.1:{port}{path}"
    target = Target(url, "http", "127.0.0.1", port, path)
    facts = [target, Wire(secure=False, verified=False)]
    report, seen = run_check("http", facts, url=url, **{"timeout": 1.0, **options})
    return report, seen


def outcome(talk: Callable[[Connection], None], **options: Any) -> str | None:
    """The root cause for a server that talks like this on an http:// port."""
    with serving(talk) as server:
        return ask(server, **options)[0].root_cause


# Bitbucket


def test_a_healthy_bitbucket_is_asked_twice(meet: Meet) -> None:
    met = meet(credential="anonymous", options={"only": ("http", "server", "version")})
    assert met.codes("http") == ["http-ok"]
    assert met.problems == []
    assert sorted(asked(met)) == [PROPERTIES, STATUS]
    assert {request.method for request in met.requests} == {"GET"}
    assert not any(request.cookie for request in met.requests)


def test_what_is_learned_of_it() -> None:
    before = time.time()
    with site(bitbucket("/bitbucket", version="9.4.1", state="RUNNING")) as server:
        report, seen = ask(server, "/bitbucket")
    assert report.problems == ()
    (instance,) = (fact for fact in seen if isinstance(fact, Instance))
    assert instance.base_url == f"http://127.0.0.1:{server.port}/bitbucket"
    assert instance.same_origin
    assert "X-AREQUESTID" in instance.marks
    assert instance.status.content == {"state": "RUNNING"}
    assert instance.properties.content is not None
    assert instance.properties.content["version"] == "9.4.1"
    assert instance.properties.code == 200
    assert instance.properties.request.endswith(PROPERTIES)
    assert instance.properties.request_id is not None
    assert not any(isinstance(fact, ServerTime) for fact in seen), "there was no Date"
    assert time.time() - before < 5


@pytest.mark.parametrize(("age", "trusted"), [(None, True), ("30", False)])
def test_the_servers_clock_is_read(age: str | None, trusted: bool) -> None:
    answer = bitbucket()

    def dated(request: Request) -> Response:
        response = answer(request)
        response.headers.append(("Date", "Tue, 01 Dec 2026 12:00:00 GMT"))
        response.headers += [("Age", age)] if age else []
        return response

    with site(dated) as server:
        _, seen = ask(server)
    times = [fact for fact in seen if isinstance(fact, ServerTime)]
    assert bool(times) is trusted
    for told in times:
        assert told.server == 1796126400.5
        assert abs(told.local - time.time()) < 5
        assert 0.5 <= told.uncertainty < 2


MARKS = ("x-", "vary", "set-cookie", "www-authenticate", "cache-control", "pragma")


def without_marks(request: Request, forward: Answer) -> Response:
    """A gateway that removes every header that could give Bitbucket away."""
    response = forward(request)
    response.headers = [h for h in response.headers if not h[0].lower().startswith(MARKS)]
    return response


def test_the_content_alone_is_proof_enough(meet: Meet) -> None:
    met = meet(behind(without_marks))
    assert met.check("http").findings[0].evidence["marks"] == ["application-properties"]
    assert met.problems == []


@pytest.mark.parametrize("state", ["MAINTENANCE", "STARTING", "FIRST_RUN", "ERROR"])
def test_a_state_without_any_mark_is_believed(meet: Meet, state: str) -> None:
    def change(setup: Setup) -> None:
        setup.instance.state = state
        setup.gateway = without_marks

    met = meet(change)
    assert met.codes("http") == ["http-ok"]
    assert met.report.root_cause is not None
    assert met.report.root_cause.startswith("server-")


def test_running_without_any_mark_is_asked_for_its_capabilities(meet: Meet) -> None:
    def gateway(request: Request, forward: Answer) -> Response:
        if request.path == PROPERTIES:
            return nginx(404, "Not Found")
        return without_marks(request, forward)

    met = meet(behind(gateway))
    assert met.check("http").findings[0].evidence["marks"] == ["capabilities"]
    assert met.report.root_cause == "version-unknown"


@pytest.mark.parametrize(
    "answer",
    [
        lambda: nginx(404, "Not Found"),
        lambda: nginx(403, "Forbidden"),
        lambda: nginx(502, "Bad Gateway"),
        lambda: html(200, page("Acme")),
        lambda: Response(301, [("Location", "https://login.example.com/")]),
        lambda: Response(200, wire=lambda connection, _response: connection.reset()),
    ],
)
def test_a_status_page_that_is_kept_back_is_no_fault(
    meet: Meet, answer: Callable[[], Response]
) -> None:
    met = meet(at(STATUS, answer))
    assert met.problems == []
    assert met.codes("server") == ["server-no-status"]


@pytest.mark.parametrize(
    "answer", [lambda: nginx(404, "Not Found"), lambda: html(200, page("Acme"))]
)
def test_without_properties_only_the_version_is_unknown(
    meet: Meet, answer: Callable[[], Response]
) -> None:
    met = meet(at(PROPERTIES, answer), credential="anonymous")
    assert met.codes("http") == ["http-ok"]
    assert met.report.root_cause == "version-unknown"
    assert met.check("server").status is Status.OK


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (lambda: nginx(502, "Bad Gateway"), "http-bad-gateway"),
        (lambda: nginx(401, "No", ("WWW-Authenticate", "Negotiate")), "http-gateway-auth"),
        (lambda: html(200, '<input type="password">'), "http-sso-login"),
        (lambda: html(403, "Your support ID is: 42"), "http-waf-blocked"),
        (lambda: Response(200, body=b"{", wire=None), "http-invalid-json"),
    ],
)
def test_somebody_who_keeps_only_the_rest_api_back_is_named(
    meet: Meet, answer: Callable[[], Response], code: str
) -> None:
    def json_typed() -> Response:
        response = answer()
        if not response.headers:
            response.headers.append(("Content-Type", "application/json"))
        return response

    met = meet(at(PROPERTIES, json_typed))
    assert met.report.root_cause == code


def test_one_connection_that_fails_is_not_held_against_the_server() -> None:
    """A gateway that allows one connection at a time: the other one is reset."""
    answer = talk_http(bitbucket())
    busy: list[Connection] = []

    def talk(connection: Connection) -> None:
        if busy:
            connection.reset()
            return
        busy.append(connection)
        answer(connection)

    with serving(talk) as server:
        report, seen = ask(server)
    assert report.problems == ()
    (instance,) = (fact for fact in seen if isinstance(fact, Instance))
    assert instance.status.content == {"state": "RUNNING"}
    assert instance.properties.content is not None


# the wrong place


@pytest.mark.parametrize(
    ("there", "typed"),
    [
        ("/bitbucket", ""),
        ("/stash", ""),
        ("", "/bitbucket"),
        ("", "/wrong/deeply"),
        ("/a", "/a/b"),
        ("/stash", "/bitbucket"),
    ],
)
def test_bitbucket_is_below_another_path(there: str, typed: str) -> None:
    with site(bitbucket(there)) as server:
        report, seen = ask(server, typed)
        right = f"http://127.0.0.1:{server.port}{there}"
    assert [problem.code for problem in report.problems] == ["http-context-path-missing"]
    assert report.problems[0].evidence["right_url"] == right
    assert right in report.problems[0].remedy
    assert not any(isinstance(fact, Instance) for fact in seen)


def test_another_product_at_the_root_does_not_hide_bitbucket_below_it() -> None:
    below = bitbucket("/bitbucket")

    def answer(request: Request) -> Response:
        if request.path.startswith("/bitbucket"):
            return below(request)
        return html(404, page("Dead link - Jira"), ("X-Seraph-LoginReason", "OUT"))

    with site(answer) as server:
        assert ask(server)[0].root_cause == "http-context-path-missing"


def test_a_path_that_nobody_knows_is_left_open() -> None:
    with site(bitbucket("/git")) as server:
        report, _ = ask(server)
    assert report.root_cause == "http-unclear"
    assert report.problems[0].status is Status.UNKNOWN
    assert "404" in report.problems[0].message


def test_bitbucket_that_says_itself_that_nothing_is_there() -> None:
    def answer(request: Request) -> Response:
        return Response(404, [("X-AREQUESTID", "@1VT0CNLx453x5668x0")])

    with site(answer) as server:
        report, _ = ask(server)
    assert report.root_cause == "http-unclear"
    assert "Bitbucket itself" in report.problems[0].message


def test_a_product_is_recognised_by_its_front_page() -> None:
    def answer(request: Request) -> Response:
        if request.path == "/":
            return Response(302, [("Location", "/home")])
        if request.path == "/home":
            return html(200, "<title>Gerrit Code Review</title>")
        return nginx(404, "Not Found")

    with site(answer) as server:
        report, _ = ask(server)
    assert report.root_cause == "http-other-product"
    assert "Gerrit" in report.problems[0].message


def test_another_atlassian_product_says_so_itself() -> None:
    def answer(request: Request) -> Response:
        bodies = {STATUS: '{"state":"RUNNING"}', "/rest/capabilities": '{"application":"crowd"}'}
        body = bodies.get(request.path)
        return html(200, body) if body else nginx(404, "Not Found")

    with site(answer) as server:
        report, _ = ask(server)
    assert report.root_cause == "http-other-product"
    assert "Crowd" in report.problems[0].message


def test_a_login_form_at_the_front_is_no_sign_on_before_bitbucket() -> None:
    def answer(request: Request) -> Response:
        if request.path == "/":
            return html(200, page("Acme shop", body='<input type="password">'))
        return nginx(404, "Not Found")

    with site(answer) as server:
        assert ask(server)[0].root_cause == "http-unclear"


def test_only_the_rest_api_is_kept_back(meet: Meet) -> None:
    def gateway(request: Request, forward: Answer) -> Response:
        kept = request.path == STATUS or request.path.startswith("/rest")
        return nginx(404, "Not Found") if kept else forward(request)

    met = meet(behind(gateway))
    assert met.report.root_cause == "http-waf-blocked"
    assert "REST API" in met.report.problems[0].message


# somebody on the way


def test_an_unknown_page_is_told_as_one() -> None:
    with site(lambda _request: html(200, page("Acme Portal"))) as server:
        report, _ = ask(server)
    assert report.root_cause == "http-block-page"
    assert "Acme Portal" in report.problems[0].message


def test_a_plain_403_is_somebody_on_the_way() -> None:
    with site(lambda _request: nginx(403, "Forbidden")) as server:
        report, _ = ask(server)
    assert report.root_cause == "http-waf-blocked"
    assert report.problems[0].owner == "network-admin"


@pytest.mark.parametrize("refusal", [403, 406, 405, 200, None])
def test_only_programs_are_kept_away(refusal: int | None) -> None:
    own = bitbucket()

    def answer(request: Request) -> Response:
        if request.headers["user-agent"].startswith("Mozilla/"):
            return own(request)
        if refusal is None:
            return Response(200, wire=lambda connection, _response: connection.close())
        return nginx(refusal, "No")

    with site(answer) as server:
        assert ask(server)[0].root_cause == "http-user-agent-blocked"


def test_a_method_that_is_forbidden() -> None:
    with site(lambda _request: nginx(405, "Not Allowed", ("Allow", "POST"))) as server:
        report, _ = ask(server)
    assert report.root_cause == "http-method-blocked"
    assert "POST" in report.problems[0].message


# limits


def limited(pause: float, *, status: int = 503) -> Site:
    """Bitbucket behind a gateway that lets one request through in so many seconds."""
    own = bitbucket()
    last = [0.0]

    def answer(request: Request) -> Response:
        if time.monotonic() - last[0] < pause:
            return nginx(status, "Service Temporarily Unavailable")
        last[0] = time.monotonic()
        return own(request)

    return answer


@pytest.mark.parametrize(("status", "pause"), [(503, 1.0), (503, 30.0), (429, 1.0)])
def test_a_gateways_limit_is_proven(status: int, pause: float) -> None:
    with site(limited(pause, status=status)) as server:
        report, _ = ask(server)
    assert report.root_cause == "http-gateway-rate-limited"


def test_a_refusal_of_one_path_is_no_limit(meet: Meet) -> None:
    met = meet(at(PROPERTIES, lambda: nginx(503, "Service Unavailable")))
    assert met.report.root_cause == "http-upstream-unavailable"


def test_one_refusal_that_does_not_come_back_is_no_limit() -> None:
    own = bitbucket()
    refused: list[str] = []

    def answer(request: Request) -> Response:
        if request.path == STATUS and not refused:
            refused.append(request.path)
            return nginx(503, "Service Temporarily Unavailable")
        return own(request)

    with site(answer) as server:
        report, _ = ask(server)
    assert report.problems == ()


# redirects


def redirecting(target: Callable[[Request], str], status: int = 301) -> Site:
    return lambda request: Response(status, [("Location", target(request))])


def test_a_redirect_that_adds_the_context_path() -> None:
    own = bitbucket("/git")

    def answer(request: Request) -> Response:
        if request.path.startswith("/git"):
            return own(request)
        return Response(302, [("Location", f"/git{request.target}")])

    with site(answer) as server:
        report, _ = ask(server)
    assert report.root_cause == "http-context-path-missing"
    assert str(report.problems[0].evidence["right_url"]).endswith("/git")


def test_a_redirect_that_forgets_what_was_asked_for() -> None:
    own = bitbucket("/git")

    def answer(request: Request) -> Response:
        if request.path.startswith("/git"):
            return own(request)
        return Response(302, [("Location", "/git/dashboard")])

    with site(answer) as server:
        assert ask(server)[0].root_cause == "http-context-path-missing"


def test_a_redirect_to_another_host() -> None:
    with site(bitbucket()) as new:
        old = redirecting(lambda request: f"http://localhost:{new.port}{request.target}")
        with site(old) as server:
            report, seen = ask(server)
        right = f"http://localhost:{new.port}"
    assert report.root_cause == "http-redirects-to-other-host"
    assert right in report.problems[0].message
    assert not any(isinstance(fact, Instance) for fact in seen)


@pytest.mark.parametrize(
    ("target", "code"),
    [
        (lambda request: request.target, "http-redirect-loop"),
        (lambda request: f"{request.target}x", "http-redirect-loop"),
        (lambda request: f"/login?next={request.path}", "http-sso-login"),
        (lambda _request: "https://acme.okta.com/app", "http-sso-login"),
        (lambda _request: "https://git.example.com/users/sign_in", "http-other-product"),
        (lambda _request: "https://gateway.zscaler.net/", "http-block-page"),
        (lambda _request: "http://nowhere.invalid/", "http-redirect-dead-host"),
        (lambda _request: "http://[bad", "http-redirect-dead-host"),
    ],
)
def test_where_redirects_lead(target: Callable[[Request], str], code: str) -> None:
    with site(redirecting(target)) as server:
        report, _ = ask(server)
    assert report.root_cause == code
    assert isinstance(report.problems[0].evidence["hops"], list)


def test_a_redirect_to_a_page_is_judged_by_the_page() -> None:
    def answer(request: Request) -> Response:
        if request.path == "/portal":
            return html(200, '<form><input type="password"></form>')
        return Response(302, [("Location", "/portal")])

    with site(answer) as server:
        assert ask(server)[0].root_cause == "http-sso-login"


def test_a_redirect_to_where_nothing_is() -> None:
    def answer(request: Request) -> Response:
        if request.path == "/gone":
            return nginx(404, "Not Found")
        return Response(302, [("Location", "/gone")])

    with site(answer) as server:
        report, _ = ask(server)
    assert report.root_cause == "http-unclear"
    assert "/gone" in report.problems[0].message


def test_the_way_to_https_is_gone_without_the_secret(meet: Meet) -> None:
    met = meet("http-redirects-to-https")
    assert met.problems == ["http-redirects-to-https"]
    assert met.codes("http") == ["http-redirects-to-https", "http-ok"]
    assert met.credentialed == []
    assert any(request.secure for request in met.requests)


def test_https_that_does_not_work_is_told_next_to_the_redirect(meet: Meet) -> None:
    met = meet("http-redirects-to-https", options={"ca_file": None})
    assert met.problems == ["http-unclear", "http-redirects-to-https"]
    assert "certificate" in met.report.problems[0].message


def test_nothing_is_asked_over_http_after_a_downgrade(meet: Meet) -> None:
    met = meet("http-downgrade-redirect")
    assert met.problems == ["http-downgrade-redirect"]
    assert all(request.secure for request in met.requests)
    assert met.credentialed == []


def test_bitbucket_that_was_never_set_up_redirects_itself(meet: Meet) -> None:
    met = meet("server-setup-incomplete")
    assert met.codes("http") == ["http-ok"]


# beneath HTTP, for http:// URLs


GOOD = root().issue(HOST)


def tls_or(refuse: Callable[[Connection], None]) -> Callable[[Connection], None]:
    """A TLS port, and what it does when it is asked over plain HTTP."""

    def talk(connection: Connection) -> None:
        if connection.peek()[:1] == b"\x16":
            connection.start_tls(server_context(GOOD))
            connection.swallow()
        else:
            refuse(connection)

    return talk


def send(data: bytes) -> Callable[[Connection], None]:
    def talk(connection: Connection) -> None:
        connection.receive()
        connection.send(data)

    return talk


def greet(connection: Connection) -> None:
    connection.send(b"SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n")
    connection.swallow()


def hang_after_reading(connection: Connection) -> None:
    """A web server whose application hangs: nonsense it refuses itself."""
    request = connection.receive()
    if not request.startswith(b"GET ") or b"HTTP/1.1" not in request:
        connection.send(b"HTTP/1.1 505 HTTP Version Not Supported\r\nContent-Length: 0\r\n\r\n")
        return
    connection.swallow()


@pytest.mark.parametrize(
    ("talk", "code"),
    [
        (tls_or(refuse_plain_http), "http-on-tls-port"),
        (tls_or(send(b"\x15\x03\x01\x00\x02\x02\x46")), "http-on-tls-port"),
        (tls_or(Connection.reset), "http-on-tls-port"),
        (tls_or(lambda _connection: None), "http-on-tls-port"),
        (Connection.reset, "tcp-reset-after-accept"),
        (lambda _connection: None, "tcp-closed-after-accept"),
        (Connection.swallow, "tcp-silent-after-accept"),
        (greet, "tcp-wrong-service-ssh"),
        (send(b""), "http-empty-reply"),
        (hang_after_reading, "http-response-timeout"),
        (send(b"220 mail.example.com ESMTP\r\n"), "http-unclear"),
    ],
)
def test_a_port_that_does_not_answer_plain_http(
    talk: Callable[[Connection], None], code: str
) -> None:
    assert outcome(talk, timeout=1.0) == code


def test_the_banner_of_ssh_is_told() -> None:
    with serving(greet) as server:
        report, _ = ask(server)
    assert "OpenSSH_9.2p1" in report.problems[0].message


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (lambda: nginx(503, "Service Unavailable"), "http-upstream-unavailable"),
        (lambda: nginx(504, "Gateway Time-out"), "http-gateway-timeout"),
        (lambda: nginx(404, "Not Found"), "http-response-timeout"),
    ],
)
def test_a_gateway_that_tries_for_long_is_heard(answer: Callable[[], Response], code: str) -> None:
    """haproxy says only after three seconds that its server does not take connections."""

    def late(_request: Request) -> Response:
        time.sleep(0.8)
        return answer()

    with site(late) as server:
        report, _ = ask(server, timeout=0.6)
    assert [problem.code for problem in report.problems] == [code]


# how it ends


def test_a_run_that_is_over_accuses_nobody() -> None:
    with serving(Connection.swallow) as server:
        report, _ = ask(server, timeout=3.0, deadline=0.8)
    assert report.root_cause == "check-unfinished"


@pytest.mark.parametrize("size", [0, 10_000_000])
def test_an_endless_body_ends_soon(size: int) -> None:
    def talk(connection: Connection) -> None:
        connection.receive()
        length = f"Content-Length: {size}\r\n" if size else ""
        connection.send(f"HTTP/1.1 200 OK\r\n{length}\r\n".encode())
        while True:
            connection.send(b" " * 65536)

    with serving(talk) as server:
        report, _ = ask(server)
    assert report.root_cause == "http-slow-body"
    assert report.run.duration_ms < 10_000


def test_a_port_that_was_closed_meanwhile_is_left_open() -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        report, _ = ask(sock.getsockname()[1])
    assert report.root_cause == "http-unclear"
    assert "refused" in report.problems[0].message


def test_the_simulators_secret_never_went_out(meet: Meet) -> None:
    """Whoever it is that answers, no secret was sent before it was Bitbucket."""
    for code in ("http-other-product", "http-block-page", "http-gateway-auth", "http-sso-login"):
        assert meet(code).credentialed == []
