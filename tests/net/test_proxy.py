"""The way through a proxy, on real sockets, and the marks of its answers."""

from __future__ import annotations

import os
import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing

import pytest

from diag.net import proxy, tcp
from diag.net.dial import Dialer, Forwarder
from diag.net.proxyenv import parse
from diag.net.tls import client_context
from diag.net.tunnel import Way, exchange, router
from diag.settings import ConnectTo
from diag.simulator.server import Connection
from tests.certificates import root, server_context
from tests.proxy_server import ProxyServer, Socks, http, page, passing, serving, squid, within_tls

Talk = Callable[[Connection, ProxyServer], None]
Start = Callable[[Talk], ProxyServer]


@pytest.fixture
def start() -> Iterator[Start]:
    with ExitStack() as stack:
        yield lambda talk: stack.enter_context(serving(talk))


@pytest.fixture
def echo(start: Start) -> int:
    """A server that greets and then says everything again."""

    def talk(connection: Connection, server: ProxyServer) -> None:
        connection.send(b"SSH-2.0-echo\r\n")
        while data := connection.receive():
            connection.send(data)

    return start(talk).port


def no_tls() -> ssl.SSLContext:
    raise AssertionError("no TLS was asked for")


def way(url: str, dialer: Dialer | None = None, context: ssl.SSLContext | None = None) -> Way:
    return Way(parse(url), dialer or Dialer(), no_tls if context is None else lambda: context)


# tunnels


def test_the_tunnel_begins_right_after_the_head(start: Start) -> None:
    """What the server says first, unasked, must not be swallowed with the proxy's answer."""

    def eager(connection: Connection, server: ProxyServer) -> None:
        connection.read_request()
        connection.send(b"HTTP/1.1 200 OK\r\nX-Long: " + b"x" * 9000 + b"\r\n\r\nSSH-2.0-first")
        connection.swallow()

    with way(f"http://{start(eager).address}").connect("host", 22, 2) as sock:
        assert sock.recv(100) == b"SSH-2.0-first"


def test_a_proxy_that_resets_at_once_leaves_no_connection_open() -> None:
    """Seen by the descriptor: before anybody could ask who is at the other end."""
    made: list[socket.socket] = []

    class Gone(Dialer):
        def connect(self, *_: object, **__: object) -> socket.socket:
            with socket.create_server(("127.0.0.1", 0)) as listener:
                made.append(socket.create_connection(listener.getsockname(), 10))
                tcp.abort(listener.accept()[0])
            with pytest.raises(ConnectionResetError):
                made[0].recv(1)
            return made[0]

    with pytest.raises(OSError, match="not connected"):
        way("http://127.0.0.1:3128", Gone()).dial(2)
    assert made[0].fileno() == -1


def test_a_tunnel_that_leads_nowhere_ends(start: Start) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        server = start(passing({"host:443": closed.getsockname()[1]}))
        with way(f"http://{server.address}").connect("host", 443, 10) as sock:
            assert sock.recv(1) == b""


@pytest.mark.parametrize("kind", ["http", "socks5h", "https"])
def test_bytes_pass_both_ways(kind: str, start: Start, echo: int) -> None:
    authority = root("Proxy Root CA")
    routes = {"host.invalid:22": echo}
    talks: dict[str, Talk] = {
        "http": passing(routes),
        "socks5h": Socks(routes),
        "https": within_tls(server_context(authority.issue("127.0.0.1")), passing(routes)),
    }
    verifying = client_context()
    verifying.load_verify_locations(cadata=authority.pem.decode())
    server = start(talks[kind])
    data = os.urandom(200_000)
    through = way(f"{kind}://{server.address}", context=verifying)
    with closing(through.connect("host.invalid", 22, 2)) as sock:
        sock.settimeout(None)  # else MSG_WAITALL does not wait
        assert sock.recv(14, socket.MSG_WAITALL) == b"SSH-2.0-echo\r\n"
        for _ in range(5):
            sock.sendall(data)
            assert sock.recv(len(data), socket.MSG_WAITALL) == data


