"""The HTTP client against real sockets: what comes back, and when the secret is sent."""

from __future__ import annotations

import gzip
import pickle
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from diag.context import Run
from diag.facts import Credential, Target, Wire
from diag.net import tcp
from diag.net.dial import Forwarder
from diag.net.http import USER_AGENT, Answer, Http
from diag.net.tls import Trust
from diag.secret import Scrubber, Secret
from diag.simulator.server import Connection, Request, Response, talk_http
from tests.certificates import root, server_context
from tests.conftest import make_settings
from tests.tls_server import Server, serving

HOST = "bitbucket.example.com"
TOKEN = "BBDC-not-a-secret-but-shaped-like-one"
ROOT = root()
GOOD = ROOT.authority("Example Corp Issuing CA 1").issue(HOST)
Site = Callable[[Request], Response]


class Client(Http):
    """`Http` with the run behind it at hand."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.timings: list[tuple[str, str]] = []
        super().__init__(run.http, lambda what, detail, *_: self.timings.append((what, detail)))


@contextmanager
def client(
    url: str,
    *,
    token: str | None = None,
    user: str | None = None,
    wire: Wire | None = None,
    **options: Any,
) -> Iterator[Client]:
    """A client for a run against `url`, as it is when TLS is up and verified."""
    scrubber = Scrubber()
    run = Run(make_settings(url, **{"timeout": 2.0, **options}), scrubber)
    scheme, _, rest = url.partition("://")
    host, _, port = rest.partition("/")[0].partition(":")
    secure = scheme == "https"
    run.facts[Target] = Target(
        url, "https" if secure else "http", host, int(port or (443 if secure else 80))
    )
    run.facts[Wire] = wire or Wire(secure=secure, verified=secure)
    secret = None if token is None else Secret(token)
    scrubber.learn(secret, [user])
    run.facts[Credential] = Credential(secret, "basic" if user else "bearer", user)
    try:
        yield Client(run)
    finally:
        run.close()


@contextmanager
def site(answer: Site, context: ssl.SSLContext | None = None) -> Iterator[Server]:
    """A web server that remembers what it was asked."""
    requests: list[Request] = []

    def remember(request: Request) -> Response:
        requests.append(request)
        return answer(request)

    with serving(talk_http(remember, context)) as server:
        server.requests = requests
        yield server


def fine(_request: Request) -> Response:
    return Response(200, [("Content-Type", "application/json;charset=UTF-8")], b'{"a": 1}')


def says(data: bytes, then: Callable[[Connection], None] | None = None) -> Any:
    """A server that reads a request and answers with these bytes, whatever they are."""

    def talk(connection: Connection) -> None:
        connection.receive()
        connection.send(data)
        if then is not None:
            then(connection)

    return talk


def get(talk: Callable[[Connection], None], **options: Any) -> Answer:
    """What the client makes of a server like that."""
    asking = {name: options.pop(name) for name in ("max_bytes", "method") if name in options}
    with serving(talk) as server, client(f"http://127.0.0.1:{server.port}", **options) as http:
        return http.get("/status", **asking)


@pytest.fixture
def ca_file(tmp_path: Path) -> str:
    file = tmp_path / "ca.pem"
    file.write_bytes(ROOT.pem)
    return str(file)


def rule(server: Server, host: str = HOST, port: int = 443) -> tuple[str]:
    return (f"{host}:{port}:127.0.0.1:{server.port}",)


# whole answers


def test_a_whole_answer() -> None:
    def answer(_request: Request) -> Response:
        headers = [("X-Twice", "one"), ("x-twice", "two"), ("Content-Type", "Text/HTML; x=y")]
        return Response(404, headers, "grüß".encode())

    with site(answer) as server, client(f"http://127.0.0.1:{server.port}") as http:
        before = time.time()
        got = http.get("/status")
    assert (got.status, got.failure, got.method) == (404, None, "GET")
    assert got.url == f"http://127.0.0.1:{server.port}/status"
    assert got.header("X-TWICE") == "one, two"
    assert got.headers.all("x-twice") == ["one", "two"]
    assert "content-type" in got.headers
    assert got.content_type == "text/html"
    assert got.text() == "grüß"
    assert got.json() is None
    assert before <= got.at <= time.time()
    assert 0 <= got.head_ms <= got.elapsed_ms
    (request,) = server.requests
    assert request.headers["user-agent"] == USER_AGENT
    assert request.headers["accept"] == "application/json"
    assert "authorization" not in request.headers
    assert http.timings == [
        ("connect", f"127.0.0.1 {server.port}"),
        ("request", f"GET {got.url}"),
    ]
    assert http.run.http.requests == 1


def test_paths_are_below_the_base_and_parameters_are_encoded() -> None:
    with site(fine) as server, client(f"http://127.0.0.1:{server.port}") as http:
        http.base = f"http://127.0.0.1:{server.port}/bitbucket"
        got = http.get("/rest/api/1.0/repos", query={"name": "a&b c", "limit": 1})
        http.get("/x?go=http://127.0.0.1:1/", query=[("permission", "A"), ("permission", "B")])
    assert got.json() == {"a": 1}
    first, second = server.requests
    assert (first.path, first.query) == ("/bitbucket/rest/api/1.0/repos", "name=a%26b+c&limit=1")
    assert second.path == "/bitbucket/x"
    assert second.query == "go=http://127.0.0.1:1/&permission=A&permission=B"


def test_head_has_no_body() -> None:
    with site(fine) as server, client(f"http://127.0.0.1:{server.port}") as http:
        got = http.get("/status", method="HEAD")
    assert (got.status, got.body, got.failure) == (200, b"", None)
    assert server.requests[0].method == "HEAD"


def test_redirects_are_not_followed_and_cookies_not_kept() -> None:
    def answer(_request: Request) -> Response:
        return Response(302, [("Location", "/elsewhere"), ("Set-Cookie", "BITBUCKETSESSIONID=1")])

    with site(answer) as server, client(f"http://127.0.0.1:{server.port}") as http:
        assert http.get("/status").header("location") == "/elsewhere"
        http.get("/status")
    assert [request.path for request in server.requests] == ["/status", "/status"]
    assert all("cookie" not in request.headers for request in server.requests)


@pytest.mark.parametrize("location", ["http://[bad", "https://host:99999/", "ftp://x/", ""])
def test_a_bad_location_is_only_told(location: str) -> None:
    head = f"HTTP/1.1 302 Found\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n"
    got = get(says(head.encode()))
    assert (got.status, got.failure, got.header("location")) == (302, None, location)


def test_an_error_that_comes_before_the_request_was_read() -> None:
    def talk(connection: Connection) -> None:
        connection.send(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 2\r\n\r\nno")

    got = get(talk)
    assert (got.status, got.body, got.failure) == (400, b"no", None)


def test_a_compressed_body_nobody_asked_for_is_read() -> None:
    body = gzip.compress(b'{"a": 2}')
    head = f"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: {len(body)}\r\n\r\n"
    assert get(says(head.encode() + body)).json() == {"a": 2}


# failures


def hang(connection: Connection) -> None:
    connection.swallow()


def drip(data: bytes) -> Callable[[Connection], None]:
    """One byte at a time, slower than anybody would."""

    def talk(connection: Connection) -> None:
        while True:
            connection.send(data)
            connection.wait(0.1)

    return talk


def flood(connection: Connection, data: bytes = b"x" * 65536) -> None:
    while True:
        connection.send(data)


def interim(connection: Connection) -> None:
    flood(connection, b"HTTP/1.1 100 Continue\r\n\r\n" * 1000)


BOMB = gzip.compress(bytes(50_000_000))


HEAD = b"HTTP/1.1 200 OK\r\n"
FAILURES: dict[str, tuple[str, int | None, Callable[[Connection], None]]] = {
    "closed": ("empty", None, says(b"")),
    "closed at once": ("empty", None, lambda _connection: None),
    "reset": ("reset", None, says(b"", Connection.reset)),
    "no answer": ("timeout", None, hang),
    "head in drips": ("timeout", None, says(HEAD, drip(b"X"))),
    "cut": ("truncated", 200, says(HEAD + b"Content-Length: 500\r\n\r\n12345678")),
    "cut chunks": ("truncated", 200, says(HEAD + b"Transfer-Encoding: chunked\r\n\r\nff\r\nx")),
    "reset body": (
        "truncated",
        200,
        says(HEAD + b"Content-Length: 9\r\n\r\nx", Connection.reset),
    ),
    "body in drips": ("slow", 200, says(HEAD + b"Content-Length: 999\r\n\r\n", drip(b"x"))),
    "endless body": ("endless", 200, says(HEAD + b"\r\n", flood)),
    "endless headers": ("headers-too-large", None, says(HEAD + b"X: ", flood)),
    "not gzip": (
        "not-http",
        200,
        says(HEAD + b"Content-Encoding: gzip\r\nContent-Length: 4\r\n\r\nnope"),
    ),
    "a body that flows on": ("slow", 200, says(HEAD + b"\r\n", drip(bytes(2000)))),
    "endless interim answers": ("timeout", None, says(b"", interim)),
    "much in little": ("endless", 200, says(HEAD + b"Content-Encoding: gzip\r\n\r\n" + BOMB)),
    "ssh": ("not-http", None, says(b"SSH-2.0-OpenSSH_9.2p1\r\n", hang)),
    "TLS alert": ("not-http", None, says(b"\x15\x03\x01\x00\x02\x02\x46")),
    "nonsense": ("not-http", None, says(HEAD + b"no header\r\n\r\n")),
}


@pytest.mark.parametrize("name", FAILURES)
def test_a_failure(name: str) -> None:
    failure, status, talk = FAILURES[name]
    timeout = 0.5 if failure in {"timeout", "slow"} else 10.0
    got = get(talk, timeout=timeout, max_bytes=300_000)
    assert (got.failure, got.status) == (failure, status), got.detail
    assert got.detail or failure == "reset"


def test_a_greeting_is_kept() -> None:
    got = get(says(b"SSH-2.0-OpenSSH_9.2p1\r\n", hang))
    assert got.greeting == b"SSH-2.0-OpenSSH_9.2p1\r\n"
    assert get(says(HEAD + b"Content-Length: 0\r\n\r\n")).greeting == b""


def test_a_large_body_that_flows_may_take_longer_than_the_timeout() -> None:
    def trickle(connection: Connection) -> None:
        for _ in range(10):
            connection.send(b"x" * 1000)
            connection.wait(0.15)

    got = get(says(HEAD + b"Content-Length: 10000\r\n\r\n", trickle), timeout=1.0)
    assert (got.failure, len(got.body)) == (None, 10_000)


def test_nothing_listens() -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        with client(f"http://127.0.0.1:{sock.getsockname()[1]}") as http:
            got = http.get("/status")
    assert (got.failure, got.status) == ("connect", None)
    assert "refused" in got.detail


@pytest.mark.parametrize(
    "url", ["ftp://host/", "mailto:x@y", "http://a b/", "http://host:99999/", "https:///", "x"]
)
def test_an_address_that_is_none(url: str) -> None:
    with client("http://127.0.0.1:1", token=TOKEN) as http:
        for auth in (False, True):
            assert http.get(url, auth=auth).failure == "connect"
        assert http.run.http.requests == 0


def test_the_deadline_is_not_held_against_the_server() -> None:
    with serving(hang) as server:
        with client(f"http://127.0.0.1:{server.port}", deadline=0.6, timeout=2.0) as http:
            assert http.get("/status").failure == "deadline"
            assert http.run.remaining() == 0
            sent = http.run.http.requests
            assert http.get("/status").failure == "deadline"
            assert http.run.http.requests == sent
        with client(f"http://127.0.0.1:{server.port}", deadline=9.0, timeout=0.2) as http:
            assert http.get("/status").failure == "timeout"


# connections


def test_a_connection_is_kept_and_a_fresh_one_is_not() -> None:
    with site(fine) as server, client(f"http://127.0.0.1:{server.port}") as http:
        for _ in range(3):
            assert http.get("/status").status == 200
        assert server.connections == 1
        for _ in range(2):
            assert http.get("/status", fresh=True).status == 200
        assert server.connections == 3
        assert http.get("/status").status == 200
        assert server.connections == 3


def test_the_parked_connection_is_used_first() -> None:
    with site(fine) as server, client(f"http://127.0.0.1:{server.port}") as http:
        dialer = http.run.dialer
        dialer.park("127.0.0.1", server.port, dialer.connect("127.0.0.1", server.port, 1))
        assert http.get("/status").status == 200
        assert server.connections == 1


def test_a_kept_connection_that_has_ended_is_replaced() -> None:
    def once(connection: Connection) -> None:
        connection.receive()
        connection.send(HEAD + b"Content-Length: 0\r\n\r\n")
        connection.receive()  # the second request meets a closed connection
        connection.reset()

    with serving(once) as server, client(f"http://127.0.0.1:{server.port}") as http:
        assert http.get("/status").failure is None
        assert http.get("/status").failure is None
        assert server.connections == 2


def test_a_fresh_connection_is_not_tried_twice() -> None:
    with serving(says(b"")) as server, client(f"http://127.0.0.1:{server.port}") as http:
        assert http.get("/status").failure == "empty"
        assert server.connections == 1


# TLS


def test_tls_is_verified(ca_file: str) -> None:
    with site(fine, server_context(GOOD)) as server:
        with client(f"https://{HOST}", ca_file=ca_file, connect_to=rule(server)) as http:
            assert http.get("/status").status == 200
        with client(f"https://{HOST}", connect_to=rule(server)) as http:
            got = http.get("/status")
            assert (got.failure, got.status) == ("tls", None)
            assert "certificate" in got.detail
            assert http.get("/status", verify=False).status == 200
        # --insecure: check `tls` found the certificate bad, and the user wants to go on
        unverified = Wire(secure=True, verified=False)
        with client(f"https://{HOST}", connect_to=rule(server), wire=unverified) as http:
            assert http.get("/status").status == 200
        absolute = f"{HOST}."  # as DNS may write it; certificates do not
        rules = rule(server, absolute)
        with client(f"https://{absolute}", ca_file=ca_file, connect_to=rules) as http:
            assert http.get("/status").status == 200
        wrong = "other.example.com"
        with client(f"https://{wrong}", ca_file=ca_file, connect_to=rule(server, wrong)) as http:
            assert http.get("/status").failure == "tls"


def test_what_is_parked_when_the_run_is_over_is_closed() -> None:
    """By a check that was still at it, and was left behind."""
    with site(fine) as server, client(f"http://127.0.0.1:{server.port}") as http:
        dialer = http.run.dialer
        early = dialer.connect("127.0.0.1", server.port, 5)
        late = dialer.connect("127.0.0.1", server.port, 5)
        dialer.park("127.0.0.1", server.port, early)
        http.run.close()
        dialer.park("127.0.0.1", server.port, late)
        assert (early.fileno(), late.fileno()) == (-1, -1)
        assert dialer.take("127.0.0.1", server.port) is None


def park(http: Client, context: ssl.SSLContext, name: str) -> None:
    """Park a TLS connection as another layer might."""
    sock = http.run.dialer.connect(HOST, 443, 1, fresh=True)
    http.run.dialer.park(HOST, 443, context.wrap_socket(sock, server_hostname=name))


def test_a_parked_tls_connection_is_used_if_it_was_verified_for_this_host(ca_file: str) -> None:
    trust = Trust(ca_file, {})
    with (
        site(fine, server_context(GOOD)) as server,
        client(f"https://{HOST}", ca_file=ca_file, connect_to=rule(server)) as http,
    ):
        park(http, trust.context(), HOST)
        assert http.get("/status").status == 200
        assert server.connections == 1


@pytest.mark.parametrize("name", [HOST, "proxy.example.com"])
def test_parked_tls_with_somebody_else_or_unverified_is_dropped(name: str, ca_file: str) -> None:
    with (
        site(fine, server_context(GOOD)) as server,
        client(f"https://{HOST}", token=TOKEN, ca_file=ca_file, connect_to=rule(server)) as http,
    ):
        park(http, Trust(ca_file, {}).unverified(), name)
        assert http.get("/status", auth=True).credential_sent
        assert server.connections == 2
        assert len(server.requests) == 1


def test_plain_http_never_travels_inside_parked_tls(ca_file: str) -> None:
    with (
        site(fine, server_context(GOOD)) as server,
        client(f"https://{HOST}", ca_file=ca_file, connect_to=rule(server)) as http,
    ):
        park(http, Trust(ca_file, {}).context(), HOST)
        assert http.get(f"http://{HOST}:443/status").status == 400  # the port says: speak TLS
        assert server.requests == []


# the secret


def asked(server: Server) -> list[str | None]:
    return [request.headers.get("authorization") for request in server.requests]


def test_the_secret_goes_where_the_user_typed(ca_file: str) -> None:
    with site(fine) as server, client(f"http://127.0.0.1:{server.port}", token=TOKEN) as http:
        got = http.get("/status", auth=True)
        assert got.credential_sent
        assert not http.get("/status").credential_sent
        assert asked(server) == [f"Bearer {TOKEN}", None]
    with (
        site(fine, server_context(GOOD)) as server,
        client(
            f"https://{HOST}", token="pw", user="jdoe", ca_file=ca_file, connect_to=rule(server)
        ) as http,
    ):
        assert http.get(f"https://{HOST.upper()}:443/status", auth=True).status == 200
        assert asked(server) == ["Basic amRvZTpwdw=="]


def test_the_secret_goes_nowhere_else() -> None:
    typed, other = "bitbucket.example.com:8080", "evil.example.com:8080"
    with site(fine) as server:
        rules = tuple(
            f"{place}:127.0.0.1:{server.port}"
            for place in (typed, other, "bitbucket.example.com:8081", "bitbucket.example.com.:8080")
        )
        with client(f"http://{typed}", token=TOKEN, connect_to=rules) as http:
            for url in (
                f"http://{other}/status",
                "http://bitbucket.example.com:8081/status",
                "https://bitbucket.example.com:8080/status",
                "http://bitbucket.example.com.:8080/status",
                f"http://{typed}@{other}/status",
                f"http://{other}#@{typed}/status",
                f"http://{other}?@{typed}/status",
            ):
                got = http.get(url, auth=True)
                assert (got.failure, got.credential_sent) == ("withheld", False), url
            assert server.connections == 0
            # Browsers go to the first name of this one, httpx goes to the second: what counts is
            # where the request really goes.
            assert http.get(f"http://{other}\\@{typed}/status", auth=True).status == 200
            assert server.requests[0].headers["host"] == typed
            http.base = f"http://{other}"
            assert http.get("/status", auth=True).failure == "withheld"
            assert http.get("/status").status == 200
        assert asked(server) == [f"Bearer {TOKEN}", None]


def test_the_secret_goes_over_tls_only_if_that_was_verified(ca_file: str) -> None:
    with site(fine, server_context(GOOD)) as server:
        options: dict[str, Any] = {"ca_file": ca_file, "connect_to": rule(server), "token": TOKEN}
        with client(f"https://{HOST}", **options, wire=Wire(secure=True, verified=False)) as http:
            assert http.get("/status", auth=True).failure == "withheld"
        with client(f"https://{HOST}", **options) as http:
            assert http.get("/status", auth=True, verify=False).failure == "withheld"
            del http.run.facts[Wire]
            assert http.get("/status", auth=True).failure == "withheld"
        assert server.connections == 0
        # verified once, but the next connection meets a certificate that is not trusted
        options["ca_file"] = None
        with client(f"https://{HOST}", **options) as http:
            got = http.get("/status", auth=True)
            assert (got.failure, got.credential_sent) == ("tls", False)
        assert server.requests == []


def test_the_secret_is_never_sent_again_after_a_401() -> None:
    def refuse(request: Request) -> Response:
        return Response(401 if "authorization" in request.headers else 200)

    with site(refuse) as server, client(f"http://127.0.0.1:{server.port}", token=TOKEN) as http:
        assert http.get("/one", auth=True).status == 401
        for fresh in (False, True):
            again = http.get("/two", auth=True, fresh=fresh)
            assert (again.failure, again.credential_sent) == ("withheld", False)
        assert http.get("/three").status == 200
    assert asked(server) == [f"Bearer {TOKEN}", None]


def test_each_request_on_a_kept_connection_has_its_own_headers() -> None:
    with site(fine) as server, client(f"http://127.0.0.1:{server.port}", token=TOKEN) as http:
        for signed in (True, True, False, True, False):
            assert http.get("/status", auth=signed).credential_sent is signed
        assert http.get("/status", headers={"Accept": "text/plain"}).failure is None
        assert server.connections == 1
    sent = [request.headers.get("authorization") for request in server.requests]
    signature = f"Bearer {TOKEN}"
    assert sent == [signature, signature, None, signature, None, None]
    accepted = [request.headers["accept"] for request in server.requests]
    assert accepted == ["application/json"] * 5 + ["text/plain"]


def test_an_anonymous_401_says_nothing_about_the_secret() -> None:
    def refuse(request: Request) -> Response:
        return Response(200 if "authorization" in request.headers else 401)

    with site(refuse) as server, client(f"http://127.0.0.1:{server.port}", token=TOKEN) as http:
        assert http.get("/one").status == 401
        assert http.get("/two", auth=True).status == 200


def test_a_401_counts_from_its_first_line_on() -> None:
    """Its body may take seconds, and what waits for a connection meanwhile must not go out."""
    heads: list[bytes] = []
    waiting, go = threading.Event(), threading.Event()

    def talk(connection: Connection) -> None:
        heads.append(connection.receive())
        connection.send(b"HTTP/1.1 401 No\r\nContent-Length: 1000\r\n\r\n")
        connection.swallow()

    with (
        serving(talk) as server,
        client(f"http://127.0.0.1:{server.port}", token=TOKEN, timeout=5.0) as http,
    ):
        connect = http.run.dialer.connect

        def connect_late(*arguments: Any, **options: Any) -> socket.socket:
            if threading.current_thread().name == "late":
                waiting.set()
                go.wait(5)
            return connect(*arguments, **options)

        http.run.dialer.connect = connect_late  # type: ignore[method-assign]
        late: list[Answer] = []
        second = threading.Thread(
            target=lambda: late.append(http.get("/two", auth=True)), name="late"
        )
        second.start()
        assert waiting.wait(5)
        first = threading.Thread(
            target=http.get, args=("/one",), kwargs={"auth": True}, daemon=True
        )
        first.start()
        end = time.monotonic() + 5
        while not http.run.http.fuse_blown and time.monotonic() < end:
            time.sleep(0.01)
        assert first.is_alive(), "the body of the 401 is still awaited"
        go.set()
        second.join()
    assert [b"Bearer" in head for head in heads if head] == [True]
    assert (late[0].failure, late[0].credential_sent) == ("withheld", False)


def test_without_a_secret_nothing_is_asked_in_its_name() -> None:
    with site(fine) as server, client(f"http://127.0.0.1:{server.port}") as http:
        assert http.get("/status", auth=True).failure == "withheld"
        assert server.connections == 0


def test_user_information_in_a_url_is_not_sent() -> None:
    with site(fine) as server, client(f"http://127.0.0.1:{server.port}", token=TOKEN) as http:
        got = http.get(f"http://joe:{TOKEN}@127.0.0.1:{server.port}/status")
        assert got.url == f"http://127.0.0.1:{server.port}/status"
        assert http.get(f"http://a:b@127.0.0.1:{server.port}/x", auth=True).status == 200
    assert asked(server) == [None, f"Bearer {TOKEN}"]


@pytest.mark.parametrize("bad", [f"{TOKEN}\nX: y", f"{TOKEN}\0", f"\x7f{TOKEN}\r"])
def test_a_secret_that_cannot_be_sent_is_not_told_either(bad: str) -> None:
    with site(fine) as server, client(f"http://127.0.0.1:{server.port}", token=bad) as http:
        got = http.get("/status", auth=True)
        assert (got.failure, got.credential_sent) == ("withheld", False)
        assert "not-a-secret" not in f"{got!r} {got.detail}"
    assert server.requests == []


def test_the_secret_stands_in_no_object() -> None:
    def echo(request: Request) -> Response:
        return Response(200, [("Content-Type", "text/plain")], b"fine")

    with ExitStack() as stack:
        server = stack.enter_context(site(echo))
        http = stack.enter_context(client(f"http://127.0.0.1:{server.port}", token=TOKEN))
        got = http.get("/status", auth=True)
        assert got.credential_sent
        for thing in (
            got,
            http,
            http.run.http,
            http.run.facts,
            vars(http.run),
            vars(http.run.http),
        ):
            assert TOKEN not in repr(thing)
        assert TOKEN.encode() not in pickle.dumps((got.url, got.headers.raw, got.detail, got.body))
        failed = http.get(f"http://127.0.0.1:1/{TOKEN}")
        assert failed.failure == "connect"
        assert TOKEN not in failed.detail


# answers that are late


def late(seconds: float) -> Site:
    def answer(request: Request) -> Response:
        time.sleep(seconds)
        return fine(request)

    return answer


def test_a_late_head_goes_on_being_awaited_where_it_is() -> None:
    with site(late(0.6)) as server, client(f"http://127.0.0.1:{server.port}", timeout=0.2) as http:
        got = http.get("/status", linger=3.0)
        assert (got.status, got.failure) == (None, "timeout")
        assert got.later is not None
        after_all = got.later(3.0)
        assert after_all is not None
        assert (after_all.status, after_all.failure) == (200, None)
        assert (len(server.requests), http.run.http.requests) == (1, 1)
        assert http.get("/status").later is None


def test_lingering_changes_nothing_for_who_answers_in_time() -> None:
    with site(fine) as server, client(f"http://127.0.0.1:{server.port}") as http:
        got = http.get("/status", linger=1.0)
        assert (got.status, got.failure, got.later) == (200, None, None)


def test_lingering_ends() -> None:
    with site(late(1.5)) as server, client(f"http://127.0.0.1:{server.port}", timeout=0.2) as http:
        got = http.get("/status", linger=0.2)
        assert got.later is not None
        after_all = got.later(3.0)
        assert after_all is not None
        assert after_all.failure == "timeout"


def test_lingering_ends_with_the_run() -> None:
    with (
        site(late(1.5)) as server,
        client(f"http://127.0.0.1:{server.port}", timeout=5.0, deadline=0.6) as http,
    ):
        assert http.get("/status", linger=5.0).failure == "deadline"


def test_a_connection_that_was_opened_ahead_is_used(ca_file: str) -> None:
    """The tickets that a server sends after a handshake of TLS 1.3 are no end of the connection."""
    with (
        site(fine, server_context(GOOD)) as server,
        client(f"https://{HOST}", ca_file=ca_file, connect_to=rule(server)) as http,
    ):
        http.open_ahead("127.0.0.1", 2.0, 1)
        until = time.monotonic() + 5
        while server.connections < 1 and time.monotonic() < until:
            time.sleep(0.01)
        time.sleep(0.2)  # for handshake and tickets
        for _ in range(2):
            assert http.get("/status").status == 200
        assert server.connections == 1


def test_a_connection_is_kept_whatever_its_number() -> None:
    """select() would refuse a descriptor above 1023, of which a fleet has many."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < 2048:
        pytest.skip("this machine allows too few open files")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 2048), hard))
    taken: list[socket.socket] = []
    try:
        while not taken or taken[-1].fileno() < 1100:
            taken.append(socket.socket())
        with site(fine) as server, client(f"http://127.0.0.1:{server.port}") as http:
            for _ in range(3):
                assert http.get("/status").status == 200
            assert server.connections == 1
    finally:
        for sock in taken:
            sock.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


