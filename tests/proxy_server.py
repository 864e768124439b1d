"""Proxies on loopback: good ones, and those that answer as the test wants."""

from __future__ import annotations

import base64
import contextlib
import os
import shutil
import socket
import ssl
import struct
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias
from urllib.parse import urlsplit

import pytest

from diag.simulator.server import Connection, DisconnectError, Listener, Request
from tests.ports import free_port

Talk: TypeAlias = "Callable[[Connection, ProxyServer], None]"  # handles one connection
PAGE = "<html><head><title>{0}</title></head><body><h1>{0}</h1><p>{1}</p></body></html>"


@dataclass
class ProxyServer:
    """A proxy that runs, and what it was asked."""

    port: int
    requests: list[Request] = field(default_factory=list)
    connections: int = 0

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def asked(self) -> list[str]:
        """ "CONNECT bb.example.com:443", …"""
        return [f"{request.method} {request.target}" for request in self.requests]

    @property
    def logins(self) -> list[str | None]:
        return [request.headers.get("proxy-authorization") for request in self.requests]


@contextmanager
def serving(talk: Talk) -> Iterator[ProxyServer]:
    """Handle each connection by `talk`."""
    listener = Listener()
    server = ProxyServer(listener.port)

    def count(connection: Connection) -> None:
        server.connections += 1
        talk(connection, server)

    listener.serve(count)
    try:
        yield server
    finally:
        listener.close()


def http(status: str, body: str = "", *headers: str, html: bool = False) -> bytes:
    """An answer as bytes: `http("503 Service Unavailable", "x", "Via: 1.1 p")`."""
    data = body.encode()
    lines = [f"HTTP/1.1 {status}", *headers, f"Content-Length: {len(data)}"]
    if html:
        lines.append("Content-Type: text/html; charset=utf-8")
    return ("\r\n".join(lines) + "\r\n\r\n").encode() + data


def page(status: str, title: str, text: str = "", *headers: str) -> bytes:
    """The same with an HTML page."""
    return http(status, PAGE.format(title, text), *headers, html=True)


def squid(status: str, error: str) -> bytes:
    """A refusal in the words of squid."""
    title = "ERROR: The requested URL could not be retrieved"
    return page(status, title, "", f"X-Squid-Error: {error}", "Via: 1.1 p (squid)")


def answering(
    answer: bytes, *, otherwise: bytes = http("400 Bad Request", "", "Via: 1.1 p")
) -> Talk:
    """Answer what a client of a proxy asks, and give other requests the other answer."""

    def talk(connection: Connection, server: ProxyServer) -> None:
        while (request := connection.read_request()) is not None:
            server.requests.append(request)
            of_proxy = request.method == "CONNECT" or "://" in request.target
            connection.send(answer if of_proxy else otherwise)
            if request.method == "CONNECT" and answer.startswith(b"HTTP/1.1 2"):
                connection.swallow()  # what comes now is meant for the target
                return

    return talk


def silent_to_connect(connection: Connection, server: ProxyServer) -> None:
    """A proxy that waits for the target for ever, but answers everything else at once."""
    while (request := connection.read_request()) is not None:
        server.requests.append(request)
        if request.method == "CONNECT":
            connection.wait()
        connection.send(http("400 Bad Request", "", "Via: 1.1 p"))


def passing(
    routes: Mapping[str, int], login: str | None = None, *, broken_after: int | None = None
) -> Talk:
    """A good proxy: `routes` leads "host:port" to loopback ports; `login` is "user:password".

    After `broken_after` tunnels it does not accept the login any more.
    """
    wanted = login and "Basic " + base64.b64encode(login.encode()).decode()
    opened = 0

    def talk(connection: Connection, server: ProxyServer) -> None:
        nonlocal opened
        request = connection.read_request()
        if request is None:
            return
        server.requests.append(request)
        given = request.headers.get("proxy-authorization")
        if (wanted and given != wanted) or opened == broken_after:
            challenge = 'Proxy-Authenticate: Basic realm="p"'
            connection.send(http("407 Proxy Authentication Required", "", challenge))
            return
        if request.method == "CONNECT":
            place = request.target
        else:
            split = urlsplit(request.target)
            if split.scheme != "http":
                connection.send(http("400 Bad Request", "", "Via: 1.1 p"))
                return
            place = f"{split.hostname}:{split.port or 80}"
        if place not in routes:
            connection.send(squid("503 Service Unavailable", "ERR_DNS_FAIL 0"))
            return
        opened += 1
        if request.method == "CONNECT":
            connection.send(b"HTTP/1.1 200 Connection established\r\n\r\n")
            connection.splice(routes[place])
            return
        path = "/" + request.target.split("/", 3)[3]
        kept = {k: v for k, v in request.headers.items() if not k.startswith("proxy-")}
        lines = [f"{request.method} {path} HTTP/1.1", *(f"{k}: {v}" for k, v in kept.items())]
        head = ("\r\n".join([*lines, "Connection: close"]) + "\r\n\r\n").encode()
        answer = b""
        try:
            with socket.create_connection(("127.0.0.1", routes[place]), timeout=5) as upstream:
                upstream.sendall(head)
                while data := upstream.recv(65536):
                    answer += data
        except OSError as error:
            raise DisconnectError from error
        connection.send(answer.replace(b"\r\n", b"\r\nVia: 1.1 p\r\n", 1))

    return talk