@pytest.mark.parametrize(
    ("host", "asked"),
    [
        ("name.invalid", "name.invalid:443"),
        ("192.0.2.7", "192.0.2.7:443"),
        ("2001:db8::7", "2001:db8::7:443"),
    ],
)
def test_socks_names_and_addresses(host: str, asked: str, start: Start, echo: int) -> None:
    server = start(Socks({asked: echo}, login="me:own"))
    way(f"socks5h://me:own@{server.address}").connect(host, 443, 2).close()
    assert server.asked == [f"SOCKS {asked}"]


def test_a_refused_login_is_not_sent_again(start: Start, echo: int) -> None:
    server = start(passing({"host:443": echo}, "me:own", broken_after=1))
    through = way(f"http://me:own@{server.address}")
    through.connect("host", 443, 2).close()
    with pytest.raises(ConnectionError, match="407"):
        through.connect("host", 443, 2)
    before = server.connections
    with pytest.raises(ConnectionRefusedError):
        through.connect("host", 443, 2)
    assert server.connections == before


def test_a_failure_names_the_proxy_and_never_its_password(start: Start) -> None:
    server = start(passing({}, "me:own-secret"))
    with pytest.raises(ConnectionError) as raised:
        way(f"http://me:own-secret@{server.address}").connect("host", 443, 2)
    assert f"http://{server.address}" in str(raised.value)
    assert "503" in str(raised.value)
    assert "own-secret" not in repr(raised.value)


def test_a_silent_proxy_is_a_timeout(start: Start) -> None:
    server = start(lambda connection, _server: connection.wait())
    with pytest.raises(TimeoutError):
        way(f"http://{server.address}").connect("host", 443, 0.2)


def test_a_proxy_without_trusted_certificate_hears_nothing(start: Start) -> None:
    server = start(within_tls(server_context(root("Unknown CA").issue("127.0.0.1")), passing({})))
    with pytest.raises(ConnectionError, match="TLS with the proxy"):
        way(f"https://me:own@{server.address}", context=client_context()).connect("host", 443, 2)
    assert server.requests == []


# answers as they come


def answered(
    start: Start, *pieces: bytes, pause: float = 0.0, request: bytes = b"", timeout: float = 10.0
) -> proxy.Reply:
    def talk(connection: Connection, server: ProxyServer) -> None:
        connection.read_request()
        for piece in pieces:
            connection.send(piece)
            if pause:
                connection.wait(pause)

    server = start(talk)
    sock = socket.create_connection(("127.0.0.1", server.port), timeout=10)
    return exchange(sock, request or b"CONNECT host:443 HTTP/1.1\r\n\r\n", timeout)


def test_an_answer_in_pieces(start: Start) -> None:
    reply = answered(
        start, b"HTTP/1.1 503 No way\r\nX: a\r\n", b"x: b\r\nContent-", b"Length: 2\r\n\r\n", b"ok"
    )
    assert (reply.status, reply.reason, reply.body) == (503, "No way", "ok")
    assert reply.headers["x"] == "a, b"


def test_an_answer_without_length_ends_with_the_connection(start: Start) -> None:
    assert answered(start, b"HTTP/1.0 404 Not Found\n\n", b"gone").body == "gone"


def test_a_page_that_never_ends_is_cut(start: Start) -> None:
    reply = answered(start, b"HTTP/1.1 403 No\r\n\r\n", b"x" * 200_000)
    assert (reply.status, len(reply.body)) == (403, 65536)


def test_a_page_that_is_late_does_not_hide_the_status(start: Start) -> None:
    reply = answered(start, b"HTTP/1.1 403 No\r\nContent-Length: 10\r\n\r\n", pause=20)
    assert reply.status == 403