# several under way, asked for by one thread


def test_requests_are_under_way_before_their_answers_are_read() -> None:
    together = threading.Barrier(3, timeout=5)

    def answer(request: Request) -> Response:
        together.wait()  # passed only when all three are under way
        return Response(200, [], request.path.encode())

    with site(answer) as server, client(f"http://127.0.0.1:{server.port}") as http:
        begun = [http.begin(f"/{number}") for number in range(3)]
        assert [one.answer().body for one in begun if one] == [b"/0", b"/1", b"/2"]
        assert http.run.http.requests == 3
    assert [what for what, _ in http.timings].count("request") == 3


def test_an_answer_has_its_time_when_its_turn_comes() -> None:
    """Others may take long to be read: it has been there meanwhile."""
    with site(fine) as server, client(f"http://127.0.0.1:{server.port}", timeout=0.3) as http:
        one = http.begin("/status")
        time.sleep(0.4)
        assert one is not None
        assert one.answer().failure is None


def test_what_nobody_needs_is_not_waited_for() -> None:
    over = threading.Event()

    def answer(request: Request) -> Response:
        if request.path == "/late":
            over.wait(5)
        return fine(request)

    with site(answer) as server, client(f"http://127.0.0.1:{server.port}", timeout=0.5) as http:
        late, soon = http.begin("/late"), http.begin("/soon")
        assert late is not None
        assert soon is not None
        assert late.skim().failure == "timeout"
        before = time.monotonic()
        assert soon.skim().failure is None  # its own time is over, but it was there
        assert time.monotonic() - before < 0.3
        over.set()


