"""Servers that mean harm: every run ends in time, with a report that is fit to be shown."""

from __future__ import annotations

import gzip
import json
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from diag.simulator.server import Request, parse_head
from tests.certificates import root, server_context
from tests.gallery.case import HOST, URL
from tests.gallery.town import Town

if TYPE_CHECKING:
    import socket

pytestmark = pytest.mark.lab

Answer = Callable[["socket.socket", Request], object]

MEMORY = 150  # megabytes that a run may have at most; a healthy one has 50
_MEASURED = (
    "import resource, subprocess, sys; status = subprocess.run(sys.argv[2:]).returncode;"
    " most = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss;"
    " open(sys.argv[1], 'w').write(str(most)); sys.exit(status)"
)
ESCAPE = "\x1b[31mred\x1b]0;title\x07\x08\u202egnirts\u009b1m\u2066"
JSON = "Content-Type: application/json\r\nX-AREQUESTID: @1A2B3Cx1x1x0\r\n"
RUNNING = {"state": "RUNNING"}
PROPERTIES = {"version": "9.4.0", "buildNumber": "9004000", "displayName": "Bitbucket"}


def reply(body: object, *headers: str, status: str = "200 OK") -> bytes:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = "".join(f"{header}\r\n" for header in headers)
    head = f"HTTP/1.1 {status}\r\n{JSON}{lines}Content-Length: {len(content)}\r\n\r\n"
    return head.encode() + content


def listing(*repositories: object) -> dict[str, Any]:
    return {"size": len(repositories), "limit": 100, "isLastPage": True, "values": repositories}


def repository(slug: str, links: object) -> dict[str, Any]:
    project = {"key": "MOB", "id": 4, "name": slug, "public": False, "type": "NORMAL"}
    return {"slug": slug, "id": 16, "name": slug, "project": project, "links": links}


def known(request: Request) -> bytes | None:
    """A sound answer to what everybody may ask."""
    if request.path == "/status":
        return reply(RUNNING)
    return reply(PROPERTIES) if request.path.endswith("/application-properties") else None


# the servers


def flood(data: bytes) -> Answer:
    def answer(sock: socket.socket, _request: Request) -> None:
        sock.sendall(b"HTTP/1.1 200 OK\r\n" + JSON.encode())
        while True:
            sock.sendall(data)

    return answer


def run_away(sock: socket.socket, request: Request) -> None:
    location = f"Location: {URL}{request.target}/{'x' * 100}"
    sock.sendall(f"HTTP/1.1 302 Found\r\n{location}\r\nContent-Length: 0\r\n\r\n".encode())


def many_links(sock: socket.socket, request: Request) -> None:
    """To more hosts than can be looked up."""
    links = {"self": [{"href": f"https://h{n}.example/"} for n in range(100_000)]}
    here = request.path.endswith("/repos")
    sock.sendall(known(request) or reply(listing(repository("app", links)) if here else {}))


def escapes(sock: socket.socket, request: Request) -> None:
    """Wherever a text may stand; what is asked first is answered well enough to be asked more."""
    links = {
        "self": [{"href": f"https://{HOST}/{ESCAPE}"}],
        "clone": [{"href": f"ssh://git@h{ESCAPE}:1/x", "name": "ssh"}],
    }
    errors = [{"context": ESCAPE, "message": ESCAPE, "exceptionName": ESCAPE}]
    version = {"version": f"9.4.0{ESCAPE}", "displayName": ESCAPE}
    page = listing(repository(ESCAPE, links), repository("app", links))
    body = page if request.path.endswith("/repos") else {"errors": errors, **version}
    text = ESCAPE.encode()
    head = b"HTTP/1.1 200 " + text + b"\r\n" + JSON.encode()
    for name in ("Server", "Via", "X-AUSERNAME", "X-AUSERID", "Retry-After", "Allow", "Date"):
        head += name.encode() + b": " + text + b"\r\n"
    content = json.dumps(RUNNING if request.path == "/status" else body).encode()
    sock.sendall(head + b"Content-Length: %d\r\n\r\n" % len(content) + content)


def echo(sock: socket.socket, request: Request) -> None:
    """Says again what it was told in confidence, as a debug page does."""
    told = request.headers.get("authorization", "nothing")
    secret = told.split(" ")[-1]
    link = {"self": [{"href": f"https://{secret}/"}]}
    body = listing(repository(secret, link)) | {"errors": [{"message": told}]}
    headers = (f"Server: {told}", f"X-AUSERNAME: {secret}", f"Location: {URL}/{secret}")
    sock.sendall(known(request) or reply(body, *headers, status=f"200 {told}"))


BOMB = gzip.compress(bytes(200_000_000))
SERVERS: dict[str, tuple[Answer, str]] = {
    "headers without end": (flood(b"X: y\r\n"), "http-header-too-large"),
    "a body without end": (flood(b"\r\n" + b" " * 65536), "http-slow-body"),
    "redirects without end": (run_away, "http-redirect-loop"),
    "much in little": (
        lambda sock, _: sock.sendall(reply(BOMB, "Content-Encoding: gzip")),
        "http-slow-body",
    ),
    "deep nesting": (lambda sock, _: sock.sendall(reply(b"[" * 900_000)), "http-invalid-json"),
    "a hundred thousand links": (many_links, "git-unclear"),
    "escape sequences": (escapes, "version-unknown"),
    "two lengths": (
        lambda sock, _: sock.sendall(reply(RUNNING, "Content-Length: 3")),
        "http-unclear",
    ),
    "no HTTP at all": (lambda sock, _: sock.sendall(bytes(range(256)) * 20), "http-unclear"),
    "an echo": (echo, "repos-unclear"),
}


@pytest.mark.parametrize("name", SERVERS)
def test_a_hostile_server(town: Town, name: str) -> None:
    answer, cause = SERVERS[name]

    def talk(sock: socket.socket) -> None:
        data = b""
        while chunk := sock.recv(65536):
            data += chunk
            while b"\r\n\r\n" in data:
                head, data = data.split(b"\r\n\r\n", 1)
                answer(sock, parse_head(head, secure=True))

    town.dns()
    town.lab.serve("server", 443, talk, tls=server_context(town.ca.issue(HOST)))
    usage = town.write("usage", "")
    result = town.check(prefix=(sys.executable, "-c", _MEASURED, str(usage)))
    assert result.root_cause == cause, result.message
    assert int(usage.read_text()) / 1024 < MEMORY


def test_a_hostile_certificate(town: Town) -> None:
    town.dns()
    evil = root(f"Root CA {ESCAPE}").issue("git.lab.test", common_name=ESCAPE)
    town.lab.serve("server", 443, lambda _: None, tls=server_context(evil))
    assert town.check().codes == ["tls-hostname-mismatch", "tls-issuer-unknown"]
