"""How sure a share is, limits told from loss, and where one try of the whole way ends."""

from __future__ import annotations

import json
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING

import pytest

from diag.net import steady, tcp
from diag.net.ratio import Ratio
from diag.net.steady import Journey, Tries, Trip
from diag.simulator.server import wrap
from tests.certificates import root, self_signed, server_context
from tests.lab import SERVER4, http_answer

if TYPE_CHECKING:
    from tests.lab import Lab

HOST = "bb.lab.test"
Serve = Callable[..., int]


@pytest.mark.parametrize(
    ("count", "of", "low", "high"),
    # By Wilson's formula; 3 of 20 is in many textbooks.
    [(3, 20, 0.052, 0.360), (0, 20, 0.0, 0.161), (20, 20, 0.839, 1.0), (1, 2, 0.095, 0.905)],
)
def test_a_share_and_how_sure_it_is(count: int, of: int, low: float, high: float) -> None:
    ratio = Ratio(count, of)
    assert ratio.interval == pytest.approx((low, high), abs=0.001)
    assert ratio.evidence()["interval"] == [low, high]


def test_a_share_in_words() -> None:
    assert str(Ratio(3, 20)) == "3 of 20 (15 %, 95 % interval 5–36 %)"
    assert str(Ratio(0, 10)) == "0 of 10 (0 %, 95 % interval 0–28 %)"


# the port alone


@pytest.mark.lab
def test_a_limit_on_connections_is_told_from_loss(lab: Lab) -> None:
    lab.rules(
        "server",
        "input",
        "tcp dport 81 ct state new ct count over 2 reject with tcp reset",
        "tcp dport 82 ct state new ct count over 3 drop",
        "tcp dport 83 ct state new limit rate over 2/second reject with tcp reset",
        "tcp dport 84 tcp flags syn numgen inc mod 2 == 0 drop",
    )
    results: dict[int, steady.Connects] = {}

    def try_(port: int) -> None:
        results[port] = steady.connects(SERVER4, port, 8, 3)

    def try_all() -> None:
        threads = [threading.Thread(target=try_, args=(port,)) for port in range(80, 85)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    for port in range(80, 85):
        lab.serve("server", port)
    lab.call("client", try_all)
    assert results[80] == steady.Connects(("open",) * 8, ())  # nothing more to be learned
    assert results[80].allowed is None
    assert {port: results[port].allowed for port in (81, 82, 83)} == {81: 2, 82: 3, 83: 5}
    assert results[84].allowed is None
    kinds = [*results[84].together, *results[84].alone]
    assert sum(kind in {"silent", "resent"} for kind in kinds) >= 4


# the whole way


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Serve on loopback: `port = serve(talk, context)`; it takes one connection after another."""
    with ExitStack() as stack:

        def start(
            talk: Callable[[socket.socket], object], tls: ssl.SSLContext | None = None
        ) -> int:
            listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))

            def work() -> None:
                while True:
                    try:
                        sock, _ = listener.accept()
                    except OSError:
                        return
                    with sock:
                        try:
                            with wrap(tls, sock) if tls else sock as peer:
                                if isinstance(peer, ssl.SSLSocket):
                                    peer.do_handshake()
                                talk(peer)
                        except OSError:
                            pass  # the client does not like the certificate

            thread = threading.Thread(target=work, daemon=True)
            thread.start()
            stack.callback(thread.join, 5)
            stack.callback(listener.shutdown, socket.SHUT_RDWR)
            return int(listener.getsockname()[1])

        yield start


def go(port: int, context: ssl.SSLContext | None = None, timeout: float = 2.0) -> Trip:
    scheme = "https" if context else "http"
    journey = Journey(f"{scheme}://{HOST}/status", HOST, HOST, "/status", context)
    return steady.travel(journey, "here", partial(tcp.connect, "127.0.0.1", port), timeout)


def trusting() -> ssl.SSLContext:
    from diag.net.tls import client_context

    context = client_context()
    context.load_verify_locations(cadata=root().der)
    return context


def test_a_trip_that_arrives(serve: Serve) -> None:
    heard: list[bytes] = []

    def talk(sock: socket.socket) -> None:
        heard.append(sock.recv(65536))
        body = json.dumps({"state": "RUNNING"}).encode()
        sock.sendall(
            b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nServer: x\r\n\r\n" % len(body) + body
        )

    identity = root().issue(HOST)
    trip = go(serve(talk, server_context(identity)), trusting())
    assert (trip.stage, trip.why, trip.resent, trip.stuck, trip.late) == ("http", "", *[False] * 3)
    assert trip.answer is not None
    assert (trip.answer.status, trip.answer.failure) == (200, None)
    assert trip.answer.json() == {"state": "RUNNING"}
    assert trip.answer.header("server") == "x"
    assert trip.leaf == identity.der
    assert trip.is_for(HOST) is True
    assert trip.is_for("other.lab.test") is False
    head = heard[0].decode().lower()
    assert head.startswith("get /status http/1.1\r\nhost: bb.lab.test\r\n")
    assert "authorization" not in head


def test_a_certificate_that_is_not_trusted(serve: Serve) -> None:
    trip = go(serve(lambda sock: sock.recv(1), server_context(self_signed(HOST))), trusting())
    assert (trip.stage, trip.answer) == ("tls", None)
    assert "self" in trip.why
    assert trip.is_for(HOST) is True


def test_a_port_that_is_closed() -> None:
    with socket.socket() as sock:  # bound, not listening
        sock.bind(("127.0.0.1", 0))
        trip = go(sock.getsockname()[1])
    assert (trip.stage, trip.why) == ("connect", "refused")


def send(data: bytes, pause: float = 0.0) -> Callable[[socket.socket], None]:
    def talk(sock: socket.socket) -> None:
        sock.recv(65536)
        sock.sendall(data)
        time.sleep(pause)

    return talk


def drip(sock: socket.socket) -> None:
    sock.recv(65536)
    sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n")
    for _ in range(60):  # longer than anybody waits: it ends with the connection
        sock.sendall(b"x")
        time.sleep(0.05)


@pytest.mark.parametrize(
    ("talk", "failure"),
    [
        (send(b""), "empty"),
        (send(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\nshort"), "truncated"),
        (send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab"), "truncated"),
        (send(b"SSH-2.0-x\r\n"), "not-http"),
        (send(b"HTTP/1.1 200 OK\r\nA: " + b"x" * 70_000 + b"\r\n\r\n"), "not-http"),
        (send(b"", 3.0), "timeout"),
        (drip, "slow"),
        (http_answer(503, "no"), None),
    ],
    ids=["empty", "truncated", "chunks", "ssh", "large head", "silent", "drip", "503"],
)
def test_an_answer_and_what_became_of_it(
    serve: Serve, talk: Callable[[socket.socket], object], failure: str | None
) -> None:
    trip = go(serve(talk), timeout=0.5 if failure in {"timeout", "slow"} else 10.0)
    assert trip.stage == "http"
    assert trip.answer is not None
    assert trip.answer.failure == failure
    assert trip.late is (failure in {"timeout", "slow"})


def test_tries_are_shared_out_and_end_when_it_is_enough() -> None:
    tries = Tries([lambda: Trip("here", "connect")] * 9, 0.0, lambda: len(tries.trips) >= 5)
    threads = [threading.Thread(target=tries.work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert 5 <= len(tries.trips) <= 6