def test_a_kept_connection_that_ends_under_a_request_ahead_is_replaced() -> None:
    """But not for an answer that nobody needs."""

    def talk(connection: Connection) -> None:
        connection.receive()
        connection.send(HEAD + b"Content-Length: 0\r\n\r\n")
        connection.receive()
        connection.reset()

    for wanted, failure in ((True, None), (False, "reset")):
        with serving(talk) as server, client(f"http://127.0.0.1:{server.port}") as http:
            assert http.get("/first").failure is None
            begun = http.begin("/second")
            assert begun is not None
            assert (begun.answer() if wanted else begun.skim()).failure == failure
            assert server.connections == (2 if wanted else 1)


def test_a_refusal_that_nobody_needs_counts_as_well() -> None:
    def refuse(_request: Request) -> Response:
        return Response(401)

    with site(refuse) as server, client(f"http://127.0.0.1:{server.port}", token=TOKEN) as http:
        one = http.begin("/status", auth=True)
        assert one is not None
        assert one.skim().status == 401
        again = http.begin("/status", auth=True)
        assert again is not None
        assert again.answer().failure == "withheld"
        assert len(server.requests) == 1


def test_where_there_is_no_connection_nothing_is_under_way() -> None:
    with site(fine) as server:
        port = server.port
    with client(f"http://127.0.0.1:{port}") as http:
        assert http.begin("/status") is None


