"""What the HTTP client says its time went into: lower bounds only, nothing about speed."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from diag.net.http import Http
from diag.simulator.server import Connection
from diag.timings import Timing
from tests.certificates import server_context
from tests.net.test_http import GOOD, HOST, ROOT, client, fine, rule, site
from tests.tls_server import serving

PAUSE = 0.8  # seconds
LEAST = 150  # milliseconds of it that must be seen, by whoever looks late


@contextmanager
def timed(url: str, **options: Any) -> Iterator[tuple[Http, list[Timing]]]:
    """A client, and what it records."""
    steps: list[Timing] = []
    with client(url, **options) as http:
        yield Http(http.run.http, lambda *told: steps.append(Timing(*told))), steps


def kinds(steps: list[Timing]) -> list[str]:
    return [step.what for step in steps]


def test_a_server_that_thinks_is_waited_for(httpserver: HTTPServer) -> None:
    def think(_request: Request) -> Response:
        time.sleep(PAUSE)
        return Response("{}")

    httpserver.expect_request("/status").respond_with_handler(think)
    with timed(httpserver.url_for("").rstrip("/")) as (http, steps):
        assert http.get("/status").failure is None
    connect, request = steps
    assert (connect.what, connect.detail) == ("connect", f"127.0.0.1 {httpserver.port}")
    assert request.wait_ms is not None
    assert request.wait_ms >= LEAST
    assert request.duration_ms == request.wait_ms + (request.read_ms or 0)
    assert connect.ended_ms <= request.started_ms


def test_a_body_that_crawls_is_read(httpserver: HTTPServer) -> None:
    def crawl(_request: Request) -> Response:
        def pieces() -> Iterator[bytes]:
            yield b"{"
            time.sleep(PAUSE)
            yield b"}"

        return Response(pieces())

    httpserver.expect_request("/status").respond_with_handler(crawl)
    with timed(httpserver.url_for("").rstrip("/")) as (http, steps):
        assert http.get("/status").json() == {}
    request = steps[-1]
    assert request.read_ms is not None
    assert request.read_ms >= LEAST
    assert request.duration_ms == request.read_ms + (request.wait_ms or 0)


def test_what_never_comes_was_waited_for() -> None:
    def hang(connection: Connection) -> None:
        connection.receive()
        connection.wait()

    with (
        serving(hang) as server,
        timed(f"http://127.0.0.1:{server.port}", timeout=PAUSE) as (http, steps),
    ):
        assert http.get("/status").failure == "timeout"
    request = steps[-1]
    assert request.wait_ms == request.duration_ms
    assert request.wait_ms >= LEAST
    assert request.read_ms is None


def test_only_a_connection_that_it_opened_itself_is_its_own_step(tmp_path: Path) -> None:
    ca_file = tmp_path / "ca.pem"
    ca_file.write_bytes(ROOT.pem)
    with (
        site(fine, server_context(GOOD)) as server,
        timed(f"https://{HOST}", ca_file=str(ca_file), connect_to=rule(server)) as (http, steps),
    ):
        for fresh in (False, False, True):
            assert http.get("/status", fresh=fresh).status == 200
    assert kinds(steps) == ["connect", "tls", "request", "request", "connect", "tls", "request"]
    assert steps[0].detail == f"127.0.0.1 {server.port}"
    assert steps[1].detail == HOST


def test_a_handshake_that_fails_is_told_as_one() -> None:
    with (
        site(fine, server_context(GOOD)) as server,
        timed(f"https://{HOST}", connect_to=rule(server)) as (http, steps),
    ):
        assert http.get("/status").failure == "tls"
    assert kinds(steps) == ["connect", "tls", "request"]
    assert (steps[-1].wait_ms, steps[-1].read_ms) == (None, None)  # it was never sent


def test_no_connection_no_answer(closed_port: int) -> None:
    with timed(f"http://127.0.0.1:{closed_port}") as (http, steps):
        assert http.get("/status").failure == "connect"
    assert [(step.what, step.detail) for step in steps] == [
        ("connect", f"127.0.0.1 {closed_port}"),
        ("request", f"GET http://127.0.0.1:{closed_port}/status"),
    ]
    assert steps[-1].wait_ms is None


def test_a_tunnel_is_told_as_one() -> None:
    with site(fine) as server, client(f"http://{HOST}") as asker:
        steps: list[Timing] = []
        place = ("127.0.0.1", server.port)
        asker.run.dialer.tunnel(HOST, 80, lambda *_: socket.create_connection(place, timeout=2))
        http = Http(asker.run.http, lambda *told: steps.append(Timing(*told)))
        assert http.get("/status").status == 200
    assert steps[0].detail == f"{HOST} 80, by the proxy"


def test_what_was_not_even_tried_is_no_step() -> None:
    with timed("http://127.0.0.1:1", token="x" * 30) as (http, steps):
        assert http.get("https://elsewhere.example.com/", auth=True).failure == "withheld"
    assert steps == []
    with timed("http://127.0.0.1:1", deadline=0.05) as (http, steps):
        time.sleep(0.1)
        assert http.get("/status").failure == "deadline"
    assert steps == []


def test_a_request_that_is_sent_again_is_told_twice() -> None:
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"

    def once(connection: Connection) -> None:
        connection.receive()
        connection.send(answer)
        connection.receive()  # the second request on it gets no answer

    with serving(once) as server, timed(f"http://127.0.0.1:{server.port}") as (http, steps):
        assert http.get("/first").status == 200
        assert http.get("/second").status == 200
    asked = [step.detail.rpartition("/")[2] for step in steps if step.what == "request"]
    assert asked == ["first", "second", "second"]


@pytest.fixture
def closed_port() -> Iterator[int]:
    """Where nothing listens, and nothing else will meanwhile."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        yield sock.getsockname()[1]