def within_tls(context: ssl.SSLContext, talk: Talk) -> Talk:
    """The same proxy behind https://."""

    def secured(connection: Connection, server: ProxyServer) -> None:
        connection.start_tls(context)
        talk(connection, server)

    return secured


@dataclass(frozen=True)
class Socks:
    """A SOCKS5 server; `reply` is its answer to a request, `routes` as in `passing`."""

    routes: Mapping[str, int] = field(default_factory=dict)
    login: str | None = None
    reply: int = 0
    silent: bool = False

    def __call__(self, connection: Connection, server: ProxyServer) -> None:
        reader = _Reader(connection)
        version, count = reader.take(2)
        if version != 5:
            return  # it hangs up on whoever speaks something else
        methods = reader.take(count)
        method = 2 if self.login is not None else 0
        connection.send(bytes([5, method if method in methods else 0xFF]))
        if method not in methods:
            return
        if self.login is not None:
            _, length = reader.take(2)
            user = reader.take(length).decode()
            good = f"{user}:{reader.take(reader.take(1)[0]).decode()}" == self.login
            connection.send(bytes([1, 0 if good else 1]))
            if not good:
                return
        kind = reader.take(4)[3]
        host = {
            1: lambda: socket.inet_ntoa(reader.take(4)),
            3: lambda: reader.take(reader.take(1)[0]).decode(),
            4: lambda: socket.inet_ntop(socket.AF_INET6, reader.take(16)),
        }[kind]()
        (port,) = struct.unpack(">H", reader.take(2))
        server.requests.append(Request("SOCKS", f"{host}:{port}", "", "", {}))
        if self.silent:
            connection.wait()
        port_there = self.routes.get(f"{host}:{port}")
        reply = 4 if self.reply == 0 and port_there is None else self.reply  # host unreachable
        connection.send(bytes([5, reply, 0, 1, 127, 0, 0, 1, 0, 0]))
        if port_there is not None and reply == 0:
            connection.splice(port_there)


class _Reader:
    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._data = b""

    def take(self, size: int) -> bytes:
        while len(self._data) < size:
            more = self._connection.receive()
            if not more:
                raise DisconnectError
            self._data += more
        taken, self._data = self._data[:size], self._data[size:]
        return taken


# the real thing

SQUID = """
http_port 127.0.0.1:{port}
visible_hostname proxy.example.com
pid_filename {directory}/squid.pid
cache_log {directory}/cache.log
access_log none
netdb_filename none
cache deny all
cache_mem 1 MB
coredump_dir {directory}
pinger_enable off
shutdown_lifetime 0 seconds
connect_timeout 1 second
forward_timeout 1 second
dns_timeout 1 second
dns_retransmit_interval 1 second
dns_nameservers 127.0.0.1
hosts_file {directory}/hosts
auth_param basic program /bin/sh {directory}/login
auth_param basic children 1
acl denied dstdomain denied.invalid
acl secured dstdomain secured.invalid
acl known proxy_auth REQUIRED
http_access deny denied
http_access deny secured !known
http_access allow localhost
http_access deny all
"""
LOGIN = """while read -r line; do
  [ "$line" = "user right" ] && echo OK || echo ERR
done
"""


@contextmanager
def running_squid(hosts: Mapping[str, str]) -> Iterator[str]:
    """Debian's squid on a loopback port: "127.0.0.1:PORT".

    It denies denied.invalid, wants the login user:right for secured.invalid, and knows the names of
    `hosts` alone: where it looks for a DNS server there is none.
    """
    program = shutil.which("squid", path=os.environ.get("PATH", "") + ":/usr/sbin")
    if program is None:
        if os.environ.get("CI") == "true":
            pytest.fail("squid is not installed")
        pytest.skip("squid is not installed")
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="squid-") as name:
        directory = Path(name)
        directory.chmod(0o777)  # as root, squid becomes somebody else
        (directory / "hosts").write_text("".join(f"{a} {n}\n" for n, a in hosts.items()))
        (directory / "login").write_text(LOGIN)
        for file in directory.iterdir():
            file.chmod(0o644)
        configuration = directory / "squid.conf"
        configuration.write_text(SQUID.format(port=port, directory=directory))
        service = f"test{os.getpid()}x{port}"  # names its shared memory
        process = subprocess.Popen(
            [program, "-N", "-n", service, "-f", str(configuration)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            _wait_for(port, process, directory / "cache.log")
            yield f"127.0.0.1:{port}"
        finally:
            process.terminate()
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            for left in Path("/dev/shm").glob(f"{service}-*"):
                left.unlink(missing_ok=True)


def _wait_for(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + 10
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            if process.poll() is not None or time.monotonic() > end:
                pytest.fail(f"squid does not start: {log.read_text() if log.exists() else ''}")
            time.sleep(0.02)


@contextmanager
def black_hole() -> Iterator[int]:
    """A loopback port that answers no packet: the queue of its listener is full."""
    with socket.socket() as listener, contextlib.ExitStack() as queue:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(2):  # Linux takes one more than was asked for
            caller = queue.enter_context(socket.socket())
            caller.setblocking(False)
            caller.connect_ex(listener.getsockname())
        yield listener.getsockname()[1]