def test_through_a_proxy_that_takes_requests_whole_they_are_under_way_too() -> None:
    together = threading.Barrier(2, timeout=5)

    def answer(request: Request) -> Response:
        together.wait()
        return Response(200, [], request.target.encode())

    with site(answer) as server, client(f"http://{HOST}") as http:
        to_proxy = Forwarder(lambda _host, _port, wait: tcp.connect("127.0.0.1", server.port, wait))
        http.run.dialer.forward(HOST, 80, to_proxy)
        begun = [http.begin(f"/{number}") for number in range(2)]
        assert [one.answer().body for one in begun if one] == [
            f"http://{HOST}/{number}".encode() for number in range(2)
        ]


def test_who_has_to_be_alone_with_the_secret_waits_for_nothing_anonymous() -> None:
    """Only for what was begun with it: that may not stand beside what may be answered 401."""
    over = threading.Event()
    order: list[str] = []

    def answer(request: Request) -> Response:
        if "slow" in request.path:
            over.wait(5)
        order.append(request.path)
        return fine(request)

    with site(answer) as server, client(f"http://127.0.0.1:{server.port}", token=TOKEN) as http:
        http.ahead("/slow")
        http.run.http.begin(signed=False)
        assert http.get("/alone", auth=True).status == 200
        over.set()
        assert http.get("/slow").status == 200
        http.ahead("/slow-too", auth=True)
        over.clear()
        http.run.http.begin(signed=True)
        threading.Timer(0.2, over.set).start()
        assert http.get("/alone-again", auth=True).status == 200
    assert order == ["/alone", "/slow", "/slow-too", "/alone-again"]