def test_what_is_no_answer(start: Start) -> None:
    assert answered(start).failure == "empty"
    assert answered(start, b"SSH-2.0-OpenSSH\r\n").failure == "not-http"
    assert answered(start, b"HTTP/1.1 200").failure == "empty"
    assert answered(start, b"HTTP/1.1 ", pause=20, timeout=0.6).failure == "timeout"
    assert answered(start, b"HTTP/1.1 200 OK\r\nX: " + b"x" * 70_000).failure == "not-http"


# where requests go


def test_the_router_follows_the_environment(start: Start, echo: int) -> None:
    server = start(passing({"other.invalid:443": echo}))
    dialer = Dialer()
    environ = {
        "https_proxy": f"http://{server.address}",
        "http_proxy": f"http://{server.address}",
        "no_proxy": "direct.invalid",
    }
    dialer.route(router(environ, dialer, no_tls))
    for scheme, host, port in (("https", "other.invalid", 443), ("http", "plain.invalid", 80)):
        dialer.prepare(scheme, host, port)
    with closing(dialer.connect("other.invalid", 443, 2)) as sock:
        assert sock.recv(14) == b"SSH-2.0-echo\r\n"
    assert server.asked == ["CONNECT other.invalid:443"]
    assert dialer.forwarder("plain.invalid", 80) is not None
    dialer.prepare("https", "direct.invalid", 443)
    with pytest.raises(socket.gaierror):
        dialer.connect("direct.invalid", 443, 2)


def test_a_rule_makes_a_tunnel_of_plain_http(start: Start) -> None:
    dialer = Dialer([ConnectTo("host.invalid", 80, "127.0.0.1", 8080)])
    through = way("http://127.0.0.1:9", dialer)
    assert isinstance(through.carry("http", "other.invalid", 80), Forwarder)
    assert not isinstance(through.carry("http", "host.invalid", 80), Forwarder)
    assert not isinstance(way("socks5h://x:1").carry("http", "other.invalid", 80), Forwarder)


# pages


def parsed(data: bytes) -> tuple[dict[str, str], str]:
    head, _, body = data.decode().partition("\r\n\r\n")
    pairs = (line.split(": ", 1) for line in head.split("\r\n")[1:])
    return {name.lower(): value for name, value in pairs}, body


@pytest.mark.parametrize(
    "answer",
    [
        squid("403 Forbidden", "ERR_ACCESS_DENIED 0"),
        page("403 Forbidden", "Access denied", "", "Server: Zscaler/6.2"),
        page("403 Forbidden", "Blocked", "This site is blocked. URL category: games."),
        page(
            "200 OK", "Notice", "Access to this web site is restricted by our internet usage policy"
        ),
        page("403 Forbidden", "FortiGuard Intrusion Prevention - Access Blocked"),
        page("403 Forbidden", "x", "The page was blocked by your organization."),
        http("407 x", "", "Proxy-Authenticate: Basic"),
    ],
)
def test_a_page_of_the_proxy_is_recognised(answer: bytes) -> None:
    found = proxy.looks_like_proxy_page(*parsed(answer))
    assert found is not None
    assert len(found) > 1


@pytest.mark.parametrize(
    "answer",
    [
        http("200 OK", "{}", "Via: 1.1 squid", "X-Cache: MISS from squid", "X-AREQUESTID: 1"),
        page("200 OK", "Blocked by category: a pull request", "", "X-AREQUESTID: @1"),
        page("403 Forbidden", "Attention Required! | Cloudflare", "Sorry, you have been blocked"),
        page("403 Forbidden", "403 Forbidden", "", "Server: nginx", "Via: 1.1 squid"),
        page("200 OK", "Log in", "Forgot your password?"),
        page("200 OK", "How we use Zscaler", "A page of somebody's wiki."),
        page("502 Bad Gateway", "502 Bad Gateway", "", "Server: nginx"),
    ],
)
def test_a_page_from_beyond_is_not(answer: bytes) -> None:
    assert proxy.looks_like_proxy_page(*parsed(answer)) is None
